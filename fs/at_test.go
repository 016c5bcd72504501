package fs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions/when"
)

// moment fixes the present and returns it as .share/at takes it.
func (m *mounted) moment() string {
	m.t.Helper()
	text, err := getXattr(m.dir, attrMoment)
	ok(m.t, err)
	return text
}

// at names something in the tree as it was.
func at(moment string, elem ...string) string {
	return filepath.Join(append([]string{shareName, atName, moment}, elem...)...)
}

// at is the path of it.
func (m *mounted) at(moment string, elem ...string) string { return m.path(at(moment, elem...)) }

// run runs a program and returns what it wrote; that it fails is an error of the test. One that is not installed does nothing.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Log(err)
		return ""
	}
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// names lists a directory.
func (m *mounted) names(dir string) string {
	m.t.Helper()
	entries, err := os.ReadDir(m.path(dir))
	ok(m.t, err)
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return strings.Join(list, " ")
}

func TestTreeAsItWas(t *testing.T) {
	inAllModes(t, func(t *testing.T, m *mounted) {
		ok(t, os.MkdirAll(m.path("dir/sub dir"), 0o750))
		m.write("file", "first")
		m.write("dir/sub dir/ä", "inner")
		ok(t, os.Symlink("../file", m.path("dir/link")))
		ok(t, unix.Mkfifo(m.path("fifo"), 0o600))
		ok(t, unix.Mknod(m.path("null"), unix.S_IFCHR|0o644, 1<<8|3))
		ok(t, unix.Setxattr(m.path("dir"), "user.x", []byte("then"), 0))
		ok(t, os.Link(m.path("file"), m.path("dir/second")))
		m.released()
		copied := t.TempDir()
		run(t, "cp", "-a", m.dir+"/.", copied)
		first := m.moment()
		m.write("file", "changed")
		ok(t, os.Chmod(m.path("file"), 0o600))
		ok(t, os.RemoveAll(m.path("dir")))
		ok(t, unix.Unlink(m.path("fifo")))
		m.write("new", "new")
		for range 2 { // asked for, and remembered
			if out := run(t, "rsync", "-aHAXn", "--itemize-changes", "--delete", m.at(first)+"/", copied+"/"); out != "" {
				t.Errorf("differs from the copy:\n%s", out)
			}
			run(t, "diff", "-r", "--no-dereference", "--exclude=fifo", "--exclude=null", m.at(first), copied)
		}
		if out, err := exec.Command("diff", "-rq", "--no-dereference", m.at(first), m.dir).Output(); err == nil || !strings.Contains(string(out), "Only in "+m.dir+": new") {
			t.Errorf("the difference to the live tree, %v:\n%s", err, out)
		}
		if a, b := m.stat(at(first, "file")), m.stat(at(first, "dir/second")); a.Ino != b.Ino || a.Nlink != 2 {
			t.Errorf("links of inodes %d and %d, %d links", a.Ino, b.Ino, a.Nlink)
		}
		if a, b := m.stat(at(first, "file")), m.stat("file"); a.Ino == b.Ino {
			t.Error("a file of the past has the inode of the live one")
		}
		want(t, "a name that came later", unix.Access(m.at(first, "new"), unix.F_OK), unix.ENOENT)
		want(t, "a time before there was anything", unix.Access(m.path(at("1980-01-01")), unix.F_OK), unix.ENOENT)
		want(t, "no time", unix.Access(m.path(at("nonsense")), unix.F_OK), unix.ENOENT)
		if got, err := getXattr(m.at(first), attrTime); err != nil || got != first {
			t.Errorf("the view of %s is of %q, %v", first, got, err)
		}
	})
}

// What is asked of a view once costs nothing the second time, and a directory's names bring their attributes along.
func TestRequestsOfViews(t *testing.T) {
	m := mountTree(t, true, nil)
	ok(t, os.Mkdir(m.path("dir"), 0o755))
	for _, name := range []string{"a", "b", "c"} {
		m.write("dir/"+name, name)
	}
	m.released()
	top := m.path(at(m.moment()))
	walk := func() { run(t, "find", top, "-ls") }
	// The way to the top is looked up each time that find goes it: three times the two names at and TIME.
	if got := m.requests(walk); got["GETATTR"] > 2 || got["GETXATTR"] > 0 || got["LOOKUP"] > 7 {
		t.Errorf("the first walk caused %v", got)
	}
	if got := m.requests(walk); got["GETATTR"] > 2 || got["GETXATTR"]+got["READDIR"]+got["READDIRPLUS"] > 0 || got["LOOKUP"] > 6 {
		t.Errorf("the second walk caused %v", got)
	}
	read := func() { m.holds(strings.TrimPrefix(top, m.dir+"/")+"/dir/a", "a") }
	read()
	m.released()
	if got := m.requests(read); got["READ"] > 0 {
		t.Errorf("reading again caused %v", got)
	}
}

