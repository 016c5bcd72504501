package host

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sharefs"
	"sharefs/integration/race"
	"sharefs/peers/replica"
)

// tenAtMost bounds what anybody may remove of a small tree.
func tenAtMost(sharefs.PeerID) replica.Bulk {
	return replica.Bulk{Files: 10, Percent: 50, Least: 4, Within: 10 * time.Minute}
}

// guarded returns hosts of which the second one has bulk removals of others wait, with some files that both have for long.
func guarded(t *testing.T, hosts, files int) []*site {
	t.Helper()
	all := sites(t, hosts)
	for i := range files {
		all[0].write(fmt.Sprintf("f%02d", i), fmt.Sprint("content ", i))
	}
	meet(t, all...)
	all[1].bulk = tenAtMost
	all[1].reopen()
	return all
}

func (s *site) holds() replica.Hold {
	s.t.Helper()
	list, err := s.rep.Holds(1000)
	check(s.t, err)
	if len(list) > 1 {
		s.t.Fatalf("%d authors are held", len(list))
	}
	return append(list, replica.Hold{})[0]
}

func (s *site) count() int { return strings.Count(s.shows(), "\n") }

func (s *site) removeAll(from, to int) {
	s.t.Helper()
	for i := from; i < to; i++ {
		s.unlink(fmt.Sprintf("f%02d", i))
	}
}

// Of a removal in bulk a part counts, and the rest waits: over restarts, another way, and what is done meanwhile.
func TestBulkRemovalsWait(t *testing.T) {
	for _, accept := range []bool{true, false} {
		t.Run(fmt.Sprint("accept ", accept), func(t *testing.T) {
			all := guarded(t, 3, 30)
			a, b, c := all[0], all[1], all[2]
			before := b.shows()
			a.removeAll(0, 25)
			meet(t, all...)
			if a.count() != 5 || c.count() != 5 || b.count() != 20 {
				t.Fatalf("%d, %d and %d files", a.count(), b.count(), c.count())
			}
			b.reopen()
			for _, o := range []*site{a, c} { // what comes again changes nothing
				items, _, err := o.rep.Since(0, 1<<30)
				check(t, err)
				n, err := b.rep.Take(o.self, travel(t, items))
				check(t, err)
				if n > 0 {
					t.Errorf("%d records come twice", n)
				}
			}
			h := b.holds()
			if h.Author != a.self || h.Removals != 15 || h.Renames != 0 || h.Before != 10 || h.Since.IsZero() || len(h.Names) != 15 {
				t.Fatalf("%+v", h)
			}
			a.write("new", "goes on")
			b.write(h.Names[0].Path, "somebody goes on with what is held")
			meet(t, all...)
			if !strings.Contains(b.shows(), "new ") {
				t.Fatal("what else the peer does waits too")
			}
			if accept {
				n, err := b.rep.AcceptHeld(nil, a.self)
				check(t, err)
				if n != 15 {
					t.Fatalf("%d records", n)
				}
			} else {
				n, err := b.rep.RejectHeld(nil, a.self)
				check(t, err)
				if n != 25 {
					t.Fatalf("%d names are put back", n)
				}
			}
			b.reopen()
			meet(t, all...)
			want := 5 + 1 + 1
			if !accept {
				want = 30 + 1
			}
			for i, s := range all {
				if s.count() != want {
					t.Errorf("host %d has %d files, want %d:\n%s", i, s.count(), want, s.shows())
				}
				if s.shows() != all[0].shows() {
					t.Errorf("trees differ:\n%s\n%s", s.shows(), all[0].shows())
				}
				if h := s.holds(); h.Removals > 0 {
					t.Errorf("host %d holds %+v", i, h)
				}
			}
			if !accept {
				for line := range strings.SplitSeq(strings.TrimSpace(before), "\n") {
					if !strings.HasPrefix(line, h.Names[0].Path) && !strings.Contains(a.shows(), line) {
						t.Errorf("%s has not come back", line)
					}
				}
			}
		})
	}
}

