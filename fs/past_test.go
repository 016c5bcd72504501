package fs

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// commit makes the present content of a file a version and returns its number.
func (m *mounted) commit(name, note string) uint64 {
	m.t.Helper()
	ok(m.t, unix.Setxattr(m.path(name), attrCommit, []byte(note), 0))
	text, err := getXattr(m.path(name), attrVersion)
	ok(m.t, err)
	n, err := strconv.ParseUint(text, 10, 64)
	ok(m.t, err)
	return n
}

// change gives a file another content that does not become a version before done is called.
func (m *mounted) change(name, content string) (done func()) {
	m.t.Helper()
	f, err := os.OpenFile(m.path(name), os.O_WRONLY|os.O_TRUNC, 0)
	ok(m.t, err)
	_, err = f.WriteString(content)
	ok(m.t, err)
	return func() { ok(m.t, f.Close()) }
}

func TestVersions(t *testing.T) {
	inAllModes(t, func(t *testing.T, m *mounted) {
		contents := []string{"first", "the second, longer", "3"}
		for i, c := range contents {
			m.write("file", c)
			m.released()
			if n := m.commit("file", fmt.Sprint("note ", i+1)); n != uint64(i+1) {
				t.Fatalf("commit %d made version %d", i+1, n)
			}
		}
		for i, c := range contents {
			m.holds(fmt.Sprintf("file@@%d", i+1), c)
			m.holds(fmt.Sprintf("file@@/%d", i+1), c)
			st := m.stat(fmt.Sprintf("file@@%d", i+1))
			if st.Size != int64(len(c)) || st.Mode != unix.S_IFREG|0o444 || st.Ino>>63 != 1 {
				t.Errorf("version %d: size %d, mode %o, inode %#x", i+1, st.Size, st.Mode, st.Ino)
			}
			if st.Ino != m.stat(fmt.Sprintf("file@@/%d", i+1)).Ino {
				t.Errorf("version %d is another file in the directory", i+1)
			}
		}
		entries, err := os.ReadDir(m.path("file@@"))
		ok(t, err)
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
			fi, err := e.Info()
			ok(t, err)
			if fi.Sys() == nil || fi.IsDir() {
				t.Errorf("%s is %v", e.Name(), fi.Mode())
			}
		}
		slices.Sort(names)
		if got := strings.Join(names, " "); got != "1 2 3 log meta" {
			t.Errorf("file@@ lists %s", got)
		}
		for _, name := range []string{
			"file@@4", "file@@0", "file@@01", "file@@/4", "file@@/x", "file@@nonsense", "none@@", "none@@1", "@@1",
		} {
			want(t, name, unix.Access(m.path(name), unix.F_OK), unix.ENOENT)
		}
		// What is missing now comes when it is made.
		m.write("file", "fourth")
		m.released()
		m.commit("file", "")
		m.holds("file@@4", "fourth")
		if entries, err := os.ReadDir(m.path("file@@")); err != nil || len(entries) != 6 {
			t.Errorf("%d entries after the fourth version, %v", len(entries), err)
		}
	})
}

