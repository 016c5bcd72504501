package exchange

import (
	"context"
	"sync"
	"time"
)

// bucket is a token bucket. The zero value is full. It may be used by several goroutines.
type bucket struct {
	mu   sync.Mutex
	owed float64 // tokens that are missing to a full one
	at   time.Time
}

// refill lets time pass. b.mu is held.
func (b *bucket) refill(now time.Time, rate float64) {
	if d := now.Sub(b.at); d > 0 && !b.at.IsZero() {
		b.owed = max(0, b.owed-d.Seconds()*rate)
	}
	b.at = now
}

// take takes n tokens, of which there come rate in a second and there are at most burst, if they are there.
func (b *bucket) take(now time.Time, n, rate, burst float64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill(now, rate)
	if b.owed+n > burst {
		return false
	}
	b.owed += n
	return true
}

// spend takes n tokens, even if they are not there, and returns for how long to wait then. A tenth of a second's worth is given ahead.
func (b *bucket) spend(now time.Time, n, rate float64) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill(now, rate)
	b.owed += n
	return time.Duration((b.owed/rate - 0.1) * float64(time.Second))
}

// sleep waits, or until the context ends.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
