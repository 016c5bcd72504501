package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sharefs"
	"sharefs/internal/client"
	"sharefs/internal/restore"
	"sharefs/internal/term"
)

// restoreStyle is how a directory is restored.
type restoreStyle struct {
	dry     bool
	stay    bool   // what came later stays
	verbose bool   // all that was done is listed
	to      string // where it is written instead; empty: the live directory becomes as it was
}

// maxListed is how many lines of what was done are written unless all are wanted.
const maxListed = 40

// restored is what a restore of a directory did.
type restored struct {
	dir         *client.Dir
	style       restoreStyle
	report      *restore.Report
	undo        string // a command line
	interrupted bool
}

// restoreTree makes a directory as it was.
func (a *app) restoreTree(arg string, style restoreStyle) error {
	d, err := client.OpenDir(arg)
	if err != nil {
		return err
	}
	if d.Select == "" {
		return usage("no time is named: it goes behind @@, as in %s", term.Quote(d.Given+"@@yesterday"))
	}
	if style.to != "" {
		return a.restoreTo(d, style)
	}
	r, err := a.restoreDir(d, style)
	if err != nil {
		return err
	}
	if a.json {
		return a.writeRestoreJSON(r)
	}
	if err := a.writeActions(r); err != nil {
		return err
	}
	return a.printf("%s", r.summary())
}

// restoreDir makes a directory as it was and sets the exit status if anything was not done.
func (a *app) restoreDir(d *client.Dir, style restoreStyle) (*restored, error) {
	made, live, err := a.liveDir(d, style.dry)
	if err != nil {
		return nil, err
	}
	if style.dry && live.Mount == nil {
		defer os.Remove(live.Reach)
	}
	var before time.Time
	if !style.dry {
		if before, err = d.Mount.Now(); err != nil {
			return nil, err
		}
	}
	ctx, progress, end := longTask()
	defer end()
	past, now := client.Sides(d, live)
	report, err := restore.Tree(ctx, past, now, restore.Options{
		DryRun: style.dry, Stay: style.stay, Keep: client.Keep, Progress: progress.Show,
	})
	progress.End()
	r := &restored{dir: d, style: style, report: report, interrupted: errors.Is(err, context.Canceled)}
	if err != nil && (report == nil || !r.interrupted) {
		return nil, treeError(err, d.Name())
	}
	if !style.dry {
		a.dressParents(d, made, report)
	}
	for i := range report.Actions {
		if act := &report.Actions[i]; act.Path == "." && !d.Live {
			act.Op, act.What = restore.Created, nil
		}
	}
	r.undo = "sharefs restore " + quoteArg(d.Given+"@@"+client.TimeText(before))
	if len(made) > 0 {
		r.undo = "rm -r " + quoteArg(d.Given)
	}
	if report.Failed() > 0 || r.interrupted {
		a.exit = exitFailed
	}
	return r, nil
}

// liveDir finds the directory that is to become as it was, and makes it and those above it where they are gone: made lists them, from the top.
func (a *app) liveDir(d *client.Dir, dry bool) (made []string, live *client.Dir, err error) {
	if d.Live {
		live, err = client.OpenDir(d.Path)
		return nil, live, err
	}
	for p := d.Path; p != d.Mount.Point; p = filepath.Dir(p) {
		info, err := os.Lstat(p)
		if err == nil && info.IsDir() {
			break
		}
		if err == nil {
			return nil, nil, &sharefs.Error{Op: "restore", Path: term.Quote(p), Kind: sharefs.KindNotDir, Detail: "is no directory now: move it away first"}
		}
		made = append(made, p)
	}
	slices.Reverse(made)
	if dry { // as if it were there, and empty
		empty, err := os.MkdirTemp("", "sharefs-")
		if err != nil {
			return nil, nil, err
		}
		return nil, &client.Dir{Given: d.Given, Path: d.Path, Reach: empty}, nil
	}
	for i, p := range made {
		if err := os.Mkdir(p, 0o700); err != nil {
			for _, q := range slices.Backward(made[:i]) {
				_ = os.Remove(q)
			}
			return nil, nil, client.PathError("restore", p, err)
		}
	}
	live, err = client.OpenDir(d.Path)
	return made, live, err
}

// dressParents gives the directories that were made above the one restored the attributes of then, the lowest first.
func (a *app) dressParents(d *client.Dir, made []string, report *restore.Report) {
	for _, p := range slices.Backward(made) {
		own, err := restore.Dress(d.Mount.At(d.Time, p), p)
		if err != nil && p != d.Path {
			fmt.Fprintln(os.Stderr, "sharefs: "+message(client.PathError("restore", p, err)))
			a.exit = exitFailed
		}
		if !own {
			report.Owners++
		}
	}
}

// quoteArg is a path for a command line that is shown: one that begins with a dash would be taken for a flag.
func quoteArg(p string) string {
	if strings.HasPrefix(p, "-") {
		p = "./" + p
	}
	return term.Quote(p)
}

// told reports whether an action is worth a line: that the times of a directory were set again is not.
func told(a *restore.Action) bool {
	return a.Err != nil || a.Op != restore.Attributes || a.Type != "directory" || !slices.Equal(a.What, []string{"times"})
}

