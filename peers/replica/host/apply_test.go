package host

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"sharefs"
	"sharefs/peers/record"
	"sharefs/peers/replica"
)

// While contents are made ready nothing else waits, and whatever happens meanwhile is done right.
func TestNothingWaitsForContents(t *testing.T) {
	for name, c := range map[string]func(t *testing.T, a, b *site){
		"nothing": func(*testing.T, *site, *site) {},
		"more comes": func(t *testing.T, a, b *site) {
			a.write("d", "more")
			a.write("a", "newer of a")
			a.settle()
			a.tell()
			b.hear(a, 1<<20)
		},
		"it goes": func(t *testing.T, a, b *site) {
			if a.find("b") != 0 {
				a.unlink("a")
				a.rename("b", "e")
			}
			a.tell()
			b.hear(a, 1<<20)
		},
		"somebody writes": func(t *testing.T, a, b *site) {
			b.write("a", "mine")
			b.settle()
			b.tell()
			if b.find("b") != 0 {
				b.unlink("b")
				b.tell()
			}
		},
		"a directory is in the way": func(t *testing.T, a, b *site) {
			if b.find("a") == 0 {
				b.mkdir("a")
			}
		},
		"somebody reads the log": func(t *testing.T, a, b *site) {
			items, _, err := b.rep.Since(0, 1<<20)
			check(t, err)
			if len(items) == 0 {
				t.Error("there is nothing")
			}
			if v, err := b.rep.Version(items[0].Records[len(items[0].Records)-1].ID()); err != nil {
				t.Error(v, err)
			}
			_, err = b.rep.Wanted(10, nil)
			check(t, err)
		},
		"the database fails": func(t *testing.T, a, b *site) {
			b.write("e", "of b")
			b.settle()
			b.store.fail = true
			if _, err := b.rep.Author(); !errors.Is(err, errDisk) {
				t.Error(err)
			}
			b.store.fail = false
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := filled(t, 2)
			a, b := all[0], all[1]
			happened := 0
			b.staging = func() {
				if happened++; happened <= 2 {
					c(t, a, b)
				}
			}
			b.hear(a, 1<<20)
			check(t, must2(b.apply()))
			b.staging = nil
			check(t, must2(b.apply()))
			if happened == 0 {
				t.Error("no content was made ready")
			}
			a.write("a", "of a, again")
			b.write("c", "of b")
			b.staging = func() { c(t, a, b) }
			for _, s := range all {
				s.settle()
				s.tell()
			}
			b.hear(a, 1<<20)
			check(t, must2(b.apply()))
			b.staging = nil
			meet(t, all...)
			same(t, all...)
			for _, s := range all {
				s.right()
			}
		})
	}
}

// Many contents are made ready a part at a time, each once, and those that are not here keep no other back.
func TestManyContentsInParts(t *testing.T) {
	all := sites(t, 2)
	a, b := all[0], all[1]
	for i := range 300 {
		a.write(fmt.Sprint(i), fmt.Sprint("content ", i))
	}
	a.settle()
	a.tell()
	b.hear(a, 1<<20)
	list, err := b.rep.Wanted(1<<20, nil)
	check(t, err)
	l, errs, err := b.tree.Gather(Contents(list[:280]), b)
	check(t, err)
	for _, err := range errs {
		check(t, err)
	}
	parts := 0
	b.staging = func() { parts++ }
	n, err := b.rep.Apply()
	l.End()
	if n != len(list)-280 || err != nil || parts != 2 {
		t.Errorf("%d of %d wait after %d parts: %v", n, len(list), parts, err)
	}
	// Something comes between any two parts: what is ready then is used, and who comes has the rest looked at again.
	b.staging = func() {
		parts++
		a.write("more", fmt.Sprint(parts))
		a.settle()
		a.tell()
		b.hear(a, 1<<20)
	}
	for round := 0; n > 0 && round < 10; round++ {
		n, err = b.apply()
		check(t, err)
	}
	b.staging = nil
	if n > 1 {
		t.Errorf("%d wait", n)
	}
	meet(t, all...)
	same(t, all...)
}

// Somebody moves something, and the author is cut off before it is known where it went: all else goes on, and what hangs on that waits.
func TestOneNameThatIsAwayHoldsUpNothingElse(t *testing.T) {
	for name, c := range map[string]struct {
		fill  func(a *site)
		news  func(a *site) // of what hangs on d
		stays []string      // on b; D is the new name of d
	}{
		"a file": {fill: func(a *site) { a.write("d", "of d") }, news: func(a *site) { a.write("d", "more of d") }, stays: []string{"D"}},
		"a file that goes elsewhere": {fill: func(a *site) { a.write("d", "of d"); a.write("x", "of x") }, stays: []string{"D", "x"}, news: func(a *site) {
			a.reopen()         // it was not made to save that
			a.rename("d", "x") // over another one
		}},
		"a directory": {fill: func(a *site) { a.mkdir("d"); a.mkdir("d/s"); a.write("d/s/f", "of f") }, stays: []string{"D/s/f"}, news: func(a *site) {
			a.mkdir("d/t")
			a.write("d/t/g", "of g")
			a.write("h", "of h")
			a.settle()
			a.rename("h", "d/h")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := sites(t, 2)
			a, b := all[0], all[1]
			c.fill(a)
			a.mkdir("old")
			a.write("old/f", "old")
			meet(t, all...)
			to := b.renameHalfTold("d")
			before := map[string]string{}
			for _, path := range c.stays {
				path = strings.Replace(path, "D", to, 1)
				before[path] = b.read(b.find(path))
			}
			b.listing = func(int) int { return 0 }
			c.news(a)
			a.write("new", "of a")
			a.unlink("old/f")
			check(t, a.tree.Rmdir(sharefs.RootIno, "old"))
			a.settle()
			a.tell()
			b.hear(a, 1<<20)
			for range 2 {
				if n, err := b.apply(); n == 0 || err != nil {
					t.Errorf("%d names wait: %v", n, err)
				}
			}
			if b.find("new") == 0 || b.find("old") != 0 || b.find("d") != 0 {
				t.Errorf("there is\n%s", b.shows())
			}
			for path, want := range before {
				if ino := b.find(path); ino == 0 || b.read(ino) != want {
					t.Errorf("%s is not as it was:\n%s", path, b.shows())
				}
			}
			b.listing = nil
			meet(t, all...)
			same(t, all...)
			if b.away() {
				t.Error("it is away still")
			}
			for _, s := range all {
				s.right()
			}
		})
	}
}

