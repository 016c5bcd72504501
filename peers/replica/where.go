package replica

import (
	"slices"
	"strings"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// An author may be trusted with a part of the tree only. What a record of his counts then hangs on where it speaks of, as the tree is when the record is taken:
//
//   - a version or attributes, on where the file is: at one of its names at the least;
//   - a name, on where it is and on where it was, for a directory also of all below it, so that nothing is moved into the part, out of it, or away with what is above; a further name of a file on
//     where the file is, so that nobody gets at a file by a name that he gives it;
//   - a move of a directory, on that it comes later than what it follows;
//   - a removal, on where the name was; and on where those were of whose removals it speaks.
//
// The lowest counts. A directory that is new here, and lies on the way to where its author may write, leads there ([Leading]): it is there, but takes nobody's place.

// Where tells what an author may do, by path from the root, without a slash before it.
type Where struct {
	Standing func(path string) Standing // Merged, Proposed or PassedOver
	Leads    func(path string) bool     // it lies on the way to where his records are Merged
}

// judgeAt returns what a record counts whose author may not do the same everywhere.
func (r *Replica) judgeAt(rec *record.Record, w Where) Standing {
	switch b := rec.Says().Body.(type) {
	case *record.Place:
		if typ := r.tree.Type(b.File); typ != 0 && typ != b.Type {
			return PassedOver // the earlier of two types counts: a directory would be none any more, with all in it
		}
		if b.Removed() {
			return r.judgeRemoval(b, w)
		}
		return r.judgePlace(rec, b, w)
	case *record.Version:
		return r.judgeFile(b.File, w)
	case *record.Attr:
		if b.File == record.Root {
			return w.Standing("")
		}
		return r.judgeFile(b.File, w)
	}
	return PassedOver
}

// judgeFile returns the highest standing at any of the names of a file, or of those that it had if it has none.
func (r *Replica) judgeFile(id sharefs.FileID, w Where) Standing {
	there, was := PassedOver, PassedOver
	named := false
	r.tree.Trails(id, func(_ converge.Key, path string, is bool) {
		if is {
			there, named = higher(there, w.Standing(path)), true
		} else {
			was = higher(was, w.Standing(path))
		}
	})
	if named {
		return there
	}
	return was
}

func (r *Replica) judgePlace(rec *record.Record, p *record.Place, w Where) Standing {
	dir, ok := r.tree.Trail(p.Parent)
	if !ok {
		return PassedOver
	}
	to := converge.Join(dir, p.Name)
	s := w.Standing(to)
	known, from, moved := r.tree.Type(p.File) != 0, "", false // also if nobody knows yet where it is
	r.tree.Trails(p.File, func(key converge.Key, path string, _ bool) {
		if key.Link == p.Link {
			from, moved = path, true
		}
	})
	switch {
	case moved:
		s = lower(s, w.Standing(from))
	case known:
		s = lower(s, r.judgeFile(p.File, w))
	case s != Merged && p.Type == record.Directory && w.Leads(to) && r.vacant(to):
		return Leading
	}
	if moved && p.Type == record.Directory && !r.followsAll(rec, p) {
		return PassedOver
	}
	if moved && p.Type == record.Directory && from != to {
		r.tree.Below(p.File, func(at converge.Spot) {
			r.looked++
			if rest, ok := strings.CutPrefix(at.Path, from+"/"); ok && s != PassedOver {
				s = lower(s, lower(w.Standing(at.Path), w.Standing(converge.Join(to, rest))))
			}
		})
	}
	return s
}

// followsAll reports whether a move of a directory comes later than where it is and than where all is that it is moved into, which is not the directory itself: so it is in effect as it
// is judged, and does not make a circle of a move that somebody else made later.
func (r *Replica) followsAll(rec *record.Record, p *record.Place) bool {
	follows := true
	later := func(dir sharefs.FileID) bool {
		last := r.last.Get(converge.Key{File: dir})
		follows = last == nil || last.Order().Compare(rec.Says().Order()) < 0
		return follows
	}
	if later(p.File) {
		r.tree.Above(p.Parent, func(dir sharefs.FileID) bool {
			if dir == p.File {
				follows = false
			}
			return follows && later(dir)
		})
	}
	return follows
}

// vacant reports whether a directory may get a path without being in the way of something.
func (r *Replica) vacant(path string) bool {
	n, ok := r.lookup(path)
	return !ok || n.Type == record.Directory
}

func (r *Replica) judgeRemoval(p *record.Place, w Where) Standing {
	speaks := map[uint64]bool{p.Link: true}
	for _, id := range p.Seen {
		if rec := r.tree.Record(id); rec != nil {
			if o, ok := rec.Body.(*record.Place); ok && o.File == p.File {
				speaks[o.Link] = true
			}
		}
	}
	s, found := Merged, false
	r.tree.Trails(p.File, func(key converge.Key, path string, _ bool) {
		if speaks[key.Link] {
			s = lower(s, w.Standing(path))
			found = found || key.Link == p.Link
		}
	})
	if !found {
		return PassedOver
	}
	return s
}

// outside are records that were passed over, by the file that they are about, and placements also by the directory that they are in: something may come into the part later, and what was
// said of it before counts then. With each stands how often it was judged anew for that: a directory can be moved as often as there are records of what is in it.
type outside map[sharefs.FileID]map[record.ID]int

// mostLooks bounds how often what was passed over is judged anew as something comes in, in one life.
const mostLooks = 16

// set notes what a record counts from now on.
func (o outside) set(rec *record.Record, s Standing) {
	keys := []sharefs.FileID{fileOf(rec)}
	if b, ok := rec.Says().Body.(*record.Place); ok && !b.Removed() {
		keys = append(keys, b.Parent)
	}
	for _, key := range keys {
		switch {
		case s != PassedOver:
			o.drop(key, rec.ID())
		case o[key] == nil:
			o[key] = map[record.ID]int{rec.ID(): 0}
		default:
			o[key][rec.ID()] += 0
		}
	}
}

func (o outside) drop(key sharefs.FileID, id record.ID) {
	if delete(o[key], id); len(o[key]) == 0 {
		delete(o, key)
	}
}

// look lists what was passed over of a file, to be judged anew.
func (o outside) look(key sharefs.FileID) (ids []record.ID) {
	for id, looks := range o[key] {
		ids = append(ids, id)
		if o[key][id]++; looks+1 >= mostLooks {
			o.drop(key, id)
		}
	}
	return ids
}

// addPart takes a record into the tree at once that was judged by where it speaks of, so that the next one is judged by that. W is the watch of its item.
func (r *Replica) addPart(j judged, w *watch) {
	r.add(j.inputs()...)
	if b, ok := j.Says().Body.(*record.Place); ok && (j.standing == Merged || j.standing == Leading) {
		r.cameIn(b.File, w)
	}
}

// cameIn judges anew what was passed over of a file that has its place now, and of what is in it.
func (r *Replica) cameIn(file sharefs.FileID, w *watch) {
	watches := map[sharefs.PeerID]*watch{}
	if w != nil {
		watches[w.author] = w
	}
	for todo := []sharefs.FileID{file}; len(todo) > 0; {
		file, todo = todo[0], todo[1:]
		var list []*record.Record
		for _, id := range r.outside.look(file) {
			if rec := r.tree.Record(id); rec != nil {
				list = append(list, rec)
			}
		}
		slices.SortFunc(list, byOrder)
		for _, rec := range list {
			j := judged{rec, r.judge(rec)}
			if j.standing == PassedOver {
				continue
			}
			w, ok := watches[rec.Author]
			if !ok {
				w = r.watchOf(rec.Author)
				watches[rec.Author] = w
			}
			if j.standing == Merged && w != nil {
				j.standing = w.judge(rec)
			}
			r.keep(j)
			r.add(j.inputs()...)
			if b, ok := rec.Says().Body.(*record.Place); ok && b.File != file {
				todo = append(todo, b.File)
			}
		}
	}
}

// rank orders what a record may be judged to be.
func rank(s Standing) int {
	switch s {
	case Merged:
		return 2
	case Proposed:
		return 1
	}
	return 0
}

func higher(a, b Standing) Standing {
	if rank(b) > rank(a) {
		return b
	}
	return a
}

func lower(a, b Standing) Standing {
	if rank(b) < rank(a) {
		return b
	}
	return a
}

// where returns what an author may do by path; ok is false if that is the same everywhere.
func (r *Replica) where(author sharefs.PeerID) (w Where, ok bool) {
	if author == r.cfg.Self || r.cfg.Where == nil {
		return w, false
	}
	return r.cfg.Where(author)
}
