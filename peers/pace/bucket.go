package pace

import (
	"context"
	"sync"
	"time"
)

// Bucket is a token bucket. The zero value is full. It may be used by several goroutines.
type Bucket struct {
	mu   sync.Mutex
	owed float64 // tokens that are missing to a full one
	at   time.Time
}

// refill lets time pass. b.mu is held.
func (b *Bucket) refill(now time.Time, rate float64) {
	if d := now.Sub(b.at); d > 0 && !b.at.IsZero() {
		b.owed = max(0, b.owed-d.Seconds()*rate)
	}
	b.at = now
}

// Take takes n tokens, of which there come rate in a second and there are at most burst, if they are there.
func (b *Bucket) Take(now time.Time, n, rate, burst float64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill(now, rate)
	if b.owed+n > burst {
		return false
	}
	b.owed += n
	return true
}

// ahead is what may go at once after a pause, in seconds' worth.
const ahead = 0.1

// Spend takes n tokens, even if they are not there, and waits until they would be.
func (b *Bucket) Spend(ctx context.Context, n, rate float64) error {
	b.mu.Lock()
	b.refill(time.Now(), rate)
	b.owed += n
	wait := time.Duration((b.owed/rate - ahead) * float64(time.Second))
	b.mu.Unlock()
	return Sleep(ctx, wait)
}

// Sleep waits, or until the context ends, whose error it returns then.
func Sleep(ctx context.Context, d time.Duration) error {
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
