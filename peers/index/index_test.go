package index

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

type thing struct{ key, value int }

// TestIndexIsAMap compares it with a map of Go over random changes.
func TestIndexIsAMap(t *testing.T) {
	for seed := range uint64(100) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		x := New(func(v *thing) int { return v.key })
		want := map[int]*thing{}
		keys := 1 + rnd.IntN(300)
		for step := range 2000 {
			key := rnd.IntN(keys)
			if rnd.IntN(2+step/500) == 0 {
				v := &thing{key, step}
				x.Put(v)
				want[key] = v
			} else {
				x.Delete(key)
				delete(want, key)
			}
			if x.Len() != len(want) {
				t.Fatalf("seed %d, step %d: %d things, want %d", seed, step, x.Len(), len(want))
			}
			if step%50 > 0 {
				continue
			}
			for key := range keys {
				if got := x.Get(key); got != want[key] {
					t.Fatalf("seed %d, step %d: %d is %v, want %v", seed, step, key, got, want[key])
				}
			}
			seen := 0
			for v := range x.All() {
				if seen++; want[v.key] != v {
					t.Fatalf("seed %d, step %d: %v is told, want %v", seed, step, v, want[v.key])
				}
			}
			if seen != len(want) {
				t.Fatalf("seed %d, step %d: %d things are told, want %d", seed, step, seen, len(want))
			}
		}
	}
}

func TestAllEnds(t *testing.T) {
	x := New(func(v *thing) int { return v.key })
	for i := range 20 {
		x.Put(&thing{i, 0})
	}
	n := 0
	for range x.All() {
		if n++; n == 3 {
			break
		}
	}
	if n != 3 {
		t.Errorf("%d", n)
	}
}

// BenchmarkIndex looks up what is there and what is not among some things, beside a map of Go.
func BenchmarkIndex(b *testing.B) {
	type key [32]byte
	type item struct{ key key }
	of := func(i int) (k key) { k[0], k[1], k[2] = byte(i), byte(i>>8), byte(i>>16); return k }
	for _, n := range []int{1000, 1_000_000} {
		x := New(func(v *item) key { return v.key })
		m := map[key]*item{}
		for i := range n {
			v := &item{of(i)}
			x.Put(v)
			m[v.key] = v
		}
		for _, c := range []struct {
			name string
			get  func(key) *item
		}{{"index", x.Get}, {"map", func(k key) *item { return m[k] }}} {
			b.Run(fmt.Sprintf("%s of %d", c.name, n), func(b *testing.B) {
				i := 0
				for b.Loop() {
					i = (i + 7919) % (2 * n)
					c.get(of(i))
				}
			})
		}
	}
}
