// Package textdiff compares two texts line by line and writes the difference in the unified format of diff(1).
//
// Lines that stand exactly once in both texts are matched first, by the longest run in which they keep their order (Bram Cohen's
// patience diff); what lies between them is compared by Myers' greedy algorithm ("An O(ND) Difference Algorithm and Its
// Variations", Algorithmica 1986). Where two stretches have too little in common for that to be cheap they count as replaced as a
// whole: the result is always right, only then not the shortest.
package textdiff

import (
	"fmt"
	"sort"
	"strings"
)

// maxEdits bounds the work and memory of Myers' algorithm on one stretch: maxEdits² / 2 numbers of 4 bytes.
const maxEdits = 1500

// Hunk is a stretch of changed lines with unchanged ones around it.
type Hunk struct {
	OldStart int    `json:"old_start"` // number of its first line, from 1; that before it where OldLines is 0
	OldLines int    `json:"old_lines"`
	NewStart int    `json:"new_start"`
	NewLines int    `json:"new_lines"`
	Lines    []Line `json:"lines"`
}

// Line is one line of a hunk.
type Line struct {
	Op   string `json:"op"`   // " " in both, "-" in the old text only, "+" in the new one only
	Text string `json:"text"` // without its line end
	// NoEnd marks the last line of a text that does not end in a line end.
	NoEnd bool `json:"no_end,omitempty"`
}

// Header is the line that begins a hunk in the unified format.
func (h *Hunk) Header() string {
	span := func(start, n int) string {
		if n == 1 {
			return fmt.Sprint(start)
		}
		return fmt.Sprintf("%d,%d", start, n)
	}
	return "@@ -" + span(h.OldStart, h.OldLines) + " +" + span(h.NewStart, h.NewLines) + " @@"
}

// match is a run of n equal lines, at a in the old text and at b in the new one.
type match struct{ a, b, n int }

// Diff compares two texts and returns their hunks with context unchanged lines around each change; none where they are equal.
func Diff(old, new string, context int) []Hunk {
	a, b := lines(old), lines(new)
	ids := make(map[string]int32, len(a))
	c := comparer{a: number(a, ids), b: number(b, ids)}
	c.compare(0, len(c.a), 0, len(c.b))
	return hunks(a, b, c.matches, context)
}

// lines cuts a text behind each line end.
func lines(s string) []string {
	if s == "" {
		return nil
	}
	out := strings.SplitAfter(s, "\n")
	if out[len(out)-1] == "" {
		out = out[:len(out)-1]
	}
	return out
}

// number gives equal lines equal numbers.
func number(text []string, ids map[string]int32) []int32 {
	out := make([]int32, len(text))
	for i, line := range text {
		id, ok := ids[line]
		if !ok {
			id = int32(len(ids))
			ids[line] = id
		}
		out[i] = id
	}
	return out
}

// comparer collects the matches of two sequences in order.
type comparer struct {
	a, b    []int32
	matches []match
}

func (c *comparer) add(a, b, n int) {
	if n == 0 {
		return
	}
	if k := len(c.matches) - 1; k >= 0 && c.matches[k].a+c.matches[k].n == a && c.matches[k].b+c.matches[k].n == b {
		c.matches[k].n += n
		return
	}
	c.matches = append(c.matches, match{a, b, n})
}

// compare finds the matches of a[a0:a1] and b[b0:b1].
func (c *comparer) compare(a0, a1, b0, b1 int) {
	n := 0
	for a0+n < a1 && b0+n < b1 && c.a[a0+n] == c.b[b0+n] {
		n++
	}
	c.add(a0, b0, n)
	a0, b0 = a0+n, b0+n
	tail := 0
	for a1-tail > a0 && b1-tail > b0 && c.a[a1-tail-1] == c.b[b1-tail-1] {
		tail++
	}
	a1, b1 = a1-tail, b1-tail
	if a0 < a1 && b0 < b1 {
		if anchors := c.anchors(a0, a1, b0, b1); len(anchors) > 0 {
			for _, m := range anchors {
				c.compare(a0, m.a, b0, m.b)
				c.add(m.a, m.b, 1)
				a0, b0 = m.a+1, m.b+1
			}
			c.compare(a0, a1, b0, b1)
		} else {
			c.myers(a0, a1, b0, b1)
		}
	}
	c.add(a1, b1, tail)
}

