package kv

import (
	"fmt"
	"testing"
	"time"
)

// When nobody is at work a table is applied before it is full, but not for a few rows.
func TestIdle(t *testing.T) {
	db := open(t, Config{Dir: t.TempDir(), MemtableSize: 64 << 10})
	put(t, db, spaceB, "k", "v")
	db.Idle()
	if s := db.Stats(); s.Applied != 0 || s.Applies != 0 || s.LagCommits == 0 {
		t.Fatalf("one row was applied: %+v", s)
	}
	var last uint64
	for i := 0; db.Stats().MemtableBytes < 16<<10; i++ {
		last = put(t, db, spaceB, fmt.Sprint("key ", i), "a value of some length")
	}
	if s := db.Stats(); s.Applies != 0 {
		t.Fatalf("a table was applied that is a quarter full: %+v", s)
	}
	db.Idle()
	db.Idle() // once more, in the midst of it or after it
	for deadline := time.Now().Add(time.Minute); db.Stats().Applied < last; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not applied: %+v", db.Stats())
		}
	}
	if got := get(t, db, spaceB, "key 0"); got != "a value of some length" {
		t.Errorf("read %q", got)
	}
	must(t, db.Close())
	db.Idle()
}
