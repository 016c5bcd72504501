package esp

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/nettest"

	"sharefs/esp/internal/interval"
	"sharefs/esp/internal/recovery"
	"sharefs/esp/internal/simnet"
	"sharefs/integration/race"
)

// Two hosts with two nets between them: paths lead from 10.0.1.1 to 10.0.1.2 and from 10.0.2.1 to 10.0.2.2, and nowhere else.
var (
	twoClient = []string{"10.0.1.1", "10.0.2.1"}
	twoServer = []string{"10.0.1.2", "10.0.2.2"}
)

func newTwoPaths(t *testing.T, c simConfig, first, second simnet.Link) *sim {
	t.Helper()
	c.clientAddrs, c.serverAddrs = twoClient, twoServer
	c.link = simnet.Link{Down: true}
	s := newSim(t, c)
	s.setPath(0, first)
	s.setPath(1, second)
	return s
}

func (s *sim) setPath(i int, l simnet.Link) { s.n.Link(twoClient[i], twoServer[i], l) }

// dialTwo opens a stream over the first path and waits until the second one is ready.
func (s *sim) dialTwo() (c, d *Conn) {
	s.t.Helper()
	c, err := s.client.Dial(s.t.Context(), s.server.PublicKey().String()+"@10.0.1.2:7000")
	if err != nil {
		s.log()
		s.t.Fatal(err)
	}
	if d, err = s.l.AcceptStream(); err != nil {
		s.t.Fatal(err)
	}
	s.waitPaths(c.Session(), 2)
	s.waitPaths(d.Session(), 2)
	return c, d
}

// waitPaths waits until a session has n paths that are ready.
func (s *sim) waitPaths(sess *Session, n int) {
	s.t.Helper()
	for range 1000 {
		ready := 0
		for _, p := range sess.Paths() {
			if p.State == "ready" {
				ready++
			}
		}
		if ready >= n {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.log()
	s.t.Fatalf("%d paths never become ready: %+v", n, sess.Paths())
}

// steady sends pieces at an even rate, with the time in each, and returns the longest pause at the other end.
func (s *sim) steady(from, to *Conn, pieces int, every time.Duration, at map[int]func()) (stall time.Duration) {
	return s.steadyOf(2000, from, to, pieces, every, at)
}

func (s *sim) steadyOf(size int, from, to *Conn, pieces int, every time.Duration, at map[int]func()) (stall time.Duration) {
	s.t.Helper()
	go func() {
		for i := range pieces {
			if f := at[i]; f != nil {
				f()
			}
			from.Write(pattern(uint64(i), size))
			time.Sleep(every)
		}
		from.CloseWrite()
	}()
	last := time.Now()
	buf := make([]byte, size)
	for i := range pieces {
		if _, err := io.ReadFull(to, buf); err != nil {
			s.log()
			s.t.Fatalf("piece %d: %v", i, err)
		}
		if !bytes.Equal(buf, pattern(uint64(i), size)) {
			s.t.Fatalf("piece %d is not what was sent", i)
		}
		stall = max(stall, time.Since(last))
		last = time.Now()
	}
	if n, err := to.Read(buf); n != 0 || err != io.EOF {
		s.t.Fatalf("at the end: %d, %v", n, err)
	}
	return stall
}

// bothWays runs a test in which the one who dialed sends, and then the other one.
func bothWays(t *testing.T, test func(t *testing.T, fromServer bool)) {
	t.Run("from the client", func(t *testing.T) { test(t, false) })
	t.Run("from the server", func(t *testing.T) {
		race.Leave(t, race.Enough)
		test(t, true)
	})
}

// TestFailover cuts the active path in mid-transfer: the session goes on over the other one within a second, without a lost byte, whichever side
// sends, and whether small pieces or bulk are under way.
func TestFailover(t *testing.T) {
	bothWays(t, func(t *testing.T, fromServer bool) {
		synctest.Test(t, func(t *testing.T) {
			link := simnet.Link{Delay: 25 * time.Millisecond, Rate: 12.5e6, MTU: 1472}
			s := newTwoPaths(t, simConfig{}, link, link)
			defer s.close()
			c, d := s.dialTwo()
			a, b := c, d
			if fromServer {
				a, b = d, c
			}
			stall := s.steady(a, b, 1000, 10*time.Millisecond, map[int]func(){300: func() { s.setPath(0, simnet.Link{Down: true}) }})
			t.Logf("from the server: %v; stall %v", fromServer, stall)
			if stall > time.Second {
				s.log()
				t.Errorf("the stall was %v", stall)
			}
			if r := c.RemoteAddr().(Addr).Addr.String(); r != "10.0.2.2:7000" {
				t.Errorf("the session is on %v", r)
			}
		})
		synctest.Test(t, func(t *testing.T) {
			link := simnet.Link{Delay: 25 * time.Millisecond, Rate: 12.5e6, MTU: 1472}
			s := newTwoPaths(t, simConfig{}, link, link)
			defer s.close()
			c, d := s.dialTwo()
			a, b := c, d
			if fromServer {
				a, b = d, c
			}
			go func() {
				time.Sleep(500 * time.Millisecond)
				s.setPath(0, simnet.Link{Down: true})
			}()
			var stall atomic.Int64
			data := pattern(1, 12<<20)
			go func() {
				a.Write(data)
				a.CloseWrite()
			}()
			got := make([]byte, 0, len(data))
			last := time.Now()
			for {
				buf := make([]byte, 64<<10)
				n, err := b.Read(buf)
				stall.Store(max(stall.Load(), int64(time.Since(last))))
				last = time.Now()
				got = append(got, buf[:n]...)
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("bulk, from the server: %v; stall %v", fromServer, time.Duration(stall.Load()))
			if !bytes.Equal(got, data) {
				t.Error("the bytes differ")
			}
			if time.Duration(stall.Load()) > time.Second {
				s.log()
				t.Errorf("the stall was %v", time.Duration(stall.Load()))
			}
		})
	})
}

// TestFailoverBack: the path that died comes back and is found again, and the other one dies.
func TestFailoverBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		link := simnet.Link{Delay: 10 * time.Millisecond}
		s := newTwoPaths(t, simConfig{}, link, link)
		defer s.close()
		c, d := s.dialTwo()
		down := simnet.Link{Down: true}
		stall := s.steady(c, d, 4000, 50*time.Millisecond, map[int]func(){
			60:   func() { s.setPath(0, down) },
			400:  func() { s.setPath(0, link) },
			2000: func() { s.setPath(1, down) },
			3000: func() { s.setPath(1, link); s.setPath(0, down) },
		})
		if stall > time.Second {
			s.log()
			t.Errorf("the stall was %v", stall)
		}
		if m := c.Session().Stats().Migrations; m < 2 || m > 5 {
			t.Errorf("%d migrations", m)
		}
	})
}

