package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"sharefs/internal/build"
	"sharefs/internal/mountopt"
)

// call is what the command line asks for.
type call struct {
	source, point string
	options       *mountopt.Options
	foreground    bool
	helper        bool // mount(8) called
	fake          bool // mount -f: all but the mount
	done          bool // help or version was shown

	rebuild           bool // make meta.db anew, and mount nothing
	recovery          bool // print the recovery sheet, and mount nothing
	recover           bool // make the store of what its bucket holds, and mount nothing
	force, bare, json bool // of these
	noCode            bool // of recovery

	sheet, bucket, credentials, peer string // of recover
}

// mountsNothing reports whether something else is asked for, which takes a store alone.
func (c *call) mountsNothing() bool { return c.rebuild || c.recovery || c.recover }

const help = `Mount a ShareFS store: a directory in which every file keeps its past.

Usage:
  sharefs-mount [flags] [SOURCE] MOUNTPOINT
  sharefs-mount --rebuild [--force] [--bare] [--json] [SOURCE]
  sharefs-mount --recovery [--no-code] [--json] [SOURCE]
  sharefs-mount --recover [--sheet FILE] [--bucket URL] [--credentials FILE]
                [--peer ADDRESS] [--force] [--json] [SOURCE]

SOURCE is the name of a store, or its path, which has a slash in it (./photos);
without it the store "default" is used. A store that does not exist yet is made.
Names stand for directories below $XDG_DATA_HOME/sharefs (~/.local/share/sharefs).

Examples:
  sharefs-mount ~/Share                 Mount the default store
  sharefs-mount photos ~/Photos         Mount the store "photos"
  sharefs-mount -o ro photos ~/Photos   The same, read-only
  umount ~/Share                        End it (ordinary users: fusermount3 -u ~/Share)
  sharefs-mount --rebuild photos        Make a lost or damaged meta.db anew
  sharefs-mount --recovery photos       Print what brings the store back from its
                                        bucket or its peers
  sharefs-mount --recover photos        Bring it back

Flags:
%s
Options (-o), separated by commas:
  ro, rw                       Read-only, or not
  settle=TIME                  How long a file is quiet before its version is taken (1s; 0: every close counts)
  view=live|all|at:TIME        What the root shows: the live tree; the directories of .share
                               beside it as well; or the tree as it was, read-only
  passthrough=auto|off         Off: content always goes through the daemon
  noatime, relatime, strictatime
                               When reading moves access times
  allow_other                  Other users may enter, as far as permissions let them
  nonempty                     Mount though the directory is not empty
  noexec, nosuid, nodev, nosymfollow
                               As in mount(8)
  listen=ADDRESS|auto|off      Where peers reach the store (auto: nowhere before the first pairing)
  passphrase=FILE              The passphrase that seals the store's identity
  remount                      Change ro, rw and the like of a mount that is there
  store=DIR, fsname=NAME       The store's directory; the name that /proc/mounts shows
  debug                        Log each request

In /etc/fstab, with this program linked as /sbin/mount.sharefs:
  photos  /home/me/Photos  sharefs  noauto,user  0  0
`

// isHelper reports whether mount(8) called: it speaks in flags of its own, of which -f has another meaning.
func isHelper(name string) bool { return strings.HasPrefix(filepath.Base(name), "mount.") }

