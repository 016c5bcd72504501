package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"sharefs/internal/term"
	"sharefs/internal/textdiff"
	"sharefs/internal/treediff"
)

// gitMode is a mode as git writes it: type, and whether it may be executed. What git does not know is written as it is.
func gitMode(e *treediff.Entry) string {
	if e.IsRegular() {
		if e.Mode&0o111 != 0 {
			return "100755"
		}
		return "100644"
	}
	if e.Type() == unix.S_IFLNK {
		return "120000"
	}
	return fmt.Sprintf("%06o", e.Mode)
}

// writePatch writes a change as git does, so that git apply and patch -p1 read it. What they do not know (directories, owners, attributes, links) stands in
// lines that they pass over.
func (d *treeDiff) writePatch(c *treediff.Change) error {
	var b bytes.Buffer
	say := func(format string, args ...any) {
		b.WriteString(d.app.paint.Paint(term.Strong, fmt.Sprintf(format, args...)) + "\n")
	}
	from := c.Path
	if c.Old != nil { // below a directory that was renamed it is another one
		from = c.Old.Path
	}
	if c.What&treediff.Type != 0 { // as git: the one goes, the other comes
		gone, came := *c, *c
		gone.Op, gone.New, gone.What = treediff.Removed, nil, 0
		came.Op, came.Old, came.What = treediff.Added, nil, 0
		if err := d.writePatch(&gone); err != nil {
			return err
		}
		return d.writePatch(&came)
	}
	e := c.New
	if e == nil {
		e = c.Old
	}
	// What is neither a file nor a symbolic link, and what differs in nothing that a patch can hold, is one line.
	patch := e.IsRegular() || e.Type() == unix.S_IFLNK
	text := c.What & (treediff.Content | treediff.Target)
	modes := c.Old != nil && c.New != nil && patch && gitMode(c.Old) != gitMode(c.New)
	if patch && (c.Op != treediff.Changed || text != 0 || modes) {
		say("diff --git %s %s", gitName("a/", from), gitName("b/", c.Path))
		switch {
		case c.Op == treediff.Added:
			say("new file mode %s", gitMode(c.New))
		case c.Op == treediff.Removed:
			say("deleted file mode %s", gitMode(c.Old))
		case modes:
			say("old mode %s", gitMode(c.Old))
			say("new mode %s", gitMode(c.New))
		}
		if c.Op == treediff.Renamed {
			say("similarity index %d%%", c.Score)
			say("rename from %s", gitName("", from))
			say("rename to %s", gitName("", c.Path))
		}
		if err := d.hunks(c, from, &b); err != nil {
			return err
		}
	} else if c.Op != treediff.Changed {
		verb := map[treediff.Op]string{treediff.Added: "added", treediff.Removed: "removed", treediff.Renamed: "moved to " + gitName("", shown(c.Path, e))}[c.Op]
		say("%s %s: %s", kindName(e), gitName("", shown(from, e)), verb)
	}
	for _, line := range attributesOf(c, d.style.times) {
		say("%s %s: %s", kindName(e), gitName("", shown(c.Path, e)), line)
	}
	_, err := d.app.out.Write(b.Bytes())
	return err
}

func kindName(e *treediff.Entry) string {
	switch e.Type() {
	case unix.S_IFREG:
		return "file"
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFLNK:
		return "link"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	}
	return "device"
}

// attributesOf tells in words what differs beside the content.
func attributesOf(c *treediff.Change, times bool) (lines []string) {
	if c.Old == nil || c.New == nil {
		return nil
	}
	add := func(what treediff.What, format string, args ...any) {
		if c.What&what != 0 {
			lines = append(lines, fmt.Sprintf(format, args...))
		}
	}
	add(treediff.Mode, "mode %04o -> %04o", c.Old.Mode&0o7777, c.New.Mode&0o7777)
	add(treediff.Owner, "owner %d:%d -> %d:%d", c.Old.UID, c.Old.GID, c.New.UID, c.New.GID)
	add(treediff.Device, "device %d:%d -> %d:%d", unix.Major(c.Old.Rdev), unix.Minor(c.Old.Rdev), unix.Major(c.New.Rdev), unix.Minor(c.New.Rdev))
	if times {
		add(treediff.Times, "modified %s -> %s", timeOf(c.Old).Format(time.RFC3339Nano), timeOf(c.New).Format(time.RFC3339Nano))
	}
	add(treediff.Links, "links: it is a hard link of other names")
	if c.What&treediff.Xattrs != 0 {
		for _, name := range sortedKeys(c.Old.Xattrs, c.New.Xattrs) {
			old, had := c.Old.Xattrs[name]
			new, has := c.New.Xattrs[name]
			switch {
			case !has:
				lines = append(lines, fmt.Sprintf("attribute %s removed", term.Quote(name)))
			case !had:
				lines = append(lines, fmt.Sprintf("attribute %s=%q added", term.Quote(name), new))
			case old != new:
				lines = append(lines, fmt.Sprintf("attribute %s=%q -> %q", term.Quote(name), old, new))
			}
		}
	}
	return lines
}

func timeOf(e *treediff.Entry) time.Time { return time.Unix(e.Mtime.Sec(), int64(e.Mtime.Nsec())) }

