package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/internal/client"
	"sharefs/internal/term"
	"sharefs/internal/textdiff"
	"sharefs/internal/treediff"
)

// diffStyle is how differences of trees are written.
type diffStyle struct {
	around     int
	stat       bool // a line for each file with how many lines came and went
	nameStatus bool // a letter and the path
	times      bool // what differs in nothing but times counts
}

// treeSides says which directories are compared.
func treeSides(args []string) (old, new *client.Dir, err error) {
	if old, err = client.OpenDir(args[0]); err != nil {
		return nil, nil, err
	}
	if len(args) == 2 {
		new, err = client.OpenDir(args[1])
		return old, new, err
	}
	if old.Select == "" {
		return nil, nil, usage("no time is named: it goes behind @@, as in %s", term.Quote(old.Given+"@@yesterday"))
	}
	if !old.Live {
		return nil, nil, &sharefs.Error{Path: term.Quote(old.Given), Kind: sharefs.KindNotExist,
			Detail: "is removed; sharefs restore " + old.Name() + " brings it back"}
	}
	new, err = client.OpenDir(old.Path)
	if err == nil {
		new.Given = old.Given
	}
	return old, new, err
}

// treeDiff is a comparison of trees that is being written.
type treeDiff struct {
	app      *app
	old, new *client.Dir
	style    diffStyle
	result   *treediff.Result
	fds      [2]int
}

// diffTrees compares two directories, each as it is or was.
func (a *app) diffTrees(args []string, style diffStyle) error {
	old, new, err := treeSides(args)
	if err != nil {
		return err
	}
	d := &treeDiff{app: a, old: old, new: new, style: style}
	ctx, progress, end := longTask()
	defer end()
	x, y := client.Sides(old, new)
	d.result, err = treediff.Compare(ctx, x, y, treediff.Options{
		Renames: treediff.ByContent, Implied: !a.json && !style.stat && !style.nameStatus, // a patch is for programs that know no directories
		Progress: func(n uint64) { progress.Show("comparing", n, 0, "entries") },
	})
	progress.End()
	if err != nil {
		return treeError(err, old.Name())
	}
	for i, dir := range []*client.Dir{old, new} {
		if d.fds[i], err = unix.Open(dir.Reach, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			return client.PathError("", dir.Name(), err)
		}
		defer unix.Close(d.fds[i])
	}
	if err := d.write(ctx); err != nil {
		return err
	}
	return a.problems(d.result.Problems, d.result.Foreign, old, new)
}

// treeError names the directory where an error of a comparison does not.
func treeError(err error, name string) error {
	if err == context.Canceled {
		return &sharefs.Error{Path: name, Kind: sharefs.KindAgain, Detail: "interrupted"}
	}
	return err
}

// problems writes what could not be read to standard error; the exit status tells that there was trouble.
func (a *app) problems(all []treediff.Problem, foreign []string, old, new *client.Dir) error {
	for _, p := range foreign {
		fmt.Fprintf(os.Stderr, "sharefs: %s: another filesystem is mounted there; it is left out\n", term.Quote(filepath.Join(new.Given, p)))
	}
	for _, p := range all {
		dir := new
		if p.Old {
			dir = old
		}
		name := filepath.Join(dir.Given, p.Path)
		if dir.Select != "" {
			name += " @@" + dir.Select
		}
		fmt.Fprintln(os.Stderr, "sharefs: "+message(client.PathError("read", name, p.Err)))
	}
	if len(all) > 0 {
		a.exit = exitUsage
	}
	return nil
}

// counts reports whether a change is to be told.
func (d *treeDiff) counts(c *treediff.Change) bool {
	if c.Op != treediff.Changed {
		return true
	}
	what := c.What
	if !d.style.times {
		what &^= treediff.Times
	}
	return what != 0
}

func (d *treeDiff) write(ctx context.Context) error {
	var changes []treediff.Change
	for _, c := range d.result.Changes {
		if d.counts(&c) {
			changes = append(changes, c)
		}
	}
	if len(changes) > 0 {
		d.app.exit = exitFailed
	}
	switch {
	case d.app.json:
		return d.writeJSON(ctx, changes)
	case d.style.nameStatus:
		return d.writeNames(changes)
	case d.style.stat:
		return d.writeStat(ctx, changes)
	}
	for i := range changes {
		if ctx.Err() != nil {
			return treeError(ctx.Err(), d.new.Name())
		}
		if err := d.writePatch(&changes[i]); err != nil {
			return err
		}
	}
	return nil
}

// shown is a path as it is written: directories end in a slash.
func shown(p string, e *treediff.Entry) string {
	if e != nil && e.IsDir() && p != "." {
		p += "/"
	}
	return p
}

// letter is the operation as git writes it.
func letter(c *treediff.Change) string {
	switch {
	case c.Op == treediff.Renamed:
		return fmt.Sprintf("R%03d", c.Score)
	case c.What&treediff.Type != 0:
		return "T"
	}
	return string(c.Op)
}

// writeNames writes a line for each change: the letter, a tab and the path, and of what moved the old path before it. Paths with odd characters are
// quoted, so that each line is one change.
func (d *treeDiff) writeNames(changes []treediff.Change) error {
	for i := range changes {
		c := &changes[i]
		e := c.New
		if e == nil {
			e = c.Old
		}
		line := letter(c) + "\t"
		if c.Op == treediff.Renamed {
			line += gitName("", shown(c.From, c.Old)) + "\t"
		}
		line += gitName("", shown(c.Path, e))
		if what := c.What &^ treediff.Type; c.Op != treediff.Removed && what&^(treediff.Content|treediff.Times) != 0 {
			line += "\t(" + what.String() + ")"
		}
		if err := d.app.printf("%s\n", line); err != nil {
			return err
		}
	}
	return nil
}

