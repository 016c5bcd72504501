package exchange

import (
	"slices"
	"sync/atomic"
	"testing"

	"sharefs"
	"sharefs/peers/exchange/wire"
	"sharefs/peers/record"
	"sharefs/peers/trust"
)

// helloOf says hello as a host that speaks some versions, and waits for the other one.
func (o *other) helloOf(lowest, highest uint16) {
	o.t.Helper()
	if err := o.w.Hello(wire.Hello{Lowest: lowest, Highest: highest}); err != nil {
		o.t.Fatal(err)
	}
	until[*wire.Hello](o)
	wait(o.t, "the hello is taken", func() bool { return !isKind(o.a.Releases(o.id), sharefs.KindUnreachable) })
}

// Who promised something asks who relies on it, gets the answer to that question alone, and of what it asked for; who does not answer, is gone, older, or may not be told, is named so.
func TestAskingForAPromiseBack(t *testing.T) {
	leakCheck(t)
	a := newAlone(t, Limits{})
	ids := []record.ID{{1}, {2}, {3}}
	if _, err := a.Release(t.Context(), far, ids, true); !isKind(err, sharefs.KindPermission) {
		t.Error(err)
	}
	o := a.meet(far, trust.Read)
	if _, err := a.Release(t.Context(), far, ids, true); !isKind(err, sharefs.KindUnreachable) {
		t.Error(err)
	}
	o.helloOf(1, 7)
	type result struct {
		yes []record.ID
		err error
	}
	results := make(chan result, 1)
	ask := func() *wire.Release {
		t.Helper()
		go func() {
			yes, err := a.Release(t.Context(), far, ids, true)
			results <- result{yes, err}
		}()
		m := until[*wire.Release](o)
		if !m.Instead || !slices.Equal(m.Versions, ids) {
			t.Errorf("%+v", m)
		}
		return m
	}
	m := ask()
	for _, message := range [][]byte{
		wire.ReleasedMessage(wire.Released{Number: m.Number + 1, Versions: ids}),
		wire.KeptMessage(wire.Kept{Number: m.Number, Versions: ids}),
		wire.ReleasedMessage(wire.Released{Number: m.Number, Versions: []record.ID{{2}, {9}, {2}}}),
		wire.ReleasedMessage(wire.Released{Number: m.Number, Versions: ids}), // again
	} {
		if err := o.send(message); err != nil {
			t.Fatal(err)
		}
	}
	if r := <-results; r.err != nil || !slices.Equal(r.yes, ids[1:2]) {
		t.Errorf("%+v", r)
	}
	ask()
	o.s.end()
	if r := <-results; !isKind(r.err, sharefs.KindUnreachable) {
		t.Errorf("%+v", r)
	}
	old := a.meet(near, trust.Read)
	old.helloOf(1, 1)
	if _, err := a.Release(t.Context(), near, ids, true); !isKind(err, sharefs.KindNotSupported) {
		t.Error(err)
	}
	if err := a.blame(far); err != nil {
		t.Error(err)
	}
}

// Who is asked answers for each question, with nothing for what goes beyond a few at once; many questions end nothing.
func TestBeingAskedForAPromiseBack(t *testing.T) {
	leakCheck(t)
	gate := make(chan struct{})
	a := newAlone(t, Limits{}, func(c *Config) {
		c.Release = func(peer sharefs.PeerID, ids []record.ID, instead bool) []record.ID {
			<-gate
			if peer != far || !instead {
				return nil
			}
			return ids[:1]
		}
	})
	o := a.meet(far, trust.Read)
	o.helloOf(1, 2)
	ids := []record.ID{{1}, {2}}
	const many = 3 * mostKeeps
	for n := range uint32(many) {
		if err := o.send(wire.ReleaseMessage(wire.Release{Number: n, Instead: true, Versions: ids})); err != nil {
			t.Fatal(err)
		}
	}
	got := map[uint32]int{}
	for range many - mostKeeps {
		m := until[*wire.Released](o)
		got[m.Number] += 1 + len(m.Versions)
	}
	close(gate)
	yes := 0
	for range mostKeeps {
		m := until[*wire.Released](o)
		got[m.Number]++
		yes += len(m.Versions)
	}
	if len(got) != many || yes != mostKeeps {
		t.Errorf("%v, %d", got, yes)
	}
	for n, times := range got {
		if times != 1 {
			t.Errorf("question %d: %d", n, times)
		}
	}
	for n := range uint32(controlBurst + 2*controlRate) { // as one who frees many files
		if err := o.send(wire.ReleaseMessage(wire.Release{Number: many + n, Versions: ids})); err != nil {
			t.Fatal(err)
		}
		until[*wire.Released](o)
	}
	if err := a.blame(far); err != nil {
		t.Error(err)
	}
	// A message that was not agreed on is none.
	old := a.meet(near, trust.Read)
	old.helloOf(1, 1)
	if err := old.send(wire.ReleaseMessage(wire.Release{Number: 1, Versions: ids})); err != nil {
		t.Fatal(err)
	}
	if bye := old.over(); bye == nil || bye.Code != wire.ByeProtocol {
		t.Errorf("%+v", bye)
	}
	wait(t, "it is named", func() bool { return isKind(a.blame(near), sharefs.KindInvalid) })
}

