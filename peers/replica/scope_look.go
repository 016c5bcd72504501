package replica

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"strings"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// index begins to note which records each file has, once somebody needs it.
func (r *Replica) index() {
	if r.about != nil {
		return
	}
	r.about = map[sharefs.FileID][]*record.Record{}
	r.tree.Inputs(func(i converge.Input) { r.about[fileOf(i.Record)] = append(r.about[fileOf(i.Record)], i.Record) })
}

// scoped brings the scopes up to date after records were added to the tree, of which news are new to it.
func (r *Replica) scoped(in []converge.Input, news []*record.Record) {
	if len(r.scopes) == 0 {
		return
	}
	came := map[sharefs.FileID][]*record.Record{}
	files := map[sharefs.FileID]struct{}{}
	for _, rec := range news {
		r.about[fileOf(rec)] = append(r.about[fileOf(rec)], rec)
	}
	for _, i := range in { // also those that were here and count more now
		id := fileOf(i.Record)
		came[id] = append(came[id], i.Record)
		files[id] = struct{}{}
	}
	r.tree.Touched(func(id sharefs.FileID) { files[id] = struct{}{} })
	list := slices.Collect(maps.Keys(files))
	for _, s := range r.scopes {
		r.look(s, slices.Clone(list), came, false) // each look uses its list up
	}
}

// survey brings a scope up to date by looking at everything, also at what was told before, as when rules have changed.
func (r *Replica) survey(s *scope) {
	list := slices.Collect(maps.Keys(s.files))
	for id := range r.about {
		if s.files[id] == nil {
			list = append(list, id)
		}
	}
	r.withdraw(s)
	r.look(s, list, nil, true)
}

// was is what was told of a file before a look.
type was struct {
	all   bool
	names []partName
}

// reads reports whether a name was where the peer may read.
func (w was) reads(link uint64) bool {
	return slices.ContainsFunc(w.names, func(n partName) bool { return n.link == link && n.reads })
}

