package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"sharefs/internal/daemon"
	"sharefs/internal/term"
)

// rebuild makes the store's meta.db anew and says what came of it. It can be interrupted, and called again.
func rebuild(c *call) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	bar := term.NewProgress(os.Stderr)
	report, err := daemon.Rebuild(ctx, daemon.RebuildConfig{
		Source: c.source, Options: c.options, Force: c.force, Bare: c.bare, Progress: bar.Show,
	})
	bar.End()
	if err != nil {
		complain(err)
		return exitStatus(err)
	}
	return tell(c, &report, report.Whole())
}

// exitIncomplete says that something was made anew and is not whole.
const exitIncomplete = 3

// tell writes what came of a task.
func tell(c *call, report interface{ Text() string }, whole bool) int {
	var err error
	if c.json {
		err = json.NewEncoder(os.Stdout).Encode(report)
	} else {
		for line := range strings.Lines(report.Text()) {
			if _, err = fmt.Println(term.Clean(strings.TrimSuffix(line, "\n"))); err != nil {
				break
			}
		}
	}
	if err != nil {
		complain(err)
		return exitFailed
	}
	if !whole {
		return exitIncomplete
	}
	return exitMounted
}
