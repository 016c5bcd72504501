package esp

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sharefs/esp/internal/simnet"
)

// bothCarriages runs a test over UDP alone and over TCP alone, in a bubble.
func bothCarriages(t *testing.T, test func(t *testing.T, base Config)) {
	t.Helper()
	for _, base := range []Config{{DisableTCP: true}, {DisableUDP: true}} {
		name := "over UDP"
		if base.DisableUDP {
			name = "over TCP"
		}
		t.Log(name)
		synctest.Test(t, func(t *testing.T) { test(t, base) })
	}
}

// exchange sends a few bytes both ways.
func exchange(t *testing.T, a, b net.Conn) {
	t.Helper()
	for range 2 {
		if _, err := a.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		var buf [5]byte
		if _, err := io.ReadFull(b, buf[:]); err != nil || string(buf[:]) != "hello" {
			t.Fatalf("%q, %v", buf, err)
		}
		a, b = b, a
	}
}

// An endpoint answers strangers as long as it is told to.
func TestPairingIsSwitched(t *testing.T) {
	s := newSim(t, simConfig{client: Config{Authorize: func(PublicKey) error { return nil }, HandshakeTimeout: testTime}, link: simnet.Link{Delay: 5 * time.Millisecond}})
	defer s.close()
	dial := func() (*Conn, error) { return s.client.Dial(t.Context(), serverIP+":7000") }
	silence := func(when string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.client.Dial(ctx, serverIP+":7000"); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%s: %v", when, err)
		}
	}
	silence("before")
	s.server.SetPairing(true)
	c, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	first := c.Session().Binding()
	c.Session().Close()
	if c, err = dial(); err != nil || c.Session().Binding() == first {
		t.Fatalf("the second session: %v", err)
	}
	c.Session().Close()
	s.server.SetPairing(false)
	silence("after")
}

func TestPairing(t *testing.T) {
	bothCarriages(t, func(t *testing.T, base Config) {
		server, client := base, base
		server.Pairing = true
		var seen, accepted []PublicKey
		server.Authorize = func(k PublicKey) error { accepted = append(accepted, k); return nil }
		client.Authorize = func(k PublicKey) error { seen = append(seen, k); return nil }
		s := newSim(t, simConfig{client: client, server: server, link: simnet.Link{Delay: 5 * time.Millisecond, Loss: 0.1}})
		defer s.close()
		c, err := s.client.Dial(t.Context(), serverIP+":7000")
		if err != nil {
			t.Fatal(err)
		}
		d, err := s.l.AcceptStream()
		if err != nil {
			t.Fatal(err)
		}
		exchange(t, c, d)
		if len(seen) != 1 || seen[0] != s.server.PublicKey() || len(accepted) != 1 || accepted[0] != s.client.PublicKey() {
			t.Fatalf("seen %v, accepted %v", seen, accepted)
		}
		if c.PeerKey() != s.server.PublicKey() || d.PeerKey() != s.client.PublicKey() {
			t.Fatal("wrong peer keys")
		}
		if c.Session().Binding() != d.Session().Binding() || c.Session().Binding() == [32]byte{} {
			t.Fatal("the two ends have different bindings")
		}
		if !c.Session().Dialed() || d.Session().Dialed() {
			t.Fatal("who dialed?")
		}
		// The second dial finds the session.
		c2, err := s.client.Dial(t.Context(), serverIP+":7000")
		if err != nil || c2.Session() != c.Session() {
			t.Fatalf("another session: %v", err)
		}
	})
}

