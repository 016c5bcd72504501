// Command sharefs-mount mounts a ShareFS store.
//
//	sharefs-mount [--store DIR] [-o opt,opt=value…] [-f] [SOURCE] MOUNTPOINT
//	sharefs-mount --rebuild [--store DIR] [--force] [--bare] [--json] [SOURCE]
//	sharefs-mount --recovery [--store DIR] [--no-code] [--json] [SOURCE]
//	sharefs-mount --recover [--store DIR] [--sheet FILE] [--bucket URL] [--credentials FILE] [--force] [--json] [SOURCE]
//
// It returns once the mount can be used and leaves a daemon behind, or stays in front with -f. Under the names mount.sharefs and
// mount.fuse.sharefs it is the helper that mount(8) calls: SOURCE MOUNTPOINT -o OPTIONS.
//
// Exit status, that of mount(8): 0 mounted, 1 wrongly called or not allowed, 2 this machine lacks something, 32 the mount failed.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sharefs"
	"sharefs/internal/dbhold"
	"sharefs/internal/mountpoint"
	"sharefs/internal/selftest"
	"sharefs/internal/term"
)

// Exit statuses of mount(8).
const (
	exitMounted = 0
	exitUsage   = 1
	exitSystem  = 2
	exitFailed  = 32
)

func main() {
	mountpoint.ServeProbe()
	dbhold.Serve()
	selftest.Serve()
	os.Exit(run(os.Args))
}

func run(args []string) int {
	c, err := parseArgs(args)
	if err != nil {
		complain(err)
		fmt.Fprintf(os.Stderr, "Try '%s --help'.\n", signature())
		return exitUsage
	}
	if c.done {
		return exitMounted
	}
	if !isDaemon() { // or it was said
		warning, err := c.namesakes()
		if err != nil {
			complain(err)
			return exitStatus(err)
		}
		if warning != "" {
			warn(warning)
		}
	}
	switch {
	case c.rebuild:
		return rebuild(c)
	case c.recovery:
		return printSheet(c)
	case c.recover:
		return recoverStore(c)
	case c.options.Remount:
		err = remount(c)
	case c.fake:
		err = nil
	case c.foreground:
		err = serve(c, announce)
	case isDaemon():
		return daemonMain(c)
	default:
		return background(c)
	}
	if err != nil {
		complain(err)
		return exitStatus(err)
	}
	return exitMounted
}

// complain writes one clean line.
func complain(err error) {
	fmt.Fprintln(os.Stderr, signature()+": "+term.Clean(strings.TrimSpace(err.Error())))
}

func warn(text string) { fmt.Fprintln(os.Stderr, signature()+": warning: "+term.Clean(text)) }

// signature is what this program is called in what it says: sharefs, where that has become it for a task of its own (as argv[0] tells).
func signature() string {
	if filepath.Base(os.Args[0]) == "sharefs" {
		return "sharefs"
	}
	return "sharefs-mount"
}

// exitStatus sorts an error into those of mount(8).
func exitStatus(err error) int {
	switch {
	case err == nil:
		return exitMounted
	case errors.As(err, new(usageError)), errors.Is(err, sharefs.KindPermission):
		return exitUsage
	case errors.Is(err, sharefs.KindNoDevice):
		return exitSystem
	}
	return exitFailed
}

// usageError is a command that was wrongly called.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }
