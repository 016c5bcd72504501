package kv

import (
	"fmt"
	"testing"
)

// idleReaders returns how many transactions are kept, and whether any may be.
func idleReaders(db *DB) (n int, closed bool) {
	p := &db.readers
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.idle), p.closed
}

// A kept transaction serves one read after the other, and none that was begun before a table was applied shows what the table replaced.
func TestKeptReaders(t *testing.T) {
	db := open(t, Config{Dir: t.TempDir()})
	for round := range 20 {
		for key := range 3 {
			put(t, db, spaceA, fmt.Sprint(key), fmt.Sprint(round), fmt.Sprint("of ", round, key), "x")
			put(t, db, spaceB, fmt.Sprint(key), fmt.Sprint(round))
		}
		must(t, db.Checkpoint())
		for range 3 {
			for key := range 3 {
				for _, space := range []uint8{spaceA, spaceB} {
					if got := get(t, db, space, fmt.Sprint(key)); got != fmt.Sprint(round) {
						t.Fatalf("round %d: key %d of space %d is %s", round, key, space, got)
					}
				}
			}
			if n, closed := idleReaders(db); n != 1 || closed {
				t.Fatalf("%d transactions kept, closed %v, after reads one after the other", n, closed)
			}
		}
	}
}

// While bbolt is written to no transaction is kept, those in use end with their use, and a failed write leaves the pool in order.
func TestNoReaderIsKeptWhileBboltIsWritten(t *testing.T) {
	seen, failOnce := 0, true
	var db *DB
	db = open(t, Config{Dir: t.TempDir(), retry: 1, failpoint: func(name string) error {
		if name != "apply.commit" {
			return nil
		}
		seen++
		r, err := db.begin()
		if err != nil {
			return err
		}
		r.end()
		if n, closed := idleReaders(db); n != 0 || !closed {
			t.Errorf("%d transactions kept, closed %v, in the middle of an application", n, closed)
		}
		if failOnce {
			failOnce = false
			return noRoom
		}
		return nil
	}})
	put(t, db, spaceB, "k", "1")
	get(t, db, spaceB, "missing")
	inUse, err := db.begin()
	must(t, err)
	for db.Checkpoint() != nil { // until the applier has tried again
	}
	inUse.end()
	if n, closed := idleReaders(db); n != 0 || closed {
		t.Errorf("%d transactions kept, closed %v: the one begun before the application must not be", n, closed)
	}
	if got := get(t, db, spaceB, "k"); got != "1" {
		t.Errorf("k is %s", got)
	}
	if seen < 2 {
		t.Errorf("bbolt was written to %d times", seen)
	}
}
