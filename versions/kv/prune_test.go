package kv

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"sharefs"
	"sharefs/versions/kv/journal/simdisk"
)

// prune removes from all spaces what keep does not need.
func prune(t testing.TB, db *DB, keep Keep) PruneStats {
	t.Helper()
	p, err := db.Prune(keep, false)
	must(t, err)
	for _, s := range testSpaces {
		if s.Versioned {
			must(t, p.all(s.ID, nil))
		}
	}
	must(t, p.Epochs(func() error { return nil }))
	return p.PruneStats
}

// all walks a space to its end.
func (p *Pruner) all(id uint8, from []byte) error {
	err := p.Space(id, from)
	for done := false; err == nil && !done; {
		done, err = p.Step()
	}
	return err
}

// stored lists the states of the past that meta.db has, and the boundaries.
func stored(t testing.TB, db *DB) (out []string) {
	t.Helper()
	must(t, db.Checkpoint())
	tx, err := db.begin()
	must(t, err)
	defer tx.end()
	for _, s := range db.spaces {
		if s == nil || !s.Versioned && s.ID != boundaries {
			continue
		}
		b := tx.liveBucket(s)
		if s.Versioned {
			b = tx.pastBucket(s)
		}
		must(t, b.ForEach(func(k, v []byte) error {
			out = append(out, fmt.Sprintf("%d %x", s.ID, k))
			return nil
		}))
	}
	return out
}

// needs lists what stored must come to: by walking each row's states one by one.
func (m *model) needs() (states int) {
	for _, s := range testSpaces {
		if !s.Versioned {
			continue
		}
		for _, rs := range m.revisions[s.ID] {
			there := false
			for i, r := range rs[:max(0, len(rs)-1)] {
				until := sharefs.MaxHLC
				if e := rs[i+1].epoch; e < len(m.ends) {
					until = m.ends[e].at
				}
				seen := slices.ContainsFunc(m.instants(), func(t sharefs.HLC) bool {
					return r.epoch < len(m.ends) && m.ends[r.epoch].at <= t && t < until
				})
				if seen && r.deleted && !there {
					continue
				}
				if seen {
					there = !r.deleted
					states++
				}
			}
			if last := len(rs) - 1; there && rs[last].deleted {
				states++
			}
		}
	}
	return states
}

func TestPruneRemovesAllThatIsNotNeeded(t *testing.T) {
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 21))
		db := open(t, Config{Dir: t.TempDir(), MemtableSize: 4 << 10, noSync: true, FS: simdisk.New()})
		m := newModel()
		var b Batch
		for n := range 150 {
			do := randomBatch(r, &b, n)
			_, err := db.Commit(&b)
			must(t, err)
			do(m)
			if r.IntN(3) == 0 {
				at := db.clock.Next()
				must(t, db.Boundary(at))
				m.boundary(at)
			}
		}
		for round := range 3 {
			m.thin(r)
			must(t, db.Checkpoint())
			before := stored(t, db)
			dry, err := db.Prune(m.keep, true)
			must(t, err)
			for _, id := range []uint8{spaceA, spaceC} {
				must(t, dry.all(id, nil))
			}
			if after := stored(t, db); !slices.Equal(before, after) {
				t.Fatal("a dry run removed something")
			}
			did := prune(t, db, m.keep)
			if dry.Removed != did.Removed || dry.Bytes != did.Bytes || dry.States != did.States {
				t.Errorf("dry run: %+v, then %+v", dry.PruneStats, did)
			}
			m.compareAll(t, db, fmt.Sprint("seed ", seed, " round ", round))
			after := stored(t, db)
			epochs := 0
			for _, s := range after {
				if s[0] == '2' { // 255
					epochs++
				}
			}
			if got, want := len(after)-epochs, m.needs(); got != want {
				t.Errorf("seed %d round %d: %d states are left of %d, %d are needed", seed, round, got, len(before), want)
			}
			if again := prune(t, db, m.keep); again.Removed > 0 || again.Epochs > 0 {
				t.Errorf("a second time: %+v", again)
			}
		}
	}
}

// A row with more states than a step reads, in steps that end within it, and others beside it.
func TestPruneInSteps(t *testing.T) {
	db := open(t, Config{Dir: t.TempDir(), noSync: true})
	var ends []sharefs.HLC
	for n := range 300 {
		put(t, db, spaceA, "long", fmt.Sprint(n), string(key8(uint64(n%7))), fmt.Sprint(n))
		if n%5 == 4 {
			var b Batch
			b.Delete(spaceA, []byte("long"))
			must(t, func() error { _, err := db.Commit(&b); return err }())
		}
		ends = append(ends, db.clock.Next())
		must(t, db.Boundary(ends[n]))
	}
	must(t, db.Checkpoint())
	p, err := db.Prune(Keep{Since: ends[299], At: []sharefs.HLC{ends[10], ends[104], ends[105]}}, false)
	must(t, err)
	must(t, p.Space(spaceA, nil))
	keys := 0
	for done := false; !done; keys++ {
		if done, err = p.Step(); err != nil {
			t.Fatal(err)
		}
		if k := p.Key(); len(k) == 0 {
			t.Error("no place to go on from")
		}
	}
	for at, want := range map[int]string{10: "10", 104: "none", 105: "105", 299: "none"} {
		if got := get(t, db.At(ends[at]), spaceA, "long"); got != want {
			t.Errorf("at %d: %s, want %s", at, got, want)
		}
	}
	h, err := db.History(spaceA, []byte("long"))
	must(t, err)
	// 10; gone; 105; gone.
	if len(h) != 4 || string(h[0].Value) != "10" || !h[1].Deleted || string(h[2].Value) != "105" || !h[3].Deleted {
		t.Errorf("%d states are left: %v", len(h), h)
	}
	// From the middle, as after a restart.
	must(t, p.all(spaceA, []byte("m")))
}

func TestPruneErrors(t *testing.T) {
	dir := t.TempDir()
	broken := errors.New("broken")
	var fail atomic.Bool
	db := open(t, Config{Dir: dir, noSync: true, failpoint: func(name string) error {
		if name == "prune.commit" && fail.Load() {
			return broken
		}
		return nil
	}})
	p, err := db.Prune(Keep{}, false)
	must(t, err)
	for _, id := range []uint8{spaceB, 99, boundaries} {
		if err := p.Space(id, nil); sharefs.KindOf(err) != sharefs.KindInvalid {
			t.Errorf("space %d: %v", id, err)
		}
	}
	for n := range 3 {
		put(t, db, spaceA, "k", fmt.Sprint(n))
		must(t, db.Boundary(db.clock.Next()))
	}
	must(t, db.Checkpoint())
	if p, err = db.Prune(Keep{Since: sharefs.MaxHLC}, false); err != nil {
		t.Fatal(err)
	}
	stop := errors.New("stop")
	if err := p.Epochs(func() error { return stop }); !errors.Is(err, stop) {
		t.Errorf("asked to stop: %v", err)
	}
	fail.Store(true)
	if err := p.all(spaceA, nil); !errors.Is(err, broken) {
		t.Errorf("a transaction that fails: %v", err)
	}
	if _, err := db.Commit(&Batch{}); err == nil {
		put := Batch{}
		put.Put(spaceA, []byte("k"), nil)
		if _, err := db.Commit(&put); !errors.Is(err, broken) {
			t.Errorf("a commit after that: %v", err)
		}
	}
	_ = db.Close()
	if err := p.all(spaceA, nil); sharefs.KindOf(err) != sharefs.KindStale {
		t.Errorf("a closed database: %v", err)
	}
	ro := open(t, Config{Dir: dir, ReadOnly: true})
	if _, err := ro.Prune(Keep{}, false); sharefs.KindOf(err) != sharefs.KindReadOnly {
		t.Errorf("read only: %v", err)
	}
	must(t, ro.Close())
}

// Sudden death and power loss around each transaction that prunes, with tables being applied in between.
func TestPruneCrash(t *testing.T) {
	seeds := uint64(1)
	soak := os.Getenv("SHAREFS_SOAK") != ""
	if soak {
		seeds = 8
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 31))
			dir, disk := t.TempDir(), simdisk.New()
			var mu sync.Mutex
			var metas [][]byte
			var at []int
			db := open(t, Config{Dir: dir, FS: disk, MemtableSize: 4 << 10, noSync: true, txRows: 7, failpoint: func(name string) error {
				switch name {
				case "prune.committed", "apply.committed":
					data := readMeta(t, dir)
					mu.Lock()
					metas, at = append(metas, data), append(at, disk.Len())
					mu.Unlock()
				}
				return nil
			}})
			m := newModel()
			states := []*model{m.clone()}
			var b Batch
			for n := range 70 {
				do := randomBatch(r, &b, n)
				_, err := db.Commit(&b)
				must(t, err)
				do(m)
				states = append(states, m.clone())
				if m.open && r.IntN(3) == 0 {
					end := db.clock.Next()
					must(t, db.Boundary(end))
					m.boundary(end)
					states = append(states, m.clone())
				}
				if r.IntN(12) == 0 {
					m.thin(r)
					prune(t, db, m.keep)
				}
			}
			end := disk.Len()
			must(t, db.Close())
			if len(metas) < 8 {
				t.Fatalf("%d states of meta.db: the test is smaller than it thinks", len(metas))
			}
			for i, data := range metas {
				n := at[i]
				if n > end {
					continue // of Close
				}
				for k, what := range []string{"killed", "power lost", "scattered"} {
					if !soak && i%3 != k {
						continue // one after the other
					}
					var d *simdisk.Disk
					switch what {
					case "killed":
						d = disk.Killed(n)
					case "power lost":
						d = disk.PowerLoss(n, simdisk.Lost)
					default:
						d = disk.PowerLoss(n, simdisk.Scatter(r))
					}
					dir := t.TempDir()
					writeMeta(t, dir, data)
					db, err := Open(Config{Dir: dir, FS: d, Spaces: testSpaces, noSync: true})
					if err != nil {
						t.Fatalf("%s behind transaction %d: %v", what, i, err)
					}
					want := states[db.Stats().Seq].clone()
					want.keep = m.keep
					want.compareAll(t, db, fmt.Sprint(what, " behind transaction ", i))
					// It can be gone on with.
					prune(t, db, m.keep)
					want.compareAll(t, db, fmt.Sprint(what, " behind transaction ", i, ", pruned again"))
					must(t, db.Close())
				}
			}
		})
	}
}

// Readers of kept instants, commits, boundaries and applications beside somebody who prunes.
func TestPruneBesideOthers(t *testing.T) {
	db := open(t, Config{Dir: t.TempDir(), MemtableSize: 32 << 10, noSync: true})
	var stop atomic.Bool
	var wg sync.WaitGroup
	type shot struct {
		at   sharefs.HLC
		rows map[string]string
	}
	var mu sync.Mutex
	var kept []shot // of which the first ones are let go, the others are exact for ever
	scan := func(v View) (map[string]string, error) {
		rows := map[string]string{}
		err := v.Scan(spaceA, nil, nil, func(k, v []byte) bool { rows[string(k)] = string(v); return true })
		return rows, err
	}
	const rounds = 150
	wg.Go(func() {
		defer stop.Store(true)
		r := rand.New(rand.NewPCG(1, 41))
		rows := map[string]string{}
		for n := range rounds {
			var b Batch
			for range 20 {
				k := string(key8(uint64(r.IntN(60))))
				if r.IntN(4) == 0 {
					b.Delete(spaceA, []byte(k))
					delete(rows, k)
				} else {
					v := fmt.Sprint(n, bytes.Repeat([]byte{'x'}, r.IntN(200)))
					b.Put(spaceA, []byte(k), []byte(v))
					rows[k] = v
				}
			}
			if _, err := db.Commit(&b); err != nil {
				t.Error(err)
				return
			}
			at := db.clock.Next()
			if err := db.Boundary(at); err != nil {
				t.Error(err)
				return
			}
			if n%10 == 0 {
				mu.Lock()
				kept = append(kept, shot{at, maps.Clone(rows)})
				mu.Unlock()
			}
		}
	})
	wg.Go(func() {
		for last := false; !last; {
			last = stop.Load()
			mu.Lock()
			keep := Keep{}
			for i, s := range kept {
				if i < len(kept)-2 {
					keep.At = append(keep.At, s.at)
				} else if keep.Since == 0 {
					keep.Since = s.at
				}
			}
			mu.Unlock()
			prune(t, db, keep)
		}
	})
	for g := range 3 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 42))
			for last := false; !last; {
				last = stop.Load()
				mu.Lock()
				n := len(kept)
				if n == 0 {
					mu.Unlock()
					continue
				}
				s := kept[r.IntN(n)]
				mu.Unlock()
				rows, err := scan(db.At(s.at))
				if err != nil || !maps.Equal(rows, s.rows) {
					t.Errorf("at %d: %d rows, want %d, %v", s.at, len(rows), len(s.rows), err)
					return
				}
				if _, err := db.History(spaceA, key8(uint64(r.IntN(60)))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	for _, s := range kept {
		rows, err := scan(db.At(s.at))
		if err != nil || !maps.Equal(rows, s.rows) {
			t.Errorf("in the end, at %d: %d rows, want %d, %v", s.at, len(rows), len(s.rows), err)
		}
	}
}
