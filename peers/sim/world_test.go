package sim

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"math/rand/v2"
	"time"

	"sharefs"
	"sharefs/peers/engine"
	"sharefs/peers/record"
	"sharefs/peers/replica"
)

var share = record.ShareID{1, 2, 3}

// world is all that there is in one history. Nothing in it asks for the time or for chance but by the seed.
type world struct {
	seed     uint64
	hosts    []*host
	intruder *intruder           // nil: everybody is honest
	silent   bool                // it says nothing
	still    bool                // nobody does anything by himself
	even     bool                // nobody crashes, and all that is under way arrives at once: so what somebody says who does not count changes no other step
	mute     *host               // nobody does anything there; nil: there is no such host
	timeless bool                // nobody sets times
	few      bool                // marks are listed few at a time, so that an author may be cut off between two of them
	sessions map[[2]int]*session // from, to
	apart    map[[2]int]bool     // cut from each other; the lower number first
	clock    time.Time
	latest   time.Time                        // that any host's clock ever showed
	trees    []string                         // of an even world: what there is after each step
	strange  map[[2]int]bool                  // on the first host nothing counts of what the second one writes
	revoked  *host                            // whom the others revoke, each at a moment of its own; nil: nobody is revoked
	took     int                              // how many changes by that one were taken back
	backs    map[record.ID]bool               // what was said for that
	ended    map[int]map[uint64]uint64        // by host: how far it had which of the chains of that one when it revoked it
	fallen   map[int]bool                     // hosts that do not trust the intruder any more
	instead  map[string]string                // by content: what somebody saw who wrote it, empty if it cannot be told
	before   map[record.ID]bool               // what was told before a host was put back from an image; nil: none was
	had      map[record.ID]map[record.ID]bool // by what was told since then: what its author had, and told with it
	parts    *parts                           // some hosts have a part of the tree; nil: none has
	lines    []string                         // what was done
	trace    hash.Hash                        // of that
}

// failure is what a history that fails panics with.
type failure struct{ text string }

func (w *world) fail(format string, args ...any) { panic(failure{fmt.Sprintf(format, args...)}) }

func (w *world) log(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	w.lines = append(w.lines, line)
	fmt.Fprintln(w.trace, line)
}

// rng returns numbers that depend on the seed of the world and another one.
func (w *world) rng(n uint64) *rand.Rand { return rand.New(rand.NewPCG(w.seed, n)) }

func newWorld(seed uint64, hosts int, i *intruder) *world {
	w := emptyWorld(seed, i)
	for i := range hosts {
		w.hosts = append(w.hosts, newHost(w, i))
	}
	for _, h := range w.hosts {
		h.open()
	}
	return w
}

// emptyWorld has no hosts yet.
func emptyWorld(seed uint64, i *intruder) *world {
	return &world{seed: seed, intruder: i, sessions: map[[2]int]*session{}, apart: map[[2]int]bool{}, instead: map[string]string{}, had: map[record.ID]map[record.ID]bool{}, clock: time.Unix(1_700_000_000, 0), trace: sha256.New()}
}

// standing tells what records of an author count on a host.
func (w *world) standing(at *host, author sharefs.PeerID) replica.Standing {
	if w.parts != nil {
		return engine.Standing(w.parts.policy(at), author)
	}
	for _, h := range w.hosts {
		if w.strange[[2]int{at.index, h.index}] && h.self == author {
			return replica.PassedOver
		}
		if h.self == author {
			return replica.Merged
		}
	}
	if w.intruder != nil && w.intruder.self == author && !w.fallen[at.index] {
		return w.intruder.standing()
	}
	return replica.PassedOver
}

func pair(a, b *host) [2]int { return [2]int{min(a.index, b.index), max(a.index, b.index)} }

// linked reports whether two hosts reach each other.
func (w *world) linked(a, b *host) bool { return !w.apart[pair(a, b)] }

// cut ends the sessions of a host with another one, nil: with all; what is under way is lost.
func (w *world) cut(a, b *host) {
	for _, o := range w.hosts {
		if o != a && (b == nil || b == o) {
			delete(w.sessions, [2]int{a.index, o.index})
			delete(w.sessions, [2]int{o.index, a.index})
		}
	}
}
