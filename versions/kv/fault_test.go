package kv

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sharefs"
	"sharefs/versions/kv/journal/simdisk"
)

// faultRun commits with a disk that fails at one operation, and holds what was acknowledged against what is there after.
type faultRun struct {
	disk  *simdisk.Disk
	cfg   Config
	model *model
	acked int
	errs  []error
}

// run commits; on the way it rotates, syncs and applies.
func (f *faultRun) run(t *testing.T) *DB {
	db, err := Open(f.cfg)
	if err != nil {
		f.errs = append(f.errs, err)
		return nil
	}
	try := func(err error) bool {
		if err != nil {
			f.errs = append(f.errs, err)
		}
		return err == nil
	}
	for n := range 12 {
		var b Batch
		key, value := fmt.Sprint("key ", n%5), fmt.Sprint(n)
		b.Put(spaceA, []byte(key), []byte(value))
		b.Put(spaceB, []byte("last"), []byte(value))
		if _, err := db.Commit(&b); try(err) {
			f.model.set(spaceA, key, value, false)
			f.model.set(spaceB, "last", value, false)
			f.acked++
		}
		switch n {
		case 3, 9:
			try(db.Sync())
		case 5:
			at := db.clock.Next()
			if err := db.Boundary(at); try(err) {
				f.model.boundary(at)
				f.acked++
			}
		case 7:
			try(db.Checkpoint())
		}
	}
	return db
}

// Each operation on the journal's disk fails once, for want of room or for good. What was acknowledged is there
// afterwards, what failed is not, and without a failed sync the database goes on by itself.
func TestFaultAtEachOperation(t *testing.T) {
	count := func(fault func(op simdisk.Op) (int, error)) (*faultRun, *DB) {
		f := &faultRun{disk: simdisk.New(), model: newModel()}
		f.disk.Fault = fault
		f.cfg = Config{Dir: t.TempDir(), FS: f.disk, Spaces: testSpaces, noSync: true, MaxDelay: time.Hour, retry: time.Millisecond}
		return f, f.run(t)
	}
	f, db := count(nil)
	must(t, db.Close())
	total := f.disk.Len()
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EIO} {
		for at := range total + 2 {
			what := fmt.Sprint(errno, " at operation ", at)
			// The applier prepares segments at its own pace, so what the operation is differs from run to run.
			seen := 0
			var syncFailed atomic.Bool
			f, db := count(func(op simdisk.Op) (int, error) {
				seen++
				if seen-1 != at {
					return 0, nil
				}
				syncFailed.Store(op.Kind == simdisk.Datasync)
				return len(op.Data) / 2, errno
			})
			if db == nil {
				if len(f.errs) != 1 || !errors.Is(f.errs[0], errno) {
					t.Fatalf("%s: not opened: %v", what, f.errs)
				}
			} else {
				for _, err := range f.errs {
					if !errors.Is(err, errno) {
						t.Fatalf("%s: %v", what, err)
					}
					if errno == syscall.ENOSPC && sharefs.KindOf(err) != sharefs.KindNoSpace {
						t.Fatalf("%s: kind %v", what, sharefs.KindOf(err))
					}
				}
				f.model.compareAll(t, db, what)
				final := syncFailed.Load() && db.Stats().LastError != ""
				if len(f.errs) > 1 && !final {
					t.Errorf("%s: one fault, errors %v", what, f.errs)
				}
				// Dead, it leaves what was acknowledged.
				dead := crash(t, db)
				if err := db.Close(); (err != nil) != final && !errors.Is(err, errno) {
					t.Fatalf("%s: Close: %v", what, err)
				}
				again, err := Open(dead)
				if err != nil {
					t.Fatalf("%s: opened after death: %v", what, err)
				}
				f.model.compareAll(t, again, what+", after death")
				must(t, again.Close())
			}
			// Opened anew it has what was acknowledged, and works.
			f.disk.Fault = nil
			f.cfg.Clock = nil
			db, err := Open(f.cfg)
			if err != nil {
				t.Fatalf("%s: opened anew: %v", what, err)
			}
			f.model.compareAll(t, db, what+", opened anew")
			put(t, db, spaceB, "new", "life")
			must(t, db.Sync())
			must(t, db.Close())
		}
	}
}

// noRoom is what a write to a full disk returns.
var noRoom = &os.PathError{Op: "write", Path: "meta.db", Err: syscall.ENOSPC}