// parseArgs reads the command line; args[0] is the name under which the program was called.
func parseArgs(args []string) (*call, error) {
	c := &call{}
	var lists []string
	var store string
	var showVersion, showHelp bool
	flags := pflag.NewFlagSet("sharefs-mount", pflag.ContinueOnError)
	flags.SortFlags = false
	flags.Usage = func() {}
	helper := isHelper(args[0])
	c.helper = helper
	flags.StringArrayVarP(&lists, "options", "o", nil, "Set `OPTIONS`, as below")
	flags.StringVar(&store, "store", "", "Keep the store in `DIR`")
	if helper {
		flags.BoolVarP(&c.fake, "fake", "f", false, "Do all but the mount")
		flags.BoolP("sloppy", "s", false, "Ignored")
		flags.BoolP("no-mtab", "n", false, "Ignored")
		flags.BoolP("verbose", "v", false, "Ignored")
		flags.StringP("namespace", "N", "", "Refused")
		flags.StringP("types", "t", "", "Ignored: the `TYPE` is fuse.sharefs")
	} else {
		flags.BoolVarP(&c.foreground, "foreground", "f", false, "Stay in front, with the log on standard error")
		flags.BoolVar(&c.rebuild, "rebuild", false, "Mount nothing: make the store's meta.db anew from its checkpoint")
		flags.BoolVar(&c.recovery, "recovery", false, "Mount nothing: print the recovery sheet of a store that has a bucket, or peers that keep it")
		flags.BoolVar(&c.recover, "recover", false, "Mount nothing: make a new store of what a bucket or peers hold")
		flags.BoolVar(&c.force, "force", false, "With --rebuild: although meta.db reads whole; with --recover: although the bucket has an older state, or another store")
		flags.BoolVar(&c.bare, "bare", false, "With --rebuild: without a checkpoint; names and history are lost")
		flags.BoolVar(&c.noCode, "no-code", false, "With --recovery: without the QR code")
		flags.StringVar(&c.sheet, "sheet", "", "With --recover: read the sheet from `FILE` (- is standard input)")
		flags.StringVar(&c.bucket, "bucket", "", "With --recover: the bucket is at `URL` now")
		flags.StringVar(&c.credentials, "credentials", "", "With --recover: a `FILE` such as ~/.aws/credentials")
		flags.StringVar(&c.peer, "peer", "", "With --recover: a peer that keeps the store is at `ADDRESS` now: HOST:PORT, or ID@HOST:PORT")
		flags.BoolVar(&c.json, "json", false, "With these: write JSON")
	}
	flags.BoolVar(&showVersion, "version", false, "Show the version of this program")
	flags.BoolVarP(&showHelp, "help", "h", false, "Show this help")
	if err := flags.Parse(args[1:]); err != nil {
		return nil, usageError{err}
	}
	switch {
	case showHelp:
		fmt.Printf(help, flags.FlagUsages())
		return &call{done: true}, nil
	case showVersion:
		fmt.Printf("sharefs-mount %s\n", build.Read())
		return &call{done: true}, nil
	}
	if helper && flags.Changed("namespace") {
		return nil, usage("mounting into another namespace (-N) is not supported: use nsenter")
	}
	var err error
	if c.options, err = mountopt.Parse(lists...); err != nil {
		return nil, usageError{err}
	}
	if flags.Changed("store") {
		if store == "" {
			return nil, usage("--store needs a directory")
		}
		c.options.Store = store
	}
	if err := c.together(flags); err != nil {
		return nil, err
	}
	switch rest := flags.Args(); {
	case c.mountsNothing() && len(rest) > 1:
		return nil, usage("nothing is to be mounted: there is one argument too many, %q", rest[1])
	case c.mountsNothing() && len(rest) == 1:
		c.source = rest[0]
	case c.mountsNothing():
	case len(rest) == 0:
		return nil, usage("MOUNTPOINT is missing")
	case len(rest) > 2:
		return nil, usage("too many arguments: %q", rest[2])
	case len(rest) == 1:
		c.point = rest[0]
	default:
		c.source, c.point = rest[0], rest[1]
	}
	return c, c.check(helper)
}

// together refuses flags that do not go with each other.
func (c *call) together(flags *pflag.FlagSet) error {
	tasks := []struct {
		flag  string
		asked bool
		takes []string
	}{
		{"rebuild", c.rebuild, []string{"force", "bare", "json"}},
		{"recovery", c.recovery, []string{"no-code", "json"}},
		{"recover", c.recover, []string{"force", "sheet", "bucket", "credentials", "peer", "json"}},
	}
	task, takes := "", []string(nil)
	for _, t := range tasks {
		if t.asked && task != "" {
			return usage("--%s and --%s do not go together", task, t.flag)
		}
		if t.asked {
			task, takes = t.flag, t.takes
		}
	}
	for _, t := range tasks {
		for _, flag := range t.takes {
			if !flags.Changed(flag) || slices.Contains(takes, flag) {
				continue
			}
			return usage("--%s goes with --%s", flag, t.flag)
		}
	}
	return nil
}

// check refuses what contradicts itself, and makes paths absolute for a daemon that works elsewhere.
func (c *call) check(helper bool) error {
	if c.point == "" && !c.mountsNothing() {
		return usage("MOUNTPOINT is empty")
	}
	for _, word := range []string{"none", "sharefs", "sharefs-mount"} {
		if helper && c.source == word { // what people write where a filesystem needs no source
			c.source = ""
		}
	}
	if c.source != "" && c.options.Store != "" {
		// SOURCE is then but the name that /proc/mounts shows.
		if c.options.Source == "" {
			c.options.Source = c.source
		}
		c.source = ""
	}
	var err error
	abs := func(path *string) {
		if *path == "" || filepath.IsAbs(*path) || err != nil {
			return
		}
		var dir string
		if dir, err = os.Getwd(); err == nil {
			*path = filepath.Join(dir, *path)
		}
	}
	abs(&c.point)
	abs(&c.options.Store)
	abs(&c.options.Passphrase)
	abs(&c.credentials)
	if strings.ContainsRune(c.source, '/') || c.source == "." || c.source == ".." {
		abs(&c.source)
	}
	if err != nil {
		return errors.Join(errors.New("the working directory cannot be found"), err)
	}
	return nil
}
