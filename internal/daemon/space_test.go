package daemon

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"sharefs"
	"sharefs/internal/store"
	"sharefs/peers/exchange/wire"
	"sharefs/versions"
)

// slowEvict frees one file after the other, the one that was used longest ago first, until enough has gone.
func slowEvict(list []versions.Here, bytes uint64, stays map[sharefs.Ino]bool) (freed []sharefs.Ino) {
	gone := uint64(0)
	for gone < bytes {
		oldest := -1
		for i := range list {
			h := &list[i]
			if h.Bytes > 0 && !stays[h.Ino] && !slices.Contains(freed, h.Ino) && (oldest < 0 || h.Used < list[oldest].Used) {
				oldest = i
			}
		}
		if oldest < 0 {
			break
		}
		gone += list[oldest].Bytes
		freed = append(freed, list[oldest].Ino)
	}
	return freed
}

// What is freed is what was used longest ago of what can be, and no more than it takes, though files are freed several at once and some stay.
func TestEvictAsTheSlowModel(t *testing.T) {
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 1))
		list := make([]versions.Here, rng.IntN(3*freeBatch))
		stays := map[sharefs.Ino]bool{}
		total := uint64(1)
		for i, used := range rng.Perm(len(list)) {
			list[i] = versions.Here{Ino: sharefs.Ino(i + 2), Bytes: uint64(rng.IntN(100)), Used: sharefs.Time(used)}
			stays[list[i].Ino] = rng.IntN(4) == 0
			total += list[i].Bytes
		}
		bytes := rng.Uint64N(total)
		want := slowEvict(list, bytes, stays)
		slices.SortFunc(list, func(a, b versions.Here) int { return cmp.Compare(a.Used, b.Used) })
		var freed []sharefs.Ino
		all := evict(list, bytes, func(batch []versions.Here) (gone uint64, errs []error) {
			if len(batch) > freeBatch {
				t.Fatalf("%d at once", len(batch))
			}
			for _, h := range batch {
				if stays[h.Ino] {
					errs = append(errs, sharefs.KindBusy)
					continue
				}
				errs = append(errs, nil)
				freed = append(freed, h.Ino)
				gone += h.Bytes
			}
			return gone, errs
		})
		sum := uint64(0)
		for _, ino := range want {
			sum += list[slices.IndexFunc(list, func(h versions.Here) bool { return h.Ino == ino })].Bytes
		}
		if !slices.Equal(freed, want) || sum != 0 {
			t.Fatalf("seed %d: %d bytes: freed %v, want %v", seed, bytes, freed, want)
		}
		if all < bytes && slices.ContainsFunc(list, func(h versions.Here) bool { return h.Bytes > 0 && !stays[h.Ino] }) {
			t.Fatalf("seed %d: %d of %d bytes, and more could go", seed, all, bytes)
		}
	}
}

// What can go more than before ends the time in which nobody waits for room, for there was none to be had.
func TestWhatIsLoosenedEndsBeingFull(t *testing.T) {
	s := &space{budget: 100, wake: make(chan struct{}, 1), passed: make(chan struct{}), full: time.Now().Add(time.Hour)}
	s.room(t.Context(), 10)
	if s.wanted != 0 {
		t.Errorf("somebody waits for %d bytes while it is full", s.wanted)
	}
	s.loosened()
	<-s.wake
	ctx, end := context.WithCancel(t.Context())
	end()
	s.room(ctx, 10)
	if s.wanted != 10 || !s.loose {
		t.Errorf("%d bytes are wanted, loose: %v", s.wanted, s.loose)
	}
}

// Who is patient gets room though there was none a moment ago, and something was unpinned since; who is not, and who would wait for long, does not.
func TestPatienceWhileItIsFull(t *testing.T) {
	for _, c := range []struct {
		full    time.Duration
		patient bool
		want    error
	}{{50 * time.Millisecond, true, nil}, {time.Hour, false, errNoRoom}, {time.Hour, true, errNoRoom}} {
		s := &space{budget: 100, used: 90, ctx: t.Context(), wake: make(chan struct{}, 1), passed: make(chan struct{}), takes: map[sharefs.Ino]*reservation{}, full: time.Now().Add(c.full)}
		over := make(chan struct{})
		go func() { // as run does when it is not full any more
			select {
			case <-s.wake:
			case <-over:
				return
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.wanted != 20 {
				t.Errorf("%d bytes are wanted", s.wanted)
			}
			s.used = 10
			close(s.passed)
		}()
		if r, err := s.reserve(2, 20, c.patient); err != c.want || (r != nil) != (err == nil) {
			t.Errorf("full for %v, patient %v: %v, %v", c.full, c.patient, r, err)
		}
		close(over)
	}
}

// Each reason for which a peer does not promise something has words, and none but that of the budget a size.
func TestReasonsOfPeersInWords(t *testing.T) {
	s := &space{d: &Daemon{store: &store.Store{}}}
	s.d.store.Config.Peers.Name = "anna"
	seen := map[string]wire.Reason{}
	for r := wire.RefusedOther; r <= wire.RefusedBusy+1; r++ {
		text := s.refusal(wire.Refusal{Reason: r, Missing: 3 << 20}, true)
		if other, ok := seen[text]; ok && !(other == wire.RefusedOther && r > wire.RefusedBusy) || text == "" || strings.Contains(text, "3.0 MiB") != (r == wire.RefusedBudget) {
			t.Errorf("%d: %q", r, text)
		}
		seen[text] = r
	}
	if text := s.refusal(wire.Refusal{Reason: wire.RefusedLevel}, true); !strings.Contains(text, "sharefs grant anna write") {
		t.Errorf("%q", text)
	}
	if text := s.refusal(wire.Refusal{}, false); !strings.Contains(text, "has a budget and has not pinned it") { // an older peer
		t.Errorf("%q", text)
	}
}

// What packs have of small files is their content, not their blocks, and never more than there is in packs.
func TestMostGoneCountsWhatPacksHave(t *testing.T) {
	list := []versions.Here{
		{Bytes: 4096, Size: 1000, Kept: true, Rests: true},
		{Bytes: 4096, Size: 1000, Rests: true},
		{Bytes: 4096, Size: 1000, Kept: true},
		{Bytes: 8192, Size: 1 << 30, Kept: true, Rests: true},
	}
	for packs, want := range map[uint64]int64{0: 16384, 5000: 21384, 1 << 40: 16384 + 1000 + 1<<30} {
		if got := mostGone(list, packs); got != want {
			t.Errorf("packs of %d bytes: %d, not %d", packs, got, want)
		}
	}
}