func TestViewsAreFrozen(t *testing.T) {
	m := mountTree(t, true, nil)
	ok(t, os.Mkdir(m.path("dir"), 0o755))
	m.write("dir/file", "content")
	m.released()
	moment := m.moment()
	for _, top := range []string{at(moment), ".@@" + moment} {
		file, dir := m.path(top, "dir/file"), m.path(top, "dir")
		_, err := os.OpenFile(file, os.O_WRONLY, 0)
		want(t, "open for writing", err, unix.EROFS)
		for what, err := range map[string]error{
			"chmod":       os.Chmod(file, 0o777),
			"chmod dir":   os.Chmod(dir, 0o777),
			"utimes":      os.Chtimes(file, time.Now(), time.Now()),
			"truncate":    os.Truncate(file, 0),
			"unlink":      unix.Unlink(file),
			"rmdir":       unix.Rmdir(dir),
			"rename":      os.Rename(file, m.path("x")),
			"rename into": os.Rename(m.path("dir/file"), dir+"/x"),
			"setxattr":    unix.Setxattr(file, "user.a", nil, 0),
			"command":     unix.Setxattr(dir, attrTag, []byte("x"), 0),
			"create":      os.WriteFile(dir+"/new", nil, 0o644),
			"mkdir":       os.Mkdir(dir+"/new", 0o755),
			"symlink":     os.Symlink("x", dir+"/new"),
			"mkdir at":    os.Mkdir(m.path(at("x")), 0o755),
			"rmdir of it": unix.Rmdir(m.path(top)),
		} {
			want(t, what, err, unix.EROFS)
		}
		want(t, "hard link", os.Link(file, m.path("x")), unix.EXDEV)
	}
}

// A listing of times shows what can be looked up: each name leads to a tree, the last one to the present.
func TestListingOfTimes(t *testing.T) {
	m := mountTree(t, true, nil)
	for _, name := range []string{"a", "b", "c"} {
		ok(t, os.Mkdir(m.path(name), 0o755))
		ok(t, unix.Setxattr(m.dir, attrSnapshot, []byte("with "+name+"\na note"), 0))
		time.Sleep(2 * time.Millisecond) // points of one millisecond are one
	}
	list := strings.Split(m.names(".share/at"), " ")
	seen := map[string]bool{}
	entries, err := os.ReadDir(m.path(".share/at"))
	ok(t, err)
	points := 0
	for _, e := range entries {
		got := m.names(at(e.Name()))
		seen[got] = true
		if when, err := when.Parse(e.Name(), time.Now()); err == nil {
			points++
			if got, err := getXattr(m.path(at(e.Name())), attrTime); err != nil || got != versionTime(when) {
				t.Errorf("%s is %q, %v", e.Name(), got, err)
			}
		} else if want := map[string]string{"with a": "a", "with b": "a b", "with c": "a b c"}[e.Name()]; want == "" || len(got) != len(want) {
			t.Errorf("%s lists %s", e.Name(), got)
		}
	}
	if points < 3 || len(seen) < 3 {
		t.Errorf("%d points of time, %d different trees in %s", points, len(seen), list)
	}
	want(t, "a snapshot a second time", unix.Setxattr(m.dir, attrSnapshot, []byte("with a"), 0), unix.EEXIST)
	want(t, "a snapshot of a directory", unix.Setxattr(m.path("a"), attrSnapshot, []byte("x"), 0), unix.EINVAL)
	ok(t, unix.Setxattr(m.dir, attrUntag, []byte("with a"), 0))
	want(t, "after it was taken away", unix.Access(m.path(at("with a")), unix.F_OK), unix.ENOENT)
	ok(t, unix.Setxattr(m.dir, attrSnapshot, nil, 0))
}

