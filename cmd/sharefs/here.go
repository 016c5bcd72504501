package main

import (
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"sharefs/internal/client"
	"sharefs/internal/term"
)

func (a *app) whereIs() *cobra.Command {
	var absent bool
	cmd := &cobra.Command{
		Use:   "here [PATH...]",
		Short: "Show how much of files is on this host",
		Long: `Show how much of files is on this host: full, partial or absent, and how many
bytes of each. What is not here comes from peers when it is read; with a budget
([space] in share.toml) what was used longest ago goes again. Of a directory all
files are shown, or with --absent those that are not all here; without a PATH those
below the working directory. A file of which nearly all is here may lack little, or
nothing, which is found when it is read. du shows the same bytes.`,
		Args: func(_ *cobra.Command, args []string) error { return noneEmpty(args, "PATH") },
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{"."}
			}
			list := []client.Presence{}
			var bad []error
			for _, arg := range args {
				if err := client.EachFile([]string{arg}, nil, func(path string) error {
					h, err := client.LookHere(path)
					if err == nil && !(absent && h.State == client.HereFull) {
						list = append(list, h)
					}
					return err
				}); err != nil {
					bad = append(bad, err)
				}
			}
			var err error
			switch {
			case a.json && (len(list) > 0 || len(bad) == 0):
				err = a.writeJSON(list)
			case len(list) > 0:
				err = a.listHere(list, sizesAt(list[0].Path))
			}
			if err != nil || len(bad) == 0 {
				return err
			}
			for _, err := range bad[:len(bad)-1] {
				fmt.Fprintln(os.Stderr, "sharefs: "+message(err))
			}
			return bad[len(bad)-1]
		},
	}
	cmd.Flags().BoolVar(&absent, "absent", false, "Only files that are not all here")
	return cmd
}

// listHere writes how much of some files is here.
func (a *app) listHere(list []client.Presence, show func(uint64) string) error {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, h := range list {
		pinned := ""
		if h.Pinned {
			pinned = "pinned"
		}
		here, size := show(min(h.Here, h.Size)), show(h.Size)
		if h.State == client.HerePartial && here == size {
			here = "nearly all"
		}
		fmt.Fprintf(w, "%s\t%s of %s\t%s\t%s\n", h.State, here, size, pinned, term.Quote(h.Path))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return a.printf("%s", b.String())
}

// mostPaths bounds the paths of a command: there is no bound but that of the system.
const mostPaths = 1 << 20
