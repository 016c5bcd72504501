package replica

import (
	"fmt"
	"slices"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// What is put back where an author's part is taken back may be another part of the same author: what he had said up to one cut, and a lower cut comes later. With that it
// has to go as well, whoever put it back, for nobody said it anew. So records tell that they take something back: they are in batches of their own that begin with a cut
// ([record.Cut]) by who says it, which may be in many of them.

// backs are the records that take something back, by the cut that begins their batches.
type backs map[record.ID]record.ID

// Rows of the space global: "back " and the id of such a record → the id of that cut.
const globalBack = "back "

func (r *Replica) loadBacks() error {
	bad := false
	err := r.cfg.Store.Scan(spaceGlobal, []byte(globalBack), []byte("back!"), func(k, v []byte) bool {
		if k = k[len(globalBack):]; len(k) != len(record.ID{}) || len(v) != len(record.ID{}) {
			bad = true
			return false
		}
		r.backs[record.ID(k)] = record.ID(v)
		return true
	})
	if err == nil && bad {
		err = damaged("what takes something back")
	}
	return err
}

func (r *Replica) noteBack(id, cut record.ID) {
	if _, known := r.backs[id]; !known {
		r.backs[id] = cut
		r.put(spaceGlobal, slices.Concat([]byte(globalBack), id[:]), cut[:])
	}
}

// noteBacks notes what a batch takes back.
func (r *Replica) noteBacks(i *Item) {
	if i.Records[0].Body.Kind() != record.KindCut {
		return
	}
	for _, rec := range i.Records[1:] {
		r.noteBack(rec.ID(), i.Records[0].ID())
	}
}

// takesBack notes of what this host says meanwhile that it takes something back of an author, whom it cuts by that itself, if it did not before.
func (r *Replica) takesBack(author sharefs.PeerID, at *record.Cut, say func() error) error {
	if err := r.commit(); err != nil { // so that nothing else is said meanwhile
		return err
	}
	cut := r.ownCut(author)
	if cut != nil && cut.Share != record.ShareID(r.cfg.Keys.Share()) { // no batch is of two
		cut = nil
	}
	if cut == nil && at != nil {
		id, err := r.sayID(&record.Cut{Author: author, Incarnation: at.Incarnation, Number: at.Number})
		if err != nil {
			return err
		}
		cut = r.tree.Record(id)
	}
	said := len(r.fresh)
	if err := say(); err != nil || cut == nil {
		return err
	}
	for _, rec := range r.fresh[said:] {
		r.noteBack(rec.ID(), cut.ID())
	}
	return nil
}

// wording is what a record says of a file, but for what it replaces.
func wording(rec *record.Record) string {
	switch b := rec.Body.(type) {
	case *record.Place:
		return fmt.Sprintf("%d place %x %q", b.Link, b.Parent, b.Name)
	case *record.Version:
		return "version " + b.Content()
	case *record.Attr:
		return fmt.Sprintf("attr %o %v", b.Mode, b.Xattrs)
	}
	return ""
}

// findAgain finds what says again what goes, to take something else back.
func (p *purge) findAgain() {
	r := p.r
	if len(r.backs) == 0 {
		return
	}
	words := map[sharefs.FileID]map[string]bool{}
	var ids []record.ID // of what takes something of the author back: what does of others stays, whatever it says
	for id, back := range r.backs {
		cut, rec := r.tree.Record(back), r.tree.Record(id)
		if cut == nil || rec == nil || rec.File() == record.Nowhere {
			continue
		}
		if c, ok := cut.Body.(*record.Cut); ok && c.Author == p.author {
			words[rec.File()] = map[string]bool{}
			ids = append(ids, id)
		}
	}
	r.tree.Inputs(func(i converge.Input) {
		if of := words[i.Record.File()]; of != nil && p.by(i.Record) {
			of[wording(i.Record)] = true
		}
	})
	for _, id := range ids {
		if rec := r.tree.Record(id); words[rec.File()][wording(rec)] {
			p.again[id] = true
		}
	}
}
