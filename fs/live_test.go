package fs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
)

func TestMakeAndRemove(t *testing.T) {
	m := mountTree(t, true, nil)
	at := m.path
	ok(t, os.Mkdir(at("dir"), 0o750))
	for _, c := range []struct {
		name string
		mode uint32
		rdev int
	}{
		{"fifo", unix.S_IFIFO | 0o600, 0},
		{"socket", unix.S_IFSOCK | 0o644, 0},
		{"regular", unix.S_IFREG | 0o640, 0},
		{"char", unix.S_IFCHR | 0o644, int(unix.Mkdev(1, 3))},
		{"block", unix.S_IFBLK | 0o600, int(unix.Mkdev(259, 1<<18+5))},
	} {
		ok(t, unix.Mknod(at("dir", c.name), c.mode, c.rdev))
		if st := m.stat("dir/" + c.name); st.Mode != c.mode || st.Rdev != uint64(c.rdev) || st.Nlink != 1 {
			t.Errorf("%s: mode %o, device %#x, links %d", c.name, st.Mode, st.Rdev, st.Nlink)
		}
		want(t, "making it again", unix.Mknod(at("dir", c.name), c.mode, c.rdev), unix.EEXIST)
		want(t, "as a directory", unix.Rmdir(at("dir", c.name)), unix.ENOTDIR)
	}
	ok(t, os.Symlink("over/there", at("dir", "link")))
	if target, err := os.Readlink(at("dir", "link")); err != nil || target != "over/there" {
		t.Errorf("the link leads to %q, %v", target, err)
	}
	if st := m.stat("dir/link"); st.Size != int64(len("over/there")) || st.Mode&unix.S_IFMT != unix.S_IFLNK {
		t.Errorf("link of %d bytes, mode %o", st.Size, st.Mode)
	}
	ok(t, os.Link(at("dir", "regular"), at("second")))
	if a, b := m.stat("dir/regular"), m.stat("second"); a.Ino != b.Ino || a.Nlink != 2 || b.Nlink != 2 {
		t.Errorf("links of inodes %d and %d, %d and %d", a.Ino, b.Ino, a.Nlink, b.Nlink)
	}
	want(t, "link of a directory", os.Link(at("dir"), at("third")), unix.EPERM)
	want(t, "rmdir of a full directory", unix.Rmdir(at("dir")), unix.ENOTEMPTY)
	want(t, "unlink of a directory", unix.Unlink(at("dir")), unix.EISDIR)
	want(t, "a name of 256 bytes", os.Mkdir(at(strings.Repeat("x", 256)), 0o755), unix.ENAMETOOLONG)
	ok(t, os.Mkdir(at(strings.Repeat("x", 255)), 0o755))
	entries, err := os.ReadDir(at("dir"))
	ok(t, err)
	for _, e := range entries {
		ok(t, unix.Unlink(at("dir", e.Name())))
	}
	ok(t, unix.Rmdir(at("dir")))
	want(t, "what was removed", unix.Rmdir(at("dir")), unix.ENOENT)
	if st := m.stat("second"); st.Nlink != 1 {
		t.Errorf("%d links are left, want 1", st.Nlink)
	}
}

func TestRename(t *testing.T) {
	m := mountTree(t, true, nil)
	ren := func(from, to string, flags uint) error {
		return unix.Renameat2(unix.AT_FDCWD, m.path(from), unix.AT_FDCWD, m.path(to), flags)
	}
	m.write("a", "content of a")
	m.write("b", "content of b")
	ok(t, os.Mkdir(m.path("dir"), 0o755))
	ino := m.stat("a").Ino
	ok(t, ren("a", "c", 0))
	want(t, "the old name", unix.Access(m.path("a"), unix.F_OK), unix.ENOENT)
	if m.stat("c").Ino != ino {
		t.Error("a renamed file is another one")
	}
	want(t, "NOREPLACE onto a file", ren("c", "b", unix.RENAME_NOREPLACE), unix.EEXIST)
	ok(t, ren("c", "new", unix.RENAME_NOREPLACE))
	ok(t, ren("new", "b", unix.RENAME_EXCHANGE))
	m.holds("new", "content of b")
	m.holds("b", "content of a")
	ok(t, ren("new", "dir", unix.RENAME_EXCHANGE))
	m.holds("dir", "content of b")
	ok(t, ren("dir", "b", 0))
	m.holds("b", "content of b")
	ok(t, ren("b", "new/b", 0))
	m.holds("new/b", "content of b")
	want(t, "EXCHANGE with nothing", ren("new", "nothing", unix.RENAME_EXCHANGE), unix.ENOENT)
	want(t, "WHITEOUT", ren("new/b", "x", unix.RENAME_WHITEOUT), unix.EINVAL)
	want(t, "into itself", ren("new", "new/x", 0), unix.EINVAL)
}

