package converge

import (
	"slices"

	"sharefs"
	"sharefs/peers/few"
	"sharefs/peers/record"
)

// file is what is known of one file.
type file struct {
	id    sharefs.FileID
	typ   record.Type    // 0: not known yet
	owned bool           // a placement is by somebody whose trust reaches there; otherwise all only lead
	gaps  bool           // some version comes from one that is not here as merged
	stale bool           // of one with gaps: heads and depths have to be found out anew
	kids  int32          // of a directory: names that have their place in it
	first *record.Record // its first placement
	attr  *record.Record

	// Of a directory:
	moved       // after the log was carried out
	was   moved // before it was carried out again
	class *class

	// Of others:
	links    few.Map[uint64, []*record.Record] // the placements of each name, in order
	versions few.Map[record.ID, *version]
	heads    []*version

	spots few.Map[uint64, spot] // where its names are, as the rest of the tree knows it
}

// spot is where a name is, by the placement that is in effect; the zero value is nowhere.
type spot struct {
	place    *record.Record
	cameBack bool
}

func (s spot) parent() sharefs.FileID { return s.place.Body.(*record.Place).Parent }

func (s spot) typ() record.Type { return s.place.Body.(*record.Place).Type }

func (s spot) name() string { return s.place.Body.(*record.Place).Name }

// version is a node of a file's graph.
type version struct {
	rec        *record.Record
	body       *record.Version
	depth      int32 // unless file.stale
	merged     bool
	accepted   bool // it fits the file
	superseded bool // a merged version descends from it
}

// insert files a placement of a regular file or symlink.
func (f *file) insert(r *record.Record, p *record.Place) {
	places, _ := f.links.Get(p.Link)
	i, _ := slices.BinarySearchFunc(places, r, (*record.Record).Compare)
	f.links.Set(p.Link, slices.Insert(places, i, r))
}

// addVersion files a version, or one that was known and now is merged, and reports whether the heads, or their order, may have changed.
func (f *file) addVersion(r *record.Record, body *record.Version, merged bool) bool {
	v, ok := f.versions.Get(r.ID())
	if !ok {
		v = &version{rec: r, body: body, merged: merged}
		f.versions.Set(r.ID(), v)
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
	for _, v := range f.versions.All() {
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
		p, _ := f.versions.Get(id)
		v.depth = max(v.depth, p.depth+1)
	}
	return f.lead(v)
}

// parent returns a version from which another one comes; nil if it is not here, or comes later, of which no honest author is the cause.
func (f *file) parent(v *version, id record.ID) *version {
	p, ok := f.versions.Get(id)
	if !ok || !p.accepted || p.rec.Compare(v.rec) > 0 {
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
		p, _ := f.versions.Get(todo[len(todo)-1])
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
	for _, v := range f.versions.All() {
		if v.accepted {
			all = append(all, v)
		}
	}
	slices.SortFunc(all, func(a, b *version) int { return a.rec.Compare(b.rec) })
	open := map[*version]bool{}
	deepest := map[sharefs.PeerID]int32{} // of the merged versions of an author so far
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
		all[i] = head{id: v.rec.ID(), depth: int(v.depth), order: v.rec.Order(), content: v.body.Content()}
	}
	slices.SortFunc(all, func(a, b head) int { return a.before(&b) })
	return all
}

// cameBack reports whether a name of the file is there although it was removed: one more record may tell that the remover had seen everything.
func (f *file) cameBack() bool {
	for _, s := range f.spots.All() {
		if s.cameBack {
			return true
		}
	}
	return false
}

// where returns where the names of a file are to be, by link.
func (t *Tree) where(f *file) (all few.Map[uint64, spot]) {
	if f.typ == record.Directory {
		if f.pos != nil && (!f.removed || f.kids > 0) {
			all.Set(0, spot{f.pos.record, f.removed})
		}
		return all
	}
	var gone few.Map[uint64, spot] // places of removed names
	var after map[uint64][]*record.Record
	for link, places := range f.links.All() {
		for i, r := range slices.Backward(places) {
			p := r.Body.(*record.Place)
			if p.Removed() {
				continue
			}
			if parent := t.files.Get(p.Parent); parent == nil || parent.typ != record.Directory {
				continue
			}
			var removals []*record.Record
			for _, later := range places[i+1:] {
				if later.Body.(*record.Place).Removed() {
					removals = append(removals, later)
				}
			}
			if len(removals) == 0 {
				all.Set(link, spot{place: r})
				break
			}
			if after == nil {
				after = map[uint64][]*record.Record{}
			}
			gone.Set(link, spot{r, true})
			after[link] = removals
			break
		}
	}
	if all.Len() > 0 || len(f.leading()) == 0 {
		return all
	}
	for link, s := range gone.All() {
		if !t.saw(f, after[link]) {
			all.Set(link, s)
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
	speak := map[record.ID]bool{}
	for _, r := range removals {
		speak[r.ID()] = true
	}
	saw := seen(removals, t.Record)
	var others []map[record.ID]bool // what each other removal of the file has seen
	for _, places := range f.links.All() {
		for _, r := range places {
			if r.Body.(*record.Place).Removed() && !speak[r.ID()] {
				// With itself in it: one that is seen by another that speaks does not speak for that.
				others = append(others, seen([]*record.Record{r}, t.Record))
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
