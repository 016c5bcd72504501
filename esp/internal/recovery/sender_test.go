package recovery

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sharefs/esp/internal/cc"
	"sharefs/esp/internal/interval"
)

const ms = time.Millisecond

// spy is a controller that remembers what it was told.
type spy struct {
	lost       []cc.Loss
	acks       []cc.Ack
	spurious   int
	persistent int
	window     int64
}

func (c *spy) Name() string                             { return "spy" }
func (c *spy) OnSent(time.Duration, int64, int64, bool) {}
func (c *spy) OnAck(a *cc.Ack)                          { c.acks = append(c.acks, *a) }
func (c *spy) OnLost(l *cc.Loss)                        { c.lost = append(c.lost, *l) }
func (c *spy) OnSpurious(time.Duration)                 { c.spurious++ }
func (c *spy) OnPersistentCongestion(time.Duration)     { c.persistent++ }
func (c *spy) SetMTU(int)                               {}
func (c *spy) Window() int64                            { return c.window }
func (c *spy) PacingRate() float64                      { return 0 }
func (c *spy) Quantum() int                             { return 1 }
func (c *spy) Bandwidth() float64                       { return 0 }
func (c *spy) State() string                            { return "" }

type rig struct {
	t *testing.T
	*Sender[int]
	cc  *spy
	r   Result[int]
	now time.Duration
}

func newRig(t *testing.T) *rig {
	c := &spy{window: 1 << 30}
	return &rig{t: t, Sender: New[int](Config{CC: c}), cc: c}
}

// send sends n packets of 1000 bytes whose payload is their number.
func (g *rig) send(n int) {
	for range n {
		pn := g.NextPN()
		g.Sent(g.now, pn, 1000, AckEliciting, int(pn))
	}
}

func rg(from, to uint64) interval.Range { return interval.Range{Start: from, End: to + 1} }

func (g *rig) ack(ranges ...interval.Range) {
	g.t.Helper()
	g.r.Reset()
	if err := g.OnAck(g.now, ranges, 0, &g.r); err != nil {
		g.t.Fatal(err)
	}
}

func payloads(ds []Done[int]) (p []int) {
	for _, d := range ds {
		p = append(p, d.Payload)
	}
	return p
}

func (g *rig) want(acked, lost []int) {
	g.t.Helper()
	if got := payloads(g.r.Acked); !slices.Equal(got, acked) {
		g.t.Errorf("acknowledged %v, want %v", got, acked)
	}
	if got := payloads(g.r.Lost); !slices.Equal(got, lost) {
		g.t.Errorf("lost %v, want %v", got, lost)
	}
}

func TestRTT(t *testing.T) {
	var r RTT
	if r.pto(333*ms, 5*ms) != 999*ms {
		t.Errorf("before a sample the timeout is %v", r.pto(333*ms, 5*ms))
	}
	r.add(100*ms, 20*ms) // the first sample counts in full
	if r != (RTT{100 * ms, 100 * ms, 50 * ms, 100 * ms}) {
		t.Errorf("%+v", r)
	}
	r.add(180*ms, 5*ms) // 175
	if want := (RTT{180 * ms, 100*ms + 75*ms/8, 50*ms + 25*ms/4, 100 * ms}); r != want {
		t.Errorf("%+v, want %+v", r, want)
	}
	r.add(110*ms, 50*ms) // a delay that would bring it below the lowest is not believed
	if r.Smoothed != (100*ms+75*ms/8)+(110*ms-(100*ms+75*ms/8))/8 {
		t.Errorf("%+v", r)
	}
	r.add(0, 0)
	if r.Min <= 0 {
		t.Errorf("a clock that stands still: %+v", r)
	}
}

