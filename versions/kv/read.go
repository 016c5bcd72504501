package kv

import (
	"bytes"
	"runtime/debug"

	"sharefs"
)

// Get returns a row of the moment; see [View].
func (db *DB) Get(space uint8, key []byte) (value []byte, ok bool, err error) {
	s, err := db.space(space)
	if err != nil {
		return nil, false, err
	}
	return db.get(s, key, sharefs.MaxHLC)
}

// Scan calls fn for rows of the moment; see [View].
func (db *DB) Scan(space uint8, from, to []byte, fn func(key, value []byte) bool) error {
	s, err := db.space(space)
	if err != nil {
		return err
	}
	return db.scan(s, from, to, sharefs.MaxHLC, fn)
}

// get returns the row as limit shows it: the newest state with a stamp up to it.
//
// A row moves from the active table to the frozen one to bbolt, and is looked for in this order, so none slips through.
func (db *DB) get(s *space, key []byte, limit sharefs.HLC) (value []byte, ok bool, err error) {
	if len(key) == 0 {
		return nil, false, nil
	}
	db.mu.RLock()
	if r := db.active.get(s.ID, key); r != nil {
		if v := r.at(limit); v != nil {
			value, ok = v.value, !v.deleted // the row may change when mu is free
			db.mu.RUnlock()
			return value, ok, nil
		}
	}
	frozen := db.frozen
	db.mu.RUnlock()
	if r := frozen.get(s.ID, key); r != nil {
		if v := r.at(limit); v != nil {
			return v.value, !v.deleted, nil
		}
	}
	tx, err := db.begin()
	if err != nil {
		return nil, false, err
	}
	defer tx.end()
	defer db.damaged(debug.SetPanicOnFault(true), &err)
	if found, ok := tx.get(s, key, limit); ok {
		return bytes.Clone(found), true, nil
	}
	return nil, false, nil
}

// get finds a row as limit shows it. The value is that of the transaction.
func (r *reader) get(s *space, key []byte, limit sharefs.HLC) (value []byte, ok bool) {
	live := r.liveBucket(s)
	if live == nil { // opened for reading alone, before the space was added
		return nil, false
	}
	v := live.Get(key)
	if !s.Versioned {
		return v, v != nil
	}
	if v != nil {
		if stamp, value := splitStamp(v); stamp <= limit {
			return value, true
		}
	}
	if limit == sharefs.MaxHLC {
		return nil, false
	}
	past := r.pastBucket(s)
	if past == nil {
		return nil, false
	}
	want := pastKey(nil, key, limit)
	k, v := past.Cursor().Seek(want)
	if !samePast(k, want) {
		return nil, false
	}
	return splitPast(v)
}

// pair is a row on its way to the caller of Scan.
type pair struct{ key, value []byte }

// Rows that one piece of a scan reads: few at first, for many scans end early, and most ranges hold few.
const (
	firstPiece  = 4
	secondPiece = 64
	lastPiece   = 512
)

func (db *DB) scan(s *space, from, to []byte, limit sharefs.HLC, fn func(key, value []byte) bool) error {
	from = bytes.Clone(from)
	pairs := make([]pair, 0, firstPiece)
	for n := firstPiece; ; n = min(max(2*n, secondPiece), lastPiece) {
		p := piece{db: db, space: s, from: from, to: to, limit: limit, max: n, pairs: pairs[:0]}
		if err := p.read(); err != nil {
			return err
		}
		db.noteReads(len(p.pairs))
		for _, kv := range p.pairs {
			if !fn(kv.key, kv.value) {
				return nil
			}
		}
		if p.done {
			return nil
		}
		from, pairs = p.next, p.pairs
	}
}

// piece reads a stretch of a space as it is at one moment.
type piece struct {
	db       *DB
	space    *space
	from, to []byte
	limit    sharefs.HLC
	max      int // rows to read

	pairs []pair
	last  []byte // the key of the last row, given out or deleted
	next  []byte // where the piece behind it begins
	done  bool   // there is none

	room []byte // for what is copied out of bbolt
}

// stretch is what the active table gives to a piece, taken while its lock was held.
type stretch struct {
	rows []found
	more bool // there are rows behind the last of these
}

// found is a row that one source has; a deleted one hides that of the sources behind it.
type found struct {
	key, value []byte
	deleted    bool
}

func (p *piece) read() (err error) {
	db := p.db
	db.mu.RLock()
	active := collect(db.active.spaces[p.space.ID], p.from, p.to, p.limit, p.max)
	frozen := db.frozen
	// Begun before the lock is given up, so that bbolt has nothing that the tables do not.
	tx, err := db.begin()
	db.mu.RUnlock()
	if err != nil {
		return err
	}
	defer tx.end()
	defer db.damaged(debug.SetPanicOnFault(true), &err)

	// The sources that have rows, newest first.
	a := &listSource{rows: active.rows}
	var sources []source
	for _, s := range []source{a, newTableSource(frozen, p), newBoltSource(tx, p)} {
		if s.advance(); s.current() != nil {
			sources = append(sources, s)
		}
	}
	for len(p.pairs) < p.max {
		if active.more && a.current() == nil {
			break // what comes next may be in the active table: the next piece looks
		}
		f := p.least(sources)
		if f.key == nil {
			p.done = true
			return nil
		}
		p.last = f.key
		if !f.deleted {
			p.pairs = append(p.pairs, pair{f.key, f.value})
		}
	}
	p.next = append(bytes.Clone(p.last), 0)
	return nil
}

// least takes the row with the least key from the newest source that has it, and leaves that key behind in all.
func (p *piece) least(sources []source) (f found) {
	if len(sources) == 1 {
		if c := sources[0].current(); c != nil {
			f = *c
			sources[0].advance()
		}
		return f
	}
	for _, s := range sources {
		if c := s.current(); c != nil && (f.key == nil || bytes.Compare(c.key, f.key) < 0) {
			f = *c
		}
	}
	for _, s := range sources {
		if c := s.current(); c != nil && bytes.Equal(c.key, f.key) {
			s.advance()
		}
	}
	return f
}

// collect takes up to n rows of a sorted set. Called with the lock of its table held.
func collect(s *sorted, from, to []byte, limit sharefs.HLC, n int) (out stretch) {
	if s == nil {
		return out
	}
	at, _ := s.search(from)
	for ; ; at = s.next(at) {
		r := s.row(at)
		if r == nil || len(to) > 0 && bytes.Compare(r.key, to) >= 0 {
			return out
		}
		v := r.at(limit)
		if v == nil {
			continue
		}
		if len(out.rows) == n {
			out.more = true
			return out
		}
		if out.rows == nil {
			out.rows = make([]found, 0, n)
		}
		out.rows = append(out.rows, found{r.key, v.value, v.deleted})
	}
}
