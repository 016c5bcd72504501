package kv

import (
	"bytes"
	"cmp"
	"runtime/debug"
	"slices"

	"sharefs"
)

// Revision is one state in the history of a row.
type Revision struct {
	Stamp   sharefs.HLC // the beginning of the epoch in which it came to be
	At      sharefs.HLC // the boundary that ended it: from here on [DB.At] shows this state; 0 while the epoch is open
	Value   []byte
	Deleted bool // the row was deleted then
}

// Epoch is a span of time whose changes belong together.
type Epoch struct {
	Stamp    sharefs.HLC // its beginning
	Boundary sharefs.HLC // its end: what is committed later is not in it
}

// At returns the view of the state at the last boundary up to t. Changes of the open epoch are not in it, whatever t
// is, but for [sharefs.MaxHLC], which gives the rows of the moment.
func (db *DB) At(t sharefs.HLC) View {
	if t == sharefs.MaxHLC {
		return db
	}
	limit, err := db.limitAt(t)
	return &pastView{db, limit, err}
}

// limitAt returns the stamp up to which the view of an instant shows what was written.
func (db *DB) limitAt(t sharefs.HLC) (limit sharefs.HLC, err error) {
	limit = min(t, db.Ended())
	e, ok, err := db.epochBefore(limit)
	switch {
	case !ok:
		limit = 0
	case e.Boundary > limit: // within an epoch: the one before it counts
		limit = e.Stamp - 1
	}
	return limit, err
}

// Ended returns the last boundary, 0 before the first.
func (db *DB) Ended() sharefs.HLC {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.boundary
}

// EndedBy returns the last boundary up to t, 0 where there is none: [DB.At] shows what was committed before it.
func (db *DB) EndedBy(t sharefs.HLC) (sharefs.HLC, error) {
	e, ok, err := db.epochBefore(t)
	if ok && e.Boundary > t { // within that epoch
		e, ok, err = db.epochBefore(e.Stamp - 1)
	}
	if !ok || err != nil {
		return 0, err
	}
	return e.Boundary, nil
}

// pastView shows what was written with a stamp up to limit, which is never within an epoch.
type pastView struct {
	db    *DB
	limit sharefs.HLC
	err   error // why limit could not be found
}

func (v *pastView) Get(id uint8, key []byte) (value []byte, ok bool, err error) {
	s, err := v.db.space(id)
	if err = cmp.Or(v.err, err); err != nil {
		return nil, false, err
	}
	return v.db.get(s, key, v.limit)
}

func (v *pastView) Scan(id uint8, from, to []byte, fn func(key, value []byte) bool) error {
	s, err := v.db.space(id)
	if err = cmp.Or(v.err, err); err != nil {
		return err
	}
	return v.db.scan(s, from, to, v.limit, fn)
}

// epochBefore returns the last ended epoch that began up to t.
func (db *DB) epochBefore(t sharefs.HLC) (e Epoch, ok bool, err error) {
	key := be(uint64(t))
	take := func(k, v []byte) {
		if stamp := sharefs.HLC(number(k)); !ok || stamp > e.Stamp {
			e, ok = Epoch{stamp, sharefs.HLC(number(v))}, true
		}
	}
	db.mu.RLock()
	for _, t := range []*table{db.active, db.frozen} {
		if t != nil && t.spaces[boundaries] != nil {
			if r := t.spaces[boundaries].floor(key); r != nil {
				take(r.key, r.value)
			}
		}
	}
	tx, err := db.begin()
	db.mu.RUnlock()
	if err != nil {
		return e, false, err
	}
	defer tx.end()
	defer db.damaged(debug.SetPanicOnFault(true), &err)
	if b := tx.liveBucket(db.spaces[boundaries]); b != nil {
		c := b.Cursor()
		k, v := c.Seek(key)
		if !bytes.Equal(k, key) {
			if k == nil {
				k, v = c.Last()
			} else {
				k, v = c.Prev()
			}
		}
		if k != nil {
			take(k, v)
		}
	}
	return e, ok, nil
}