// writeActions writes a line for each thing that was done, and to standard error what could not be done.
func (a *app) writeActions(r *restored) error {
	base, style, report := r.dir.Given, r.style, r.report
	lines := 0
	hidden := 0
	for i := range report.Actions {
		act := &report.Actions[i]
		if act.Err != nil || !told(act) {
			continue
		}
		if lines++; lines > maxListed && !style.verbose && !style.dry {
			hidden++
			continue
		}
		what := ""
		switch {
		case act.Op == restore.Moved:
			what = " (from " + term.Quote(nameIn(base, act.From)) + ")"
		case act.Op == restore.Linked:
			what = " (to " + term.Quote(nameIn(base, act.From)) + ")"
		case act.Op == restore.Attributes:
			what = " (" + strings.Join(act.What, ", ") + ")"
		}
		name := nameIn(base, act.Path)
		if act.Type == "directory" && act.Path != "." {
			name += "/"
		}
		style := map[restore.Op]term.Style{restore.Created: term.Added, restore.Removed: term.Gone}[act.Op]
		if err := a.printf("%s %s%s\n", a.paint.Paint(style, fmt.Sprintf("%-11s", act.Op)), term.Quote(name), what); err != nil {
			return err
		}
	}
	if hidden > 0 {
		if err := a.printf("and %s more (--verbose lists all)\n", term.Count(uint64(hidden))); err != nil {
			return err
		}
	}
	writeProblems(base, report)
	return nil
}

// nameIn is the name of what lies in a directory, which for one above the working directory is without the way up and down again.
func nameIn(dir, path string) string {
	name := filepath.Join(dir, path)
	if !strings.HasPrefix(name, "../") {
		return name
	}
	wd, err := os.Getwd()
	if err != nil {
		return name
	}
	if rel, err := filepath.Rel(wd, filepath.Join(wd, name)); err == nil {
		return rel
	}
	return name
}

// restoreError names a path and says why nothing was done to it.
func restoreError(path string, err error) error {
	var e *sharefs.Error
	if errors.As(err, &e) && e.Detail != "" {
		return &sharefs.Error{Op: "restore", Path: term.Quote(path), Kind: e.Kind, Detail: e.Detail}
	}
	return client.PathError("restore", path, err)
}

// summary tells in a few sentences what was done and how to undo it.
func (r *restored) summary() string {
	d, report := r.dir, r.report
	var b strings.Builder
	count := map[restore.Op]int{}
	for i := range report.Actions {
		if act := &report.Actions[i]; act.Err == nil && told(act) {
			count[act.Op]++
		}
	}
	name, at := term.Quote(d.Given), term.Time(d.Time)
	var parts []string
	for _, op := range []struct {
		op   restore.Op
		text string
	}{
		{restore.Created, "brought back"}, {restore.Overwritten, "overwritten"}, {restore.Replaced, "replaced"}, {restore.Moved, "moved back"},
		{restore.Linked, "linked"}, {restore.Removed, "removed"}, {restore.Attributes, "with other attributes"}, {restore.Stayed, "left that came later"},
	} {
		if n := count[op.op]; n > 0 {
			parts = append(parts, term.Count(uint64(n))+" "+op.text)
		}
	}
	switch {
	case len(parts) == 0 && report.Failed() == 0 && !r.interrupted:
		return fmt.Sprintf("%s is as it was at %s; nothing is to be done.\n", name, at)
	case r.style.dry:
		fmt.Fprintf(&b, "%s would become as it was at %s: %s.\n", name, at, strings.Join(parts, ", "))
		return b.String()
	case r.interrupted:
		fmt.Fprintf(&b, "Interrupted: %s is not yet as it was at %s: %s so far. Run it again to go on.\n", name, at, orNone(parts))
	case report.Failed() > 0:
		fmt.Fprintf(&b, "%s could not be made all as it was at %s: %s, %s not.\n", name, at, orNone(parts), term.Count(uint64(report.Failed())))
	default:
		fmt.Fprintf(&b, "%s is as it was at %s: %s.\n", name, at, strings.Join(parts, ", "))
	}
	if report.Owners > 0 {
		fmt.Fprintf(&b, "%s to you instead of the owner of then: only root may give files away.\n", belong(report.Owners))
	}
	fmt.Fprintf(&b, "To undo: %s\n", r.undo)
	return b.String()
}

func orNone(parts []string) string {
	if len(parts) == 0 {
		return "nothing done"
	}
	return strings.Join(parts, ", ")
}

func belong(n int) string {
	if n == 1 {
		return "1 file belongs"
	}
	return term.Count(uint64(n)) + " files belong"
}

// actionJSON is an action with its error as text.
type actionJSON struct {
	restore.Action
	Error string `json:"error,omitempty"`
}

func (a *app) writeRestoreJSON(r *restored) error {
	d, report := r.dir, r.report
	result := struct {
		Directory   string        `json:"directory"`
		To          string        `json:"to,omitempty"` // where it was written instead
		Time        string        `json:"time"`
		DryRun      bool          `json:"dry_run"`
		Interrupted bool          `json:"interrupted"`
		Actions     []actionJSON  `json:"actions"`
		Problems    []problemJSON `json:"problems"`
		Failed      int           `json:"failed"` // how many of both
		OtherOwner  int           `json:"other_owner"`
		Bytes       uint64        `json:"bytes"` // of content that was written
		Undo        string        `json:"undo"`  // a command line; empty: there is nothing to undo
	}{Directory: d.Path, To: r.style.to, Time: d.Time.Local().Format(term.JSONTimeLayout), DryRun: r.style.dry, Interrupted: r.interrupted, Actions: []actionJSON{},
		Problems: problemsOf(report.Problems), Failed: report.Failed(), OtherOwner: report.Owners, Bytes: report.Bytes}
	for _, act := range report.Actions {
		j := actionJSON{Action: act}
		if act.Err != nil {
			j.Error = message(act.Err)
		}
		result.Actions = append(result.Actions, j)
	}
	if !r.style.dry && len(result.Actions) > 0 {
		result.Undo = r.undo
	}
	return a.writeJSON(result)
}