// The past of a symbolic link is that of the file it leads to; a link itself has none.
func TestThePastThroughASymbolicLink(t *testing.T) {
	inAllModes(t, func(t *testing.T, m *mounted) {
		ok(t, os.Mkdir(m.path("dir"), 0o755))
		for i, c := range []string{"first", "second"} {
			m.write("dir/file", c)
			m.released()
			if n := m.commit("dir/file", ""); n != uint64(i+1) {
				t.Fatalf("version %d", n)
			}
		}
		m.write("twice@@3", "mine")
		for link, target := range map[string]string{
			"link": "dir/file", "whole": m.path("dir/file"), "twice": "link", "dir/up": "../dir/file", "nowhere": "none", "out": "/etc/passwd", "todir": "dir/",
		} {
			ok(t, os.Symlink(target, m.path(link)))
		}
		for _, link := range []string{"link", "whole", "twice", "dir/up", "todir/file"} {
			m.holds(link+"@@1", "first")
			m.holds(link+"@@/2", "second")
			buf := make([]byte, 8)
			if n, err := unix.Getxattr(m.path(link+"@@1"), attrVersion, buf); err != nil || string(buf[:n]) != "1" {
				t.Errorf("%s@@1 is version %q, %v", link, buf[:max(n, 0)], err)
			}
		}
		if target, err := os.Readlink(m.path("link@@1")); err != nil || target != "dir/file@@1" {
			t.Errorf("link@@1 leads to %q, %v", target, err)
		}
		a, b := m.lstat("link@@1"), m.lstat("link@@2")
		if a.Mode&unix.S_IFMT != unix.S_IFLNK || a.Size != int64(len("dir/file@@1")) || a.Ino == b.Ino || a.Ino>>63 != 1 {
			t.Errorf("link@@1: mode %o, size %d, inodes %#x and %#x", a.Mode, a.Size, a.Ino, b.Ino)
		}
		for _, name := range []string{"link@@9", "link@@01", "nowhere@@1", "out@@1", "todir@@1", "dir@@1"} {
			want(t, name, unix.Access(m.path(name), unix.F_OK), unix.ENOENT)
		}
		m.holds("twice@@3", "mine")    // what was really made wins
		m.write("link@@notes", "mine") // and what is no version is a name like any other
		m.holds("link@@notes", "mine")
		want(t, "dir/file@@notes", unix.Access(m.path("dir/file@@notes"), unix.F_OK), unix.ENOENT)
		// Once the link is gone so is what hung on it.
		ok(t, os.Remove(m.path("link")))
		want(t, "link@@1", unix.Access(m.path("link@@1"), unix.F_OK), unix.ENOENT)
	})
}

// A hole takes no space in a version either, so that cp and tar leave it one.
func TestVersionsOfSparseFilesAreSparse(t *testing.T) {
	m := mountTree(t, true, nil)
	f, err := os.Create(m.path("file"))
	ok(t, err)
	_, err = f.WriteAt([]byte("far out"), 1<<30)
	ok(t, err)
	ok(t, f.Close())
	m.commit("file", "")
	var st unix.Stat_t
	for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(10 * time.Millisecond) { // until it is captured
		if st = m.stat("file@@1"); st.Blocks*512 < 1<<20 {
			break
		}
	}
	if st.Size != 1<<30+7 || st.Blocks == 0 || st.Blocks*512 >= 1<<20 {
		t.Errorf("the version has %d bytes in %d blocks", st.Size, st.Blocks)
	}
}

func (m *mounted) lstat(name string) (st unix.Stat_t) {
	m.t.Helper()
	ok(m.t, unix.Lstat(m.path(name), &st))
	return st
}

func TestVersionsAreFrozen(t *testing.T) {
	m := mountTree(t, true, nil)
	m.write("file", "content")
	m.released()
	m.commit("file", "")
	v, d := m.path("file@@1"), m.path("file@@")
	_, err := os.OpenFile(v, os.O_WRONLY, 0)
	want(t, "open for writing", err, unix.EROFS)
	_, err = os.OpenFile(v, os.O_RDONLY|os.O_TRUNC, 0)
	want(t, "open with O_TRUNC", err, unix.EROFS)
	for what, err := range map[string]error{
		"chmod":             os.Chmod(v, 0o777),
		"chown":             os.Chown(v, 1, 1),
		"utimes":            os.Chtimes(v, time.Now(), time.Now()),
		"truncate":          os.Truncate(v, 0),
		"unlink":            unix.Unlink(v),
		"rename":            os.Rename(v, m.path("x")),
		"setxattr":          unix.Setxattr(v, "user.a", nil, 0),
		"removexattr":       unix.Removexattr(v, attrVersion),
		"create in file@@":  os.WriteFile(d+"/new", nil, 0o644),
		"mkdir in file@@":   os.Mkdir(d+"/new", 0o755),
		"mknod in file@@":   unix.Mknod(d+"/new", unix.S_IFIFO, 0),
		"symlink in file@@": os.Symlink("x", d+"/new"),
		"rename in file@@":  os.Rename(d+"/1", d+"/2x"),
		"rename into it":    os.Rename(m.path("file"), d+"/x"),
		"rmdir of file@@":   unix.Rmdir(d),
	} {
		want(t, what, err, unix.EROFS)
	}
	want(t, "hard link", os.Link(v, m.path("x")), unix.EXDEV)
	flags, err := unix.IoctlGetInt(openFd(t, v), unix.FS_IOC_GETFLAGS)
	if err != nil || flags != fsImmutable {
		t.Errorf("flags %#x, %v", flags, err)
	}
}

func openFd(t *testing.T, path string) int {
	t.Helper()
	f, err := os.Open(path)
	ok(t, err)
	t.Cleanup(func() { f.Close() })
	return int(f.Fd())
}