// TestFailoverToTCP: UDP is blocked in mid-transfer, and TCP carries on; it comes back, and the session with it.
func TestFailoverToTCP(t *testing.T) {
	bothWays(t, func(t *testing.T, fromServer bool) {
		synctest.Test(t, func(t *testing.T) {
			link := simnet.Link{Delay: 10 * time.Millisecond}
			s := newSim(t, simConfig{link: link})
			defer s.close()
			c, d := s.dial()
			time.Sleep(2 * time.Second)
			a, b := c, d
			if fromServer {
				a, b = d, c
			}
			blocked := link
			blocked.NoUDP = true
			var onTCP, onUDP bool
			stall := s.steady(a, b, 4500, 20*time.Millisecond, map[int]func(){
				150:  func() { s.n.Link(clientIP, serverIP, blocked) },
				1000: func() { onTCP = c.RemoteAddr().(Addr).TCP; s.n.Link(clientIP, serverIP, link) },
				4000: func() { onUDP = !c.RemoteAddr().(Addr).TCP },
			})
			t.Logf("from the server: %v; stall %v", fromServer, stall)
			if stall > 2*time.Second || !onTCP || !onUDP {
				s.log()
				t.Errorf("stall %v, was on TCP %v, was on UDP again %v", stall, onTCP, onUDP)
			}
		})
	})
}

// TestTCPDies: the TCP connection that carries a session breaks; the session goes on over a new one, with all bytes.
func TestTCPDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, simConfig{link: simnet.Link{Delay: 10 * time.Millisecond, NoUDP: true}})
		defer s.close()
		c, d := s.dial()
		stall := s.steady(c, d, 3000, 10*time.Millisecond, map[int]func(){500: func() {
			c.s.mu.Lock()
			ln := c.s.active.link
			c.s.mu.Unlock()
			ln.conn.Close()
		}})
		t.Logf("stall %v", stall)
		if stall > 2*time.Second {
			s.log()
			t.Errorf("the stall was %v", stall)
		}
	})
}