// look looks at files again, some of whose records came just now; check: also at what was told of them before.
func (r *Replica) look(s *scope, list []sharefs.FileID, came map[sharefs.FileID][]*record.Record, check bool) {
	before := map[sharefs.FileID]was{}
	for len(list) > 0 {
		id := list[len(list)-1]
		list = list[:len(list)-1]
		if id != record.Root && id != record.Nowhere {
			list = r.names(s, id, before, list)
		}
	}
	var fresh []*row
	ids := slices.SortedFunc(maps.Keys(before), func(a, b sharefs.FileID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range ids {
		r.stray(s, id, before[id])
		fresh = r.tell(s, id, before[id], came[id], check, fresh)
	}
	if check {
		fresh = r.tellEnded(s, fresh)
	}
	r.number(s, fresh)
}

// names finds out which names of a file are told, and adds to the list directories that came to lead to something by that, or lead nowhere now.
func (r *Replica) names(s *scope, id sharefs.FileID, before map[sharefs.FileID]was, list []sharefs.FileID) []sharefs.FileID {
	p := s.files[id]
	var old []partName
	all := false
	if p != nil {
		old, all = p.names, p.all
	}
	if _, ok := before[id]; !ok {
		before[id] = was{all, old}
	}
	var now []partName
	r.tree.Spots(id, func(at converge.Spot) {
		reads := s.Reads(at.Path)
		if reads || at.Type == record.Directory && s.kids[id] > 0 {
			n := partName{link: at.Link, parent: at.Parent, place: at.Place, reads: reads}
			if reads {
				n.path = at.Path
			}
			now = append(now, n)
		}
	})
	if len(now) > 0 && p == nil {
		p = &part{}
		s.files[id] = p
	}
	if p != nil {
		p.names = now
	}
	count := func(dir sharefs.FileID, by int) {
		had := s.kids[dir] > 0
		if s.kids[dir] += by; s.kids[dir] == 0 {
			delete(s.kids, dir)
		}
		if had != (s.kids[dir] > 0) {
			list = append(list, dir)
		}
	}
	for _, n := range now {
		count(n.parent, 1)
	}
	for _, n := range old {
		count(n.parent, -1)
	}
	return list
}

// tell finds out what of a file is to be told, and adds it to fresh.
func (r *Replica) tell(s *scope, id sharefs.FileID, old was, came []*record.Record, check bool, fresh []*row) []*row {
	p := s.files[id]
	if p == nil {
		return fresh
	}
	add := func(id record.ID) {
		w := &row{id: id}
		p.rows, fresh = append(p.rows, w), append(fresh, w)
	}
	reads := slices.ContainsFunc(p.names, func(n partName) bool { return n.reads })
	if reads || old.all {
		switch {
		case !old.all:
			came = r.about[id]
		case slices.ContainsFunc(p.names, func(n partName) bool { return n.reads && !old.reads(n.link) }):
			came = append(slices.Clip(came), r.removalsOf(id)...) // it may have come back: what removed it came when the peer knew nothing of it
		}
		has := p.has(len(came))
		for _, n := range p.names {
			if n.reads && !has(n.place) {
				add(n.place)
			}
		}
		for _, rec := range slices.SortedFunc(slices.Values(came), byOrder) {
			if w := s.gone[rec.ID()]; w != nil && reads && rec.Body.Kind() == record.KindVersion { // it is one of a file that is told again
				delete(s.gone, w.id)
				w.path, p.rows = "", append(p.rows, w)
				r.write(s, w)
				continue
			}
			if s.gone[rec.ID()] == nil && r.picks(s, p, rec) && !has(rec.ID()) {
				add(rec.ID())
			}
		}
	}
	for _, n := range old.names {
		if !n.reads || !old.all || p.reads(n.link) {
			continue
		}
		if !r.tree.Placed(converge.Key{File: id, Link: n.link}) {
			r.removed(s, p, id, n)
		}
		r.left(s, p, func(b *record.Place) bool { return b.Link == n.link })
	}
	if check && reads {
		r.left(s, p, func(b *record.Place) bool { return !r.readsPlace(s, p, b) })
	}
	p.all = reads
	switch {
	case reads:
	case len(p.names) > 0:
		keep := p.row(p.names[0].place)
		r.eraseAll(s, p, keep)
		if keep == nil {
			add(p.names[0].place)
		}
	default:
		r.keepSeen(s, p, id)
		r.eraseAll(s, p, nil)
		delete(s.files, id)
	}
	return fresh
}

// keepSeen has the versions that removals have seen be told as long as those are: a peer that lacks one of them would not know that what it has was removed.
func (r *Replica) keepSeen(s *scope, p *part, id sharefs.FileID) {
	var versions map[record.ID]*row
	for _, rec := range slices.SortedFunc(slices.Values(r.removalsOf(id)), byOrder) {
		gone := s.gone[rec.ID()]
		if gone == nil {
			continue
		}
		if versions == nil {
			versions = map[record.ID]*row{}
			for _, w := range p.rows {
				if r.tree.Record(w.id).Body.Kind() == record.KindVersion {
					versions[w.id] = w
				}
			}
		}
		for todo := slices.Clone(rec.Says().Body.(*record.Place).Seen); len(todo) > 0; {
			id := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			w := versions[id]
			if w == nil {
				continue
			}
			delete(versions, id)
			w.path, s.gone[id] = gone.path, w
			if w.number > 0 {
				r.write(s, w)
			}
			todo = append(todo, r.tree.Record(id).Body.(*record.Version).Parents...)
		}
	}
	p.rows = slices.DeleteFunc(p.rows, func(w *row) bool { return s.gone[w.id] == w })
}

// removalsOf returns all removals of names of a file.
func (r *Replica) removalsOf(id sharefs.FileID) (list []*record.Record) {
	for _, rec := range r.about[id] {
		if b, ok := rec.Says().Body.(*record.Place); ok && b.Removed() {
			list = append(list, rec)
		}
	}
	return list
}

// has returns what tells of as many records, one after the other, whether they have a row; those that have none get one then.
func (p *part) has(many int) func(record.ID) bool {
	const few = 64
	if many < few {
		return func(id record.ID) bool { return p.row(id) != nil }
	}
	all := make(map[record.ID]struct{}, len(p.rows)+many)
	for _, w := range p.rows {
		all[w.id] = struct{}{}
	}
	return func(id record.ID) bool {
		_, ok := all[id]
		all[id] = struct{}{}
		return ok
	}
}

func byOrder(a, b *record.Record) int { return a.Order().Compare(b.Order()) }

// eraseAll has nothing of a file be told any more but one row.
func (r *Replica) eraseAll(s *scope, p *part, keep *row) {
	for _, w := range p.rows {
		if w != keep {
			r.erase(s, w)
		}
	}
	p.rows = nil
	if keep != nil {
		p.rows = []*row{keep}
	}
}

// reads reports whether a name of a file is where the peer may read.
func (p *part) reads(link uint64) bool {
	return slices.ContainsFunc(p.names, func(n partName) bool { return n.link == link && n.reads })
}

// left has placements not be told any more.
func (r *Replica) left(s *scope, p *part, which func(*record.Place) bool) {
	p.rows = slices.DeleteFunc(p.rows, func(w *row) bool {
		b, ok := r.tree.Record(w.id).Says().Body.(*record.Place)
		off := ok && !b.Removed() && which(b)
		if off {
			r.erase(s, w)
		}
		return off
	})
}

// picks reports whether a record of a file that is in a scope is told: all but where names were that the peer may not read, or in directories that it may not read; removals of
// names of which it knows nothing; and what was passed over, unless it is a version, from which others may have gone on.
func (r *Replica) picks(s *scope, p *part, rec *record.Record) bool {
	b, ok := rec.Says().Body.(*record.Place)
	_, version := rec.Says().Body.(*record.Version)
	switch {
	case version:
		return true
	case r.aside[rec.Author][rec.ID()] == PassedOver:
		return false
	case !ok:
		return true
	case b.Removed():
		knows := func(told *record.Record) bool {
			o, ok := told.Says().Body.(*record.Place)
			return ok && (o.Link == b.Link || o.Removed() && slices.Contains(b.Seen, told.ID()))
		}
		return slices.ContainsFunc(p.rows, func(w *row) bool { return knows(r.tree.Record(w.id)) }) ||
			slices.ContainsFunc(r.removalsOf(b.File), func(o *record.Record) bool { return s.gone[o.ID()] != nil && knows(o) })
	}
	return r.readsPlace(s, p, b)
}

// readsPlace reports whether a placement says where a name is, or was before, that the peer may read.
func (r *Replica) readsPlace(s *scope, p *part, b *record.Place) bool {
	dir, ok := r.tree.Path(b.Parent)
	return ok && p.reads(b.Link) && s.Reads(converge.Join(dir, b.Name))
}

// removed has the removals that ended a name be told whatever becomes of its file.
func (r *Replica) removed(s *scope, p *part, id sharefs.FileID, n partName) {
	ended := map[record.ID]bool{}
	for _, rec := range slices.SortedFunc(slices.Values(r.about[id]), byOrder) {
		b, ok := rec.Body.(*record.Place)
		if !ok || !b.Removed() || b.Link != n.link && !slices.ContainsFunc(b.Seen, func(id record.ID) bool { return ended[id] }) {
			continue
		}
		w := p.row(rec.ID())
		if w == nil {
			continue
		}
		ended[w.id] = true
		p.rows = slices.DeleteFunc(p.rows, func(o *row) bool { return o == w })
		w.path, s.gone[w.id] = n.path, w
		if w.number > 0 {
			r.write(s, w)
		}
	}
}

// The order in which the records of a look are told: whoever judges them by where a file is has to know that first.
const (
	tellPlace = 1<<30 + iota // behind directories, whose placements come by their depth
	tellVersion
	tellAttr
	tellRemoval
)

// number gives rows their numbers: directories first, from the root downwards, then names, contents, attributes and removals, each in the order of records, which is that in which they
// were written.
func (r *Replica) number(s *scope, fresh []*row) {
	type place struct {
		rank  int
		order record.Order
		row   *row
	}
	all := make([]place, 0, len(fresh))
	for _, w := range fresh {
		if w.off {
			continue
		}
		rec := r.tree.Record(w.id)
		at := place{tellAttr, rec.Order(), w}
		switch b := rec.Says().Body.(type) {
		case *record.Version:
			at.rank = tellVersion
		case *record.Place:
			at.rank = tellPlace
			if b.Removed() {
				at.rank = tellRemoval
			} else if path, ok := r.tree.Path(b.File); ok {
				at.rank = strings.Count(path, "/")
			}
		}
		all = append(all, at)
	}
	slices.SortFunc(all, func(a, b place) int { return cmp.Or(cmp.Compare(a.rank, b.rank), a.order.Compare(b.order)) })
	for _, at := range all {
		r.write(s, at.row)
	}
}

func isDirectory(rec *record.Record) bool {
	switch b := rec.Says().Body.(type) {
	case *record.Place:
		return b.Type == record.Directory
	case *record.Version:
		return false
	}
	return true // attributes tell nothing; those of a file stand beside its placement
}
