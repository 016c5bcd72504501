package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"sharefs"
	"sharefs/internal/client"
	"sharefs/internal/restore"
	"sharefs/internal/term"
	"sharefs/internal/treediff"
)

// restoreTo writes a directory as it was into one elsewhere, which is made or is empty; the live one stays as it is.
func (a *app) restoreTo(d *client.Dir, style restoreStyle) error {
	to, made, err := emptyDir(style.to, style.dry)
	if err != nil {
		return err
	}
	ctx, progress, end := longTask()
	defer end()
	past := d.Side()
	past.ID, past.State = nil, nil // of this mount alone
	report, err := restore.Tree(ctx, past, treediff.Side{Dir: to}, restore.Options{DryRun: style.dry, Progress: progress.Show})
	progress.End()
	if made && style.dry {
		_ = os.Remove(to)
	}
	interrupted := errors.Is(err, context.Canceled)
	if err != nil && (report == nil || !interrupted) {
		return treeError(err, d.Name())
	}
	if report.Failed() > 0 || interrupted {
		a.exit = exitFailed
	}
	r := &restored{dir: d, style: style, report: report, interrupted: interrupted}
	if a.json {
		return a.writeRestoreJSON(r)
	}
	writeProblems(style.to, report)
	n := 0
	for i := range report.Actions {
		if act := &report.Actions[i]; act.Err == nil && (act.Op == restore.Created || act.Op == restore.Linked) {
			n++
		}
	}
	what := fmt.Sprintf("%s files and directories of %s as it was at %s", term.Count(uint64(n)), term.Quote(d.Given), term.Time(d.Time))
	name := term.Quote(style.to)
	switch {
	case style.dry:
		err = a.printf("%s would come to %s.\n", what, name)
	case interrupted:
		err = a.printf("Interrupted: %s are in %s so far. Remove it and run the command again.\n", what, name)
	default:
		err = a.printf("%s are in %s (%s).\n", what, name, term.Size(report.Bytes))
	}
	if err == nil && report.Owners > 0 && !style.dry {
		err = a.printf("%s to you instead of the owner of then: only root may give files away.\n", belong(report.Owners))
	}
	return err
}

// emptyDir finds the directory at a path, which has to be empty, or makes it.
func emptyDir(path string, dry bool) (dir string, made bool, err error) {
	if dry {
		if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) { // as if it were there
			dir, err = os.MkdirTemp("", "sharefs-")
			return dir, true, err
		}
	} else if err := os.Mkdir(path, 0o755); err == nil {
		return path, true, nil
	} else if !errors.Is(err, os.ErrExist) {
		return "", false, client.PathError("restore", path, err)
	}
	f, err := os.Open(path)
	if err == nil {
		defer f.Close()
		_, err = f.Readdirnames(1)
	}
	switch {
	case err == io.EOF:
		return path, false, nil
	case err == nil:
		return "", false, &sharefs.Error{Op: "restore", Path: term.Quote(path), Kind: sharefs.KindNotEmpty,
			Detail: "is not empty: name a directory that is, or one that does not exist yet"}
	}
	return "", false, client.PathError("restore", path, err)
}

// writeProblems writes to standard error what could not be done below a directory.
func writeProblems(base string, report *restore.Report) {
	for i := range report.Actions {
		if act := &report.Actions[i]; act.Err != nil {
			fmt.Fprintln(os.Stderr, "sharefs: "+message(restoreError(nameIn(base, act.Path), act.Err)))
		}
	}
	for _, p := range report.Problems {
		fmt.Fprintln(os.Stderr, "sharefs: "+message(restoreError(nameIn(base, p.Path), p.Err)))
	}
	for _, p := range report.Foreign {
		fmt.Fprintf(os.Stderr, "sharefs: %s: another filesystem is mounted there; it is left as it is\n", term.Quote(nameIn(base, p)))
	}
}
