package link

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"sharefs/esp"
	"sharefs/peers/frame"
	"sharefs/peers/identity"
	"sharefs/peers/report"
	"sharefs/peers/trust"
)

// Who was paired by a link and then revoked, or forgotten, does not come back by that link while another one is open, nor by one that was made before.
func TestALinkIsNoWayBack(t *testing.T) {
	for name, end := range map[string]func(*host) error{
		"revoked":   func(a *host) error { _, err := a.cfg.Book.Revoke("bert"); return err },
		"forgotten": func(a *host) error { _, err := a.cfg.Book.Forget("bert"); return err },
	} {
		t.Run(name, func(t *testing.T) {
			a, b := newHost(t, "anna"), newHost(t, "bert")
			link := a.offer("1")
			if w := b.join("1", link); w.State != report.Done {
				t.Fatalf("%+v", w)
			}
			a.connected(b)
			a.offer("2") // strangers are let in
			if w := b.join("answer lost", link); w.State != report.Done {
				t.Errorf("%+v", w)
			}
			before := a.offer("before")
			if err := end(a); err != nil {
				t.Fatal(err)
			}
			if w := b.join("at once", before); w.State != report.Failed || !strings.Contains(w.Error, "revoked or forgotten there after the link was made") {
				t.Errorf("%+v", w)
			}
			a.Sync()
			for what, l := range map[string]string{"again": link, "by another": before} {
				if w := b.join(what, l); w.State != report.Failed {
					t.Errorf("%s: %+v", what, w)
				}
			}
			for _, p := range a.Peers() {
				if p.Level != trust.Blocked.String() || p.Connected {
					t.Errorf("%+v", p)
				}
			}
			if w := a.window("2"); w.State != report.Open {
				t.Errorf("%+v", w)
			}
			if w := b.join("as a new one", a.offer("after")); w.State != report.Done {
				t.Errorf("%+v", w)
			}
		})
	}
}

// A session in which nothing is said ends, and that with a peer does not.
func TestSilentSessionsEnd(t *testing.T) {
	a, b := newHost(t, "anna"), newHost(t, "bert")
	b.pairWith(a)
	a.offer("1")
	e, _ := stranger(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := e.Connect(ctx, a.espAddr())
	if err != nil {
		t.Fatal(err)
	}
	wait(t, "the session there", func() bool {
		for _, s := range a.Hub.ep.Sessions() {
			if s.PeerKey() == e.PublicKey() {
				return true
			}
		}
		return false
	})
	a.mu2(func() {
		if a.sweep == nil {
			t.Fatal("nobody looks for it")
		}
		a.sweep.Stop()
	})
	a.endSilent()
	if s.Err() != nil {
		t.Error("it ended at once")
	}
	a.endSilent()
	select {
	case <-s.Done():
	case <-ctx.Done():
		t.Error("it does not end")
	}
	a.connected(b)
	a.endSilent()
	a.mu2(func() {
		if l := a.Hub.peers[b.key.ID].link; l != nil && a.silent[l.sess] {
			t.Error("the session with a peer is to end")
		}
	})
}

// Who opens streams and says nothing in them leaves room for others.
func TestStreamsWithoutAWord(t *testing.T) {
	a := newHost(t, "anna")
	a.offer("1")
	e, _ := stranger(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var last *esp.Conn
	for range mostServingOf + 8 {
		c, err := e.Dial(ctx, a.espAddr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = c.Write([]byte{0}) // it may be closed already
		last = c
	}
	if _, err := last.Read(make([]byte, 1)); err == nil {
		t.Error("an answer")
	}
	a.mu2(func() {
		if n := a.servingOf[esp.PublicKey{}]; n > mostServingOf || n != a.serving {
			t.Errorf("%d of strangers, %d in all", n, a.serving)
		}
	})
}

// A peer that connects again and again is held off.
func TestAFloodOfHellos(t *testing.T) {
	a := newHost(t, "anna")
	e, key := stranger(t)
	if err := a.AddByHand("1", key.ID, "mallory", nil); err != nil {
		t.Fatal(err)
	}
	const few = 3
	a.mu2(func() { a.Hub.peers[key.ID].hellos = meter{burst: few} })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	answered := 0
	for i := range uint64(4 * few) {
		c, err := e.Dial(ctx, a.espAddr())
		if err != nil {
			continue // it found a session that ends
		}
		s := c.Session()
		var answer hello
		err = frame.Write(c, hello{Purpose: purposeHello, ID: key.ID, Name: "mallory", Boot: i + 1, Proof: identity.Prove(key.Private(), purposeHello, s.Binding(), s.Dialed())})
		if err == nil {
			err = frame.Read(c, &answer)
		}
		if err == nil {
			answered++
		}
		s.Close()
	}
	if answered == 0 || answered > few { // fewer where the host dials back meanwhile
		t.Errorf("%d hellos were answered", answered)
	}
}

// What is to be told to a peer that does not read does not pile up.
func TestNotesDoNotPileUp(t *testing.T) {
	a := newHost(t, "anna")
	l := &link{h: a.Hub, writing: true} // by somebody who gets nowhere
	for i := range 1000 {
		l.tell(note{Kind: noteFound, Addrs: []string{fmt.Sprint(i)}})
	}
	if len(l.waiting) != mostWaiting {
		t.Errorf("%d wait", len(l.waiting))
	}
	l.waiting = nil
	for i := range 1000 {
		l.tell(note{Kind: noteMeet, Addrs: []string{fmt.Sprint(i)}})
		l.tell(note{Kind: noteAddresses, Addrs: []string{fmt.Sprint(i)}})
	}
	if len(l.waiting) != 2 || l.waiting[0].Kind != noteMeet || l.waiting[0].Addrs[0] != "999" || l.waiting[1].Addrs[0] != "999" {
		t.Errorf("%+v", l.waiting)
	}
}

// A peer that says why it ends a session writes nothing but text on a terminal.
func TestWhatPeersSayIsPrintable(t *testing.T) {
	a := newHost(t, "anna")
	a.offer("1")
	a.mu2(func() {
		a.windows[0].fail(&esp.SessionError{Code: esp.CodeRefused, Remote: true, Reason: "\x1b[31mä\u202e\n\xff"})
	})
	if w := a.window("1"); w.State != report.Failed || !strings.HasSuffix(w.Error, ": ?[31mä??\ufffd") {
		t.Errorf("%q", w.Error)
	}
}

// However many change the book at once, what holds in the end is what it says in the end.
func TestTheLatestOfTheBookHolds(t *testing.T) {
	a := newHost(t, "anna")
	id := identity.New().ID
	if err := a.AddByHand("1", id, "bert", nil); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(a.Sync)
		}
		wg.Go(func() {
			if _, err := a.cfg.Book.Revoke("bert"); err != nil {
				t.Error(err)
			}
			a.Sync()
		})
		wg.Wait()
		a.mu2(func() {
			if a.welcomes(id) {
				t.Fatal("who was revoked is let in")
			}
		})
		if _, err := a.cfg.Book.Grant("bert", trust.Paired, trust.Pattern{}); err != nil {
			t.Fatal(err)
		}
		a.Sync()
	}
}