func TestThreeLaterPacketsMakeALoss(t *testing.T) {
	g := newRig(t)
	g.send(5)
	g.now += 100 * ms
	g.ack(rg(1, 2))
	g.want([]int{1, 2}, nil)
	if at, ok := g.Deadline(); !ok || at != 100*ms+25*ms { // it was sent at 0; a round-trip time and a quarter later
		t.Errorf("deadline %v", at)
	}
	g.ack(rg(1, 3))
	g.want([]int{3}, []int{0})
	if len(g.cc.lost) != 1 || g.cc.lost[0].TotalLost != 1000 || g.Inflight() != 1000 || g.Outstanding() != 1 {
		t.Errorf("%+v, %d in flight", g.cc.lost, g.Inflight())
	}
}

func TestTimeMakesALoss(t *testing.T) {
	g := newRig(t)
	g.send(2)
	g.now = 100 * ms
	g.ack(rg(1, 1))
	at, _ := g.Deadline()
	g.now = at - 1
	g.r.Reset()
	g.OnTimeout(g.now, &g.r)
	g.want(nil, nil)
	g.now = at
	g.OnTimeout(g.now, &g.r)
	g.want(nil, []int{0})
	if _, ok := g.Deadline(); ok {
		t.Error("nothing is waited for, and yet there is a deadline")
	}
}

func TestReorderingWidensTheWindow(t *testing.T) {
	g := newRig(t)
	round := func(late time.Duration) (lost, spurious int) { // the first packet comes late after all others
		base := g.NextPN()
		g.Sent(g.now, base, 1000, AckEliciting, 0)
		g.send(5)
		g.now += 100 * ms
		g.ack(rg(base+1, base+5))
		lost = len(g.r.Lost)
		if at, ok := g.Deadline(); ok && at <= g.now+late {
			g.now, late = at, late-(at-g.now)
			g.OnTimeout(g.now, &g.r)
			lost = len(g.r.Lost)
		}
		g.now += late
		g.ack(rg(base, base+5))
		return lost, g.r.Spurious
	}
	if lost, spurious := round(40 * ms); lost != 1 || spurious != 1 || g.cc.spurious != 1 {
		t.Fatalf("at first: %d lost, %d of them only late, told %d times", lost, spurious, g.cc.spurious)
	}
	// From now on only time counts: 25 ms more for each loss that was none, until 40 ms are enough.
	if lost, spurious := round(10 * ms); lost != 0 || spurious != 0 {
		t.Fatalf("three later packets still make a loss: %d, %d", lost, spurious)
	}
	n := 0
	for range 10 {
		lost, _ := round(40 * ms)
		n += lost
	}
	if n > 2 {
		t.Errorf("%d losses that were none", n)
	}
	if s := g.Stats(); s.Spurious != s.Lost {
		t.Errorf("%+v", s)
	}
}

func TestProbeTimeout(t *testing.T) {
	g := newRig(t)
	g.send(1)
	if at, ok := g.Deadline(); !ok || at != 999*ms {
		t.Fatalf("before any sample: %v", at)
	}
	g.now = 100 * ms
	g.ack(rg(0, 0))
	if _, ok := g.Deadline(); ok {
		t.Fatal("nothing is in flight, and yet there is a deadline")
	}
	g.send(3)
	last := g.now
	for i := range 12 {
		at, ok := g.Deadline()
		want := min((100*ms+4*50*ms+5*ms)<<i, 10*time.Second)
		if !ok || at-last != want {
			t.Fatalf("timeout %d after %v, want %v", i, at-last, want)
		}
		g.now = at
		g.r.Reset()
		g.OnTimeout(g.now, &g.r)
		if g.r.Probes != 2 || len(g.r.Lost) != 0 || g.PTOCount() != i+1 {
			t.Fatalf("timeout %d: %+v", i, g.r)
		}
		if p, ok := g.Oldest(); !ok || p != 1 {
			t.Fatalf("the oldest is %d, %v", p, ok)
		}
		last = g.now // no probe is sent: the timer goes on all the same
	}
	g.ack(rg(3, 3))
	if g.PTOCount() != 0 {
		t.Error("the back-off stays after an acknowledgement")
	}
}