// gitName quotes a path as git does (core.quotePath=false): in double quotes, with the escapes of C, where a character of it would break the line or is none.
func gitName(prefix, p string) string {
	odd := strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f || r == '"' || r == '\\' || r == '\uFFFD' })
	if !odd && term.Clean(p) == p {
		return prefix + p
	}
	var b strings.Builder
	b.WriteString(`"` + prefix)
	for i := 0; i < len(p); i++ {
		switch c := p[i]; {
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\t':
			b.WriteString(`\t`)
		case c == '"' || c == '\\':
			b.WriteString(`\` + string(c))
		case c < ' ' || c >= 0x7f:
			fmt.Fprintf(&b, `\%03o`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String() + `"`
}

// body is what differs in the content of a change: hunks, or why there are none.
type body struct {
	hunks         []textdiff.Hunk
	binary, large bool
	added, gone   int // lines
}

// texts reads both sides of a change: of a symbolic link its target, as git does; nothing of what is not there.
func (d *treeDiff) body(c *treediff.Change, around int) (b body, err error) {
	if c.Op == treediff.Renamed && c.What&(treediff.Content|treediff.Target|treediff.Type) == 0 ||
		c.Op == treediff.Changed && c.What&(treediff.Content|treediff.Target|treediff.Type) == 0 {
		return b, nil
	}
	from := c.Path
	if c.Old != nil { // below a directory that was renamed it is another one
		from = c.Old.Path
	}
	old, large1, err := d.side(0, from, c.Old)
	if err != nil {
		return b, err
	}
	new, large2, err := d.side(1, c.Path, c.New)
	if err != nil {
		return b, err
	}
	b.large, b.binary = large1 || large2, isBinary(old) || isBinary(new)
	if !b.large && !b.binary {
		b.hunks = textdiff.Diff(string(old), string(new), around)
	}
	for i := range b.hunks {
		for _, l := range b.hunks[i].Lines {
			switch l.Op {
			case "+":
				b.added++
			case "-":
				b.gone++
			}
		}
	}
	return b, nil
}

// side reads what one side of a change holds.
func (d *treeDiff) side(i int, p string, e *treediff.Entry) (text []byte, large bool, err error) {
	if e == nil {
		return nil, false, nil
	}
	switch e.Type() {
	case unix.S_IFLNK:
		return []byte(e.Target), false, nil
	case unix.S_IFREG:
		if e.Size > maxText {
			return nil, true, nil
		}
	default:
		return nil, false, nil
	}
	dir := d.old
	if i == 1 {
		dir = d.new
	}
	name := filepath.Join(dir.Given, p)
	fd, err := treediff.Open(d.fds[i], p, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, false, client.PathError("read", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	text, err = io.ReadAll(io.LimitReader(f, maxText+1))
	if err != nil {
		return nil, false, client.PathError("read", name, err)
	}
	return text, len(text) > maxText, nil
}

// writeStat writes a line for each change with how many lines it adds and takes away, and their sum.
func (d *treeDiff) writeStat(ctx context.Context, changes []treediff.Change) error {
	type line struct {
		name, what  string
		added, gone int
	}
	var all []line
	width, most, added, gone := 0, 1, 0, 0
	for i := range changes {
		if ctx.Err() != nil {
			return treeError(ctx.Err(), d.new.Name())
		}
		c := &changes[i]
		e := c.New
		if e == nil {
			e = c.Old
		}
		name := shown(c.Path, e)
		if c.Op == treediff.Renamed {
			name = shown(c.From, e) + " => " + name
		}
		l := line{name: term.Clean(name)}
		b, err := d.body(c, 0)
		if err != nil {
			return err
		}
		switch {
		case b.binary || b.large:
			l.what = "Bin " + sizeOf(c.Old) + " -> " + sizeOf(c.New)
		case b.added+b.gone > 0:
			l.added, l.gone = b.added, b.gone
		case c.Op == treediff.Added:
			l.what = "added"
		case c.Op == treediff.Removed:
			l.what = "removed"
		case c.Op == treediff.Renamed && c.What&^treediff.Times == 0:
			l.what = "moved"
		default:
			l.what = c.What.String()
		}
		all = append(all, l)
		width, most = max(width, len([]rune(l.name))), max(most, b.added+b.gone)
		added, gone = added+b.added, gone+b.gone
	}
	for _, l := range all {
		what := l.what
		if what == "" {
			scale := func(n int) int {
				if most > 50 && n > 0 {
					return max(1, n*50/most)
				}
				return n
			}
			what = fmt.Sprintf("%d ", l.added+l.gone) + d.app.paint.Paint(term.Added, strings.Repeat("+", scale(l.added))) +
				d.app.paint.Paint(term.Gone, strings.Repeat("-", scale(l.gone)))
		}
		if err := d.app.printf(" %s%s | %s\n", l.name, strings.Repeat(" ", width-len([]rune(l.name))), what); err != nil {
			return err
		}
	}
	if len(all) == 0 {
		return nil
	}
	return d.app.printf(" %s changed, %s added, %s removed\n", term.Of(uint64(len(all)), "path"), term.Of(uint64(added), "line"), term.Of(uint64(gone), "line"))
}

func sizeOf(e *treediff.Entry) string {
	if e == nil {
		return "0 B"
	}
	return term.Size(uint64(e.Size))
}
