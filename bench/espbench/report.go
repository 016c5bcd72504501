package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// table is what a suite has measured.
type table struct {
	title   string
	note    string
	columns []string // names of the figures, with their units
	rows    []row
	gates   []gate
}

type row struct {
	name    string
	figures [][]float64 // for each column the samples of all rounds
	err     error
}

// gate is a demand on the medians.
type gate struct {
	what   string
	got    float64
	want   float64
	atMost bool // got may be at most want; else it must be at least that
}

func (g gate) met() bool {
	if g.atMost {
		return g.got <= g.want
	}
	return g.got >= g.want
}

// median returns the middle of the samples of a column, 0 where there are none.
func (r *row) median(col int) float64 {
	if r == nil || r.err != nil || col >= len(r.figures) || len(r.figures[col]) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(r.figures[col]))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

func (r *row) spread(col int) (lo, hi float64) {
	return slices.Min(r.figures[col]), slices.Max(r.figures[col])
}

// row returns a row by its name, nil where there is none.
func (t *table) row(name string) *row {
	for i := range t.rows {
		if t.rows[i].name == name {
			return &t.rows[i]
		}
	}
	return nil
}

// ratio adds a gate: the median of a column of one row over that of another.
func (t *table) ratio(col int, a, b string, want float64, atMost bool) {
	x, y := t.row(a).median(col), t.row(b).median(col)
	if x == 0 || y == 0 {
		return // one of them was not measured
	}
	t.gates = append(t.gates, gate{fmt.Sprintf("%s over %s, %s", a, b, t.columns[col]), x / y, want, atMost})
}

// absolute adds a gate on the median of a column of one row.
func (t *table) absolute(col int, a string, want float64, atMost bool) {
	if x := t.row(a).median(col); x != 0 {
		t.gates = append(t.gates, gate{fmt.Sprintf("%s, %s", a, t.columns[col]), x, want, atMost})
	}
}

// markdown writes the table with medians, and least and most in brackets.
func (t *table) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n", t.title)
	if t.note != "" {
		fmt.Fprintf(&b, "%s\n\n", t.note)
	}
	fmt.Fprintf(&b, "| |%s|\n|---|%s\n", strings.Join(t.columns, "|"), strings.Repeat("---:|", len(t.columns)))
	for i := range t.rows {
		r := &t.rows[i]
		fmt.Fprintf(&b, "| %s |", r.name)
		if r.err != nil {
			fmt.Fprintf(&b, " %v |%s\n", r.err, strings.Repeat(" |", len(t.columns)-1))
			continue
		}
		for c := range t.columns {
			if len(r.figures[c]) == 0 {
				b.WriteString(" |")
				continue
			}
			lo, hi := r.spread(c)
			fmt.Fprintf(&b, " %s (%s–%s) |", figure(r.median(c)), figure(lo), figure(hi))
		}
		b.WriteString("\n")
	}
	for _, g := range t.gates {
		sign, mark := "≥", "met"
		if g.atMost {
			sign = "≤"
		}
		if !g.met() {
			mark = "**missed**"
		}
		fmt.Fprintf(&b, "\n- %s: %s, wanted %s %s: %s", g.what, figure(g.got), sign, figure(g.want), mark)
	}
	b.WriteString("\n")
	return b.String()
}

// figure writes a number with three digits that matter.
func figure(x float64) string {
	switch {
	case x >= 100:
		return fmt.Sprintf("%.0f", x)
	case x >= 10:
		return fmt.Sprintf("%.1f", x)
	case x >= 0.1 || x == 0:
		return fmt.Sprintf("%.2f", x)
	}
	return fmt.Sprintf("%.3f", x)
}

func writeTables(file string, ts []table) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured %s; medians, least and most in brackets.\n\n", time.Now().UTC().Format(time.DateOnly))
	for i := range ts {
		b.WriteString(ts[i].markdown())
		b.WriteString("\n")
	}
	return os.WriteFile(file, []byte(b.String()), 0o644)
}

// subject is one row to be measured: measure returns one figure for each column.
type subject struct {
	name    string
	measure func() ([]float64, error)
}

// interleave measures all subjects that are asked for in turn, round by round. It returns nil where none is.
func (o *options) interleave(t *table, subjects []subject) *table {
	var chosen []subject
	for _, s := range subjects {
		if o.match.MatchString(t.title + "/" + s.name) {
			chosen = append(chosen, s)
			t.rows = append(t.rows, row{name: s.name, figures: make([][]float64, len(t.columns))})
		}
	}
	if len(chosen) == 0 {
		return nil
	}
	for n := range o.rounds {
		for i, s := range chosen {
			r := &t.rows[i]
			if r.err != nil {
				continue
			}
			figures, err := s.measure()
			if err != nil {
				r.err = err
				continue
			}
			for c, v := range figures {
				r.figures[c] = append(r.figures[c], v)
			}
			fmt.Fprintf(os.Stderr, "round %d  %s / %s: %.4g\n", n+1, t.title, s.name, figures)
		}
	}
	return t
}
