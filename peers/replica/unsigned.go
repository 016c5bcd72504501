package replica

import (
	"sharefs/peers/record"
)

// A batch is signed for what all its records say, so nobody looks at their own signatures when it is taken: that would cost more than all else. Whoever relays a batch can give them others.
// Nothing that is done here hangs on that, nor do those who are told of the batch. But to those who may read a part of the tree single records are told, by their own signatures; one
// that is wrong there is left out, and noted as unsigned. All is asked for again then, and as soon as it comes with the right one, by whomever, that one is kept and told. An author who
// signs his own batches, and not his records, is not heard by those who may read a part.

// Unsigned notes records whose signatures are not those of their authors, and reports whether there is one of which that was not known. It survives power loss.
func (r *Replica) Unsigned(ids ...record.ID) (news bool, err error) {
	if err := r.enter(); err != nil {
		return false, err
	}
	defer r.mu.Unlock()
	for _, id := range ids {
		if !r.unsigned[id] && r.tree.Record(id) != nil {
			r.unsigned[id], news = true, true
			r.put(spaceUnsigned, id[:], nil)
		}
	}
	return news, r.sync()
}

// resign keeps a record, which is here, if it is one that lacks its signature and has it now, and reports whether it is. It is told again to those who may read it by itself.
func (r *Replica) resign(rec *record.Record) bool {
	id := rec.ID()
	if !r.unsigned[id] || rec.Verify() != nil {
		return false
	}
	delete(r.unsigned, id)
	r.drop(spaceUnsigned, id[:])
	standing, _ := r.standingOf(id)
	r.tree.Renew(rec)
	r.put(spaceRecord, id[:], judged{rec, standing}.row())
	for _, s := range r.scopes {
		w := s.gone[id]
		if p := s.files[fileOf(rec)]; w == nil && p != nil {
			w = p.row(id)
		}
		if w != nil && w.number > 0 {
			r.drop(spaceScope, scopeKey(s.peer, w.number))
			w.number = 0
			r.write(s, w)
		}
	}
	return true
}

// loadUnsigned reads which records are unsigned.
func (r *Replica) loadUnsigned() error {
	bad := false
	err := r.cfg.Store.Scan(spaceUnsigned, nil, nil, func(k, _ []byte) bool {
		if bad = len(k) != len(record.ID{}); !bad {
			r.unsigned[record.ID(k)] = true
		}
		return !bad
	})
	if err == nil && bad {
		err = damaged("signatures")
	}
	return err
}
