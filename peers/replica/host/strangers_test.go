package host

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"sharefs"
	"sharefs/integration/race"
	"sharefs/peers/record"
	"sharefs/peers/replica"
)

// strangers returns three hosts: a counts everywhere; b and c know nothing of each other.
func strangers(t *testing.T, seed ...uint64) (a, b, c *site) {
	t.Helper()
	all := sites(t, 3, seed...)
	a, b, c = all[0], all[1], all[2]
	but := func(s, o *site) {
		s.standing = func(author sharefs.PeerID) replica.Standing {
			if author == o.self {
				return replica.PassedOver
			}
			return replica.Merged
		}
		s.reopen()
	}
	but(b, c)
	but(c, b)
	return a, b, c
}

// What a host writes about files of another is whole where only the first one counts: content, name, attributes, the directories above it; without a conflict where all count.
func TestWhatLeansOnAStranger(t *testing.T) {
	a, b, c := strangers(t)
	all := []*site{a, b, c}
	b.mkdir("d")
	b.mkdir("d/e")
	b.write("d/e/f", "by b")
	b.write("d/e/g", "by b")
	b.write("left", "by b alone")
	meet(t, all...)
	if got := c.shows(); got != "" {
		t.Fatalf("c has\n%s", got)
	}
	a.write("d/e/f", "a goes on")
	a.rename("d/e/g", "d/h")
	meet(t, all...)
	is := func(s *site, path, want string) {
		t.Helper()
		if ino := s.find(path); ino == 0 || s.read(ino) != want {
			t.Fatalf("%s is not %q:\n%s", path, want, s.shows())
		}
	}
	is(c, "d/e/f", "a goes on")
	is(c, "d/h", "by b")
	if c.find("left") != 0 || c.find("d/e/g") != 0 {
		t.Fatal(c.shows())
	}
	// Back and forth, with versions between that not all know.
	b.write("d/e/f", "b again")
	meet(t, all...)
	is(c, "d/e/f", "a goes on")
	a.write("d/e/f", "a again")
	meet(t, all...)
	is(c, "d/e/f", "a again")
	c.write("d/e/f", "c at last")
	meet(t, all...)
	is(a, "d/e/f", "c at last")
	is(b, "d/e/f", "a again")
	a.write("d/e/f", "and a")
	meet(t, all...)
	for _, s := range all {
		is(s, "d/e/f", "and a")
	}
	noConflicts(t, all...)
	// A removal by one who knows all is one for all.
	a.unlink("d/e/f")
	meet(t, all...)
	for _, s := range all {
		if s.find("d/e/f") != 0 {
			t.Fatalf("it is not removed:\n%s", s.shows())
		}
	}
	// A rename while another host writes is no conflict: what is told is as old as it was.
	a.rename("left", "right")
	b.write("left", "b writes meanwhile")
	meet(t, all...)
	is(b, "right", "b writes meanwhile")
	is(a, "right", "b writes meanwhile")
	is(c, "right", "by b alone")
	if list := slices.Concat(a.conflicts(), b.conflicts(), c.conflicts()); len(list) > 0 {
		t.Fatalf("conflicts: %v", list)
	}
	// When they come to know each other, what was told is what was said, and the trees are one.
	knows := func(sharefs.PeerID) replica.Standing { return replica.Merged }
	for _, s := range []*site{b, c} {
		s.standing = knows
		s.reopen()
		check(t, s.rep.Reconsider())
	}
	meet(t, all...)
	for range 2 {
		for _, s := range all {
			if s.shows() != a.shows() || len(s.conflicts()) > 0 {
				t.Fatalf("trees differ:\n%s\n%s", s.shows(), a.shows())
			}
			for _, rec := range s.records() {
				if rec.Verify() != nil && rec.Author != s.self && !s.batched(rec.ID()) {
					t.Errorf("a record without a signature is kept")
				}
			}
			s.right()
			s.reopen()
		}
	}
}

func (s *site) batched(id record.ID) bool {
	return slices.ContainsFunc(s.log(), func(i replica.Item) bool { return i.Batch != nil && slices.Contains(i.Batch.Records, id) })
}

