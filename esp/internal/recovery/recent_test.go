package recovery

import (
	"slices"
	"testing"
)

// TestRecent: what is under way is told from the last packet on, without what was acknowledged, is lost or tests the path MTU.
func TestRecent(t *testing.T) {
	g := newRig(t)
	recent := func(from uint64, most int) (got []int) {
		g.Recent(from, func(size int, payload *int) bool {
			if size != 1000 {
				t.Errorf("packet %d has %d bytes", *payload, size)
			}
			got = append(got, *payload)
			return len(got) < most
		})
		return got
	}
	if got := recent(0, 10); got != nil {
		t.Errorf("nothing was sent: %v", got)
	}
	g.send(4)
	g.Sent(g.now, g.NextPN(), 1000, AckEliciting|Probe, 99)
	g.send(1)
	if got := recent(0, 10); !slices.Equal(got, []int{5, 3, 2, 1, 0}) {
		t.Errorf("%v", got)
	}
	if got := recent(2, 10); !slices.Equal(got, []int{5, 3, 2}) {
		t.Errorf("from 2: %v", got)
	}
	if got := recent(0, 2); !slices.Equal(got, []int{5, 3}) {
		t.Errorf("two: %v", got)
	}
	g.now = 50 * ms
	g.ack(rg(0, 0), rg(5, 5)) // by which 1 and 2 are lost
	if got := recent(0, 10); !slices.Equal(got, []int{3}) {
		t.Errorf("acknowledged and lost: %v", got)
	}
	if n := g.NextNumber(); n != 6 {
		t.Errorf("the next number is %d", n)
	}
}

// TestLossRates: both ends measure what is lost of a thousand packets, take it back where packets were only late, and do not take single numbers that were left out for loss.
func TestLossRates(t *testing.T) {
	a := NewAcker(0, 0)
	for pn := range uint64(3000) {
		if pn != 700 {
			a.Received(0, pn, true)
		}
	}
	if r := a.LossRate(); r == 0 || r >= 0.001 {
		t.Errorf("one number was left out: %v", r)
	}
	a.Received(0, 700, true)
	if r := a.LossRate(); r != 0 {
		t.Errorf("it was only late: %v", r)
	}
	for pn := uint64(3000); pn < 13_000; pn++ {
		if pn%100 != 0 {
			a.Received(0, pn, true)
		}
	}
	if r := a.LossRate(); r < 0.009 || r > 0.011 {
		t.Errorf("one in a hundred is lost: %v", r)
	}
	a.Received(0, 1<<40, true)
	if r := a.LossRate(); r < 0.6 || r > 0.7 {
		t.Errorf("very many are lost: %v", r)
	}

	g := newRig(t)
	for range 100 {
		g.send(100)
		g.now += 50 * ms
		g.ack(rg(g.NextNumber()-99, g.NextNumber()-1))
	}
	if r := g.LossRate(); r < 0.009 || r > 0.011 {
		t.Errorf("one in a hundred of what is sent is lost: %v", r)
	}
}
