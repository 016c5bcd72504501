package kv

import (
	"bytes"
	"runtime/debug"

	"go.etcd.io/bbolt"

	"sharefs"
)

// Ever is a row of a versioned space that is there or was once.
type Ever struct {
	Key, Value []byte      // must not be changed; they stay as they are
	Stamp      sharefs.HLC // the beginning of the epoch in which the row came to be as it is, or was last
	Deleted    bool
	Gone       sharefs.HLC // of a deleted one: from here on [DB.At] does not show it; the beginning of its epoch while that is open
}

// ScanEver calls fn for the rows with from ≤ key < to of a versioned space that are there or were once, in the order of their keys, until it returns
// false; an empty to has no end. How many states a row was in costs nothing. Rows are read some at a time, as [View.Scan] does.
func (db *DB) ScanEver(id uint8, from, to []byte, fn func(Ever) bool) error {
	s, err := db.space(id)
	if err != nil {
		return err
	}
	if !s.Versioned {
		return &sharefs.Error{Op: "history", Kind: sharefs.KindInvalid, Detail: "space " + s.Name + " is not versioned"}
	}
	from = bytes.Clone(from)
	for n := firstPiece; ; n = min(max(2*n, secondPiece), lastPiece) {
		list, next, err := db.everPiece(s, from, to, n)
		if err != nil {
			return err
		}
		for _, e := range list {
			if e.Deleted {
				at, err := db.boundaryOf(e.Gone)
				if err != nil {
					return err
				}
				e.Gone = max(e.Gone, at)
			}
			if !fn(e) {
				return nil
			}
		}
		if next == nil {
			return nil
		}
		from = next
	}
}

// trace is what is known of a row from its newest state down to the newest one in which it was there: Gone is the stamp of the oldest deletion after that.
type trace struct {
	Ever
	there bool        // Value and Stamp are set
	below sharefs.HLC // the stamp of the last state that was looked at
}

// state takes the next older state. One of an epoch of which there was one is what a newer source has replaced.
func (e *trace) state(stamp sharefs.HLC, value []byte, deleted bool) {
	switch {
	case e.there || stamp >= e.below:
		return
	case deleted:
		e.Deleted, e.Gone = true, stamp
	default:
		e.Value, e.Stamp, e.there = value, stamp, true
	}
	e.below = stamp
}

// row takes the states that a table has.
func (e *trace) row(r *row) {
	for v := &r.version; v != nil && !e.there; v = v.older {
		e.state(v.stamp, v.value, v.deleted)
	}
}

// everPiece reads up to n rows, and returns where the next piece begins, nil behind the last. Rows that were never there in any state that is kept are
// passed over.
func (db *DB) everPiece(s *space, from, to []byte, n int) (list []Ever, next []byte, err error) {
	behind := func(key []byte) bool { return len(to) > 0 && bytes.Compare(key, to) >= 0 }
	db.mu.RLock()
	var active []trace
	more := false // rows of the active table lie behind the last of these
	if t := db.active.spaces[s.ID]; t != nil {
		at, _ := t.search(from)
		for r := t.row(at); r != nil && !behind(r.key); r = t.row(at) {
			if more = len(active) == n; more {
				break
			}
			e := trace{Ever: Ever{Key: r.key}, below: sharefs.MaxHLC}
			e.row(r)
			active = append(active, e)
			at = t.next(at)
		}
	}
	var frozen *sorted
	if db.frozen != nil {
		frozen = db.frozen.spaces[s.ID]
	}
	tx, err := db.begin()
	db.mu.RUnlock()
	if err != nil {
		return nil, nil, err
	}
	defer tx.end()
	defer db.damaged(debug.SetPanicOnFault(true), &err)

	var at position
	if frozen != nil {
		at, _ = frozen.search(from)
	}
	disk := newTraces(tx, s, from)
	for last := []byte(nil); ; {
		if len(list) == n || more && len(active) == 0 {
			return list, append(bytes.Clone(last), 0), nil
		}
		var key []byte
		least := func(k []byte) {
			if k != nil && (key == nil || bytes.Compare(k, key) < 0) {
				key = k
			}
		}
		if len(active) > 0 {
			least(active[0].Key)
		}
		var old *row
		if frozen != nil {
			if old = frozen.row(at); old != nil {
				least(old.key)
			}
		}
		least(disk.key())
		if key == nil || behind(key) {
			return list, nil, nil
		}
		e := trace{Ever: Ever{Key: bytes.Clone(key)}, below: sharefs.MaxHLC}
		if len(active) > 0 && bytes.Equal(active[0].Key, key) {
			e, active = active[0], active[1:]
		}
		if old != nil && bytes.Equal(old.key, e.Key) {
			e.row(old)
			at = frozen.next(at)
		}
		if bytes.Equal(disk.key(), e.Key) {
			disk.take(&e)
		}
		last = e.Key
		if e.there {
			list = append(list, e.Ever)
		}
	}
}

// traces walks the rows in bbolt, live and past.
type traces struct {
	live, past *bbolt.Cursor
	now, value []byte // of live
	old        []byte // the key of the row that past stands at, at its newest state; nil behind the last
	state, was []byte // that state
	room       []byte
}

func newTraces(tx *reader, s *space, from []byte) *traces {
	t := &traces{}
	if b := tx.liveBucket(s); b != nil {
		t.live = b.Cursor()
		t.now, t.value = t.live.Seek(from)
	}
	if b := tx.pastBucket(s); b != nil {
		t.past = b.Cursor()
		t.setPast(t.past.Seek(orderedKey(nil, from)))
	}
	return t
}

func (t *traces) setPast(k, v []byte) {
	t.old, t.state, t.was = nil, k, v
	if k != nil {
		t.room = plainKey(t.room[:0], k)
		t.old = t.room
	}
}

// key returns the key of the next row, nil behind the last. It is good until the next call of take.
func (t *traces) key() []byte {
	if t.now == nil || t.old != nil && bytes.Compare(t.old, t.now) < 0 {
		return t.old
	}
	return t.now
}

// take gives the states of the next row to a trace that wants more, and goes on.
func (t *traces) take(e *trace) {
	live, past := t.now != nil, t.old != nil
	if live && past {
		c := bytes.Compare(t.old, t.now)
		live, past = c >= 0, c <= 0
	}
	if live {
		if !e.there {
			stamp, value := splitStamp(t.value)
			e.state(stamp, bytes.Clone(value), false)
		}
		t.now, t.value = t.live.Next()
	}
	if !past {
		return
	}
	first := t.state
	for k, v := t.state, t.was; !e.there && samePast(k, first); k, v = t.past.Next() {
		value, ok := splitPast(v)
		e.state(pastStamp(k), bytes.Clone(value), !ok)
	}
	t.setPast(t.past.Seek(pastKey(nil, t.old, 0)))
}
