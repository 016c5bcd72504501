package kv

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"

	"sharefs/integration/race"
	"sharefs/versions/kv/journal/simdisk"
)

// Power loss and sudden death at every moment of a life of the database. The journal lives on a simulated disk. meta.db
// cannot, for bbolt maps it, so it is trusted to do what it promises: a transaction is on its disk whole or not at all.
// Copies of it are taken after each transaction; at a given moment that of the last one that was certainly done may be
// there, or that of one that may have been.

// life is what a run of the database did and when.
type life struct {
	disk   *simdisk.Disk
	rand   *rand.Rand // for what to look at
	states []*model   // after each commit; states[0] is the empty one

	mu     sync.Mutex
	acked  []int    // acked[i]: operations on the disk when commit i+1 was acknowledged
	synced []synced // promises of durability
	metas  []meta
}

type synced struct {
	at  int
	seq uint64
}

// meta is a state of meta.db.
type meta struct {
	earliest, latest int // operations on the disk before and after the transaction that made it
	data             []byte
}

func (l *life) now() int { return l.disk.Len() }

// live runs a database through commits with boundaries, syncs and applications.
func live(t *testing.T, seed uint64, commits int) *life {
	l := &life{disk: simdisk.New(), rand: rand.New(rand.NewPCG(seed, 9)), states: []*model{newModel()}}
	r := rand.New(rand.NewPCG(seed, 6))
	dir := t.TempDir()
	earliest := 0
	cfg := Config{Dir: dir, FS: l.disk, MemtableSize: 4 << 10, noSync: true, txRows: 5, failpoint: func(name string) error {
		switch name { // both from the applier
		case "apply.commit":
			earliest = l.now()
		case "apply.committed":
			data := readMeta(t, dir)
			l.mu.Lock()
			l.metas = append(l.metas, meta{earliest, l.now(), data})
			l.mu.Unlock()
		}
		return nil
	}}
	db := open(t, cfg)
	l.mu.Lock()
	l.metas = append([]meta{{0, 0, readMeta(t, dir)}}, l.metas...)
	l.mu.Unlock()
	m := newModel()
	done := func() {
		l.acked = append(l.acked, l.now())
		l.states = append(l.states, m.clone())
	}
	var b Batch
	for n := range commits {
		if m.open && r.IntN(4) == 0 {
			at := db.clock.Next()
			must(t, db.Boundary(at))
			m.boundary(at)
			done()
			continue
		}
		do := randomBatch(r, &b, n)
		seq, err := db.Commit(&b)
		must(t, err)
		if seq != uint64(len(l.states)) {
			t.Fatalf("commit %d has number %d", len(l.states), seq)
		}
		do(m)
		done()
		switch r.IntN(8) {
		case 0:
			must(t, db.SyncTo(seq))
			l.synced = append(l.synced, synced{l.now(), seq})
		case 1:
			must(t, db.Checkpoint())
			l.synced = append(l.synced, synced{l.now(), seq})
		}
	}
	must(t, db.Close())
	l.synced = append(l.synced, synced{l.now(), uint64(len(l.states) - 1)})
	return l
}

// metasAt returns the states that meta.db may be in behind operation n.
func (l *life) metasAt(n int) (out []meta) {
	certain, possible := 0, 0
	for i, m := range l.metas {
		if m.latest <= n {
			certain = i
		}
		if m.earliest <= n {
			possible = i
		}
	}
	out = append(out, l.metas[certain])
	if possible != certain {
		out = append(out, l.metas[possible])
	}
	return out
}

// check opens what a crash left and expects the state after some commit from least on.
func (l *life) check(t *testing.T, disk *simdisk.Disk, data []byte, least uint64, what string) (db *DB, seq uint64) {
	t.Helper()
	dir := t.TempDir()
	writeMeta(t, dir, data)
	db, err := Open(Config{Dir: dir, FS: disk, Spaces: testSpaces, noSync: true})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	seq = db.Stats().Seq
	if seq < least || seq >= uint64(len(l.states)) {
		t.Fatalf("%s: commits up to %d, but up to %d were promised", what, seq, least)
	}
	l.states[seq].compareQuick(t, db, l.rand, what)
	return db, seq
}

func TestCrashEverywhere(t *testing.T) {
	seeds := uint64(2)
	if os.Getenv("SHAREFS_SOAK") != "" {
		seeds = 20
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			race.Leave(t, race.OneHand)
			l := live(t, seed, 60)
			r := rand.New(rand.NewPCG(seed, 7))
			if len(l.metas) < 5 {
				t.Fatalf("%d states of meta.db: the test is smaller than it thinks", len(l.metas))
			}
			for n := range l.now() + 1 {
				acked := uint64(0)
				for acked < uint64(len(l.acked)) && l.acked[acked] <= n {
					acked++
				}
				durable := uint64(0)
				for _, s := range l.synced {
					if s.at <= n {
						durable = s.seq
					}
				}
				fates := map[string]simdisk.Fate{"all lost": simdisk.Lost, "scattered": simdisk.Scatter(r)}
				if ops := l.disk.Unsynced(n); len(ops) > 0 {
					op := ops[r.IntN(len(ops))]
					cut := r.IntN(len(op.Data) + 1)
					fates[fmt.Sprintf("operation %d cut at %d", op.Index, cut)] = simdisk.Torn(op.Index, cut)
				}
				for _, m := range l.metasAt(n) {
					db, _ := l.check(t, l.disk.Killed(n), m.data, acked, fmt.Sprint("killed at ", n))
					must(t, db.Close())
					for _, what := range slices.Sorted(maps.Keys(fates)) {
						fate := fates[what]
						what = fmt.Sprint("power lost at ", n, ", ", what)
						disk := l.disk.PowerLoss(n, fate)
						db, seq := l.check(t, disk, m.data, durable, what)
						if r.IntN(3) == 0 {
							l.goOn(t, db, seq, what)
						}
						must(t, db.Close())
					}
				}
			}
		})
	}
}

// goOn uses a database after a crash, crashes it again and looks once more.
func (l *life) goOn(t *testing.T, db *DB, seq uint64, what string) {
	t.Helper()
	m := l.states[seq].clone()
	var b Batch
	do := randomBatch(rand.New(rand.NewPCG(seq, 8)), &b, int(seq))
	_, err := db.Commit(&b)
	must(t, err)
	do(m)
	at := db.clock.Next()
	must(t, db.Boundary(at))
	m.boundary(at)
	must(t, db.Sync())
	m.compareQuick(t, db, l.rand, what+", then a commit")
	cfg := crash(t, db)
	disk := cfg.FS.(*simdisk.Disk)
	cfg.FS = disk.PowerLoss(disk.Len(), simdisk.Lost)
	must(t, db.Close())
	db, err = Open(cfg)
	if err != nil {
		t.Fatalf("%s, then power lost again: %v", what, err)
	}
	m.compareQuick(t, db, l.rand, what+", then power lost again")
	must(t, db.Close())
}