// Who may not read all of the share gets no answer, however much he asks, and what cannot be sent to him is not kept.
func TestQuestionsOfWhoMayNotRead(t *testing.T) {
	leakCheck(t)
	asked := func(peer sharefs.PeerID, ids []record.ID) []record.ID {
		t.Errorf("%v is heard", peer)
		return ids
	}
	a := newAlone(t, Limits{}, func(c *Config) {
		c.Keep = func(peer sharefs.PeerID, ids []record.ID) ([]record.ID, []wire.Refusal) { return asked(peer, ids), nil }
		c.Release = func(peer sharefs.PeerID, ids []record.ID, _ bool) []record.ID { return asked(peer, ids) }
	})
	o := a.meet(far, trust.Paired)
	if err := o.w.Hello(wire.Hello{Lowest: 1, Highest: 2}); err != nil {
		t.Fatal(err)
	}
	until[*wire.Hello](o)
	var all []*peer
	wait(t, "the hello is taken", func() bool {
		all = a.Exchange.all()
		if len(all) != 1 {
			return false
		}
		all[0].mu.Lock()
		defer all[0].mu.Unlock()
		return all[0].greeted
	})
	ids := []record.ID{{1}}
	for n := range uint32(20) {
		all[0].askedToKeep(&wire.Keep{Number: n, Versions: ids})
		if err := all[0].askedToRelease(&wire.Release{Number: n, Versions: ids}); err != nil {
			t.Fatal(err)
		}
	}
	all[0].mu.Lock()
	defer all[0].mu.Unlock()
	if n := len(all[0].keeps.out); n > 0 {
		t.Errorf("%d answers wait for a permission", n)
	}
}

