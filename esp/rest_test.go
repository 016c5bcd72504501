package esp

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sharefs/esp/internal/simnet"
)

// TestKeepAliveTogether: sessions at rest send at the same moments, and one end of each alone.
func TestKeepAliveTogether(t *testing.T) {
	bothCarriages(t, func(t *testing.T, base Config) {
		s := newSim(t, simConfig{client: base, server: base, link: simnet.Link{Delay: 5 * time.Millisecond}})
		defer s.close()
		s.dial()
		time.Sleep(2 * time.Minute) // in which it looks for other paths and larger packets
		sess, other := s.client.Sessions()[0], s.server.Sessions()[0]
		step := s.client.cfg.KeepAlive / 3
		wakes := func(s *Session) uint64 {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.stats.wakes
		}
		for range 20 {
			before, woken, woken2 := sess.Stats(), wakes(sess), wakes(other)
			time.Sleep(3 * step)
			after := sess.Stats()
			if n := after.PacketsSent - before.PacketsSent; n > 4 {
				t.Fatalf("%d packets in %v of rest", n, 3*step)
			}
			if n := wakes(sess) - woken; n > 2 { // for a PING, and once in a minute to look for paths
				t.Fatalf("its timer has fired %d times in %v of rest", n, 3*step)
			}
			if n := wakes(other) - woken2; n > 2 { // for a late ACK over TCP, and likewise
				t.Fatalf("the timer of who was dialed has fired %d times in %v of rest", n, 3*step)
			}
			sess.mu.Lock()
			at := time.Duration(sess.origin.UnixNano()) + sess.keepAliveAt() - 1 // the session's clock begins with 1
			sess.mu.Unlock()
			if at%step != 0 {
				t.Fatalf("the next one is %v after a common moment", at%step)
			}
		}
	})
}

// TestPathsAtRest: of a session at rest all paths are kept open by few packets that go at the same moments, and one that breaks meanwhile costs the next data no more than at work.
func TestPathsAtRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		link := simnet.Link{Delay: 5 * time.Millisecond}
		s := newTwoPaths(t, simConfig{}, link, link)
		defer s.close()
		c, d := s.dialTwo()
		exchange(t, c, d)
		time.Sleep(5 * time.Minute) // in which larger packets are looked for, and other paths
		var mu sync.Mutex
		last, longest, packets := map[netip.Addr]time.Time{}, map[netip.Addr]time.Duration{}, 0
		s.n.Tap(func(from, to netip.AddrPort, b []byte) {
			mu.Lock()
			defer mu.Unlock()
			packets++
			if at, ok := last[from.Addr()]; ok {
				longest[from.Addr()] = max(longest[from.Addr()], time.Since(at))
			}
			last[from.Addr()] = time.Now()
		})
		wakes := func(c *Conn) uint64 {
			c.s.mu.Lock()
			defer c.s.mu.Unlock()
			return c.s.stats.wakes
		}
		before := [2]uint64{wakes(c), wakes(d)}
		const periods = 120
		keep := s.client.cfg.KeepAlive
		time.Sleep(periods * keep)
		s.n.Tap(nil)
		// A PING and a challenge, their answers, and the acknowledgement of one of these; each minute, or seldomer, something in vain.
		if packets > periods*6 {
			t.Errorf("%d packets in %d times %v", packets, periods, keep)
		}
		if a, b := wakes(c)-before[0], wakes(d)-before[1]; a > periods*2 || b > periods {
			t.Errorf("the timers fired %d and %d times in %d times %v", a, b, periods, keep)
		}
		for _, a := range twoClient {
			if gap := longest[netip.MustParseAddr(a)]; gap == 0 || gap > keep+time.Second {
				t.Errorf("nothing left %s for %v, so that a box on the way may have forgotten it", a, gap)
			}
		}
		s.setPath(0, simnet.Link{Down: true})
		began := time.Now()
		exchange(t, c, d)
		if took := time.Since(began); took > time.Second {
			t.Errorf("after a path broke at rest the first data took %v", took)
		}
	})
}

// TestNoRoute: addresses that one end cannot send to cost a host at rest next to nothing: the end that knows does not try them, and of those that the other end tries it says so.
func TestNoRoute(t *testing.T) {
	for _, refused := range []struct {
		name  string
		links [][2]string // in one direction
		most  int         // packets between the hosts in which a path was looked for
	}{
		{"by both", [][2]string{{"10.0.1.1", "10.0.2.2"}, {"10.0.2.1", "10.0.1.2"}, {"10.0.1.2", "10.0.2.1"}, {"10.0.2.2", "10.0.1.1"}}, 0},
		{"by who was dialed", [][2]string{{"10.0.1.2", "10.0.2.1"}, {"10.0.2.2", "10.0.1.1"}}, 2 * 2 * 8},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newTwoPaths(t, simConfig{}, simnet.Link{Delay: 5 * time.Millisecond}, simnet.Link{Delay: 5 * time.Millisecond})
			defer s.close()
			for _, cross := range [][2]string{{"10.0.1.1", "10.0.2.2"}, {"10.0.2.1", "10.0.1.2"}} {
				s.n.Link(cross[0], cross[1], simnet.Link{Delay: 5 * time.Millisecond})
			}
			for _, l := range refused.links {
				s.n.OneWay(l[0], l[1], simnet.Link{NoRoute: true})
			}
			var across atomic.Int64
			s.n.Tap(func(from, to netip.AddrPort, b []byte) {
				if from.Addr().As4()[2] != to.Addr().As4()[2] {
					across.Add(1)
				}
			})
			c, d := s.dialTwo()
			time.Sleep(3 * time.Hour)
			if n := across.Load(); n > int64(refused.most) {
				t.Errorf("refused %s: %d packets on the way to nowhere", refused.name, n)
			}
			for _, sess := range []*Session{c.Session(), d.Session()} {
				if n := len(sess.Paths()); n != 2 {
					t.Errorf("refused %s: %d paths", refused.name, n)
				}
			}
			for _, l := range refused.links { // routes that come up are found by themselves
				s.n.OneWay(l[0], l[1], simnet.Link{Delay: 5 * time.Millisecond})
			}
			time.Sleep(33 * time.Minute)
			s.waitPaths(c.Session(), 3) // in the simulation the path of the handshake does not tell its local end, and so counts for another pair as well
		})
	}
}

// TestCandidatesThatLeadNowhere: they are tried ever more rarely while all is well, and at once when the path in use falls silent.
func TestCandidatesThatLeadNowhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTwoPaths(t, simConfig{}, simnet.Link{Delay: 5 * time.Millisecond}, simnet.Link{Delay: 5 * time.Millisecond})
		defer s.close()
		c, _ := s.dialTwo()
		sess := c.Session()
		tried := func() (most int, last time.Duration) {
			sess.mu.Lock()
			defer sess.mu.Unlock()
			if len(sess.pathsets.tried) == 0 {
				t.Fatal("nothing leads from one net to the other, and it was not tried")
			}
			for _, a := range sess.pathsets.tried {
				most, last = max(most, a.inVain), max(last, a.at)
			}
			return most, last
		}
		time.Sleep(4 * time.Hour)
		if n, _ := tried(); n < 8 || n > 16 {
			t.Errorf("tried %d times in 4 hours", n)
		}
		s.setPath(0, simnet.Link{Down: true})
		s.setPath(1, simnet.Link{Down: true})
		began := sess.now()
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		if _, last := tried(); last < began {
			t.Error("not tried when nothing else leads there")
		}
	})
}
