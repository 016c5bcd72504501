package kv

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"sharefs"
)

// Spaces of the tests.
const (
	spaceA = 1 // versioned
	spaceB = 2 // plain
	spaceC = 7 // versioned
)

var testSpaces = []SpaceDef{{spaceA, "a", true}, {spaceB, "b", false}, {spaceC, "c", true}}

func open(t testing.TB, cfg Config) *DB {
	t.Helper()
	if cfg.Spaces == nil {
		cfg.Spaces = testSpaces
	}
	db, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// put commits a batch of keys and values in turn.
func put(t testing.TB, db *DB, space uint8, kv ...string) uint64 {
	t.Helper()
	var b Batch
	for i := 0; i < len(kv); i += 2 {
		b.Put(space, []byte(kv[i]), []byte(kv[i+1]))
	}
	seq, err := db.Commit(&b)
	must(t, err)
	return seq
}

func get(t testing.TB, v View, space uint8, key string) string {
	t.Helper()
	value, ok, err := v.Get(space, []byte(key))
	must(t, err)
	if !ok {
		return "none"
	}
	return string(value)
}

func TestEpochs(t *testing.T) {
	dir := t.TempDir()
	db := open(t, Config{Dir: dir})
	put(t, db, spaceA, "k", "1", "l", "x")
	t1 := db.clock.Next()
	must(t, db.Boundary(t1))
	must(t, db.Boundary(db.clock.Next())) // nothing changed: no second boundary
	put(t, db, spaceA, "k", "within")
	put(t, db, spaceA, "k", "2")
	t2 := db.clock.Next()
	must(t, db.Boundary(t2))
	put(t, db, spaceA, "k", "3")
	check := func() {
		t.Helper()
		for _, c := range []struct {
			at   sharefs.HLC
			want string
		}{{0, "none"}, {t1 - 1, "none"}, {t1, "1"}, {t2 - 1, "1"}, {t2, "2"}, {t2 + 1, "2"}, {sharefs.MaxHLC - 1, "2"}, {sharefs.MaxHLC, "3"}} {
			if got := get(t, db.At(c.at), spaceA, "k"); got != c.want {
				t.Errorf("at %d: %q, want %q", c.at, got, c.want)
			}
		}
		h, err := db.History(spaceA, []byte("k"))
		if err != nil || len(h) != 3 || h[0].At != t1 || h[1].At != t2 || h[2].At != 0 || string(h[1].Value) != "2" {
			t.Errorf("history %v %v", h, err)
		}
	}
	check()
	must(t, db.Checkpoint())
	check()
	put(t, db, spaceB, "k", "plain")
	must(t, db.Close())
	db = open(t, Config{Dir: dir})
	check()
	if got := get(t, db.At(t1), spaceB, "k"); got != "plain" {
		t.Errorf("a row without a past: %q", got)
	}
}

// Boundaries and stamps keep their order whatever the caller gives.
func TestBoundaryTimes(t *testing.T) {
	db := open(t, Config{Dir: t.TempDir()})
	before := db.clock.Next()
	put(t, db, spaceA, "k", "1")
	must(t, db.Boundary(before)) // before the epoch began: its beginning counts
	var first Epoch
	must(t, db.Boundaries(0, sharefs.MaxHLC, func(e Epoch) bool { first = e; return true }))
	if first.Stamp <= before || first.Boundary != first.Stamp {
		t.Errorf("%+v, asked for %d", first, before)
	}
	put(t, db, spaceA, "k", "2")
	if err := db.Boundary(sharefs.MaxHLC); sharefs.KindOf(err) != sharefs.KindInvalid {
		t.Errorf("a boundary at the end of time: %v", err)
	}
	ahead := db.clock.Next() + 1<<30 // 16 s
	must(t, db.Boundary(ahead))
	put(t, db, spaceA, "k", "3")
	must(t, db.Boundary(db.clock.Next()))
	if got := get(t, db.At(ahead), spaceA, "k"); got != "2" {
		t.Errorf("at a boundary ahead of the clock: %q", got)
	}
	n := 0
	must(t, db.Boundaries(ahead, sharefs.MaxHLC, func(e Epoch) bool { n++; return true }))
	if n != 2 {
		t.Errorf("%d boundaries from there on", n)
	}
	must(t, db.Boundaries(0, ahead, func(e Epoch) bool { n++; return true }))
	if n != 3 {
		t.Errorf("%d boundaries before", n-2)
	}
}

// A host's clock that is set back by an hour stops neither epochs nor their order.
func TestClockSetBack(t *testing.T) {
	var now atomic.Int64
	now.Store(time.Now().UnixNano())
	clock := &sharefs.Clock{Now: func() time.Time { return time.Unix(0, now.Load()) }}
	dir := t.TempDir()
	db := open(t, Config{Dir: dir, Clock: clock})
	var ends []sharefs.HLC
	for n := range 6 {
		put(t, db, spaceA, "k", fmt.Sprint(n))
		ends = append(ends, clock.Next())
		must(t, db.Boundary(ends[n]))
		now.Add(-int64(time.Hour))
		if n == 3 { // a new process knows the old stamps from the store alone
			must(t, db.Close())
			clock = &sharefs.Clock{Now: clock.Now}
			db = open(t, Config{Dir: dir, Clock: clock})
		}
	}
	for n, at := range ends {
		if got := get(t, db.At(at), spaceA, "k"); got != fmt.Sprint(n) {
			t.Errorf("at boundary %d: %q", n, got)
		}
	}
}

func TestMisuse(t *testing.T) {
	dir := t.TempDir()
	db := open(t, Config{Dir: dir})
	commit := func(fill func(b *Batch)) error {
		var b Batch
		fill(&b)
		_, err := db.Commit(&b)
		return err
	}
	for what, err := range map[string]error{
		"an unknown space":   commit(func(b *Batch) { b.Put(9, []byte("k"), nil) }),
		"the space of ours":  commit(func(b *Batch) { b.Put(255, []byte("k"), nil) }),
		"an empty key":       commit(func(b *Batch) { b.Delete(spaceA, nil) }),
		"a key too long":     commit(func(b *Batch) { b.Put(spaceA, make([]byte, MaxKey+1), nil) }),
		"a value too long":   commit(func(b *Batch) { b.Put(spaceA, []byte("k"), make([]byte, MaxValue+1)) }),
		"a read there":       func() error { _, _, err := db.Get(255, []byte("k")); return err }(),
		"a scan there":       db.Scan(9, nil, nil, nil),
		"a scan of the past": db.At(1).Scan(9, nil, nil, nil),
		"history of a plain": db.Past(spaceB, []byte("k"), nil),
		"two spaces of a name": func() error {
			_, err := Open(Config{Dir: dir, Spaces: []SpaceDef{{1, "x", true}, {2, "x", true}}})
			return err
		}(),
	} {
		if sharefs.KindOf(err) != sharefs.KindInvalid {
			t.Errorf("%s: %v", what, err)
		}
	}
	must(t, commit(func(b *Batch) {}))
	must(t, commit(func(b *Batch) { b.Put(spaceA, make([]byte, MaxKey), make([]byte, 1<<20)) }))
	must(t, db.Checkpoint())
	must(t, commit(func(b *Batch) { b.Delete(spaceA, make([]byte, MaxKey)) }))
	must(t, db.Checkpoint()) // the longest key has a past too
	if _, err := Open(Config{Dir: dir, Spaces: testSpaces}); sharefs.KindOf(err) != sharefs.KindBusy {
		t.Errorf("opened twice: %v", err)
	}
	must(t, db.Close())
	must(t, db.Close())
	for what, err := range map[string]error{
		"commit":     commit(func(b *Batch) { b.Put(spaceA, []byte("k"), nil) }),
		"boundary":   db.Boundary(1),
		"checkpoint": db.Checkpoint(),
		"scan":       db.Scan(spaceA, nil, nil, nil),
	} {
		if sharefs.KindOf(err) != sharefs.KindStale {
			t.Errorf("%s after Close: %v", what, err)
		}
	}
	if _, err := Open(Config{Dir: dir, Spaces: []SpaceDef{{spaceA, "a", false}}}); sharefs.KindOf(err) != sharefs.KindInvalid {
		t.Errorf("a space defined otherwise: %v", err)
	}
}

func TestReadOnly(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(Config{Dir: dir, Spaces: testSpaces, ReadOnly: true}); sharefs.KindOf(err) != sharefs.KindNotExist {
		t.Fatalf("where there is nothing: %v", err)
	}
	db := open(t, Config{Dir: dir})
	put(t, db, spaceA, "k", "1")
	must(t, db.Checkpoint())
	at := db.clock.Next()
	must(t, db.Boundary(at))
	put(t, db, spaceA, "k", "2")
	crashed := crash(t, db) // leaves a journal to read
	for range 2 {
		db = open(t, Config{Dir: crashed.Dir, ReadOnly: true, Spaces: append([]SpaceDef{{50, "added", true}}, testSpaces...)})
		if got := get(t, db, spaceA, "k") + get(t, db.At(at), spaceA, "k") + get(t, db, 50, "k"); got != "21none" {
			t.Error(got)
		}
		must(t, db.At(at).Scan(50, nil, nil, func(_, _ []byte) bool { t.Error("a row"); return true }))
		h, err := db.History(50, []byte("k"))
		if len(h) != 0 || err != nil {
			t.Error(h, err)
		}
		var b Batch
		b.Put(spaceA, []byte("k"), nil)
		if _, err := db.Commit(&b); sharefs.KindOf(err) != sharefs.KindReadOnly {
			t.Errorf("commit: %v", err)
		}
		if err := db.Checkpoint(); sharefs.KindOf(err) != sharefs.KindReadOnly {
			t.Errorf("checkpoint: %v", err)
		}
		must(t, db.Sync())
		must(t, db.Close())
	}
	if _, err := Open(Config{Dir: crashed.Dir, Spaces: testSpaces[1:]}); sharefs.KindOf(err) != sharefs.KindInvalid {
		t.Errorf("without a space that has rows in the journal: %v", err)
	}
	db = open(t, Config{Dir: crashed.Dir})
	if got := get(t, db, spaceA, "k"); got != "2" {
		t.Error(got)
	}
}

// Stats follow what happens.
func TestStats(t *testing.T) {
	db := open(t, Config{Dir: t.TempDir(), MaxDelay: time.Hour})
	put(t, db, spaceA, "k", "1", "l", "2")
	put(t, db, spaceB, "k", "1")
	s := db.Stats()
	if s.Seq != 2 || s.Synced != 0 || s.Applied != 0 || s.LagCommits != 2 || s.LagBytes == 0 || s.UnsyncedMs == 0 || s.Segments != 1 ||
		s.MemtableRows != 3 || s.MemtableBytes == 0 || s.Commits != 2 || s.Rows != 3 || s.LastError != "" {
		t.Errorf("%+v", s)
	}
	must(t, db.Sync())
	if s := db.Stats(); s.Synced != 2 || s.UnsyncedMs != 0 || s.Syncs != 1 {
		t.Errorf("%+v", s)
	}
	must(t, db.Checkpoint())
	if s := db.Stats(); s.Applied != 2 || s.LagCommits != 0 || s.MemtableRows != 0 || s.MemtableBytes != 0 || s.MetaBytes == 0 || s.Applies != 1 {
		t.Errorf("%+v", s)
	}
}

// Given back, the pages of meta.db are read again.
func TestGiveBack(t *testing.T) {
	db := open(t, Config{Dir: t.TempDir()})
	put(t, db, spaceA, "k", "1")
	must(t, db.Checkpoint())
	for range 3 {
		if got := get(t, db, spaceA, "k"); got != "1" {
			t.Error(got)
		}
		db.giveBack()
	}
	if s := db.Stats(); s.Trims < 3 {
		t.Errorf("%d times", s.Trims)
	}
	if residentFiles() == 0 {
		t.Error("no mapped files, of which this program is one")
	}
}