// Answers that nobody waits for, of whatever number and however many, change nothing.
func TestAnswersAboutPromisesThatNobodyAskedFor(t *testing.T) {
	leakCheck(t)
	a := newAlone(t, Limits{})
	o := a.meet(far, trust.Read)
	o.helloOf(1, 2)
	for n := range uint32(2 * controlBurst) {
		if err := o.send(wire.ReleasedMessage(wire.Released{Number: n, Versions: []record.ID{{1}}})); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.blame(far); err != nil {
		t.Error(err)
	}
	if err := a.Releases(far); err != nil {
		t.Error(err)
	}
}

// Who asks for promises waits neither for more than he wants, nor for who gives no sign of life, whom he names.
func TestAskingForPromisesWaitsForNobodyInVain(t *testing.T) {
	leakCheck(t)
	var silent atomic.Bool
	a := newAlone(t, Limits{}, func(c *Config) {
		c.Silent = func(id sharefs.PeerID) bool { return id == near && silent.Load() }
	})
	one, two := a.meet(far, trust.Write), a.meet(near, trust.Write)
	one.helloOf(1, 2)
	two.helloOf(1, 2)
	ids := []record.ID{{1}, {2}}
	ask := func(least int, promised []record.ID) Kept {
		t.Helper()
		result := make(chan Kept, 1)
		go func() { result <- a.Keep(t.Context(), ids, least) }()
		m := until[*wire.Keep](one)
		until[*wire.Keep](two)
		if err := one.send(wire.KeptMessage(wire.Kept{Number: m.Number, Versions: promised})); err != nil {
			t.Fatal(err)
		}
		return <-result
	}
	want := func(k Kept, promised []record.ID, silent ...sharefs.PeerID) {
		t.Helper()
		for _, id := range ids {
			if got := slices.Contains(k.By[id], far); got != slices.Contains(promised, id) || len(k.By[id]) > 1 {
				t.Errorf("%v is promised by %v", id, k.By[id])
			}
		}
		if len(k.Asked) != 2 || !slices.Equal(k.Silent, silent) {
			t.Errorf("asked are %v, silent %v", k.Asked, k.Silent)
		}
	}
	want(ask(1, ids), ids, near)
	silent.Store(true)
	want(ask(1, ids[:1]), ids[:1], near)
	want(ask(2, ids), ids, near)
	if err := a.blame(far); err != nil {
		t.Error(err)
	}
}

// Who is asked for promises says why not, before the answer, and says nothing more than the answer where there is no reason.
func TestSayingWhyNotPromised(t *testing.T) {
	leakCheck(t)
	yes, no := record.ID{1}, wire.Refusal{Version: record.ID{2}, Reason: wire.RefusedBudget, Missing: 4711}
	a := newAlone(t, Limits{}, func(c *Config) {
		c.Keep = func(peer sharefs.PeerID, ids []record.ID) ([]record.ID, []wire.Refusal) {
			if len(ids) == 1 {
				return ids, nil
			}
			return []record.ID{yes}, []wire.Refusal{no}
		}
	})
	o := a.meet(far, trust.Read)
	o.helloOf(1, 2)
	next := func() wire.Message {
		t.Helper()
		for {
			switch m := o.next().(type) {
			case *wire.Unkept, *wire.Kept:
				return m
			case nil:
				t.Fatal("it ended")
			}
		}
	}
	ask := func(number uint32, ids ...record.ID) {
		t.Helper()
		if err := o.send(wire.KeepMessage(wire.Keep{Number: number, Versions: ids})); err != nil {
			t.Fatal(err)
		}
	}
	ask(7, yes, no.Version)
	if m, ok := next().(*wire.Unkept); !ok || m.Number != 7 || !slices.Equal(m.Why, []wire.Refusal{no}) {
		t.Errorf("%+v", m)
	}
	if m, ok := next().(*wire.Kept); !ok || m.Number != 7 || !slices.Equal(m.Versions, []record.ID{yes}) {
		t.Errorf("%+v", m)
	}
	ask(8, yes)
	if m, ok := next().(*wire.Kept); !ok || m.Number != 8 || !slices.Equal(m.Versions, []record.ID{yes}) {
		t.Errorf("%+v", m)
	}
}

// Who asks hears of the reasons for what he asked for and was not promised, of that question alone, once each; one who says none, as an older peer, has none.
func TestHearingWhyNotPromised(t *testing.T) {
	leakCheck(t)
	a := newAlone(t, Limits{})
	one, two := a.meet(far, trust.Write), a.meet(near, trust.Write)
	one.helloOf(1, 2)
	two.helloOf(1, 2)
	ids := []record.ID{{1}, {2}, {3}}
	refusal := func(n byte, missing uint64) wire.Refusal {
		return wire.Refusal{Version: record.ID{n}, Reason: wire.RefusedBudget, Missing: missing}
	}
	result := make(chan Kept, 1)
	go func() { result <- a.Keep(t.Context(), ids, 2) }()
	m, other := until[*wire.Keep](one), until[*wire.Keep](two)
	for _, message := range [][]byte{
		wire.UnkeptMessage(wire.Unkept{Number: m.Number + 1, Why: []wire.Refusal{refusal(2, 1)}}),
		wire.UnkeptMessage(wire.Unkept{Number: m.Number, Why: []wire.Refusal{refusal(1, 2), refusal(2, 3), refusal(2, 4), refusal(9, 5)}}),
		wire.KeptMessage(wire.Kept{Number: m.Number, Versions: ids[:1]}),
		wire.UnkeptMessage(wire.Unkept{Number: m.Number, Why: []wire.Refusal{refusal(3, 6)}}), // too late
	} {
		if err := one.send(message); err != nil {
			t.Fatal(err)
		}
	}
	if err := two.send(wire.KeptMessage(wire.Kept{Number: other.Number})); err != nil {
		t.Fatal(err)
	}
	k := <-result
	if got := k.No[far]; len(got) != 1 || got[ids[1]] != refusal(2, 3) || len(k.No[near]) != 0 || len(k.Silent) != 0 || !slices.Equal(k.By[ids[0]], []sharefs.PeerID{far}) {
		t.Errorf("%+v", k)
	}
	for n := range uint32(2 * controlBurst) { // that nobody waits for
		if err := one.send(wire.UnkeptMessage(wire.Unkept{Number: n, Why: []wire.Refusal{refusal(1, 1)}})); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.blame(far); err != nil {
		t.Error(err)
	}
}