// A rename takes a name away, whether of a file or a directory, which counts once; saving in either way does not.
func TestWhatCountsAsARemoval(t *testing.T) {
	all := guarded(t, 2, 30)
	a, b := all[0], all[1]
	for i := range 30 { // as editors save
		name := fmt.Sprintf("f%02d", i)
		switch i % 3 {
		case 0:
			a.write("tmp", "saved by a rename")
			if i%2 == 0 {
				a.settle()
				a.tell()
			}
			a.rename("tmp", name)
		case 1:
			a.unlink(name)
			a.write(name, "removed and made anew")
		case 2:
			a.rename(name, name+"~")
			a.write(name, "the old one stays beside it for a moment")
			if i%2 == 0 {
				a.settle()
				a.tell()
			}
			a.unlink(name + "~")
		}
	}
	meet(t, all...)
	if h := b.holds(); h.Removals+h.Renames > 0 || a.shows() != b.shows() {
		t.Fatalf("saves are held: %+v\n%s\n%s", h, a.shows(), b.shows())
	}
	a.mkdir("d")
	meet(t, all...)
	for i := range 30 {
		a.rename(fmt.Sprintf("f%02d", i), fmt.Sprintf("d/g%02d", i))
	}
	meet(t, all...)
	h := b.holds()
	if h.Renames != 20 || h.Removals != 0 || h.Names[0].To == "" || !strings.HasPrefix(h.Names[0].To, "d/g") {
		t.Fatalf("%+v", h)
	}
	// A second rename of what is held waits too, and going back ends it.
	at := func(i int) string { return strings.TrimPrefix(h.Names[i].To, "d/") }
	a.rename("d/"+at(0), "elsewhere")
	a.rename("d/"+at(1), h.Names[1].Path)
	a.write("d/"+at(2), "new content")
	meet(t, all...)
	next := b.holds()
	if next.Renames != 19 || next.Names[0].To != "elsewhere" || b.find("elsewhere") != 0 {
		t.Fatalf("%+v", next)
	}
	if got := b.read(b.find(h.Names[2].Path)); got != "new content" {
		t.Fatalf("the file is not written to where it is: %q", got)
	}
	// What gets the name of a file that is held has it go: somebody saved.
	a.write(h.Names[3].Path, "another file")
	meet(t, all...)
	if got := b.read(b.find(h.Names[3].Path)); got != "another file" || b.find("d/"+at(3)) == 0 {
		t.Fatalf("%q", got)
	}
	if n := b.holds().Renames; n != 18 {
		t.Fatalf("%d are held", n)
	}
	if _, err := b.rep.RejectHeld(nil, a.self); err != nil {
		t.Fatal(err)
	}
	meet(t, all...)
	if a.shows() != b.shows() || b.find(h.Names[0].Path) == 0 || len(b.conflicts()) > 0 {
		t.Fatalf("%s\n%s", a.shows(), b.shows())
	}
	if _, err := b.rep.RejectHeld(nil, a.self); err != nil {
		t.Fatal(err)
	}
}

// A file that is saved by another one that is renamed over it loses no name, however long the other one was there before: it is not counted, and not taken back.
func TestWhatIsSavedBeforeAHoldStays(t *testing.T) {
	for _, way := range []string{"told apart", "told at once", "told apart, heard at once"} {
		for _, accept := range []bool{true, false} {
			if accept && way != "told apart" {
				continue
			}
			t.Run(fmt.Sprint(way, ", accept ", accept), func(t *testing.T) {
				all := guarded(t, 2, 30)
				a, b := all[0], all[1]
				a.write("note", "one")
				a.write("other", "three")
				meet(t, all...)
				a.write("note.tmp", "one, two")
				a.write("other.1", "three, four")
				meet(t, all...)
				nextMilli() // records tell no finer time: the file is not new when it is renamed
				a.rename("other.1", "other.2")
				switch way {
				case "told apart":
					meet(t, all...)
				case "told apart, heard at once":
					a.tell()
				}
				a.rename("note.tmp", "note")
				a.rename("other.2", "other")
				switch way {
				case "told apart":
					meet(t, all...)
				case "told apart, heard at once":
					a.tell()
				}
				a.removeAll(0, 25)
				meet(t, all...)
				h := b.holds()
				if h.Removals != 15 || h.Renames != 0 || h.Before != 10 {
					t.Fatalf("%+v", h)
				}
				a.write("note.tmp", "one, two, five")
				meet(t, all...)
				nextMilli()
				a.rename("note.tmp", "note")
				meet(t, all...)
				if h := b.holds(); h.Removals != 15 || h.Renames != 0 || b.read(b.find("note")) != "one, two, five" {
					t.Fatalf("what is saved is held: %+v", h)
				}
				want := 5 + 2
				if accept {
					_, err := b.rep.AcceptHeld(nil, a.self)
					check(t, err)
				} else {
					want = 30 + 2
					n, err := b.rep.RejectHeld(nil, a.self)
					check(t, err)
					if n != 25 {
						t.Errorf("%d names are put back", n)
					}
				}
				meet(t, all...)
				same(t, all...)
				if note, other := b.read(b.find("note")), b.read(b.find("other")); note != "one, two, five" || other != "three, four" || b.count() != want {
					t.Errorf("%q, %q\n%s", note, other, b.shows())
				}
			})
		}
	}
}

// nextMilli waits until the clock shows another millisecond.
func nextMilli() {
	for now := time.Now().UnixMilli(); time.Now().UnixMilli() == now; {
		time.Sleep(time.Millisecond)
	}
}

