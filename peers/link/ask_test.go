package link

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"sharefs/esp"
	"sharefs/peers/identity"
	"sharefs/peers/report"
	"sharefs/peers/trust"
)

// grants gives another host a level, and returns when that counts.
func (o *host) grants(other *host, l trust.Level, path string) {
	o.t.Helper()
	pattern, err := trust.ParsePattern(path)
	if err == nil {
		_, err = o.cfg.Book.Grant(other.key.ID.String(), l, pattern)
	}
	if err != nil {
		o.t.Fatal(err)
	}
	o.Sync()
}

// A peer says what it grants at the moment at which it is asked, whatever either of the two has begun.
func TestAskingAPeer(t *testing.T) {
	a, b := newHost(t, "anna"), newHost(t, "bert")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	says := func(what, want string) {
		t.Helper()
		if got := a.Ask(ctx, b.key.ID); got != want {
			t.Errorf("%s: %q, not %q", what, got, want)
		}
	}
	says("a stranger", report.SaysAway)
	a.pairWith(b)
	says("nothing is granted", report.SaysRefuses)
	a.grants(b, trust.Manage, "")
	says("what is granted here says nothing", report.SaysRefuses)
	for _, l := range trust.Levels()[trust.Paired:] {
		b.grants(a, l, "")
		want := report.SaysRefuses
		if l.Rights().Out >= trust.OutPlain {
			want = report.SaysReads
		}
		for range 5 {
			says(l.String(), want)
		}
	}
	b.grants(a, trust.Paired, "")
	b.grants(a, trust.Read, "photos")
	says("a part", report.SaysReads)
	b.grants(a, trust.Paired, "photos")
	says("not any more", report.SaysRefuses)
	now, end := context.WithCancel(ctx)
	b.Close()
	wait(t, "the end of the connection", func() bool { return !a.Peers()[0].Connected })
	end()
	if got := a.Ask(now, b.key.ID); got != report.SaysAway {
		t.Errorf("a peer that is away: %q", got)
	}
	b.start("127.0.0.1:0")
	says("who waits is answered when it is back", report.SaysRefuses)
	a.grants(b, trust.Blocked, "")
	says("who was shut out", report.SaysAway)
}

// Many who ask at once, over connections of which one takes the place of another, are all answered.
func TestAskingWhileBothDial(t *testing.T) {
	for range 5 {
		a, b := newHost(t, "anna"), newHost(t, "bert")
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		atA, atB := a.addresses(), b.addresses()
		if err := a.AddByHand("1", b.key.ID, "bert", nil); err != nil {
			t.Fatal(err)
		}
		a.grants(b, trust.Read, "")
		if err := b.AddByHand("1", a.key.ID, "anna", atA); err != nil {
			t.Fatal(err)
		}
		got := make(chan string, 20)
		for range cap(got) / 2 {
			go func() { got <- a.Ask(ctx, b.key.ID) }()
			go func() { got <- b.Ask(ctx, a.key.ID) }()
		}
		a.mu2(func() { a.Hub.peers[b.key.ID].heard = atB })
		poke(a.Hub.peers[b.key.ID].poke)
		n := map[string]int{}
		for range cap(got) {
			n[<-got]++
		}
		if n[report.SaysReads] != cap(got)/2 || n[report.SaysRefuses] != cap(got)/2 {
			t.Errorf("%v", n)
		}
		a.Close()
		b.Close()
	}
}

// dumb is the system's net, until nothing that is sent leaves it any more, nor comes in.
type dumb struct{ is atomic.Bool }

type dumbConn struct {
	net.PacketConn
	net *dumb
}

func (d *dumb) ListenPacket(at netip.AddrPort) (net.PacketConn, error) {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	return &dumbConn{c, d}, err
}

func (d *dumb) Listen(netip.AddrPort) (net.Listener, error) { return nil, net.ErrClosed }

func (d *dumb) Dial(context.Context, netip.Addr, netip.AddrPort) (net.Conn, error) {
	return nil, net.ErrClosed
}

func (d *dumb) Addrs() ([]netip.Addr, error) { return nil, nil }

func (c *dumbConn) ReadFrom(b []byte) (n int, from net.Addr, err error) {
	for {
		if n, from, err = c.PacketConn.ReadFrom(b); err != nil || !c.net.is.Load() {
			return n, from, err
		}
	}
}

func (c *dumbConn) WriteTo(b []byte, to net.Addr) (int, error) {
	if c.net.is.Load() {
		return len(b), nil
	}
	return c.PacketConn.WriteTo(b, to)
}

// An older peer is told apart from one that does not answer; and one that gives no sign of life, though it is connected, from one that does.
func TestPeersThatDoNotAnswer(t *testing.T) {
	a := newHost(t, "anna")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	key := identity.New()
	if err := a.AddByHand("1", key.ID, "bert", nil); err != nil {
		t.Fatal(err)
	}
	a.greetedBy(ctx, key)
	if got := a.Ask(ctx, key.ID); got != report.SaysNothing {
		t.Errorf("an older peer: %q", got)
	}

	var way dumb
	e, err := esp.New(esp.Config{Key: esp.PrivateKeyFromEd25519(key.Private()), Addrs: []string{"127.0.0.1:0"}, Net: &way, DisableTCP: true, Linger: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	s := a.greetedOver(ctx, e, key, true)
	theirs, _ := a.Connected(key.ID)
	asking, enough := context.WithCancel(ctx)
	says := make(chan string)
	go func() { says <- a.Ask(asking, key.ID) }()
	wait(t, "the question", func() (asked bool) {
		a.mu2(func() { asked = a.Hub.peers[key.ID].link.answers.asked > 0 })
		return asked
	})
	began := theirs.Heard()
	wait(t, "a sign of life behind it", func() bool {
		_ = s.Probe(ctx)
		return theirs.Heard().After(began)
	})
	enough()
	if got := <-says; got != report.SaysNothing {
		t.Errorf("one that hears and does not answer: %q", got)
	}
	if p := a.Peers()[0]; p.Silent || p.Heard.Before(began) {
		t.Errorf("%+v", p)
	}
	way.is.Store(true)
	wait(t, "silence", func() bool {
		asking, enough := context.WithTimeout(ctx, 20*time.Millisecond)
		defer enough()
		return a.Ask(asking, key.ID) == report.SaysSilent
	})
	wait(t, "silence in what is told", func() bool {
		a.Sound()
		p := a.Peers()[0]
		return p.Connected && p.Silent
	})
	way.is.Store(false)
	wait(t, "an end of it", func() bool {
		a.Sound()
		p := a.Peers()[0]
		return p.Connected && !p.Silent
	})
	if now, ok := a.Connected(key.ID); !ok || now != theirs || s.Err() != nil {
		t.Errorf("it is another session: %v", s.Err())
	}
}
