package replica

import (
	"sharefs"
	"sharefs/peers/record"
)

// Newest returns the last batch here of an author's last chain, nil where there is none. Its author is shown it, who may have lost it.
func (r *Replica) Newest(author sharefs.PeerID) (*record.Batch, error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	var last *record.Chain
	for id, c := range r.chains {
		if id.author == author && c.Head().Number > 0 && (last == nil || last.Head().Incarnation < id.incarnation) {
			last = c
		}
	}
	if last == nil {
		return nil, nil
	}
	h := last.Head()
	return r.held(&record.Batch{Author: author, Incarnation: h.Incarnation})(h.Number)
}

// Saw tells of a batch that a peer has as one of this host's. If this host does not know to have authored it, what it knew was lost, or it was restored from a copy: it begins a new incarnation
// before it authors anything else. Errors are of KindInvalid and KindCorrupt where the batch is none of this host's, and those of the database.
func (r *Replica) Saw(b *record.Batch) error {
	if b.Author != r.cfg.Self {
		return &sharefs.Error{Op: "look at a batch", Kind: sharefs.KindInvalid, Detail: "it is not of this host"}
	}
	if err := b.Verify(); err != nil {
		return err
	}
	if err := r.enter(); err != nil {
		return err
	}
	defer r.mu.Unlock()
	if r.taken(b) || b.Incarnation < r.writer.Head.Incarnation {
		return nil
	}
	if err := r.insteadOf(b); err != nil {
		return err
	}
	// Also where this host's own chain goes further than the number of the batch: then it wrote more since than it lost.
	if err := r.beginAfter(b); err != nil {
		return err
	}
	return r.commit()
}

// Record returns a record that is here, nil if it is not, or if another author told of it alone.
func (r *Replica) Record(id record.ID) (*record.Record, error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	if !r.have(id) {
		return nil, nil
	}
	return r.tree.Record(id), nil
}

// Known returns how many records are here.
func (r *Replica) Known() (int, error) {
	if err := r.enter(); err != nil {
		return 0, err
	}
	defer r.mu.Unlock()
	return r.tree.Records(), nil
}

// Behind returns how many records stand in the log after a number, up to most and as many as its last batch has more.
func (r *Replica) Behind(after uint64, most int) (n int, err error) {
	if err := r.enter(); err != nil {
		return 0, err
	}
	defer r.mu.Unlock()
	var bad error
	err = r.cfg.Store.Scan(spaceLog, u64(after+1), nil, func(_, v []byte) bool {
		var i Item
		i, bad = r.item(v)
		n += len(i.Records)
		return bad == nil && n < most
	})
	if err == nil {
		err = bad
	}
	return n, err
}
