package kv

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"sharefs"
	"sharefs/versions/kv/journal/simdisk"
)

// archived is what somebody keeps of a database elsewhere: exports, and each commit since the first.
type archived struct {
	changes map[uint64]archivedChange
	last    uint64
}

type archivedChange struct {
	stamp sharefs.HLC
	rows  []byte
}

// follow copies what is synced.
func (a *archived) follow(t testing.TB, db *DB) {
	t.Helper()
	arc := db.Changes(a.last)
	for {
		n, err := arc.Next(100, func(seq uint64, stamp sharefs.HLC, rows []byte) error {
			if seq != a.last+1 {
				t.Fatalf("commit %d follows %d", seq, a.last)
			}
			a.changes[seq] = archivedChange{stamp, bytes.Clone(rows)}
			a.last = seq
			return nil
		})
		must(t, err)
		if n == 0 {
			break
		}
	}
	if a.last != db.Synced() {
		t.Fatalf("copied up to %d, synced up to %d", a.last, db.Synced())
	}
	db.Archived(a.last)
}

// exported is a finished or unfinished export.
type exported struct {
	begin Mark
	parts []Part
	more  *Export
}

func (x *exported) step(t testing.TB, limit int) (more bool) {
	t.Helper()
	p, ok, err := x.more.Next(nil, limit)
	must(t, err)
	if ok {
		x.parts = append(x.parts, p)
	}
	return ok
}

// rebuild makes a database of an export and what followed it.
func rebuild(t testing.TB, x *exported, a *archived, from uint64) *DB {
	t.Helper()
	dir := t.TempDir()
	b, err := NewBuilder(Config{Dir: dir, Spaces: testSpaces})
	must(t, err)
	b.Begin(x.begin)
	var buf []byte // used again, as whoever reads parts from a disk does
	for _, p := range x.parts {
		buf = append(buf[:0], p.Rows...)
		must(t, b.Part(Part{p.Space, p.Past, buf}))
	}
	for seq := from; seq <= a.last; seq++ {
		c := a.changes[seq]
		must(t, b.Changes(seq, c.stamp, c.rows))
		if seq%7 == 0 {
			must(t, b.flush()) // wherever a table ends
		}
	}
	must(t, b.Finish(0))
	db := open(t, Config{Dir: dir})
	if s := db.Stats(); s.Seq != max(a.last, x.begin.Applied) {
		t.Fatalf("it is at commit %d, want %d", s.Seq, a.last)
	}
	return db
}

// Exports are taken while commits, boundaries, applications, crashes and ends go on; with the changes since they began they give the database
// as it is, with all of its past.
func TestRebuildModel(t *testing.T) {
	seeds, steps := uint64(3), 300
	if os.Getenv("SHAREFS_SOAK") != "" {
		seeds, steps = 30, 600
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 12))
			cfg := Config{Dir: t.TempDir(), MemtableSize: 1 << (10 + r.IntN(5)), Spaces: testSpaces, noSync: true, txRows: 1 + r.IntN(30), Archive: true}
			if seed > 0 {
				cfg.FS = simdisk.New()
			}
			db := open(t, cfg)
			m := newModel()
			kept := &archived{changes: map[uint64]archivedChange{}}
			var going *exported
			rebuilt := 0
			var b Batch
			for n := range steps {
				what := fmt.Sprint("step ", n)
				switch x := r.IntN(100); {
				case x < 50:
					do := randomBatch(r, &b, n)
					_, err := db.Commit(&b)
					must(t, err)
					do(m)
				case x < 65:
					at := db.clock.Next()
					must(t, db.Boundary(at))
					m.boundary(at)
				case x < 70:
					must(t, db.Sync())
					kept.follow(t, db)
				case x < 73:
					must(t, db.Checkpoint())
				case x < 74 && r.IntN(2) == 0:
					must(t, db.Sync())
					kept.follow(t, db)
					must(t, db.Close())
					cfg.Clock, cfg.Copied, going = nil, kept.last, nil
					db = open(t, cfg)
				case x == 75 && r.IntN(2) == 0:
					crashed := crash(t, db)
					must(t, db.Close())
					cfg = crashed
					cfg.Clock, cfg.Copied, going = nil, kept.last, nil
					db = open(t, cfg)
				case going == nil:
					e, err := db.Export()
					must(t, err)
					going = &exported{begin: e.Begin(), more: e}
				default:
					if going.step(t, 1+r.IntN(1500)) {
						break
					}
					must(t, db.Sync())
					kept.follow(t, db)
					again := rebuild(t, going, kept, max(1, going.begin.Applied+1-min(going.begin.Applied, uint64(r.IntN(3)))))
					m.compareAll(t, again, what+", rebuilt")
					must(t, again.Close())
					rebuilt++
					going = nil
				}
			}
			if rebuilt < 1 {
				t.Errorf("rebuilt %d times: the test is smaller than it thinks", rebuilt)
			}
		})
	}
}

