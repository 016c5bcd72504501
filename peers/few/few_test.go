package few

import (
	"maps"
	"math/rand/v2"
	"testing"
)

// TestMapIsAMap compares it with a map of Go over random changes, around the number from which on it is one.
func TestMapIsAMap(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		var m Map[int, int]
		want := map[int]int{}
		for range 200 {
			key, value := rnd.IntN(1+rnd.IntN(20)), rnd.IntN(100)
			switch rnd.IntN(4) {
			case 0, 1:
				m.Set(key, value)
				want[key] = value
			case 2:
				m.Delete(key)
				delete(want, key)
			case 3: // some of all while they are gone through, others changed
				seen := map[int]int{}
				for k, v := range m.All() {
					if _, twice := seen[k]; twice {
						t.Fatalf("seed %d: %d is told twice", seed, k)
					}
					if seen[k] = v; k%3 == key%3 {
						m.Delete(k)
					} else {
						m.Set(k, v+1)
					}
				}
				if !maps.Equal(seen, want) {
					t.Fatalf("seed %d: %v are told, want %v", seed, seen, want)
				}
				for k, v := range want {
					if want[k] = v + 1; k%3 == key%3 {
						delete(want, k)
					}
				}
			}
			if m.Len() != len(want) || !maps.Equal(maps.Collect(m.All()), want) {
				t.Fatalf("seed %d: %v, want %v", seed, maps.Collect(m.All()), want)
			}
			v, ok := m.Get(key)
			if w, is := want[key]; v != w || ok != is || m.Has(key) != is {
				t.Fatalf("seed %d: %d has %d, %v; want %d, %v", seed, key, v, ok, w, is)
			}
			n := 0
			for range m.Keys() {
				n++
				break
			}
			if n != min(1, len(want)) {
				t.Fatalf("seed %d: %d keys", seed, n)
			}
		}
	}
}
