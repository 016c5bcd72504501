package tier_test

import (
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"sharefs"
	"sharefs/versions/tier"
	"sharefs/versions/tier/membucket"
)

// zeros makes zeros of the end of an object, as if it had been given back to the disk.
func zeros(data []byte) { clear(data[len(data)/2:]) }

// A keeper that gives zeros, or anything else that could be a file of the store, is found out by what the root says of the file: it comes from the one that has it as it was put. Where none has,
// the one is taken that comes nearest, and named, also when the fetch is gone on with.
func TestFetchKnowsWhatWasPut(t *testing.T) {
	f := &files{}
	f.set("packs/ab/1", "all of one")
	f.set("packs/ab/2", "all of two")
	f.set("packs/ab/3", "all of three")
	f.set("checkpoints/rows/ab/4", "all of four")
	var buckets []*membucket.Bucket
	for range 2 {
		b := &membucket.Bucket{Sums: true}
		cfg := config(t, b, f)
		cfg.Own, cfg.Sums = true, true
		u := start(t, cfg)
		same(t, b, f)
		u.Close()
		buckets = append(buckets, b)
	}
	first, second := buckets[0], buckets[1]
	first.Spoil("packs/ab/1", zeros)
	first.Spoil("packs/ab/2", func(data []byte) { data[0] = 'A' })
	second.Spoil("packs/ab/2", zeros)
	first.Spoil("packs/ab/3", func(data []byte) { data[0] = 'A' })
	second.Spoil("packs/ab/3", func(data []byte) { data[0] = 'B' })
	root, _, err := tier.ReadRoot(t.Context(), first, key)
	if err != nil {
		t.Fatal(err)
	}
	fetch := &tier.Fetch{
		Bucket: first, Others: []tier.Bucket{second}, Dir: t.TempDir(), Files: root.Files,
		Check: func(name string, body io.ReaderAt, size int64) error { // as of a pack: zeros may be what was given back
			b := make([]byte, size)
			if _, err := body.ReadAt(b, 0); err != nil || !strings.HasPrefix(string(b), "all") {
				return &sharefs.Error{Op: "check", Path: name, Kind: sharefs.KindCorrupt}
			}
			return nil
		},
	}
	for round := range 2 {
		out, err := fetch.Run(t.Context())
		slices.Sort(out.Missing)
		if err != nil || !slices.Equal(out.Missing, []string{"packs/ab/2: it is not as it was put there, parts of it may be gone", "packs/ab/3: it is damaged"}) || out.Here != 2*round {
			t.Fatalf("%+v, %v", out, err)
		}
	}
	for name, want := range map[string]string{"packs/ab/1": "all of one", "packs/ab/2": "all o\x00\x00\x00\x00\x00", "packs/ab/3": "All of three", "checkpoints/rows/ab/4": "all of four"} {
		if got, err := os.ReadFile(filepath.Join(fetch.Dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	// One of them has it again.
	second.Spoil("packs/ab/2", func(data []byte) { copy(data, "all of two") })
	if out, err := fetch.Run(t.Context()); err != nil || !slices.Equal(out.Missing, []string{"packs/ab/3: it is damaged"}) || out.Here != 2 || out.Files != 1 {
		t.Fatalf("%+v, %v", out, err)
	}
}

// What the bucket says that it has is no proof: of a file that no root names yet the file here tells, and what is not as it is said to be is put again. What a root of this store names is not read.
func TestSumsAreThisStores(t *testing.T) {
	b, f := &membucket.Bucket{Sums: true}, &files{notReady: true}
	f.set("packs/ab/1", "one")
	f.set("packs/ab/2", "two")
	cfg := config(t, b, f)
	cfg.Own, cfg.Sums = true, true
	u := start(t, cfg)
	until(t, "both are there", func() bool { return len(b.Keys()) == 2 })
	u.Close()
	if _, err := b.Put(t.Context(), "packs/ab/2", strings.NewReader("2wo"), 3, tier.Condition{}); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	opened, put := map[string]int{}, map[string]int{}
	f.notReady = false
	f.opened = func(name string) {
		mu.Lock()
		defer mu.Unlock()
		opened[name]++
	}
	b.Before = func(op, key string) error {
		mu.Lock()
		defer mu.Unlock()
		if op == "put" && key != tier.RootKey {
			put[key]++
		}
		return nil
	}
	u = start(t, cfg)
	same(t, b, f)
	until(t, "it is told", func() bool { return !u.Stats().Complete.IsZero() })
	u.Close()
	if !maps.Equal(put, map[string]int{"packs/ab/2": 1}) {
		t.Errorf("%v are put", put)
	}
	clear(opened)
	f.set("packs/ab/3", "three")
	u = start(t, cfg)
	same(t, b, f)
	u.Close()
	if !maps.Equal(opened, map[string]int{"packs/ab/3": 1}) {
		t.Errorf("%v are read", opened)
	}
}
