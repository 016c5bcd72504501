package esp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sharefs/esp/internal/simnet"
)

// sniffer keeps what goes over a net.
type sniffer struct {
	mu   sync.Mutex
	pkts []sniffed
}

type sniffed struct {
	from, to netip.AddrPort
	b        []byte
}

func sniff(n *simnet.Net) *sniffer {
	sn := &sniffer{}
	n.Tap(func(from, to netip.AddrPort, b []byte) {
		sn.mu.Lock()
		sn.pkts = append(sn.pkts, sniffed{from, to, bytes.Clone(b)})
		sn.mu.Unlock()
	})
	return sn
}

func (sn *sniffer) all() []sniffed {
	sn.mu.Lock()
	defer sn.mu.Unlock()
	return append([]sniffed(nil), sn.pkts...)
}

var serverPort = netip.MustParseAddrPort(serverIP + ":7000")

// TestReplay sends everything that was ever sent once more, also from elsewhere: nothing happens.
func TestReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, simConfig{client: Config{DisableTCP: true}, link: simnet.Link{Delay: 5 * time.Millisecond}})
		defer s.close()
		sn := sniff(s.n)
		c, d := s.dial()
		exchange(t, c, d)
		time.Sleep(time.Second)
		pkts := sn.all()
		s.n.Tap(nil)
		before := s.server.Stats()
		opened := d.Session().Stats().Accepted
		for _, from := range []netip.AddrPort{pkts[0].from, netip.MustParseAddrPort("10.9.9.9:99")} {
			for _, p := range pkts {
				s.n.Inject(from, p.to, p.b)
			}
		}
		time.Sleep(time.Second)
		st := s.server.Stats()
		if st.Handshakes != before.Handshakes || st.Repeated == before.Repeated || st.Sessions != 1 || d.Session().Stats().Accepted != opened {
			t.Fatalf("%+v", st)
		}
		if d.Session().Stats().Replayed == 0 || c.Session().Stats().Replayed == 0 {
			t.Fatal("nobody noticed the replayed packets")
		}
		if r := d.RemoteAddr().(Addr).Addr; r != pkts[0].from {
			t.Fatalf("a replayed packet moved the path to %v", r)
		}
		exchange(t, c, d)

		// Long after, message 1 costs a handshake again, and leads nowhere.
		time.Sleep(time.Minute)
		for range 3 {
			s.n.Inject(netip.MustParseAddrPort("10.9.9.9:99"), pkts[0].to, pkts[0].b)
		}
		time.Sleep(time.Minute)
		if n := len(s.server.Sessions()); n != 1 {
			t.Fatalf("%d sessions", n)
		}
		exchange(t, c, d)
	})
}

// TestForgedPackets turns bits of real packets: all are dropped and counted, the session goes on.
func TestForgedPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, simConfig{client: Config{DisableTCP: true}, link: simnet.Link{Delay: 5 * time.Millisecond}})
		defer s.close()
		sn := sniff(s.n)
		c, d := s.dial()
		exchange(t, c, d)
		rng := rand.New(rand.NewPCG(1, 2))
		for range 20 {
			exchange(t, c, d)
			for _, p := range sn.all()[max(0, len(sn.all())-20):] {
				b := bytes.Clone(p.b)
				switch rng.IntN(4) {
				case 0:
					b = b[:rng.IntN(len(b)+1)]
				case 1:
					b = append(b, 0)
				default:
					b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
				}
				s.n.Inject(p.from, p.to, b)
			}
		}
		for range 1000 {
			b := make([]byte, rng.IntN(1500))
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
			s.n.Inject(netip.MustParseAddrPort("10.9.9.9:99"), serverPort, b)
		}
		exchange(t, c, d)
		time.Sleep(time.Second)
		st := s.server.Stats()
		if st.Undecrypted == 0 || st.UnknownCID == 0 || st.Malformed == 0 || st.Sessions != 1 {
			t.Fatalf("%+v", st)
		}
	})
}

