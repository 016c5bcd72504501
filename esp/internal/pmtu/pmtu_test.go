package pmtu

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// search answers probes as a path of that MTU does, until the search rests. device is what the local interface takes.
func search(d *Discovery, now *time.Duration, path, device int) (probes int) {
	for range 1000 {
		at, ok := d.Deadline()
		if !ok || at > *now+time.Minute {
			return probes
		}
		*now = max(*now, at)
		size, ok := d.Probe(*now)
		if !ok {
			return probes
		}
		probes++
		*now += 10 * time.Millisecond
		switch {
		case size > device:
			d.TooBig(*now, size)
		case size > path:
			d.ProbeLost(*now, size)
		default:
			d.ProbeAcked(*now, size)
		}
	}
	return -1
}

func TestSearch(t *testing.T) {
	for _, c := range []struct {
		name         string
		cfg          Config
		path, device int
		want, most   int // size, probes
	}{
		{name: "loopback", path: 65507, device: 65507, want: 65000, most: 3},
		{name: "ethernet", path: 1472, device: 1472, want: 1472, most: 5},
		{name: "ethernet, IPv6", path: 1452, device: 1452, want: 1452, most: 5},
		{name: "tunnel behind ethernet", path: 1410, device: 1472, want: 1400, most: 7},
		{name: "jumbo", path: 8972, device: 8972, want: 8900, most: 6},
		{name: "jumbo here, ethernet there", path: 1472, device: 8972, want: 1472, most: 10},
		{name: "the least", path: 1200, device: 1200, want: 1200, most: 10},
		{name: "bounded", cfg: Config{Max: 1300}, path: 65507, device: 65507, want: 1300, most: 1},
		{name: "fixed", cfg: Config{Fixed: 1400}, path: 65507, device: 65507, want: 1400, most: 0},
	} {
		var now time.Duration
		d := New(c.cfg)
		n := search(d, &now, c.path, c.device)
		if d.Size() != c.want || n > c.most || n < 0 {
			t.Errorf("%s: %d after %d probes, want %d after at most %d", c.name, d.Size(), n, c.want, c.most)
		}
	}
}

func TestRaiseTimer(t *testing.T) {
	var now time.Duration
	d := New(Config{})
	search(d, &now, 1472, 1472)
	at, ok := d.Deadline()
	if !ok || at < now+raiseInterval-time.Minute {
		t.Fatalf("the search goes on at %v, %v; it is %v", at, ok, now)
	}
	now = at
	search(d, &now, 8972, 8972)
	if d.Size() != 8900 {
		t.Errorf("after the path has grown: %d", d.Size())
	}
	d = New(Config{})
	search(d, &now, 65507, 65507)
	if at, ok := d.Deadline(); ok {
		t.Errorf("all sizes work, and yet the search goes on at %v", at)
	}
}

func TestBlackHole(t *testing.T) {
	var now time.Duration
	d := New(Config{})
	search(d, &now, 8972, 8972)
	for range 100 { // a burst of losses is congestion
		if d.PacketLost(now, 8900) {
			t.Fatal("a burst was taken for a black hole")
		}
	}
	d.PacketAcked(8900)
	now += time.Hour
	for i := range blackHoleLosses - 1 {
		if d.PacketLost(now, 8900) {
			t.Fatalf("%d losses were taken for a black hole", i+1)
		}
		d.PacketAcked(1000) // small ones get through, which says nothing
		now += blackHoleTime
	}
	if d.PacketLost(now, 1000) {
		t.Fatal("a small packet was taken for a large one")
	}
	if !d.PacketLost(now, 8900) || d.Size() != Base {
		t.Fatalf("no black hole was seen; size %d", d.Size())
	}
	search(d, &now, 1410, 8972)
	if d.Size() != 1400 {
		t.Errorf("after the path has shrunk: %d", d.Size())
	}
	if d.Timeout(now, 1) || !d.Timeout(now, 2) || d.Size() != Base || d.Timeout(now, 3) {
		t.Errorf("timeouts: size %d", d.Size())
	}
}

func TestDeviceShrinks(t *testing.T) {
	var now time.Duration
	d := New(Config{})
	search(d, &now, 65507, 65507)
	d.TooBig(now, 65000)
	if d.Size() != Base {
		t.Fatalf("size %d", d.Size())
	}
	search(d, &now, 1472, 1472)
	if d.Size() != 1472 {
		t.Errorf("size %d", d.Size())
	}
}

// TestAnyPath holds that the search ends on any path, with a size that works and is not less than the best of the table.
func TestAnyPath(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		path := rapid.IntRange(Base, 65507).Draw(t, "path")
		device := rapid.IntRange(path, 65507).Draw(t, "device")
		best := Base
		for _, n := range append(append([]int{}, ladder...), between...) {
			if n <= path {
				best = max(best, n)
			}
		}
		var now time.Duration
		d := New(Config{})
		if n := search(d, &now, path, device); n < 0 || d.Size() != best {
			t.Fatalf("size %d after %d probes, want %d", d.Size(), n, best)
		}
	})
}
