package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"sharefs/internal/jobs"
	"sharefs/internal/term"
)

// do has the mount do a long task, shows how far it is, and writes its report. An interrupt stops the task, and what it had done is reported.
func (a *app) do(verb string, args map[string]string) (*jobs.Job, error) {
	m, err := a.here()
	if err != nil {
		return nil, err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	progress := term.NewProgress(os.Stderr)
	defer progress.End()
	j, err := m.Do(ctx, verb, args, func(j *jobs.Job) {
		if j.State == jobs.Waiting {
			progress.Show("another job is at work", 0, 0, "")
			return
		}
		progress.Show(j.Progress.Stage, j.Progress.Done, j.Progress.Total, j.Progress.Unit)
	})
	progress.End()
	if err != nil {
		return nil, err
	}
	if err := a.writeReport(j); err != nil {
		return nil, err
	}
	switch j.State {
	case jobs.Failed:
		return j, errors.New(verb + ": " + strings.TrimPrefix(j.Error, verb+": "))
	case jobs.Stopped:
		return j, errors.New(verb + ": stopped; what was done until then stays done")
	}
	return j, nil
}

func (a *app) writeReport(j *jobs.Job) error {
	if !a.json {
		for line := range strings.Lines(j.Text) {
			if err := a.printf("%s\n", term.CleanLine(strings.TrimSuffix(line, "\n"))); err != nil {
				return err
			}
		}
		return nil
	}
	if len(j.Report) == 0 {
		return nil
	}
	return a.writeJSON(json.RawMessage(j.Report))
}

// jobs shows the long tasks.
func (a *app) jobs() *cobra.Command {
	return &cobra.Command{
		Use:   "jobs",
		Short: "Show the long tasks of a mount",
		Long: `Show the long tasks of a mount (gc, fsck, retain): those that are at work or
wait, and the last ones that ended. They run in the mount, one after the other,
also when whoever asked for them is gone.`,
		Args: exactly(),
		RunE: func(*cobra.Command, []string) error {
			m, err := a.here()
			if err != nil {
				return err
			}
			all, err := m.Jobs()
			if err != nil {
				return err
			}
			for i := range all {
				delete(all[i].Args, jobs.AskedAs)
			}
			if a.json {
				return a.writeJSON(all)
			}
			if len(all) == 0 {
				return a.printf("No job was asked for since the mount began.\n")
			}
			for i := range all {
				if err := a.printf("%s\n", all[i].Line()); err != nil {
					return err
				}
			}
			return nil
		},
	}
}