// TestForgedReply: whoever sees INIT can answer it with nonsense; the true answer still counts.
func TestForgedReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, pairing := range []bool{false, true} {
			s := newSim(t, simConfig{client: Config{DisableTCP: true, Authorize: func(PublicKey) error { return nil }},
				server: Config{DisableTCP: true, Pairing: true}, link: simnet.Link{Delay: 20 * time.Millisecond}})
			rng := rand.New(rand.NewPCG(1, 2))
			s.n.Tap(func(from, to netip.AddrPort, b []byte) {
				if b[0] != typeInit {
					return
				}
				typ, _, cid, _ := parseHandshake(b)
				_ = typ
				for i := range 30 {
					f := appendHandshakeHeader(nil, []byte{typeReply, typeCookie, typeVersions, typeFinish}[i%4], cid)
					body := make([]byte, []int{2, 34, 50, 98, 200, 56, 4}[i%7])
					for j := range body {
						body[j] = byte(rng.Uint32())
					}
					if i%4 == 0 && len(body) > 2 {
						body[0], body[1] = 0, byte(len(body)-2)
						if i%8 == 0 && len(body) > 34 {
							clear(body[2:34]) // a point of low order
						}
					}
					if i%4 == 2 {
						body = append([]byte{1}, 0, 0, 0, Version)
					}
					f = append(f, body...)
					go s.n.Inject(to, from, f) // the tap runs under the net's lock
				}
			})
			addr := s.address()
			if pairing {
				addr = serverIP + ":7000"
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			c, err := s.client.Dial(ctx, addr)
			cancel()
			if err != nil {
				t.Fatalf("pairing %v: %v", pairing, err)
			}
			d, err := s.l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			s.n.Tap(nil)
			exchange(t, c, d)
			if s.client.Stats().FailedHandshake == 0 {
				t.Fatal("no forged reply was noticed")
			}
			s.close()
		}
	})
}

// TestFlood: INIT packets from thousands of spoofed addresses cost a bounded number of Diffie-Hellmans, send out less
// than came in, and a true peer still gets in, by its cookie; established sessions go on.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, simConfig{client: Config{DisableTCP: true}, server: Config{DisableTCP: true}, link: simnet.Link{Delay: 5 * time.Millisecond}})
		defer s.close()
		c, d := s.dial()
		exchange(t, c, d)
		late := s.endpoint(Config{DisableTCP: true}, s.n.Host("10.0.0.3"), []string{"10.0.0.3"}, 77)
		defer late.Close()

		in, err := newInitiator(PrivateKey{4, 4}, s.server.PublicKey(), suiteAESGCM, 1, params{}, seeded(5))
		if err != nil {
			t.Fatal(err)
		}
		stop := make(chan struct{})
		var flood sync.WaitGroup
		var sentBytes, gotBytes int
		var mu sync.Mutex
		s.n.Tap(func(from, to netip.AddrPort, b []byte) {
			mu.Lock()
			defer mu.Unlock()
			if from == serverPort && to.Addr().As4()[0] == 11 {
				gotBytes += len(b)
			}
		})
		flood.Go(func() { // six times as many packets as may cost a Diffie-Hellman
			for i := uint32(0); ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(time.Second / (6 * handshakeRate)):
				}
				p := bytes.Clone(in.packet)
				p[5], p[6], p[7], p[8] = byte(i>>24), byte(i>>16), byte(i>>8), byte(i)|1 // another handshake each time, so that the answer is not remembered
				setMacs(p, s.server.PublicKey(), nil)
				from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}), 5)
				mu.Lock()
				sentBytes += len(p)
				mu.Unlock()
				s.n.Inject(from, serverPort, p)
			}
		})
		began := time.Now()
		time.Sleep(2 * time.Second)
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		e, err := late.Dial(ctx, s.address())
		if err != nil {
			t.Fatalf("a true peer stays outside: %v; %+v", err, s.server.Stats())
		}
		f, err := s.l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("a true peer got in after %v", time.Since(start))
		exchange(t, e, f)
		exchange(t, c, d)
		time.Sleep(2 * time.Second)
		close(stop)
		flood.Wait()
		st := s.server.Stats()
		if limit := uint64(handshakeRate*(1+time.Since(began).Seconds()) + 2*handshakeBurst); st.Handshakes > limit {
			t.Fatalf("%d handshakes in %v, the limit is %d", st.Handshakes, time.Since(began), limit)
		}
		if st.Cookies < 1000 {
			t.Fatalf("%+v", st)
		}
		mu.Lock()
		if gotBytes > sentBytes {
			t.Errorf("%d bytes came, %d went out", sentBytes, gotBytes)
		}
		mu.Unlock()
		exchange(t, c, d)
		s.server.mu.Lock()
		n := len(s.server.pending)
		s.server.mu.Unlock()
		if n > s.server.cfg.Limits.Handshakes {
			t.Fatalf("%d handshakes are kept", n)
		}
	})
}

