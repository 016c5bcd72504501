package sim

import (
	"slices"
	"strings"
	"testing"

	"sharefs"
	"sharefs/integration/race"
	"sharefs/peers/record"
	"sharefs/peers/replica"
)

// revocation is a history in which all hosts but the last one revoke that, each at a moment of its own, while hosts crash, are cut off, and relay what others have not heard.
type revocation struct {
	history
	at      []int // by host: before which step
	hostile bool  // somebody, and the one that is revoked, sign cuts as they like
	falls   []int // by host: before which step it trusts that one no more; nil: none does
}

func revocationOf(seed uint64) revocation {
	r := revocation{history: historyOf(seed, short)}
	r.hosts = 3 + int(seed%3)
	rnd := emptyWorld(seed, nil).rng(1 << 42)
	for range r.hosts - 1 {
		r.at = append(r.at, len(r.steps)/4+rnd.IntN(len(r.steps)-len(r.steps)/4))
	}
	if r.hostile = seed%2 == 1; r.hostile && seed%4 == 3 {
		for range r.hosts - 1 {
			r.falls = append(r.falls, len(r.steps)/2+rnd.IntN(len(r.steps)))
		}
	}
	return r
}

func (r *revocation) run() (text string, w *world) {
	var i *intruder
	if r.hostile {
		i = newIntruder(level(r.seed / 4 % 3))
		i.cuts = true
	}
	w = newWorld(r.seed, r.hosts, i)
	w.ended, w.backs, w.fallen = map[int]map[uint64]uint64{}, map[record.ID]bool{}, map[int]bool{}
	w.few, w.strange = r.seed%2 == 0, map[[2]int]bool{}
	w.revoked = w.hosts[len(w.hosts)-1]
	return w.guard(func() {
		for n, step := range r.steps {
			for i, at := range r.at {
				if at == n {
					w.revoke(w.hosts[i])
				}
			}
			for i, at := range r.falls {
				if at == n {
					w.falls(w.hosts[i])
				}
			}
			w.step(step)
		}
		for _, h := range w.hosts[:w.revoked.index] { // of a history with fewer steps
			if !w.strange[[2]int{h.index, w.revoked.index}] {
				w.revoke(h)
			}
			if r.falls != nil && !w.fallen[h.index] {
				w.falls(h)
			}
		}
		w.quiesce()
		w.oneAfterCuts()
		first := w.hosts[0].tree.shows()
		for _, h := range w.hosts { // what was taken back is not taken back again
			h.down(false)
		}
		w.quiesce()
		w.oneAfterCuts()
		if again := w.hosts[0].tree.shows(); again != first {
			w.fail("after another start there is\n%s\nnot\n%s", again, first)
		}
	}), w
}

// revoke has a host revoke the one that is revoked.
func (w *world) revoke(h *host) {
	w.log("%s revokes %s", h, w.revoked)
	w.strange[[2]int{h.index, w.revoked.index}] = true
	w.ended[h.index] = h.taken()
	h.settle()
}

// oneAfterCuts holds that all who revoked a host have one tree, of which nothing is past the lowest cut.
func (w *world) oneAfterCuts() {
	honest := w.hosts[:w.revoked.index]
	for _, h := range honest[1:] {
		if a, b := honest[0].tree.shows(), h.tree.shows(); a != b {
			w.fail("%s and %s have revoked the same one, and have other trees:\n%s\nagainst\n%s", honest[0], h, a, b)
		}
	}
	for _, h := range honest {
		h.tookNone()
		if end := h.end(w.revoked.self); end != nil {
			w.sharesOf(h, end).hold()
		}
	}
}

// end is the lowest cut of an author by the newest ones of all whom a host knows and trusts; nil: none.
func (h *host) end(author sharefs.PeerID) (end *record.Cut) {
	newest := map[sharefs.PeerID]*record.Record{}
	for _, r := range h.records() {
		if c, ok := r.Body.(*record.Cut); ok && c.Author == author && h.w.standing(h, r.Author) == replica.Merged {
			if was := newest[r.Author]; was == nil || was.Compare(r) < 0 {
				newest[r.Author] = r
			}
		}
	}
	for _, r := range newest {
		if c := r.Body.(*record.Cut); end == nil || !c.Allows(end.Incarnation, end.Number) {
			end = c
		}
	}
	return end
}

// settle says where this host's revocations end what counts, and takes back what is past the cuts that count here.
func (h *host) settle() {
	bad := h.w.revoked
	if bad == nil || h == bad || h.rep == nil {
		return
	}
	h.run(func() {
		if h.w.strange[[2]int{h.index, bad.index}] {
			h.recover("cut", h.rep.Cut(bad.self, 0))
		}
		if h.rep == nil {
			return
		}
		all, err := h.rep.Overruns()
		h.recover("look for cuts", err)
		for _, author := range all {
			if h.rep == nil {
				return
			}
			h.takeBack(author)
		}
	})
}

// spaceBatch is the space of batches in the database of a replica: its number and form are on disk.
const spaceBatch = 4

// Hosts that revoke one at different moments come to one tree, in which nothing is that it wrote behind the moment of the first of them, but for what others went on from.
func TestRevokedAtDifferentMoments(t *testing.T) {
	race.Leave(t, race.OneHand)
	seeds := uint64(100)
	if soak() {
		seeds = 2000
	}
	took := 0
	for seed := range seeds {
		r := revocationOf(seed)
		text, w := r.run()
		if text == "" {
			took += w.took
			continue
		}
		small := r
		small.history = r.smallerBy(text, func(less history) string {
			fewer := r
			fewer.history = less
			text, _ := fewer.run()
			return text
		})
		if why, less := small.run(); why != "" {
			text, w = why, less
		}
		t.Fatalf("seed %d: %s\n%s", seed, text, strings.Join(slices.Clone(w.lines), "\n"))
	}
	if took == 0 {
		t.Fatal("nothing was taken back in any history")
	}
}
