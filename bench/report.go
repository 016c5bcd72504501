package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

const (
	beginMark = "<!-- bench: begin -->"
	endMark   = "<!-- bench: end -->"
)

// A gate is what a row of ShareFS is to reach against one of the others.
type gate struct {
	against string  // a subject's name; empty for an absolute figure
	atLeast float64 // times as fast as the other; or the figure itself
	atMost  float64 // times as long as the other; or the figure itself
}

type row struct {
	name    string
	unit    string
	higher  bool // higher figures are better
	gates   []gate
	figures map[string][]float64
}

type table struct {
	title string
	note  string
	names []string // of the subjects
	rows  []*row
}

type tables struct {
	names []string // of the subjects
	on    string   // said in each title, if anything
	all   []*table
}

func newTables(subjects []*subject, on string) *tables {
	t := &tables{on: on}
	for _, s := range subjects {
		t.names = append(t.names, s.name)
	}
	return t
}

func (t *tables) table(title, note string) *table {
	if t.on != "" {
		title += ", " + t.on
	}
	n := &table{title: title, note: note, names: t.names}
	t.all = append(t.all, n)
	return n
}

func (t *table) row(name, unit string, higher bool, gates ...gate) *row {
	for _, r := range t.rows {
		if r.name == name {
			return r
		}
	}
	r := &row{name: name, unit: unit, higher: higher, gates: gates, figures: map[string][]float64{}}
	t.rows = append(t.rows, r)
	return r
}

func (r *row) add(subject string, figure float64) {
	r.figures[subject] = append(r.figures[subject], figure)
	fmt.Fprintf(os.Stderr, "%s  %-28s %-9s %10.2f %s\n", time.Now().Format("15:04:05"), r.name, subject, figure, r.unit)
}

func (r *row) median(subject string) (float64, bool) {
	f := r.figures[subject]
	if len(f) == 0 {
		return 0, false
	}
	return median(f), true
}

// median returns the middle one of some figures, of which there is one at least.
func median(figures []float64) float64 {
	f := slices.Sorted(slices.Values(figures))
	if n := len(f); n%2 == 0 {
		return (f[n/2-1] + f[n/2]) / 2
	}
	return f[len(f)/2]
}

// verdict tells each gate with the ratio reached.
func (r *row) verdict() string {
	own, ok := r.median("ShareFS")
	if !ok {
		return ""
	}
	var said []string
	for _, g := range r.gates {
		got, what := own, r.unit
		if g.against != "" {
			other, ok := r.median(g.against)
			if !ok || other == 0 || own == 0 {
				continue
			}
			got, what = own/other, "× "+g.against
			if g.atLeast > 0 && !r.higher {
				got = other / own // a speed, from times
			}
		}
		goal, met := fmt.Sprintf("≥ %.4g", g.atLeast), got >= g.atLeast
		if g.atMost > 0 {
			goal, met = fmt.Sprintf("≤ %.4g", g.atMost), got <= g.atMost
		}
		mark := "met"
		if !met {
			mark = "**missed**"
		}
		said = append(said, fmt.Sprintf("%.2f %s (%s: %s)", got, what, goal, mark))
	}
	return strings.Join(said, "; ")
}

func (t *tables) print(w io.Writer) {
	fmt.Fprintln(w, where())
	for _, table := range t.all {
		if len(table.rows) > 0 {
			fmt.Fprintf(w, "\n%s", t.section(table))
		}
	}
}

// where says on what was measured, and when.
func where() string {
	return fmt.Sprintf("%s, %d CPUs, %s, %s", time.Now().Format("2006-01-02"), runtime.NumCPU(), kernel(), runtime.Version())
}

// section is a table in Markdown, with its title and its note.
func (t *tables) section(table *table) string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n%s\n\n| | unit | %s | ShareFS against the goal |\n|---|---|%s---|\n", table.title, table.note,
		strings.Join(table.names, " | "), strings.Repeat("---|", len(table.names)))
	for _, r := range table.rows {
		fmt.Fprintf(&b, "| %s | %s |", r.name, r.unit)
		for _, n := range table.names {
			if m, ok := r.median(n); ok {
				fmt.Fprintf(&b, " %.4g |", m)
			} else {
				fmt.Fprint(&b, " |")
			}
		}
		fmt.Fprintf(&b, " %s |\n", r.verdict())
	}
	return b.String()
}

// writeInto puts the tables between the markers of a document, each in the place of the one with the same title, new ones at the end.
func (t *tables) writeInto(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	merged, err := t.mergeInto(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, []byte(merged), 0o644)
}

func (t *tables) mergeInto(text string) (string, error) {
	head, rest, ok := strings.Cut(text, beginMark)
	body, tail, ok2 := strings.Cut(rest, endMark)
	if !ok || !ok2 {
		return "", fmt.Errorf("there is no %s … %s to write between", beginMark, endMark)
	}
	parts := strings.Split(strings.TrimSpace(body), "\n### ")
	for i := range parts {
		if i > 0 {
			parts[i] = "### " + parts[i]
		}
		parts[i] = strings.TrimSpace(parts[i])
	}
	for _, table := range t.all {
		if len(table.rows) == 0 {
			continue
		}
		n := *table
		n.note = where() + ". " + n.note // tables in a document may come from several runs
		at := slices.IndexFunc(parts, func(p string) bool {
			title, _, _ := strings.Cut(p, "\n")
			return title == "### "+table.title
		})
		if at < 0 {
			at = len(parts)
			parts = append(parts, "")
		}
		parts[at] = strings.TrimSpace(t.section(&n))
	}
	return head + beginMark + "\n" + strings.TrimSpace(strings.Join(parts, "\n\n")) + "\n\n" + endMark + tail, nil
}

func kernel() string {
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown kernel"
	}
	return "Linux " + strings.TrimSpace(string(text))
}