// While meta.db has no room, commits go on until the table is full, then say why they fail; with room all is well again.
func TestFullMeta(t *testing.T) {
	var full atomic.Bool
	cfg := Config{Dir: t.TempDir(), FS: simdisk.New(), MemtableSize: 8 << 10, noSync: true, retry: time.Millisecond,
		failpoint: func(name string) error {
			if name == "apply.commit" && full.Load() {
				return noRoom
			}
			return nil
		}}
	db := open(t, cfg)
	full.Store(true)
	acked := 0
	var b Batch
	commit := func() error {
		b.Reset()
		b.Put(spaceA, key8(uint64(acked)), key8(uint64(acked)))
		_, err := db.Commit(&b)
		if err == nil {
			acked++
		}
		return err
	}
	var err error
	for err == nil {
		err = commit()
	}
	if sharefs.KindOf(err) != sharefs.KindNoSpace {
		t.Fatalf("%v", err)
	}
	if acked < 20 {
		t.Errorf("only %d commits found room in the tables", acked)
	}
	if err := db.Checkpoint(); sharefs.KindOf(err) != sharefs.KindNoSpace {
		t.Errorf("checkpoint: %v", err)
	}
	if db.Stats().LastError == "" {
		t.Error("the figures do not tell")
	}
	for n := range uint64(acked) {
		if got := get(t, db, spaceA, string(key8(n))); got != string(key8(n)) {
			t.Fatalf("row %d: %q", n, got)
		}
	}
	full.Store(false)
	for commit() != nil { // until the applier has tried again
		time.Sleep(time.Millisecond)
	}
	for full.Store(true); db.Checkpoint() == nil; {
		must(t, commit())
	}
	full.Store(false)
	// The checkpoint makes the applier try; an attempt may have been under way, which failed before.
	if err := db.Checkpoint(); err != nil {
		must(t, db.Checkpoint())
	}
	if s := db.Stats(); s.LastError != "" || s.Applied != s.Seq {
		t.Errorf("%+v", s)
	}

	// Closed while it is full, it leaves the rest in the journal.
	full.Store(true)
	must(t, commit())
	if err := db.Close(); sharefs.KindOf(err) != sharefs.KindNoSpace {
		t.Errorf("close: %v", err)
	}
	full.Store(false)
	db = open(t, cfg)
	for n := range uint64(acked) {
		if got := get(t, db, spaceA, string(key8(n))); got != string(key8(n)) {
			t.Fatalf("row %d: %q", n, got)
		}
	}
}

// Room that is kept back is asked for as long as there is some: then nobody gets to know that the disk is full.
func TestRoomKeptBack(t *testing.T) {
	disk := simdisk.New()
	var parts, asked atomic.Int64
	var full atomic.Bool
	disk.Fault = func(op simdisk.Op) (int, error) {
		if op.Kind == simdisk.Write && full.Load() && (asked.Load() < parts.Load() || parts.Load() == 0) {
			return 0, syscall.ENOSPC
		}
		return 0, nil
	}
	cfg := Config{Dir: t.TempDir(), FS: disk, noSync: true, retry: time.Hour,
		Room: func() bool { return asked.Add(1) <= parts.Load() },
		failpoint: func(name string) error {
			if name == "apply.commit" && full.Load() && asked.Load() < parts.Load() {
				return noRoom
			}
			return nil
		}}
	db := open(t, cfg)
	for n := range int64(3) {
		// The journal asks first; at last bbolt.
		parts.Store(2*n + 2)
		asked.Store(0)
		full.Store(true)
		put(t, db, spaceA, "k", fmt.Sprint(n))
		if asked.Load() != parts.Load() {
			t.Errorf("room was asked for %d times", asked.Load())
		}
		asked.Store(0)
		must(t, db.Checkpoint())
		if asked.Load() != parts.Load() || db.Stats().LastError != "" {
			t.Errorf("to apply, room was asked for %d times; %q", asked.Load(), db.Stats().LastError)
		}
		full.Store(false)
	}

	// Where the room that there is does not help, it is given up asking.
	parts.Store(1 << 30)
	asked.Store(0)
	full.Store(true)
	var b Batch
	b.Put(spaceA, []byte("k"), []byte("x"))
	if _, err := db.Commit(&b); sharefs.KindOf(err) != sharefs.KindNoSpace || asked.Load() != roomTries {
		t.Errorf("commit: %v; room was asked for %d times", err, asked.Load())
	}

	// With none left it is as without.
	parts.Store(0)
	if _, err := db.Commit(&b); sharefs.KindOf(err) != sharefs.KindNoSpace {
		t.Errorf("commit: %v", err)
	}
	full.Store(false)
	must(t, db.Close())
}

// Where writing meta.db fails otherwise, nothing more is promised until the database is opened anew, and nothing is lost.
func TestBrokenMeta(t *testing.T) {
	for point, errno := range map[string]syscall.Errno{"apply.begin": syscall.EIO, "apply.commit": syscall.EIO, "apply.committed": syscall.EIO,
		"apply.commit with a sync that finds no room": syscall.ENOSPC} {
		point, _, _ := strings.Cut(point, " ")
		broken := true
		cfg := Config{Dir: t.TempDir(), noSync: true, FS: simdisk.New(), failpoint: func(name string) error {
			if name == point && broken {
				return errno
			}
			return nil
		}}
		db := open(t, cfg)
		put(t, db, spaceA, "k", "1")
		if err := db.Checkpoint(); !errors.Is(err, errno) {
			t.Fatalf("%s: %v", point, err)
		}
		var b Batch
		b.Put(spaceA, []byte("k"), []byte("2"))
		if _, err := db.Commit(&b); !errors.Is(err, errno) {
			t.Errorf("%s: commit: %v", point, err)
		}
		if got := get(t, db, spaceA, "k"); got != "1" {
			t.Errorf("%s: %q", point, got)
		}
		if err := db.Close(); !errors.Is(err, errno) {
			t.Errorf("%s: close: %v", point, err)
		}
		broken = false
		db = open(t, cfg)
		if got := get(t, db, spaceA, "k"); got != "1" {
			t.Errorf("%s: opened anew: %q", point, got)
		}
		put(t, db, spaceA, "k", "2")
		must(t, db.Checkpoint())
		must(t, db.Close())
	}
}

// A commit is synced without anybody asking.
func TestMaxDelay(t *testing.T) {
	db := open(t, Config{Dir: t.TempDir(), FS: simdisk.New(), MaxDelay: time.Millisecond})
	for n := range 3 {
		seq := put(t, db, spaceB, "k", fmt.Sprint(n))
		for end := time.Now().Add(time.Minute); db.Stats().Synced < seq; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("never synced")
			}
		}
	}
}
