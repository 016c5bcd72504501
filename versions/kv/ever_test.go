package kv

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"sharefs"
	"sharefs/integration/race"
)

// ever is ScanEver as it would be written down by who has all of History.
func ever(t testing.TB, db *DB, keys []string, from, to string) (all []Ever) {
	t.Helper()
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		if key < from || to != "" && key >= to {
			continue
		}
		states, err := db.History(spaceA, []byte(key))
		must(t, err)
		e, gone := Ever{Key: []byte(key)}, sharefs.HLC(0)
		for _, s := range states {
			if s.Deleted {
				gone = max(s.Stamp, s.At)
			} else {
				e.Value, e.Stamp, gone = s.Value, s.Stamp, 0
			}
		}
		if e.Gone = gone; gone > 0 {
			e.Deleted = true
		}
		if len(states) > 0 {
			all = append(all, e)
		}
	}
	return all
}

// Rows in all places where they can be, some of them deleted, made again, and deleted in an instant that is open.
func TestScanEver(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			if seed > 1 {
				race.Leave(t, race.Enough)
			}
			r := rand.New(rand.NewPCG(seed, 5))
			dir := t.TempDir()
			clock := &sharefs.Clock{}
			db := open(t, Config{Dir: dir, Clock: clock, noSync: true})
			var keys []string
			for step := range 400 {
				var b Batch
				for range 1 + r.IntN(8) {
					key := fmt.Sprintf("key %0*d", 1+r.IntN(12), r.IntN(150))
					keys = append(keys, key)
					if r.IntN(3) == 0 {
						b.Delete(spaceA, []byte(key))
					} else {
						b.Put(spaceA, []byte(key), fmt.Append(nil, step))
					}
				}
				_, err := db.Commit(&b)
				must(t, err)
				switch r.IntN(12) {
				case 0:
					must(t, db.Checkpoint())
				case 1, 2, 3, 4:
					must(t, db.Boundary(clock.Next()))
				case 5:
					db.commitMu.Lock() // what is frozen is applied while others read
					if db.frozen == nil && db.active.last != 0 {
						db.freeze()
					}
					db.commitMu.Unlock()
				case 6:
					must(t, db.Close())
					db = open(t, Config{Dir: dir, Clock: clock, noSync: true})
				}
				if step%20 != 19 {
					continue
				}
				from, to := "", ""
				if r.IntN(2) == 0 {
					from, to = fmt.Sprint("key 0", r.IntN(5)), fmt.Sprint("key ", r.IntN(9))
				}
				want, i := ever(t, db, keys, from, to), 0
				must(t, db.ScanEver(spaceA, []byte(from), []byte(to), func(e Ever) bool {
					if i >= len(want) || fmt.Sprint(e) != fmt.Sprint(want[i]) {
						t.Fatalf("step %d: row %d is\n%+v, want\n%+v", step, i, e, want[min(i, len(want)-1)])
					}
					i++
					return true
				}))
				if i != len(want) {
					t.Fatalf("step %d: %d rows, want %d", step, i, len(want))
				}
				n := 0
				must(t, db.ScanEver(spaceA, nil, nil, func(Ever) bool { n++; return false }))
				if n > 1 {
					t.Fatalf("%d rows after the end", n)
				}
			}
		})
	}
	db := open(t, Config{Dir: t.TempDir()})
	if err := db.ScanEver(spaceB, nil, nil, nil); !errors.Is(err, sharefs.KindInvalid) {
		t.Errorf("a plain space: %v", err)
	}
}
