package main

import (
	"context"
	"maps"
	"os"
	"os/signal"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"sharefs/internal/client"
	"sharefs/internal/term"
)

// interruptible is a context that an interrupt ends; a second interrupt ends the program.
func interruptible() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	go func() {
		<-ctx.Done()
		stop()
	}()
	return ctx, stop
}

// longTask is what takes a task that may last: a context that an interrupt ends, and a progress bar. End ends both.
func longTask() (ctx context.Context, progress *term.Progress, end func()) {
	progress = term.NewProgress(os.Stderr)
	ctx, stop := interruptible()
	return ctx, progress, func() {
		stop()
		progress.End()
	}
}

// sortedKeys lists the keys of maps, each once.
func sortedKeys(all ...map[string]string) []string {
	keys := map[string]bool{}
	for _, m := range all {
		for k := range m {
			keys[k] = true
		}
	}
	return slices.Sorted(maps.Keys(keys))
}

// there fails unless something has a name.
func there(name string) error {
	if _, err := os.Lstat(name); err != nil {
		return client.PathError("", name, err)
	}
	return nil
}

// alsoShort gives a flag of a command another letter, which its help does not name.
func alsoShort(cmd *cobra.Command, name, letter string) {
	const other = "also-"
	cmd.Flags().VarP(cmd.Flags().Lookup(name).Value, other+name, letter, "")
	cmd.Flags().Lookup(other + name).Hidden = true
}
