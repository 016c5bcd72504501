package link

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"sharefs"
	"sharefs/esp"
	"sharefs/peers/frame"
	"sharefs/peers/identity"
)

// A host that restarts at the same place is found; at another place it finds the others.
func TestRestart(t *testing.T) {
	a, b := newHost(t, "anna"), newHost(t, "bert")
	b.pairWith(a)
	began, _ := b.cfg.Book.Peer(a.key.ID)
	var ended time.Time // in another second than it began
	wait(t, "the next second", func() bool { ended = time.Now().Truncate(time.Second); return ended.After(began.Seen) })
	a.Close()
	wait(t, "a word of the end", func() bool { return !b.Peers()[0].Connected })
	wait(t, "the time of the end", func() bool { p, _ := b.cfg.Book.Peer(a.key.ID); return !p.Seen.Before(ended) })
	a.start("127.0.0.1:0")
	a.connected(b)
}

// Two that dial each other at once end with one session.
func TestBothDial(t *testing.T) {
	for range 5 {
		a, b := newHost(t, "anna"), newHost(t, "bert")
		atA, atB := a.addresses(), b.addresses()
		var wg sync.WaitGroup
		wg.Go(func() { _ = a.AddByHand("1", b.key.ID, "bert", atB) })
		wg.Go(func() { _ = b.AddByHand("1", a.key.ID, "anna", atA) })
		wg.Wait()
		a.connected(b)
		a.Close()
		b.Close()
	}
}

// late is a way to a host that opens when it is told to: a UDP proxy for one client.
func late(t *testing.T, to string, open <-chan struct{}) (addr string, asked <-chan struct{}) {
	t.Helper()
	in, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	out, err := net.Dial("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	first := make(chan struct{})
	var client net.Addr
	var ways sync.WaitGroup
	ways.Go(func() {
		b := make([]byte, 64<<10)
		for {
			n, from, err := in.ReadFrom(b)
			if err != nil {
				return
			}
			if client == nil {
				client = from
				close(first)
				<-open
			}
			_, _ = out.Write(b[:n])
		}
	})
	ways.Go(func() {
		b := make([]byte, 64<<10)
		for {
			n, err := out.Read(b)
			if err != nil {
				return
			}
			_, _ = in.WriteTo(b[:n], client)
		}
	})
	t.Cleanup(func() {
		in.Close()
		out.Close()
		ways.Wait()
	})
	return in.LocalAddr().String(), first
}

// heard is a log in which a text was found, or not yet.
type heard struct {
	slog.Handler
	text string
	is   chan struct{}
	once *sync.Once
}

func (h heard) Enabled(context.Context, slog.Level) bool { return true }

func (h heard) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if strings.Contains(a.Value.String(), h.text) {
			h.once.Do(func() { close(h.is) })
		}
		return true
	})
	return nil
}

// Where a peer has connected by itself by the time at which it answers a call, nothing comes of the call: a second session would have a part of what is under way.
func TestACallThatIsAnsweredLate(t *testing.T) {
	a := &host{t: t, key: identity.New(), name: "anna", log: heard{slog.DiscardHandler, errConnected.Error(), make(chan struct{}), new(sync.Once)}}
	a.start("127.0.0.1:0")
	b := newHost(t, "bert")
	open := make(chan struct{})
	addr, asked := late(t, b.addresses()[0], open)
	t.Cleanup(func() { a.Close() })
	if err := a.AddByHand("1", b.key.ID, "bert", []string{addr}); err != nil {
		t.Fatal(err)
	}
	<-asked
	if err := b.AddByHand("1", a.key.ID, "anna", a.addresses()); err != nil {
		t.Fatal(err)
	}
	a.connected(b)
	s, _ := a.Connected(b.key.ID)
	close(open)
	select {
	case <-a.log.(heard).is:
	case <-time.After(patience):
		t.Fatal("the call is not given up")
	}
	a.connected(b)
	if now, _ := a.Connected(b.key.ID); now != s {
		t.Error("another session")
	}
	a.mu2(func() {
		if n := len(a.peers[b.key.ID].leaving); n > 0 {
			t.Errorf("%d sessions leave", n)
		}
	})
}

// What is under way in a session goes on when another one takes its place, but not for who is revoked.
func TestASessionThatIsReplacedGoesOn(t *testing.T) {
	a := newHost(t, "anna")
	a.Handle("echo", func(_ sharefs.PeerID, c *esp.Conn, _ json.RawMessage) {
		_, _ = io.Copy(c, c)
		c.Close()
	})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	key := identity.New()
	if err := a.AddByHand("1", key.ID, "bert", nil); err != nil {
		t.Fatal(err)
	}
	open := func(s *esp.Session) (*esp.Conn, error) {
		c, err := s.Open(ctx)
		if err == nil {
			err = frame.Write(c, map[string]string{"purpose": "echo"})
		}
		return c, err
	}
	echo := func(c *esp.Conn) error {
		b := make([]byte, 5)
		_ = c.SetDeadline(time.Now().Add(patience))
		if _, err := c.Write([]byte("hello")); err != nil {
			return err
		}
		_, err := io.ReadFull(c, b)
		return err
	}
	anew := func(s *esp.Session) error {
		c, err := open(s)
		if err == nil {
			err = echo(c)
		}
		return err
	}
	old := a.greetedBy(ctx, key)
	c, err := open(old)
	if err == nil {
		err = echo(c)
	}
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	late := a.greetedBy(ctx, key)
	for what, err := range map[string]error{"a stream of before": echo(c), "a stream that is opened late": anew(old)} {
		if err != nil && time.Since(begun) < leaveTime { // on a machine that stood still the session may be over
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := anew(late); err != nil {
		t.Error(err)
	}
	if _, err := a.cfg.Book.Revoke("bert"); err != nil {
		t.Fatal(err)
	}
	a.Sync()
	for _, s := range []*esp.Session{old, late} {
		select {
		case <-s.Done():
		case <-time.After(patience):
			t.Error("a session with a peer that is revoked goes on")
		}
	}
}
