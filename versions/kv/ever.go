package kv

import (
	"bytes"

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

// trace is what one source knows of a row, down to the newest state in which it was there: Gone is the stamp of the oldest deletion after that.
type trace struct {
	Ever
	there bool // Value and Stamp are set
}

// below completes a trace with that of an older source.
func (e *trace) below(older *trace) {
	if e.there {
		return
	}
	if older.Deleted {
		e.Deleted, e.Gone = true, older.Gone
	}
	e.Value, e.Stamp, e.there = older.Value, older.Stamp, older.there
}

// traceOf reads a row of a table.
func traceOf(r *row) (e trace) {
	e.Key = r.key
	for v := &r.version; v != nil; v = v.older {
		if !v.deleted {
			e.Value, e.Stamp, e.there = v.value, v.stamp, true
			break
		}
		e.Deleted, e.Gone = true, v.stamp
	}
	return e
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
			active = append(active, traceOf(r))
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
		e := trace{Ever: Ever{Key: bytes.Clone(key)}}
		if len(active) > 0 && bytes.Equal(active[0].Key, key) {
			e.below(&active[0])
			active = active[1:]
		}
		if old != nil && bytes.Equal(old.key, key) {
			t := traceOf(old)
			e.below(&t)
			at = frozen.next(at)
		}
		if bytes.Equal(disk.key(), e.Key) {
			t := disk.take(!e.there)
			e.below(&t)
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

// take reads the next row, if it is wanted, and goes on.
func (t *traces) take(wanted bool) (e trace) {
	live, past := true, true
	if t.now == nil || t.old != nil {
		switch c := bytes.Compare(t.old, t.now); {
		case t.now == nil || t.old != nil && c < 0:
			live = false
		case c > 0:
			past = false
		}
	} else {
		past = false
	}
	if live {
		if wanted {
			stamp, value := splitStamp(t.value)
			e.Stamp, e.Value, e.there = stamp, bytes.Clone(value), true
		}
		t.now, t.value = t.live.Next()
	}
	if !past {
		return e
	}
	first := t.state
	for k, v := t.state, t.was; wanted && !e.there && samePast(k, first); k, v = t.past.Next() {
		if value, ok := splitPast(v); ok {
			e.Stamp, e.Value, e.there = pastStamp(k), bytes.Clone(value), true
		} else {
			e.Deleted, e.Gone = true, pastStamp(k)
		}
	}
	t.setPast(t.past.Seek(pastKey(nil, t.old, 0)))
	return e
}
