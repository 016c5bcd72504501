package sim

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"sharefs/peers/replica"
)

// partly returns a world in which hosts do not all know each other, and some hold what others remove in bulk.
func partly(h history) *world {
	w := newWorld(h.seed, 3+h.hosts%3, nil)
	w.timeless = h.timeless
	rnd := w.rng(1 << 42)
	w.strange = map[[2]int]bool{}
	for _, a := range w.hosts {
		for _, b := range w.hosts {
			if a != b && rnd.IntN(3) == 0 {
				w.strange[[2]int{a.index, b.index}] = true
			}
		}
		if rnd.IntN(3) == 0 {
			a.bulk = replica.Bulk{Files: 4, Percent: 50, Least: 2, Within: 10 * time.Minute}
		}
	}
	return w
}

// decide has all that is held accepted or rejected, and returns whether there was anything.
func (h *host) decide(rnd *rand.Rand) (any bool) {
	list, err := h.rep.Holds(10)
	h.recover("holds", err)
	for _, hold := range list {
		verdict := h.rep.AcceptHeld
		if rnd.IntN(2) == 0 {
			verdict = h.rep.RejectHeld
		}
		_, err := verdict(nil, hold.Author)
		h.recover("decide", err)
		h.w.log("%s decides %d removals and %d renames", h, hold.Removals, hold.Renames)
		any = true
	}
	return any
}

// partlyPlay takes the steps of a history, has all hosts know each other then, and decides what is held, and returns what failed.
func (w *world) partlyPlay(h history) string {
	return w.guard(func() {
		for i, step := range h.steps {
			w.step(step)
			if i%(len(h.steps)/3+1) == 0 || i == len(h.steps)-1 {
				w.quiesce()
				for _, h := range w.hosts {
					h.right()
				}
			}
		}
		w.strange = nil
		for again := true; again; {
			for _, h := range w.hosts {
				h.down(false)
				h.bulk.Files *= 1000 // enough for all
				if !h.up() {
					w.fail("%s does not come up", h)
				}
				h.recover("reconsider", h.rep.Reconsider())
			}
			w.quiesce()
			again = false
			for _, h := range w.hosts {
				again = h.decide(w.rng(1<<43)) || again
			}
		}
		w.quiesce()
		w.check()
	})
}

// Hosts that know each other in part, and hold what others remove, each have the tree that the specification makes of what counts there, whole in itself; as soon as they know each other,
// and have decided, they have one.
func TestHostsThatKnowEachOtherInPart(t *testing.T) {
	runSeeds(t, 40, 1000, func(h history, t *testing.T) {
		w := partly(h)
		if text := w.partlyPlay(h); text != "" {
			t.Fatalf("seed %d: %s\n%s", h.seed, text, strings.Join(w.lines, "\n"))
		}
	})
}
