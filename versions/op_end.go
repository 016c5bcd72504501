package versions

import (
	"math"
	"time"

	"sharefs"
	"sharefs/versions/kv"
)

// opTick is how often operations are looked at that may have ended.
const opTick = 500 * time.Millisecond

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

// endIdle ends the operations that are over at a time.
func (o *operations) endIdle(now time.Time) error {
	o.mu.Lock()
	var over []*op
	for p := range o.all {
		if p.busy == 0 && !p.takes(now) && (len(p.unrested) == 0 || now.Sub(p.last) > opWaiting) {
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
	for _, p := range over {
		if err := o.end(p); err != nil {
			return err
		}
	}
	return nil
}

// forget takes an operation out of the tables. o.mu is held.
func (o *operations) forget(p *op) {
	p.shut = true
	delete(o.all, p)
	for _, table := range []map[uint32]*op{o.tasks, o.groups, o.named} {
		for key, q := range table {
			if q == p {
				delete(table, key)
			}
		}
	}
	for ino := range p.unrested {
		var others []*op
		for _, q := range o.writing[ino] {
			if q != p {
				others = append(others, q)
			}
		}
		if o.writing[ino] = others; len(others) == 0 {
			delete(o.writing, ino)
		}
	}
}

// end writes down an operation that is over; it is in no table any more. Several commits: until the last of them it counts as one that was
// interrupted, of which less is known.
func (o *operations) end(p *op) error {
	t := o.t
	p.compact()
	if p.Counts.Sum() == 0 && p.Label == "" {
		return nil // all that it tried failed
	}
	trash, err := t.trashOf(&p.Operation, p.changes, p.untrashed)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.dirty {
		if err := t.endInstant(); err != nil {
			return err
		}
		p.After = max(p.After, t.wholeMillisecond())
	}
	var b kv.Batch
	var part []byte
	parts := uint32(0)
	put := func() {
		if len(part) > 0 {
			parts++
			b.Put(spaceOp, opKey(p.ID, parts), part)
			part = part[:0]
		}
	}
	for i := range p.changes {
		if part = p.changes[i].appendTo(part); len(part) < opPartBytes {
			continue
		}
		put()
		if b.Len() >= 32 {
			if err := o.commit(&b); err != nil {
				return err
			}
			b.Reset()
		}
	}
	put()
	for _, row := range trash {
		row.put(&b)
		if b.Len() >= chunkRows {
			if err := o.commit(&b); err != nil {
				return err
			}
			b.Reset()
		}
	}
	p.Ended = true
	b.Put(spaceOp, opKey(p.ID, 0), p.encode())
	if err := o.prune(&b); err != nil {
		return err
	}
	return o.commit(&b)
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
