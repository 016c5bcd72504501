package main

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"sharefs"
	"sharefs/internal/client"
	"sharefs/internal/term"
	"sharefs/internal/textdiff"
)

// maxText is the size up to which two versions are compared as text, in bytes.
const maxText = 32 << 20

// around is the flag for unchanged lines around a change.
type around int

func (n *around) String() string { return strconv.Itoa(int(*n)) }
func (n *around) Type() string   { return "N" }

func (n *around) Set(s string) error {
	v, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return fmt.Errorf("takes a number from 0, not %s", term.Quote(s))
	}
	*n = around(v)
	return nil
}

func (a *app) diff() *cobra.Command {
	context := around(3)
	var style diffStyle
	cmd := &cobra.Command{
		Use:   "diff PATH[@@N] [PATH[@@N]]",
		Short: "Show what changed between versions, or between two times of a directory",
		Long: `Show what changed between versions of a file, in the unified format of diff, or
between two times of a directory and all that is in it, as git does.

  sharefs diff FILE                  The last change: from the version before until now
  sharefs diff FILE@@3               From version 3 until now
  sharefs diff FILE@@3 FILE@@5       From version 3 to version 5
  sharefs diff .@@yesterday          From yesterday's end until now, in this directory
  sharefs diff DIR@@-2h DIR@@-1h     Between two times; a tag may stand for a time

What moved in a directory is found. patch -p1 and git apply read what is written.
Times of change alone do not count, unless --times is given.

Exit status: 0 equal, 1 different, 2 trouble.`,
		Args:              between(2, "PATH"),
		ValidArgsFunction: completeFiles,
		RunE: func(_ *cobra.Command, args []string) error {
			style.around = int(context)
			if style.stat && style.nameStatus {
				return usage("--stat and --name-status exclude each other")
			}
			for _, arg := range args {
				if client.IsDir(arg) {
					return a.diffTrees(args, style)
				}
			}
			if style.stat || style.nameStatus || style.times {
				return usage("--stat, --name-status and --times are for directories")
			}
			old, new, err := sides(args)
			if err != nil {
				return err
			}
			return a.writeDiff(old, new, int(context))
		},
	}
	cmd.Flags().VarP(&context, "unified", "U", "Show `N` unchanged lines around each change")
	cmd.Flags().BoolVar(&style.stat, "stat", false, "Of a directory: show how many lines changed in each file")
	cmd.Flags().BoolVar(&style.nameStatus, "name-status", false, "Of a directory: show names and what happened to them only")
	cmd.Flags().BoolVar(&style.times, "times", false, "Of a directory: show what differs in its time of change alone, too")
	return cmd
}

// sides says what is compared with what.
func sides(args []string) (old, new client.Point, err error) {
	if len(args) == 2 { // each may be a file that lies in no mount
		side := func(arg string) (client.Point, error) {
			if p, ok := client.Plain(arg); ok {
				return p, nil
			}
			_, p, err := find(arg)
			return p, err
		}
		if old, err = side(args[0]); err == nil {
			new, err = side(args[1])
		}
		return old, new, err
	}
	f, err := client.Open(args[0])
	if err != nil {
		return old, new, err
	}
	h, err := f.History()
	if err != nil {
		return old, new, err
	}
	n := len(h.Versions)
	now := func() (client.Point, error) {
		if !f.Live { // what it held last
			return f.At(&h.Versions[n-1]), nil
		}
		return f.Now()
	}
	if f.Select != "" {
		if old, err = f.Selected(); err == nil {
			new, err = now()
		}
		return old, new, err
	}
	switch {
	case n == 0:
		return old, new, &sharefs.Error{Path: f.Name(), Kind: sharefs.KindNotExist, Detail: "has no versions yet to compare with"}
	case f.Live && h.Live == 0: // changed since the last version
		new, err = f.Now()
		return f.At(&h.Versions[n-1]), new, err
	case n == 1:
		return old, new, &sharefs.Error{Path: f.Name(), Kind: sharefs.KindNotExist, Detail: "has one version only, and has not changed since"}
	}
	return f.At(&h.Versions[n-2]), f.At(&h.Versions[n-1]), nil // no other one is ever live than the last
}

