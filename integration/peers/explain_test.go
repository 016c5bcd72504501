package peers

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// The model of a black-box test after Hughes, Pierce, Arts and Norell, "Mysteries of Dropbox: Property-Based Testing of a Distributed Synchronization Service" (ICST 2016).
// Programs on several hosts read, write and remove files, and note what they saw; nobody looks inside. Each value is written once, and who writes or removes reads first what he
// replaces, through the descriptor by which he writes; so who replaced what is known. When word of it went from host to host, the "up" and "down" events of the paper, is not:
// whatever can be explained by some such events is right. For that it is enough to say what no event explains:
//
//   - a value at the end that was replaced, or that nobody wrote
//   - a value that is not there at the end, live or in conflict, though nobody can have replaced it: nobody did who saw it, nor did anybody end a conflict with it, who was shown another
//     value of the same file later
//   - a host that shows what it had seen replaced before

// deed is what a program did to a file, or saw in it.
type deed struct {
	verb  verb
	host  int
	value int  // that is written or was seen; of a removal or move that which the file held
	old   int  // of a write: what it replaced
	sure  bool // it succeeded: otherwise it may have happened or not
}

type verb uint8

const (
	create verb = iota
	write
	remove
	move
	read
)

// story is all that programs did, in the order in which it began.
type story []deed

// lineage is what a story says of which value came of which.
type lineage struct {
	story   story
	old     map[int]int   // by value: what it replaced
	origin  map[int]int   // by value: that with which its file was made
	deeds   map[int][]int // by origin: what was done to the file
	removed map[int]bool  // values of which somebody removed what came of them, while others went on with the file
}

func (s story) lineage() *lineage {
	l := &lineage{s, map[int]int{}, map[int]int{}, map[int][]int{}, map[int]bool{}}
	for i, d := range s { // a value is written before it is seen
		switch d.verb {
		case create:
			l.origin[d.value] = d.value
		case write:
			l.old[d.value], l.origin[d.value] = d.old, l.origin[d.old]
		}
		l.deeds[l.origin[d.value]] = append(l.deeds[l.origin[d.value]], i)
	}
	for i, d := range s {
		if d.verb == remove && !l.alone(i) {
			maps.Copy(l.removed, l.before(d.value))
		}
	}
	return l
}

// before returns the values that led to one, and that itself.
func (l *lineage) before(value int) map[int]bool {
	all := map[int]bool{value: true}
	for {
		old, ok := l.old[value]
		if !ok {
			return all
		}
		all[old], value = true, old
	}
}

// explain returns what no exchange between hosts explains, empty if there is nothing, given the values that all hosts show at the end, live or in conflict.
func (s story) explain(ends map[int]bool) string {
	var wrong strings.Builder
	l := s.lineage()
	written := map[int]int{} // where in the story
	for i, d := range s {
		if d.verb == create || d.verb == write {
			written[d.value] = i
		}
	}
	seen := map[int]map[int]bool{} // by host: what it saw replaced
	for i, d := range s {
		if _, ok := written[d.value]; !ok {
			fmt.Fprintf(&wrong, "%d: host %d saw value %d, which nobody wrote\n", i, d.host, d.value)
			continue
		}
		if seen[d.host] == nil {
			seen[d.host] = map[int]bool{}
		}
		saw := d.value
		if d.verb == write {
			saw = d.old
		}
		if d.verb != create && seen[d.host][saw] {
			fmt.Fprintf(&wrong, "%d: host %d shows value %d again, which it had seen replaced\n", i, d.host, saw)
		}
		if !l.removed[saw] {
			for old := range l.before(saw) {
				if old != saw {
					seen[d.host][old] = true
				}
			}
		}
		if d.verb == write && d.sure && !l.removed[d.value] {
			seen[d.host][d.old] = true
		}
	}
	for value := range ends {
		i, ok := written[value]
		if !ok {
			fmt.Fprintf(&wrong, "value %d is there, which nobody wrote\n", value)
			continue
		}
		for _, k := range l.deeds[l.origin[value]] {
			if d := s[k]; d.sure && (d.verb == write && d.old == value && !l.removed[d.value] || d.verb == remove && d.value == value && l.alone(k)) {
				fmt.Fprintf(&wrong, "value %d of %d is there, which was replaced by %d\n", value, i, k)
			}
		}
	}
	for value, i := range written {
		if s[i].sure && !ends[value] && !l.replaced(value, i) {
			fmt.Fprintf(&wrong, "value %d, written by %d on host %d, is lost\n", value, i, s[i].host)
		}
	}
	return wrong.String()
}

