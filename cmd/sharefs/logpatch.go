package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"sharefs/internal/client"
	"sharefs/internal/term"
	"sharefs/internal/textdiff"
	"sharefs/internal/treediff"
)

// writePatches writes each version with what it changed, as git log -p does.
func (a *app) writePatches(f *client.File, h *client.History, all []logLine, around int) error {
	before := map[uint64]*client.Version{}
	byNumber := map[uint64]*client.Version{}
	for i := range h.Versions {
		byNumber[h.Versions[i].Number] = &h.Versions[i]
		if i > 0 {
			before[h.Versions[i].Number] = &h.Versions[i-1]
		}
	}
	by := foreign(all)
	for i := range all {
		l := &all[i]
		if i > 0 {
			if err := a.printf("\n"); err != nil {
				return err
			}
		}
		head := fmt.Sprintf("version %d  %s  %s", l.Number, term.Time(l.at), term.Size(l.Size))
		if by {
			head += "  by " + term.Clean(l.Author)
		}
		if l.Live {
			head += "  live"
		}
		if l.Open {
			head += "  open"
		}
		if err := a.printf("%s\n", a.paint.Paint(term.Strong, head)); err != nil {
			return err
		}
		for line := range strings.Lines(l.Note) {
			if err := a.printf("    %s\n", term.CleanLine(strings.TrimSuffix(line, "\n"))); err != nil {
				return err
			}
		}
		if err := a.writePatchOf(f, before[l.Number], byNumber[l.Number], around); err != nil {
			return err
		}
	}
	return nil
}

// writePatchOf writes what a version changed; the first one brought all that it held.
func (a *app) writePatchOf(f *client.File, old, new *client.Version, around int) error {
	text2, large, err := text(f.At(new))
	if err != nil {
		return err
	}
	var text1 []byte
	if old != nil {
		var more bool
		if text1, more, err = text(f.At(old)); err != nil {
			return err
		}
		large = large || more
	}
	switch {
	case large:
		return a.printf("More than %s are not compared line by line.\n", term.Size(maxText))
	case isBinary(text1) || isBinary(text2):
		if string(text1) == string(text2) {
			return nil
		}
		return a.printf("Binary content differs.\n")
	}
	hunks := textdiff.Diff(string(text1), string(text2), around)
	if len(hunks) == 0 {
		return nil
	}
	if old == nil {
		from := f.At(new)
		from.Name, from.Time = "/dev/null", time.Time{}
		return a.writeHunks(from, f.At(new), hunks)
	}
	return a.writeHunks(f.At(old), f.At(new), hunks)
}

// dirLine is one change point of a directory in the log.
type dirLine struct {
	Time    string       `json:"time"` // RFC 3339; DIR@@TIME shows what it was after the change
	Tags    []string     `json:"tags"` // and branches that stand there
	Changes []changeJSON `json:"changes"`
	at      time.Time
	diff    []treediff.Change
}

// logDir lists when the names or attributes of a directory changed, and what changed then.
func (a *app) logDir(d *client.Dir, last number, reverse, patch bool) error {
	points, err := d.Points()
	if err != nil {
		return err
	}
	ctx, progress, end := longTask()
	defer end()
	var lines []dirLine
	for i := range points {
		if last.set && uint64(len(lines)) >= last.n {
			break
		}
		progress.Show("comparing", uint64(i), uint64(len(points)), "times")
		line := dirLine{Time: points[i].Time.Local().Format(term.JSONTimeLayout), Tags: points[i].Names, Changes: []changeJSON{}, at: points[i].Time}
		if i+1 < len(points) {
			if line.diff, err = a.dirChange(ctx, points[i+1].Dir, points[i].Dir); err != nil {
				return treeError(err, d.Name())
			}
		}
		if len(line.diff) == 0 && len(line.Tags) == 0 {
			continue // a change of the rest of the tree
		}
		for j := range line.diff {
			c := &line.diff[j]
			line.Changes = append(line.Changes, changeJSON{Op: letter(c)[:1], Path: c.Path, From: c.From, Score: c.Score, What: c.What.Names(),
				Old: entryOf(c.Old), New: entryOf(c.New), Hunks: []hunkJSON{}})
		}
		lines = append(lines, line)
	}
	progress.End()
	if reverse {
		slices.Reverse(lines)
	}
	if a.json {
		if lines == nil {
			lines = []dirLine{}
		}
		return a.writeJSON(struct {
			Directory string    `json:"directory"`
			Points    []dirLine `json:"points"`
		}{d.Path, lines})
	}
	if !d.Live {
		if at, err := d.Mount.Removed(d.Path); err == nil {
			restore := "sharefs restore " + quoteArg(d.Given+"@@"+client.TimeText(at))
			if err := a.printf("%s is removed; %s brings it back.\n", term.Quote(d.Given), restore); err != nil {
				return err
			}
		}
	} else if len(lines) == 0 {
		return a.printf("Nothing in %s has changed since it was made.\n", term.Quote(d.Given))
	}
	for i := range lines {
		if err := a.writePoint(d, &lines[i], patch); err != nil {
			return err
		}
	}
	return nil
}

// dirChange tells what differs between two states of one directory itself; what is in its directories has times of its own.
func (a *app) dirChange(ctx context.Context, old, new *client.Dir) ([]treediff.Change, error) {
	x, y := client.Sides(old, new)
	r, err := treediff.Compare(ctx, x, y, treediff.Options{Renames: treediff.ByIdentity, Flat: true})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(r.Changes, func(c treediff.Change) bool { return c.Op == treediff.Changed && c.What&^treediff.Times == 0 }), nil
}

func (a *app) writePoint(d *client.Dir, l *dirLine, patch bool) error {
	head := term.Time(l.at)
	if len(l.Tags) > 0 {
		head += "  (" + term.Clean(strings.Join(l.Tags, ", ")) + ")"
	}
	if !patch {
		return a.printf("%s\n", strings.TrimRight(a.paint.Paint(term.Strong, head)+"  "+summarize(l.diff), " "))
	}
	if err := a.printf("%s\n", a.paint.Paint(term.Strong, head)); err != nil {
		return err
	}
	return (&treeDiff{app: a}).writeNames(l.diff)
}

// summarize names up to three paths and counts the others.
func summarize(changes []treediff.Change) string {
	var parts []string
	for i := range changes {
		c := &changes[i]
		if i == 3 && len(changes) > 4 {
			parts = append(parts, fmt.Sprintf("and %d more", len(changes)-3))
			break
		}
		name := shown(c.Path, c.New)
		if c.New == nil {
			name = shown(c.Path, c.Old)
		}
		name = term.Quote(name)
		switch c.Op {
		case treediff.Added:
			parts = append(parts, "+"+name)
		case treediff.Removed:
			parts = append(parts, "-"+name)
		case treediff.Renamed:
			parts = append(parts, term.Quote(shown(c.From, c.New))+" -> "+name)
		default:
			parts = append(parts, name+" ("+(c.What&^treediff.Times).String()+")")
		}
	}
	return strings.Join(parts, ", ")
}
