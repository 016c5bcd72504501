package fs

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestReadWriteSeek(t *testing.T) {
	inModes(t, func(t *testing.T, m *mounted) {
		f, err := os.OpenFile(m.path("file"), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
		ok(t, err)
		defer f.Close()
		data := make([]byte, 3<<20+17)
		rnd := rand.New(rand.NewPCG(3, 4))
		for i := range data {
			data[i] = byte(rnd.Uint32())
		}
		_, err = f.Write(data)
		ok(t, err)
		for range 50 {
			off, n := rnd.IntN(len(data)), rnd.IntN(200<<10)
			n = min(n, len(data)-off)
			if rnd.IntN(2) == 0 {
				for i := range n {
					data[off+i] = byte(rnd.Uint32())
				}
				_, err = f.WriteAt(data[off:off+n], int64(off))
				ok(t, err)
				continue
			}
			got := make([]byte, n)
			_, err = f.ReadAt(got, int64(off))
			ok(t, err)
			if !bytes.Equal(got, data[off:off+n]) {
				t.Fatalf("%d bytes at %d are others than were written", n, off)
			}
		}
		ok(t, f.Sync())
		ok(t, unix.Fdatasync(int(f.Fd())))
		d, err := os.Open(m.dir)
		ok(t, err)
		ok(t, d.Sync())
		d.Close()
		m.holds("file", string(data))
		if fi, _ := f.Stat(); fi.Size() != int64(len(data)) {
			t.Errorf("%d bytes, want %d", fi.Size(), len(data))
		}
		want(t, "create of what exists", func() error {
			_, err := os.OpenFile(m.path("file"), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
			return err
		}(), unix.EEXIST)
	})
}

func TestAppendAndTruncatingOpen(t *testing.T) {
	inModes(t, func(t *testing.T, m *mounted) {
		m.write("file", "begin")
		a, err := os.OpenFile(m.path("file"), os.O_WRONLY|os.O_APPEND, 0)
		ok(t, err)
		b, err := os.OpenFile(m.path("file"), os.O_WRONLY|os.O_APPEND, 0)
		ok(t, err)
		for range 10 {
			_, err = a.WriteString("a")
			ok(t, err)
			_, err = b.WriteString("b")
			ok(t, err)
		}
		a.Close()
		b.Close()
		m.holds("file", "beginabababababababababab")
		f, err := os.OpenFile(m.path("file"), os.O_WRONLY|os.O_TRUNC, 0)
		ok(t, err)
		m.holds("file", "")
		_, err = f.WriteString("new")
		ok(t, err)
		f.Close()
		m.holds("file", "new")
		r, err := os.OpenFile(m.path("file"), os.O_RDONLY, 0)
		ok(t, err)
		_, err = unix.Write(int(r.Fd()), []byte("x"))
		want(t, "writing to a file opened for reading", err, unix.EBADF)
		r.Close()
	})
}

func TestDirectIO(t *testing.T) {
	inModes(t, func(t *testing.T, m *mounted) {
		m.write("file", "")
		fd, err := unix.Open(m.path("file"), unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0)
		ok(t, err)
		defer unix.Close(fd)
		block := aligned(8192)
		for i := range block {
			block[i] = byte(i * 7)
		}
		n, err := unix.Pwrite(fd, block, 4096)
		if err != nil || n != len(block) {
			t.Fatalf("wrote %d, %v", n, err)
		}
		got := aligned(8192)
		n, err = unix.Pread(fd, got, 4096)
		if err != nil || n != len(got) || !bytes.Equal(got, block) {
			t.Errorf("read %d bytes back, %v", n, err)
		}
		// And by the page cache.
		m.holds("file", string(make([]byte, 4096))+string(block))
	})
}

// aligned returns n bytes that begin on a page.
func aligned(n int) []byte {
	b := make([]byte, n+4096)
	skip := -uintptr(unsafe.Pointer(&b[0])) & 4095
	return b[skip : int(skip)+n : int(skip)+n]
}

func TestSparse(t *testing.T) {
	inModes(t, func(t *testing.T, m *mounted) {
		f, err := os.Create(m.path("file"))
		ok(t, err)
		defer f.Close()
		fd := int(f.Fd())
		page := bytes.Repeat([]byte{1}, 4096)
		for _, off := range []int64{0, 1 << 20, 1 << 40} {
			_, err = f.WriteAt(page, off)
			ok(t, err)
		}
		for _, c := range []struct {
			off    int64
			whence int
			want   int64
		}{
			{0, unix.SEEK_DATA, 0}, {0, unix.SEEK_HOLE, 4096},
			{4096, unix.SEEK_DATA, 1 << 20}, {1 << 20, unix.SEEK_HOLE, 1<<20 + 4096},
			{1 << 30, unix.SEEK_DATA, 1 << 40}, {1 << 40, unix.SEEK_HOLE, 1<<40 + 4096}, {0, unix.SEEK_END, 1<<40 + 4096},
		} {
			if got, err := unix.Seek(fd, c.off, c.whence); err != nil || got != c.want {
				t.Errorf("seek from %d, whence %d: %d, %v, want %d", c.off, c.whence, got, err, c.want)
			}
		}
		_, err = unix.Seek(fd, 1<<41, unix.SEEK_DATA)
		want(t, "data beyond the end", err, unix.ENXIO)
		ok(t, f.Sync())
		if st := m.stat("file"); st.Size != 1<<40+4096 || st.Blocks < 24 || st.Blocks > 512 {
			t.Errorf("size %d in %d blocks", st.Size, st.Blocks)
		}

		// Allocation: reserve beyond the end, punch, zero.
		ok(t, os.Truncate(m.path("file"), 0))
		ok(t, unix.Fallocate(fd, 0, 0, 1<<20))
		if st := m.stat("file"); st.Size != 1<<20 || st.Blocks < 2048 {
			t.Errorf("after allocating a megabyte: size %d in %d blocks", st.Size, st.Blocks)
		}
		ok(t, unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 1<<20, 1<<20))
		if st := m.stat("file"); st.Size != 1<<20 {
			t.Errorf("allocating beyond the end moved it to %d", st.Size)
		}
		_, err = f.WriteAt(bytes.Repeat([]byte{7}, 64<<10), 0)
		ok(t, err)
		ok(t, unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 4096, 8192))
		got := make([]byte, 64<<10)
		_, err = f.ReadAt(got, 0)
		ok(t, err)
		if bytes.Contains(got[4096:12288], []byte{7}) || got[4095] != 7 || got[12288] != 7 {
			t.Error("the hole is not where it was punched")
		}
	})
}