// alone reports whether nobody did anything to a file that somebody removed, of which that one had not seen what it led to. Where it is not so the file may stay; and what it held last
// may be known to nobody then, who removes a file that has not come to rest, so that what others see may have been replaced by that.
func (l *lineage) alone(removal int) bool {
	r := l.story[removal]
	past := l.before(r.value)
	for _, i := range l.deeds[l.origin[r.value]] {
		switch d := l.story[i]; d.verb {
		case write:
			if !past[d.value] {
				return false
			}
		case move:
			if d.host != r.host {
				return false
			}
		}
	}
	return true
}

// replaced reports whether a value may have been.
func (l *lineage) replaced(value, at int) bool {
	past := l.before(value)
	for _, i := range l.deeds[l.origin[value]] {
		d := l.story[i]
		if d.verb != write && d.verb != remove {
			continue
		}
		shown := d.value // when it was done
		if d.verb == write {
			shown = d.old
		}
		// Who was shown what led to the value did not know of it; who was shown another one may have ended a conflict.
		if shown == value || i > at && !past[shown] {
			return true
		}
	}
	return false
}

// The model finds what it is there to find, and nothing in what is right.
func TestTheModelExplains(t *testing.T) {
	apart := story{ // two hosts write at once; one of them removes another file
		{create, 0, 1, 0, true}, {create, 0, 2, 0, true},
		{read, 1, 1, 0, true}, {read, 1, 2, 0, true},
		{write, 0, 3, 1, true}, {write, 1, 4, 1, true},
		{remove, 1, 2, 0, true},
		{read, 0, 4, 0, true},
	}
	for _, c := range []struct {
		what  string
		story story
		ends  []int
		want  string // a part of what is found
	}{
		{"a conflict", apart, []int{3, 4}, ""},
		{"a value is lost", apart, []int{4}, "value 3, written by 4 on host 0, is lost"},
		{"a removed file is back", apart, []int{2, 3, 4}, "value 2 of 1 is there, which was replaced by 6"},
		{"a replaced value is back", apart, []int{1, 3, 4}, "value 1 of 0 is there"},
		{"a value out of nowhere", apart, []int{3, 4, 5}, "value 5 is there, which nobody wrote"},
		{"a host goes back", append(slices.Clone(apart), deed{read, 0, 1, 0, true}), []int{3, 4}, "host 0 shows value 1 again"},
		{"a conflict that somebody ended", append(slices.Clone(apart), deed{write, 1, 6, 4, true}), []int{6}, ""},
		{"its end is no reason for another file", append(slices.Clone(apart), deed{create, 0, 7, 0, true}, deed{write, 1, 6, 4, true}), []int{6}, "value 7, written by 8 on host 0, is lost"},
		{"a write that failed is there", append(slices.Clone(apart), deed{write, 0, 6, 4, false}), []int{3, 6}, ""},
		{"a write that failed is not", append(slices.Clone(apart), deed{write, 0, 6, 4, false}), []int{3, 4}, ""},
		{"removed by one, written by the other", append(slices.Clone(apart), deed{write, 0, 8, 2, true}), []int{3, 4, 8}, ""},
		{"written and removed by one, moved by the other", append(slices.Clone(apart), deed{read, 0, 2, 0, true}, deed{write, 1, 9, 2, true}, deed{remove, 1, 9, 0, true}, deed{move, 0, 2, 0, true}), []int{2, 3, 4}, ""},
		{"removed by one, moved by the other", append(slices.Clone(apart), deed{move, 0, 2, 0, true}), []int{2, 3, 4}, ""},
		{"what was written to a removed file is lost", append(slices.Clone(apart), deed{write, 0, 8, 2, true}), []int{3, 4}, "value 8, written by 8 on host 0, is lost"},
	} {
		ends := map[int]bool{}
		for _, v := range c.ends {
			ends[v] = true
		}
		got := c.story.explain(ends)
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, not %q", c.what, got, c.want)
		}
	}
}
