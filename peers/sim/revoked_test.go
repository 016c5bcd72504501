package sim

import (
	"testing"

	"sharefs/integration/race"
)

// What a host tells that counts nowhere any more changes nothing, though it counted before: two worlds, in one of which nobody does anything on that host from then on, have the same trees on all other
// hosts at each step. What it told before counts still.
func TestNothingCountsAfterARevocation(t *testing.T) {
	race.Leave(t, race.OneHand)
	seeds := uint64(20)
	if soak() {
		seeds = 500
	}
	changed := false
	for seed := range seeds {
		h := historyOf(seed, short)
		var worlds [2][]string
		var wrote [2]int
		for i := range worlds {
			w := newWorld(seed, 2+h.hosts, nil)
			w.even, w.strange = true, map[[2]int]bool{}
			last := w.hosts[len(w.hosts)-1]
			if text := w.guard(func() {
				for n, step := range h.steps {
					if n == len(h.steps)/2 {
						w.quiesce()
						w.check()
						for _, o := range w.hosts[:last.index] {
							w.strange[[2]int{o.index, last.index}] = true
						}
						wrote[i] = -len(last.records())
						if i == 0 {
							w.mute = last
						}
					}
					w.step(step)
					worlds[i] = append(worlds[i], w.others(last))
				}
				w.quiesce()
				worlds[i] = append(worlds[i], w.others(last))
				wrote[i] += len(last.records())
			}); text != "" {
				t.Fatalf("seed %d: %s", seed, text)
			}
		}
		changed = changed || wrote[0] < wrote[1]
		for i, was := range worlds[0] {
			if now := worlds[1][i]; now != was {
				t.Fatalf("seed %d: after step %d there is\n%s\nand where the one who is revoked goes on\n%s", seed, i, was, now)
			}
		}
	}
	if !changed {
		t.Fatal("the one who is revoked did nothing in any history")
	}
}

// others shows the trees of all hosts but one.
func (w *world) others(but *host) (text string) {
	for _, o := range w.hosts {
		if o != but {
			text += o.String() + "\n" + o.tree.shows()
		}
	}
	return text
}
