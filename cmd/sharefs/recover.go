package main

import (
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/internal/client"
	"sharefs/internal/store"
	"sharefs/internal/term"
)

func (a *app) recovery() *cobra.Command {
	var store string
	var noCode bool
	cmd := &cobra.Command{
		Use:   "recovery [STORE]",
		Short: "Print the sheet that brings a store back from its bucket or its peers",
		Long: `Print the recovery sheet of a store that is kept in a bucket ([tier] in its
share.toml) or by peers of the level store: where these are, and as words with
check words, and as a QR code, the key of the share. With it, and with credentials
for the bucket if it comes from there, "sharefs recover" makes the store on any
machine, with its history.

Whoever has the sheet can fetch what peers keep, and with it all of the store, so only the owner of the store may print it, and the store notes when that was
done. STORE is the name of a store or its path, mounted or not, or where it is
mounted. Without it the store is meant that is mounted where the working directory
(or -C) is; outside of all mounts the store "default".`,
		Example: `  sharefs recovery | lpr               In a mount: of its store. On paper, and on no disk
  sharefs recovery photos | lpr        On paper, and on no disk
  sharefs recovery --store /srv/photos  The store in that directory`,
		Args: between(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("store") {
				dir, err := a.mountedStore(args)
				if err != nil {
					return err
				}
				if dir != "" {
					if err := cmd.Flags().Set("store", dir); err != nil {
						return err
					}
					args = nil
				}
			}
			return a.mounter(cmd, "--recovery", store, []flagSet{{noCode, "--no-code"}}, args)
		},
	}
	cmd.Flags().StringVar(&store, "store", "", "The store in `DIR`")
	cmd.Flags().BoolVar(&noCode, "no-code", false, "Without the QR code")
	return cmd
}

// mountedStore is the directory of the store that is mounted where the argument says or, without one, where the working directory is; empty where no mount
// is meant.
func (a *app) mountedStore(args []string) (string, error) {
	var m *client.Mount
	var err error
	if len(args) > 0 {
		m, err = client.At(args[0])
	} else if m, err = client.Around(); m == nil && err == nil && a.dir != "" {
		m, err = client.Here(a.dir) // which says that there is none
	}
	if err == nil && m != nil {
		m, err = alive(m)
	}
	if m == nil || err != nil {
		return "", err
	}
	s, err := m.Status()
	if err != nil {
		return "", err
	}
	if len(args) > 0 && !strings.ContainsRune(args[0], '/') { // it may be the name of another store as well
		named, err := store.Resolve(args[0])
		if err != nil {
			return "", err
		}
		other, err1 := os.Stat(named)
		mounted, err2 := os.Stat(s.Mount.Store)
		if err1 == nil && (err2 != nil || !os.SameFile(other, mounted)) && named != s.Mount.Store {
			return "", &sharefs.Error{Path: term.Quote(args[0]), Kind: sharefs.KindInvalid,
				Detail: "is the name of a store, and another one is mounted in the directory of that name: --store " + term.Quote(named) + " or --store " + term.Quote(s.Mount.Store)}
		}
	}
	return s.Mount.Store, nil
}

func (a *app) recover() *cobra.Command {
	var store, sheet, bucket, credentials, peer string
	var force bool
	cmd := &cobra.Command{
		Use:   "recover [STORE]",
		Short: "Bring a store back from its bucket or its peers with its recovery sheet",
		Long: `Make a store of what its bucket holds, or peers that keep it, with all names, contents and history,
in a directory that is empty or does not exist yet. It asks for what stands on
the recovery sheet, or reads it from a file: the text that was printed, what
somebody has typed of it, or what the QR code says. STORE is a name or a path;
without it the store "default" is made.

It may be interrupted in any way; the same call goes on, without the sheet. What
the bucket lacks is named, and the rest comes back. The store goes on with the
same bucket when it is mounted; another machine that used it is refused then. For
peers it is a new host, which is to be paired with them.`,
		Example: `  sharefs recover photos                   The words are asked for
  sharefs recover --sheet sheet.txt photos  They are in a file
  sharefs recover --store /srv/photos --credentials ~/keys
                                           In that directory, with those credentials`,
		Args: between(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.mounter(cmd, "--recover", store, []flagSet{
				{force, "--force"}, {sheet != "", "--sheet=" + sheet}, {bucket != "", "--bucket=" + bucket}, {credentials != "", "--credentials=" + credentials},
				{peer != "", "--peer=" + peer},
			}, args)
		},
	}
	cmd.Flags().StringVar(&store, "store", "", "The store in `DIR`")
	cmd.Flags().StringVar(&sheet, "sheet", "", "Read the sheet from `FILE` (- is standard input)")
	cmd.Flags().StringVar(&bucket, "bucket", "", "The bucket is at `URL` now")
	cmd.Flags().StringVar(&credentials, "credentials", "", "A `FILE` such as ~/.aws/credentials")
	cmd.Flags().StringVar(&peer, "peer", "", "A peer that keeps the store is at `ADDRESS` now: HOST:PORT, or ID@HOST:PORT")
	cmd.Flags().BoolVar(&force, "force", false, "Although the bucket has an older state than the sheet knows of, or another store with the same share key")
	return cmd
}

// flagSet is a flag of the mounter, and whether it is given.
type flagSet struct {
	set  bool
	flag string
}

// mounter becomes the program that has the tree, for a task that is about a store which is not mounted.
func (a *app) mounter(cmd *cobra.Command, task, store string, flags []flagSet, args []string) error {
	argv := []string{"sharefs", task} // by which name it signs what it says
	if cmd.Flags().Changed("store") {
		argv = append(argv, "--store="+store)
	}
	for _, f := range append(flags, flagSet{a.json, "--json"}) {
		if f.set {
			argv = append(argv, f.flag)
		}
	}
	argv = append(append(argv, "--"), args...)
	path, err := findMounter()
	if err != nil {
		return err
	}
	return unix.Exec(path, argv, os.Environ())
}
