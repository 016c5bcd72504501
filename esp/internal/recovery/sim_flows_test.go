package recovery_test

import (
	"testing"
	"time"

	"sharefs/esp/internal/cc"
)

// The figures hold for these seeds and every machine: time is virtual. They are what the algorithms reach, less a margin
// for changes that do not matter.

var controllers = map[string]func(seed uint64) cc.Controller{
	"bbr":   bbr,
	"cubic": func(uint64) cc.Controller { return cubic() },
}

func TestBBRFillsTheLink(t *testing.T) {
	for _, c := range []struct {
		name        string
		loss, queue float64 // queue in bandwidth–delay products
		batch       bool
		least       float64 // share of the rate from 2 s on
		srtt        time.Duration
	}{
		{"no loss", 0, 1, false, 0.94, 58 * time.Millisecond},
		{"no loss, acknowledgements in bunches", 0, 1, true, 0.94, 85 * time.Millisecond},
		{"shallow queue", 0, 0.25, false, 0.93, 60 * time.Millisecond},
		{"1 % loss", 0.01, 1, false, 0.88, 60 * time.Millisecond},
		{"1 % loss, acknowledgements in bunches", 0.01, 1, true, 0.85, 90 * time.Millisecond},
	} {
		s := newSim(t, 1)
		l := testLink(s)
		l.loss, l.queue = c.loss, bdp(c.queue)
		f := newFlow(t, s, l, rtt/2, bbr(1), 1).start(0)
		f.batch = c.batch
		got := f.goodput(2*time.Second, 12*time.Second) / rate
		t.Logf("%s: %.3f of the rate, srtt %v", c.name, got, f.s.RTT().Smoothed)
		if got < c.least || f.s.RTT().Smoothed > c.srtt {
			t.Errorf("%s: %.3f of the rate, want %.2f; srtt %v, want at most %v", c.name, got, c.least, f.s.RTT().Smoothed, c.srtt)
		}
		if n := f.s.Stats().Spurious; n != 0 {
			t.Errorf("%s: %d packets were only late", c.name, n)
		}
	}
}

func TestCubic(t *testing.T) {
	s := newSim(t, 1)
	f := newFlow(t, s, testLink(s), rtt/2, cubic(), 1).start(0)
	if got := f.goodput(2*time.Second, 12*time.Second) / rate; got < 0.9 {
		t.Errorf("without loss: %.3f of the rate", got)
	}
	// At 1 % loss it is as Reno: about 1.2/√p = 12 packets in a round (RFC 9438, section 5.2), 0.34 MB/s.
	s = newSim(t, 1)
	l := testLink(s)
	l.loss = 0.01
	c := newFlow(t, s, l, rtt/2, cubic(), 1).start(0)
	got := c.goodput(2*time.Second, 12*time.Second)
	if got < 0.005*rate || got > rate/30 {
		t.Errorf("with 1 %% loss: %.3f of the rate", got/rate)
	}
}

func TestBBRLeavesRoomForCubic(t *testing.T) {
	for _, off := range []time.Duration{0, 3 * time.Second} { // CUBIC begins at 0
		s := newSim(t, 1)
		l := testLink(s)
		b := newFlow(t, s, l, rtt/2, bbr(1), 1).start(off)
		c := newFlow(t, s, l, rtt/2, cubic(), 2).start(0)
		s.run(5 * time.Second)
		b0, c0 := b.got, c.got
		s.run(25 * time.Second)
		share := float64(c.got-c0) / 20 / rate
		t.Logf("offset %v: CUBIC has %.2f, BBR %.2f of the rate", off, share, float64(b.got-b0)/20/rate)
		if share < 0.25 || share > 0.75 {
			t.Errorf("offset %v: CUBIC has %.2f of the rate", off, share)
		}
	}
}

func TestTwoBBRFlowsShare(t *testing.T) {
	s := newSim(t, 2)
	l := testLink(s)
	a := newFlow(t, s, l, rtt/2, bbr(1), 1).start(0)
	b := newFlow(t, s, l, rtt/2, bbr(2), 2).start(2 * time.Second)
	s.run(10 * time.Second)
	a0, b0 := a.got, b.got
	s.run(25 * time.Second)
	x, y := float64(a.got-a0)/15/rate, float64(b.got-b0)/15/rate
	t.Logf("%.2f and %.2f of the rate", x, y)
	if x < 0.2 || y < 0.2 || x+y < 0.9 {
		t.Errorf("%.2f and %.2f of the rate", x, y)
	}
}

func TestOutage(t *testing.T) {
	for name, c := range controllers {
		s := newSim(t, 1)
		l := testLink(s)
		f := newFlow(t, s, l, rtt/2, c(1), 1).start(0)
		s.run(4 * time.Second)
		l.down = true
		s.run(7 * time.Second)
		l.down = false
		before := f.got
		s.run(9 * time.Second) // the back-off of the probes doubles at most to about the length of the outage
		if f.got == before {
			t.Errorf("%s: nothing arrived for 2 s after the outage", name)
		}
		if got := f.goodput(12*time.Second, 17*time.Second) / rate; got < 0.5 {
			t.Errorf("%s: %.2f of the rate long after the outage", name, got)
		}
	}
}

func TestRateChanges(t *testing.T) {
	s := newSim(t, 1)
	l := testLink(s)
	f := newFlow(t, s, l, rtt/2, bbr(1), 1).start(0)
	s.run(4 * time.Second)
	l.rate = rate / 5
	if got := f.goodput(7*time.Second, 12*time.Second) / l.rate; got < 0.8 {
		t.Errorf("after the rate fell: %.2f of it", got)
	}
	l.rate = rate
	if got := f.goodput(24*time.Second, 29*time.Second) / l.rate; got < 0.8 {
		t.Errorf("after it rose: %.2f of it", got)
	}
}