// Who resolves a conflict keeps the file for hosts that know him alone, whichever side he takes.
func TestResolvingBesideAStranger(t *testing.T) {
	for i := range 2 {
		a, b, c := strangers(t)
		a.write("f", "by a")
		b.write("f", "by b")
		meet(t, a, b, c)
		list := a.conflicts()
		if len(list) != 1 || c.read(c.find("f")) != "by a" {
			t.Fatalf("%v\n%s", list, c.shows())
		}
		sides := []record.ID{list[0].Live.ID(), list[0].Others[0].Version.ID()}
		text := "by a"
		if rec, err := a.rep.Version(sides[i]); err != nil || rec.Author == b.self {
			text = "by b"
		}
		check(t, a.rep.Resolve(nil, "f", sides[i], sides...))
		meet(t, a, b, c)
		for _, s := range []*site{a, b, c} {
			if ino := s.find("f"); ino == 0 || s.read(ino) != text || len(s.conflicts()) > 0 {
				t.Fatalf("it is not %q: %s %v", text, s.shows(), s.conflicts())
			}
		}
	}
}

// A host that comes to trust somebody less has what others write upon that.
func TestWhatComesUponWhatIsLeftOut(t *testing.T) {
	all := sites(t, 3)
	a, b, c := all[0], all[1], all[2]
	b.write("f", "1")
	b.write("g", "1")
	meet(t, all...)
	a.standing = func(author sharefs.PeerID) replica.Standing {
		if author == b.self {
			return replica.PassedOver
		}
		return replica.Merged
	}
	a.reopen()
	b.write("f", "2")
	b.write("n", "new")
	meet(t, all...)
	c.write("f", "3")
	c.write("n", "newer")
	meet(t, all...)
	for _, s := range all {
		if s.read(s.find("f")) != "3" || s.read(s.find("n")) != "newer" || len(s.conflicts()) > 0 {
			t.Fatalf("%s %v", s.shows(), s.conflicts())
		}
	}
}

// However hosts work that know each other in part, each has what the specification makes of what counts for it, and when they all count everywhere, one tree.
func TestStrangersAtRandom(t *testing.T) {
	race.Leave(t, race.OneHand)
	for seed := range uint64(3) {
		rnd := rand.New(rand.NewPCG(seed, 77))
		a, b, c := strangers(t, seed)
		all := []*site{a, b, c}
		n := 0
		var log []string
		for range 6 {
			for range 15 {
				i := rnd.IntN(3)
				log = append(log, fmt.Sprintf("%d: %s", i, all[i].work(rnd, &n)))
				if rnd.IntN(4) == 0 {
					all[i].tryTell(rnd)
				}
			}
			for _, s := range all {
				for len(s.open) > 0 {
					s.shut(rnd)
				}
			}
			meet(t, a, b, c)
			for _, s := range all {
				s.right()
			}
		}
		for _, s := range all {
			s.standing = func(sharefs.PeerID) replica.Standing { return replica.Merged }
			s.reopen()
			check(t, s.rep.Reconsider())
		}
		meet(t, all...)
		for _, s := range all {
			s.right()
			if s.shows() != a.shows() {
				t.Fatalf("seed %d: trees differ:\n%s\n%s\n%s", seed, s.shows(), a.shows(), strings.Join(log, "\n"))
			}
		}
	}
}

// What was taken of somebody before he was shut out counts as it did, so it is not left out when it comes again by another; what he wrote later is.
func TestWhatWasTakenIsNotLeftOut(t *testing.T) {
	all := sites(t, 3)
	a, b, c := all[0], all[1], all[2]
	a.write("f", "by a")
	meet(t, b, a)
	b.standing = func(author sharefs.PeerID) replica.Standing {
		if author == a.self {
			return replica.PassedOver
		}
		return replica.Merged
	}
	b.reopen()
	meet(t, c, a)
	leftOut := func() (n uint64) {
		t.Helper()
		meet(t, b, c)
		list, err := b.rep.PassedOver()
		check(t, err)
		for _, p := range list {
			n += p.Records
		}
		return n
	}
	if n := leftOut(); n != 0 {
		t.Errorf("%d records that are here are left out", n)
	}
	a.write("f", "by a again")
	meet(t, c, a)
	if n := leftOut(); n == 0 {
		t.Error("nothing is left out")
	}
	if b.read(b.find("f")) != "by a" {
		t.Error(b.shows())
	}
}
