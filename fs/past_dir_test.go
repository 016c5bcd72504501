package fs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tag gives the present state of something a name.
func (m *mounted) tag(name, value string) {
	m.t.Helper()
	ok(m.t, unix.Setxattr(m.path(name), attrTag, []byte(value), 0))
}

func TestDirectoriesAsTheyWere(t *testing.T) {
	inAllModes(t, func(t *testing.T, m *mounted) {
		ok(t, os.Mkdir(m.path("dir"), 0o755))
		m.write("dir/a", "one")
		m.released()
		first := m.moment()
		m.tag("dir", "first")
		m.write("dir/b", "two")
		m.released()
		ok(t, unix.Setxattr(m.dir, attrSnapshot, []byte("second"), 0))
		ok(t, os.Rename(m.path("dir"), m.path("moved")))
		third := m.moment()
		for name, list := range map[string]string{
			"moved@@first": "a", "moved@@/first": "a", "moved@@" + first: "a", "moved@@/" + first: "a", // by what it is now
			"dir@@" + first: "a", "dir@@/" + first: "a", "dir@@/first": "a", // by what it was called
			"dir@@second": "a b", "moved@@second": "a b", "moved@@" + third: "a b", "dir@@" + third: "a b",
			"moved/.@@first": "a", "moved/.@@/" + first: "a", "moved/..@@" + first: "dir",
		} {
			if got := strings.Join(sorted(m.names(name)), " "); got != list {
				t.Errorf("%s lists %q, want %q", name, got, list)
			}
		}
		m.holds("dir@@first/a", "one")
		// Another directory gets the name. At each time the name means whoever bore it.
		ok(t, os.Mkdir(m.path("dir"), 0o700))
		m.write("dir/c", "three")
		fourth := m.moment()
		m.write("file", "content")
		m.released()
		for name, list := range map[string]string{"dir@@" + first: "a", "dir@@/" + first: "a", "dir@@" + fourth: "c", "dir@@second": "a b", "dir@@now": "c"} {
			if got := strings.Join(sorted(m.names(name)), " "); got != list {
				t.Errorf("%s lists %q, want %q", name, got, list)
			}
		}
		// A removed directory is reached below one that is removed as well.
		ok(t, os.MkdirAll(m.path("x/y/z"), 0o755))
		m.write("x/y/z/deep", "down")
		m.released()
		m.tag("x/y/z", "deep one")
		fifth := m.moment()
		ok(t, os.RemoveAll(m.path("x")))
		m.holds("x@@"+fifth+"/y/z/deep", "down")
		ok(t, os.Mkdir(m.path("x"), 0o755))
		want(t, "y in another x", unix.Access(m.path("x/y@@"), unix.F_OK), unix.ENOENT)
		m.holds("x@@"+fifth+"/y/z/deep", "down")
		for _, name := range []string{"dir@@1", "dir@@nonsense", "dir@@1980-01-01", "none@@now", "none@@first", "file@@first"} {
			want(t, name, unix.Access(m.path(name), unix.F_OK), unix.ENOENT)
		}
		// A file took the name of a directory, and the other way round.
		ok(t, os.Remove(m.path("x")))
		m.write("x", "a file now")
		m.released()
		m.commit("x", "")
		m.holds("x@@"+fifth+"/y/z/deep", "down")
		m.holds("x@@1", "a file now")
		m.holds("x@@now", "a file now")
		ok(t, os.Remove(m.path("file")))
		ok(t, os.Mkdir(m.path("file"), 0o755))
		m.holds("file@@"+fifth, "content")
	})
}

func sorted(list string) []string {
	names := strings.Fields(list)
	for i := range names {
		for j := i; j > 0 && names[j] < names[j-1]; j-- {
			names[j], names[j-1] = names[j-1], names[j]
		}
	}
	return names
}

func TestDirectoryListsItsTimes(t *testing.T) {
	m := mountTree(t, true, nil)
	ok(t, os.MkdirAll(m.path("dir/sub"), 0o755))
	m.moment()
	m.write("elsewhere", "")
	ok(t, os.Mkdir(m.path("dir/two"), 0o755))
	m.tag("dir", "tagged")
	ok(t, unix.Setxattr(m.path("dir"), attrBranch, []byte("work"), 0))
	for _, top := range []string{"dir@@", "dir/.@@"} {
		entries, err := os.ReadDir(m.path(top))
		ok(t, err)
		lists := map[string]bool{}
		for _, e := range entries {
			if !e.IsDir() {
				t.Errorf("%s is no directory", e.Name())
			}
			lists[strings.Join(sorted(m.names(filepath.Join(top, e.Name()))), " ")] = true
		}
		if !lists["sub"] || !lists["sub two"] || len(entries) < 4 {
			t.Errorf("%s lists %v, with %v", top, entries, lists)
		}
	}
	ok(t, os.RemoveAll(m.path("dir")))
	if got := m.names("dir@@"); got == "" {
		t.Error("a removed directory has no times")
	}
}

