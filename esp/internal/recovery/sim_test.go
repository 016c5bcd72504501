package recovery_test

import (
	"container/heap"
	"math/rand/v2"
	"testing"
	"time"

	"sharefs/esp/internal/cc"
	"sharefs/esp/internal/interval"
	"sharefs/esp/internal/pacer"
	"sharefs/esp/internal/recovery"
	"sharefs/integration/race"
)

// The simulator runs senders over a shared bottleneck in virtual time. All chance comes from a seed, so each run is the
// same.

type event struct {
	at  time.Duration
	seq int
	do  func()
}

type events []event

func (h events) Len() int { return len(h) }
func (h events) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].seq < h[j].seq
}
func (h events) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *events) Push(x any)   { *h = append(*h, x.(event)) }
func (h *events) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}

type sim struct {
	now time.Duration
	seq int
	h   events
	rng *rand.Rand
}

func newSim(t *testing.T, seed uint64) *sim {
	t.Helper()
	race.Leave(t, race.OneHand)
	return &sim{rng: rand.New(rand.NewPCG(seed, 99))}
}

func (s *sim) at(t time.Duration, do func()) {
	s.seq++
	heap.Push(&s.h, event{max(t, s.now), s.seq, do})
}

func (s *sim) run(until time.Duration) {
	for len(s.h) > 0 && s.h[0].at <= until {
		e := heap.Pop(&s.h).(event)
		s.now = e.at
		e.do()
	}
	s.now = until
}

// link is a bottleneck with a queue that drops what does not fit, followed by a delay.
type link struct {
	*sim
	rate   float64 // bytes/s
	delay  time.Duration
	queue  float64 // bytes
	loss   float64
	jitter time.Duration // uniform, in the delay of each packet: they overtake each other
	down   bool
	free   time.Duration // when the last byte has left
	drops  int
}

func (l *link) send(size int, arrive func()) {
	backlog := max(0, l.free-l.now).Seconds() * l.rate
	if l.down || backlog+float64(size) > l.queue || l.rng.Float64() < l.loss {
		l.drops++
		return
	}
	l.free = max(l.free, l.now) + time.Duration(float64(size)/l.rate*1e9)
	at := l.free + l.delay
	if l.jitter > 0 {
		at += time.Duration(l.rng.Int64N(int64(l.jitter)))
	}
	l.at(at, arrive)
}

// flow is a sender with always something to send (or nothing, when idle), its receiver, and a way back without loss.
type flow struct {
	*sim
	t       *testing.T
	l       *link
	back    time.Duration
	mss     int
	cc      cc.Controller
	s       *recovery.Sender[int]
	acker   *recovery.Acker
	p       pacer.Pacer
	r       recovery.Result[int]
	idle    bool
	batch   bool // acknowledgements come in bunches of up to a millisecond
	got     int64
	timer   int // generation of the one timer that counts
	ackSoon bool
}

func newFlow(t *testing.T, s *sim, l *link, back time.Duration, c cc.Controller, seed uint64) *flow {
	f := &flow{sim: s, t: t, l: l, back: back, mss: 1400, cc: c, acker: recovery.NewAcker(0, 0)}
	f.s = recovery.New[int](recovery.Config{CC: c, Rand: rand.New(rand.NewPCG(seed, 5))})
	return f
}

func bbr(seed uint64) cc.Controller {
	return cc.NewBBR(cc.Config{MTU: 1400, Rand: rand.New(rand.NewPCG(seed, 7))})
}

func cubic() cc.Controller { return cc.NewCubic(cc.Config{MTU: 1400}) }

func (f *flow) start(at time.Duration) *flow {
	f.at(at, f.pump)
	return f
}

func (f *flow) pump() {
	if f.idle {
		f.s.SetAppLimited()
	}
	for !f.idle && f.s.CanSend() {
		f.p.SetRate(f.cc.PacingRate(), f.cc.Quantum())
		budget := min(f.p.Budget(f.now), f.s.Available())
		if f.p.Budget(f.now) <= 0 {
			break
		}
		var sent int64
		for first := true; first || sent+int64(f.mss) <= budget; first = false {
			f.transmit()
			sent += int64(f.mss)
		}
		f.p.Sent(f.now, sent, true)
	}
	f.arm()
}

func (f *flow) transmit() {
	pn := f.s.NextPN()
	f.s.Sent(f.now, pn, f.mss, recovery.AckEliciting, 0)
	f.l.send(f.mss, func() { f.receive(pn) })
}

func (f *flow) receive(pn uint64) {
	f.got += int64(f.mss)
	f.acker.Received(f.now, pn, true)
	if f.batch {
		if !f.ackSoon {
			f.ackSoon = true
			f.at(f.now+time.Millisecond, func() { f.ackSoon = false; f.ack() })
		}
		return
	}
	if f.acker.Due(f.now) {
		f.ack()
	} else if at, ok := f.acker.Deadline(); ok {
		f.at(at, func() {
			if f.acker.Due(f.now) {
				f.ack()
			}
		})
	}
}

func (f *flow) ack() {
	ranges := append([]interval.Range(nil), f.acker.Ranges()...)
	delay := f.acker.Delay(f.now)
	f.acker.Sent()
	f.at(f.now+f.back, func() {
		f.r.Reset()
		if err := f.s.OnAck(f.now, ranges, delay, &f.r); err != nil {
			f.t.Fatalf("at %v: %v", f.now, err)
		}
		if n := len(ranges); n > 0 {
			f.acker.OnAckOfAck(ranges[max(0, n-8)].Start) // as if acknowledged at once, keeping some
		}
		f.pump()
	})
}

// arm sets the one timer: for pacing or for loss, with the lateness of a user-space timer.
func (f *flow) arm() {
	f.timer++
	gen := f.timer
	at, ok := f.s.Deadline()
	if !f.idle && f.s.CanSend() && (!ok || f.p.Next() < at) {
		at, ok = f.p.Next(), true
	}
	if !ok {
		return
	}
	late := time.Duration(f.rng.Int64N(int64(time.Millisecond)))
	f.at(at+late, func() {
		if gen != f.timer {
			return
		}
		f.r.Reset()
		f.s.OnTimeout(f.now, &f.r)
		for range f.r.Probes {
			f.transmit()
		}
		f.pump()
	})
}

// goodput runs until to and returns bytes/s received since from; call it with ascending times.
func (f *flow) goodput(from, to time.Duration) float64 {
	f.run(from)
	before := f.got
	f.run(to)
	return float64(f.got-before) / (to - from).Seconds()
}

const (
	mb   = 1e6
	rate = 25 * mb // 200 Mbit/s
	rtt  = 50 * time.Millisecond
)

func bdp(n float64) float64 { return n * rate * rtt.Seconds() }

func testLink(s *sim) *link { return &link{sim: s, rate: rate, delay: rtt / 2, queue: bdp(1)} }
