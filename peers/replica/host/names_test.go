package host

import (
	"strings"
	"testing"

	"sharefs"
	"sharefs/integration/race"
	"sharefs/peers/replica"
)

// link gives a file one more name.
func (s *site) link(from, to string) {
	s.t.Helper()
	dir, name := s.at(to)
	_, err := s.tree.Link(s.find(from), dir, name)
	check(s.t, err)
	s.tree.Forget(s.find(to), 1)
}

// writeAndTell writes to a file and has the host tell of it.
func (s *site) writeAndTell(path, content string) {
	s.t.Helper()
	s.write(path, content)
	s.settle()
	s.tell()
}

// Whoever takes the last name of a file away, in whatever way, speaks for all names that he knows to be removed: none of them comes back with what was written to the file since.
func TestRemovedNamesStayRemoved(t *testing.T) {
	removals := func(last int, kept string) func(t *testing.T, a, b *site) {
		return func(t *testing.T, a, b *site) {
			a.writeAndTell("x", "first")
			a.link("x", "y")
			meet(t, a, b)
			a.unlink("x")
			a.unlink("y") // at once, so one of the removals has seen the other
			a.tell()
			b.rename(kept, "kept")
			b.write("kept", "second")
			meet(t, a, b)
			if got := a.read(a.find("kept")); got != "second" {
				t.Fatalf("kept holds %q", got)
			}
			[]*site{a, b}[last].unlink("kept")
		}
	}
	for name, c := range map[string]struct {
		standing replica.Standing // of b, with a
		do       func(t *testing.T, a, b *site)
		left     string
	}{
		"removed again by who did, the first name":  {replica.Merged, removals(0, "x"), ""},
		"removed again by who did, the second name": {replica.Merged, removals(0, "y"), ""},
		"removed by who kept it, the first name":    {replica.Merged, removals(1, "x"), ""},
		"removed by who kept it, the second name":   {replica.Merged, removals(1, "y"), ""},
		"in a conflict that ends for the other file": {replica.Merged, func(t *testing.T, a, b *site) {
			b.writeAndTell("x", "first")
			b.link("x", "y")
			meet(t, a, b)
			a.unlink("x")
			meet(t, a, b)
			b.write("y", "second")
			b.rename("y", "both")
			for _, text := range []string{"one", "two", "three"} {
				a.writeAndTell("both", text)
			}
			meet(t, a, b)
			list := a.conflicts()
			if len(list) != 1 || list[0].Path != "both" || a.read(a.find("both")) != "three" {
				t.Fatalf("%+v\n%s", list, a.shows())
			}
			check(t, a.rep.Resolve(nil, "both", list[0].Live.ID()))
		}, "both"},
		"in a purge of who gave it another name": {replica.Merged, func(t *testing.T, a, b *site) {
			a.writeAndTell("x", "first")
			meet(t, a, b)
			b.link("x", "y")
			meet(t, a, b)
			a.unlink("x")
			meet(t, a, b)
			b.write("y", "second")
			meet(t, a, b)
			_, err := a.rep.Purge(nil, b.self, false)
			check(t, err)
		}, ""},
		"where a file that is proposed becomes a part of another one": {replica.Proposed, func(t *testing.T, a, b *site) {
			b.writeAndTell("x", "first")
			b.link("x", "both")
			b.tell()
			b.unlink("x")
			b.tell()
			b.writeAndTell("both", "second")
			a.writeAndTell("both", "of a")
			meet(t, a, b)
			if taken, left := a.accept(b, all); len(taken) != 1 || len(left) > 0 {
				t.Fatalf("%s, %+v", tells(taken), left)
			}
		}, "both"},
	} {
		t.Run(name, func(t *testing.T) {
			two := sites(t, 2)
			a, b := two[0], two[1]
			a.standing = func(sharefs.PeerID) replica.Standing { return c.standing }
			a.reopen()
			c.do(t, a, b)
			meet(t, a, b)
			same(t, a, b)
			noConflicts(t, a, b)
			for _, s := range two {
				if _, _, left := s.paths(); strings.Join(left, " ") != c.left {
					t.Errorf("on %s there is\n%s", s.self.Short(), s.shows())
				}
			}
		})
	}
}

// What somebody removes or renames in the moment in which it was given a name for another host is removed, or has the other name, for all.
func TestNamesThatGoAtOnce(t *testing.T) {
	race.Leave(t, race.Enough)
	for kind, do := range map[string]func(a *site){
		"a file":         func(a *site) { a.write("new", "of a") },
		"an empty file":  func(a *site) { a.write("new", "") },
		"a directory":    func(a *site) { a.mkdir("new") },
		"a symlink":      func(a *site) { check(a.t, ignore(a.tree.Symlink(sharefs.RootIno, "new", "where", root))) },
		"a further name": func(a *site) { a.link("old", "new") },
		"a rename":       func(a *site) { a.rename("old", "new") },
	} {
		for _, what := range []string{"removed", "renamed", "removed, and something else has the name"} {
			t.Run(kind+", "+what, func(t *testing.T) {
				all := sites(t, 2)
				a, b := all[0], all[1]
				a.write("old", "text")
				meet(t, all...)
				do(a)
				a.settle()
				a.tell()
				b.named = func(name string) {
					if name != "new" {
						return
					}
					b.named = nil
					switch {
					case what == "renamed":
						b.rename("new", "other")
					case kind == "a directory":
						check(t, b.tree.Rmdir(sharefs.RootIno, "new"))
					default:
						b.unlink("new")
					}
					if what != "removed" && what != "renamed" {
						b.write("new", "of b")
					}
				}
				b.hear(a, 1<<20)
				if check(t, must2(b.apply())); b.named != nil {
					t.Fatal("nothing was given the name")
				}
				check(t, must2(b.apply())) // before the author comes
				meet(t, all...)
				same(t, all...)
				for _, s := range all {
					s.right()
					if got := s.find("new"); (got != 0) != (what == "removed, and something else has the name") || got != 0 && s.read(got) != "of b" {
						t.Errorf("what was %s is there again:\n%s", what, s.shows())
					}
					if what == "renamed" && s.find("other") == 0 {
						t.Errorf("what was renamed is nowhere:\n%s", s.shows())
					}
				}
			})
		}
	}
}