// Boundaries calls fn for the ended epochs whose boundary b is from ≤ b < to, oldest first, until it returns false.
func (db *DB) Boundaries(from, to sharefs.HLC, fn func(Epoch) bool) error {
	// Epochs do not overlap: the one that holds from is the last one to begin before it.
	first, ok, err := db.epochBefore(from)
	if err != nil {
		return err
	}
	var start []byte
	if ok {
		start = be(uint64(first.Stamp))
	}
	return db.scan(db.spaces[boundaries], start, be(uint64(to)), sharefs.MaxHLC, func(k, v []byte) bool {
		e := Epoch{sharefs.HLC(number(k)), sharefs.HLC(number(v))}
		if e.Boundary < from {
			return true
		}
		return e.Boundary < to && fn(e)
	})
}

// BoundariesBack calls fn for the ended epochs, newest first, until it returns false. It does not matter how many there are.
func (db *DB) BoundariesBack(fn func(Epoch) bool) error {
	for at := sharefs.MaxHLC; ; {
		e, ok, err := db.epochBefore(at)
		if err != nil || !ok || !fn(e) || e.Stamp == 0 {
			return err
		}
		at = e.Stamp - 1
	}
}

// History returns the states that a row of a versioned space was in, oldest first, the present one being the last. A
// row that never was there has none.
func (db *DB) History(id uint8, key []byte) ([]Revision, error) {
	var out []Revision
	err := db.Past(id, key, func(r Revision) bool {
		out = append(out, r)
		return true
	})
	slices.Reverse(out)
	return out, err
}

// Past calls fn for the states that a row of a versioned space was in, newest first, until it returns false.
func (db *DB) Past(id uint8, key []byte, fn func(Revision) bool) error {
	s, err := db.space(id)
	if err != nil {
		return err
	}
	if !s.Versioned {
		return &sharefs.Error{Op: "history", Kind: sharefs.KindInvalid, Detail: "space " + s.Name + " is not versioned"}
	}
	if len(key) == 0 {
		return nil
	}
	// Each turn reads some states older than before, so that nothing is held while fn runs.
	before := sharefs.MaxHLC
	// That a row was deleted counts when there was one before, and then the oldest of several deletions does.
	var deleted Revision
	for n := 4; ; n = min(4*n, lastPiece) {
		states, more, err := db.states(s, key, before, n)
		if err != nil {
			return err
		}
		for _, r := range states {
			if r.At, err = db.boundaryOf(r.Stamp); err != nil {
				return err
			}
			before = r.Stamp
			if r.Deleted {
				deleted = r
				continue
			}
			if deleted.Deleted && !fn(deleted) || !fn(r) {
				return nil
			}
			deleted = Revision{}
		}
		if !more {
			return nil
		}
	}
}

// boundaryOf returns the end of the epoch with this stamp, 0 while it is open.
func (db *DB) boundaryOf(stamp sharefs.HLC) (sharefs.HLC, error) {
	v, _, err := db.get(db.spaces[boundaries], be(uint64(stamp)), sharefs.MaxHLC)
	return sharefs.HLC(number(v)), err
}

// states reads up to n states of a row with stamps below before, newest first.
func (db *DB) states(s *space, key []byte, before sharefs.HLC, n int) (out []Revision, more bool, err error) {
	add := func(stamp sharefs.HLC, value []byte, deleted bool) {
		// A state that several sources have, or that was deleted and made again within an epoch, counts as the newest
		// source has it.
		if stamp < before && (len(out) == 0 || stamp < out[len(out)-1].Stamp) {
			out = append(out, Revision{Stamp: stamp, Value: value, Deleted: deleted})
		}
	}
	inTable := func(t *table) {
		if r := t.get(s.ID, key); r != nil {
			for v := &r.version; v != nil; v = v.older {
				add(v.stamp, v.value, v.deleted)
			}
		}
	}
	db.mu.RLock()
	inTable(db.active)
	frozen := db.frozen
	tx, err := db.begin()
	db.mu.RUnlock()
	if err != nil {
		return nil, false, err
	}
	defer tx.end()
	defer db.damaged(debug.SetPanicOnFault(true), &err)
	inTable(frozen)
	live, past := tx.liveBucket(s), tx.pastBucket(s)
	if live == nil || past == nil {
		return out, false, nil
	}
	if v := live.Get(key); v != nil {
		stamp, value := splitStamp(v)
		add(stamp, bytes.Clone(value), false)
	}
	want := pastKey(nil, key, before-1)
	c := past.Cursor()
	for k, v := c.Seek(want); samePast(k, want); k, v = c.Next() {
		if len(out) >= n {
			return out, true, nil
		}
		value, ok := splitPast(v)
		add(pastStamp(k), bytes.Clone(value), !ok)
	}
	return out, false, nil
}
