package host

import (
	"errors"
	"testing"

	"sharefs"
	"sharefs/peers/record"
	"sharefs/peers/replica"
)

func (s *site) conflicts() []replica.Conflict {
	s.t.Helper()
	list, err := s.rep.Conflicts("", 100)
	check(s.t, err)
	return list
}

// noConflicts holds that nothing is in conflict on any host.
func noConflicts(t testing.TB, all ...*site) {
	t.Helper()
	for _, s := range all {
		if list := s.conflicts(); len(list) > 0 {
			t.Errorf("%s: %+v\n%s", s.self.Short(), list, s.shows())
		}
	}
}

func (s *site) bases(c *replica.Conflict) [][]*record.Record {
	s.t.Helper()
	list, err := s.rep.Bases(c)
	check(s.t, err)
	return list
}

func TestConflicts(t *testing.T) {
	all := sites(t, 2)
	a, b := all[0], all[1]
	a.mkdir("d")
	a.write("d/f", "before")
	meet(t, all...)
	a.write("d/f", "of a")
	b.write("d/f", "of b")
	a.write("new", "of a too") // two files of one name
	b.write("new", "of b too")
	meet(t, all...)
	same(t, all...)
	for _, s := range all {
		list := s.conflicts()
		if len(list) != 2 || list[0].Path != "d/f" || list[1].Path != "new" {
			t.Fatalf("%+v", list)
		}
		for _, c := range list {
			if c.Live == nil || len(c.Others) != 1 || c.Others[0].Version == nil || c.Live.Author == c.Others[0].Version.Author {
				t.Errorf("%+v", c)
			}
		}
		for _, c := range list {
			if one, ok, err := s.rep.ConflictAt(c.Path); !ok || err != nil || one.Live != c.Live || len(one.Others) != 1 || one.Others[0].Version != c.Others[0].Version {
				t.Errorf("%+v %v %v", one, ok, err)
			}
		}
		for _, path := range []string{"d", "d/x", "", "x/y"} {
			if one, ok, err := s.rep.ConflictAt(path); ok || err != nil {
				t.Errorf("%s: %+v %v", path, one, err)
			}
		}
		if path, ok, err := s.rep.PathOf(s.find("d"), "any"); path != "d/any" || !ok || err != nil {
			t.Errorf("%q %v %v", path, ok, err)
		}
		if few, err := s.rep.Conflicts("d/f", 1); err != nil || len(few) != 1 || few[0].Path != "new" {
			t.Errorf("%+v %v", few, err)
		}
	}
	for name, c := range map[string]struct {
		path string
		take record.ID
	}{"no conflict": {"d", record.ID{}}, "no such name": {"x/y", record.ID{}}, "no such version": {"d/f", record.ID{1}}} {
		if err := a.rep.Resolve(nil, c.path, c.take); !errors.Is(err, sharefs.KindNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// One is resolved by taking the other version, on the host that has it not live, the other by taking what is live.
	list := a.conflicts()
	want := map[string]string{}
	want["d/f"] = map[sharefs.PeerID]string{a.self: "of a", b.self: "of b"}[list[0].Others[0].Version.Author]
	want["new"] = a.read(a.find("new"))
	d := a.rep.Decision("resolve")
	check(t, a.rep.Resolve(d, "d/f", list[0].Others[0].Version.ID()))
	check(t, b.rep.Resolve(nil, "new", list[1].Live.ID()))
	if n, skipped, one, err := a.rep.Left(d); n != 1 || skipped != 0 || one != "d/f" || err != nil || a.read(a.find("d/f")) == want["d/f"] {
		t.Errorf("nobody put it there yet: %d, %d, %q, %v", n, skipped, one, err)
	}
	meet(t, all...)
	if n, _, one, err := a.rep.Left(d); n != 0 || one != "" || err != nil {
		t.Errorf("it is there: %d, %q, %v", n, one, err)
	}
	same(t, all...)
	noConflicts(t, all...)
	for _, s := range all {
		for path, content := range want {
			if got := s.read(s.find(path)); got != content {
				t.Errorf("%s holds %q, not %q", path, got, content)
			}
		}
		s.right()
	}
}

// Writing to a file in conflict ends it.
func TestWritingResolves(t *testing.T) {
	all := sites(t, 2)
	a, b := all[0], all[1]
	a.write("f", "before")
	meet(t, all...)
	a.write("f", "of a")
	b.write("f", "of b")
	meet(t, all...)
	a.write("f", "of both")
	meet(t, all...)
	same(t, all...)
	if list := b.conflicts(); len(list) != 0 {
		t.Errorf("%+v", list)
	}
	if got := b.read(b.find("f")); got != "of both" {
		t.Errorf("it holds %q", got)
	}
}

// Of versions that went apart it is told from which one, and those that were not looked at stay in conflict.
func TestBasesAndResolvingSome(t *testing.T) {
	all := sites(t, 3)
	a, b, c := all[0], all[1], all[2]
	a.write("f", "the first")
	meet(t, all...)
	b.write("f", "before")
	meet(t, all...)
	a.write("f", "of a")
	b.write("f", "of b")
	meet(t, a, b)
	list := a.conflicts()
	if len(list) != 1 || len(list[0].Others) != 1 {
		t.Fatalf("%+v", list)
	}
	bases := a.bases(&list[0])[0]
	if len(bases) != 2 || bases[0].Author != b.self || bases[1].Author != a.self || bases[1].Body.(*record.Version).Parents != nil {
		t.Errorf("%+v", bases)
	}
	c.write("f", "of c")
	meet(t, all...)
	if got := a.conflicts(); len(got) != 1 || len(got[0].Others) != 2 || len(a.bases(&got[0])[1]) != 2 {
		t.Fatalf("%+v", got)
	}
	check(t, a.rep.Resolve(nil, "f", list[0].Live.ID(), list[0].Live.ID(), list[0].Others[0].Version.ID()))
	meet(t, all...)
	same(t, all...)
	for _, s := range all {
		if got := s.conflicts(); len(got) != 1 || len(got[0].Others) != 1 {
			t.Errorf("%+v", got)
		}
		s.right()
	}
}

// A conflict that stood before a start is ended by writing after it as before.
func TestWritingResolvesAfterAStart(t *testing.T) {
	all := sites(t, 2)
	a, b := all[0], all[1]
	a.write("f", "before")
	meet(t, all...)
	a.write("f", "of a")
	b.write("f", "of b")
	meet(t, all...)
	for _, s := range all {
		s.reopen()
		s.write("f", "by both, on "+s.self.Short())
		meet(t, all...)
		same(t, all...)
		for _, o := range all {
			if list := o.conflicts(); len(list) != 0 {
				t.Fatalf("%+v", list)
			}
		}
		a.write("f", "again of a")
		b.write("f", "again of b")
		meet(t, all...)
	}
}

// What was written or removed before another host's version came replaces that version in no case, however late it is written down.
func TestWhatCouldNotBeSeenStays(t *testing.T) {
	for name, c := range map[string]struct {
		again  bool // the host starts anew in between
		asked  bool // its conflicts are listed
		remove bool
	}{"written": {}, "written, and a start": {again: true}, "written, and listed": {asked: true}, "removed": {remove: true}, "removed, and a start": {again: true, remove: true}} {
		t.Run(name, func(t *testing.T) {
			all := sites(t, 2)
			a, b := all[0], all[1]
			a.write("f", "before")
			meet(t, all...)
			a.write("f", "of a")
			a.settle()
			a.tell()
			for _, content := range []string{"of b", "of b again"} { // which has more changes behind it, and stays live here
				b.write("f", content)
				b.settle()
				b.tell()
			}
			if c.remove {
				b.unlink("f")
			} else {
				b.write("f", "of b at last")
			}
			b.hear(a, 1<<20)
			if _, err := b.apply(); err != nil {
				t.Fatal(err)
			}
			if c.asked {
				if list := b.conflicts(); len(list) != 1 {
					t.Fatalf("%+v", list)
				}
			}
			if c.again {
				b.reopen()
			}
			meet(t, all...)
			same(t, all...)
			if c.remove {
				if list := b.conflicts(); len(list) != 1 || len(list[0].Others) != 1 || list[0].Others[0].Version.Author != a.self {
					t.Errorf("%+v", list)
				}
				return
			}
			for _, s := range all {
				if list := s.conflicts(); len(list) != 1 || len(list[0].Others) != 1 || list[0].Others[0].Version.Author != a.self {
					t.Fatalf("%+v", list)
				}
			}
			// Whoever writes from then on has seen both.
			b.write("f", "of both")
			meet(t, all...)
			same(t, all...)
			noConflicts(t, all...)
		})
	}
}

// A symlink that leads elsewhere, as where a conflict of two was resolved, does so on all hosts.
func TestSymlinkLeadsElsewhere(t *testing.T) {
	all := sites(t, 2)
	a, b := all[0], all[1]
	link := func(s *site, name, target string) {
		a, err := s.tree.Symlink(sharefs.RootIno, name, target, s.as().Owner)
		check(s.t, err)
		s.tree.Forget(a.Ino, 1)
	}
	link(a, "l", "one")
	link(b, "l", "two")
	meet(t, all...)
	list := a.conflicts()
	if len(list) != 1 || len(list[0].Others) != 1 {
		t.Fatalf("%+v", list)
	}
	want := list[0].Others[0].Version
	check(t, a.rep.Resolve(nil, "l", want.ID()))
	meet(t, all...)
	same(t, all...)
	for _, s := range all {
		got, err := s.tree.Readlink(s.find("l"))
		check(t, err)
		if got != want.Body.(*record.Version).Target || len(s.conflicts()) != 0 {
			t.Errorf("it leads to %q; %+v", got, s.conflicts())
		}
		s.right()
		s.reopen()
		s.right()
	}
}
