package replica

import (
	"slices"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// mostHeadsTold is how many versions of a file are told that this host leaves as they are.
const mostHeadsTold = 4

// have reports whether a record is here itself, and not only told of by another author.
func (r *Replica) have(id record.ID) bool { return r.tree.Record(id) != nil && r.vouched[id] == nil }

// signed returns a record as it can be sent by itself: one that is here because somebody told of it alone goes as that.
func (r *Replica) signed(rec *record.Record) *record.Record {
	if outer := r.vouched[rec.ID()]; outer != nil {
		return outer
	}
	return rec
}

// inputs is what a record brings into the tree: itself, and what it tells of another author.
func (j judged) inputs() []converge.Input {
	in := []converge.Input{{Record: j.Record, Standing: j.standing.counts()}}
	if inner := j.Says(); inner != j.Record {
		in = append(in, converge.Input{Record: inner, Standing: j.standing.counts()})
	}
	return in
}

// vouch notes what a record tells that is about to come into the tree. If that is here by itself, it counts by this one too.
func (r *Replica) vouch(i converge.Input) {
	inner := i.Record.Says()
	if inner == i.Record {
		return
	}
	id := inner.ID()
	if r.tree.Record(id) == nil {
		r.vouched[id] = i.Record
	} else if _, aside := r.aside[inner.Author][id]; aside && i.Standing == converge.Merged {
		r.keep(judged{r.tree.Record(id), Merged})
	}
}

// lean tells what a record of this host leans on and others wrote, for hosts where this one counts and they do not: whoever writes to a file, or gives it a name, tells also
// where it is and what it is like, and the directories above it. Each is told once.
func (r *Replica) lean(body record.Body) error {
	switch b := body.(type) {
	case *record.Place:
		if b.Removed() {
			return nil
		}
		if err := r.tellFile(b.File, false); err != nil {
			return err
		}
		return r.tellAbove(b.Parent)
	case *record.Version:
		// What it replaces, which has what its author wrote before that replaced too, where a part of that counts.
		for _, id := range r.directly(b.Parents) {
			if err := r.tellAgain(r.tree.Record(id)); err != nil {
				return err
			}
		}
		return r.tellFile(b.File, true)
	case *record.Attr:
		return r.tellFile(b.File, true)
	}
	return nil
}

// directly lists those of some versions from which none of the others comes by itself.
func (r *Replica) directly(ids []record.ID) []record.ID {
	return slices.DeleteFunc(slices.Clone(ids), func(id record.ID) bool {
		return slices.ContainsFunc(ids, func(other record.ID) bool {
			rec := r.tree.Record(other)
			if rec == nil {
				return false
			}
			v, ok := rec.Body.(*record.Version)
			return ok && slices.Contains(v.Parents, id)
		})
	})
}

// tellFile tells what others wrote of a file: of its places, if they are not told just now, its versions and its attributes.
func (r *Replica) tellFile(id sharefs.FileID, places bool) (err error) {
	for _, at := range r.spots(id) {
		if n, ok := r.tree.Node(at.Key); ok && err == nil {
			err = r.tellAgain(r.tree.Record(n.Attr))
		}
		if places && err == nil {
			err = r.tellAgain(r.tree.Record(at.Place))
		}
		if places && err == nil {
			err = r.tellAbove(at.Parent)
		}
	}
	heads := r.tree.Heads(id)
	for _, head := range heads[:min(mostHeadsTold, len(heads))] {
		if err == nil {
			err = r.tellAgain(r.tree.Record(head))
		}
	}
	return err
}

// tellAbove tells where a directory is, and those above it.
func (r *Replica) tellAbove(dir sharefs.FileID) (err error) {
	for dir != record.Root && err == nil {
		up := record.Root // of a directory that has no place
		for _, at := range r.spots(dir) {
			up, err = at.Parent, r.tellAgain(r.tree.Record(at.Place))
		}
		if n, ok := r.tree.Node(converge.Key{File: dir}); ok && err == nil {
			err = r.tellAgain(r.tree.Record(n.Attr))
		}
		dir = up
	}
	return err
}

func (r *Replica) spots(id sharefs.FileID) (all []converge.Spot) {
	r.tree.Spots(id, func(at converge.Spot) { all = append(all, at) })
	return all
}

// tellAgain tells a record of another author, unless this host has told it.
func (r *Replica) tellAgain(rec *record.Record) error {
	if rec == nil || rec.Author == r.cfg.Self || r.said[rec.ID()] {
		return nil
	}
	if counts, _ := r.tree.Standing(rec.ID()); counts != converge.Merged { // nobody is to take it for more than it is here
		return nil
	}
	r.said[rec.ID()] = true
	return r.say(&record.Told{Record: rec}, rec.HLC)
}

// cover completes ids of versions of a file, which are replaced or were seen, by the last versions before them of other authors: where the authors of those do not count, it is
// these that are replaced. What they name in turn goes further back.
func (r *Replica) cover(ids []record.ID, most int) []record.ID {
	authors := map[sharefs.PeerID]bool{}
	last := map[sharefs.PeerID]*record.Record{}
	for _, id := range ids {
		if rec := r.tree.Record(id); rec != nil && rec.Body.Kind() == record.KindVersion {
			authors[rec.Author] = true
		}
	}
	for _, id := range ids {
		rec := r.tree.Record(id)
		if rec == nil {
			continue
		}
		v, ok := rec.Body.(*record.Version)
		if !ok {
			continue
		}
		for _, before := range v.Parents {
			o := r.tree.Record(before)
			if o == nil || authors[o.Author] {
				continue
			}
			if w, ok := o.Body.(*record.Version); !ok || w.File != v.File {
				continue
			}
			if was := last[o.Author]; was == nil || was.Order().Compare(o.Order()) < 0 {
				last[o.Author] = o
			}
		}
	}
	var more []*record.Record
	for _, o := range last {
		more = append(more, o)
	}
	slices.SortFunc(more, func(a, b *record.Record) int { return b.Order().Compare(a.Order()) }) // the latest first
	for _, o := range more[:min(len(more), max(0, most-len(ids)))] {
		ids = append(ids, o.ID())
	}
	slices.SortFunc(ids, record.ID.Compare)
	return slices.Compact(ids)
}