// The log is for people, the meta file for programs, and both tell the same.
func TestLogAndMeta(t *testing.T) {
	m := mountTree(t, true, nil)
	m.write("file", "one")
	m.released()
	m.commit("file", "a note")
	m.write("file", "two!")
	m.released()
	m.commit("file", "two\nlines")
	b, err := os.ReadFile(m.path("file@@", "log"))
	ok(t, err)
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "2  20") ||
		!strings.HasSuffix(lines[0], `  4  -rw-r--r--  0:0  live  "two\nlines"`) ||
		!strings.HasPrefix(lines[1], "1  20") || !strings.HasSuffix(lines[1], "  3  -rw-r--r--  0:0  a note") {
		t.Errorf("the log:\n%s", b)
	}
	b, err = os.ReadFile(m.path("file@@", "meta"))
	ok(t, err)
	var meta Meta
	ok(t, json.Unmarshal(b, &meta))
	if len(meta.FileID) != 32 || meta.Live != 2 || len(meta.Versions) != 2 || meta.Inode != m.stat("file").Ino {
		t.Fatalf("%s", b)
	}
	v := meta.Versions[0]
	at, err := time.Parse(time.RFC3339Nano, v.Time)
	if err != nil || time.Since(at) > time.Hour || v.Number != 1 || v.Size != 3 ||
		v.Mode != "0644" || v.Note != "a note" || v.Live {
		t.Errorf("%+v", v)
	}
	done := m.change("file", "three")
	b, err = os.ReadFile(m.path("file@@", "meta"))
	ok(t, err)
	ok(t, json.Unmarshal(b, &meta))
	if meta.Live != 0 {
		t.Errorf("version %d counts as live after a change", meta.Live)
	}
	done()
	inode := func() uint64 {
		t.Helper()
		b, err := os.ReadFile(m.path("file@@", "meta"))
		ok(t, err)
		ok(t, json.Unmarshal(b, &meta))
		return meta.Inode
	}
	// Under its old name a file is known as long as it has another one.
	ok(t, os.Rename(m.path("file"), m.path("moved")))
	if got := inode(); got != m.stat("moved").Ino {
		t.Errorf("after a move: inode %d, want %d", got, m.stat("moved").Ino)
	}
	ok(t, os.Remove(m.path("moved")))
	if got := inode(); got != 0 {
		t.Errorf("after its removal: inode %d", got)
	}
}

