package exchange

import (
	"bytes"
	"net"
	"strings"
	"testing"
	"time"

	"sharefs"
	"sharefs/peers/exchange/wire"
	"sharefs/peers/record"
	"sharefs/peers/trust"
)

// ages are limits that nothing reaches unless a test says that time has passed.
var ages = Limits{Stall: time.Hour, Silence: 2 * time.Hour, GiveUp: 1000 * time.Hour}

// byHand has a peer offer content, which is asked for over the stream that is returned, and answered by the test.
func (o *other) byHand() net.Conn {
	o.t.Helper()
	o.hello()
	if err := o.send(wire.OfferMessage(wire.Offer{Log: LogID{9}})); err != nil {
		o.t.Fatal(err)
	}
	o.a.wait("it can be asked", func(f *fetcher) bool { return f.of1(o.id) != nil })
	c := <-o.s.chunks
	_ = c.SetDeadline(time.Now().Add(patience))
	o.t.Cleanup(func() { c.Close() })
	return c
}

// metByHand is an exchange that asks one peer for content of a memory, over the stream that is returned.
func metByHand(t *testing.T) (a *alone, m *memory, o *other, c net.Conn) {
	t.Helper()
	leakCheck(t)
	a = newAlone(t, ages)
	o = a.meet(far, trust.Write)
	return a, newMemory(a.key), o, o.byHand()
}

// of1 returns the source of a peer; nil: there is none. f.mu is held.
func (f *fetcher) of1(id sharefs.PeerID) *source {
	for s := range f.sources {
		if s.p.id == id {
			return s
		}
	}
	return nil
}

// wait waits until something holds of what is fetched.
func (a *alone) wait(what string, holds func(*fetcher) bool) {
	a.t.Helper()
	f := a.Exchange.fetch
	wait(a.t, what, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return holds(f)
	})
}

// ago says that a peer was asked long ago, and that bytes of it came when moved says; then it is looked at.
func (a *alone) ago(id sharefs.PeerID, moved time.Time) {
	a.t.Helper()
	f := a.Exchange.fetch
	f.mu.Lock()
	s, before := f.of1(id), time.Now().Add(-3*time.Hour)
	s.last = before
	s.moved.Store(moved.UnixNano())
	for _, st := range s.streams {
		st.last = before
		st.moved.Store(moved.UnixNano())
	}
	for _, q := range s.openAsks() {
		q.since = before
	}
	f.mu.Unlock()
	s.look()
}

// getting gets a chunk, and returns what tells how that ended.
func (a *alone) getting(r *record.Record, id sharefs.ChunkID) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := a.Get(a.t.Context(), r, id)
		done <- err
	}()
	return done
}

// asked waits for a question.
func asked(t *testing.T, c net.Conn) {
	t.Helper()
	if m, err := wire.NewReader(c).Next(); err != nil {
		t.Fatal(err)
	} else if _, ok := m.(*wire.Want); !ok {
		t.Fatalf("%T", m)
	}
}

// answer is the message that answers one question.
func (o *other) answer(data []byte) []byte {
	o.t.Helper()
	var b bytes.Buffer
	m := wire.NewChunks()
	m.Add(data)
	if err := send(wire.NewWriter(&b, o.a.key.ID), o.permit(), m.Message()); err != nil {
		o.t.Fatal(err)
	}
	return b.Bytes()
}

func (o *other) write(c net.Conn, b []byte) {
	o.t.Helper()
	if _, err := c.Write(b); err != nil {
		o.t.Fatal(err)
	}
}

// A peer that stops within a chunk is not waited for beyond the bound, nor asked again, until it goes on: then what it was asked for counts, and whoever looks again is told to.
func TestAPeerThatGoesSilentWithinAChunk(t *testing.T) {
	a, m, o, c := metByHand(t)
	data := noise(1, 100_000)
	r, ids := m.version(t, data)
	done := a.getting(r, ids[0])
	asked(t, c)
	whole := o.answer(data)
	o.write(c, whole[:len(whole)/2])
	a.ago(far, time.Now().Add(-3*time.Hour))
	if err := <-done; !isKind(err, sharefs.KindUnreachable) {
		t.Fatal(err)
	}
	if _, err := a.Get(t.Context(), r, ids[0]); !isKind(err, sharefs.KindUnreachable) || !strings.Contains(err.Error(), "does not answer") {
		t.Error(err)
	}
	a.idle(t)
	told := a.told()
	o.write(c, whole[len(whole)/2:])
	wait(t, "a reason to look again", func() bool { return a.told() > told })
	a.wait("it is asked again", func(f *fetcher) bool { s := f.of1(far); return !s.silent && !s.stalled })
	done = a.getting(r, ids[0])
	asked(t, c)
	o.write(c, whole)
	if err := <-done; err != nil {
		t.Error(err)
	}
	a.idle(t)
}

// One that is slow is waited for, as long as something comes.
func TestAPeerThatIsSlow(t *testing.T) {
	a, m, o, c := metByHand(t)
	data := noise(1, 100_000)
	r, ids := m.version(t, data, noise(2, 1000))
	done := a.getting(r, ids[0])
	asked(t, c)
	whole := o.answer(data)
	for i := range 10 {
		o.write(c, whole[i*1000:(i+1)*1000])
		a.ago(far, time.Now())
	}
	select {
	case err := <-done:
		t.Fatalf("it was cut off: %v", err)
	default:
	}
	o.write(c, whole[10_000:])
	if err := <-done; err != nil {
		t.Error(err)
	}
	done = a.getting(r, ids[1])
	asked(t, c)
	a.ago(far, time.Now().Add(-3*time.Hour))
	if err := <-done; !isKind(err, sharefs.KindUnreachable) {
		t.Error(err)
	}
	a.idle(t)
}

// What somebody has waited for long is asked of others as well, though the peer that was asked for it sends something.
func TestOthersAreAskedForWhatIsSlow(t *testing.T) {
	a, m, o, c := metByHand(t)
	data := noise(1, 100_000)
	r, ids := m.version(t, data)
	done := a.getting(r, ids[0])
	asked(t, c)
	a.meet(near, trust.Write).seed(m, asIs)
	a.sources(2)
	o.write(c, o.answer(data)[:1000])
	a.ago(far, time.Now())
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A stream over which nothing comes is given up, though others of the peer move.
func TestAStreamThatIsStuck(t *testing.T) {
	a, m, _, c := metByHand(t)
	r, ids := m.version(t, noise(1, 1000))
	done := a.getting(r, ids[0])
	asked(t, c)
	f := a.Exchange.fetch
	f.mu.Lock()
	s := f.of1(far)
	s.streams[0].last = time.Now().Add(-3 * time.Hour)
	s.moved.Store(time.Now().UnixNano())
	f.mu.Unlock()
	s.look()
	if err := <-done; !isKind(err, sharefs.KindUnreachable) {
		t.Error(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the stream is open")
	}
	a.idle(t)
}

// What a peer was asked for by one who does not wait any more is an answer for whoever asks by then.
func TestALateAnswerCounts(t *testing.T) {
	a, m, o, c := metByHand(t)
	data := noise(1, 1000)
	r, ids := m.version(t, data)
	a.Want(r, ids[0])
	asked(t, c)
	a.Drop(r.ID())
	done := a.getting(r, ids[0])
	asked(t, c)
	o.write(c, o.answer(data))
	if err := <-done; err != nil {
		t.Error(err)
	}
	o.write(c, o.answer(data))
	a.idle(t)
}
