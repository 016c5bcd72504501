package host

import (
	"fmt"
	"strings"
	"testing"

	"sharefs/integration/race"
)

// What somebody else made lately is removed, and no part of a save, though something holds the same from then on: it counts as any removal.
func TestRemovalOfWhatOthersMadeIsNoSave(t *testing.T) {
	all := guarded(t, 3, 2)
	a, b, c := all[0], all[1], all[2]
	c.write("mine", "before")
	for i := range 30 {
		a.write(fmt.Sprintf("g%02d", i), "the same")
	}
	meet(t, all...)
	nextMilli() // records tell no finer time
	c.write("mine", "the same")
	for i := range 30 {
		c.unlink(fmt.Sprintf("g%02d", i))
	}
	meet(t, all...)
	if h := b.holds(); h.Author != c.self || h.Removals != 20 || h.Before != 10 {
		t.Errorf("%d of 33 files are here, and held is %+v", b.count(), h)
	}
}

// Names that went round among files before it was too much come back to those that had them, be it by one other name or by several, and so do those of directories.
func TestNamesThatWentRoundComeBack(t *testing.T) {
	race.Leave(t, race.Enough)
	for _, way := range []string{"told apart", "told apart, heard at once", "told at once"} {
		t.Run(way, func(t *testing.T) {
			all := guarded(t, 3, 40)
			a, b := all[0], all[1]
			a.mkdir("d")
			a.write("d/in", "in a directory")
			a.mkdir("e")
			meet(t, all...)
			nextMilli() // records tell no finer time
			before := b.shows()
			rename := func(from, to string) {
				a.rename(from, to)
				switch way {
				case "told apart":
					meet(t, all...)
				case "told apart, heard at once":
					a.settle()
					a.tell()
				}
			}
			for _, names := range [][]string{{"f00", "f01"}, {"f02", "f03", "f04"}, {"d", "e"}} {
				rename(names[0], "aside")
				for i := range len(names) - 1 {
					rename(names[i+1], names[i])
				}
				rename("aside", names[len(names)-1])
			}
			meet(t, all...)
			same(t, all...)
			if b.shows() == before || b.holds().Renames > 0 {
				t.Fatalf("nothing went round: %+v\n%s", b.holds(), b.shows())
			}
			a.removeAll(5, 38)
			meet(t, all...)
			if b.holds().Removals == 0 {
				t.Fatal("nothing is held")
			}
			b.reopen()
			_, err := b.rep.RejectHeld(nil, a.self)
			check(t, err)
			meet(t, all...)
			same(t, all...)
			if after := b.shows(); after != before {
				t.Errorf("%s\nagainst\n%s", after, before)
			}
		})
	}
}

// Who rejects what another host renamed in bulk puts it back there too, though that host bounds what others rename; what it did not do itself is held there as ever.
func TestWhatIsRejectedIsNotHeldAgain(t *testing.T) {
	for _, times := range []int{1, 2} {
		t.Run(fmt.Sprint(times), func(t *testing.T) {
			all := guarded(t, 2, 30)
			a, b := all[0], all[1]
			for i := range 15 {
				a.mkdir(fmt.Sprintf("d%02d", i))
			}
			meet(t, all...)
			nextMilli() // records tell no finer time
			before := a.shows()
			a.bulk = tenAtMost
			a.reopen()
			for n := range times {
				for i := range 45 {
					name := fmt.Sprintf("f%02d", i)
					if i >= 30 {
						name = fmt.Sprintf("d%02d", i-30)
					}
					a.rename(name+strings.Repeat("+", n), name+strings.Repeat("+", n+1))
				}
				a.settle()
				a.tell()
			}
			meet(t, all...)
			if h := b.holds(); h.Renames < 35 || h.Before != 10 {
				t.Fatalf("%+v", h)
			}
			_, err := b.rep.RejectHeld(nil, a.self)
			check(t, err)
			meet(t, all...)
			same(t, all...)
			if after := a.shows(); after != before || a.holds().Renames > 0 {
				t.Errorf("%+v\n%s\nagainst\n%s", a.holds(), after, before)
			}
			for i := range 30 {
				b.rename(fmt.Sprintf("f%02d", i), fmt.Sprintf("g%02d", i))
			}
			meet(t, all...)
			if h := a.holds(); h.Renames != 20 || h.Before != 10 {
				t.Errorf("of what is renamed anew %+v is held", h)
			}
		})
	}
}