// A rename of what was here for long over something else takes its name away, and counts. Put back, it gives the name back to what had it, also over a restart.
func TestWhatIsRenamedOverComesBackWithIt(t *testing.T) {
	all := guarded(t, 2, 30)
	a, b := all[0], all[1]
	before := b.shows()
	a.reopen()             // what it made is not made to save something
	a.rename("f00", "f01") // as a move goes wrong whose target is no directory
	meet(t, all...)
	a.rename("f01", "f02")
	meet(t, all...)
	a.rename("f03", "f02")
	meet(t, all...)
	b.reopen()
	a.removeAll(4, 29)
	meet(t, all...)
	if h := b.holds(); h.Before != 10 || h.Removals != 17 {
		t.Fatalf("%+v", h)
	}
	a.rename("f02", "f29")
	meet(t, all...)
	if h := b.holds(); h.Removals != 18 || h.Renames != 1 {
		t.Fatalf("%+v", h)
	}
	_, err := b.rep.RejectHeld(nil, a.self)
	check(t, err)
	meet(t, all...)
	same(t, all...)
	if after := b.shows(); after != before {
		t.Errorf("%s\nagainst\n%s", after, before)
	}
}

// Who reads a log from its beginning misses nothing of what had gone before.
func TestRemovalsOfThePastAreNotHeld(t *testing.T) {
	all := sites(t, 2)
	a, b := all[0], all[1]
	b.bulk = tenAtMost
	b.reopen()
	for i := range 30 {
		a.write(fmt.Sprintf("f%02d", i), fmt.Sprint("content ", i))
		a.settle()
		a.tell()
	}
	a.removeAll(0, 25)
	a.tell()
	for b.hear(a, 1) > 0 {
		_, err := b.apply()
		check(t, err)
	}
	meet(t, all...)
	if h := b.holds(); h.Removals > 0 || b.count() != 5 {
		t.Fatalf("%+v\n%s", h, b.shows())
	}
	nextMilli() // records tell no finer time
	a.removeAll(25, 30)
	meet(t, all...)
	if h := b.holds(); h.Removals != 1 { // four may go in any tree
		t.Fatalf("%+v\n%s", h, b.shows())
	}
}

// Whoever speaks for a file that is held ends the question.
func TestHeldFilesAreDecidedBesides(t *testing.T) {
	all := guarded(t, 2, 20)
	a, b := all[0], all[1]
	a.removeAll(0, 20)
	meet(t, all...)
	h := b.holds()
	b.unlink(h.Names[0].Path)
	b.rename(h.Names[1].Path, "mine")
	meet(t, all...)
	next := b.holds()
	if next.Removals != h.Removals-2 || slices.ContainsFunc(next.Names, func(n replica.HeldName) bool { return n.Path == "mine" }) {
		t.Fatalf("%+v", next)
	}
	if a.find("mine") == 0 {
		t.Fatal("what the owner does with a file that is held is not told")
	}
	if list, err := b.rep.Aside(a.self, replica.Held); err != nil || len(list) != next.Removals {
		t.Fatalf("%d, %v", len(list), err)
	}
}

// However much is held, all comes back that had counted before, and it is told what that is: by the paths that it has then.
func TestAllThatHadCountedComesBack(t *testing.T) {
	race.Leave(t, race.OneHand)
	const files = 1100 // more than are remembered of what is held
	all := guarded(t, 2, files)
	a, b := all[0], all[1]
	a.mkdir("work")
	a.write("work/in", "a directory")
	a.write("work/gone", "a file in it")
	meet(t, all...)
	b.reopen()
	before := b.shows()
	a.rename("work", "projects")
	a.unlink("projects/gone")
	a.tell()
	meet(t, all...)
	a.removeAll(0, files)
	meet(t, all...)
	b.reopen()
	h := b.holds()
	if h.Before != 10 || h.Removals != files-8 || len(h.Counted) != 10 {
		t.Fatalf("%d held, %d had counted, of which %d are told", h.Removals, h.Before, len(h.Counted))
	}
	if dir, gone := h.Counted[8], h.Counted[9]; dir != (replica.HeldName{Path: "work", Dir: true, To: "projects"}) || gone != (replica.HeldName{Path: "work/gone"}) {
		t.Errorf("%+v, %+v", dir, gone)
	}
	n, err := b.rep.RejectHeld(nil, a.self)
	check(t, err)
	if n != files+2 {
		t.Errorf("%d names are put back", n)
	}
	meet(t, all...)
	for _, s := range all {
		if now := s.shows(); now != before {
			t.Errorf("%d files, before %d", s.count(), strings.Count(before, "\n"))
		}
	}
}
