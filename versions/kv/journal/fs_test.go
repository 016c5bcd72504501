package journal_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"sharefs/versions/kv/journal"
)

// narrow is a directory on whose disk a long write finds no room for its second half.
type narrow struct{ journal.Dir }

func (d narrow) Create(name string) (journal.File, error) {
	f, err := d.Dir.Create(name)
	return narrowFile{f}, err
}

type narrowFile struct{ journal.File }

const long = 100_000

func (f narrowFile) WriteAt(p []byte, off int64) (int, error) {
	if len(p) < long {
		return f.File.WriteAt(p, off)
	}
	n, err := f.File.WriteAt(p[:len(p)/2], off)
	if err == nil {
		err = syscall.ENOSPC
	}
	return n, err
}

// What a segment has reserved is kept for small records when a long one finds no room: they are how a user removes files and gets room.
func TestFailedAppendKeepsTheReservedRoom(t *testing.T) {
	dir := t.TempDir()
	j, _ := reopen(t, narrow{journal.Dir(dir)}, 0)
	mustAdd(t, j, "one")
	room := func() int64 {
		t.Helper()
		names, err := filepath.Glob(filepath.Join(dir, "*.wal"))
		if err != nil || len(names) != 1 {
			t.Fatal(names, err)
		}
		st, err := os.Stat(names[0])
		must(t, err)
		return st.Sys().(*syscall.Stat_t).Blocks * 512
	}
	before := room()
	if before < 1<<20 {
		t.Skip("this disk reserves nothing")
	}
	if _, err := add(j, string(make([]byte, long))); err == nil {
		t.Fatal("it fit")
	}
	if after := room(); after < before {
		t.Errorf("of %d bytes %d are left", before, after)
	}
	mustAdd(t, j, "two")
	must(t, j.Close())
	_, got := reopen(t, journal.Dir(dir), 0)
	if len(got) != 2 || got[1] != "two" {
		t.Errorf("%q", got)
	}
}
