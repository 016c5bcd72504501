package main

import (
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sharefs"
	"sharefs/internal/client"
	"sharefs/internal/term"
	"sharefs/peers/report"
)

// number is a flag for a count of at least 1.
type number struct {
	n   uint64
	set bool
}

func (n *number) String() string {
	if !n.set {
		return ""
	}
	return strconv.FormatUint(n.n, 10)
}

func (n *number) Type() string { return "N" }

func (n *number) Set(s string) error {
	v, err := strconv.ParseUint(s, 10, 63)
	if err != nil || v == 0 {
		return fmt.Errorf("takes a number from 1, not %s", term.Quote(s))
	}
	n.n, n.set = v, true
	return nil
}

func (a *app) log() *cobra.Command {
	var last number
	var reverse, patch bool
	context := around(3)
	cmd := &cobra.Command{
		Use:   "log PATH",
		Short: "List the versions of a file, or when a directory changed, newest first",
		Long: `List the versions of a file, newest first, or when the names in a directory or
its attributes changed.

Each line is one version: its number, when it settled (the file had been closed
and quiet for a moment), its size, by how much it is larger or smaller than the
version before, where hosts share the file which of them wrote it, marks, and
the note that "sharefs commit" gave it. Marks:

  live   The file holds this version now
  open   Taken while a program still had the file open: a state between saves

With -p each version is followed by what it changed, and of a directory all
names that changed are listed; DIR@@TIME is how it was after that.`,
		Args:              exactly("PATH"),
		ValidArgsFunction: completeFiles,
		RunE: func(_ *cobra.Command, args []string) error {
			if client.IsDir(args[0]) {
				d, err := client.OpenDir(args[0])
				if err != nil {
					return err
				}
				return a.logDir(d, last, reverse, patch)
			}
			write := func(f *client.File, h *client.History, all []logLine) error {
				nameAuthors(f.Mount, all)
				return a.writeLog(f, h, all)
			}
			if patch {
				if a.json {
					return usage("--patch is for people; --json has all versions, and diff --json what changed")
				}
				write = func(f *client.File, h *client.History, all []logLine) error {
					nameAuthors(f.Mount, all)
					return a.writePatches(f, h, all, int(context))
				}
			}
			f, err := client.Open(args[0])
			if err != nil {
				return err
			}
			h, err := f.History()
			if err != nil {
				return err
			}
			if f.Select != "" {
				v, err := f.Version(h)
				if err != nil {
					return err
				}
				return write(f, h, lines(h.Versions, func(x *client.Version) bool { return x.Number == v.Number }))
			}
			all := lines(h.Versions, func(*client.Version) bool { return true })
			if last.set && last.n < uint64(len(all)) {
				all = all[uint64(len(all))-last.n:]
			}
			if !reverse {
				slices.Reverse(all)
			}
			return write(f, h, all)
		},
	}
	cmd.Flags().VarP(&last, "number", "n", "Show the newest `N` versions only")
	alsoShort(cmd, "number", "N")
	cmd.Flags().BoolVarP(&patch, "patch", "p", false, "Show what each version changed")
	cmd.Flags().VarP(&context, "unified", "U", "With --patch, show `N` unchanged lines around each change")
	cmd.Flags().BoolVar(&reverse, "reverse", false, "Show the oldest version first")
	return cmd
}

// logLine is one version in the log.
type logLine struct {
	Number  uint64 `json:"number"`
	Time    string `json:"time"` // RFC 3339, the same digits as in the text
	Size    uint64 `json:"size"`
	Change  int64  `json:"change"` // bytes more than the version before
	Mode    string `json:"mode"`
	UID     uint32 `json:"uid"`
	GID     uint32 `json:"gid"`
	Mtime   string `json:"mtime"`
	Live    bool   `json:"live"`
	Open    bool   `json:"open"`    // taken while a program still had the file open
	Torn    bool   `json:"torn"`    // and written to meanwhile: it may be a mixture of several moments
	Damaged bool   `json:"damaged"` // a part of its content is lost, as fsck found
	Note    string `json:"note"`
	Author  string `json:"author,omitempty"` // the host that wrote it: "here", or what it is called here
	By      string `json:"author_id,omitempty"`
	at      time.Time
}

