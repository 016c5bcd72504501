package exchange

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sharefs"
	"sharefs/peers/record"
	"sharefs/peers/trust"
)

// get fetches a content in parts, all wanted ahead.
func (a *alone) get(m *memory, parts int) error {
	var list [][]byte
	for i := range parts {
		list = append(list, noise(uint64(i), 1000+i%7))
	}
	r, ids := m.version(a.t, list...)
	got, err := a.fetch(r, ids[:parts]...)
	if err != nil {
		return err
	}
	if want := bytes.Join(list, nil); !bytes.Equal(got, want) {
		return fmt.Errorf("%d bytes, not %d", len(got), len(want))
	}
	return nil
}

// idle waits until nothing is under way, and makes sure that nothing is left.
func (a *alone) idle(t *testing.T) { a.fetchIdle(t) }

// sources waits until so many peers can be asked.
func (a *alone) sources(n int) {
	a.t.Helper()
	wait(a.t, fmt.Sprint(n, " sources"), func() bool {
		f := a.Exchange.fetch
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.sources) == n
	})
}

var far, near = sharefs.PeerID{1}, sharefs.PeerID{2}

// Several peers that have all are all asked.
func TestSeveralPeersAreAsked(t *testing.T) {
	leakCheck(t)
	a := newAlone(t, Limits{PeerBytes: 64 << 10})
	m := newMemory(a.key)
	var count [3]atomic.Int64
	for i := range count {
		a.meet(sharefs.PeerID{byte(i + 1)}, trust.Write).seed(m, func(answers [][]byte) [][]byte {
			count[i].Add(int64(len(answers)))
			return answers
		})
	}
	a.sources(3)
	if err := a.get(m, 1000); err != nil {
		t.Fatal(err)
	}
	for i := range count {
		if count[i].Load() == 0 {
			t.Errorf("peer %d was asked for nothing", i)
		}
	}
	a.idle(t)
}

// A peer that lacks something is passed over, for that and for nothing else.
func TestWhatAPeerLacksAnotherHas(t *testing.T) {
	leakCheck(t)
	a := newAlone(t, Limits{})
	m := newMemory(a.key)
	a.meet(far, trust.Write).seed(m, func(answers [][]byte) [][]byte {
		for i := range answers {
			if len(answers[i])%2 == 0 {
				answers[i] = nil
			}
		}
		return answers
	})
	a.meet(near, trust.Write).seed(m, func(answers [][]byte) [][]byte {
		for i := range answers {
			if len(answers[i])%3 == 0 {
				answers[i] = nil
			}
		}
		return answers
	})
	a.sources(2)
	r, ids := m.version(t, noise(1, 1001), noise(2, 1002), noise(3, 1003), noise(4, 1004), noise(5, 1005))
	for i, id := range ids {
		data, err := a.fetch(r, id)
		if n := 1001 + i; n%6 == 0 {
			if !isKind(err, sharefs.KindUnreachable) {
				t.Errorf("%d: nobody has it: %v", n, err)
			}
		} else if err != nil || len(data) != n {
			t.Errorf("%d: %d bytes, %v", n, len(data), err)
		}
	}
	if _, err := a.fetch(r, sharefs.ChunkID{1}); !isKind(err, sharefs.KindUnreachable) {
		t.Error(err)
	}
	a.idle(t)
}

