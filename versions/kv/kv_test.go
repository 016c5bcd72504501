package kv

import (
	"testing"

	"sharefs"
)

const (
	spaceA = 1 // versioned
	spaceB = 2 // plain
)

var testSpaces = []SpaceDef{{spaceA, "a", true}, {spaceB, "b", false}}

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

func put(t testing.TB, db *DB, space uint8, kv ...string) uint64 {
	t.Helper()
	var b Batch
	for i := 0; i < len(kv); i += 2 {
		b.Put(space, []byte(kv[i]), []byte(kv[i+1]))
	}
	seq, err := db.Commit(&b)
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

func TestBasics(t *testing.T) {
	dir := t.TempDir()
	db := open(t, Config{Dir: dir})
	clock := db.clock
	put(t, db, spaceA, "k", "1", "l", "x")
	t1 := clock.Next()
	if err := db.Boundary(t1); err != nil {
		t.Fatal(err)
	}
	put(t, db, spaceA, "k", "2")
	t2 := clock.Next()
	if err := db.Boundary(t2); err != nil {
		t.Fatal(err)
	}
	put(t, db, spaceA, "k", "3")
	check := func() {
		t.Helper()
		for _, c := range []struct {
			at   sharefs.HLC
			want string
		}{{0, ""}, {t1 - 1, ""}, {t1, "1"}, {t2 - 1, "1"}, {t2, "2"}, {t2 + 1, "2"}, {sharefs.MaxHLC, "3"}} {
			v, ok, err := db.At(c.at).Get(spaceA, []byte("k"))
			if err != nil || ok != (c.want != "") || string(v) != c.want {
				t.Errorf("at %d: %q %v %v, want %q", c.at, v, ok, err, c.want)
			}
		}
		h, err := db.History(spaceA, []byte("k"))
		if err != nil || len(h) != 3 || h[0].At != t1 || h[1].At != t2 || h[2].At != 0 {
			t.Errorf("history %v %v", h, err)
		}
	}
	check()
	if err := db.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := db.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	check()
	put(t, db, spaceB, "k", "plain")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = open(t, Config{Dir: dir})
	check()
	if v, ok, err := db.Get(spaceB, []byte("k")); string(v) != "plain" || !ok || err != nil {
		t.Errorf("%q %v %v", v, ok, err)
	}
}