// Names that mean something else behind FILE@@ are not given any more; a tag that had one before can be read and taken away, and a branch moved.
func TestNamesThatMeanSomethingElse(t *testing.T) {
	var reserved atomic.Bool
	m := mountTree(t, false, func(c *Config) {
		c.Reserved = func(name string, branch bool) bool {
			return reserved.Load() && (name == "here" || name == "main" && !branch)
		}
	})
	p := m.write("file", "one")
	m.released()
	m.commit("file", "")
	m.tag("file", "here")
	ok(t, unix.Setxattr(m.dir, attrSnapshot, []byte("main"), 0))
	q := m.write("other", "one")
	m.released()
	m.commit("other", "")
	ok(t, unix.Setxattr(q, attrBranch, []byte("here"), 0))
	reserved.Store(true)
	for _, path := range []string{"file", "other"} {
		m.write(path, "two")
		m.released()
		m.commit(path, "")
	}
	m.holds("file@@here", "one")
	m.holds("file@@main", "one")
	for _, name := range []string{"here", "main"} {
		want(t, "a snapshot "+name, unix.Setxattr(m.dir, attrSnapshot, []byte(name), 0), unix.EINVAL)
		want(t, "a tag "+name, unix.Setxattr(m.path("other"), attrTag, []byte(name), 0), unix.EINVAL)
	}
	ok(t, unix.Setxattr(p, attrUntag, []byte("here"), 0))
	want(t, "a branch here", unix.Setxattr(p, attrBranch, []byte("here"), 0), unix.EINVAL)
	ok(t, unix.Setxattr(p, attrBranch, []byte("main=1"), 0))
	m.holds("other@@here", "one")
	ok(t, unix.Setxattr(q, attrBranch, []byte("here=2"), 0))
	m.holds("other@@here", "two")
}

// Tags, branches and snapshots are names for versions of a file as well.
func TestNamedVersions(t *testing.T) {
	m := mountTree(t, true, nil)
	p := m.write("file", "one")
	m.released()
	m.commit("file", "")
	m.tag("file", "draft\nfor the printer")
	ok(t, unix.Setxattr(m.dir, attrSnapshot, []byte("all"), 0))
	ok(t, unix.Setxattr(p, attrBranch, []byte("side=1"), 0))
	m.write("file", "two")
	m.released()
	m.commit("file", "")
	for _, name := range []string{"file@@draft", "file@@all", "file@@side", "file@@/draft", "file@@/all"} {
		m.holds(name, "one")
	}
	m.holds(fmt.Sprint("file@@@", time.Now().Unix()+1), "two") // seconds since 1970 have a sign of their own
	m.holds(fmt.Sprint("file@@/@", time.Now().Unix()+1), "two")
	want(t, "seconds of another file", unix.Access(m.path("file@@@@1"), unix.F_OK), unix.ENOENT)
	ok(t, unix.Setxattr(p, attrTag, []byte("early=draft"), 0))
	m.holds("file@@early", "one")
	meta, err := os.ReadFile(m.path("file@@/meta"))
	ok(t, err)
	for _, part := range []string{`"name":"draft"`, `"note":"for the printer"`, `"name":"side"`, `"version":1`, `"branch":""`} {
		if !strings.Contains(string(meta), part) {
			t.Errorf("%s is not in %s", part, meta)
		}
	}
	ok(t, unix.Setxattr(p, attrSwitch, []byte("side"), 0))
	m.holds("file@@side", "two")
	ok(t, unix.Setxattr(p, attrSwitch, nil, 0))
	m.holds("file@@side", "one")
	for value, errno := range map[string]error{
		"draft": unix.EEXIST, "3": unix.EINVAL, "now": unix.EINVAL, "a/b": unix.EINVAL, "x=nonsense": unix.EINVAL, "": unix.EINVAL, "x=2100-": unix.EINVAL,
	} {
		want(t, "tag "+value, unix.Setxattr(p, attrTag, []byte(value), 0), errno)
	}
	want(t, "a branch at a version that is not there", unix.Setxattr(p, attrBranch, []byte("x=9"), 0), unix.ENOENT)
	want(t, "switch to nothing", unix.Setxattr(p, attrSwitch, []byte("none"), 0), unix.ENOENT)
	for _, attr := range []string{attrUntag, attrUnbranch} {
		want(t, attr, unix.Setxattr(p, attr, []byte("none"), 0), unix.ENOENT)
	}
	ok(t, unix.Setxattr(p, attrUntag, []byte("draft"), 0))
	ok(t, unix.Setxattr(p, attrUnbranch, []byte("side"), 0))
	for _, name := range []string{"file@@draft", "file@@side"} {
		want(t, name, unix.Access(m.path(name), unix.F_OK), unix.ENOENT)
	}
	ok(t, unix.Setxattr(p, attrDescribe, []byte("1\nanother note"), 0))
	if got, err := getXattr(m.path("file@@1"), attrNote); err != nil || got != "another note" {
		t.Errorf("the note is %q, %v", got, err)
	}
	want(t, "a note on no version", unix.Setxattr(p, attrDescribe, []byte("9\nx"), 0), unix.ENOENT)
	want(t, "a note on nothing", unix.Setxattr(p, attrDescribe, []byte("x"), 0), unix.EINVAL)
	for _, attr := range []string{attrTag, attrMoment, attrSnapshot, attrDescribe} {
		_, err := getXattr(p, attr)
		want(t, attr, err, unix.ENODATA)
	}
}