// A peer that sends something else is left out and named, and what it was asked for comes from another one.
func TestAWrongChunk(t *testing.T) {
	leakCheck(t)
	a := newAlone(t, Limits{})
	m := newMemory(a.key)
	a.meet(far, trust.Write).seed(m, func(answers [][]byte) [][]byte {
		for i := range answers {
			answers[i] = bytes.Clone(answers[i])
			answers[i][0]++
		}
		return answers
	})
	a.sources(1)
	r, ids := m.version(t, noise(1, 1000))
	if _, err := a.fetch(r, ids...); !isKind(err, sharefs.KindUnreachable) {
		t.Errorf("nobody else has it: %v", err)
	}
	wait(t, "it is named", func() bool { return isKind(a.blame(far), sharefs.KindCorrupt) })
	a.sources(0)
	a.meet(near, trust.Write).seed(m, asIs)
	a.sources(1)
	if err := a.get(m, 100); err != nil {
		t.Error(err)
	}
	if err := a.blame(near); err != nil {
		t.Error(err)
	}
	// Nor is it asked in another session.
	a.meet(far, trust.Write).seed(m, asIs)
	if err := a.get(m, 100); err != nil {
		t.Error(err)
	}
	a.sources(1)
	if st := a.Peers(); len(st) != 2 || st[0].Error == "" || st[1].Error != "" {
		t.Errorf("%+v", st)
	}
	a.idle(t)
}

// Who is left out is asked again after a while, and left out for longer the next time.
func TestBlameEnds(t *testing.T) {
	leakCheck(t)
	a := newAlone(t, Limits{Blame: 20 * time.Millisecond})
	m := newMemory(a.key)
	var wrong atomic.Bool
	a.meet(far, trust.Write).seed(m, func(answers [][]byte) [][]byte {
		for i := range answers {
			if wrong.Load() {
				answers[i] = bytes.Clone(answers[i])
				answers[i][0]++
			}
		}
		return answers
	})
	for round := range 3 {
		a.sources(1)
		wrong.Store(true)
		r, ids := m.version(t, noise(uint64(round), 1000))
		if _, err := a.fetch(r, ids...); !isKind(err, sharefs.KindUnreachable) {
			t.Errorf("nobody else has it: %v", err)
		}
		a.Exchange.mu.Lock()
		b := a.bad[far]
		a.Exchange.mu.Unlock()
		if want := 20 * time.Millisecond << round; b == nil || b.pause != want {
			t.Fatalf("round %d: %+v, not %v", round, b, want)
		}
		wrong.Store(false)
		<-b.ended
		a.sources(1)
		if err := a.get(m, 10); err != nil {
			t.Error(err)
		}
		if st := a.Peers(); len(st) != 1 || st[0].Error != "" || !st[0].LeftOut.IsZero() {
			t.Errorf("%+v", st)
		}
	}
	a.idle(t)
}

// Answers to what was not asked are the peer's fault.
func TestAnswersThatNobodyAskedFor(t *testing.T) {
	leakCheck(t)
	a := newAlone(t, Limits{})
	m := newMemory(a.key)
	a.meet(far, trust.Write).seed(m, func(answers [][]byte) [][]byte { return append(answers, answers[0]) })
	a.sources(1)
	r, ids := m.version(t, noise(1, 1000))
	if _, err := a.fetch(r, ids...); !isKind(err, sharefs.KindUnreachable) {
		t.Error(err)
	}
	wait(t, "it is named", func() bool { return isKind(a.blame(far), sharefs.KindInvalid) })
}

// What was asked over a stream that is cut is asked again, over another one and of another peer.
func TestStreamsThatAreCut(t *testing.T) {
	leakCheck(t)
	a := newAlone(t, Limits{})
	m := newMemory(a.key)
	for i := range 2 {
		var n atomic.Int64
		a.meet(sharefs.PeerID{byte(i + 1)}, trust.Write).seed(m, func(answers [][]byte) [][]byte {
			if n.Add(1)%3 == 0 {
				return nil
			}
			return answers
		})
	}
	a.sources(2)
	if err := a.get(m, 1000); err != nil {
		t.Error(err)
	}
	a.idle(t)
}

// A peer that closes the streams over which it is asked, as where its rules change at that moment, is asked again after a while.
func TestAPeerThatClosesItsStreams(t *testing.T) {
	leakCheck(t)
	a := newAlone(t, Limits{})
	m := newMemory(a.key)
	var n atomic.Int64
	a.meet(far, trust.Write).seed(m, func(answers [][]byte) [][]byte {
		if n.Add(1) <= 2 {
			return nil
		}
		return answers
	})
	a.sources(1)
	r, ids := m.version(t, noise(1, 1000))
	wait(t, "the content", func() bool {
		data, err := a.fetch(r, ids...)
		if err != nil && !isKind(err, sharefs.KindUnreachable) {
			t.Fatal(err)
		}
		return err == nil && len(data) == 1000
	})
}

