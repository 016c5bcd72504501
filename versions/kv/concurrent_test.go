package kv

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"sharefs"
)

// Writers, readers of the moment and of the past, scans, boundaries, syncs and applications at once. Each batch writes
// its number under two keys in each of three spaces, so that half a batch can be told.
func TestConcurrent(t *testing.T) {
	db := open(t, Config{Dir: t.TempDir(), MemtableSize: 16 << 10})
	const writers, commits = 3, 300
	pairKey := func(w int, side byte) []byte { return fmt.Appendf(nil, "pair %d %c", w, side) }
	var writing, others sync.WaitGroup
	var done atomic.Bool

	for w := range writers {
		writing.Go(func() {
			var b Batch
			for n := range uint64(commits) {
				b.Reset()
				for _, s := range testSpaces {
					b.Put(s.ID, pairKey(w, 'a'), key8(n))
					b.Put(s.ID, pairKey(w, 'b'), key8(n))
					b.Put(s.ID, fmt.Appendf(nil, "row %d %d", w, n), key8(n))
				}
				seq, err := db.Commit(&b)
				if err == nil && n%16 == 0 {
					err = db.SyncTo(seq)
				}
				if err != nil {
					t.Error(err)
					return
				}
				if v, ok, err := db.Get(spaceA, pairKey(w, 'a')); err != nil || !ok || number(v) != n {
					t.Errorf("own commit %d reads as %d %v %v", n, number(v), ok, err)
				}
			}
		})
	}
	loop := func(f func(n int) error) {
		others.Go(func() {
			for n := 0; !done.Load(); n++ {
				if err := f(n); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	checkPairs := func(v View, space uint8) error {
		got := map[string]uint64{}
		err := v.Scan(space, []byte("pair"), []byte("pais"), func(k, v []byte) bool { got[string(k)] = number(v) + 1; return true })
		for w := range writers {
			if a, b := got[string(pairKey(w, 'a'))], got[string(pairKey(w, 'b'))]; a != b {
				return fmt.Errorf("half a batch in space %d: %d and %d", space, a, b)
			}
		}
		return err
	}
	loop(func(n int) error { return db.Boundary(db.clock.Next()) })
	loop(func(n int) error {
		if n%8 == 0 {
			return db.Checkpoint()
		}
		db.Stats()
		return db.Sync()
	})
	loop(func(n int) error { return checkPairs(db, testSpaces[n%len(testSpaces)].ID) })
	loop(func(n int) error {
		// The second of two reads sees at least what the first did.
		k := n % writers
		first, _, err := db.Get(spaceA, pairKey(k, 'a'))
		if err != nil {
			return err
		}
		second, _, err := db.Get(spaceC, pairKey(k, 'b'))
		if number(second) < number(first) {
			return fmt.Errorf("read %d, then %d", number(first), number(second))
		}
		return err
	})
	loop(func(n int) error {
		// A view of the past is whole and stays as it is.
		view := db.At(db.clock.Next())
		if err := checkPairs(view, spaceC); err != nil {
			return err
		}
		first, ok, err := view.Get(spaceA, pairKey(n%writers, 'a'))
		if err != nil {
			return err
		}
		for range 3 {
			again, ok2, err := view.Get(spaceA, pairKey(n%writers, 'a'))
			if err != nil || ok != ok2 || !bytes.Equal(first, again) {
				return fmt.Errorf("a view showed %d, then %d: %v", number(first), number(again), err)
			}
		}
		return nil
	})
	loop(func(n int) error {
		h, err := db.History(spaceA, pairKey(n%writers, 'a'))
		for i := 1; i < len(h); i++ {
			if number(h[i].Value) <= number(h[i-1].Value) || h[i].Stamp <= h[i-1].Stamp || h[i].At == 0 && i != len(h)-1 {
				return fmt.Errorf("history out of order: %+v", h)
			}
		}
		return err
	})
	writing.Wait()
	done.Store(true)
	others.Wait()
	must(t, db.Boundary(db.clock.Next()))
	must(t, db.Checkpoint())
	for _, s := range testSpaces {
		n := 0
		must(t, db.Scan(s.ID, []byte("row"), nil, func(_, _ []byte) bool { n++; return true }))
		if n != writers*commits {
			t.Errorf("space %d has %d rows, want %d", s.ID, n, writers*commits)
		}
		must(t, checkPairs(db.At(sharefs.MaxHLC-1), s.ID))
	}
}

// Closing while others are at work: they get an answer, and all that was acknowledged is there.
func TestCloseUnderway(t *testing.T) {
	for range 5 {
		cfg := Config{Dir: t.TempDir(), MemtableSize: 8 << 10, noSync: true}
		db := open(t, cfg)
		var acked [3]uint64
		var wg sync.WaitGroup
		started := make(chan struct{}, 8)
		for w := range acked {
			wg.Go(func() {
				for n := uint64(1); ; n++ {
					var b Batch
					b.Put(spaceA, []byte{byte(w)}, key8(n))
					if _, err := db.Commit(&b); err != nil {
						if sharefs.KindOf(err) != sharefs.KindStale {
							t.Error(err)
						}
						return
					}
					acked[w] = n
					if n == 20 {
						started <- struct{}{}
					}
				}
			})
			wg.Go(func() {
				for {
					if err := db.Scan(spaceA, nil, nil, func(_, _ []byte) bool { return true }); err != nil {
						return
					}
				}
			})
		}
		<-started
		must(t, db.Close())
		wg.Wait()
		db = open(t, cfg)
		for w, n := range acked {
			if v, _, err := db.Get(spaceA, []byte{byte(w)}); number(v) != n || err != nil {
				t.Errorf("writer %d got to %d, the database to %d: %v", w, n, number(v), err)
			}
		}
	}
}
