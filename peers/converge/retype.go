package converge

import (
	"slices"

	"sharefs"
	"sharefs/peers/few"
	"sharefs/peers/record"
)

// retype takes up what follows where an earlier placement says that files are something else than was known: all that is known of them is filed anew, and what was placed into those that are
// no directories any more goes elsewhere. No honest author is the cause, and there may be many such records: so nothing else is done anew, but for a look at all records.
func (t *Tree) retype() {
	if len(t.retyped) == 0 {
		return
	}
	// Of none is it certain now that it is in effect.
	t.moves, t.fresh = append(t.moves, t.fresh...), nil
	lost := map[sharefs.FileID]struct{}{} // that were directories
	for id := range t.retyped {
		f := t.files.Get(id)
		if f.typ == record.Directory {
			lost[id] = struct{}{}
		}
		f.typ = f.first.Body.(*record.Place).Type
		f.links = few.Map[uint64, []*record.Record]{}
		f.heads = nil
		for _, v := range f.versions.All() {
			v.accepted, v.superseded = false, false
		}
		f.tryAll()
		if f.class != nil { // in which it may come before others now, if it is a directory still
			t.touched[f.class] = struct{}{}
		}
		t.soil(f)
	}
	t.moves = slices.DeleteFunc(t.moves, t.isOfRetyped)
	t.redoOf(func(m *move) bool {
		_, in := t.retyped[m.place.Parent]
		return in || t.isOfRetyped(m)
	})
	t.redone += uint64(t.Records())
	for s := range t.records {
		for r := range t.records[s].All() {
			p, ok := r.Body.(*record.Place)
			if !ok || !Standing(s).places(p) {
				continue
			}
			f := t.files.Get(p.File)
			_, retyped := t.retyped[f.id]
			_, left := lost[p.Parent]
			switch {
			case f.typ != p.Type:
			case retyped:
				t.enter(f, r, p, false)
			case left && !p.Removed():
				t.hope(f, p.Parent)
				t.soil(f)
			}
		}
	}
	for id := range t.retyped {
		if t.files.Get(id).typ == record.Directory {
			t.hopesFulfilled(id)
		}
	}
}

// Retypes reports whether a placement says that its file is something else than is known, and comes before all that says so: if it counts, the file is that.
func (t *Tree) Retypes(r *record.Record) bool {
	p, ok := r.Body.(*record.Place)
	if !ok {
		return false
	}
	f := t.files.Get(p.File)
	return f != nil && f.typ != 0 && f.typ != p.Type && r.Compare(f.first) < 0
}

// isOfRetyped reports whether a placement is of a file of which all is filed anew.
func (t *Tree) isOfRetyped(m *move) bool {
	_, ok := t.retyped[m.dir.id]
	return ok
}

// declass forgets the classes of what is no directory any more. They are nowhere, and nothing is in them.
func (t *Tree) declass() {
	for id := range t.retyped {
		if f := t.files.Get(id); f.typ != record.Directory {
			f.class = nil
		}
	}
}