func TestCopyFileRange(t *testing.T) {
	inModes(t, func(t *testing.T, m *mounted) {
		data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
		m.write("from", string(data))
		from, err := os.Open(m.path("from"))
		ok(t, err)
		defer from.Close()
		to, err := os.OpenFile(m.path("to"), os.O_CREATE|os.O_RDWR, 0o644)
		ok(t, err)
		defer to.Close()
		off, dst, left := int64(5), int64(3), len(data)
		for left > 0 {
			n, err := unix.CopyFileRange(int(from.Fd()), &off, int(to.Fd()), &dst, left, 0)
			ok(t, err)
			if n == 0 {
				break
			}
			left -= n
		}
		m.holds("to", "\x00\x00\x00"+string(data[5:]))
		got := m.requests(func() {
			off, dst := int64(0), int64(0)
			unix.CopyFileRange(int(from.Fd()), &off, int(to.Fd()), &dst, 4096, 0)
		})
		if got["COPY_FILE_RANGE"]+got["COPY_FILE_RANGE_64"] != 1 {
			t.Errorf("a copy caused %v", got)
		}
		// io.Copy takes the same way.
		_, err = from.Seek(0, io.SeekStart)
		ok(t, err)
		ok(t, to.Truncate(0))
		_, err = to.Seek(0, io.SeekStart)
		ok(t, err)
		_, err = io.Copy(to, from)
		ok(t, err)
		m.holds("to", string(data))
	})
}

func TestTmpfile(t *testing.T) {
	inModes(t, func(t *testing.T, m *mounted) {
		fd, err := unix.Open(m.dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o640)
		ok(t, err)
		_, err = unix.Write(fd, []byte("nameless"))
		ok(t, err)
		entries, err := os.ReadDir(m.dir)
		ok(t, err)
		if len(entries) > 0 {
			t.Errorf("a file without a name is listed: %v", entries)
		}
		ok(t, unix.Linkat(fd, "", unix.AT_FDCWD, m.path("name"), unix.AT_EMPTY_PATH))
		ok(t, unix.Close(fd))
		m.holds("name", "nameless")
		if st := m.stat("name"); st.Mode&0o777 != 0o640 || st.Nlink != 1 {
			t.Errorf("mode %o, %d links", st.Mode, st.Nlink)
		}
		fd, err = unix.Open(m.dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC|unix.O_EXCL, 0o640)
		ok(t, err)
		want(t, "naming an O_EXCL one", unix.Linkat(fd, "", unix.AT_FDCWD, m.path("other"), unix.AT_EMPTY_PATH), unix.ENOENT)
		ok(t, unix.Close(fd))
	})
}