// A peer that goes leaves what it was asked for to others.
func TestAPeerThatGoes(t *testing.T) {
	leakCheck(t)
	a := newAlone(t, Limits{})
	m := newMemory(a.key)
	gone := a.meet(far, trust.Write)
	gone.seed(m, func([][]byte) [][]byte { gone.s.end(); return nil })
	a.sources(1)
	done := make(chan error, 1)
	go func() {
		for {
			err := a.get(m, 500)
			if !isKind(err, sharefs.KindUnreachable) {
				done <- err
				return
			}
			a.sources(1)
		}
	}()
	wait(t, "it is gone", func() bool {
		select {
		case <-gone.s.over:
			return true
		default:
			return false
		}
	})
	a.meet(near, trust.Write).seed(m, asIs)
	if err := <-done; err != nil {
		t.Error(err)
	}
	a.idle(t)
}

// silent is a peer that answers nothing until it is told to.
func (o *other) silent(m *memory) (speak func()) {
	hold := make(chan struct{})
	o.seed(m, func(answers [][]byte) [][]byte {
		select {
		case <-hold:
			return answers
		case <-o.s.over:
			return nil
		}
	})
	return sync.OnceFunc(func() { close(hold) })
}

// What a peer does not answer others are asked for too; without others it is waited for, and given up at last.
func TestAPeerThatDoesNotAnswer(t *testing.T) {
	leakCheck(t)
	a := newAlone(t, Limits{Stall: 10 * time.Millisecond, GiveUp: time.Hour})
	m := newMemory(a.key)
	first := a.meet(far, trust.Write)
	speak := first.silent(m)
	a.sources(1)
	r, ids := m.version(t, noise(1, 1000))
	done := make(chan error, 2)
	go func() {
		_, err := a.Get(t.Context(), r, ids[0])
		done <- err
	}()
	wait(t, "it has stalled", func() bool {
		f := a.Exchange.fetch
		f.mu.Lock()
		defer f.mu.Unlock()
		for s := range f.sources {
			return s.stalled
		}
		return false
	})
	select {
	case err := <-done:
		t.Errorf("given up: %v", err)
	default:
	}
	a.meet(near, trust.Write).seed(m, asIs)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := a.get(m, 300); err != nil { // while the first one still is silent
		t.Error(err)
	}
	speak()
	a.idle(t)
	a.Exchange.Close()

	b := newAlone(t, Limits{Stall: 5 * time.Millisecond, Silence: 10 * time.Millisecond, GiveUp: 20 * time.Millisecond})
	b.meet(far, trust.Write).silent(m)
	b.sources(1)
	var s *source
	b.wait("it is there", func(f *fetcher) bool { s = f.of1(far); return s != nil })
	if _, err := b.Get(t.Context(), r, ids[0]); !isKind(err, sharefs.KindUnreachable) {
		t.Error(err)
	}
	b.wait("its streams are given up, and it is asked again later", func(*fetcher) bool {
		return s.tries > 0 && !slices.ContainsFunc(s.streams, func(st *stream) bool { return st.turn == 1 })
	})
	b.sources(1)
	b.idle(t)
}

// Who waits no longer, and what nobody wants any more, leave nothing behind.
func TestGivingUp(t *testing.T) {
	leakCheck(t)
	a := newAlone(t, Limits{})
	m := newMemory(a.key)
	speak := a.meet(far, trust.Write).silent(m)
	a.sources(1)
	r, ids := m.version(t, noise(1, 1000), noise(2, 1000))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := a.Get(ctx, r, ids[0])
		done <- err
	}()
	a.Want(r, ids...)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := a.Get(ctx, r, ids[1]); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	a.Drop(r.ID())
	speak()
	a.idle(t)
	if data, err := a.fetch(r, ids...); err != nil || len(data) != 2000 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	go func() {
		_, err := a.Get(t.Context(), r, sharefs.ChunkID{})
		done <- err
	}()
	<-done
	a.Exchange.Close()
	if _, err := a.Get(t.Context(), r, ids[0]); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	a.Want(r, ids...)
}

