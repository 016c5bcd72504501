package esp

import (
	"testing"
	"time"
)

// TestDrainMeter holds that the rate at which a stream leaves counts where its writer waited for the path, that a path
// which has become slow is seen within two windows, and that other pauses say nothing.
func TestDrainMeter(t *testing.T) {
	var m drainMeter
	now := time.Second
	write := func(n, size int, waits, idles time.Duration) {
		for range n {
			now += waits + idles
			m.waited += waits
			m.add(size, func() time.Duration { return now })
		}
	}
	const size = 64 << 10
	fast := 50 * time.Microsecond // 1.3 GB/s
	write(100, size, fast, 0)
	if got := m.limit(2e9); got < 1.2e9 || got > 1.4e9 {
		t.Errorf("fast path: %.0f", got)
	}
	write(2*drainWindow/size, size, 100*fast, 0)
	if got := m.limit(2e9); got < 12e6 || got > 14e6 {
		t.Errorf("the path has become slow: %.0f", got)
	}
	if got := m.limit(1e6); got != 1e6 {
		t.Errorf("the estimate is lower: %.0f", got)
	}
	if got := m.limit(0); got < 12e6 || got > 14e6 {
		t.Errorf("nothing else is known: %.0f", got)
	}
	write(2*drainWindow/size, size, fast, 100*fast)
	if got := m.limit(2e9); got != 2e9 {
		t.Errorf("the program paused: %.0f", got)
	}
	if got := m.limit(0); got != 0 {
		t.Errorf("nothing is known: %.0f", got)
	}
}
