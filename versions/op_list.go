package versions

import (
	"math"
	"sync/atomic"
	"time"

	"sharefs"
)

// Operations calls fn for the operations up to a moment, the newest first, until it returns false; [sharefs.MaxHLC] begins with the last one.
// What they changed is not read.
func (t *Tree) Operations(upTo sharefs.HLC, fn func(*Operation) bool) error {
	if err := t.noteOperations(); err != nil {
		return err
	}
	var bad error
	for from, more := opKey(upTo, 0), true; more; {
		more = false
		err := t.db.Scan(spaceOp, from, nil, func(key, value []byte) bool {
			id, part, ok := opOf(key)
			switch {
			case !ok:
				return true
			case part > 0: // on to the next operation
				from, more = append(opKey(id, math.MaxUint32), 0), true
				return false
			}
			var o *Operation
			if o, bad = decodeOperation(id, value); bad != nil {
				return false
			}
			return fn(o)
		})
		if err == nil {
			err = bad
		}
		if err != nil {
			return failed("read the operations", err)
		}
	}
	return nil
}

// whereabouts remembers in which directory names led to inodes last, of some 30,000. It is a hint alone: the name may have gone since, and what has
// several names is where it was looked up last, by whomever.
type whereabouts struct {
	slots [1 << 15]atomic.Uint64 // the low halves of an inode and of its directory
}

func (w *whereabouts) note(ino, dir sharefs.Ino) {
	w.slots[uint64(ino)%uint64(len(w.slots))].Store(uint64(ino)<<32 | uint64(uint32(dir)))
}

// of returns the directory, 0 where it is not known.
func (w *whereabouts) of(ino sharefs.Ino) sharefs.Ino {
	v := w.slots[uint64(ino)%uint64(len(w.slots))].Load()
	if uint32(v>>32) != uint32(ino) {
		return 0
	}
	return sharefs.Ino(uint32(v))
}

// noteOperations brings the rows of the operations that go on up to date.
func (t *Tree) noteOperations() error {
	if t.cfg.ReadOnly || t.closed.Load() {
		return nil
	}
	if err := t.ops.endIdle(time.Now()); err != nil {
		return err
	}
	return t.closeEpoch()
}

// Operation returns one operation with its changes: all of them unless it says that it is partly known, and none of one that was interrupted.
// KindNotExist: there is none.
func (t *Tree) Operation(id sharefs.HLC) (*Operation, []OpChange, error) {
	if err := t.noteOperations(); err != nil {
		return nil, nil, err
	}
	t.ops.ends.Lock()
	defer t.ops.ends.Unlock()
	t.ops.mu.Lock()
	for p := range t.ops.all {
		if p.ID != id {
			continue
		}
		found := p.Operation
		var changes []OpChange
		for _, c := range p.changes {
			if c.Verb != 0 {
				changes = append(changes, c)
			}
		}
		t.ops.mu.Unlock()
		return &found, changes, nil
	}
	t.ops.mu.Unlock()
	value, ok, err := t.db.Get(spaceOp, opKey(id, 0))
	switch {
	case err != nil:
		return nil, nil, failed("read an operation", err)
	case !ok:
		return nil, nil, sharefs.KindNotExist
	}
	o, err := decodeOperation(id, value)
	if err != nil {
		return nil, nil, err
	}
	if !o.Ended {
		return o, nil, nil // there may be some of them
	}
	var changes []OpChange
	var bad error
	err = t.db.Scan(spaceOp, opKey(id, 1), opKey(id, math.MaxUint32), func(_, value []byte) bool {
		var list []OpChange
		list, bad = decodeOpChanges(value)
		changes = append(changes, list...)
		return bad == nil
	})
	if err == nil {
		err = bad
	}
	return o, changes, failed("read an operation", err)
}
