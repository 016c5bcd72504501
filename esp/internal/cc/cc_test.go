package cc

import (
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestMaxFilter holds the filter between two slow models: it is never below the highest of the last half window, nor
// above the highest of the whole window.
func TestMaxFilter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		length := rapid.Int64Range(1, 20).Draw(t, "length")
		var f maxFilter
		var seen []sample
		now := int64(0)
		for range 200 {
			now += rapid.Int64Range(0, 3).Draw(t, "step")
			v := float64(rapid.IntRange(0, 100).Draw(t, "value"))
			f.update(v, now, length)
			seen = append(seen, sample{v, now})
			highest := 0.0
			for _, s := range seen {
				if now-s.t <= length {
					highest = max(highest, s.v)
				}
			}
			if got := f.get(); got > highest || got < v {
				t.Fatalf("at %d: %v, the newest is %v and the highest of the window %v", now, got, v, highest)
			}
		}
	})
}

func TestMTUAndInitialWindow(t *testing.T) {
	for _, c := range []struct{ mtu, bbr, cubic int64 }{
		{0, 38400, 12000}, {1200, 38400, 12000}, {1452, 46464, 14520}, {1472, 47104, 14720}, {9000, 47104, 18000}, {65000, 130000, 130000},
	} {
		for k, window := range map[Controller]int64{NewBBR(Config{MTU: int(c.mtu), Rand: rand.New(rand.NewPCG(1, 1))}): c.bbr, NewCubic(Config{MTU: int(c.mtu)}): c.cubic} {
			if got := k.Window(); got != window {
				t.Errorf("%s: an MTU of %d makes a window of %d, want %d", k.Name(), c.mtu, got, window)
			}
			if at := int64(k.Quantum()); at > 15000 && at > 2*c.mtu {
				t.Errorf("%s: of an unknown path %d bytes leave at once", k.Name(), at)
			}
			if k.Quantum() <= 0 || k.Bandwidth() != 0 || k.State() == "" {
				t.Errorf("%s: quantum %d, bandwidth %v, state %q", k.Name(), k.Quantum(), k.Bandwidth(), k.State())
			}
			k.SetMTU(65000)
			if got := k.Window(); got < 2*65000 {
				t.Errorf("%s: with large packets the window is %d", k.Name(), got)
			}
		}
	}
}

// acks feeds a controller that fills a path: each round-trip time a window's worth is acknowledged, in ten pieces.
func acks(c Controller, now *time.Duration, rtt time.Duration, rounds int, delivered *int64) {
	for range rounds {
		w := c.Window()
		before := *delivered
		sent := *now
		for i := range int64(10) {
			*now += rtt / 10
			*delivered += w / 10
			c.OnAck(&Ack{
				Now: *now, Acked: w / 10, Delivered: *delivered, Inflight: w, RTT: rtt, MinRTT: rtt, SmoothedRTT: rtt,
				Packet: Packet{Sent: sent + time.Duration(i), Delivered: before, Inflight: w}, CwndLimited: true,
			})
		}
	}
}

func TestCubicWindow(t *testing.T) {
	const rtt = 100 * time.Millisecond
	c := NewCubic(Config{MTU: 1000, InitialWindow: 100_000})
	var now time.Duration
	var delivered int64
	acks(c, &now, rtt, 1, &delivered)
	if c.Window() != 200_000 || c.State() != "slow-start" {
		t.Fatalf("slow start: %d, %s", c.Window(), c.State())
	}
	c.OnLost(&Loss{Now: now, Packet: Packet{Sent: now - rtt}})
	c.OnLost(&Loss{Now: now, Packet: Packet{Sent: now - rtt/2}}) // of the same round
	if c.Window() != 140_000 || c.State() != "recovery" {
		t.Fatalf("after a loss: %d, %s", c.Window(), c.State())
	}
	// K = cbrt(200 × 0.3 / 0.4) = 5.3 s until the old window is reached again.
	acks(c, &now, rtt, 40, &delivered)
	if w := c.Window(); w < 180_000 || w > 200_000 {
		t.Errorf("after 4 s: %d", w)
	}
	acks(c, &now, rtt, 15, &delivered)
	if w := c.Window(); w < 198_000 || w > 204_000 {
		t.Errorf("after 5.5 s: %d", w)
	}
	before := c.Window()
	c.OnLost(&Loss{Now: now, Packet: Packet{Sent: now}})
	c.OnSpurious(now)
	if c.Window() != before {
		t.Errorf("the loss was none, and the window is %d instead of %d", c.Window(), before)
	}
	c.OnPersistentCongestion(now)
	if c.Window() != 2000 {
		t.Errorf("persistent congestion: %d", c.Window())
	}
	// A window that is not used does not grow.
	c = NewCubic(Config{MTU: 1000})
	c.OnAck(&Ack{Now: now, Acked: 1000, RTT: rtt, SmoothedRTT: rtt})
	if c.Window() != 10_000 {
		t.Errorf("unused: %d", c.Window())
	}
}

func TestHyStartLeavesSlowStart(t *testing.T) {
	c := NewCubic(Config{MTU: 1000})
	var now time.Duration
	var delivered int64
	acks(c, &now, 50*time.Millisecond, 3, &delivered)
	for i := range time.Duration(8) {
		acks(c, &now, (50+10*(i+1))*time.Millisecond, 1, &delivered) // a queue grows
	}
	if c.State() == "slow-start" {
		t.Errorf("it is still in slow start, with a window of %d", c.Window())
	}
}

func TestBBRIsDeterministic(t *testing.T) {
	run := func() (out []int64) {
		b := NewBBR(Config{MTU: 1400, Rand: rand.New(rand.NewPCG(7, 7))})
		var delivered int64
		var now time.Duration
		for i := range 5000 {
			now += 5 * time.Millisecond
			delivered += 14000
			b.OnAck(&Ack{
				Now: now, Acked: 14000, Delivered: delivered, Inflight: 70000, RTT: 50 * time.Millisecond,
				Packet: Packet{Sent: now - 50*time.Millisecond, Delivered: max(0, delivered-140000), Inflight: 84000},
				Rate:   2.8e6, RateBytes: 140000, CwndLimited: i%3 == 0,
			})
			out = append(out, b.Window(), int64(b.PacingRate()))
		}
		return out
	}
	a, b := run(), run()
	for i := range a {
		if a[i] != b[i] {
			t.Fatalf("two runs differ at step %d", i)
		}
	}
}
