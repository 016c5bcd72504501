package linkem

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

const ms = time.Millisecond

func TestShaperRateAndQueue(t *testing.T) {
	s := newShaper(1, 1)
	c := &Conditions{Delay: 10 * ms, Rate: 1e6, Queue: 5000}
	// Six packets of 1000 B at once: each takes 1 ms; what would wait beyond 5000 B overflows. The link may begin 2 ms in
	// retrospect, so the first two leave at once and two more fit.
	now := time.Second
	var at []time.Duration
	overflowed := 0
	for range 10 {
		when, _, f := s.admit(now, 1000, c)
		switch f {
		case fateDeliver:
			at = append(at, when-now)
		case fateOverflow:
			overflowed++
		default:
			t.Fatalf("fate %d", f)
		}
	}
	want := []time.Duration{10 * ms, 10 * ms, 11 * ms, 12 * ms, 13 * ms, 14 * ms, 15 * ms}
	if len(at) != len(want) || overflowed != 3 {
		t.Fatalf("%d packets at %v, %d overflowed", len(at), at, overflowed)
	}
	for i := range want {
		if at[i] != want[i] {
			t.Errorf("packet %d after %v, want %v", i, at[i], want[i])
		}
	}
}

func TestShaperFates(t *testing.T) {
	s := newShaper(1, 1)
	for _, c := range []struct {
		c    Conditions
		size int
		want fate
	}{
		{Conditions{}, 1500, fateDeliver},
		{Conditions{Down: true}, 1500, fateDown},
		{Conditions{MTU: 1400}, 1400, fateDeliver},
		{Conditions{MTU: 1400}, 1401, fateTooBig},
		{Conditions{Loss: 1}, 1, fateLost},
		{Conditions{Rate: 1, Queue: 1}, 2, fateOverflow},
	} {
		if _, _, f := s.admit(0, c.size, &c.c); f != c.want {
			t.Errorf("%+v, %d bytes: fate %d, want %d", c.c, c.size, f, c.want)
		}
	}
	if at, _, _ := s.admit(5*ms, 1, &Conditions{Delay: 7 * ms, Reorder: 1}); at != 5*ms {
		t.Errorf("a packet that overtakes arrives at %v", at)
	}
	if at, twice, _ := s.admit(5*ms, 1, &Conditions{Delay: 7 * ms, Duplicate: 1}); at != 12*ms || twice != at {
		t.Errorf("a duplicated packet arrives at %v and %v", at, twice)
	}
	lost := 0
	for range 10000 {
		if _, _, f := s.admit(0, 1, &Conditions{Loss: 0.1}); f == fateLost {
			lost++
		}
	}
	if lost < 900 || lost > 1100 {
		t.Errorf("%d of 10000 lost at 10 %%", lost)
	}
}

// TestShaperNeverExceedsTheRate holds that no packet arrives before its delay, that they stay in order without jitter,
// and that what arrives in any span fits the rate.
func TestShaperNeverExceedsTheRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &Conditions{
			Delay: time.Duration(rapid.IntRange(0, 100).Draw(t, "delay")) * ms,
			Rate:  float64(rapid.IntRange(1000, 1e8).Draw(t, "rate")),
			Loss:  rapid.Float64Range(0, 0.5).Draw(t, "loss"),
		}
		s := newShaper(rapid.Uint64().Draw(t, "seed"), 1)
		now, last := time.Hour, time.Duration(0)
		var first time.Duration
		bytes := 0
		for range 200 {
			now += time.Duration(rapid.IntRange(0, 3000).Draw(t, "gap")) * time.Microsecond
			size := rapid.IntRange(20, 1500).Draw(t, "size")
			at, _, f := s.admit(now, size, c)
			if f != fateDeliver {
				continue
			}
			if at < now+c.Delay || at < last {
				t.Fatalf("a packet of %v arrives at %v, the last one did at %v", now, at, last)
			}
			last = at
			if first == 0 {
				first = at
			} else {
				bytes += size
			}
			if most := c.Rate*(at-first+lag).Seconds() + 1500; float64(bytes) > most {
				t.Fatalf("%d bytes in %v at %.0f B/s", bytes, at-first, c.Rate)
			}
		}
	})
}