// TestRebinding: a NAT forgets the mapping, and the client appears at another address.
func TestRebinding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		link := simnet.Link{Delay: 25 * time.Millisecond}
		s := newSim(t, simConfig{link: link, client: Config{DisableTCP: true}})
		defer s.close()
		s.n.NAT(clientIP+":7000", "192.0.2.1:1111")
		c, d := s.dial()
		if r := d.RemoteAddr().(Addr).Addr.String(); r != "192.0.2.1:1111" {
			t.Fatal(r)
		}
		for i := range 5 {
			// The client speaks first after each rebinding; the server may have much to say.
			s.n.NAT(clientIP+":7000", fmt.Sprintf("192.0.2.%d:%d", 2+i, 2000+i))
			exchange(t, c, d)
			data := pattern(uint64(i), 300_000)
			go d.Write(data)
			got := make([]byte, len(data))
			start := time.Now()
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, data) {
				t.Fatal(err)
			}
			if took := time.Since(start); took > 3*time.Second {
				t.Errorf("%v for 300 kB after a rebinding", took)
			}
			if r := d.RemoteAddr().(Addr).Addr.String(); r != fmt.Sprintf("192.0.2.%d:%d", 2+i, 2000+i) {
				t.Fatal(r)
			}
		}
		if n := len(d.Session().Paths()); n != 1 {
			t.Errorf("%d paths", n)
		}
	})
}

// TestMTUCut: the PMTU is found, then falls in mid-stream, without any ICMP message.
func TestMTUCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		link := simnet.Link{Delay: 10 * time.Millisecond, MTU: 9000, Rate: 12.5e6}
		s := newSim(t, simConfig{link: link, client: Config{DisableTCP: true}})
		defer s.close()
		c, d := s.dial()
		s.transferHalf(c, d, pattern(1, 4<<20))
		if m := c.Session().Paths()[0].MTU; m < 8000 || m > 9000 {
			t.Errorf("PMTU %d on a path of 9000", m)
		}
		link.MTU = 1300
		s.n.Link(clientIP, serverIP, link)
		start := time.Now()
		s.transferHalf(c, d, pattern(2, 4<<20))
		t.Logf("4 MiB after the cut: %v", time.Since(start))
		if took := time.Since(start); took > 8*time.Second {
			s.log()
			t.Errorf("4 MiB took %v after the cut", took)
		}
		if m := c.Session().Paths()[0].MTU; m > 1300 {
			t.Errorf("PMTU %d on a path of 1300", m)
		}
	})
}

// transferHalf sends data without closing the stream.
func (s *sim) transferHalf(a, b *Conn, data []byte) {
	s.t.Helper()
	go a.Write(data)
	got := make([]byte, len(data))
	if n, err := io.ReadFull(b, got); err != nil || !bytes.Equal(got, data) {
		s.log()
		s.t.Fatalf("%d of %d bytes: %v", n, len(data), err)
	}
}

// TestBetterPath: a path that is better by far becomes the active one, and one that is only a little better does not.
func TestBetterPath(t *testing.T) {
	for _, v := range []struct {
		delay time.Duration
		moves bool
	}{{30 * time.Millisecond, true}, {49 * time.Millisecond, false}} {
		synctest.Test(t, func(t *testing.T) {
			s := newTwoPaths(t, simConfig{client: Config{DisableTCP: true}}, simnet.Link{Delay: 50 * time.Millisecond}, simnet.Link{Delay: v.delay})
			defer s.close()
			c, d := s.dialTwo()
			for range 300 {
				exchange(t, c, d)
				time.Sleep(100 * time.Millisecond)
			}
			if moved := c.RemoteAddr().(Addr).Addr.String() == "10.0.2.2:7000"; moved != v.moves {
				s.log()
				t.Errorf("the other path has a delay of %v; moved: %v", v.delay, moved)
			}
		})
	}
}

