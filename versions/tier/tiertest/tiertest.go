// Package tiertest holds what every bucket has to do.
package tiertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"sharefs"
	"sharefs/versions/tier"
)

// Bucket runs the suite; empty returns a new one.
func Bucket(t *testing.T, empty func(t *testing.T) tier.Bucket) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, tier.Bucket)
	}{
		{"put and read", putAndRead}, {"missing", missing}, {"absent", absent}, {"swap", swap}, {"race to make", raceToMake}, {"race to swap", raceToSwap},
		{"list", list}, {"delete", remove}, {"canceled", canceled}, {"short body", shortBody},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, empty(t)) })
	}
}

func put(t *testing.T, b tier.Bucket, key string, data []byte, only tier.Condition) string {
	t.Helper()
	etag, err := b.Put(t.Context(), key, bytes.NewReader(data), int64(len(data)), only)
	if err != nil {
		t.Fatal(err)
	}
	if etag == "" {
		t.Fatalf("%s got no tag", key)
	}
	return etag
}

func read(t *testing.T, b tier.Bucket, key string) (string, tier.Info) {
	t.Helper()
	dst := make([]byte, 1<<20)
	n, info, err := b.ReadAt(t.Context(), key, dst, 0)
	if err != nil {
		t.Fatal(err)
	}
	return string(dst[:n]), info
}

func wantKind(t *testing.T, err error, kind sharefs.Kind) {
	t.Helper()
	if err == nil || sharefs.KindOf(err) != kind {
		t.Fatalf("the error is %v, not of the kind %v", err, kind)
	}
}

func putAndRead(t *testing.T, b tier.Bucket) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{1, 4095, 65537, 5<<20 + 3} {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		key := fmt.Sprintf("packs/ab/%d", size)
		etag := put(t, b, key, data, tier.Condition{})
		for range 20 {
			off := r.IntN(size)
			dst := make([]byte, 1+r.IntN(size+10))
			n, info, err := b.ReadAt(t.Context(), key, dst, int64(off))
			if err != nil {
				t.Fatal(err)
			}
			if want := data[off:min(size, off+len(dst))]; !bytes.Equal(dst[:n], want) {
				t.Fatalf("%d bytes at %d of %d read back as %d others", len(want), off, size, n)
			}
			if info != (tier.Info{Key: key, Size: int64(size), ETag: etag}) {
				t.Fatalf("info is %+v, the tag was %q", info, etag)
			}
		}
		_, _, err := b.ReadAt(t.Context(), key, make([]byte, 1), int64(size))
		wantKind(t, err, sharefs.KindRange)
	}
	first := put(t, b, "again", []byte("one"), tier.Condition{})
	second := put(t, b, "again", []byte("two"), tier.Condition{})
	if got, info := read(t, b, "again"); got != "two" || info.ETag != second || first == second {
		t.Fatalf("what was put again reads as %q, tags %q %q %q", got, first, second, info.ETag)
	}
}

func missing(t *testing.T, b tier.Bucket) {
	_, _, err := b.ReadAt(t.Context(), "nothing", make([]byte, 1), 0)
	wantKind(t, err, sharefs.KindNotExist)
	_, err = b.Put(t.Context(), "nothing", strings.NewReader("x"), 1, tier.Condition{ETag: "0123456789abcdef0123456789abcdef"})
	wantKind(t, err, sharefs.KindStale)
	if err := b.Delete(t.Context(), "nothing"); err != nil {
		t.Fatal(err)
	}
}

func absent(t *testing.T, b tier.Bucket) {
	etag := put(t, b, "root", []byte("one"), tier.Condition{Absent: true})
	_, err := b.Put(t.Context(), "root", strings.NewReader("two"), 3, tier.Condition{Absent: true})
	wantKind(t, err, sharefs.KindStale)
	if got, info := read(t, b, "root"); got != "one" || info.ETag != etag {
		t.Fatalf("it reads as %q", got)
	}
	if err := b.Delete(t.Context(), "root"); err != nil {
		t.Fatal(err)
	}
	put(t, b, "root", []byte("three"), tier.Condition{Absent: true})
}

func swap(t *testing.T, b tier.Bucket) {
	first := put(t, b, "root", []byte("one"), tier.Condition{Absent: true})
	second := put(t, b, "root", []byte("two"), tier.Condition{ETag: first})
	_, err := b.Put(t.Context(), "root", strings.NewReader("three"), 5, tier.Condition{ETag: first})
	wantKind(t, err, sharefs.KindStale)
	if got, info := read(t, b, "root"); got != "two" || info.ETag != second {
		t.Fatalf("it reads as %q", got)
	}
}

