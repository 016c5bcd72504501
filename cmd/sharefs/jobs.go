package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/internal/jobs"
	"sharefs/internal/term"
)

// do has the mount do a long task, shows how far it is, and writes its report. An interrupt stops the task, and what it had done is reported.
func (a *app) do(verb string, args map[string]string) (*jobs.Job, error) {
	m, err := a.live()
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
				return a.writeJSON(append([]jobs.Job{}, all...))
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

const dryRunUsage = "Show what would be done, and change nothing"

// gc gives back what no version needs.
func (a *app) gc() *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Give back the space of history that nothing needs any more",
		Long: `Give back the space of history that nothing needs any more: what retain thinned
out. It runs in the mount beside everything else, and can be stopped at any
instant.`,
		Args: exactly(),
		RunE: func(*cobra.Command, []string) error {
			_, err := a.do("gc", dryRun(dry))
			return err
		},
	}
	cmd.Flags().BoolVarP(&dry, "dry-run", "n", false, dryRunUsage)
	return cmd
}

// retain thins history out.
func (a *app) retain() *cobra.Command {
	var dry bool
	var quota string
	cmd := &cobra.Command{
		Use:   "retain",
		Short: "Thin history out by the rules of the store now",
		Long: `Thin history out by the rules of the store ([retention] in share.toml) now; the
mount does so by itself once a day. What has a name (snapshots, tags, branches)
stays. gc then gives back the space.

On a full disk --quota SIZE helps: whatever the rules keep, the oldest history
goes until the rest takes no more than that. --quota 0 leaves what has a name, the
present, and the newest versions of each file (min_versions).`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			args := dryRun(dry)
			if cmd.Flags().Changed("quota") {
				args["quota"] = cmp.Or(strings.ReplaceAll(quota, " ", ""), "?")
			}
			_, err := a.do("retain", args)
			if args["quota"] != "" && sharefs.KindOf(err) == sharefs.KindInvalid {
				return usage("--quota takes a number with its unit, such as 20GiB, or 0, not %s", term.Quote(quota))
			}
			return err
		},
	}
	cmd.Flags().StringVar(&quota, "quota", "", "Keep no more history than `SIZE`, such as 20GiB, this once")
	cmd.Flags().BoolVarP(&dry, "dry-run", "n", false, dryRunUsage)
	return cmd
}

func dryRun(dry bool) map[string]string {
	args := map[string]string{}
	if dry {
		args["dry-run"] = "yes"
	}
	return args
}

// fsck checks a store.
func (a *app) fsck() *cobra.Command {
	var fast, scrub, repair, bucket bool
	cmd := &cobra.Command{
		Use:   "fsck [--fast|--scrub] [--repair] [--bucket]",
		Short: "Check the store of a mount while it is used",
		Long: `Check the store of a mount while it is used. --fast, as without it, compares
what the store says with what is there; --scrub reads back all history as well.
--repair writes damaged pieces anew from wherever there is another copy; what has
none is marked as lost by name, and nothing is ever filled with zeros. Packs that
the bucket alone has are looked for in a list of it; --scrub --bucket fetches and
reads them.

Exit status: 0 all is well, or is again; 1 damage is left; 3 nothing wrong is left,
but a part could not be checked, for the bucket does not answer.`,
		Args: exactly(),
		RunE: func(*cobra.Command, []string) error {
			if fast && scrub {
				return usage("--fast and --scrub exclude each other")
			}
			if bucket && !scrub {
				return usage("--bucket goes with --scrub")
			}
			args := map[string]string{"mode": "fast", "repair": "no"}
			if bucket {
				args["bucket"] = "yes"
			}
			if scrub {
				args["mode"] = "scrub"
			}
			if repair {
				args["repair"] = "yes"
			}
			j, err := a.do("fsck", args)
			if err != nil {
				return err
			}
			var report struct {
				Outcome string `json:"outcome"`
			}
			if err := json.Unmarshal(j.Report, &report); err != nil {
				return fmt.Errorf("fsck: its report cannot be read: %w", err)
			}
			switch report.Outcome {
			case "damage":
				a.exit = exitFailed
			case "unread":
				a.exit = exitPart
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&fast, "fast", false, "Read no content (the default)")
	cmd.Flags().BoolVar(&scrub, "scrub", false, "Read back all history")
	cmd.Flags().BoolVar(&repair, "repair", false, "Repair what can be repaired")
	cmd.Flags().BoolVar(&bucket, "bucket", false, "Read what the bucket alone has as well")
	return cmd
}
