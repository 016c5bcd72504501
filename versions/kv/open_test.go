package kv

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"sharefs"
)

// Opening a store that has all it needs writes nothing: on a full disk there would be no room for it.
func TestOpenWritesNothing(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	db := open(t, cfg)
	put(t, db, spaceA, "k", "1")
	must(t, db.Close())
	before, err := os.ReadFile(filepath.Join(cfg.Dir, "meta.db"))
	must(t, err)
	db = open(t, cfg)
	if got := get(t, db, spaceA, "k"); got != "1" {
		t.Errorf("%q", got)
	}
	must(t, db.Close())
	after, err := os.ReadFile(filepath.Join(cfg.Dir, "meta.db"))
	must(t, err)
	if !bytes.Equal(before, after) {
		t.Error("meta.db was written to")
	}
	// A space that is new is made.
	cfg.Spaces = append([]SpaceDef{{9, "new", true}}, testSpaces...)
	db = open(t, cfg)
	put(t, db, 9, "k", "2")
	must(t, db.Close())
}

// Power that is lost while a store is born leaves some part of its first pages: it is born anew. Where a journal tells that it
// lived, the same is damage.
func TestLossOfPowerAtBirth(t *testing.T) {
	size := birth * os.Getpagesize()
	whole := func() []byte {
		dir := t.TempDir()
		b, err := (&DB{cfg: Config{Dir: dir}}).boltAt(filepath.Join(dir, "meta.db"))
		must(t, err)
		must(t, b.Close())
		data, err := os.ReadFile(filepath.Join(dir, "meta.db"))
		must(t, err)
		return data[:size]
	}()
	for name, left := range map[string][]byte{
		"nothing": nil, "a byte": whole[:1], "a page": whole[:size/4], "half": whole[:size/2], "all": whole,
		"zeros": make([]byte, size), "no first half": append(make([]byte, size/2), whole[size/2:]...),
	} {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, "meta.db"), left, 0o600))
		db := open(t, Config{Dir: dir})
		put(t, db, spaceA, "k", "1")
		must(t, db.Close())
		if name == "nothing" || name == "all" {
			continue
		}
		must(t, os.WriteFile(filepath.Join(dir, "meta.db"), left, 0o600))
		if db, err := Open(Config{Dir: dir, Spaces: testSpaces}); err == nil {
			t.Errorf("%s of meta.db beside a journal was taken for a store", name)
			db.Close()
		}
	}
}

// Damage that makes bbolt panic, or read beyond the end of the file, is an error that names the file.
func TestDamagedMetaIsAnError(t *testing.T) {
	for name, damage := range map[string]func(data []byte) []byte{
		"cut to its first pages": func(data []byte) []byte { return data[:birth*os.Getpagesize()] },
		"all but its first pages overwritten": func(data []byte) []byte {
			for i := 2 * os.Getpagesize(); i < len(data); i++ {
				data[i] = 0xa5
			}
			return data
		},
	} {
		dir := t.TempDir()
		db := open(t, Config{Dir: dir})
		for n := range uint64(300) {
			put(t, db, spaceA, string(key8(n)), string(make([]byte, 500)))
		}
		must(t, db.Close())
		path := filepath.Join(dir, "meta.db")
		data, err := os.ReadFile(path)
		must(t, err)
		must(t, os.WriteFile(path, damage(data), 0o600))
		db, err = Open(Config{Dir: dir, Spaces: testSpaces})
		var e *sharefs.Error
		if !errors.As(err, &e) || e.Kind != sharefs.KindCorrupt || e.Path != path {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			db.Close()
		}
	}
}

// What an earlier process wrote to meta.db is on the disk before anything else is written there; without that the store does not open.
func TestOpenSyncsMeta(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	must(t, open(t, cfg).Close())
	cfg.Spaces = testSpaces
	cfg.failpoint = func(name string) error {
		if name == "open.sync" {
			return syscall.EIO
		}
		return nil
	}
	if db, err := Open(cfg); !errors.Is(err, syscall.EIO) {
		t.Errorf("%v", err)
		db.Close()
	}
	cfg.ReadOnly = true
	db, err := Open(cfg)
	must(t, err)
	must(t, db.Close())
}

// After a process that did not end well meta.db is read from the disk, not from memory: a sync may have failed in it.
func TestOpenForgetsWhatIsInMemory(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "journal"), 0o700))
	path := filepath.Join(dir, "meta.db")
	const size = 1 << 20
	must(t, os.WriteFile(path, make([]byte, size), 0o600))
	resident := func() (n int) {
		f, err := os.Open(path)
		must(t, err)
		defer f.Close()
		m, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
		must(t, err)
		defer unix.Munmap(m)
		in := make([]byte, size/os.Getpagesize())
		if _, _, e := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), size, uintptr(unsafe.Pointer(&in[0]))); e != 0 {
			t.Fatal(e)
		}
		for _, b := range in {
			n += int(b & 1)
		}
		return n
	}
	db := &DB{cfg: Config{Dir: dir}}
	must(t, db.steady(path))
	before := resident()
	if before == 0 {
		t.Error("dropped after a good end")
	}
	must(t, os.WriteFile(filepath.Join(dir, "journal", "0000000000000001.wal"), nil, 0o600))
	must(t, db.steady(path))
	var st unix.Statfs_t
	must(t, unix.Statfs(dir, &st))
	if n := resident(); n > before/2 && st.Type != unix.TMPFS_MAGIC && st.Type != unix.OVERLAYFS_SUPER_MAGIC {
		t.Errorf("%d of %d pages are still in memory", n, before) // the kernel takes it as advice
	}
}