// hunks writes what differs in the content.
func (d *treeDiff) hunks(c *treediff.Change, from string, out *bytes.Buffer) error {
	body, err := d.body(c, d.style.around)
	if err != nil {
		return err
	}
	old, new := gitName("a/", from), gitName("b/", c.Path)
	if c.Old == nil {
		old = "/dev/null"
	}
	if c.New == nil {
		new = "/dev/null"
	}
	switch {
	case body.large:
		fmt.Fprintf(out, "Files %s and %s differ; more than %s are not compared line by line\n", old, new, term.Size(maxText))
	case body.binary:
		fmt.Fprintf(out, "Binary files %s and %s differ\n", old, new)
	case len(body.hunks) > 0:
		out.WriteString(d.app.paint.Paint(term.Strong, "--- "+tabbed(old)) + "\n" + d.app.paint.Paint(term.Strong, "+++ "+tabbed(new)) + "\n")
		d.app.formatHunks(out, body.hunks)
	}
	return nil
}

// tabbed ends a name that has a space in it, as git does, so that patch(1) knows where it ends.
func tabbed(name string) string {
	for i := range len(name) {
		if name[i] == ' ' {
			return name + "\t"
		}
	}
	return name
}

// formatHunks writes hunks in the unified format. The lines of the files go out as they are into a pipe or file, so that patch(1) can read them; a terminal is
// spared their control characters.
func (a *app) formatHunks(b *bytes.Buffer, hunks []textdiff.Hunk) {
	styles := map[string]term.Style{"+": term.Added, "-": term.Gone, " ": term.Plain}
	for i := range hunks {
		b.WriteString(a.paint.Paint(term.Place, hunks[i].Header()) + "\n")
		for _, l := range hunks[i].Lines {
			text := l.Op + l.Text
			if a.terminal {
				text = l.Op + term.CleanLine(l.Text)
			}
			b.WriteString(a.paint.Paint(styles[l.Op], text) + "\n")
			if l.NoEnd {
				b.WriteString("\\ No newline at end of file\n")
			}
		}
	}
}

// hunkJSON is a hunk in the JSON, which can hold bytes that are not UTF-8 in base64 alone.
type hunkJSON struct {
	OldStart int        `json:"old_start"`
	OldLines int        `json:"old_lines"`
	NewStart int        `json:"new_start"`
	NewLines int        `json:"new_lines"`
	Lines    []lineJSON `json:"lines"`
}

type lineJSON struct {
	Op     string  `json:"op"`
	Text   *string `json:"text,omitempty"`   // where it is UTF-8
	Base64 *string `json:"base64,omitempty"` // where it is not
	NoEnd  bool    `json:"no_end,omitempty"`
}

func hunksJSON(hunks []textdiff.Hunk) []hunkJSON {
	out := make([]hunkJSON, 0, len(hunks))
	for _, h := range hunks {
		j := hunkJSON{h.OldStart, h.OldLines, h.NewStart, h.NewLines, make([]lineJSON, 0, len(h.Lines))}
		for _, l := range h.Lines {
			line := lineJSON{Op: l.Op, NoEnd: l.NoEnd}
			if utf8.ValidString(l.Text) {
				line.Text = &l.Text
			} else {
				s := base64.StdEncoding.EncodeToString([]byte(l.Text))
				line.Base64 = &s
			}
			j.Lines = append(j.Lines, line)
		}
		out = append(out, j)
	}
	return out
}

// entryJSON is one side of a change.
type entryJSON struct {
	Type   string `json:"type"`
	Mode   string `json:"mode"`
	UID    uint32 `json:"uid"`
	GID    uint32 `json:"gid"`
	Size   int64  `json:"size"`
	Mtime  string `json:"mtime"`
	Target string `json:"target,omitempty"`
}

func entryOf(e *treediff.Entry) *entryJSON {
	if e == nil {
		return nil
	}
	return &entryJSON{kindName(e), fmt.Sprintf("%04o", e.Mode&0o7777), e.UID, e.GID, e.Size, timeOf(e).Format(time.RFC3339Nano), e.Target}
}

// changeJSON is a change in the JSON.
type changeJSON struct {
	Op     string     `json:"op"` // git's letters: A, D, M, T, R
	Path   string     `json:"path"`
	From   string     `json:"from,omitempty"`
	Score  int        `json:"score,omitempty"`
	What   []string   `json:"what"`
	Old    *entryJSON `json:"old"`
	New    *entryJSON `json:"new"`
	Binary bool       `json:"binary"`
	Large  bool       `json:"large"`
	Hunks  []hunkJSON `json:"hunks"`
}

// problemJSON is a path that could not be read.
type problemJSON struct {
	Path  string `json:"path"`
	Error string `json:"error"`
}

func problemsOf(all []treediff.Problem) []problemJSON {
	out := make([]problemJSON, 0, len(all))
	for _, p := range all {
		out = append(out, problemJSON{p.Path, message(p.Err)})
	}
	return out
}

func (d *treeDiff) writeJSON(ctx context.Context, changes []treediff.Change) error {
	result := struct {
		Old      sideJSON      `json:"old"`
		New      sideJSON      `json:"new"`
		Equal    bool          `json:"equal"`
		Changes  []changeJSON  `json:"changes"`
		Problems []problemJSON `json:"problems"`
	}{dirOf(d.old), dirOf(d.new), len(changes) == 0, []changeJSON{}, problemsOf(d.result.Problems)}
	for i := range changes {
		if ctx.Err() != nil {
			return treeError(ctx.Err(), d.new.Name())
		}
		c := &changes[i]
		j := changeJSON{Op: letter(c)[:1], Path: c.Path, From: c.From, Score: c.Score, What: c.What.Names(), Old: entryOf(c.Old), New: entryOf(c.New), Hunks: []hunkJSON{}}
		if !d.style.stat && !d.style.nameStatus {
			b, err := d.body(c, d.style.around)
			if err != nil {
				return err
			}
			j.Binary, j.Large, j.Hunks = b.binary, b.large, hunksJSON(b.hunks)
		}
		result.Changes = append(result.Changes, j)
	}
	return d.app.writeJSON(result)
}