func TestRefused(t *testing.T) {
	bothCarriages(t, func(t *testing.T, base Config) {
		for _, known := range []bool{true, false} {
			server, client := base, base
			server.Pairing = true
			server.Authorize = func(PublicKey) error { return errors.New("not today\x1b[31m") }
			client.Authorize = func(PublicKey) error { return nil }
			s := newSim(t, simConfig{client: client, server: server, link: simnet.Link{Delay: 5 * time.Millisecond}})
			addr := s.address()
			if !known {
				_, addr, _ = strings.Cut(addr, "@")
			}
			_, err := s.client.Dial(t.Context(), addr)
			if !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), "not today[31m") {
				t.Errorf("key known %v: %v", known, err)
			}
			if n := len(s.server.Sessions()); n != 0 {
				t.Errorf("%d sessions are left", n)
			}
			s.close()
		}
	})
}

func TestClientRefusesServer(t *testing.T) {
	bothCarriages(t, func(t *testing.T, base Config) {
		server, client := base, base
		server.Pairing = true
		no := errors.New("who is that?")
		client.Authorize = func(PublicKey) error { return no }
		s := newSim(t, simConfig{client: client, server: server})
		defer s.close()
		if _, err := s.client.Dial(t.Context(), serverIP+":7000"); !errors.Is(err, no) {
			t.Fatal(err)
		}
	})
}

func TestWrongKey(t *testing.T) {
	bothCarriages(t, func(t *testing.T, base Config) {
		server := base
		server.Pairing = true
		s := newSim(t, simConfig{client: base, server: server, link: simnet.Link{Delay: 5 * time.Millisecond}})
		defer s.close()
		other := PrivateKey{3, 3, 3}.Public()
		_, err := s.client.Dial(t.Context(), other.String()+"@"+serverIP+":7000")
		var ke *KeyError
		if !errors.As(err, &ke) || ke.Expected != other || ke.Seen != s.server.PublicKey() {
			t.Fatalf("%v", err)
		}
		if !strings.Contains(err.Error(), other.String()) || !strings.Contains(err.Error(), s.server.PublicKey().String()) {
			t.Fatalf("the error does not name both keys: %v", err)
		}
	})
}

// TestSilence: an endpoint that does not pair says nothing to who does not know its key.
func TestSilence(t *testing.T) {
	bothCarriages(t, func(t *testing.T, base Config) {
		s := newSim(t, simConfig{client: base, server: base})
		defer s.close()
		other := PrivateKey{3, 3, 3}.Public()
		_, err := s.client.Dial(t.Context(), other.String()+"@"+serverIP+":7000")
		if !errors.Is(err, ErrNoAnswer) || !errors.Is(err, syscall.ETIMEDOUT) {
			t.Fatalf("%v", err)
		}
		if st := s.server.Stats(); st.BadMac == 0 || st.Handshakes != 0 {
			t.Fatalf("%+v", st)
		}
		if _, err := s.client.Dial(t.Context(), serverIP+":7000"); !errors.Is(err, ErrNoKey) {
			t.Fatalf("%v", err)
		}
	})
}

func TestNobodyThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, simConfig{})
		defer s.close()
		key := s.server.PublicKey().String()
		start := time.Now()
		_, err := s.client.Dial(t.Context(), key+"@"+serverIP+":9")
		if !errors.Is(err, syscall.ECONNREFUSED) || time.Since(start) > 3*time.Second {
			t.Fatalf("after %v: %v", time.Since(start), err)
		}
		var oe *net.OpError
		if !errors.As(err, &oe) || oe.Op != "dial" {
			t.Fatalf("%#v", err)
		}
		s.n.Link(clientIP, serverIP, simnet.Link{Down: true})
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if _, err = s.client.Dial(ctx, s.address()); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
	})
}

// TestCloseTellsOfLoss: what was written to a peer that is gone does not pass for delivered.
func TestCloseTellsOfLoss(t *testing.T) {
	bothCarriages(t, func(t *testing.T, base Config) {
		s := newSim(t, simConfig{client: base, server: base, link: simnet.Link{Delay: 5 * time.Millisecond}})
		defer s.close()
		c, d := s.dial()
		exchange(t, c, d)
		s.n.Link(clientIP, serverIP, simnet.Link{Down: true})
		if _, err := c.Write([]byte("lost")); err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err) // the session may deliver it yet
		}
		var oe *net.OpError
		if err := c.Session().Close(); !errors.Is(err, syscall.ETIMEDOUT) || !errors.As(err, &oe) || oe.Op != "close" {
			t.Fatal(err)
		}
	})
}

