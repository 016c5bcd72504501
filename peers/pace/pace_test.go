package pace

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sharefs"
)

var (
	near = sharefs.PeerID{1}
	far  = sharefs.PeerID{2}
)

// counter counts writes.
type counter struct {
	bytes, most int
}

func (c *counter) Write(b []byte) (int, error) {
	c.bytes, c.most = c.bytes+len(b), max(c.most, len(b))
	return len(b), nil
}

// Time is that of the bubble, so that figures are exact.
func TestRates(t *testing.T) {
	for _, rate := range []uint64{10_000, 100_000, 10_000_000} {
		synctest.Test(t, func(t *testing.T) {
			p := New(func(id sharefs.PeerID) (uint64, uint64) {
				if id == far {
					return rate, 2 * rate
				}
				return 0, 0
			})
			spent := func(fn func()) time.Duration {
				start := time.Now()
				fn()
				return time.Since(start)
			}
			five := make([]byte, 5*rate)
			around := func(d, want time.Duration) {
				t.Helper()
				if d < want-200*time.Millisecond || d > want {
					t.Errorf("rate %d: %v, not %v", rate, d, want)
				}
			}
			out := &counter{}
			around(spent(func() {
				if n, err := p.Writer(t.Context(), far, out).Write(five); n != len(five) || err != nil {
					t.Error(n, err)
				}
			}), 5*time.Second)
			if out.bytes != len(five) || out.most > max(int(rate)/pieces, leastPiece) {
				t.Errorf("%+v", out)
			}
			// Streams of one peer share what it may have.
			around(spent(func() {
				var all sync.WaitGroup
				for range 4 {
					all.Go(func() { _, _ = p.Writer(t.Context(), far, io.Discard).Write(five) })
				}
				all.Wait()
			}), 20*time.Second+100*time.Millisecond)
			var moved atomic.Int64
			around(spent(func() {
				got, err := io.ReadAll(p.Reader(t.Context(), far, bytes.NewReader(five), func() { moved.Add(1) }))
				if len(got) != len(five) || err != nil {
					t.Error(len(got), err)
				}
			}), 2500*time.Millisecond)
			if moved.Load() < 5 {
				t.Errorf("%d", moved.Load())
			}
			// The other one waits for nothing.
			if d := spent(func() { _, _ = p.Writer(t.Context(), near, io.Discard).Write(five) }); d != 0 {
				t.Error(d)
			}
			var none *Pacer
			if d := spent(func() {
				_, _ = none.Writer(t.Context(), far, io.Discard).Write(five)
				_, _ = io.Copy(io.Discard, none.Reader(t.Context(), far, bytes.NewReader(five), nil))
			}); d != 0 || none.Down(far) != 0 || p.Down(far) != 2*rate {
				t.Error(d)
			}
		})
	}
}

// A limit that is lifted counts at once, and an end is not waited for.
func TestChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rate atomic.Uint64
		rate.Store(10_000)
		p := New(func(sharefs.PeerID) (uint64, uint64) { return rate.Load(), rate.Load() })
		go func() {
			time.Sleep(time.Second)
			rate.Store(0)
		}()
		start := time.Now()
		if _, err := p.Writer(t.Context(), far, io.Discard).Write(make([]byte, 1<<20)); err != nil || time.Since(start) > 1200*time.Millisecond {
			t.Error(time.Since(start), err)
		}
		rate.Store(10_000)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		if _, err := p.Writer(ctx, far, io.Discard).Write(make([]byte, 1<<20)); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > time.Second {
			t.Error(time.Since(start), err)
		}
		if _, err := io.Copy(io.Discard, p.Reader(ctx, far, bytes.NewReader(make([]byte, 1<<20)), nil)); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}
