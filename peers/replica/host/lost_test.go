package host

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sharefs"
)

// passes ends the instant, so that what is done next is later by the tree's own past.
func (s *site) passes() {
	s.t.Helper()
	time.Sleep(2 * time.Millisecond) // a later reading than any before, on all hosts
	_, err := s.tree.ViewAt(sharefs.MaxHLC)
	check(s.t, err)
}

// loses has a host lose its records, as one that is recovered from a backup of its tree.
func (s *site) loses() {
	s.t.Helper()
	s.close()
	dir := filepath.Join(s.dir, "peers")
	check(s.t, os.RemoveAll(dir))
	check(s.t, os.Mkdir(dir, 0o700))
	s.start()
}

// again has a host that lost its records meet another one.
func (s *site) again(o *site) {
	s.t.Helper()
	s.hear(o, 1<<20)
	s.rep.Heard()
	meet(s.t, s, o)
	same(s.t, s, o)
}

func (s *site) rmdir(path string) {
	s.t.Helper()
	dir, name := s.at(path)
	check(s.t, s.tree.Rmdir(dir, name))
}

// names lists what has a name, and what it holds.
func (s *site) names() string {
	s.t.Helper()
	var b strings.Builder
	s.walk(sharefs.RootIno, "", func(path string, a sharefs.Attr) {
		if a.IsRegular() {
			fmt.Fprintf(&b, "%s: %s\n", path, s.read(a.Ino))
		}
	})
	return b.String()
}

// lately does things of which nobody is told.
func lately(s *site) {
	s.rename("renamed", "new name")
	s.unlink("removed")
	s.write("changed", "second changed")
	s.settle()
	s.write("saved.tmp", "third saved")
	s.settle()
	s.rename("saved.tmp", "saved")
	s.write("twice", "third twice")
	s.rename("over", "below")
	s.rename("dir", "other dir")
	s.rename("tree/one", "tree/two")
	s.mkdir("made")
	s.rename("moved", "made/moved")
	s.unlink("gone/file")
	s.rmdir("gone")
	s.rename("a", "x")
	s.rename("b", "a")
	s.rename("x", "b")
	s.link("linked", "another link")
	s.unlink("linked")
	s.write("late", "first late")
	s.settle()
}

// What a host did last, and nobody knows of, is so everywhere when it lost its records and meets another one again.
func TestWhatNobodyWasToldOfIsNotUndone(t *testing.T) {
	all := sites(t, 2)
	a, b := all[0], all[1]
	for _, dir := range []string{"dir", "tree", "gone"} {
		a.mkdir(dir)
	}
	for _, name := range []string{"kept", "renamed", "removed", "changed", "saved", "twice", "over", "below", "dir/file", "tree/one", "moved", "gone/file", "a", "b", "linked"} {
		a.write(name, "first "+name)
	}
	a.settle()
	meet(t, all...)
	a.write("twice.tmp", "second twice")
	a.settle()
	a.rename("twice.tmp", "twice")
	meet(t, all...)
	a.passes()
	lately(a)
	a.tell()
	want := a.shows()
	a.loses()
	a.again(b)
	if got := a.shows(); got != want {
		t.Errorf("there is\n%s\nand there was\n%s", got, want)
	}
	if list, err := a.rep.Conflicts("", 9); err != nil || len(list) > 0 {
		t.Errorf("%v, %v", list, err)
	}
}

// All is as it would be if nothing had been lost where another one did something too: the later of two renames counts, and what was removed stays removed unless the other one changed it.
func TestWhatNobodyWasToldOfMeetsWhatCameLater(t *testing.T) {
	shows := func(loses bool) string {
		all := sites(t, 2)
		a, b := all[0], all[1]
		for _, name := range []string{"kept", "renamed first", "renamed later", "removed by a", "removed by b", "removed and changed", "changed", "in b"} {
			a.write(name, "first "+name)
		}
		a.settle()
		meet(t, all...)
		b.rename("renamed first", "by b first")
		b.unlink("removed by b")
		b.tell()
		a.passes()
		a.rename("renamed first", "by a last")
		a.rename("renamed later", "by a first")
		a.unlink("removed by a")
		a.unlink("removed and changed")
		a.write("changed", "second, by a")
		a.settle()
		a.tell()
		b.rename("renamed later", "by b last")
		b.write("removed and changed", "second, by b")
		b.rename("in b", "moved by b")
		b.settle()
		b.tell()
		if loses {
			a.loses()
			a.again(b)
		} else {
			meet(t, all...)
			same(t, all...)
		}
		return a.names()
	}
	if with, without := shows(false), shows(true); with != without {
		t.Errorf("without its records there is\n%s\nand with them\n%s", without, with)
	}
}

// A host that knows less than all others brings nothing back.
func TestAnOldTreeUndoesNothing(t *testing.T) {
	all := sites(t, 2)
	a, b := all[0], all[1]
	for _, name := range []string{"kept", "renamed", "removed", "changed", "back"} {
		a.write(name, "first "+name)
	}
	a.settle()
	meet(t, all...)
	a.rename("back", "forth")
	a.tell()
	meet(t, all...)
	b.rename("forth", "back")
	b.rename("renamed", "new name")
	b.unlink("removed")
	b.write("changed", "second changed")
	b.write("late", "first late")
	b.settle()
	b.tell()
	want := b.shows()
	a.loses()
	a.again(b)
	if got := a.shows(); got != want {
		t.Errorf("there is\n%s\nand there was\n%s", got, want)
	}
}