func TestSetattr(t *testing.T) {
	inAllModes(t, func(t *testing.T, m *mounted) {
		p := m.write("file", "0123456789")
		ok(t, os.Chmod(p, 0o600))
		ok(t, os.Chown(p, 12, 34))
		if st := m.stat("file"); st.Mode != unix.S_IFREG|0o600 || st.Uid != 12 || st.Gid != 34 {
			t.Errorf("mode %o, owner %d:%d", st.Mode, st.Uid, st.Gid)
		}
		ts := []unix.Timespec{{Sec: -5, Nsec: 7}, {Sec: 1 << 32, Nsec: 999999999}}
		ok(t, unix.UtimesNanoAt(unix.AT_FDCWD, p, ts, 0))
		if st := m.stat("file"); st.Atim != ts[0] || st.Mtim != ts[1] {
			t.Errorf("times %v and %v, want %v", st.Atim, st.Mtim, ts)
		}
		ok(t, unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_NOW}}, 0))
		if st := m.stat("file"); st.Atim != ts[0] || st.Mtim.Sec == ts[1].Sec {
			t.Errorf("times %v and %v after setting the second to now", st.Atim, st.Mtim)
		}
		ok(t, os.Truncate(p, 4))
		m.holds("file", "0123")
		ok(t, os.Truncate(p, 6))
		m.holds("file", "0123\x00\x00")
		f, err := os.OpenFile(p, os.O_RDWR, 0)
		ok(t, err)
		defer f.Close()
		ok(t, os.Remove(p))
		ok(t, f.Truncate(2))
		fi, err := f.Stat()
		ok(t, err)
		if fi.Size() != 2 {
			t.Errorf("%d bytes after cutting an unlinked file, want 2", fi.Size())
		}
		var x unix.Statx_t
		ok(t, unix.Statx(unix.AT_FDCWD, m.dir, 0, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &x))
		if x.Mask&unix.STATX_BTIME == 0 || x.Btime.Sec == 0 || x.Mode&unix.S_IFMT != unix.S_IFDIR {
			t.Errorf("statx of the root: mask %#x, birth %v, mode %o", x.Mask, x.Btime, x.Mode)
		}
	})
}

func TestStatfs(t *testing.T) {
	m := mountTree(t, true, nil)
	var st unix.Statfs_t
	ok(t, unix.Statfs(m.dir, &st))
	if st.Blocks == 0 || st.Bfree > st.Blocks || st.Bavail > st.Bfree || st.Bsize < 512 ||
		st.Namelen != sharefs.NameMax || st.Type != unix.FUSE_SUPER_MAGIC {
		t.Errorf("%+v", st)
	}
}

// A directory of thousands is listed whole, its offsets lead back to where they were taken, and removing what was
// listed hides nothing.
func TestBigDirectory(t *testing.T) {
	m := mountTree(t, true, nil)
	const n = 3000
	ok(t, os.Mkdir(m.path("dir"), 0o755))
	var made []string
	for i := range n {
		name := fmt.Sprintf("%d-%s", i, strings.Repeat("n", i%200))
		made = append(made, name)
		ok(t, unix.Mknod(m.path("dir", name), unix.S_IFIFO|0o644, 0))
	}
	sort.Strings(made)
	d, err := os.Open(m.path("dir"))
	ok(t, err)
	defer d.Close()
	listed, err := d.Readdirnames(-1)
	ok(t, err)
	sort.Strings(listed)
	if !slices.Equal(listed, made) {
		t.Errorf("listed %d names of %d", len(listed), n)
	}

	// By the offsets of the kernel's own entries.
	fd := int(d.Fd())
	_, err = unix.Seek(fd, 0, unix.SEEK_SET)
	ok(t, err)
	all := direntsFrom(t, fd)
	if all[0].name != "." || all[1].name != ".." || len(all) != n+2 {
		t.Fatalf("%d entries, the first %q and %q", len(all), all[0].name, all[1].name)
	}
	for _, i := range []int{0, 1, 2, 100, n / 2, n, n + 1} {
		_, err = unix.Seek(fd, all[i].off, unix.SEEK_SET)
		ok(t, err)
		rest := direntsFrom(t, fd)
		if !slices.Equal(rest, all[i+1:]) {
			t.Errorf("from the offset after entry %d came %d entries, want %d", i, len(rest), len(all)-i-1)
		}
	}

	// Remove while listing.
	_, err = unix.Seek(fd, 0, unix.SEEK_SET)
	ok(t, err)
	removed := 0
	for {
		names := someDirents(t, fd)
		if len(names) == 0 {
			break
		}
		for _, e := range names {
			if e.name != "." && e.name != ".." {
				ok(t, unix.Unlink(m.path("dir", e.name)))
				removed++
			}
		}
	}
	if removed != n {
		t.Errorf("%d of %d removed while listing", removed, n)
	}
	ok(t, unix.Rmdir(m.path("dir")))
}