// TestServerOpensPath: the server finds a path that the client does not look for.
func TestServerOpensPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		link := simnet.Link{Delay: 10 * time.Millisecond}
		s := newTwoPaths(t, simConfig{client: Config{DisableTCP: true, Limits: Limits{Paths: 1}}}, link, link)
		defer s.close()
		c, err := s.client.Dial(t.Context(), s.server.PublicKey().String()+"@10.0.1.2:7000")
		if err != nil {
			t.Fatal(err)
		}
		d, err := s.l.AcceptStream()
		if err != nil {
			t.Fatal(err)
		}
		s.waitPaths(d.Session(), 2)
		s.waitPaths(c.Session(), 2)
		opened := false
		for _, p := range d.Session().Paths() {
			opened = opened || !byClient(p.ID)
		}
		if !opened {
			t.Fatalf("%+v", d.Session().Paths())
		}
		stall := s.steady(d, c, 1000, 10*time.Millisecond, map[int]func(){300: func() { s.setPath(0, simnet.Link{Down: true}) }})
		if stall > time.Second {
			s.log()
			t.Errorf("the stall was %v", stall)
		}
	})
}

// TestAggregate: two paths of the same rate carry nearly twice what one does.
func TestAggregate(t *testing.T) {
	race.Leave(t, "it measures, and TestEarlyModel goes the same ways")
	rate := func(mode Scheduler) (r float64) {
		synctest.Test(t, func(t *testing.T) {
			link := simnet.Link{Delay: 20 * time.Millisecond, Rate: 12.5e6, MTU: 1472}
			cfg := Config{DisableTCP: true, Scheduler: mode}
			s := newTwoPaths(t, simConfig{client: cfg, server: cfg}, link, link)
			defer s.close()
			c, d := s.dialTwo()
			data := pattern(1, 24<<20)
			go func() {
				c.Write(data)
				c.CloseWrite()
			}()
			var start time.Time
			got := make([]byte, len(data))
			for n := 0; n < len(got); { // the rate counts from the first third on, when the paths are known
				k, err := d.Read(got[n:])
				if err != nil {
					t.Fatalf("after %d bytes: %v", n, err)
				}
				if n += k; start.IsZero() && n >= len(got)/3 {
					start = time.Now()
					r = float64(len(got) - n)
				}
			}
			r /= time.Since(start).Seconds()
			if !bytes.Equal(got, data) {
				t.Error("the bytes differ")
			}
		})
		return r
	}
	one, two := rate(Single), rate(Aggregate)
	t.Logf("one path %.2f MB/s, two %.2f MB/s: %.2f times", one/1e6, two/1e6, two/one)
	if two < 1.7*one {
		t.Error("less than 1.7 times")
	}
}

// TestRedundant: with copies on two paths that each lose a fifth, small messages are hardly ever late; and one path may die unnoticed.
func TestRedundant(t *testing.T) {
	late := func(mode Scheduler) (n int) {
		synctest.Test(t, func(t *testing.T) {
			link := simnet.Link{Delay: 10 * time.Millisecond, Loss: 0.2}
			cfg := Config{DisableTCP: true, Scheduler: mode}
			s := newTwoPaths(t, simConfig{client: cfg, server: cfg}, link, link)
			defer s.close()
			c, d := s.dialTwo()
			for range 300 {
				start := time.Now()
				exchange(t, c, d)
				if time.Since(start) > 25*time.Millisecond {
					n++
				}
				time.Sleep(20 * time.Millisecond)
			}
			if mode == Redundant {
				s.setPath(0, simnet.Link{Delay: 10 * time.Millisecond})
				s.setPath(1, simnet.Link{Delay: 10 * time.Millisecond})
				time.Sleep(10 * time.Second)
				stall := s.steadyOf(500, c, d, 300, 20*time.Millisecond, map[int]func(){100: func() { s.setPath(0, simnet.Link{Down: true}) }})
				if stall > 150*time.Millisecond {
					s.log()
					t.Errorf("the stall was %v", stall)
				}
			}
		})
		return n
	}
	one, two := late(Single), late(Redundant)
	t.Logf("late of 300: %d with one path, %d with two", one, two)
	if two > one/2 {
		t.Error("the copies do not help")
	}
}