// What is fetched ahead is bounded, and what somebody waits for comes all the same.
func TestFetchingAheadIsBounded(t *testing.T) {
	leakCheck(t)
	const most = 100 << 10
	a := newAlone(t, Limits{TotalBytes: most, Wanted: 300})
	m := newMemory(a.key)
	a.meet(far, trust.Write).seed(m, asIs)
	a.sources(1)
	var parts [][]byte
	for i := range 500 {
		parts = append(parts, noise(uint64(i), 1000))
	}
	r, ids := m.version(t, parts...)
	a.Want(r, ids...)
	f := a.Exchange.fetch
	wait(t, "it comes to rest", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.inFlight == 0 && f.held > 0
	})
	f.mu.Lock()
	if f.held > 2*most || len(f.wants) > 300 {
		t.Errorf("%d bytes are held, %d wanted", f.held, len(f.wants))
	}
	f.mu.Unlock()
	for i := 499; i >= 0; i-- { // the last ones first: they were not fetched
		if data, err := a.Get(t.Context(), r, ids[i]); err != nil || !bytes.Equal(data, parts[i]) {
			t.Fatalf("%d: %v", i, err)
		}
	}
	a.Drop(r.ID())
	a.idle(t)
}

// A chunk of two versions is fetched as a part of one, or of the other where a peer may not have the first.
func TestAChunkOfTwoVersions(t *testing.T) {
	leakCheck(t)
	a, b := newHost(t, "anna"), newHost(t, "bert")
	one := a.write("same")[0]
	pair(t, a, b, trust.Write, trust.Write)
	b.has(one)
	unknown, ids := b.version(t, []byte("same")) // nobody else has this version
	b.memory.mu.Lock()
	clear(b.chunks)
	b.memory.mu.Unlock()
	wait(t, "content", func() bool {
		b.Want(unknown, ids...)
		b.Want(one, ids...)
		defer b.Drop(one.ID())
		defer b.Drop(unknown.ID())
		data, err := b.Get(t.Context(), one, ids[0])
		return err == nil && string(data) == "same"
	})
	b.fetchIdle(t)
}

// The nearest and fastest is asked first: one that is far is asked for nothing as long as the near one has room.
func TestTheNearestIsAskedFirst(t *testing.T) {
	leakCheck(t)
	a := newAlone(t, Limits{Stall: time.Hour, GiveUp: time.Hour})
	m := newMemory(a.key)
	var asked atomic.Int64
	o := a.meet(far, trust.Write)
	o.s.away = time.Hour // farther than the near one is slow, on any machine
	o.seed(m, func(answers [][]byte) [][]byte { asked.Add(1); return answers })
	a.meet(near, trust.Write).seed(m, asIs)
	a.sources(2)
	for range 20 {
		if err := a.get(m, 10); err != nil {
			t.Fatal(err)
		}
	}
	if n := asked.Load(); n > 0 {
		t.Errorf("the far one was asked %d times", n)
	}
}