func TestNobodyListens(t *testing.T) {
	bothCarriages(t, func(t *testing.T, base Config) {
		s := newSim(t, simConfig{client: base, server: base, link: simnet.Link{Delay: 5 * time.Millisecond}})
		defer s.close()
		s.l.Close()
		c, err := s.client.Connect(t.Context(), s.address())
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := c.Open(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Fatal(err)
			}
		}
		l, err := s.server.Listen()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Accept(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // until the refused ones are over at both ends
		if st := c.Stats(); st.Streams != 1 || st.Opened != 4 {
			t.Fatalf("%+v", st)
		}
	})
}

// TestDialTogether: a thousand dials at once share one handshake and one session.
func TestDialTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, simConfig{link: simnet.Link{Delay: 20 * time.Millisecond, Loss: 0.05}})
		defer s.close()
		const n = 1000
		errs := make(chan error, n)
		for range n {
			go func() {
				c, err := s.client.Dial(t.Context(), s.address())
				if err == nil {
					_, err = c.Write([]byte("x"))
				}
				errs <- err
			}()
		}
		for range n {
			if _, err := s.l.Accept(); err != nil {
				t.Fatal(err)
			}
			if err := <-errs; err != nil {
				t.Fatal(err)
			}
		}
		if len(s.client.Sessions()) != 1 || len(s.server.Sessions()) != 1 || s.server.Stats().Handshakes != 1 {
			t.Fatalf("%d and %d sessions, %d handshakes", len(s.client.Sessions()), len(s.server.Sessions()), s.server.Stats().Handshakes)
		}
	})
}

// TestDialTCPAfterUDP: where UDP is blocked, TCP carries the session after its 250 ms; when UDP is back the session
// moves there.
func TestDialTCPAfterUDP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		link := simnet.Link{Delay: 10 * time.Millisecond, NoUDP: true}
		s := newSim(t, simConfig{link: link})
		defer s.close()
		start := time.Now()
		c, d := s.dial()
		if took := time.Since(start); took > tcpDelay+300*time.Millisecond {
			t.Fatalf("Dial took %v", took)
		}
		if !c.RemoteAddr().(Addr).TCP {
			t.Fatal("not over TCP")
		}
		exchange(t, c, d)
		stop := make(chan struct{})
		sent := make(chan []byte, 1)
		go func() { // bytes flow all the time
			var all []byte
			for i := byte(0); ; i++ {
				select {
				case <-stop:
					c.CloseWrite()
					sent <- all
					return
				case <-time.After(10 * time.Millisecond):
				}
				p := pattern(uint64(i), 1000)
				all = append(all, p...)
				c.Write(p)
			}
		}()
		go func() {
			time.Sleep(20 * time.Second)
			link.NoUDP = false
			s.n.Link(clientIP, serverIP, link)
			for c.RemoteAddr().(Addr).TCP {
				time.Sleep(time.Second)
			}
			t.Logf("on UDP %v after it came back", time.Since(start)-20*time.Second)
			time.Sleep(time.Second)
			close(stop)
		}()
		got, err := io.ReadAll(d)
		if err != nil {
			t.Fatal(err)
		}
		if all := <-sent; string(all) != string(got) {
			t.Fatalf("%d bytes sent, %d came", len(all), len(got))
		}
		if d.RemoteAddr().(Addr).TCP {
			s.log()
			t.Fatal("the server is still on TCP")
		}
		if time.Since(start) > 81*time.Second {
			t.Fatalf("it took %v", time.Since(start))
		}
	})
}
