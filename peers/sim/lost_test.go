package sim

import (
	"fmt"
	"testing"

	"sharefs/integration/race"
)

// A host whose records are lost while it is away brings nothing back that others removed, moves nothing back and changes nothing back: all is as it would be with them.
func TestLostRecordsBringNothingBack(t *testing.T) {
	race.Leave(t, race.OneHand)
	seeds, may := uint64(40), 0
	if soak() {
		// Not all that the records said can be told from the tree: which file an inode is that took the place of another one, where the directory around it became one with another one.
		seeds, may = 2000, 20
	}
	for seed := range seeds {
		with, without := away(t, seed, false), away(t, seed, true)
		if with == without {
			continue
		}
		if may--; may < 0 {
			t.Fatalf("seed %d: with the records there is\n%s\nand without them\n%s", seed, with, without)
		}
	}
}

// away has hosts work together, and then without one of them, which may lose its records, and returns what there is when they have met again.
func away(t *testing.T, seed uint64, loses bool) (shows string) {
	w := newWorld(seed, 2+int(seed%2), nil)
	one, others := w.hosts[0], w.hosts[1:]
	why := w.guard(func() {
		rnd := w.rng(1 << 42)
		work := func(hs []*host) {
			for range 30 {
				h := hs[rnd.IntN(len(hs))]
				h.rnd = rnd
				w.log("%s: %s", h, h.work(rnd, fmt.Sprintf("%x", rnd.Uint64()&0xffffff)))
				if rnd.IntN(3) == 0 {
					h.restAll()
					h.author()
				}
			}
		}
		for _, h := range w.hosts {
			h.up()
		}
		work(w.hosts)
		w.quiesce()
		w.check()
		one.down(false)
		work(others)
		for range 3 { // before they meet: what the one does then depends on nothing but its records
			for _, h := range others {
				h.restAll()
				h.author()
				w.exchange()
			}
		}
		if loses {
			w.log("%s loses its records", one)
			one.lose()
		}
		w.quiesce()
		w.check()
		shows = one.tree.shows()
	})
	if why != "" {
		t.Fatalf("seed %d: %s", seed, why)
	}
	return shows
}
