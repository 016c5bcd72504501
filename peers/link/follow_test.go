package link

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"sharefs"
	"sharefs/esp"
	"sharefs/peers/book"
	"sharefs/peers/frame"
)

// Who follows is told of each session, and may open streams at once, whichever end knows first that they are connected.
func TestFollowersOpenStreamsAtOnce(t *testing.T) {
	a, b := newHost(t, "anna"), newHost(t, "bert")
	served := make(chan sharefs.PeerID, 100)
	follow := func(o *host) {
		o.Handle("test", func(peer sharefs.PeerID, c *esp.Conn, _ json.RawMessage) {
			defer c.Close()
			served <- peer
		})
		o.Follow(func(_ sharefs.PeerID, s *esp.Session) {
			c, err := s.Open(context.Background())
			if err != nil { // of two sessions that began at the same time one ends
				return
			}
			defer c.Close()
			if frame.Write(c, map[string]string{"purpose": "test"}) == nil {
				_, _ = c.Read(make([]byte, 1)) // until it was served
			}
		})
	}
	follow(a) // before they are connected
	follow(b)
	a.pairWith(b)
	both := func() {
		t.Helper()
		got := map[sharefs.PeerID]bool{}
		wait(t, "a stream of each", func() bool {
			for {
				select {
				case id := <-served:
					got[id] = true
				default:
					return got[a.key.ID] && got[b.key.ID]
				}
			}
		})
	}
	both()
	a.Close()
	a.start("127.0.0.1:0")
	follow(a) // it may be connected by now
	b.connected(a)
	both()
}

// Who leads opens a stream before the peer has answered the hello, and the peer serves it when it has: under its name, and once it is connected.
func TestLeadersOpenStreamsBeforeTheHelloIsAnswered(t *testing.T) {
	a, b := newHost(t, "anna"), newHost(t, "bert")
	type call struct {
		peer      sharefs.PeerID
		connected bool
	}
	served := make(chan call, 100)
	a.Handle("test", func(peer sharefs.PeerID, c *esp.Conn, _ json.RawMessage) {
		defer c.Close()
		s, ok := a.Connected(peer)
		served <- call{peer, ok && s == c.Session()}
		_ = frame.Write(c, map[string]string{})
	})
	answered := make(chan error, 100)
	b.Lead(func(_ sharefs.PeerID, s *esp.Session) {
		if !s.Dialed() {
			t.Error("a session that the peer dialed")
		}
		first, err := frame.Encode(map[string]string{"purpose": "test"})
		if err != nil {
			t.Error(err)
			return
		}
		c, err := s.OpenEarly(context.Background(), first)
		if err == nil {
			defer c.Close()
			err = frame.Read(c, &map[string]string{})
		}
		answered <- err
	})
	know(t, a, b, nil) // so that it cannot dial
	know(t, b, a, a.addresses())
	b.connected(a)
	select {
	case err := <-answered:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatal("no answer")
	}
	if got := <-served; got.peer != b.key.ID || !got.connected {
		t.Errorf("served as %+v", got)
	}
}

// know has a host know another one, at addresses.
func know(t *testing.T, o, other *host, at []string) {
	t.Helper()
	if _, err := o.cfg.Book.Add(other.key.ID, other.name, book.ByHand, at, nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	o.Sync()
}

// Nobody is served over a session in which no hello is said, whatever was opened before it.
func TestNothingIsServedBeforeTheHello(t *testing.T) {
	a, b := newHost(t, "anna"), newHost(t, "bert")
	know(t, a, b, nil)
	served := make(chan bool, 1)
	a.Handle("test", func(_ sharefs.PeerID, c *esp.Conn, _ json.RawMessage) {
		c.Close()
		served <- true
	})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := strangerWith(t, b.key).Connect(ctx, a.espAddr())
	if err != nil {
		t.Fatal(err)
	}
	first, err := frame.Encode(map[string]string{"purpose": "test"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.OpenEarly(ctx, first)
	if err != nil {
		t.Fatal(err)
	}
	h, err := s.OpenEarly(ctx, nil)
	if err == nil { // a hello that proves nothing
		err = frame.Write(h, hello{Purpose: purposeHello, ID: b.key.ID, Name: "bert", Boot: 1})
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("an answer")
	}
	select {
	case <-served:
		t.Error("it was served")
	default:
	}
}
