package exchange

import (
	"bufio"
	"io"
	"net"
	"testing"

	"sharefs/peers/exchange/wire"
	"sharefs/peers/trust"
)

// opened waits for a control stream that the exchange opens, and reads it from then on.
func (f *fake) opened(t testing.TB) (ended chan struct{}) {
	t.Helper()
	var c net.Conn
	wait(t, "a control stream", func() bool {
		select {
		case c = <-f.control:
			return true
		default:
			return false
		}
	})
	ended = make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, c)
	}()
	return ended
}

// A session that was dialed has its control stream before it is the one with the peer, and no other one when it is.
func TestASessionThatIsLed(t *testing.T) {
	leakCheck(t)
	a := newAlone(t, Limits{})
	a.set(far, trust.Read)
	s := newFake(true)
	defer s.end()
	a.dialing(far, s)
	ended := s.opened(t)
	if list := a.Peers(); len(list) != 0 {
		t.Errorf("it is told of: %+v", list)
	}
	a.connected(far, s)
	a.dialing(far, s)
	if list := a.Peers(); len(list) != 1 {
		t.Errorf("it is not told of: %+v", list)
	}
	select {
	case <-s.control:
		t.Error("another one")
	case <-ended:
		t.Error("it has ended")
	default:
	}

	// Another one that is led meanwhile is left alone, as there is one.
	o := newFake(true)
	defer o.end()
	a.dialing(far, o)
	if n := len(a.all()); n != 1 {
		t.Errorf("%d sessions are served", n)
	}
}

// Of two sessions the one that does not become that with the peer ends, and begins again if it does after all.
func TestASessionThatIsLedInVain(t *testing.T) {
	leakCheck(t)
	a := newAlone(t, Limits{})
	a.set(far, trust.Read)
	led, other := newFake(true), newFake(false)
	defer led.end()
	defer other.end()
	now := session(other)
	tell := func() {
		a.connected(far, now)
		a.leave(far, func() (session, bool) { return now, true })
	}
	a.dialing(far, led)
	ended := led.opened(t)
	tell()
	<-ended
	now = led
	tell()
	ended = led.opened(t)
	wait(t, "that session alone", func() bool { list := a.all(); return len(list) == 1 && list[0].s == now })
	if list := a.Peers(); len(list) != 1 {
		t.Errorf("it is not told of: %+v", list)
	}
	tell()
	select {
	case <-ended:
		t.Error("a session that has become the one with the peer was ended")
	default:
	}
}

// What is sent before the other's hello: the own one, the keys, the receiver's last batch and the offer. Nothing is answered before.
func TestBeforeTheOthersHello(t *testing.T) {
	leakCheck(t)
	a := newAlone(t, Limits{})
	a.ring = []byte("keys")
	a.memory.write(t, "one")
	o := a.meet(far, trust.Write)
	if h, ok := o.next().(*wire.Hello); !ok || h.Lowest != wire.Lowest || h.Highest != wire.Version {
		t.Fatalf("%+v", h)
	}
	if r, ok := o.next().(*wire.Ring); !ok || string(r.Bytes) != "keys" {
		t.Fatalf("%+v", r)
	}
	offer, ok := o.next().(*wire.Offer)
	if !ok || offer.Last == 0 {
		t.Fatalf("%+v", offer)
	}
	if err := o.w.Hello(wire.Hello{Lowest: 1, Highest: 1}); err != nil {
		t.Fatal(err)
	}
	if err := o.w.Begin(wire.Begin{Run: 1, Log: offer.Log}); err != nil {
		t.Fatal(err)
	}
	if m, ok := o.next().(*wire.Items); !ok || len(m.Items) != 1 {
		t.Fatalf("%+v", m)
	}

	// Who asks for items without a hello has none.
	b := newAlone(t, Limits{})
	b.memory.write(t, "one")
	b.set(far, trust.Write)
	s := newFake(false)
	defer s.end()
	o = &other{t: t, a: b, id: far, s: s}
	c := o.stream((*peer).controlStream)
	r := wire.NewReader(bufio.NewReader(c))
	go func() { _ = wire.NewWriter(c, b.key.ID).Begin(wire.Begin{Run: 1, Log: b.memory.id}) }()
	for {
		m, err := r.Next()
		if err != nil {
			break
		}
		if _, ok := m.(*wire.Items); ok {
			t.Error("it has")
		}
	}
	wait(t, "the blame for it", func() bool { return b.blame(far) != nil })
}