// What cannot be told of one content keeps no other from being fetched.
func TestOneContentThatCannotBeLookedAt(t *testing.T) {
	all := filled(t, 2)
	a, b := all[0], all[1]
	b.hear(a, 1<<20)
	list, err := b.rep.Wanted(10, nil)
	check(t, err)
	b.damaged = list[0].Body.(*record.Version).Content()
	rest, err := b.rep.Wanted(10, nil)
	if len(rest) != 2 || !errors.Is(err, sharefs.KindCorrupt) {
		t.Errorf("%d are wanted: %v", len(rest), err)
	}
	l, _, err := b.tree.Gather(Contents(rest), b)
	check(t, err)
	defer l.End()
	if n, err := b.rep.Apply(); n != 1 || err != nil {
		t.Errorf("%d wait: %v", n, err)
	}
}

// A large tree is told of in parts, while the rest of it is still looked at, and nothing else waits for that.
func TestTheFirstWalkIsToldInParts(t *testing.T) {
	all := sites(t, 2)
	a, b := all[0], all[1]
	for i := range 1100 {
		a.mkdir(fmt.Sprint(i))
	}
	var heard []int
	a.wrote = func() {
		walking, err := a.rep.Walking()
		check(t, err)
		b.hear(a, 1<<20)
		heard = append(heard, len(b.records()))
		if len(heard) == 1 {
			if !walking {
				t.Error("it is done before its end")
			}
			a.mkdir("new") // what changes meanwhile is told as well
		}
	}
	a.tell()
	a.wrote = nil
	if len(heard) < 2 || heard[0] == 0 || heard[0] >= heard[len(heard)-1] {
		t.Errorf("%d", heard)
	}
	if walking, err := a.rep.Walking(); walking || err != nil {
		t.Error("it is not done", err)
	}
	meet(t, all...)
	same(t, all...)
	if b.find("new") == 0 {
		t.Error("what was new is missing")
	}
}

// What is in a new directory of which it is still to be told where it is stays where it is, whatever else is done meanwhile, and over a start.
func TestWhatIsToldBeforeItsDirectoryStays(t *testing.T) {
	for _, starts := range []bool{false, true} {
		t.Run(fmt.Sprint("over a start: ", starts), func(t *testing.T) {
			all := filled(t, 2)
			a, b := all[0], all[1]
			meet(t, all...)
			a.mkdir("low") // whose marks come before those of what it is put into
			a.mkdir("low/below")
			a.write("low/f", "content")
			a.write("low/below/g", "content")
			a.mkdir("high")
			a.rename("low", "high/low")
			a.settle()
			paths := []string{"high/low", "high/low/f", "high/low/below", "high/low/below/g"}
			var before []sharefs.Ino
			for _, path := range paths {
				before = append(before, a.find(path))
			}
			look := func() {
				if _, err := a.rep.Apply(); err != nil {
					t.Fatal(err)
				}
				for i, path := range paths {
					if ino := a.find(path); ino != before[i] {
						t.Fatalf("%s was inode %d and is %d", path, before[i], ino)
					}
				}
			}
			parts := 0
			a.listing = func(int) int { return 1 }
			a.wrote = func() {
				parts++
				look()
				if starts && parts == 1 {
					a.listing = func(int) int { return 0 } // it ends here
				}
			}
			a.tell()
			if starts {
				a.wrote, a.listing = nil, nil
				a.reopen()
				look()
			} else if parts < 4 {
				t.Errorf("told in %d parts", parts)
			}
			a.wrote, a.listing = nil, nil
			meet(t, all...)
			same(t, all...)
			look()
			b.right()
			if got := b.read(b.find("high/low/below/g")); got != "content" {
				t.Errorf("%q", got)
			}
		})
	}
}

// away reports whether a name is gone of which nobody knows yet where it went.
func (s *site) away() (some bool) {
	s.t.Helper()
	check(s.t, s.store.Scan(uint8(slices.Index(replica.Spaces, "loose")+1), nil, nil, func(_, _ []byte) bool { some = true; return false }))
	return some
}

// renameHalfTold renames something of which others know, and has it written down that the old name is gone, and not yet what the new one is: as where others get a turn between two parts of what
// changed. It returns the new name.
func (s *site) renameHalfTold(name string) string {
	s.t.Helper()
	s.listing = func(int) int { // one mark at a time, and none once the name is away
		if s.away() {
			return 0
		}
		return 1
	}
	defer func() { s.listing = nil }()
	for i := range 20 { // until the old name comes before the new one in the order of marks
		from := name
		name = fmt.Sprint("moved", i)
		s.rename(from, name)
		if _, err := s.rep.Author(); err != nil {
			s.t.Fatal(err)
		}
		if s.away() {
			return name
		}
	}
	s.t.Fatal("nothing is away")
	return ""
}