// text reads what a point holds; large tells that there is more than can be compared line by line.
func text(p client.Point) (text []byte, large bool, err error) {
	r, err := p.Open()
	if err != nil {
		return nil, false, err
	}
	defer r.Close()
	text, err = io.ReadAll(io.LimitReader(r, maxText+1))
	return text, len(text) > maxText, readError(p, err)
}

// isBinary is git's rule: a zero byte within the first 8000.
func isBinary(text []byte) bool { return bytes.IndexByte(text[:min(len(text), 8000)], 0) >= 0 }

// sideJSON is one side in the JSON.
type sideJSON struct {
	Name    string `json:"name"`
	Version uint64 `json:"version"` // 0: the live content
	Time    string `json:"time"`
}

func sideOf(p client.Point) sideJSON {
	return sideJSON{p.Name, p.Number, p.Time.Local().Format(term.JSONTimeLayout)}
}

// dirOf is a directory as a side; its time is now where it is as it is.
func dirOf(d *client.Dir) sideJSON {
	name, at := d.Given, d.Time
	if d.Select != "" {
		name += "@@" + d.Select
	}
	if at.IsZero() {
		at = time.Now()
	}
	return sideJSON{Name: name, Time: at.Local().Format(term.JSONTimeLayout)}
}

func (a *app) writeDiff(old, new client.Point, around int) error {
	result := struct {
		Old    sideJSON   `json:"old"`
		New    sideJSON   `json:"new"`
		Equal  bool       `json:"equal"`
		Binary bool       `json:"binary"` // no text: compared byte by byte, without hunks
		Large  bool       `json:"large"`  // too large to be compared line by line: the same
		Hunks  []hunkJSON `json:"hunks"`
	}{Old: sideOf(old), New: sideOf(new)}
	var hunks []textdiff.Hunk

	text1, large1, err := text(old)
	if err != nil {
		return err
	}
	text2, large2, err := text(new)
	if err != nil {
		return err
	}
	result.Binary = isBinary(text1) || isBinary(text2)
	result.Large = large1 || large2
	switch {
	case result.Large:
		if result.Equal, err = equalContent(old, new); err != nil {
			return err
		}
	case bytes.Equal(text1, text2):
		result.Equal = true
	case !result.Binary:
		hunks = textdiff.Diff(string(text1), string(text2), around)
	}
	if !result.Equal {
		a.exit = exitFailed
	}
	if a.json {
		result.Hunks = hunksJSON(hunks)
		return a.writeJSON(result)
	}
	names := term.Quote(old.Name) + " and " + term.Quote(new.Name)
	switch {
	case result.Equal:
		return nil
	case result.Binary:
		return a.printf("Binary files %s differ\n", names)
	case result.Large:
		return a.printf("%s differ; more than %s are not compared line by line, but diff(1) can\n", names, term.Size(maxText))
	}
	return a.writeHunks(old, new, hunks)
}

// writeHunks writes the unified format.
func (a *app) writeHunks(old, new client.Point, hunks []textdiff.Hunk) error {
	var b bytes.Buffer
	head := func(mark string, p client.Point) {
		line := mark + " " + term.Clean(p.Name)
		if !p.Time.IsZero() {
			line += "\t" + term.Time(p.Time)
		}
		b.WriteString(a.paint.Paint(term.Strong, line) + "\n")
	}
	head("---", old)
	head("+++", new)
	a.formatHunks(&b, hunks)
	_, err := a.out.Write(b.Bytes())
	return err
}

// equalContent compares two points of any size.
func equalContent(a, b client.Point) (bool, error) {
	x, err := a.Open()
	if err != nil {
		return false, err
	}
	defer x.Close()
	y, err := b.Open()
	if err != nil {
		return false, err
	}
	defer y.Close()
	buf1, buf2 := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		n, end1, err := fill(x, buf1)
		if err != nil {
			return false, readError(a, err)
		}
		m, end2, err := fill(y, buf2)
		if err != nil {
			return false, readError(b, err)
		}
		if !bytes.Equal(buf1[:n], buf2[:m]) {
			return false, nil
		}
		if end1 || end2 {
			return end1 == end2, nil
		}
	}
}

// fill reads until the buffer is full, or to the end.
func fill(r io.Reader, buf []byte) (n int, end bool, err error) {
	n, err = io.ReadFull(r, buf)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return n, true, nil
	}
	return n, false, err
}