// An unlinked file lives until it is closed, and what was renamed over too.
func TestUnlinkedButOpen(t *testing.T) {
	inModes(t, func(t *testing.T, m *mounted) {
		m.write("file", "content")
		m.write("other", "other")
		f, err := os.OpenFile(m.path("file"), os.O_RDWR, 0)
		ok(t, err)
		g, err := os.OpenFile(m.path("other"), os.O_RDWR, 0)
		ok(t, err)
		ok(t, os.Rename(m.path("other"), m.path("file")))
		ok(t, os.Remove(m.path("file")))
		for _, c := range []struct {
			f    *os.File
			want string
		}{{f, "content"}, {g, "other"}} {
			var st unix.Stat_t
			ok(t, unix.Fstat(int(c.f.Fd()), &st))
			b := make([]byte, 32)
			n, err := c.f.ReadAt(b, 0)
			if err != io.EOF || string(b[:n]) != c.want || st.Nlink != 0 || st.Size != int64(len(c.want)) {
				t.Errorf("%d links, %d bytes, %q, %v", st.Nlink, st.Size, b[:n], err)
			}
			_, err = c.f.WriteAt([]byte("still"), 0)
			ok(t, err)
			ok(t, c.f.Sync())
			ok(t, c.f.Close())
		}
		m.released()
		m.until("the kernel holds no removed file", func() bool { return m.srv.Stats().IdleBackings == 0 })
	})
}

// Mappings see and make the same content as read and write do.
func TestMappings(t *testing.T) {
	inModes(t, func(t *testing.T, m *mounted) {
		inChild(t, "mappings", m.dir)
		if st := m.stat("mapped"); st.Size != 1<<20 {
			t.Errorf("%d bytes", st.Size)
		}
	})
}

func init() {
	children["mappings"] = func(t *testing.T, dir string) {
		p := filepath.Join(dir, "mapped")
		f, err := os.OpenFile(p, os.O_CREATE|os.O_RDWR, 0o644)
		ok(t, err)
		ok(t, f.Truncate(1<<20))
		shared, err := unix.Mmap(int(f.Fd()), 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		ok(t, err)
		private, err := unix.Mmap(int(f.Fd()), 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
		ok(t, err)
		copy(shared[5000:], "by the mapping")
		got := make([]byte, 14)
		_, err = f.ReadAt(got, 5000)
		if err != nil || string(got) != "by the mapping" {
			t.Errorf("read %q, %v", got, err)
		}
		_, err = f.WriteAt([]byte("by write"), 70000)
		ok(t, err)
		if string(shared[70000:70008]) != "by write" || string(private[70000:70008]) != "by write" {
			t.Errorf("the mappings hold %q and %q", shared[70000:70008], private[70000:70008])
		}
		copy(private[70000:], "mine")
		if string(shared[70000:70004]) == "mine" {
			t.Error("a private mapping changed the file")
		}
		// The mapping lives on after the close.
		ok(t, f.Close())
		copy(shared[1<<20-4:], "tail")
		ok(t, unix.Msync(shared, unix.MS_SYNC))
		ok(t, unix.Munmap(private))
		ok(t, unix.Munmap(shared))
		all, err := os.ReadFile(p)
		ok(t, err)
		if string(all[1<<20-4:]) != "tail" || string(all[5000:5014]) != "by the mapping" || len(all) != 1<<20 {
			t.Errorf("%d bytes, at the end %q", len(all), all[len(all)-4:])
		}
	}
}

// flock(2) and fcntl(2) locks keep another process out, and go with their owner.
func TestLocks(t *testing.T) {
	inModes(t, func(t *testing.T, m *mounted) {
		f, err := os.Create(m.path("locked"))
		ok(t, err)
		ok(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
		lk := unix.Flock_t{Type: unix.F_WRLCK, Start: 10, Len: 5}
		ok(t, unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lk))
		inChild(t, "kept out", m.dir)
		ok(t, f.Close())
		inChild(t, "let in", m.dir)
	})
}

func init() {
	attempt := func(t *testing.T, dir string) (flock, fcntl, beside error) {
		f, err := os.OpenFile(filepath.Join(dir, "locked"), os.O_RDWR, 0)
		ok(t, err)
		defer f.Close()
		flock = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		fcntl = unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_RDLCK, Start: 12, Len: 1})
		beside = unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: 15, Len: 10})
		return
	}
	children["kept out"] = func(t *testing.T, dir string) {
		flock, fcntl, beside := attempt(t, dir)
		want(t, "flock", flock, unix.EWOULDBLOCK)
		want(t, "fcntl", fcntl, unix.EAGAIN)
		want(t, "fcntl beside it", beside, nil)
	}
	children["let in"] = func(t *testing.T, dir string) {
		flock, fcntl, beside := attempt(t, dir)
		want(t, "flock", flock, nil)
		want(t, "fcntl", fcntl, nil)
		want(t, "fcntl beside it", beside, nil)
	}
}
