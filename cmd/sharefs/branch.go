package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"sharefs"
	"sharefs/internal/client"
	"sharefs/internal/term"
	"sharefs/peers/report"
)

func (a *app) branch() *cobra.Command {
	var note, at string
	var remove bool
	cmd := &cobra.Command{
		Use:   "branch PATH [NAME] [--at TIME] [-m NOTE]",
		Short: "Make a branch of a file or directory, or list them",
		Long: `Make a branch of a file or directory: a name for what it holds now, or held at a
time, at which work can go on apart (sharefs switch PATH NAME). A branch moves
along with the work on it. Without NAME the branches are listed.`,
		Args:              between(2, "PATH"),
		ValidArgsFunction: a.completeMoments(branchesOf),
		RunE: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 1 && (remove || at != "" || note != ""):
				return usage("NAME is missing")
			case len(args) == 1:
				t, err := client.OpenTarget(args[0])
				if err != nil {
					return err
				}
				return a.listMoments(t, false)
			case remove:
				return a.removeMoment(args[0], args[1], "branch", (*client.Target).RemoveBranch)
			}
			return a.setMoment(args[0], args[1], at, note, "branch", func(t *client.Target, name, at, note string) error {
				all, err := t.Moments()
				if err != nil {
					return err
				}
				if all.Find(name) != nil {
					return &sharefs.Error{Op: "branch", Path: term.Quote(t.Given), Kind: sharefs.KindExist, Detail: "it has a branch " + term.Quote(name) +
						" already: sharefs switch " + quoteArg(t.Given) + " " + term.Quote(name) + " goes to it"}
				}
				return t.SetBranch(name, at, note)
			})
		},
	}
	cmd.Flags().StringVar(&at, "at", "", "Begin it with what was there at `TIME`; of a file it may be the number of a version")
	cmd.Flags().StringVarP(&note, "message", "m", "", "Give it this `NOTE`")
	cmd.Flags().BoolVarP(&remove, "delete", "d", false, "Take the branch away; its versions stay")
	return cmd
}

func (a *app) switchTo() *cobra.Command {
	return &cobra.Command{
		Use:   "switch PATH BRANCH",
		Short: "Go on with another branch of a file or directory",
		Long: `Go on with another branch of a file or directory: it becomes as it was when that
branch was left. What it holds now is kept on the present branch first, which is
called main if there is none yet.

  sharefs branch FILE draft --at 1   Version 1 is where the branch draft begins
  sharefs switch FILE draft          FILE holds version 1; work on it
  sharefs switch FILE main           FILE holds again what it held before`,
		Args:              exactly("PATH", "BRANCH"),
		ValidArgsFunction: a.completeMoments(branchesOf),
		RunE: func(_ *cobra.Command, args []string) error {
			t, err := client.OpenTarget(args[0])
			if err != nil {
				return err
			}
			return a.switchTarget(t, args[1])
		},
	}
}

// switchedJSON is what switch writes.
type switchedJSON struct {
	Path    string `json:"path"`
	Branch  string `json:"branch"`
	Left    string `json:"left"`    // the branch that was worked on before, with what was there; empty: none
	Already bool   `json:"already"` // nothing was to be done
}

// switchTarget leaves the present branch, makes the target as the other one was left, and notes that one as the present. Between the steps no branch
// is the present one, so that what an interruption leaves half done is never taken for the work on one.
func (a *app) switchTarget(t *client.Target, name string) error {
	all, err := t.Moments()
	if err != nil {
		return err
	}
	to := all.Find(name)
	if to == nil && all.HasTag(name) {
		named := quoteArg(t.Given + "@@" + name)
		return &sharefs.Error{Op: "switch", Path: term.Quote(t.Given), Kind: sharefs.KindInvalid, Detail: term.Quote(name) + " is a tag, which does not move: sharefs restore " +
			named + " brings back what was there, and sharefs branch " + quoteArg(t.Given) + " NAME --at " + term.Quote(name) + " begins a branch with it"}
	}
	if to == nil {
		return &sharefs.Error{Op: "switch", Path: term.Quote(t.Given), Kind: sharefs.KindNotExist,
			Detail: "it has no branch " + term.Quote(name) + ": sharefs branch " + quoteArg(t.Given) + " " + term.Quote(name) + " makes it"}
	}
	result := switchedJSON{Path: t.Path, Branch: name, Already: all.Branch == name}
	if result.Already {
		if a.json {
			return a.writeJSON(result)
		}
		return a.printf("%s is on branch %s already; nothing is to be done.\n", term.Quote(t.Given), term.Quote(name))
	}
	if result.Left = all.Branch; result.Left == "" && all.Find(report.FirstBranch) == nil {
		result.Left = report.FirstBranch
	}
	kept, err := a.leave(t, result.Left)
	if err != nil {
		return err
	}
	if err := t.Mount.Begin(switchLabel(t, result.Left, name)); err != nil {
		return err
	}
	if err := t.Switch(""); err != nil {
		return err
	}
	if err := a.become(t, to); err != nil {
		return err
	}
	if a.exit != exitDone {
		return &sharefs.Error{Op: "switch", Path: term.Quote(t.Given), Kind: sharefs.KindAgain, Detail: "is not on branch " + term.Quote(name) +
			" yet; mend what is said above and call it again" + kept}
	}
	if err := t.Switch(name); err != nil {
		return err
	}
	if a.json {
		return a.writeJSON(result)
	}
	return a.printf("%s is on branch %s now%s.\n", term.Quote(t.Given), term.Quote(name), kept)
}

// leave keeps what the target holds, on a branch if one is named, and says where.
func (a *app) leave(t *client.Target, branch string) (kept string, err error) {
	at := ""
	if t.File != nil {
		v, _, err := t.File.Commit("")
		if err != nil {
			return "", err
		}
		at = strconv.FormatUint(v.Number, 10)
		kept = fmt.Sprintf("; what it held before is version %d", v.Number)
	} else {
		now, err := t.Mount.Now()
		if err != nil {
			return "", err
		}
		at = client.TimeText(now)
		kept = "; as it was before it is in " + term.Quote(t.Mount.At(now, t.Path))
	}
	if branch != "" {
		if err := t.SetBranch(branch, at, ""); err != nil {
			return "", err
		}
		kept += " and on branch " + term.Quote(branch)
	}
	return kept, nil
}

// become makes the target as a branch was left.
func (a *app) become(t *client.Target, to *client.Moment) error {
	if t.File == nil {
		d, err := client.OpenDir(t.Path + "@@" + to.Name)
		if err != nil {
			return err
		}
		d.Given = t.Given
		r, err := a.restoreDir(d, restoreStyle{})
		if err != nil || a.json {
			return err
		}
		return a.writeActions(r)
	}
	h, err := t.File.History()
	if err != nil {
		return err
	}
	for i := range h.Versions {
		if v := &h.Versions[i]; v.Number == to.Version {
			if h.Live == v.Number {
				return nil
			}
			_, err := t.File.Restore(v)
			if sharefs.KindOf(err) == sharefs.KindExist {
				err = nil
			}
			return err
		}
	}
	return &sharefs.Error{Op: "switch", Path: term.Quote(t.Given), Kind: sharefs.KindNotExist, Detail: "the version that the branch stands at is gone"}
}
