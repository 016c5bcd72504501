package exchange

import (
	"slices"
	"testing"
	"time"

	"sharefs"
	"sharefs/peers/trust"
)

// Who had a little of a content a while ago is not named as who sends it; where nobody sends at the moment, who is asked is.
func TestWhoSendsWhatComes(t *testing.T) {
	leakCheck(t)
	a := newAlone(t, Limits{PeerBytes: 64 << 10})
	m := newMemory(a.key)
	a.meet(far, trust.Write).seed(m, asIs)
	a.sources(1)
	r, ids := m.version(t, noise(1, 1001), noise(2, 1002), noise(3, 1003))
	if _, err := a.Exchange.Get(t.Context(), r, ids[0]); err != nil {
		t.Fatal(err)
	}
	from := func(want ...sharefs.PeerID) {
		t.Helper()
		list := a.Exchange.Coming()
		if len(list) != 1 || list[0].Version.ID() != r.ID() || !slices.Equal(list[0].From, want) {
			t.Errorf("%+v, not from %v", list, want)
		}
	}
	from(far)
	f := a.Exchange.fetch
	earlier := func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, s := range f.coming[r.ID()].from {
			s.last = s.last.Add(-comingIdle - time.Second)
		}
	}
	earlier()
	from()

	// Another one has the rest.
	o := a.meet(near, trust.Write)
	held := make(chan struct{})
	o.seed(m, func(answers [][]byte) [][]byte {
		<-held
		return answers
	})
	a.sources(2)
	f.mu.Lock()
	f.giveUp(f.of1(far))
	f.mu.Unlock()
	got := make(chan error, 1)
	go func() {
		_, err := a.Exchange.Get(t.Context(), r, ids[1])
		got <- err
	}()
	a.wait("it is asked", func(f *fetcher) bool { return len(f.asked(r.ID())) > 0 })
	from(near)
	close(held)
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	from(near)
	a.Exchange.Drop(r.ID())
	a.idle(t)
}