// anchors returns the lines that stand exactly once in either stretch, as far as they keep their order.
func (c *comparer) anchors(a0, a1, b0, b1 int) []match {
	type count struct{ inA, inB, a, b int }
	counts := make(map[int32]*count)
	for i := a0; i < a1; i++ {
		k := counts[c.a[i]]
		if k == nil {
			k = new(count)
			counts[c.a[i]] = k
		}
		k.inA, k.a = k.inA+1, i
	}
	for j := b0; j < b1; j++ {
		if k := counts[c.b[j]]; k != nil {
			k.inB, k.b = k.inB+1, j
		}
	}
	var unique []match
	for i := a0; i < a1; i++ {
		if k := counts[c.a[i]]; k.inA == 1 && k.inB == 1 {
			unique = append(unique, match{i, k.b, 1})
		}
	}
	// The longest rising subsequence of b: tails[k] ends one of length k+1 with the smallest b, before[i] leads back.
	var tails []int
	before := make([]int, len(unique))
	for i, m := range unique {
		k := sort.Search(len(tails), func(k int) bool { return unique[tails[k]].b > m.b })
		before[i] = -1
		if k > 0 {
			before[i] = tails[k-1]
		}
		if k == len(tails) {
			tails = append(tails, i)
		} else {
			tails[k] = i
		}
	}
	if len(tails) == 0 {
		return nil
	}
	out := make([]match, len(tails))
	for k, i := len(tails)-1, tails[len(tails)-1]; k >= 0; k, i = k-1, before[i] {
		out[k] = unique[i]
	}
	return out
}

// myers finds the matches of two stretches by the greedy algorithm, or none where that takes more than maxEdits edits.
func (c *comparer) myers(a0, a1, b0, b1 int) {
	n, m := a1-a0, b1-b0
	limit := min(n+m, maxEdits)
	v := make([]int32, 2*limit+3) // v[limit+1+k]: the furthest x on diagonal k
	var trace [][]int32
	for d := 0; d <= limit; d++ {
		for k := -d; k <= d; k += 2 {
			at := limit + 1 + k
			var x int
			if k == -d || k != d && v[at-1] < v[at+1] {
				x = int(v[at+1])
			} else {
				x = int(v[at-1]) + 1
			}
			for x < n && x-k < m && c.a[a0+x] == c.b[b0+x-k] {
				x++
			}
			v[at] = int32(x)
			if x >= n && x-k >= m {
				c.walkBack(trace, d, a0, b0, n, m)
				return
			}
		}
		trace = append(trace, append([]int32(nil), v[limit+1-d:limit+2+d]...))
	}
}

// walkBack follows the trace of d rounds from the end to the start and adds the matches it passed.
func (c *comparer) walkBack(trace [][]int32, d, a0, b0, n, m int) {
	var back []match
	x, y := n, m
	for ; d > 0; d-- {
		before := trace[d-1] // diagonals -(d-1) … d-1
		at := func(k int) int {
			if k < -(d-1) || k > d-1 {
				return -1
			}
			return int(before[k+d-1])
		}
		k := x - y
		var from int // the diagonal we came from
		if k == -d || k != d && at(k-1) < at(k+1) {
			from = k + 1
		} else {
			from = k - 1
		}
		px := at(from)
		py := px - from
		sx, sy := px, py+1 // after the edit
		if from == k-1 {
			sx, sy = px+1, py
		}
		back = append(back, match{a0 + sx, b0 + sy, x - sx})
		x, y = px, py
	}
	back = append(back, match{a0, b0, x})
	for i := len(back) - 1; i >= 0; i-- {
		c.add(back[i].a, back[i].b, back[i].n)
	}
}

// hunks gathers what lies between the matches, with context around it.
func hunks(a, b []string, matches []match, context int) []Hunk {
	type gap struct{ a0, a1, b0, b1 int }
	var gaps []gap
	x, y := 0, 0
	for _, m := range append(matches, match{len(a), len(b), 0}) {
		if x < m.a || y < m.b {
			gaps = append(gaps, gap{x, m.a, y, m.b})
		}
		x, y = m.a+m.n, m.b+m.n
	}
	var out []Hunk
	for i := 0; i < len(gaps); {
		j := i + 1
		for j < len(gaps) && gaps[j].a0-gaps[j-1].a1 <= 2*context {
			j++
		}
		first, last := gaps[i], gaps[j-1]
		before, after := min(context, first.a0), min(context, len(a)-last.a1)
		h := Hunk{OldStart: first.a0 - before + 1, NewStart: first.b0 - before + 1}
		at := first.a0 - before
		for _, g := range gaps[i:j] {
			h.take(" ", a[at:g.a0])
			h.take("-", a[g.a0:g.a1])
			h.take("+", b[g.b0:g.b1])
			at = g.a1
		}
		h.take(" ", a[at:at+after])
		if h.OldLines == 0 {
			h.OldStart--
		}
		if h.NewLines == 0 {
			h.NewStart--
		}
		out = append(out, h)
		i = j
	}
	return out
}

func (h *Hunk) take(op string, text []string) {
	for _, line := range text {
		end := strings.HasSuffix(line, "\n")
		h.Lines = append(h.Lines, Line{Op: op, Text: strings.TrimSuffix(line, "\n"), NoEnd: !end})
	}
	if op != "+" {
		h.OldLines += len(text)
	}
	if op != "-" {
		h.NewLines += len(text)
	}
}
