package converge

import (
	"slices"

	"sharefs"
	"sharefs/peers/record"
)

// file is what is known of one file.
type file struct {
	id    sharefs.FileID
	typ   record.Type  // 0: not known yet
	first record.Order // of its first placement
	owned bool         // a placement is by somebody whose trust reaches there; otherwise all only lead
	attr  *record.Record

	// Of a directory:
	moved       // after the log was carried out
	was   moved // before it was carried out again
	kids  int   // names that have their place in it
	class *class

	// Of others:
	links    map[uint64]*register
	versions map[record.ID]*version
	gaps     bool // some version comes from one that is not here as merged
	stale    bool // of one with gaps: heads and depths have to be found out anew
	heads    []*version

	spots map[uint64]*spot // where its names are, as the rest of the tree knows it
}

// spot is where a name is.
type spot struct {
	parent   sharefs.FileID
	name     string
	order    record.Order // of the placement
	cameBack bool
}

// register holds the placements of one name, in order.
type register struct{ places []*record.Record }

// version is a node of a file's graph.
type version struct {
	rec        *record.Record
	body       *record.Version
	merged     bool
	accepted   bool // it fits the file
	superseded bool // a merged version descends from it
	depth      int  // unless file.deeper
}

// insert files a placement of a regular file or symlink.
func (f *file) insert(r *record.Record, p *record.Place) {
	if f.links == nil {
		f.links = map[uint64]*register{}
	}
	reg := f.links[p.Link]
	if reg == nil {
		reg = &register{}
		f.links[p.Link] = reg
	}
	i, _ := slices.BinarySearchFunc(reg.places, r, func(a, b *record.Record) int { return a.Order().Compare(b.Order()) })
	reg.places = slices.Insert(reg.places, i, r)
}

// addVersion files a version, or one that was known and now is merged, and reports whether the heads, or their order, may have changed.
func (f *file) addVersion(r *record.Record, body *record.Version, merged bool) bool {
	if f.versions == nil {
		f.versions = map[record.ID]*version{}
	}
	v := f.versions[r.ID()]
	if v == nil {
		v = &version{rec: r, body: body, merged: merged}
		f.versions[r.ID()] = v
		return f.typ != 0 && f.try(v)
	}
	v.merged = merged
	switch {
	case !v.accepted:
		return false
	case f.gaps:
		f.stale = true
		return true
	}
	return f.lead(v) // nothing comes from it: there would be a gap
}

// tryAll takes up the versions that came before the file's type was known.
func (f *file) tryAll() {
	f.gaps, f.stale = true, true
	for _, v := range f.versions {
		f.try(v)
	}
}

// try accepts a version if it fits.
func (f *file) try(v *version) (changed bool) {
	if v.accepted || v.body.Type() != f.typ {
		return false
	}
	v.accepted, v.depth = true, 1
	f.gaps = f.gaps || f.gap(v)
	if f.gaps {
		f.stale = true
		return true
	}
	for _, id := range v.body.Parents {
		v.depth = max(v.depth, f.versions[id].depth+1)
	}
	return f.lead(v)
}

// parent returns a version from which another one comes; nil if it is not here, or comes later, of which no honest author is the cause.
func (f *file) parent(v *version, id record.ID) *version {
	p := f.versions[id]
	if p == nil || !p.accepted || p.rec.Order().Compare(v.rec.Order()) > 0 {
		return nil
	}
	return p
}

// gap reports whether something from which a version comes is not here as merged.
func (f *file) gap(v *version) bool {
	for _, id := range v.body.Parents {
		if p := f.parent(v, id); p == nil || !p.merged {
			return true
		}
	}
	return false
}

// lead makes an accepted version a head if it is merged, and supersedes all before it. The file has no gaps, and nothing comes from the version.
func (f *file) lead(v *version) bool {
	if !v.merged {
		return false
	}
	f.heads = append(f.heads, v)
	for todo := v.body.Parents; len(todo) > 0; {
		p := f.versions[todo[len(todo)-1]]
		todo = todo[:len(todo)-1]
		if p.superseded {
			continue
		}
		p.superseded = true
		if i := slices.Index(f.heads, p); i >= 0 {
			f.heads = slices.Delete(f.heads, i, i+1)
		}
		todo = append(slices.Clip(todo), p.body.Parents...)
	}
	return true
}

