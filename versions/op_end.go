package versions

import (
	"errors"
	"math"
	"time"

	"sharefs"
	"sharefs/versions/kv"
)

// opTick is how often operations are looked at that may have ended.
const opTick = 500 * time.Millisecond

// opRows is how many rows of changes are written in one commit, about a megabyte.
const opRows = 32

// run ends operations until the tree is closed.
func (o *operations) run() {
	t := o.t
	for {
		select {
		case <-t.stop:
			return
		case <-o.wake:
		}
		for o.count() > 0 {
			if !t.sleep(opTick) {
				return
			}
			if err := o.endIdle(time.Now()); err != nil {
				t.log.Warn("an operation could not be noted", "err", err)
			}
		}
	}
}

func (o *operations) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.all)
}

// endIdle ends the operations that are over at a time. When it returns those are written down that another is about to end as well.
func (o *operations) endIdle(now time.Time) error {
	o.ends.Lock()
	defer o.ends.Unlock()
	o.mu.Lock()
	var over []*op
	for p := range o.all {
		if p.busy == 0 && !o.takes(p, now) && (len(p.unrested) == 0 || now.Sub(p.last) > opWaiting) {
			over = append(over, p)
		}
	}
	for _, p := range over {
		o.forget(p)
	}
	o.mu.Unlock()
	return o.endAll(over)
}

// endNow ends all operations, at the end of the tree.
func (o *operations) endNow() error {
	o.ends.Lock()
	defer o.ends.Unlock()
	o.mu.Lock()
	var over []*op
	for p := range o.all {
		over = append(over, p)
		o.forget(p)
	}
	o.mu.Unlock()
	return o.endAll(over)
}

func (o *operations) endAll(over []*op) error {
	var bad error
	for _, p := range over {
		bad = errors.Join(bad, o.end(p)) // what ails one does not keep the others
	}
	return bad
}

// forget takes an operation out of the tables. o.mu is held.
func (o *operations) forget(p *op) {
	p.shut = true
	delete(o.all, p)
	o.total -= p.weight
	for _, table := range []map[actor]*op{o.tasks, o.groups, o.named} {
		for key, q := range table {
			if q == p {
				delete(table, key)
			}
		}
	}
	if o.causes[p.cause] == p {
		delete(o.causes, p.cause)
	}
	for ino := range p.unrested {
		// Who changes it next is to know that it has not come to rest: one stands for all that have ended.
		past := &op{Operation: Operation{ID: p.ID}, shut: true}
		others := []*op{past}
		for _, q := range o.writing[ino] {
			switch {
			case q == p:
			case q != o.unknown && q.changes == nil && q.unrested == nil:
				past.ID = max(past.ID, q.ID)
			default:
				others = append(others, q)
			}
		}
		o.writing[ino] = others
	}
}

// end writes down an operation that is over; it is in no table any more, and o.ends is held. Several commits, between which others come to their turn:
// until the last of them it counts as one that was interrupted, of which less is known.
func (o *operations) end(p *op) error {
	t := o.t
	p.compact()
	if p.Counts.Sum() == 0 && p.Label == "" {
		return nil // all that it tried failed
	}
	trash, err := t.trashOf(&p.Operation, p.changes, p.untrashed, "")
	if err != nil {
		return err
	}
	if len(trash) > 0 {
		defer o.trash.changed.Add(1)
	}
	if p.dirty {
		if err := o.endLast(p); err != nil {
			return err
		}
	}
	var b kv.Batch
	commit := func() error {
		t.mu.Lock()
		defer t.mu.Unlock()
		defer b.Reset()
		return o.commit(&b)
	}
	var part []byte
	parts := uint32(0)
	for i := range p.changes {
		part = p.changes[i].appendTo(part)
		if len(part) < opPartBytes && i < len(p.changes)-1 {
			continue
		}
		parts++
		b.Put(spaceOp, opKey(p.ID, parts), part)
		part = part[:0]
		if b.Len() < opRows {
			continue
		}
		if err := commit(); err != nil {
			return err
		}
	}
	for _, row := range trash {
		row.put(&b)
		if b.Len() < chunkRows {
			continue
		}
		if err := commit(); err != nil {
			return err
		}
	}
	p.Ended = true
	b.Put(spaceOp, opKey(p.ID, 0), p.encode())
	if err := o.prune(&b); err != nil {
		return err
	}
	return commit()
}

// endLast ends the instant of the last change of an operation, and so fixes the moment after it.
func (o *operations) endLast(p *op) error {
	o.t.mu.Lock()
	defer o.t.mu.Unlock()
	if err := o.t.endInstant(); err != nil {
		return err
	}
	p.After = max(p.After, o.t.wholeMillisecond())
	return nil
}

// prune removes some of the operations that are too old.
func (o *operations) prune(b *kv.Batch) error {
	oldest := sharefs.HLCAt(time.Now().Add(-opAge))
	n := 0
	return o.t.db.Scan(spaceOp, opKey(oldest, 0), opKey(0, math.MaxUint32), func(key, _ []byte) bool {
		b.Delete(spaceOp, key)
		n++
		return n < opPruned
	})
}
