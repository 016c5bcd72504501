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

// context is the flag for lines around a change.
type context int

func (c *context) String() string { return strconv.Itoa(int(*c)) }
func (c *context) Type() string   { return "N" }

func (c *context) Set(s string) error {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return fmt.Errorf("takes a number from 0, not %s", term.Quote(s))
	}
	*c = context(n)
	return nil
}

func (a *app) diff() *cobra.Command {
	around := context(3)
	cmd := &cobra.Command{
		Use:   "diff FILE[@@N] [FILE[@@N]]",
		Short: "Show what changed between versions",
		Long: `Show what changed between versions, in the unified format of diff.

  sharefs diff FILE               The last change: from the version before until now
  sharefs diff FILE@@3            From version 3 until now
  sharefs diff FILE@@3 FILE@@5    From version 3 to version 5

Exit status: 0 equal, 1 different, 2 trouble.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("FILE is missing")
			}
			if len(args) > 2 {
				return usage("too many arguments: %s", term.Quote(args[2]))
			}
			return nil
		},
		ValidArgsFunction: completeFiles,
		RunE: func(_ *cobra.Command, args []string) error {
			old, new, err := sides(args)
			if err != nil {
				return err
			}
			return a.writeDiff(old, new, int(around))
		},
	}
	cmd.Flags().VarP(&around, "unified", "U", "Show `N` unchanged lines around each change")
	return cmd
}

// sides says what is compared with what.
func sides(args []string) (old, new side, err error) {
	if len(args) == 2 {
		if old, err = openSide(args[0]); err == nil {
			new, err = openSide(args[1])
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
	if f.Select != "" {
		v, err := f.Version(h)
		if err != nil {
			return old, new, err
		}
		old = side{f, v.Number}
		if !f.Live { // against what it held last
			return old, side{f, h.Versions[len(h.Versions)-1].Number}, nil
		}
		return old, side{f, 0}, nil
	}
	n := len(h.Versions)
	switch {
	case n == 0:
		return old, new, &sharefs.Error{Path: f.Name(), Kind: sharefs.KindNotExist, Detail: "has no versions yet to compare with"}
	case f.Live && h.Live == 0: // changed since the last version
		return side{f, h.Versions[n-1].Number}, side{f, 0}, nil
	case n == 1:
		return old, new, &sharefs.Error{Path: f.Name(), Kind: sharefs.KindNotExist, Detail: "has one version only, and has not changed since"}
	}
	last := h.Versions[n-1].Number
	if h.Live != 0 {
		last = h.Live
	}
	before := h.Versions[0].Number
	for i := range h.Versions {
		if h.Versions[i].Number < last {
			before = h.Versions[i].Number
		}
	}
	return side{f, before}, side{f, last}, nil
}

// title names a side in the diff's head: file, version, time.
func (s side) title(h *client.History) (name string, at time.Time) {
	if s.number == 0 {
		info, err := s.file.Info()
		if err == nil {
			at = info.ModTime()
		}
		return s.file.Given, at
	}
	for i := range h.Versions {
		if v := &h.Versions[i]; v.Number == s.number {
			at = v.Time
		}
	}
	return fmt.Sprintf("%s@@%d", s.file.Given, s.number), at
}

// text reads a side; large tells that there is more than can be compared as text.
func (s side) text() (text []byte, large bool, err error) {
	r, err := s.file.Content(s.number)
	if err != nil {
		return nil, false, err
	}
	defer r.Close()
	text, err = io.ReadAll(io.LimitReader(r, maxText+1))
	return text, len(text) > maxText, readError(s, err)
}

// isBinary is git's rule: a zero byte within the first 8000.
func isBinary(text []byte) bool { return bytes.IndexByte(text[:min(len(text), 8000)], 0) >= 0 }

// sideJSON is one side in the JSON.
type sideJSON struct {
	Name    string `json:"name"`
	Version uint64 `json:"version"` // 0: the live content
	Time    string `json:"time"`
}

func (a *app) writeDiff(old, new side, around int) error {
	var heads [2]sideJSON
	var times [2]time.Time
	for i, s := range []side{old, new} {
		h, err := s.file.History()
		if err != nil {
			return err
		}
		name, at := s.title(h)
		heads[i], times[i] = sideJSON{name, s.number, at.Local().Format(term.JSONTimeLayout)}, at
	}
	result := struct {
		Old    sideJSON        `json:"old"`
		New    sideJSON        `json:"new"`
		Equal  bool            `json:"equal"`
		Binary bool            `json:"binary"` // or too large: compared byte by byte, without hunks
		Hunks  []textdiff.Hunk `json:"hunks"`
	}{Old: heads[0], New: heads[1], Hunks: []textdiff.Hunk{}}

	a1, large1, err := old.text()
	if err != nil {
		return err
	}
	b1, large2, err := new.text()
	if err != nil {
		return err
	}
	switch {
	case large1 || large2:
		result.Binary = true
		if result.Equal, err = equalContent(old, new); err != nil {
			return err
		}
	case bytes.Equal(a1, b1):
		result.Equal = true
	case isBinary(a1) || isBinary(b1):
		result.Binary = true
	default:
		result.Hunks = textdiff.Diff(string(a1), string(b1), around)
	}
	if !result.Equal {
		a.exit = exitFailed
	}
	if a.json {
		return a.writeJSON(result)
	}
	switch {
	case result.Equal:
		return nil
	case result.Binary:
		return a.printf("Binary files %s and %s differ\n", term.Quote(heads[0].Name), term.Quote(heads[1].Name))
	}
	return a.writeHunks(heads, times, result.Hunks)
}

// writeHunks writes the unified format. The lines of the files go out as they are into a pipe or file, so that patch(1) can read
// them; a terminal is spared their control characters.
func (a *app) writeHunks(heads [2]sideJSON, times [2]time.Time, hunks []textdiff.Hunk) error {
	var b bytes.Buffer
	for i, mark := range []string{"---", "+++"} {
		b.WriteString(a.paint.Paint(term.Strong, fmt.Sprintf("%s %s\t%s", mark, term.Clean(heads[i].Name), term.Time(times[i]))) + "\n")
	}
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
	_, err := a.out.Write(b.Bytes())
	return err
}

// equalContent compares two sides of any size.
func equalContent(a, b side) (bool, error) {
	x, err := a.file.Content(a.number)
	if err != nil {
		return false, err
	}
	defer x.Close()
	y, err := b.file.Content(b.number)
	if err != nil {
		return false, err
	}
	defer y.Close()
	p, q := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		n, err1 := io.ReadFull(x, p)
		m, err2 := io.ReadFull(y, q)
		if n != m || !bytes.Equal(p[:n], q[:m]) {
			return false, nil
		}
		for i, err := range []error{err1, err2} {
			if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
				return false, readError([]side{a, b}[i], err)
			}
		}
		if err1 != nil || err2 != nil {
			return (err1 != nil) == (err2 != nil), nil
		}
	}
}