type rawDirent struct {
	name string
	off  int64
}

// someDirents reads what one getdents64(2) brings.
func someDirents(t *testing.T, fd int) []rawDirent {
	t.Helper()
	buf := make([]byte, 8192)
	n, err := unix.Getdents(fd, buf)
	ok(t, err)
	var list []rawDirent
	for b := buf[:n]; len(b) > 0; {
		size := int(b[16]) | int(b[17])<<8
		name := string(b[19:size])
		if i := strings.IndexByte(name, 0); i >= 0 {
			name = name[:i]
		}
		var off int64
		for i := 7; i >= 0; i-- {
			off = off<<8 | int64(b[8+i])
		}
		list = append(list, rawDirent{name, off})
		b = b[size:]
	}
	return list
}

func direntsFrom(t *testing.T, fd int) []rawDirent {
	t.Helper()
	var all []rawDirent
	for {
		some := someDirents(t, fd)
		if len(some) == 0 {
			return all
		}
		all = append(all, some...)
	}
}

// File handles (NFS, open_by_handle_at) find an inode that the kernel has forgotten, after a remount too, and one
// that is gone gives ESTALE.
func TestFileHandles(t *testing.T) {
	m := mountTree(t, true, nil)
	ok(t, os.MkdirAll(m.path("a", "b"), 0o755))
	m.write("a/b/file", "content")
	handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, m.path("a", "b", "file"), 0)
	ok(t, err)
	m.released()
	m.forget()
	ok(t, os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0))
	root, err := unix.Open(m.dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	ok(t, err)
	fd, err := unix.OpenByHandleAt(root, handle, unix.O_RDONLY)
	ok(t, err)
	buf := make([]byte, 16)
	n, err := unix.Read(fd, buf)
	if err != nil || string(buf[:n]) != "content" {
		t.Errorf("by its handle the file holds %q, %v", buf[:max(n, 0)], err)
	}
	ok(t, unix.Close(fd))
	ok(t, os.Remove(m.path("a", "b", "file")))
	m.released()
	m.until("the handle of a removed file is stale", func() bool {
		fd, err := unix.OpenByHandleAt(root, handle, unix.O_RDONLY)
		if err == nil {
			unix.Close(fd)
		}
		return err == unix.ESTALE
	})
	ok(t, unix.Close(root))
}

// Many at once, each in a directory of its own and all in one.
func TestParallelNames(t *testing.T) {
	m := mountTree(t, true, nil)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			dir := fmt.Sprint("dir", g)
			if err := os.Mkdir(m.path(dir), 0o755); err != nil {
				t.Error(err)
				return
			}
			for i := range 60 {
				name := fmt.Sprintf("%s/f%d", dir, i)
				if err := os.WriteFile(m.path(name), []byte(name), 0o644); err != nil {
					t.Error(err)
				}
				shared := fmt.Sprintf("shared-%d-%d", g, i)
				if err := os.Rename(m.path(name), m.path(shared)); err != nil {
					t.Error(err)
				}
				if b, err := os.ReadFile(m.path(shared)); err != nil || string(b) != name {
					t.Errorf("%s holds %q, %v", shared, b, err)
				}
				if i%2 == 0 {
					if err := os.Remove(m.path(shared)); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	left, err := filepath.Glob(m.path("shared-*"))
	ok(t, err)
	if len(left) != 8*30 {
		t.Errorf("%d files are left, want %d", len(left), 8*30)
	}
}

// A read-only mount refuses all changes, and lists and reads.
func TestReadOnly(t *testing.T) {
	m := mountTree(t, true, nil)
	p := m.write("file", "content")
	m.released()
	ok(t, Remount(m.dir, []string{"remount", "ro", "nosuid"}))
	want(t, "create", os.WriteFile(m.path("new"), nil, 0o644), unix.EROFS)
	want(t, "mkdir", os.Mkdir(m.path("dir"), 0o755), unix.EROFS)
	want(t, "chmod", os.Chmod(p, 0o600), unix.EROFS)
	want(t, "remove", unix.Unlink(p), unix.EROFS)
	m.holds("file", "content")
	ok(t, Remount(m.dir, []string{"remount", "rw"}))
	ok(t, os.Remove(p))
}
