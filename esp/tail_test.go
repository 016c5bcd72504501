package esp

import (
	"bytes"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sharefs/esp/internal/simnet"
)

// far is a link on which what is lost at the end of a flight is long missed.
var far = simnet.Link{Delay: 25 * time.Millisecond, Rate: 12.5e6, Device: 1472}

// lossySim is a stream over a far link that both ends know to lose. From its return on the link loses nothing but what drop says of what the client sends: it is asked
// with the number of each datagram since then, from 1 on, and nothing is lost where it is nil.
func lossySim(t *testing.T, drop *atomic.Pointer[func(n int) bool]) (s *sim, c, d *Conn) {
	udp := Config{DisableTCP: true}
	s = newSim(t, simConfig{client: udp, server: udp, link: far})
	c, d = s.dial()
	link := far
	link.Loss = 0.01
	s.n.Link(clientIP, serverIP, link)
	for _, way := range [][2]*Conn{{c, d}, {d, c}} {
		send(t, way[0], way[1], pattern(9, 4<<20))
	}
	var last *func(int) bool
	n := 0
	link = far
	link.Drop = func() bool {
		fn := drop.Load()
		if fn != last {
			last, n = fn, 0
		}
		n++
		return fn != nil && (*fn)(n)
	}
	s.n.Link(clientIP, serverIP, far)
	s.n.OneWay(clientIP, serverIP, link)
	time.Sleep(time.Second)
	return s, c, d
}

// send writes data at one end, and returns after how long all of it could be read at the other.
func send(t *testing.T, from, to *Conn, data []byte) time.Duration {
	t.Helper()
	began := time.Now()
	failed := make(chan error, 1)
	go func() {
		_, err := from.Write(data)
		failed <- err
	}()
	got := make([]byte, len(data))
	if _, err := io.ReadFull(to, got); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes did not come as they were written: %v", len(data), err)
	}
	took := time.Since(began)
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	return took
}

// TestTailLost: on a path that is known to lose, whichever packet of a short message is lost, the message comes some milliseconds late, and not a round trip or a probe timeout.
func TestTailLost(t *testing.T) {
	for _, size := range []int{700, 4300, 32 << 10} {
		synctest.Test(t, func(t *testing.T) {
			var drop atomic.Pointer[func(int) bool]
			s, c, d := lossySim(t, &drop)
			defer s.close()
			whole := send(t, c, d, pattern(1, size))
			for lost := 1; lost <= size/1400+1; lost++ {
				time.Sleep(time.Second)
				fn := func(n int) bool { return n == lost }
				drop.Store(&fn)
				if took := send(t, c, d, pattern(uint64(lost), size)); took > whole+8*time.Millisecond {
					t.Errorf("of %d bytes packet %d is lost: they come after %v, and after %v where none is", size, lost, took, whole)
				}
				drop.Store(nil)
			}
			time.Sleep(time.Second)
			if st := c.Session().Stats(); st.CopiedBytes == 0 {
				t.Error("nothing was sent twice")
			}
		})
	}
}

// TestTailOfMuch: of a long flight the last packets alone are sent twice, so that the loss of the last one is known as soon as that of others.
func TestTailOfMuch(t *testing.T) {
	const size = 1 << 20
	synctest.Test(t, func(t *testing.T) {
		var drop atomic.Pointer[func(int) bool]
		s, c, d := lossySim(t, &drop)
		defer s.close()
		var counted atomic.Int64
		count := func(n int) bool { counted.Store(int64(n)); return false }
		drop.Store(&count)
		before := c.Session().Stats()
		whole := send(t, c, d, pattern(1, size))
		time.Sleep(time.Second)
		after := c.Session().Stats()
		if n := after.CopiedBytes - before.CopiedBytes; n == 0 || n > tailLast*1472 {
			t.Errorf("%d bytes of %d were sent twice", n, size)
		}
		last := int(counted.Load()) - tailLast
		fn := func(n int) bool { return n == last }
		drop.Store(&fn)
		if took := send(t, c, d, pattern(2, size)); took > whole+10*time.Millisecond {
			t.Errorf("the last packet is lost: all is there after %v, and after %v where none is", took, whole)
		}
	})
}

// TestTailsNotSentTwice: where nothing is lost, or the other end is near, nothing is sent twice.
func TestTailsNotSentTwice(t *testing.T) {
	for _, link := range []simnet.Link{
		{Delay: 25 * time.Millisecond, Rate: 12.5e6, Device: 1472, Queue: 2 << 20},
		{Delay: time.Millisecond, Rate: 125e6, Loss: 0.01, Device: 1472},
		{Delay: 25 * time.Millisecond, Rate: 12.5e6, Loss: 0.0005, Device: 1472, Queue: 2 << 20},
	} {
		t.Run(fmt.Sprint(link.Delay, link.Loss), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				udp := Config{DisableTCP: true}
				s := newSim(t, simConfig{client: udp, server: udp, link: link})
				defer s.close()
				c, d := s.dial()
				send(t, c, d, pattern(9, 8<<20))
				for i := range 300 {
					send(t, c, d, pattern(uint64(i), 700))
					send(t, d, c, pattern(uint64(i), 4300))
				}
				for _, sess := range []*Session{c.Session(), d.Session()} {
					if n := sess.Stats().CopiedBytes; n > 0 {
						t.Errorf("%d bytes were sent twice", n)
					}
				}
			})
		})
	}
}

// TestTailsBounded: however often a flight ends, what is sent twice is a small share of what the path carries.
func TestTailsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var drop atomic.Pointer[func(int) bool]
		s, c, d := lossySim(t, &drop)
		defer s.close()
		go io.Copy(io.Discard, d)
		began, before := time.Now(), c.Session().Stats()
		for range 2000 {
			if _, err := c.Write(pattern(1, 40_000)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Second)
		took, after := time.Since(began).Seconds(), c.Session().Stats()
		n, most := float64(after.CopiedBytes-before.CopiedBytes), tailSaved+1.1*tailShare*far.Rate*took // the rate that is measured may be a little above the link's
		if n < most/10 || n > most {
			t.Errorf("%.0f bytes were sent twice in %.1f s, at most %.0f should be", n, took, most)
		}
		if after.ResentBytes != before.ResentBytes {
			t.Errorf("%d bytes were taken for lost", after.ResentBytes-before.ResentBytes)
		}
	})
}
