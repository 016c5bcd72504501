package tier

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"time"

	"sharefs"
)

// Waits between attempts: each twice as long as the one before, and by up to a half shorter at random, so that several do not come back at once.
const (
	firstWait = 200 * time.Millisecond
	maxWait   = 10 * time.Second
)

// Retry returns a bucket that tries again, up to so many times in all, what failed and may pass. A Put whose answer was lost has its condition met by
// what it put itself: whoever gives a condition must look what is there when it fails.
func Retry(b Bucket, attempts int) Bucket { return &retrying{b: b, attempts: attempts, sleep: sleep} }

type retrying struct {
	b        Bucket
	attempts int
	sleep    func(context.Context, time.Duration) error
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// Passing reports whether it can be hoped that the same would succeed later without anybody's doing.
func Passing(err error) bool {
	if errors.Is(err, context.Canceled) {
		return false
	}
	switch sharefs.KindOf(err) {
	case sharefs.KindNotExist, sharefs.KindStale, sharefs.KindAccess, sharefs.KindRange, sharefs.KindNoDevice, sharefs.KindNotSupported, sharefs.KindInvalid,
		sharefs.KindCorrupt:
		return false
	}
	return true
}

func (r *retrying) do(ctx context.Context, try func() error) error {
	wait := firstWait
	for n := 1; ; n++ {
		err := try()
		if err == nil || n >= r.attempts || !Passing(err) || ctx.Err() != nil {
			return err
		}
		if r.sleep(ctx, wait-rand.N(wait/2)) != nil {
			return err
		}
		wait = min(2*wait, maxWait)
	}
}

func (r *retrying) Put(ctx context.Context, key string, body io.ReaderAt, size int64, only Condition) (etag string, err error) {
	err = r.do(ctx, func() (err error) { etag, err = r.b.Put(ctx, key, body, size, only); return err })
	return etag, err
}

func (r *retrying) ReadAt(ctx context.Context, key string, dst []byte, off int64) (n int, info Info, err error) {
	err = r.do(ctx, func() (err error) { n, info, err = r.b.ReadAt(ctx, key, dst, off); return err })
	return n, info, err
}

// List goes on behind the last object that fn was told of.
func (r *retrying) List(ctx context.Context, prefix, after string, fn func(Info) bool) error {
	return r.do(ctx, func() error {
		return r.b.List(ctx, prefix, after, func(i Info) bool {
			after = i.Key
			return fn(i)
		})
	})
}

func (r *retrying) Delete(ctx context.Context, key string) error {
	return r.do(ctx, func() error { return r.b.Delete(ctx, key) })
}
