package near

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sharefs"
	"sharefs/versions/pack"
	"sharefs/versions/tier"
	"sharefs/versions/tier/membucket"
)

// pass is an error that may pass.
var pass = &sharefs.Error{Op: "read", Detail: "the server is not well"}

func TestOutage(t *testing.T) {
	b := newBench(t, 1)
	defer b.close()
	b.add(seeded(t), 40)
	b.upload(true)
	var broken atomic.Bool
	var asked atomic.Int64
	b.bucket.reads(func(_ context.Context, _ []byte, next func() (int, tier.Info, error)) (int, tier.Info, error) {
		asked.Add(1)
		if broken.Load() {
			return 0, tier.Info{}, pass
		}
		return next()
	})
	if err := b.fs.shrink(); err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	err := b.read(b.order[0])
	if sharefs.KindOf(err) != sharefs.KindUnreachable || !strings.Contains(err.Error(), "s3://here/bucket") || !strings.Contains(err.Error(), "packs/") {
		t.Fatalf("%v, of kind %v", err, sharefs.KindOf(err))
	}
	if s := b.fs.Stats(); s.Since.IsZero() || s.Error == "" {
		t.Errorf("%+v", s)
	}
	// While it lasts, nobody asks but the one who looks whether it is over.
	before := asked.Load()
	for range 100 {
		if err := b.read(b.order[0]); sharefs.KindOf(err) != sharefs.KindUnreachable {
			t.Fatal(err)
		}
	}
	if n := asked.Load() - before; n > 50 {
		t.Errorf("%d requests to a bucket that does not answer", n)
	}
	// What is there is read, and what is new is kept.
	b.add(seeded(t), 3)
	for _, id := range b.order[40:] {
		if err := b.read(id); err != nil {
			t.Error(err)
		}
	}
	broken.Store(false)
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if err := b.read(b.order[0]); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	b.readAll()
}

func TestServerThatHangsIsGivenUp(t *testing.T) {
	b, _ := remoteBench(t, seeded(t), 40)
	b.close()
	b.wait = 20 * time.Millisecond
	b.open()
	defer b.close()
	b.bucket.reads(func(ctx context.Context, _ []byte, _ func() (int, tier.Info, error)) (int, tier.Info, error) {
		<-ctx.Done()
		return 0, tier.Info{}, ctx.Err()
	})
	if err := b.read(b.order[0]); sharefs.KindOf(err) != sharefs.KindUnreachable || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v, of kind %v", err, sharefs.KindOf(err))
	}
}

func TestWrongBytesAreRefused(t *testing.T) {
	b, _ := remoteBench(t, seeded(t), 40)
	defer b.close()
	b.setBudget(1 << 40)
	var times atomic.Int64
	b.bucket.reads(func(_ context.Context, dst []byte, next func() (int, tier.Info, error)) (int, tier.Info, error) {
		n, info, err := next()
		if times.Add(-1) >= 0 {
			for i := 0; i < n; i += 7 {
				dst[i] ^= 0x5a
			}
		}
		return n, info, err
	})
	times.Store(1)
	if err := b.read(b.order[0]); err != nil {
		t.Fatalf("wrong bytes once: %v", err)
	}
	times.Store(1 << 40)
	last := b.order[len(b.order)/2]
	if err := b.read(last); sharefs.KindOf(err) != sharefs.KindCorrupt {
		t.Fatalf("wrong bytes: %v", err)
	}
	times.Store(0)
	if err := b.read(last); err != nil { // nothing wrong was kept for good
		t.Fatalf("right bytes again: %v", err)
	}
	b.readAll()
}

func TestLostAndShortObjects(t *testing.T) {
	b, list := remoteBench(t, seeded(t), 40)
	defer b.close()
	first := keyOf(b.locs[b.order[0]].Pack)
	if err := b.bucket.Delete(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if err := b.read(b.order[0]); sharefs.KindOf(err) != sharefs.KindCorrupt || !strings.Contains(err.Error(), "has lost it") {
		t.Errorf("lost: %v", err)
	}
	if _, err := b.bucket.Put(t.Context(), first, strings.NewReader("x"), 1, tier.Condition{}); err != nil {
		t.Fatal(err)
	}
	if err := b.read(b.order[0]); sharefs.KindOf(err) != sharefs.KindCorrupt {
		t.Errorf("short: %v", err)
	}
	seen := 0
	err := b.fs.Check(t.Context(), func(l Listed) {
		seen++
		if bad := keyOf(l.ID) == first; bad != (l.Found != l.Size) {
			t.Errorf("%+v", l)
		}
	})
	if err != nil || seen != b.fs.Stats().Remote || seen == 0 || seen > len(list) {
		t.Errorf("%d of %d, %v", seen, len(list), err)
	}
}

func TestAnotherBucketIsSaid(t *testing.T) {
	b, _ := remoteBench(t, seeded(t), 40)
	b.close()
	for _, c := range []struct {
		bucket tier.Bucket
		url    string
		want   string
	}{{&membucket.Bucket{}, "s3://there/bucket", "s3://here/bucket"}, {nil, "", "s3://here/bucket"}} {
		fs, err := Open(Config{Packs: b.packs, Files: b.files, Bucket: c.bucket, URL: c.url, Patience: patience, Missing: errors.New("share.toml has no [tier]")})
		if err != nil {
			t.Fatal(err)
		}
		f, err := fs.Open(pack.PathOf(b.locs[b.order[0]].Pack), false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.ReadAt(make([]byte, 10), 1000); sharefs.KindOf(err) != sharefs.KindUnreachable || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v", c.url, err)
		}
		f.Close()
		fs.Close()
	}
}
