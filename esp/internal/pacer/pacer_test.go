package pacer

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestNoLimit(t *testing.T) {
	var p Pacer
	for range 3 {
		if p.Budget(time.Second) != math.MaxInt64 {
			t.Fatal("the zero pacer holds back")
		}
		p.Sent(time.Second, 1<<40, true)
	}
	p.SetRate(1000, 100)
	if b := p.Budget(time.Second); b != 100 {
		t.Errorf("the first budget with a rate is %d", b)
	}
}

func TestQuantumAndGap(t *testing.T) {
	var p Pacer
	p.SetRate(1e6, 2000) // 1 MB/s
	now := time.Second
	if b := p.Budget(now); b != 2000 {
		t.Fatalf("after a silence %d, want a quantum", b)
	}
	p.Sent(now, 2000, true)
	if b := p.Budget(now); b != 0 || p.Next() != now+2*time.Millisecond {
		t.Fatalf("budget %d until %v", b, p.Next())
	}
	now += 2 * time.Millisecond
	if b := p.Budget(now); b != 2000 {
		t.Fatalf("on time: %d", b)
	}
	p.Sent(now, 2000, true)
	now += 5 * time.Millisecond // 3 ms late: their bytes too
	if b := p.Budget(now); b != 5000 {
		t.Fatalf("late: %d", b)
	}
	p.Sent(now, 5000, true)
	if p.Next() != now+2*time.Millisecond {
		t.Fatalf("having made up for it: next %v after %v", p.Next(), now)
	}
	now += time.Second // very late
	if b := p.Budget(now); b != 2000+5000 {
		t.Fatalf("very late: %d", b)
	}
	p.Sent(now, 100, false) // nothing more to send
	now += time.Second
	if b := p.Budget(now); b != 2000 {
		t.Fatalf("after a silence: %d", b)
	}
}

// TestRate holds that in any order of calls no more is sent than the rate allows, plus one burst, and that a sender with
// always something to send, woken late within the slack, reaches the rate.
func TestRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := float64(rapid.IntRange(10_000, 1_000_000_000).Draw(t, "rate"))
		quantum := rapid.IntRange(1, 65536).Draw(t, "quantum")
		gap := time.Duration(float64(quantum) / rate * 1e9)
		var p Pacer
		p.SetRate(rate, quantum)
		now := time.Hour
		start := now
		var sent int64
		for range 200 {
			if b := p.Budget(now); b > 0 {
				p.Sent(now, b, true)
				sent += b
			} else if p.Next() <= now {
				t.Fatalf("no budget, but it is due: %v at %v", p.Next(), now)
			}
			if most := float64(quantum) + rate*(now-start+Slack).Seconds() + 2; float64(sent) > most {
				t.Fatalf("%d bytes in %v at %.0f B/s", sent, now-start, rate)
			}
			now = max(now, p.Next()) + time.Duration(rapid.Int64Range(0, int64(Slack)).Draw(t, "late"))
		}
		if least := rate * (now - start - Slack - gap).Seconds() * 0.999; float64(sent) < least-2 {
			t.Fatalf("%d bytes in %v at %.0f B/s", sent, now-start, rate)
		}
	})
}