// TestAmplification: before an address is proven, at most three times the bytes go there.
func TestAmplification(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, simConfig{client: Config{DisableTCP: true}, server: Config{DisableTCP: true}, link: simnet.Link{Delay: 5 * time.Millisecond}})
		defer s.close()
		victim := netip.MustParseAddrPort("10.7.7.7:7")
		var mu sync.Mutex
		in, out := 0, 0
		hold := make(chan []byte, 1)
		s.n.Tap(func(from, to netip.AddrPort, b []byte) {
			mu.Lock()
			defer mu.Unlock()
			if to == victim {
				out += len(b)
			}
			if from.Addr().String() == clientIP && b[0]&flagHandshake == 0 && len(b) > 600 {
				select {
				case hold <- bytes.Clone(b):
				default:
				}
			}
		})
		c, d := s.dial()
		exchange(t, c, d)
		go d.Write(pattern(1, 8<<20)) // the server has much to say
		go io.Copy(io.Discard, c)
		// A packet of the client that the net has eaten is sent by the attacker from the victim's address.
		for range 20 {
			s.n.OneWay(clientIP, serverIP, simnet.Link{Down: true})
			c.Write(make([]byte, 900))
			b := <-hold
			mu.Lock()
			in += len(b)
			mu.Unlock()
			s.n.Inject(victim, serverPort, b)
			time.Sleep(300 * time.Millisecond)
			s.n.OneWay(clientIP, serverIP, simnet.Link{Delay: 5 * time.Millisecond})
			time.Sleep(time.Second)
			for len(hold) > 0 {
				<-hold
			}
		}
		mu.Lock()
		if out > 3*in {
			t.Errorf("%d bytes came from the victim's address, %d went there", in, out)
		}
		if out == 0 {
			t.Error("the attack did not work at all, so the test shows nothing")
		}
		mu.Unlock()
		if r := d.RemoteAddr().(Addr).Addr.Addr().String(); r != clientIP {
			t.Errorf("the session stays with the victim: %v", r)
		}
		// All that the client wrote has come.
		if _, err := io.ReadFull(d, make([]byte, 20*900)); err != nil {
			t.Fatal(err)
		}
	})
}

// TestBadPeer: an authentic peer that breaks the rules loses its session, and nothing else happens.
func TestBadPeer(t *testing.T) {
	for name, bad := range map[string]func(s *Session){
		"a frame that nobody knows": func(s *Session) {
			s.ctrlq = append(s.ctrlq, &ctrl{typ: framePathChallenge, data: []byte{1, 2, 3, 4, 5, 6, 7, 8, 0x3f}})
		},
		"a stream beyond the limit":  func(s *Session) { s.sendCtrl(&ctrl{typ: frameOpen, id: 1 << 20, a: 1}) },
		"a stream of the wrong side": func(s *Session) { s.sendCtrl(&ctrl{typ: frameOpen, id: 1, a: 1}) },
		"credit for no stream":       func(s *Session) { s.sendCtrl(&ctrl{typ: frameMaxStreamData, id: 400, a: 1}) },
		"more CIDs than anybody needs": func(s *Session) {
			for i := range 500 {
				s.sendCtrl(&ctrl{typ: frameNewCID, id: uint64(1000 + 2*i), a: uint64(i + 1), data: make([]byte, 16)})
			}
		},
		"a key exchange out of turn": func(s *Session) { s.sendCtrl(&ctrl{typ: frameKeyEx, a: 17, b: 1, data: make([]byte, 32)}) },
		"a key of low order":         func(s *Session) { s.sendCtrl(&ctrl{typ: frameKeyEx, a: 1, b: 1, data: make([]byte, 32)}) },
		"more bytes than it may send before OPEN": func(s *Session) {
			c := s.newConn(streamID(s.nextStream, true), s.firstWindow(0), 1<<40)
			c.early, c.opened = true, make(chan struct{})
			s.nextStream++
			s.addStream(c)
			c.sq.pushBytes(make([]byte, earlyWindow+1))
			s.queue(c)
		},
		"more bytes than it has credit": func(s *Session) {
			for _, c := range s.streams {
				c.peerMax, s.peerMaxData = 1<<40, 1<<40
			}
		},
	} {
		bothCarriages(t, func(t *testing.T, base Config) {
			s := newSim(t, simConfig{client: base, server: base, link: simnet.Link{Delay: 2 * time.Millisecond}})
			defer s.close()
			c, d := s.dial()
			exchange(t, c, d)
			c.s.mu.Lock()
			bad(c.s)
			c.s.flushUnlock()
			go c.Write(pattern(1, 4<<20))
			select {
			case <-d.Session().Done():
			case <-time.After(time.Minute):
				t.Errorf("%s: the session lives on", name)
				return
			}
			var se *SessionError
			if err := d.Session().Err(); !errors.As(err, &se) || se.Remote || se.Code == CodeNone {
				t.Errorf("%s: %v", name, err)
			}
			<-c.Session().Done()
			if err := c.Session().Err(); !errors.As(err, &se) || !se.Remote {
				t.Errorf("%s: the peer learns of it as %v", name, err)
			}
		})
	}
}

