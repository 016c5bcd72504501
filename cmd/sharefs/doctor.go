package main

import (
	"strings"

	"github.com/spf13/cobra"

	"sharefs/internal/doctor"
	"sharefs/internal/term"
)

func (a *app) doctor() *cobra.Command {
	var deep bool
	cmd := &cobra.Command{
		Use:   "doctor [PATH...]",
		Short: "Look at this machine and its mounts, and say how to get what is missing",
		Long: `Look at this machine and its mounts: the kernel, /dev/fuse, passthrough, limits,
free space, and whether each mount is in order, or those alone in which a PATH lies.
What is missing or wrong comes with the way to mend it. A mount that does not answer is
given up after a while: it holds up nothing else.

Exit status: 0 unless something is wrong that keeps ShareFS from working.`,
		Args: func(_ *cobra.Command, args []string) error { return noneEmpty(args, "PATH") },
		RunE: func(_ *cobra.Command, args []string) error {
			findings, err := doctor.Examine(deep, args)
			if err != nil {
				return err
			}
			worst := doctor.Good
			for _, f := range findings {
				worst = max(worst, f.Grade)
			}
			if worst == doctor.Wrong {
				a.exit = exitFailed
			}
			if a.json {
				return a.writeJSON(struct {
					OK       bool             `json:"ok"`
					Findings []doctor.Finding `json:"findings"`
				}{worst != doctor.Wrong, findings})
			}
			styles := map[doctor.Grade]term.Style{doctor.Good: term.Good, doctor.Notice: term.Warn, doctor.Wrong: term.Bad}
			for _, f := range findings {
				grade := a.paint.Paint(styles[f.Grade], f.Grade.String())
				pad := strings.Repeat(" ", 7-len(f.Grade.String()))
				if err := a.printf("%s%s%-16s %s\n", grade, pad, f.What, term.Clean(f.Found)); err != nil {
					return err
				}
				if f.Remedy != "" {
					if err := a.printf("%-23s %s\n", "", term.Clean(f.Remedy)); err != nil {
						return err
					}
				}
			}
			switch worst {
			case doctor.Good:
				return a.printf("All is well.\n")
			case doctor.Notice:
				return a.printf("ShareFS works; what is marked %q is worth a look.\n", doctor.Notice)
			}
			return a.printf("What is marked %q keeps ShareFS from working as it should.\n", doctor.Wrong)
		},
	}
	cmd.Flags().BoolVar(&deep, "check", false, "Check the whole tree of each mount too; changes wait meanwhile")
	return cmd
}
