package fs

import (
	"fmt"
	"maps"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What a system call costs is counted in requests, which do not depend on the machine. Each case does its thing to
// files of its own and names all requests that it may cause.
func TestRequestsOfEachCall(t *testing.T) {
	m := mountTree(t, true, nil)
	type counts = map[string]uint64
	const n = 20
	name := func(i int) string { return m.path(fmt.Sprint("f", i)) }
	page := make([]byte, 4096)
	for i := range n {
		m.write(fmt.Sprint("f", i), "content")
	}
	// Attributes of a file that may still be written are believed for a second only.
	m.settle()
	stat := func(p string) error { var st unix.Stat_t; return unix.Stat(p, &st) }
	open := func(p string, flags int) int {
		fd, err := unix.Open(p, flags|unix.O_CLOEXEC, 0o644)
		ok(t, err)
		return fd
	}
	for i := range n {
		ok(t, stat(name(i)))
	}
	for _, c := range []struct {
		what string
		do   func(i int)
		want counts // of n times
	}{
		{"stat of a file that is known", func(i int) { ok(t, stat(name(i))) }, nil},
		{"a missing name", func(int) { want(t, "stat", stat(m.path("missing")), unix.ENOENT) }, counts{"LOOKUP": 1}},
		{"the same missing name again", func(int) { want(t, "stat", stat(m.path("missing")), unix.ENOENT) }, nil},
		{"open, read, close", func(i int) {
			fd := open(name(i), unix.O_RDONLY)
			_, err := unix.Read(fd, page)
			ok(t, err)
			ok(t, unix.Close(fd))
		}, counts{"OPEN": n, "RELEASE": n}},
		{"open for writing, close", func(i int) {
			ok(t, unix.Close(open(name(i), unix.O_WRONLY)))
		}, counts{"OPEN": n, "RELEASE": n}},
		{"readlink", func(int) {
			_, err := unix.Readlink(m.path("link"), page)
			ok(t, err)
		}, nil},
		{"list a directory that did not change", func(int) {
			_, err := os.ReadDir(m.path("dir"))
			ok(t, err)
		}, nil},
	} {
		if c.what == "readlink" {
			ok(t, os.Symlink("target", m.path("link")))
			_, err := os.Readlink(m.path("link"))
			ok(t, err)
			ok(t, os.Mkdir(m.path("dir"), 0o755))
			_, err = os.ReadDir(m.path("dir"))
			ok(t, err)
		}
		got := m.requests(func() {
			for i := range n {
				c.do(i)
			}
			m.released()
		})
		if !maps.Equal(got, c.want) {
			t.Errorf("%s, %d times: %v, want %v", c.what, n, got, c.want)
		}
	}
}

// Where the kernel checks no permissions a change in a directory needs no look at the directory before.
func TestRequestsOfChanges(t *testing.T) {
	type counts = map[string]uint64
	const n = 20
	for _, c := range []struct {
		mode string
		dir  uint64 // GETATTR of the directory for each change
	}{{"passthrough", 1}, {"root alone", 0}} {
		m := mountTree(t, true, modes[c.mode].change)
		name := func(prefix string, i int) string { return m.path(fmt.Sprint(prefix, i)) }
		ok(t, os.Mkdir(m.path("first"), 0o755)) // from here on the directory's attributes are stale
		for _, change := range []struct {
			what string
			do   func(i int) error
			want counts
		}{
			{"mkdir", func(i int) error { return os.Mkdir(name("d", i), 0o755) }, counts{"LOOKUP": n, "MKDIR": n}},
			{"mknod", func(i int) error { return unix.Mknod(name("f", i), unix.S_IFIFO|0o644, 0) }, counts{"LOOKUP": n, "MKNOD": n}},
			{"rename", func(i int) error { return unix.Rename(name("f", i), name("g", i)) }, counts{"LOOKUP": n, "RENAME": n}},
			{"link", func(i int) error { return os.Link(name("g", i), name("l", i)) }, counts{"LOOKUP": n, "LINK": n}},
			{"unlink", func(i int) error { return unix.Unlink(name("l", i)) }, counts{"UNLINK": n}},
			{"rmdir", func(i int) error { return unix.Rmdir(name("d", i)) }, counts{"RMDIR": n}},
			{"create", func(i int) error {
				fd, err := unix.Open(name("c", i), unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
				if err == nil {
					err = unix.Close(fd)
				}
				return err
			}, counts{"LOOKUP": n, "CREATE": n, "RELEASE": n}},
		} {
			got := m.requests(func() {
				for i := range n {
					ok(t, change.do(i))
				}
				m.released()
			})
			// These come behind, and how many of them are put into one request depends on the moment.
			delete(got, "FORGET")
			delete(got, "BATCH_FORGET")
			if c.dir > 0 {
				change.want["GETATTR"] = c.dir * n
			}
			if !maps.Equal(got, change.want) {
				t.Errorf("%s: %s, %d times: %v, want %v", c.mode, change.what, n, got, change.want)
			}
		}
	}
}

// A write under passthrough does not reach the daemon.
func TestPassthroughWriteStaysOut(t *testing.T) {
	m := mountTree(t, true, nil)
	fd, err := unix.Open(m.path("file"), unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o644)
	ok(t, err)
	defer unix.Close(fd)
	page := make([]byte, 4096)
	// The first write of an inode asks once whether it has file capabilities.
	_, err = unix.Write(fd, page)
	ok(t, err)
	got := m.requests(func() {
		for range 100 {
			_, err := unix.Write(fd, page)
			ok(t, err)
			_, err = unix.Pread(fd, page, 0)
			ok(t, err)
		}
	})
	if len(got) > 0 {
		t.Errorf("100 writes and reads of 4 KiB caused %v", got)
	}
	if s := m.srv.Stats(); !s.KillPriv || !s.Passthrough || s.OpenHandles != 1 || s.BackingIDs != 1 || s.IdleBackings != 0 {
		t.Errorf("%+v", s)
	}
}

// A served file is read once; what was written and read is in the page cache.
func TestServedReadsOnce(t *testing.T) {
	m := mountTree(t, false, nil)
	m.write("file", "content")
	m.holds("file", "content")
	got := m.requests(func() {
		for range 10 {
			m.holds("file", "content")
		}
		m.released()
	})
	if got["READ"] > 0 || got["OPEN"] != 10 || got["FLUSH"] > 0 {
		t.Errorf("10 reads of a file in the cache: %v", got)
	}
}

// Listing and looking at each entry brings the attributes along.
func TestListingBringsAttributes(t *testing.T) {
	m := mountTree(t, true, nil)
	ok(t, os.Mkdir(m.path("dir"), 0o755))
	const n = 300
	for i := range n {
		ok(t, unix.Mknod(m.path("dir", fmt.Sprint("fifo", i)), unix.S_IFIFO|0o644, 0))
	}
	m.forget()
	got := m.requests(func() {
		entries, err := os.ReadDir(m.path("dir"))
		ok(t, err)
		if len(entries) != n {
			t.Errorf("%d entries, want %d", len(entries), n)
		}
	})
	if got["READDIRPLUS"] == 0 || got["OPENDIR"] > 0 {
		t.Errorf("listing caused %v", got)
	}
}

// released waits until nothing is open any more: RELEASE comes after close(2) has returned.
func (m *mounted) released() {
	m.t.Helper()
	m.until("all files are released", func() bool { return m.srv.Stats().OpenHandles == 0 })
}

// settle waits until no file counts as being written any more, and the kernel has forgotten attributes that it was to
// believe for a moment only.
func (m *mounted) settle() {
	m.t.Helper()
	m.released()
	m.until("all files have come to rest", func() bool {
		entries, err := os.ReadDir(m.dir)
		ok(m.t, err)
		for _, e := range entries {
			a, err := m.tree.Lookup(1, e.Name())
			ok(m.t, err)
			m.tree.Forget(a.Ino, 1)
			if a.Changing {
				return false
			}
		}
		return true
	})
	m.forget()
}

// forget makes the kernel forget names and attributes of what lies in the root.
func (m *mounted) forget() {
	m.t.Helper()
	entries, err := os.ReadDir(m.dir)
	ok(m.t, err)
	for _, e := range entries {
		m.srv.conn.InvalidateEntry(1, e.Name())
	}
	m.srv.conn.InvalidateInode(1, 0, 0)
}

// until waits for what comes in the end, whatever the machine has to do meanwhile.
func (m *mounted) until(what string, cond func() bool) {
	m.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			m.t.Fatalf("not within two minutes: %s", what)
		}
	}
}