// TestBomb: a record that decodes to more than it says, or that is no record, ends the stream alone.
func TestBomb(t *testing.T) {
	bothCarriages(t, func(t *testing.T, base Config) {
		s := newSim(t, simConfig{client: base, server: base, link: simnet.Link{Delay: 2 * time.Millisecond}})
		defer s.close()
		other, otherEnd := s.dial()
		for _, b := range [][]byte{
			{0x80, 0x80, 0x80, 0x01, 5, 0, 1}, // 2 MiB in one record
			{10, 5, 1, 1, 2, 3, 4, 5},         // no zstd
			{10, 5, 9, 1, 2, 3, 4, 5},         // an unknown codec
			{0x80, 0x80, 0x10, 13, 1, 0x28, 0xb5, 0x2f, 0xfd, 0x84, 0, 0, 0, 0xff, 0, 0, 0, 1, 2}, // a zstd frame that claims gigabytes
		} {
			c, d := s.dial()
			c.s.mu.Lock()
			c.sq.pushBytes(b)
			c.s.queue(c)
			c.s.flushUnlock()
			n, err := d.Read(make([]byte, 100))
			var se *SessionError
			if n != 0 || !errors.As(err, &se) || se.Code != CodeRecord {
				t.Fatalf("%x: %d, %v", b, n, err)
			}
			time.Sleep(100 * time.Millisecond)
			if _, err := c.Write([]byte("x")); err == nil {
				t.Fatalf("%x: the sender does not learn of it", b)
			}
			c.Close()
			d.Close()
		}
		exchange(t, other, otherEnd)
		time.Sleep(time.Second)
		if n := other.s.Stats().Streams; n != 1 {
			t.Fatalf("%d streams are left", n)
		}
	})
}

// TestGarbageOverTCP: connections that say nothing, nonsense, or half a handshake.
func TestGarbageOverTCP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, simConfig{link: simnet.Link{Delay: 2 * time.Millisecond}})
		defer s.close()
		c, d := s.dial()
		h := s.n.Host("10.0.0.9")
		for _, b := range [][]byte{nil, {1, 2, 3}, bytes.Repeat([]byte{0xff}, 5000), append([]byte{0, 0, 13, typeJoin, 0, 0, 0, 1}, 1, 2, 3, 4, 5, 6, 7, 8), {0, 4, 0xb0, typeInit}} {
			conn, err := h.Dial(t.Context(), netip.Addr{}, serverPort)
			if err != nil {
				t.Fatal(err)
			}
			conn.Write(b)
			start := time.Now()
			n, _ := conn.Read(make([]byte, 10))
			if n != 0 || time.Since(start) > handshakeLife+time.Second {
				t.Fatalf("%x: %d bytes came back after %v", b[:min(len(b), 20)], n, time.Since(start))
			}
			conn.Close()
		}
		exchange(t, c, d)
	})
}

// TestReplayOverTCP opens connections that say all that true ones have said, while those live and after they died: no byte counts twice, no path is
// taken over, and the session goes on.
func TestReplayOverTCP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, simConfig{client: Config{DisableUDP: true}, link: simnet.Link{Delay: 5 * time.Millisecond}})
		defer s.close()
		sn := sniff(s.n)
		c, d := s.dial()
		attacker := s.n.Host("10.9.9.9")
		for round := range 4 {
			for range 5 {
				exchange(t, c, d)
			}
			// What the server has had by now. What is on its way to it still could be handed on by others before it comes: that is a relay and no replay.
			said := map[netip.AddrPort][]byte{}
			for _, p := range sn.all() {
				if p.to == serverPort {
					said[p.from] = append(said[p.from], p.b...)
				}
			}
			if round%2 == 1 { // the connection dies, and a new one takes its place, which may be before or after the replay below
				c.s.mu.Lock()
				ln := c.s.active.link
				c.s.mu.Unlock()
				ln.conn.Close()
				time.Sleep(time.Duration(round) * 10 * time.Millisecond)
			}
			before := d.Session().Stats()
			for from, b := range said {
				if from.Addr() != netip.MustParseAddr(clientIP) {
					continue
				}
				conn, err := attacker.Dial(t.Context(), netip.Addr{}, serverPort)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				conn.Write(b)
			}
			time.Sleep(2 * time.Second)
			if after := d.Session().Stats(); after.Accepted != before.Accepted || after.Streams != 1 {
				t.Fatalf("round %d: %+v became %+v", round, before, after)
			}
			for _, p := range d.Session().Paths() {
				if p.Remote.Addr().String() == "10.9.9.9" {
					t.Fatalf("round %d: the attacker has a path: %+v", round, p)
				}
			}
			exchange(t, c, d)
		}
		if n := len(s.server.Sessions()); n != 1 {
			t.Fatalf("%d sessions", n)
		}
	})
}