func TestLyingPeers(t *testing.T) {
	g := newRig(t)
	g.send(3)
	for _, ranges := range [][]interval.Range{{rg(0, 3)}, {rg(3, 3)}, {rg(1<<40, 1<<40)}, {{Start: 2, End: 1 << 62}}} {
		if err := g.OnAck(g.now, ranges, 0, &g.r); !errors.Is(err, ErrUnsentAck) {
			t.Errorf("%v: %v", ranges, err)
		}
	}
	g.NextPN() // given out, not sent
	if err := g.OnAck(g.now, []interval.Range{rg(3, 3)}, 0, &g.r); !errors.Is(err, ErrUnsentAck) {
		t.Errorf("given out but not sent: %v", err)
	}
	if err := g.OnAck(g.now, []interval.Range{{Start: 2, End: 2}, {Start: 2, End: 1}}, 0, &g.r); err != nil || len(g.r.Acked) != 0 {
		t.Errorf("empty ranges: %v", err)
	}

	s := New[int](Config{Rand: rand.New(rand.NewPCG(1, 1))})
	skips := 0
	for next := uint64(0); next < 5000; next++ {
		pn := s.NextPN()
		s.Sent(0, pn, 1, AckEliciting, 0)
		if pn != next {
			skips++
			next = pn
			if err := s.OnAck(0, []interval.Range{rg(0, pn)}, 0, &g.r); !errors.Is(err, ErrOptimisticAck) {
				t.Fatalf("an acknowledgement of %d, which was left out: %v", pn-1, err)
			}
			if err := s.OnAck(0, []interval.Range{rg(pn, pn), {Start: 0, End: pn - 1}}, 0, &g.r); skips == 1 && err != nil {
				t.Fatalf("the honest one: %v", err)
			}
		}
	}
	if skips < 3 || skips > 10 {
		t.Errorf("%d numbers of 5000 were left out", skips)
	}
}

func TestAckOnlyPacketsAreForgotten(t *testing.T) {
	g := newRig(t)
	for range 100_000 {
		g.Sent(g.now, g.NextPN(), 50, 0, 7)
	}
	if g.Inflight() != 0 || g.Outstanding() != 0 || len(g.ring.buf) > 64 {
		t.Errorf("%d in flight, %d entries", g.Inflight(), len(g.ring.buf))
	}
	g.send(1)
	g.now = ms
	g.ack(rg(0, 100_000)) // the peer acknowledges them with the one that asks for it
	g.want([]int{100_000}, nil)
}

func TestProbesForTheMTUAreNoCongestion(t *testing.T) {
	g := newRig(t)
	g.Sent(0, g.NextPN(), 9000, AckEliciting|Probe, -1)
	g.send(5)
	g.now = 100 * ms
	g.ack(rg(1, 5))
	g.want([]int{1, 2, 3, 4, 5}, []int{-1})
	if len(g.cc.lost) != 0 || g.Inflight() != 0 || g.Stats().Lost != 0 || g.r.Lost[0].Flags&Probe == 0 {
		t.Errorf("%+v, %d in flight", g.cc.lost, g.Inflight())
	}
}

func TestPersistentCongestion(t *testing.T) {
	g := newRig(t)
	g.send(1)
	g.now = 100 * ms
	g.ack(rg(0, 0)) // smoothed 100 ms, deviation 50 ms: three times 305 ms
	for range 12 {
		g.send(1)
		g.now += 100 * ms
	}
	g.send(3)
	g.now += 100 * ms
	g.ack(rg(13, 15))
	if len(g.r.Lost) != 12 || g.cc.persistent != 1 {
		t.Errorf("%d lost, persistent congestion %d times", len(g.r.Lost), g.cc.persistent)
	}
	// The same span with one arrival in the middle is none.
	g = newRig(t)
	g.send(1)
	g.now = 100 * ms
	g.ack(rg(0, 0))
	for range 12 {
		g.send(1)
		g.now += 100 * ms
	}
	g.send(3)
	g.now += 100 * ms
	g.ack(rg(13, 15), rg(6, 6))
	if len(g.r.Lost) != 11 || g.cc.persistent != 0 {
		t.Errorf("%d lost, persistent congestion %d times", len(g.r.Lost), g.cc.persistent)
	}
}

