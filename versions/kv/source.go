package kv

import (
	"bytes"

	"go.etcd.io/bbolt"

	"sharefs"
)

// source walks rows in the order of their keys; those that a scan merges are asked for in the order from the newest to
// the oldest.
type source interface {
	advance()        // to the next row, the first one at first
	current() *found // nil behind the last
}

// listSource walks rows that were taken before.
type listSource struct {
	rows []found
	at   int // of the row behind the current one
}

func (s *listSource) advance() { s.at++ }
func (s *listSource) current() *found {
	if s.at < 1 || s.at > len(s.rows) {
		return nil
	}
	return &s.rows[s.at-1]
}

// tableSource walks a frozen table.
type tableSource struct {
	rows  *sorted
	at    position
	to    []byte
	limit sharefs.HLC
	now   found
	ok    bool
}

func newTableSource(t *table, p *piece) source {
	if t == nil || t.spaces[p.space.ID] == nil {
		return &listSource{}
	}
	s := &tableSource{rows: t.spaces[p.space.ID], to: p.to, limit: p.limit}
	s.at, _ = s.rows.search(p.from)
	return s
}

func (s *tableSource) advance() {
	for s.ok = false; ; {
		r := s.rows.row(s.at)
		if r == nil || len(s.to) > 0 && bytes.Compare(r.key, s.to) >= 0 {
			return
		}
		s.at = s.rows.next(s.at)
		if v := r.at(s.limit); v != nil {
			s.now, s.ok = found{r.key, v.value, v.deleted}, true
			return
		}
	}
}

func (s *tableSource) current() *found {
	if !s.ok {
		return nil
	}
	return &s.now
}

// boltSource walks the rows in bbolt, those of the moment or, with past, those of an instant. What it gives out is copied
// into the room of the piece.
type boltSource struct {
	p          *piece
	live, past *bbolt.Cursor
	key, value []byte // of live
	old        []byte // the row's key that past stands at; nil behind the last
	oldRoom    []byte
	begun      bool
	now        found
	ok         bool
}

func newBoltSource(tx *reader, p *piece) source {
	live := tx.liveBucket(p.space)
	if live == nil {
		return &listSource{}
	}
	s := &boltSource{p: p, live: live.Cursor()}
	if p.space.Versioned && p.limit != sharefs.MaxHLC {
		if b := tx.pastBucket(p.space); b != nil {
			s.past = b.Cursor()
		}
	}
	return s
}

func (s *boltSource) current() *found {
	if !s.ok {
		return nil
	}
	return &s.now
}

func (s *boltSource) begin() {
	s.begun = true
	s.key, s.value = s.live.Seek(s.p.from)
	if s.past != nil {
		s.setPast(s.past.Seek(orderedKey(nil, s.p.from)))
	}
}

func (s *boltSource) setPast(k, _ []byte) {
	if s.old = nil; k != nil {
		s.oldRoom = plainKey(s.oldRoom[:0], k)
		s.old = s.oldRoom
	}
}

// advance goes to the next key that shows something at the limit.
func (s *boltSource) advance() {
	s.ok = false
	if !s.begun {
		s.begin()
	}
	for {
		key := s.key
		if key == nil || s.old != nil && bytes.Compare(s.old, key) < 0 {
			key = s.old
		}
		if key == nil || len(s.p.to) > 0 && bytes.Compare(key, s.p.to) >= 0 {
			return
		}
		value, ok := s.take(key)
		if ok {
			s.now, s.ok = found{key: s.p.keep(key), value: s.p.keep(value)}, true
		}
		if bytes.Equal(s.key, key) {
			s.key, s.value = s.live.Next()
		}
		if s.old != nil && bytes.Equal(s.old, key) {
			s.skipPast()
		}
		if ok {
			return
		}
	}
}

// take returns the value of a key that live or past stand at.
func (s *boltSource) take(key []byte) (value []byte, ok bool) {
	if bytes.Equal(s.key, key) {
		if !s.p.space.Versioned {
			return s.value, true
		}
		if stamp, value := splitStamp(s.value); stamp <= s.p.limit {
			return value, true
		}
	}
	if s.old == nil || !bytes.Equal(s.old, key) {
		return nil, false
	}
	want := pastKey(nil, key, s.p.limit)
	k, v := s.past.Seek(want)
	if !samePast(k, want) {
		return nil, false
	}
	return splitPast(v)
}

// skipPast leaves the history of a key behind: no row of it has the stamp 0.
func (s *boltSource) skipPast() {
	s.setPast(s.past.Seek(pastKey(nil, s.old, 0)))
}

// keep copies what bbolt gave out, which is gone with its transaction.
func (p *piece) keep(b []byte) []byte {
	if len(b) > cap(p.room)-len(p.room) {
		p.room = make([]byte, 0, max(64*p.max, len(b)))
	}
	n := len(p.room)
	p.room = append(p.room, b...)
	return p.room[n:len(p.room):len(p.room)]
}