func TestPins(t *testing.T) {
	now := time.Date(2026, 11, 20, 15, 4, 5, 0, time.Local)
	p := pins{now: func() time.Time { return now }}
	for text, relative := range map[string]bool{
		"now": true, "-2h": true, "yesterday": true, "monday": true, "10:30": true, "2026-11-20": true, "2026-11-21": true, "2026-11": true, "3 days ago": true,
		"2026-11-19": false, "2026-11-20T10:30": false, "@1790000000": false, "2026-11-20T10:30:15.123+01:00": false, "2026-10": false,
	} {
		_, seconds, ok := p.moment(text)
		if !ok || (seconds == pinSeconds) != relative {
			t.Errorf("%s holds for %d s, %v", text, seconds, ok)
		}
	}
	for _, text := range []string{"2026-11-24", "2026-12-25T10:00", "2027-01", "2030-01-01", "2124-01-01", "2030-01-01T10:00:00Z"} {
		if at, _, ok := p.moment(text); ok {
			t.Errorf("%s, which is to come, is %v", text, at)
		}
	}
	for text, want := range map[string]sharefs.HLC{
		"now": sharefs.MaxHLC, "today": sharefs.MaxHLC, "-1s": when.Reading(now.Add(-time.Second)), "15:04": when.Reading(now.Truncate(time.Minute)),
		// The clock of the tree may be ahead of the host's, and what it has listed must lead to that.
		when.Format(when.Reading(now.Add(5 * time.Millisecond))): when.Reading(now.Add(5 * time.Millisecond)),
	} {
		if at, _, _ := p.moment(text); at != want {
			t.Errorf("%s is %v, want %v", text, at, want)
		}
	}
	next := sharefs.HLC(0)
	fix := func() (sharefs.HLC, error) { next++; return next, nil }
	look := func(text string, after time.Duration, want sharefs.HLC) {
		t.Helper()
		now = now.Add(after)
		if at, err := p.pinned(text, fix); err != nil || at != want {
			t.Errorf("%s after %v is %d, want %d, %v", text, after, at, want, err)
		}
	}
	look("-2h", 0, 1)
	look("now", 0, 2)
	for range 5 { // as long as it is used
		look("-2h", 9*time.Second, 1)
	}
	look("now", 0, 3)
	look("-2h", 10*time.Second, 4)
	for i := range 3 * maxPins {
		if _, err := p.pinned(string(rune(i)), fix); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(p.byText); n > maxPins {
		t.Errorf("%d pins", n)
	}
	fails := func() (sharefs.HLC, error) { return 0, sharefs.KindCorrupt }
	if _, err := p.pinned("other", fails); err != sharefs.KindCorrupt {
		t.Error(err)
	}
}

// A relative time shows one tree to a program that goes by path.
func TestRelativeTimeStaysPut(t *testing.T) {
	m := mountTree(t, true, nil)
	pins := &m.srv.edge.pins
	age := func(by time.Duration) { // as if the names had been looked up so long ago
		pins.mu.Lock()
		defer pins.mu.Unlock()
		for text, p := range pins.byText {
			pins.byText[text] = pin{p.at, time.Now().Add(-by)}
		}
	}
	ok(t, os.Mkdir(m.path("one"), 0o755))
	if got := m.names(at("now")); got != "one" {
		t.Errorf("now lists %s", got)
	}
	age(-time.Hour)
	ok(t, os.Mkdir(m.path("two"), 0o755))
	if got := m.names(at("now")); got != "one" {
		t.Errorf("shortly afterwards now lists %s", got)
	}
	if got := m.names("..@@now"); got != "one" {
		t.Errorf("the root now lists %s", got)
	}
	m.until("the name is looked up again", func() bool { age(time.Hour); return len(m.names(at("now"))) == len("one two") })
}

// A time that has been listed leads to its state, also if the clock of the tree is ahead of the host's.
func TestMomentsAheadOfTheClock(t *testing.T) {
	m := mountTree(t, true, nil)
	var moments []string
	for i := range 50 { // each takes a millisecond of the clock for itself
		ok(t, os.Mkdir(m.path(strings.Repeat("x", i+1)), 0o755))
		moments = append(moments, m.moment())
	}
	for i, moment := range moments {
		entries, err := os.ReadDir(m.at(moment))
		ok(t, err)
		if len(entries) != i+1 {
			t.Errorf("%s lists %d directories, want %d", moment, len(entries), i+1)
		}
	}
}