func TestAbandon(t *testing.T) {
	g := newRig(t)
	g.send(4)
	g.now = 10 * ms
	g.ack(rg(1, 1))
	g.r.Reset()
	g.Abandon(&g.r)
	g.want(nil, []int{0, 2, 3})
	if _, ok := g.Deadline(); ok || g.Inflight() != 0 || len(g.cc.lost) != 0 {
		t.Errorf("something stays: %d in flight", g.Inflight())
	}
	g.ack(rg(0, 3)) // late acknowledgements do no harm
	g.want(nil, nil)
	g.send(1)
	g.now = 30 * ms
	g.ack(rg(4, 4))
	g.want([]int{4}, nil)
}

func TestRateSample(t *testing.T) {
	g := newRig(t)
	for range 10 { // a packet each 10 ms, acknowledged 100 ms later
		g.send(1)
		g.now += 10 * ms
	}
	for i := range uint64(10) {
		g.now = 100*ms + time.Duration(i)*10*ms
		g.ack(rg(0, i))
		g.send(1)
	}
	for i := range uint64(10) {
		g.now += 10 * ms
		g.ack(rg(0, 10+i))
		a := g.cc.acks[len(g.cc.acks)-1]
		if a.Rate < 99_000 || a.Rate > 101_000 || a.RTT != g.rtt.Latest || a.Packet.AppLimited {
			t.Errorf("sample %d: %.0f B/s, %+v", i, a.Rate, a)
		}
	}
	g.SetAppLimited()
	g.send(2)
	g.now += 100 * ms
	g.ack(rg(20, 21))
	if a := g.cc.acks[len(g.cc.acks)-1]; !a.Packet.AppLimited {
		t.Errorf("a sample of what was sent while there was nothing to send: %+v", a)
	}
	g.send(1)
	g.now += 100 * ms
	g.ack(rg(22, 22))
	if a := g.cc.acks[len(g.cc.acks)-1]; a.Packet.AppLimited {
		t.Errorf("the mark stays: %+v", a)
	}
}

func TestNoController(t *testing.T) {
	s := New[int](Config{})
	s.Sent(0, s.NextPN(), 1<<40, AckEliciting, 1)
	if !s.CanSend() || s.Available() < 1<<50 {
		t.Error("without a controller there is a limit")
	}
	var r Result[int]
	if err := s.OnAck(ms, []interval.Range{rg(0, 0)}, 0, &r); err != nil || len(r.Acked) != 1 || s.RTT().Smoothed != ms {
		t.Errorf("%v, %+v", err, r)
	}
}

