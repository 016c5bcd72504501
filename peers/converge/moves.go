package converge

import (
	"slices"

	"sharefs/peers/record"
)

// move is a placement of a directory in the log, and what it changed when it was carried out.
type move struct {
	record *record.Record
	place  *record.Place
	order  record.Order
	dir    *file
	before moved // what the directory was
}

// moved is what the log makes of a directory.
type moved struct {
	pos     *move // the last placement in effect; nil: none
	removed bool
}

func (m *move) compare(o *move) int { return m.order.Compare(o.order) }

// redoFrom has the log carried out again from a placement on.
func (t *Tree) redoFrom(at record.Order) {
	if t.redo == nil || at.Compare(*t.redo) < 0 {
		t.redo = &at
	}
}

// redoOf has the log carried out again from the first placement that is one of some.
func (t *Tree) redoOf(is func(m *move) bool) {
	if i := slices.IndexFunc(t.log, is); i >= 0 {
		t.redoFrom(t.log[i].order)
	}
}

// fileFresh files placements of directories of which nothing else is known. Each is in effect, wherever it stands in the order: no other is above or below such a directory, nor does
// any other placement lead to it. So nothing has to be carried out again, and whoever tells of many new directories, each before all others, costs what they cost in order.
func (t *Tree) fileFresh() {
	if len(t.fresh) == 0 {
		return
	}
	slices.SortFunc(t.fresh, (*move).compare)
	end := len(t.log)
	t.log = append(t.log, t.fresh...)
	for n := len(t.fresh) - 1; n >= 0; n-- {
		m := t.fresh[n]
		at, _ := slices.BinarySearchFunc(t.log[:end], m, (*move).compare)
		copy(t.log[at+n+1:], t.log[at:end])
		t.log[at+n], end = m, at
		m.dir.moved = moved{pos: m}
	}
}

// redoMoves takes back the end of the log as far as needed, files new placements, and carries it out again. Nearly all directories are then where they were.
func (t *Tree) redoMoves() {
	t.fileFresh()
	slices.SortFunc(t.moves, (*move).compare)
	if len(t.moves) > 0 {
		t.redoFrom(t.moves[0].order)
	}
	if t.redo == nil {
		return
	}
	from, _ := slices.BinarySearchFunc(t.log, *t.redo, func(m *move, at record.Order) int { return m.order.Compare(at) })
	for _, list := range [][]*move{t.log[from:], t.moves} {
		for _, m := range list {
			m.dir.was = m.dir.moved
		}
	}
	for _, m := range slices.Backward(t.log[from:]) {
		m.dir.moved = m.before
	}
	if len(t.retyped) > 0 { // which are not in the log before that
		t.log = slices.DeleteFunc(t.log, t.isOfRetyped)
	}
	old := len(t.log)
	t.log = append(t.log, t.moves...)
	t.redone += uint64(old - from)
	if from < old {
		slices.SortFunc(t.log[from:], (*move).compare)
	}
	for _, m := range t.log[from:] {
		d := m.dir
		m.before = d.moved
		switch {
		case m.place.Removed():
			d.removed = true
		case t.possible(m):
			d.moved = moved{pos: m}
		}
	}
	for _, m := range t.log[from:] {
		if m.dir.was != m.dir.moved {
			t.soil(m.dir)
		}
	}
}

// possible reports whether a placement is in effect: its parent is a directory, and not below the one that is placed.
func (t *Tree) possible(m *move) bool {
	up := t.files.Get(m.place.Parent)
	if up == nil || up.typ != record.Directory {
		return false
	}
	for up != m.dir {
		if up.pos == nil {
			return true // the root, or one whose place is not known
		}
		up = t.files.Get(up.pos.place.Parent)
	}
	return false
}

// place brings the places of all files up to date that may have changed. What a directory holds can change whether it is there, which goes on upwards and
// ends, since no directory is above itself.
func (t *Tree) place() {
	for len(t.dirty) > 0 {
		f := t.dirty[len(t.dirty)-1]
		t.dirty = t.dirty[:len(t.dirty)-1]
		delete(t.queued, f.id)
		if f.typ == 0 || f.id == record.Root {
			continue
		}
		now := t.where(f)
		for link, old := range f.spots.All() {
			if s, ok := now.Get(link); !ok || s.parent() != old.parent() || s.name() != old.name() || s.typ() != old.typ() {
				t.note(Key{f.id, link}, old)
				f.spots.Delete(link)
				t.count(old, -1)
			} else { // it may have come back, or come by another placement
				if s.place.ID() != old.place.ID() {
					t.renewed[f.id] = struct{}{}
				}
				f.spots.Set(link, s)
			}
		}
		for link, s := range now.All() {
			if !f.spots.Has(link) {
				t.note(Key{f.id, link}, spot{})
				f.spots.Set(link, s)
				t.count(s, 1)
			}
		}
	}
}

// note remembers where a name was before the change in progress.
func (t *Tree) note(key Key, old spot) {
	if _, ok := t.moved[key]; !ok {
		t.moved[key] = old
	}
}

// count counts what a directory holds.
func (t *Tree) count(s spot, by int32) {
	dir := t.files.Get(s.parent())
	had := dir.kids > 0
	dir.kids += by
	if had != (dir.kids > 0) && dir.removed {
		t.soil(dir)
	}
}