func TestVersionXattrs(t *testing.T) {
	m := mountTree(t, true, nil)
	p := m.write("file", "one")
	m.released()
	m.commit("file", "the note")
	v := m.path("file@@1")
	if got := strings.Join(listXattr(t, v), " "); got != "user.sharefs.note user.sharefs.time user.sharefs.version" {
		t.Errorf("a version lists %s", got)
	}
	for name, value := range map[string]string{attrVersion: "1", attrNote: "the note"} {
		if got, err := getXattr(v, name); err != nil || got != value {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	text, err := getXattr(v, attrTime)
	ok(t, err)
	if _, err := time.Parse(time.RFC3339Nano, text); err != nil {
		t.Error(err)
	}
	_, err = getXattr(v, attrTimed)
	want(t, "timed", err, unix.ENODATA)
	_, err = getXattr(v, "user.other")
	want(t, "an attribute that a version has not", err, unix.ENODATA)
	if got, err := getXattr(p, attrVersion); err != nil || got != "1" {
		t.Errorf("the live file is version %q, %v", got, err)
	}
	defer m.change("file", "changed")()
	_, err = getXattr(p, attrVersion)
	want(t, "after a change", err, unix.ENODATA)
}

// marked says of each version what a check and the capture may say of it.
type marked struct{ Tree }

func (t marked) Versions(ino sharefs.Ino) ([]sharefs.Version, error) {
	all, err := t.Tree.Versions(ino)
	for i := range all {
		all[i].Timed, all[i].Torn, all[i].Damaged = true, true, true
	}
	return all, err
}

// What is wrong with a version is told with it.
func TestMarksOfVersions(t *testing.T) {
	m := mountTree(t, true, func(c *Config) { c.Tree = marked{c.Tree} })
	m.write("file", "one")
	m.released()
	m.commit("file", "")
	log, err := os.ReadFile(m.path("file@@/log"))
	ok(t, err)
	if text := string(log); !strings.HasSuffix(text, "  timed  torn  damaged  live\n") {
		t.Errorf("log: %s", text)
	}
	var meta Meta
	text, err := os.ReadFile(m.path("file@@/meta"))
	ok(t, err)
	ok(t, json.Unmarshal(text, &meta))
	if v := meta.Versions[0]; !v.Timed || !v.Torn || !v.Damaged {
		t.Errorf("%+v", v)
	}
}

func TestRestore(t *testing.T) {
	inModes(t, func(t *testing.T, m *mounted) {
		p := m.write("file", "the first content")
		m.released()
		if n := m.commit("file", ""); n != 1 {
			t.Fatalf("the first version has number %d", n)
		}
		m.write("file", "second")
		ok(t, os.Chmod(p, 0o600))
		m.released()
		if n := m.commit("file", ""); n != 2 {
			t.Fatalf("the second version has number %d", n)
		}
		m.holds("file", "second")
		ino := m.stat("file").Ino
		ok(t, unix.Setxattr(p, attrRestore, []byte("1"), 0))
		m.holds("file", "the first content")
		if st := m.stat("file"); st.Ino != ino || st.Size != int64(len("the first content")) {
			t.Errorf("after the restore: inode %d (was %d), size %d", st.Ino, ino, st.Size)
		}
		m.holds("file@@2", "second")
		want(t, "restoring what is not there", unix.Setxattr(p, attrRestore, []byte("99"), 0), unix.ENOENT)
	})
}

// A version answers by the time it was made at, and a name by the file that bore it then.
func TestVersionByTime(t *testing.T) {
	m := mountTree(t, true, nil)
	m.write("file", "one")
	m.released()
	m.commit("file", "")
	text, err := getXattr(m.path("file@@1"), attrTime)
	ok(t, err)
	time.Sleep(5 * time.Millisecond) // two versions of one millisecond cannot be told apart by their times
	m.write("file", "two")
	m.released()
	m.commit("file", "")
	m.holds("file@@"+text, "one")
	m.holds("file@@/"+text, "one")
	m.holds("file@@now", "two")
	want(t, "before the file was", unix.Access(m.path("file@@/1990-01-01"), unix.F_OK), unix.ENOENT)
}

// Removed files keep their past, by the name they had.
func TestPastOfRemovedFile(t *testing.T) {
	m := mountTree(t, true, nil)
	p := m.write("file", "content")
	m.released()
	m.commit("file", "")
	ok(t, os.Remove(p))
	want(t, "the file", unix.Access(p, unix.F_OK), unix.ENOENT)
	m.holds("file@@1", "content")
	m.holds("file@@/1", "content")
}

// An ordinary name wins over a virtual one.
func TestOrdinaryNameWins(t *testing.T) {
	m := mountTree(t, true, nil)
	m.write("file", "one")
	m.released()
	m.commit("file", "")
	ok(t, os.Rename(m.write("other", "ordinary"), m.path("file@@1")))
	m.holds("file@@1", "ordinary")
	m.holds("file@@/1", "one")
	m.write("a@@b", "with a mark")
	m.released()
	m.commit("a@@b", "")
	m.holds("a@@b@@1", "with a mark")
	ok(t, os.Remove(m.path("file@@1")))
	m.holds("file@@1", "one")
}

// Who may not read a file may not read its past either, and what was closed when a version was made stays closed in it.
func TestPastKeepsPermissions(t *testing.T) {
	m := mountTree(t, true, nil)
	ok(t, os.Chmod(m.dir, 0o755))
	p := m.write("file", "open")
	m.released()
	m.commit("file", "")
	ok(t, os.Chmod(p, 0o600))
	m.write("file", "closed")
	m.released()
	m.commit("file", "")
	read := func(name string) error { return asUser(t, 100, 100, m.path(name), unix.O_RDONLY) }
	want(t, "an open version of a closed file", read("file@@1"), unix.EACCES)
	want(t, "its directory", read("file@@"), unix.EACCES)
	want(t, "its log", read("file@@/log"), unix.EACCES)
	ok(t, os.Chmod(p, 0o644))
	m.until("attributes have aged", func() bool { return read("file@@1") == nil })
	want(t, "a closed version of an open file", read("file@@2"), unix.EACCES)
	want(t, "the log of an open file", read("file@@/log"), nil)

	const someone = 100
	ok(t, os.Chmod(p, 0o600))
	ok(t, unix.Setxattr(p, aclAccess, acl(
		[3]uint32{aclUserObj, 6, noID}, [3]uint32{aclUser, 4, someone}, [3]uint32{aclGroupObj, 0, noID},
		[3]uint32{aclMask, 4, noID}, [3]uint32{aclOther, 0, noID}), 0))
	m.until("attributes have aged", func() bool { return read("file@@1") == nil })
	want(t, "an open version for one who is named", read("file@@1"), nil)
	want(t, "a closed version for one who is named", read("file@@2"), unix.EACCES)
	want(t, "for another", asUser(t, 101, 101, m.path("file@@1"), unix.O_RDONLY), unix.EACCES)
}

// cp of a version is a copy that the daemon makes, and mappings and pieces of it read as the whole does.
func TestCopyOfVersion(t *testing.T) {
	inModes(t, func(t *testing.T, m *mounted) {
		content := strings.Repeat("0123456789", 300_000)
		m.write("file", content)
		m.released()
		m.commit("file", "")
		m.write("file", "now")
		from, err := os.Open(m.path("file@@1"))
		ok(t, err)
		defer from.Close()
		to, err := os.Create(m.path("copy"))
		ok(t, err)
		got := m.requests(func() {
			n, err := io.Copy(to, from)
			if err != nil || n != int64(len(content)) {
				t.Errorf("copied %d bytes, %v", n, err)
			}
		})
		if got["READ"]+got["WRITE"] > 0 || got["COPY_FILE_RANGE"]+got["COPY_FILE_RANGE_64"] == 0 {
			t.Errorf("the copy caused %v", got)
		}
		ok(t, to.Close())
		m.holds("copy", content)
		b := make([]byte, 1000)
		_, err = from.ReadAt(b, 1_234_567)
		if err != nil || string(b) != content[1_234_567:1_235_567] {
			t.Errorf("a piece of the version differs, %v", err)
		}
		if _, err := from.ReadAt(b, int64(len(content))+5); err != io.EOF {
			t.Errorf("beyond the end: %v", err)
		}
		if off, err := from.Seek(0, io.SeekEnd); err != nil || off != int64(len(content)) {
			t.Errorf("the end is at %d, %v", off, err)
		}
		if off, err := unix.Seek(int(from.Fd()), 10, unix.SEEK_HOLE); err != nil || off != int64(len(content)) {
			t.Errorf("the hole is at %d, %v", off, err)
		}
		// Read once, the pages stay.
		_, err = os.ReadFile(m.path("file@@1"))
		ok(t, err)
		got = m.requests(func() {
			_, err := os.ReadFile(m.path("file@@1"))
			ok(t, err)
		})
		if got["READ"] > 0 {
			t.Errorf("reading a version again caused %v", got)
		}
	})
}

// A file that comes to another name may come to another history. The kernel's pages of a version stay with the version,
// not with its number.
func TestPagesStayWithTheirVersion(t *testing.T) {
	inModes(t, func(t *testing.T, m *mounted) {
		save := func(name, content string) {
			t.Helper()
			m.write(name, content)
			m.released()
			m.commit(name, "")
			// Whose history a file continues is a question of milliseconds. With this pause it is the one that shows the fault;
			// what is held below is true for any.
			time.Sleep(20 * time.Millisecond)
		}
		// shows checks what programs read against what the tree has.
		shows := func(name string) {
			t.Helper()
			ino, err := m.tree.Past(sharefs.RootIno, name)
			ok(t, err)
			all, err := m.tree.Versions(ino)
			ok(t, err)
			for i := range all {
				r, err := m.tree.OpenVersion(ino, all[i].Number)
				ok(t, err)
				content := make([]byte, r.Size())
				_, err = r.ReadAt(content, 0)
				if err != nil && err != io.EOF {
					t.Error(err)
				}
				r.Close()
				m.holds(fmt.Sprintf("%s@@%d", name, all[i].Number), string(content))
				m.holds(fmt.Sprintf("%s@@/%d", name, all[i].Number), string(content))
			}
		}
		save("file", "of file")
		save("temp", "of temp")
		ok(t, os.Rename(m.path("temp"), m.path("elsewhere")))
		save("temp", "newer")
		shows("temp")
		ok(t, os.Rename(m.path("temp"), m.path("file")))
		shows("file")
		shows("elsewhere")
	})
}