// race has several put under the same condition; one of them must have, and it must be what is there.
func race(t *testing.T, b tier.Bucket, key string, round int, only tier.Condition) string {
	const rivals = 8
	var wg sync.WaitGroup
	var mu sync.Mutex
	var won []string
	for n := range rivals {
		wg.Go(func() {
			// Where the tag is a hash of the content, one that was there before would let the condition hold again.
			data := fmt.Sprintf("%s of rival %d in round %d", key, n, round)
			for {
				_, err := b.Put(t.Context(), key, strings.NewReader(data), int64(len(data)), only)
				switch {
				case err == nil:
					mu.Lock()
					defer mu.Unlock()
					won = append(won, data)
				case sharefs.KindOf(err) == sharefs.KindAgain: // the server saw two at once
					continue
				case sharefs.KindOf(err) != sharefs.KindStale:
					t.Error(err)
				}
				return
			}
		})
	}
	wg.Wait()
	got, info := read(t, b, key)
	if len(won) != 1 || got != won[0] {
		t.Fatalf("%q won, %q is there", won, got)
	}
	return info.ETag
}

func raceToMake(t *testing.T, b tier.Bucket) { race(t, b, "root", 0, tier.Condition{Absent: true}) }

func raceToSwap(t *testing.T, b tier.Bucket) {
	etag := put(t, b, "root", []byte("first"), tier.Condition{})
	for round := range 3 {
		etag = race(t, b, "root", round, tier.Condition{ETag: etag})
	}
}

func list(t *testing.T, b tier.Bucket) {
	var want []string
	for n := range 30 {
		key := fmt.Sprintf("packs/%02x/%d", n%3, n)
		put(t, b, key, bytes.Repeat([]byte("x"), n+1), tier.Condition{})
		want = append(want, key)
	}
	put(t, b, "other", []byte("y"), tier.Condition{})
	put(t, b, "packs.old/1", []byte("y"), tier.Condition{})
	slices.Sort(want)
	all := func(prefix, after string, most int) (got []string) {
		t.Helper()
		err := b.List(t.Context(), prefix, after, func(i tier.Info) bool {
			got = append(got, i.Key)
			var n, dir int
			if _, err := fmt.Sscanf(i.Key, "packs/%x/%d", &dir, &n); err != nil || i.Size != int64(n)+1 || i.ETag == "" {
				t.Errorf("%+v: %v", i, err)
			}
			return len(got) < most
		})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for _, c := range []struct {
		prefix, after string
		most          int
		want          []string
	}{
		{"packs/", "", 100, want}, {"packs/01/", "", 100, want[10:20]}, {"packs/", want[11], 100, want[12:]}, {"packs/", "", 3, want[:3]}, {"none/", "", 1, nil},
	} {
		if got := all(c.prefix, c.after, c.most); !slices.Equal(got, c.want) {
			t.Errorf("below %q behind %q: %q, not %q", c.prefix, c.after, got, c.want)
		}
	}
}

func remove(t *testing.T, b tier.Bucket) {
	put(t, b, "a/b", []byte("x"), tier.Condition{})
	put(t, b, "a/c", []byte("x"), tier.Condition{})
	if err := b.Delete(t.Context(), "a/b"); err != nil {
		t.Fatal(err)
	}
	_, _, err := b.ReadAt(t.Context(), "a/b", make([]byte, 1), 0)
	wantKind(t, err, sharefs.KindNotExist)
	read(t, b, "a/c")
}

func canceled(t *testing.T, b tier.Bucket) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.Put(ctx, "a", strings.NewReader("x"), 1, tier.Condition{})
	_, _, err2 := b.ReadAt(ctx, "a", make([]byte, 1), 0)
	for _, err := range []error{err, err2, b.Delete(ctx, "a"), b.List(ctx, "", "", func(tier.Info) bool { return true })} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the error is %v", err)
		}
	}
}

// shortBody has a body end before its time, as the file of a pack that is damaged: nothing may come of it.
func shortBody(t *testing.T, b tier.Bucket) {
	if _, err := b.Put(t.Context(), "short", bytes.NewReader(make([]byte, 1000)), 2000, tier.Condition{}); err == nil {
		t.Fatal("half a body was put")
	}
	_, _, err := b.ReadAt(t.Context(), "short", make([]byte, 1), 0)
	wantKind(t, err, sharefs.KindNotExist)
}