// fill finds out anew, for a file with gaps, how deep each version is and which are heads. What comes from something is later than it, so it goes by the order of all records.
func (f *file) fill() {
	f.stale, f.gaps, f.heads = false, false, nil
	var all []*version
	for _, v := range f.versions {
		if v.accepted {
			all = append(all, v)
		}
	}
	slices.SortFunc(all, func(a, b *version) int { return a.rec.Order().Compare(b.rec.Order()) })
	open := map[*version]bool{}
	deepest := map[sharefs.PeerID]int{} // of the merged versions of an author so far
	for _, v := range all {
		v.depth, v.superseded = 1, false
		for _, id := range v.body.Parents {
			if p := f.parent(v, id); p != nil {
				v.depth = max(v.depth, p.depth+1)
			}
		}
		if f.gap(v) {
			open[v], f.gaps = true, true
			v.depth = max(v.depth, deepest[v.rec.Author]+1)
		}
		if v.merged {
			deepest[v.rec.Author] = max(deepest[v.rec.Author], v.depth)
		}
	}
	before := map[sharefs.PeerID]bool{} // whose merged versions are before one that supersedes them
	for _, v := range slices.Backward(all) {
		v.superseded = v.superseded || v.merged && before[v.rec.Author]
		if !v.merged && !v.superseded {
			continue
		}
		for _, id := range v.body.Parents {
			if p := f.parent(v, id); p != nil {
				p.superseded = true
			}
		}
		before[v.rec.Author] = before[v.rec.Author] || open[v]
		if !v.superseded {
			f.heads = append(f.heads, v)
		}
	}
}

// leading returns the heads, in no order.
func (f *file) leading() []*version {
	if f.stale {
		f.fill()
	}
	return f.heads
}

// ranked returns the heads, the live one first.
func (f *file) ranked() []head {
	heads := f.leading()
	all := make([]head, len(heads))
	for i, v := range heads {
		all[i] = head{id: v.rec.ID(), depth: v.depth, order: v.rec.Order(), content: v.body.Content()}
	}
	slices.SortFunc(all, func(a, b head) int { return a.before(&b) })
	return all
}

// cameBack reports whether a name of the file is there although it was removed: one more record may tell that the remover had seen everything.
func (f *file) cameBack() bool {
	for _, s := range f.spots {
		if s.cameBack {
			return true
		}
	}
	return false
}

// where returns where the names of a file are to be, by link.
func (t *Tree) where(f *file) map[uint64]*spot {
	all := map[uint64]*spot{}
	if f.typ == record.Directory {
		if f.pos != nil && (!f.removed || f.kids > 0) {
			all[0] = &spot{parent: f.pos.place.Parent, name: f.pos.place.Name, order: f.pos.order, cameBack: f.removed}
		}
		return all
	}
	var gone map[uint64]*spot // places of removed names
	var after map[uint64][]*record.Record
	for link, reg := range f.links {
		for i := len(reg.places) - 1; i >= 0; i-- {
			r := reg.places[i]
			p := r.Body.(*record.Place)
			if p.Removed() {
				continue
			}
			if parent := t.files[p.Parent]; parent == nil || parent.typ != record.Directory {
				continue
			}
			s := &spot{parent: p.Parent, name: p.Name, order: r.Order()}
			var removals []*record.Record
			for _, later := range reg.places[i+1:] {
				if later.Body.(*record.Place).Removed() {
					removals = append(removals, later)
				}
			}
			if len(removals) == 0 {
				all[link] = s
				break
			}
			if gone == nil {
				gone, after = map[uint64]*spot{}, map[uint64][]*record.Record{}
			}
			gone[link], after[link] = s, removals
			break
		}
	}
	if len(all) > 0 || len(f.leading()) == 0 {
		return all
	}
	for link, s := range gone {
		if !t.saw(f, after[link]) {
			s.cameBack = true
			all[link] = s
		}
	}
	return all
}

// saw reports whether the removals of a name, and those that have seen one of them, have seen all heads of the file.
func (t *Tree) saw(f *file, removals []*record.Record) bool {
	missing := map[record.ID]bool{}
	for _, v := range f.leading() {
		missing[v.rec.ID()] = true
	}
	// Nearly always the removals name the heads themselves.
	for _, r := range removals {
		for _, id := range r.Body.(*record.Place).Seen {
			delete(missing, id)
		}
	}
	if len(missing) == 0 {
		return true
	}
	get := func(id record.ID) *record.Record { return t.records[id].Record }
	speak := map[record.ID]bool{}
	for _, r := range removals {
		speak[r.ID()] = true
	}
	saw := seen(removals, get)
	var others []map[record.ID]bool // what each other removal of the file has seen
	for _, reg := range f.links {
		for _, r := range reg.places {
			if r.Body.(*record.Place).Removed() && !speak[r.ID()] {
				// With itself in it: one that is seen by another that speaks does not speak for that.
				others = append(others, seen([]*record.Record{r}, get))
			}
		}
	}
	// One that has seen one that has seen one that speaks has seen that one itself: once is enough.
	for _, other := range others {
		for id := range speak {
			if other[id] {
				for id := range other {
					saw[id] = true
				}
				break
			}
		}
	}
	for id := range missing {
		if !saw[id] {
			return false
		}
	}
	return true
}
