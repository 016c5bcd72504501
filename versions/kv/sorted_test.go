package kv

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// The sorted set against a map, with keys that come in runs, at random, and with equal prefixes.
func TestSorted(t *testing.T) {
	for _, kind := range []string{"rising", "falling", "random", "prefixes"} {
		t.Run(kind, func(t *testing.T) {
			r := rand.New(rand.NewPCG(5, 5))
			var s sorted
			model := map[string]*row{}
			for n := range 4000 {
				var key []byte
				switch kind {
				case "rising":
					key = key8(uint64(n))
				case "falling":
					key = key8(uint64(1e6 - n))
				case "random":
					key = key8(uint64(r.IntN(3000)))
				case "prefixes":
					key = append([]byte("a prefix of more than 16 bytes"), make([]byte, r.IntN(5))...)
					key = append(key, byte(r.IntN(200)))
					key = key[r.IntN(2)*len("a prefix of more "):]
				}
				made := false
				got := s.insert(key, func() *row { made = true; return &row{key: key} })
				if known := model[string(key)]; known != nil && (made || got != known) || known == nil && !made {
					t.Fatalf("insertion %d of %q: made %v", n, key, made)
				}
				model[string(key)] = got
			}
			keys := slices.Sorted(maps.Keys(model))
			if s.n != len(keys) {
				t.Fatalf("%d rows, want %d", s.n, len(keys))
			}
			at := position{}
			for _, k := range keys {
				if r := s.row(at); r == nil || string(r.key) != k {
					t.Fatalf("walking: %v, want %q", r, k)
				}
				at = s.next(at)
			}
			if s.row(at) != nil {
				t.Fatal("walking goes on behind the end")
			}
			probe := func(k []byte) {
				i, found := slices.BinarySearch(keys, string(k))
				if got := s.get(k); (got != nil) != found || found && got != model[string(k)] {
					t.Fatalf("get %q: %v, want %v", k, got, found)
				}
				p, ok := s.search(k)
				if r := s.row(p); ok != found || (r == nil) != (i == len(keys)) || r != nil && string(r.key) != keys[i] {
					t.Fatalf("search %q: %v", k, r)
				}
				if !found {
					i--
				}
				if r := s.floor(k); (r == nil) != (i < 0) || r != nil && string(r.key) != keys[i] {
					t.Fatalf("floor %q: %v", k, r)
				}
			}
			probe(nil)
			probe(bytes.Repeat([]byte{255}, 40))
			for _, k := range keys {
				probe([]byte(k))
				probe(append([]byte(k), 0))
				probe([]byte(k[:len(k)-1]))
			}
		})
	}
	var empty sorted
	if empty.get([]byte("k")) != nil || empty.floor([]byte("k")) != nil || empty.row(position{}) != nil {
		t.Error("something in nothing")
	}
}