// TestReordering: packets that overtake each other are not taken for lost, once that has been seen.
func TestReordering(t *testing.T) {
	s := newSim(t, 1)
	l := testLink(s)
	l.jitter = 10 * time.Millisecond
	f := newFlow(t, s, l, rtt/2, bbr(1), 1).start(0)
	f.run(2 * time.Second)
	first := f.s.Stats().Spurious
	got := f.goodput(2*time.Second, 8*time.Second) / rate
	later := f.s.Stats().Spurious - first
	t.Logf("%.2f of the rate; %d packets only late in 2 s, %d in the next 6 s", got, first, later)
	if got < 0.8 || later > 200 {
		t.Errorf("%.2f of the rate; %d packets only late in 2 s, %d in the next 6 s", got, first, later)
	}
}

// TestApplicationLimited: a program that sends little must not make the path look narrow.
func TestApplicationLimited(t *testing.T) {
	s := newSim(t, 1)
	l := testLink(s)
	f := newFlow(t, s, l, rtt/2, bbr(1), 1).start(0)
	s.run(3 * time.Second)
	full := f.cc.Bandwidth()
	f.idle = true
	for i := range 150 { // a packet each 100 ms for 15 s
		s.at(3*time.Second+time.Duration(i)*100*time.Millisecond, func() {
			f.transmit()
			f.pump()
		})
	}
	s.run(18 * time.Second)
	if bw := f.cc.Bandwidth(); bw < full/2 {
		t.Errorf("the bandwidth seems to have fallen from %.1f to %.1f MB/s", full/mb, bw/mb)
	}
	f.idle = false
	s.at(s.now, f.pump)
	if got := f.goodput(s.now+500*time.Millisecond, s.now+3*time.Second) / rate; got < 0.85 {
		t.Errorf("%.2f of the rate after it", got)
	}
}

// TestDialogueOnALossyLink: a few packets now and then, of which some are lost, must not make the path look narrow to what is sent after them.
func TestDialogueOnALossyLink(t *testing.T) {
	for seed := range uint64(8) {
		s := newSim(t, seed)
		l := testLink(s)
		l.loss = 0.01
		f := newFlow(t, s, l, rtt/2, bbr(seed), seed).start(0)
		s.run(3 * time.Second)
		f.idle = true
		s.run(s.now + 2*rtt)
		l.loss = 0.2
		for i := range 12 {
			s.at(s.now+time.Duration(i)*rtt, func() {
				for range 4 {
					f.transmit()
				}
				f.pump()
			})
		}
		s.run(s.now + 14*rtt)
		l.loss = 0.01
		f.idle = false
		s.at(s.now, f.pump)
		if got := f.goodput(s.now+rtt, s.now+5*rtt) / rate; got < 0.6 {
			t.Errorf("seed %d: %.2f of the rate in the first rounds after it", seed, got)
		}
	}
}

// TestStartupFillsThePipe: a flow that begins fills the pipe and its queue, which holds as much again, and no more: of what goes beyond that each packet is lost, and what comes behind waits.
func TestStartupFillsThePipe(t *testing.T) {
	for seed := range uint64(5) {
		s := newSim(t, seed)
		l := testLink(s)
		f := newFlow(t, s, l, rtt/2, bbr(seed), seed)
		f.batch = true
		f.start(0)
		s.run(20 * rtt)
		if part := float64(l.drops*f.mss) / bdp(1); part > 0.25 {
			t.Errorf("seed %d: %.2f of what the pipe holds was lost", seed, part)
		}
		if got := float64(f.got) / bdp(1); got < 12 {
			t.Errorf("seed %d: %.1f times what the pipe holds came in 20 round trips", seed, got)
		}
	}
}

// TestStartupBearsLossByChance: what is lost by chance on the way up ends Startup on no path that has room.
func TestStartupBearsLossByChance(t *testing.T) {
	for seed := range uint64(40) {
		s := newSim(t, seed)
		l := testLink(s)
		l.loss = 0.01
		f := newFlow(t, s, l, rtt/2, bbr(seed), seed)
		f.batch = true
		f.start(0)
		s.run(14 * rtt)
		if bw := f.cc.Bandwidth() / rate; bw < 0.9 {
			t.Errorf("seed %d: after 14 round trips it is in %s, at %.2f of the rate", seed, f.cc.State(), bw)
		}
	}
}

// TestStartupEndsWhereThereIsNoQueue: a link that drops what is beyond its rate, and keeps next to nothing, is found to be full.
func TestStartupEndsWhereThereIsNoQueue(t *testing.T) {
	for seed := range uint64(10) {
		s := newSim(t, seed)
		l := testLink(s)
		l.queue = bdp(0.04)
		f := newFlow(t, s, l, rtt/2, bbr(seed), seed)
		f.start(0)
		s.run(14 * rtt)
		if st := f.cc.State(); st == "startup" || f.cc.Bandwidth() > 1.05*rate {
			t.Errorf("seed %d: after 14 round trips it is in %s, at %.2f of the rate", seed, st, f.cc.Bandwidth()/rate)
		}
		sent, dropped := l.drops, 0
		s.run(20 * rtt)
		if dropped = l.drops - sent; float64(dropped*f.mss) > 0.15*6*bdp(1) {
			t.Errorf("seed %d: %.2f of what the pipe holds is lost in six round trips", seed, float64(dropped*f.mss)/bdp(1))
		}
	}
}