// Rows of spaces that are left out are in neither the export nor the changes, and commits keep their numbers.
func TestArchiveLeavesOut(t *testing.T) {
	db := open(t, Config{Dir: t.TempDir(), Archive: true})
	put(t, db, spaceA, "one", "1")
	must(t, db.Checkpoint())
	put(t, db, spaceB, "left", "out")
	var b Batch
	b.Put(spaceB, []byte("x"), []byte("out"))
	b.Put(spaceA, []byte("two"), []byte("2"))
	b.Put(spaceB, []byte("y"), []byte("out"))
	b.Put(spaceC, []byte("three"), []byte("3"))
	b.Delete(spaceB, []byte("z"))
	_, err := db.Commit(&b)
	must(t, err)
	must(t, db.Sync())
	e, err := db.Export(spaceB)
	must(t, err)
	x := &exported{begin: e.Begin(), more: e}
	for x.step(t, 10) {
	}
	kept := &archived{changes: map[uint64]archivedChange{}, last: x.begin.Applied}
	a := db.Changes(x.begin.Applied, spaceB)
	_, err = a.Next(1<<20, func(seq uint64, stamp sharefs.HLC, rows []byte) error {
		kept.changes[seq] = archivedChange{stamp, bytes.Clone(rows)}
		kept.last = seq
		return nil
	})
	must(t, err)
	again := rebuild(t, x, kept, x.begin.Applied+1)
	for space, want := range map[uint8]string{spaceA: "one=1 two=2", spaceB: "", spaceC: "three=3"} {
		got := ""
		must(t, again.Scan(space, nil, nil, func(k, v []byte) bool {
			if got != "" {
				got += " "
			}
			got += string(k) + "=" + string(v)
			return true
		}))
		if got != want {
			t.Errorf("space %d: %q, want %q", space, got, want)
		}
	}
}

// What the journal holds that was not copied stays, and goes when it was.
func TestJournalWaitsForTheArchive(t *testing.T) {
	applied := make(chan struct{}, 100)
	cfg := Config{Dir: t.TempDir(), Archive: true, Applied: func() { applied <- struct{}{} }}
	db := open(t, cfg)
	files := func() int { return db.Stats().Segments }
	for i := range 3 {
		put(t, db, spaceA, "key", fmt.Sprint(i))
		must(t, db.Checkpoint())
		<-applied
	}
	if n := files(); n != 3 {
		t.Fatalf("%d segments", n)
	}
	db.Archived(2)
	if n := files(); n != 1 {
		t.Fatalf("%d segments after two of three commits were copied", n)
	}
	// A start keeps what was not copied though it is applied.
	cfg = crash(t, db)
	must(t, db.Close())
	cfg.Archive, cfg.Copied = true, 2
	db = open(t, cfg)
	kept := &archived{changes: map[uint64]archivedChange{}, last: 2}
	kept.follow(t, db)
	if kept.last != 3 || db.Stats().Segments != 0 {
		t.Fatalf("copied up to %d, %d segments are left", kept.last, db.Stats().Segments)
	}
	if at := db.KeepJournal(); at != 3 {
		t.Errorf("the journal is kept from %d on", at)
	}
	if _, err := db.Changes(3).Next(1, nil); err != nil {
		t.Errorf("nothing behind: %v", err)
	}
	put(t, db, spaceA, "key", "last")
	must(t, db.Sync())
	if _, err := db.Changes(1).Next(1, nil); sharefs.KindOf(err) != sharefs.KindNotExist {
		t.Errorf("what is gone: %v", err)
	}
}

func FuzzParts(f *testing.F) {
	f.Add([]byte{1, 9, 'k', 0, 0, 0, 0, 0, 0, 0, 1, 'v'}, false)
	f.Add(appendRow(nil, pastKey(nil, []byte("k"), 5), []byte{1, 'v'}), true)
	f.Add([]byte{0xff, 0xff, 3, 4}, true)
	f.Fuzz(func(t *testing.T, rows []byte, past bool) {
		b, err := NewBuilder(Config{Dir: t.TempDir(), Spaces: testSpaces})
		must(t, err)
		defer b.Close()
		p := Part{Space: spaceA, Past: past, Rows: rows}
		p.First()
		if err := b.Part(p); err != nil && sharefs.KindOf(err) != sharefs.KindCorrupt {
			t.Fatal(err)
		}
		if err := b.Changes(1, 5, rows); err != nil && sharefs.KindOf(err) != sharefs.KindCorrupt && sharefs.KindOf(err) != sharefs.KindInvalid {
			t.Fatal(err)
		}
	})
}