// Who may not write to something may not name its moments.
func TestNamingNeedsTheRightToWrite(t *testing.T) {
	const bob = 1002
	m := mountTree(t, true, nil)
	ok(t, os.Chmod(m.dir, 0o755))
	p := m.write("file", "content")
	for _, path := range []string{p, m.dir} {
		err := beUser(t, bob, bob, func() error { return unix.Setxattr(path, attrTag, []byte("mine"), 0) })
		want(t, "tag of "+path, err, unix.EACCES)
	}
	ok(t, os.Chmod(p, 0o666))
	want(t, "tag", beUser(t, bob, bob, func() error { return unix.Setxattr(p, attrTag, []byte("mine"), 0) }), nil)
}

func TestTreeOfVersions(t *testing.T) {
	inAllModes(t, func(t *testing.T, m *mounted) {
		const top = ".share/versions"
		ok(t, os.MkdirAll(m.path("dir/gone/deep"), 0o755))
		for _, name := range []string{"file", "dir/gone/deep/ö ö", "dir/removed", "temporary"} {
			m.write(name, "first of "+name)
			m.released()
			m.commit(name, "")
		}
		ok(t, os.Symlink("../file", m.path("dir/link")))
		ok(t, os.Symlink("dir", m.path("old")))
		ok(t, unix.Mkfifo(m.path("fifo"), 0o644))
		m.moment()
		m.write("file", "second")
		m.released()
		m.commit("file", "")
		ok(t, os.RemoveAll(m.path("dir/gone")))
		ok(t, os.Remove(m.path("dir/removed")))
		ok(t, os.Remove(m.path("old")))
		ok(t, os.Rename(m.path("temporary"), m.path("kept")))
		for name, list := range map[string]string{
			"": "dir file kept old temporary", "file": "1 2 log meta", "dir": "gone link removed", "dir/gone": "deep", "dir/gone/deep": "ö ö",
			"dir/gone/deep/ö ö": "1 log meta", "dir/link/": "1 2 log meta", "old": "gone link removed", "temporary": "1 log meta",
		} {
			entries, err := os.ReadDir(m.path(top, name))
			ok(t, err)
			var got []string
			for _, e := range entries {
				got = append(got, e.Name())
			}
			if strings.Join(got, " ") != list {
				t.Errorf("%s lists %q, want %q", name, got, list)
			}
		}
		m.holds(top+"/file/1", "first of file")
		m.holds(top+"/dir/gone/deep/ö ö/1", "first of dir/gone/deep/ö ö")
		m.holds(top+"/dir/link/2", "second")
		if out := run(t, "find", m.path(top), "-name", "1"); strings.Count(out, "\n") != 5 {
			t.Errorf("find lists\n%s", out)
		}
		want(t, "making something", os.Mkdir(m.path(top, "new"), 0o755), unix.EROFS)
		want(t, "what never was", unix.Access(m.path(top, "never"), unix.F_OK), unix.ENOENT)
		want(t, "what has no versions", unix.Access(m.path(top, "fifo"), unix.F_OK), unix.ENOENT)
	})
}

func TestRightsInTreeOfVersions(t *testing.T) {
	const bob = 1002
	m := mountTree(t, true, nil)
	ok(t, os.Chmod(m.dir, 0o755))
	for _, dir := range []string{"open", "closed", "gone"} {
		ok(t, os.Mkdir(m.path(dir), 0o755))
		m.write(dir+"/file", "content")
		m.released()
		m.commit(dir+"/file", "")
	}
	m.moment()
	ok(t, os.Chmod(m.path("closed"), 0o700))
	ok(t, os.RemoveAll(m.path("gone")))
	const top = ".share/versions/"
	for name, refused := range map[string]error{
		top + "open": nil, top + "open/file": nil, top + "open/file/1": nil,
		top + "closed": unix.EACCES, top + "closed/file": unix.EACCES, top + "closed/file/1": unix.EACCES,
		top + "gone": unix.EACCES, top + "gone/file": unix.EACCES,
		"open@@": nil, "closed@@": unix.EACCES, "gone@@": unix.EACCES,
	} {
		want(t, name, asUser(t, bob, bob, m.path(name), unix.O_RDONLY), refused)
		want(t, name+" for root", asUser(t, 0, 0, m.path(name), unix.O_RDONLY), nil)
	}
}