// lines makes the lines of those versions that want picks.
func lines(versions []client.Version, want func(*client.Version) bool) []logLine {
	out := make([]logLine, 0, len(versions))
	var before uint64
	for i := range versions {
		v := &versions[i]
		if want(v) {
			out = append(out, logLine{
				Number: v.Number, Time: v.Time.Local().Format(term.JSONTimeLayout), Size: v.Size, Change: int64(v.Size - before), Mode: v.Mode,
				UID: v.UID, GID: v.GID, Mtime: v.Mtime.Local().Format(time.RFC3339Nano), Live: v.Live, Open: v.Timed, Torn: v.Torn, Damaged: v.Damaged, Note: v.Note, By: v.Author, at: v.Time,
			})
		}
		before = v.Size
	}
	return out
}

// nameAuthors says of each version which host wrote it.
func nameAuthors(m *client.Mount, all []logLine) {
	names := map[string]string{}
	var name func(sharefs.PeerID) string
	for i := range all {
		l := &all[i]
		key, err := hex.DecodeString(l.By)
		if l.By = ""; err != nil || len(key) != len(sharefs.PeerID{}) {
			continue
		}
		id := sharefs.PeerID(key)
		l.By = id.String()
		if names[l.By] == "" {
			if name == nil {
				name = m.Authors()
			}
			names[l.By] = name(id)
		}
		l.Author = names[l.By]
	}
}

// foreign reports whether any of some versions is by another host: where all are of this one, that is not said.
func foreign(all []logLine) bool {
	return slices.ContainsFunc(all, func(l logLine) bool { return l.Author != "" && l.Author != report.Here })
}

func (a *app) writeLog(f *client.File, h *client.History, all []logLine) error {
	now, moved := f.Elsewhere(h)
	if a.json {
		return a.writeJSON(struct {
			File     string    `json:"file"`
			FileID   string    `json:"file_id"`
			Removed  bool      `json:"removed"` // no file has the name now
			Moved    bool      `json:"moved"`   // the one that had it lives on under another one
			Now      string    `json:"now"`     // that name, where it is in the same directory
			Changed  bool      `json:"changed"` // the live content is none of the versions
			Versions []logLine `json:"versions"`
		}{f.Path, h.FileID, !f.Live, moved, now, f.Live && h.Live == 0, all})
	}
	if len(h.Versions) == 0 {
		return a.printf("%s has no versions yet: one is made when it is closed and has been quiet for a moment.\n", term.Quote(f.Given))
	}
	if head := logHead(f, h, now, moved); head != "" {
		if err := a.printf("%s\n", head); err != nil {
			return err
		}
	}
	return a.writeTable(all)
}

// logHead says what the versions do not tell of the file, if there is anything.
func logHead(f *client.File, h *client.History, now string, moved bool) string {
	name := term.Quote(f.Given)
	restore := "sharefs restore " + term.Quote(fmt.Sprintf("%s@@%d", f.Given, h.Versions[len(h.Versions)-1].Number))
	switch {
	case moved && now != "":
		return fmt.Sprintf("%s is called %s now; %s makes a copy under the old name.", name, term.Quote(filepath.Join(filepath.Dir(f.Given), filepath.Base(now))), restore)
	case moved:
		return fmt.Sprintf("%s was moved to another directory (find %s -inum %d); %s makes a copy under the old name.", name, term.Quote(f.Mount.Point), h.Inode, restore)
	case !f.Live:
		return fmt.Sprintf("%s is removed; %s brings it back.", name, restore)
	case h.Live == 0:
		return fmt.Sprintf("%s has changed since its last version.", name)
	}
	return ""
}

// writeTable aligns the columns; no line ends in blanks.
func (a *app) writeTable(all []logLine) error {
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	by := foreign(all)
	column := func(text string) string { // where it is wanted
		if !by {
			return ""
		}
		return text + "\t"
	}
	fmt.Fprintln(w, "VERSION\tSETTLED\tSIZE\tCHANGE\t"+column("BY")+"MARK\tNOTE")
	for i := range all {
		l := &all[i]
		var marks []string
		if l.Live {
			marks = append(marks, "live")
		}
		if l.Open {
			marks = append(marks, "open")
		}
		if l.Torn {
			marks = append(marks, "torn")
		}
		if l.Damaged {
			marks = append(marks, "damaged")
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s%s\t%s\n", l.Number, term.Time(l.at), term.Size(l.Size), change(l.Change), column(term.Clean(l.Author)), strings.Join(marks, ", "), term.Clean(l.Note))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	var out strings.Builder
	for line := range strings.Lines(table.String()) {
		out.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return a.printf("%s", out.String())
}

// change is a difference of sizes with its sign.
func change(by int64) string {
	switch {
	case by == 0:
		return "="
	case by < 0:
		return "-" + term.Size(uint64(-by))
	}
	return "+" + term.Size(uint64(by))
}
