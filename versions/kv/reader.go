package kv

import (
	"sync"

	"go.etcd.io/bbolt"
)

// reader is a read transaction of bbolt with the buckets that were asked of it. One goroutine uses it at a time.
type reader struct {
	db         *DB
	tx         *bbolt.Tx
	age        uint64 // that of the pool when it was begun
	live, past [256]*bbolt.Bucket
}

// readers keeps transactions that nobody uses for the next one: to begin one and to find a bucket in it takes 2 µs, which is more than
// most reads do. meta.db changes only when a table is applied. So they are kept between two of those, and there is none while bbolt
// is written to: what it frees can be used again at once, and it may map a grown file anew.
type readers struct {
	mu     sync.Mutex // guards all below
	idle   []*reader
	age    uint64 // counts up when those that were begun before must not be kept
	closed bool   // meta.db is being written to
}

// keptReaders is how many transactions are kept.
const keptReaders = 4

// begin starts a read transaction of bbolt, or takes a kept one, which shows what a new one would; end must follow soon: one that lasts
// keeps pages from being used again.
func (db *DB) begin() (*reader, error) {
	db.noteReads(1)
	p := &db.readers
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		r := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return r, nil
	}
	age := p.age
	p.mu.Unlock()
	tx, err := db.bolt.Begin(false)
	if err != nil {
		return nil, errClosed()
	}
	return &reader{db: db, tx: tx, age: age}, nil
}

// end gives the transaction back. What was read through it is void.
func (r *reader) end() {
	p := &r.db.readers
	p.mu.Lock()
	if !p.closed && r.age == p.age && len(p.idle) < keptReaders {
		p.idle = append(p.idle, r)
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	_ = r.tx.Rollback() // of a transaction that only reads: never fails
}

// pause ends the transactions that are kept, and has none kept until resume.
func (p *readers) pause() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	p.age++
	p.mu.Unlock()
	for _, r := range idle {
		_ = r.tx.Rollback()
	}
}

// resume is called when what was written is there to be read.
func (p *readers) resume() {
	p.mu.Lock()
	p.closed = false
	p.age++
	p.mu.Unlock()
}

// liveBucket returns the rows of the moment of a space; nil in a store opened for reading alone that has not got it yet.
func (r *reader) liveBucket(s *space) *bbolt.Bucket {
	if r.live[s.ID] == nil {
		r.live[s.ID] = r.tx.Bucket(s.live)
	}
	return r.live[s.ID]
}

// pastBucket returns the former rows of a versioned space, nil as liveBucket does.
func (r *reader) pastBucket(s *space) *bbolt.Bucket {
	if r.past[s.ID] == nil {
		r.past[s.ID] = r.tx.Bucket(s.past)
	}
	return r.past[s.ID]
}
