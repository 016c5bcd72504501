package textdiff

import "strings"

// Part is a stretch of a merged text. Where both sides changed the same stretch in two ways it is a conflict, and A, Base and B are what they made of it and what it was;
// otherwise Text is what it is.
type Part struct {
	Text       string
	Conflict   bool
	A, Base, B string
}

// Merge merges what two texts made of one that they come from, line by line, as diff3(1) and git do: S. Khanna, K. Kunal, B. C. Pierce, "A Formal
// Investigation of Diff3" (FSTTCS 2007), section 2. What one side changed alone is as that side has it, as is what both changed alike. Changes that touch each other are one. No two
// parts that follow each other are both text.
func Merge(a, base, b string) []Part {
	m := merger{a: lines(a), base: lines(base), b: lines(b)}
	ids := map[string]int32{}
	o := number(m.base, ids)
	toA := partners(o, number(m.a, ids), len(m.base))
	toB := partners(o, number(m.b, ids), len(m.base))
	var x, y, z int // how far a, base and b are merged
	for {
		n := 0 // lines that are the same in all three
		for y+n < len(m.base) && toA[y+n] == x+n && toB[y+n] == z+n {
			n++
		}
		m.text(m.base[y : y+n])
		x, y, z = x+n, y+n, z+n
		next := y // the next line that all three have
		for next < len(m.base) && (toA[next] < 0 || toB[next] < 0) {
			next++
		}
		toX, toZ := len(m.a), len(m.b)
		if next < len(m.base) {
			toX, toZ = toA[next], toB[next]
		}
		if next == y && toX == x && toZ == z {
			return m.parts // the end of all three
		}
		m.changed(m.a[x:toX], m.base[y:next], m.b[z:toZ])
		x, y, z = toX, next, toZ
	}
}

// Both is Merge of texts that come from none: what differs is a conflict, whose Base is empty.
func Both(a, b string) []Part {
	m := merger{a: lines(a), b: lines(b), baseless: true}
	ids := map[string]int32{}
	toB := partners(number(m.a, ids), number(m.b, ids), len(m.a))
	z := 0
	for x := 0; x < len(m.a) || z < len(m.b); {
		if x < len(m.a) && toB[x] == z {
			m.text(m.a[x : x+1])
			x, z = x+1, z+1
			continue
		}
		next, toZ := x, len(m.b)
		for next < len(m.a) && toB[next] < 0 {
			next++
		}
		if next < len(m.a) {
			toZ = toB[next]
		}
		m.changed(m.a[x:next], nil, m.b[z:toZ])
		x, z = next, toZ
	}
	return m.parts
}

// partners tells for each of n lines of a text which line of another one it is matched with, -1 for none.
func partners(old, new []int32, n int) []int {
	c := comparer{a: old, b: new}
	c.compare(0, len(old), 0, len(new))
	to := make([]int, n)
	for i := range to {
		to[i] = -1
	}
	for _, m := range c.matches {
		for k := range m.n {
			to[m.a+k] = m.b + k
		}
	}
	return to
}

// merger collects the parts of three texts in order.
type merger struct {
	a, base, b []string
	baseless   bool
	parts      []Part
}

func (m *merger) text(lines []string) {
	if len(lines) == 0 {
		return
	}
	text := strings.Join(lines, "")
	if k := len(m.parts) - 1; k >= 0 && !m.parts[k].Conflict {
		m.parts[k].Text += text
		return
	}
	m.parts = append(m.parts, Part{Text: text})
}

// changed adds a stretch that is not the same in all three.
func (m *merger) changed(a, base, b []string) {
	x, o, y := strings.Join(a, ""), strings.Join(base, ""), strings.Join(b, "")
	switch {
	case x == y || y == o && !m.baseless:
		m.text(a)
	case x == o && !m.baseless:
		m.text(b)
	default:
		m.parts = append(m.parts, Part{Conflict: true, A: x, Base: o, B: y})
	}
}

// Names of the sides, as they stand beside the markers of a conflict.
type Names struct{ A, Base, B string }

// markerLength is how long the markers of git and diff3 are.
const markerLength = 7

// markers begin the lines that divide a conflict.
const markers = "<|=>"

// Mark writes a merged text, in which conflicts stand between markers as git writes them in the style diff3, those without a base as it writes them otherwise; conflicts is how many
// there are. Where a line of the text itself begins as a marker does, markers are longer than it.
func Mark(parts []Part, names Names) (text string, conflicts int) {
	long := markerLength
	for i := range parts {
		p := &parts[i]
		for _, s := range []string{p.Text, p.A, p.Base, p.B} {
			long = max(long, markerRun(s)+1)
		}
	}
	var b strings.Builder
	mark := func(what byte, name string) {
		b.WriteString(strings.Repeat(string(what), long))
		if name != "" {
			b.WriteString(" " + name)
		}
		b.WriteByte('\n')
	}
	side := func(text string) {
		b.WriteString(text)
		if text != "" && !strings.HasSuffix(text, "\n") {
			b.WriteByte('\n')
		}
	}
	for i := range parts {
		p := &parts[i]
		if !p.Conflict {
			side(p.Text)
			continue
		}
		conflicts++
		mark('<', names.A)
		side(p.A)
		if names.Base != "" {
			mark('|', names.Base)
			side(p.Base)
		}
		mark('=', "")
		side(p.B)
		mark('>', names.B)
	}
	text = b.String()
	// Only where the text ends within a part that is no conflict is its end that of the text.
	if n := len(parts); n > 0 && !parts[n-1].Conflict && !strings.HasSuffix(parts[n-1].Text, "\n") {
		text = strings.TrimSuffix(text, "\n")
	}
	return text, conflicts
}

// Marked returns the number of the first line of a text that is the marker of a conflict, from 1; 0: there is none. The markers have to stand in the order in which [Mark] writes
// them: a line of equals signs alone, as below a heading, is none.
func Marked(text string) int {
	begun, n := 0, 0
	for line := range strings.Lines(text) {
		n++
		switch {
		case len(line) < markerLength:
		case isMarker(line, '<'):
			begun = n
		case begun > 0 && isMarker(line, '>'):
			return begun
		}
	}
	return 0
}

func isMarker(line string, what byte) bool {
	rest := strings.TrimLeft(line, string(what))
	return len(line)-len(rest) >= markerLength && (rest == "" || rest[0] == ' ' || rest[0] == '\n' || rest[0] == '\r')
}

// markerRun is how long the longest begin of a line is that looks like a marker; less than the length of a marker counts as none.
func markerRun(text string) int {
	longest := 0
	for line := range strings.Lines(text) {
		for _, what := range []byte(markers) {
			if n := len(line) - len(strings.TrimLeft(line, string(what))); n >= markerLength && isMarker(line, what) {
				longest = max(longest, n)
			}
		}
	}
	return longest
}
