package replica

import (
	"slices"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// Standing is what a record counts on this host. It is decided when the record is taken, kept with it, and changed by [Replica.Decide] alone. The numbers are on disk.
type Standing uint8

// The standings. Only what is Merged makes the live tree. Of all others a version counts as what lies between merged ones (converge.Known), and a place or
// attributes count for nothing.
const (
	Known      Standing = iota // decided against, or nobody is to decide
	Merged                     // takes part in the live tree
	Proposed                   // its author may propose: it waits to be accepted, and who looks at the author's tree sees it
	Held                       // its author may write, but not this without a yes of the owner
	PassedOver                 // nothing of it counts. Where something of its author does it is kept, for something that comes later may have it count
	Refused                    // was proposed, and decided against: it is proposed again when its author says more of the same file
	Leading                    // a directory on the way to where its author may write (converge.Leads)
	standings
)

// waits reports whether what a record says waits for somebody to decide, and so counts in the tree of its author.
func (s Standing) waits() bool { return s == Proposed || s == Held }

func (s Standing) String() string {
	if s >= standings {
		return "unknown"
	}
	return [...]string{"known", "merged", "proposed", "held", "passed over", "refused", "leading"}[s]
}

// counts is what a record of a standing is in the live tree.
func (s Standing) counts() converge.Standing {
	switch s {
	case Merged:
		return converge.Merged
	case Leading:
		return converge.Leads
	}
	return converge.Known
}

// judged is a record and what it counts.
type judged struct {
	*record.Record
	standing Standing
}

// row is the row of a record: 1 byte what it counts, then the record.
func (j judged) row() []byte { return j.Append(append(make([]byte, 0, 1+j.Size()), byte(j.standing))) }

func decodeRow(v []byte) (j judged, err error) {
	if len(v) == 0 || v[0] >= byte(standings) {
		return j, damaged("records")
	}
	j.standing = Standing(v[0])
	j.Record, err = record.Decode(v[1:])
	return j, err
}

// asides are the records that are neither known nor merged, by author.
type asides map[sharefs.PeerID]map[record.ID]Standing

func (a asides) set(rec *record.Record, s Standing) {
	of := a[rec.Author]
	if s == Known || s == Merged || s == Leading {
		delete(of, rec.ID())
		if len(of) == 0 {
			delete(a, rec.Author)
		}
		return
	}
	if of == nil {
		of = map[record.ID]Standing{}
		a[rec.Author] = of
	}
	of[rec.ID()] = s
}

// judge returns what a record that comes now counts.
func (r *Replica) judge(rec *record.Record) Standing {
	if rec.Author == r.cfg.Self {
		return Merged
	}
	if w, ok := r.where(rec.Author); ok {
		return r.judgeAt(rec, w)
	}
	s := r.cfg.Standing(rec)
	if s != Merged && rec.Body.Kind() == record.KindCut {
		return PassedOver // nobody decides about it
	}
	return s
}

// keep notes what a record counts from now on, in memory but the tree, and on disk.
func (r *Replica) keep(j judged) {
	id := j.ID()
	waited := r.aside[j.Author][id].waits()
	r.aside.set(j.Record, j.standing)
	r.outside.set(j.Record, j.standing)
	r.indexHeld(j.Record, j.standing)
	r.cuts.note(j.Record)
	r.refused.set(j)
	if o := r.outlooks[j.Author]; o != nil && j.standing.waits() {
		more := judged{j.Record, Merged}.inputs()
		o.pending, o.records = append(o.pending, more...), o.records+len(more)
	} else if o != nil && waited && j.standing != Merged { // a tree gives nothing up that it has
		r.giveUp(j.Author)
	}
	if j.standing == Proposed {
		r.reopen(j.Record)
	}
	r.put(spaceRecord, id[:], j.row())
}

// indexHeld notes whether a placement is held.
func (r *Replica) indexHeld(rec *record.Record, s Standing) {
	p, ok := rec.Says().Body.(*record.Place)
	if !ok {
		return
	}
	key := converge.Key{File: p.File, Link: p.Link}
	of := r.heldAt[key]
	_, was := of[rec.ID()]
	switch {
	case was == (s == Held):
	case was:
		delete(of, rec.ID())
		if len(of) == 0 {
			delete(r.heldAt, key)
		}
		r.holding[rec.Author]--
	default:
		if of == nil {
			of = map[record.ID]*record.Record{}
			r.heldAt[key] = of
		}
		of[rec.ID()] = rec
		r.holding[rec.Author]++
	}
}

// Aside lists the records of an author that have one of some standings among Proposed, Held and PassedOver, in the order of all records ([record.Order]).
func (r *Replica) Aside(author sharefs.PeerID, of ...Standing) (list []*record.Record, err error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	for id, s := range r.aside[author] {
		if slices.Contains(of, s) {
			list = append(list, r.tree.Record(id))
		}
	}
	slices.SortFunc(list, func(a, b *record.Record) int { return a.Order().Compare(b.Order()) })
	return list, nil
}

// AsideCounts returns how many records of each author are Proposed, Held or PassedOver. Authors of whom none is are left out.
func (r *Replica) AsideCounts() (map[sharefs.PeerID]map[Standing]int, error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	all := map[sharefs.PeerID]map[Standing]int{}
	for author, of := range r.aside {
		all[author] = map[Standing]int{}
		for _, s := range of {
			all[author][s]++
		}
	}
	return all, nil
}

// StandingOf returns what a record counts here; ok is false for one that is not here.
func (r *Replica) StandingOf(id record.ID) (s Standing, ok bool, err error) {
	if err := r.enter(); err != nil {
		return 0, false, err
	}
	defer r.mu.Unlock()
	s, ok = r.standingOf(id)
	return s, ok, nil
}

func (r *Replica) standingOf(id record.ID) (s Standing, ok bool) {
	rec := r.tree.Record(id)
	if !r.have(id) {
		return 0, false
	}
	if s, ok := r.aside[rec.Author][id]; ok {
		return s, true
	}
	switch counts, _ := r.tree.Standing(id); counts {
	case converge.Merged:
		return Merged, true
	case converge.Leads:
		return Leading, true
	}
	return Known, true
}

// Decide has records count otherwise from now on, which survives power loss; [Replica.Apply] does what follows. What is Merged stays so, and records that are not here are left out.
func (r *Replica) Decide(to Standing, ids ...record.ID) error {
	if err := r.enter(); err != nil {
		return err
	}
	defer r.mu.Unlock()
	r.decide(to, ids...)
	return r.sync()
}

func (r *Replica) decide(to Standing, ids ...record.ID) {
	var in []converge.Input
	for _, id := range ids {
		if had, ok := r.standingOf(id); !ok || had == Merged || had == to {
			continue
		}
		j := judged{r.tree.Record(id), to}
		r.keep(j)
		in = append(in, j.inputs()...)
	}
	r.add(in...)
}
