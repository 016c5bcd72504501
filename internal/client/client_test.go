package client

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

func TestWithoutANameTheOnlyMountIsMeant(t *testing.T) {
	for _, c := range []struct {
		all         []Mount
		named       string
		point, want string
	}{
		{nil, "", "", "no ShareFS is mounted: sharefs-mount DIRECTORY mounts one"},
		{nil, "/etc", "", "no ShareFS is mounted: sharefs-mount DIRECTORY mounts one"},
		{[]Mount{{Point: "/a"}}, "", "/a", ""},
		{[]Mount{{Point: "/a"}}, "/e t", "", "-C '/e t': not in a ShareFS mount; mounted: /a"},
		{[]Mount{{Point: "/a"}, {Point: "/b c"}}, "", "", "several are mounted (/a, '/b c'): name one with -C DIR"},
		{[]Mount{{Point: "/a"}, {Point: "/b c", Own: true}, {Point: "/d"}}, "", "/b c", ""}, // others are none of the user's business
		{[]Mount{{Point: "/a"}, {Point: "/b c", Own: true}, {Point: "/d", Own: true}}, "", "", "several are mounted ('/b c', /d): name one with -C DIR"},
		{[]Mount{{Point: "/a"}, {Point: "/b c"}}, "/etc", "", "-C /etc: not in a ShareFS mount; mounted: /a, '/b c'"},
	} {
		m, err := choose(c.all, c.named)
		if m != nil && m.Point != c.point || m == nil && (err == nil || err.Error() != c.want) {
			t.Errorf("%v, -C %q: %v, %v, want %s%s", c.all, c.named, m, err, c.point, c.want)
		}
	}
}

func TestWhatIsNotInAMountIsSaid(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a\x1b b")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, arg := range []string{file, file + "@@2", dir + "/missing", dir + "/missing@@yesterday"} {
		if f, err := Open(arg); err == nil || !strings.HasSuffix(err.Error(), ": not in a ShareFS mount") || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%q: %+v, %v", arg, f, err)
		}
	}
	for arg, want := range map[string]string{
		"": "the file's name is empty", file + "@@": "no version is named", "/dev/null/x": "not a directory", dir + "/no/such": "no such file or directory",
	} {
		if _, err := Open(arg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", arg, err, want)
		}
	}
	if _, err := MountOf(dir); !errors.Is(err, sharefs.KindInvalid) {
		t.Error(err)
	}
}

func TestErrorsNameThePathAndTheWayOut(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&os.PathError{Op: "open", Path: "/x", Err: unix.ENOTCONN}, "-C a: the ShareFS mounted there has ended: sharefs-mount mounts it again"},
		{&os.PathError{Op: "open", Path: "/x", Err: unix.ENOENT}, "-C a: no such file or directory"},
		{&os.PathError{Op: "open", Path: "/x", Err: unix.EUCLEAN}, "-C a: structure needs cleaning"},
	} {
		if got := PathError("-C", "a", c.err); got.Error() != c.want {
			t.Errorf("%v, want %s", got, c.want)
		}
	}
}

func TestMissingVersionsAreAnsweredWithThoseThereAre(t *testing.T) {
	at := time.Date(2026, 11, 20, 10, 0, 0, 5e6, time.Local)
	point := t.TempDir() // a mount that knows of one time
	if err := os.MkdirAll(filepath.Join(point, atDir, "2026-11-20"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		sel  string
		n    int
		want string
	}{
		{"7", 0, "a@@7: a has no versions yet: one is made when it is closed and has been quiet for a moment"},
		{"7", 1, "a@@7: no such version; there is 1 only"},
		{"0", 3, "a@@0: no such version; there are 1 to 3, and times such as -2h, yesterday or 2026-11-20T10:00"},
		{"01", 3, "a@@01: 01 is no number of a version, no tag and no time since the first one (2026-11-20 10:00:00.005); times are written -2h, yesterday or 2026-11-20T10:00"},
		{"2026-11-20", 1, "a@@2026-11-20: no such version; the first is of 2026-11-20 10:00:00.005"},
	} {
		f, h := &File{Given: "a", Select: c.sel, Mount: &Mount{Point: point}}, &History{}
		for i := range c.n {
			h.Versions = append(h.Versions, Version{Number: uint64(i + 1), Time: at.Add(time.Duration(i) * time.Hour)})
		}
		if err := f.noSuch(h); err.Error() != c.want || !errors.Is(err, sharefs.KindNotExist) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}

func TestPathsFromTheRootOfAMount(t *testing.T) {
	dir := t.TempDir()
	m := &Mount{Point: filepath.Join(dir, "mnt")}
	if err := errors.Join(os.MkdirAll(filepath.Join(m.Point, dir), 0o755), os.Mkdir(dir+"/else", 0o755)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"": "", "/": "", "a/b": "a/b", "/a/b/": "a/b", m.Point: "", m.Point + "/a": "a", m.Point + "2/a": strings.Trim(m.Point, "/") + "2/a",
		dir: strings.Trim(dir, "/"), // which the mount has, too
	} {
		if got, err := m.FromRoot(path); err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", path, got, err, want)
		}
	}
	for _, path := range []string{dir + "/else", dir + "/else/not/there/yet"} {
		_, err := m.FromRoot(path)
		if want := path + ": lies outside of the mount at " + m.Point + "; "; err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