// The end of a transfer, when little is asked for, says nothing of the rate of a peer.
func TestTheEndSaysNothingOfTheRate(t *testing.T) {
	a := newAlone(t, Limits{})
	s := newSource(a.join(far, newFake(false)))
	s.f = a.Exchange.fetch
	now := time.Now()
	s.fresh = now
	for range 20 { // 10 MB/s, while the window is full
		now = now.Add(100 * time.Millisecond)
		s.asks = 1
		s.measure(now, 1<<20, s.window())
	}
	speed := s.speed()
	if speed < 10<<20-1 || speed > 10<<20+1 {
		t.Fatalf("10 MiB/s seem to be %.0f bytes/s", speed)
	}
	for range 20 { // a last chunk now and then
		now = now.Add(time.Second)
		s.measure(now, 1<<10, 1<<10)
	}
	if s.speed() != speed {
		t.Errorf("%.0f bytes/s became %.0f", speed, s.speed())
	}
	for range 20 { // and a peer that has become slow is found out
		now = now.Add(time.Second)
		s.measure(now, 1<<20, s.window())
	}
	if s.speed() > 2<<20 {
		t.Errorf("a slow peer seems to give %.0f bytes/s", s.speed())
	}
}

// What a slow peer was asked for last a fast one is asked for at the end.
func TestTheEndIsStolen(t *testing.T) {
	leakCheck(t)
	a := newAlone(t, Limits{Stall: time.Hour, GiveUp: time.Hour})
	m := newMemory(a.key)
	hold := make(chan struct{})
	slow := a.meet(far, trust.Write)
	slow.seed(m, func(answers [][]byte) [][]byte {
		select {
		case <-hold:
		case <-slow.s.over:
		}
		return answers
	})
	a.sources(1)
	var parts [][]byte
	for i := range 30 {
		parts = append(parts, noise(uint64(i), 1000))
	}
	r, ids := m.version(t, parts...)
	a.Want(r, ids...) // all of it is asked of the slow one
	f := a.Exchange.fetch
	wait(t, "asked", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.ahead.len() == 0
	})
	f.mu.Lock()
	for s := range f.sources {
		s.bytes, s.seconds = 1000, 1 // as it is known by now
	}
	f.mu.Unlock()
	a.meet(near, trust.Write).seed(m, asIs)
	for i, id := range ids[:30] {
		if data, err := a.Get(t.Context(), r, id); err != nil || !bytes.Equal(data, parts[i]) {
			t.Fatalf("%d: %v", i, err)
		}
	}
	close(hold)
	a.Drop(r.ID())
	a.idle(t)
}

// oneKey says of all chunks that they are others by any share key but one.
type oneKey struct {
	*memory
	key sharefs.KeyID
}

func (c oneKey) Check(v *record.Record, id sharefs.ChunkID, data []byte) error {
	if v.Body.(*record.Version).Key != c.key {
		return sharefs.KindCorrupt
	}
	return c.memory.Check(v, id, data)
}

// What came for a version of one share key is looked at again for one of another: its name may be that of something else by that.
func TestAChunkIsCheckedByTheKeyOfTheVersion(t *testing.T) {
	leakCheck(t)
	a := newAlone(t, Limits{}, func(c *Config) { c.Chunks = oneKey{c.Log.(*memory), sharefs.KeyID{1}} })
	m := newMemory(a.key)
	a.meet(far, trust.Write).seed(m, func(answers [][]byte) [][]byte { return answers })
	a.sources(1)
	one, ids := m.version(t, noise(1, 1000))
	body := *one.Body.(*record.Version)
	body.Key = sharefs.KeyID{2}
	other, err := record.New(share, m.key.ID, sharefs.HLCAt(time.Now()), &body)
	if err == nil {
		err = other.Sign(m.key.Private())
	}
	if err != nil {
		t.Fatal(err)
	}
	a.Want(one, ids[0])
	wait(t, "the chunk", func() bool {
		f := a.Exchange.fetch
		f.mu.Lock()
		defer f.mu.Unlock()
		w := f.wants[ids[0]]
		return w != nil && w.settled()
	})
	if data, err := a.Get(t.Context(), other, ids[0]); !errors.Is(err, sharefs.KindCorrupt) || data != nil {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	if data, err := a.Get(t.Context(), one, ids[0]); err != nil || !bytes.Equal(data, noise(1, 1000)) {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	if err := a.blame(far); err != nil {
		t.Errorf("the peer is blamed for it: %v", err)
	}
	a.idle(t)
}