// TestNothingToLink: what is on the wire shows no plain text, and nothing of the packets before a migration comes again after it.
func TestNothingToLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		link := simnet.Link{Delay: 10 * time.Millisecond}
		s := newTwoPaths(t, simConfig{client: Config{DisableTCP: true, Compression: CompressOff}, server: Config{DisableTCP: true, Compression: CompressOff}}, link, link)
		defer s.close()
		sn := sniff(s.n)
		c, d := s.dialTwo()
		secret := strings.Repeat("a very secret text that nobody may see ", 100)
		say := func(from, to *Conn) {
			from.Write([]byte(secret))
			if _, err := io.ReadFull(to, make([]byte, len(secret))); err != nil {
				t.Fatal(err)
			}
		}
		for range 20 {
			say(c, d)
			say(d, c)
		}
		s.setPath(0, simnet.Link{Down: true})
		for range 20 {
			say(c, d)
			say(d, c)
		}
		if d.RemoteAddr().(Addr).Addr.String() != "10.0.2.1:7000" {
			t.Fatal("no migration")
		}
		type where [2]bool
		seen := map[string]where{} // every string of eight bytes (a CID has as many), and over which net it went
		for _, p := range sn.all() {
			if bytes.Contains(p.b, []byte("secret")) {
				t.Fatal("plain text")
			}
			path := 0
			if p.from.Addr().As4()[2] == 2 {
				path = 1
			}
			for i := 0; i+8 <= len(p.b); i++ {
				if k := p.b[i : i+8]; !bytes.HasPrefix(k, []byte{0, 0, 0}) { // packet numbers are small on every path
					w := seen[string(k)]
					w[path] = true
					seen[string(k)] = w
				}
			}
		}
		both := 0
		for k, w := range seen {
			if w[0] && w[1] {
				both++
				if both < 5 {
					t.Errorf("%x goes over both nets", k)
				}
			}
		}
	})
}

// TestConnWhileMigrating runs nettest while the paths die and come back in turn. It runs in real time, since nettest uses subtests.
func TestConnWhileMigrating(t *testing.T) {
	link := simnet.Link{Delay: time.Millisecond}
	s := newTwoPaths(t, simConfig{client: Config{DisableTCP: true}}, link, link)
	defer s.close()
	c, d := s.dialTwo()
	defer c.Close()
	defer d.Close()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			s.setPath(i%2, simnet.Link{Down: true})
			select {
			case <-time.After(400 * time.Millisecond):
			case <-stop:
				return
			}
			s.setPath(i%2, link)
			select {
			case <-time.After(400 * time.Millisecond):
			case <-stop:
				return
			}
		}
	})
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		a, b := s.dial()
		return a, b, func() {
			a.Close()
			b.Close()
		}, nil
	})
	// On a machine that is busy all of it may have fallen between two moves.
	waitFor(t, "the session has moved", func() bool {
		exchange(t, c, d)
		return c.Session().Stats().Migrations > 0 && d.Session().Stats().Migrations > 0
	})
	close(stop)
	wg.Wait()
	t.Logf("%d migrations of the client, %d of the server", c.Session().Stats().Migrations, d.Session().Stats().Migrations)
}

// TestPatience holds that round trips which were drawn out by a queue do not put off the end of a dead path, and that
// those of a long path do.
func TestPatience(t *testing.T) {
	const delay = 5 * time.Millisecond
	for _, c := range []struct {
		name         string
		rtts         []time.Duration
		fails, after time.Duration // it is left after silence of so long, and of at least so long
	}{
		{"short", []time.Duration{10 * time.Millisecond, 10 * time.Millisecond}, failFloor, failFloor},
		{"short, with a queue", []time.Duration{10 * time.Millisecond, 9 * time.Second, 9 * time.Second}, 3 * patience, 3 * patience},
		{"long", []time.Duration{2 * time.Second, 2 * time.Second}, 24 * time.Second, 6 * time.Second},
	} {
		p := &path{s: &Session{peerParams: params{ackDelay: delay}}, rec: recovery.New[sent](recovery.Config{MaxAckDelay: delay})}
		now := time.Second
		send := func() uint64 {
			pn := p.rec.NextPN()
			p.rec.Sent(now, pn, 1000, recovery.AckEliciting, sent{})
			return pn
		}
		for _, rtt := range c.rtts {
			pn := send()
			now += rtt
			var r recovery.Result[sent]
			if err := p.rec.OnAck(now, []interval.Range{{Start: pn, End: pn + 1}}, 0, &r); err != nil {
				t.Fatal(err)
			}
		}
		if suspect, fail := p.silence(); suspect != 0 || fail != 0 {
			t.Errorf("%s: silence although nothing is under way", c.name)
		}
		send()
		p.heard, p.firstUnanswered = now, now
		suspect, fail := p.silence()
		if d := fail - now; d > c.fails || d < c.after || suspect >= fail {
			t.Errorf("%s: suspect after %v, left after %v", c.name, suspect-now, d)
		}
	}
}