// TestEachPacketHasOneFate sends at random, loses, delays and repeats acknowledgements at random: each payload is
// reported once, the bytes in flight are those of the others, and the memory stays bounded.
func TestEachPacketHasOneFate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		c := &spy{window: 1 << 30}
		s := New[*int](Config{CC: c, Rand: rng})
		var r Result[*int]
		var received interval.Set
		fate := map[*int]int{}
		sizes := map[*int]int64{}
		var flight int64
		take := func() {
			for _, d := range slices.Concat(r.Acked, r.Lost) {
				if fate[d.Payload] != 0 {
					t.Fatalf("packet %d was reported twice", d.PN)
				}
				fate[d.Payload] = 1
				flight -= sizes[d.Payload]
				if sizes[d.Payload] != int64(d.Size) {
					t.Fatalf("packet %d: size %d, want %d", d.PN, d.Size, sizes[d.Payload])
				}
			}
			r.Reset()
			if s.Inflight() != flight {
				t.Fatalf("%d in flight, want %d", s.Inflight(), flight)
			}
		}
		var now time.Duration
		lossy := rng.Float64()
		for range 300 {
			now += time.Duration(rng.IntN(20)) * ms
			switch rng.IntN(4) {
			case 0, 1:
				for range rng.IntN(20) {
					pn := s.NextPN()
					if rng.IntN(5) == 0 {
						s.Sent(now, pn, 40, 0, nil)
					} else {
						p := new(int)
						sizes[p] = 100 + rng.Int64N(1000)
						flight += sizes[p]
						s.Sent(now, pn, int(sizes[p]), AckEliciting, p)
					}
					if rng.Float64() > lossy*0.5 {
						received.Add(pn, pn+1)
					}
				}
			case 2:
				ranges := slices.Clone(received.Ranges())
				rng.Shuffle(len(ranges), func(i, j int) { ranges[i], ranges[j] = ranges[j], ranges[i] })
				ranges = ranges[:rng.IntN(len(ranges)+1)]
				if err := s.OnAck(now, ranges, time.Duration(rng.IntN(10))*ms, &r); err != nil {
					t.Fatal(err)
				}
			case 3:
				if at, ok := s.Deadline(); ok && rng.IntN(2) == 0 {
					now = max(now, at)
				}
				s.OnTimeout(now, &r)
			}
			take()
		}
		// All that arrived is acknowledged in the end, and a last packet makes the rest lost.
		for range 3 {
			now += time.Hour
			pn := s.NextPN()
			received.Add(pn, pn+1)
			p := new(int)
			sizes[p], flight = 1, flight+1
			s.Sent(now, pn, 1, AckEliciting, p)
			now += 10 * ms
			if err := s.OnAck(now, received.Ranges(), 0, &r); err != nil {
				t.Fatal(err)
			}
			take()
		}
		for p := range sizes {
			if fate[p] == 0 {
				t.Fatal("a packet was forgotten")
			}
		}
		if s.Outstanding() != 0 || s.Inflight() != 0 || s.ring.n > 2 {
			t.Fatalf("%d packets, %d bytes, %d entries stay", s.Outstanding(), s.Inflight(), s.ring.n)
		}
		st := s.Stats()
		if st.Spurious > st.Lost || st.LossRate < 0 || st.LossRate > 1 {
			t.Fatalf("%+v", st)
		}
	})
}

func BenchmarkSendAndAck(b *testing.B) {
	s := New[int](Config{CC: cc.NewBBR(cc.Config{MTU: 1400, Rand: rand.New(rand.NewPCG(1, 1))})})
	var r Result[int]
	var now time.Duration
	b.ReportAllocs()
	for range b.N { // batches of 46 packets; a round-trip time of 20 batches
		for range 46 {
			s.Sent(now, s.NextPN(), 1400, AckEliciting, 0)
		}
		now += 50 * time.Microsecond
		if s.next > 20*46 {
			r.Reset()
			if err := s.OnAck(now, []interval.Range{{Start: 0, End: s.next - 19*46}}, 0, &r); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// TestRefused: a packet that never left takes no room, and is neither lost nor waited for.
func TestRefused(t *testing.T) {
	g := newRig(t)
	g.send(1)
	probe := g.NextPN()
	g.Sent(g.now, probe, 9000, AckEliciting|Probe, 0)
	g.Refused(probe)
	if g.Inflight() != 1000 || g.Outstanding() != 1 {
		t.Fatalf("%d bytes, %d packets are in flight", g.Inflight(), g.Outstanding())
	}
	g.Refused(probe)
	g.Refused(probe + 7)
	g.send(4)
	g.now += 50 * ms
	if err := g.OnAck(g.now, []interval.Range{{Start: 0, End: 1}, {Start: probe + 1, End: probe + 5}}, 0, &g.r); err != nil {
		t.Fatal(err)
	}
	if g.Inflight() != 0 || g.Outstanding() != 0 || len(g.r.Acked) != 5 || len(g.r.Lost)+len(g.cc.lost) != 0 {
		t.Errorf("%d bytes and %d packets in flight, %d acknowledged, %d lost", g.Inflight(), g.Outstanding(), len(g.r.Acked), len(g.r.Lost))
	}
	if at, waits := g.Deadline(); waits {
		t.Errorf("something is waited for until %v", at)
	}
}
