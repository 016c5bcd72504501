package versions

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"sharefs"
	"sharefs/integration/race"
)

func TestIDSetAgainstAMap(t *testing.T) {
	race.Leave(t, race.OneHand)
	t.Parallel()
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 2))
		var s idSet
		model := map[uint64]bool{}
		lo := uint64(0)
		if seed%2 == 1 { // members that share leading bits
			s.common = uint(1 + r.IntN(20))
			lo = r.Uint64() >> (64 - s.common) << (64 - s.common)
		}
		member := func() uint64 {
			v := lo | r.Uint64()>>s.common
			if seed%3 == 0 {
				v &^= 0xffffffff << 8 // many meet in one slot
			}
			return max(1, v)
		}
		n := r.IntN(40_000)
		for range n {
			v := member()
			if s.has(v) != model[v] {
				t.Fatalf("seed %d: %x is in it: %t", seed, v, s.has(v))
			}
			if s.add(v) == model[v] {
				t.Fatalf("seed %d: %x is new: %t", seed, v, model[v])
			}
			model[v] = true
		}
		if s.n != len(model) {
			t.Fatalf("%d members instead of %d", s.n, len(model))
		}
		if s.common > 0 {
			lo |= 1 << (63 - s.common) // the upper half
			s.narrow(lo, s.common+1)
			for v := range model {
				if (v^lo)>>(64-s.common) != 0 {
					delete(model, v)
				}
			}
		}
		got := map[uint64]bool{}
		s.each(func(v uint64) { got[v] = true })
		if len(got) != len(model) || s.n != len(model) {
			t.Fatalf("seed %d: %d members, %d counted, %d right", seed, len(got), s.n, len(model))
		}
		for v := range model {
			if !got[v] || !s.has(v) {
				t.Fatalf("seed %d: %x is missing", seed, v)
			}
		}
		s.release()
		if s.has(1) || s.n != 0 || s.bytes() != 0 {
			t.Error("it holds something after it was given up")
		}
	}
}

// A table that lies outside the heap holds what one inside does.
func TestLargeIDSet(t *testing.T) {
	race.Leave(t, race.OneHand)
	t.Parallel()
	var s idSet
	r := rand.New(rand.NewPCG(1, 1))
	const n = 120_000 // the table moves out of the heap when it grows beyond half of that
	for range n {
		s.add(max(1, r.Uint64()))
	}
	if !s.mapped || s.n != n {
		t.Fatalf("%d members, mapped: %t", s.n, s.mapped)
	}
	r = rand.New(rand.NewPCG(1, 1))
	for range n {
		if !s.has(max(1, r.Uint64())) {
			t.Fatal("a member is missing")
		}
	}
	s.narrow(1<<63, 1)
	if s.n < n*49/100 || s.n > n*51/100 {
		t.Errorf("%d of %d are in the upper half", s.n, n)
	}
	s.release()
}

func BenchmarkIDSet(b *testing.B) {
	var s idSet
	var id sharefs.ChunkID
	r := rand.New(rand.NewPCG(1, 1))
	for b.Loop() {
		binary.BigEndian.PutUint64(id[:], r.Uint64())
		s.add(fingerprint(&id))
	}
	b.ReportMetric(float64(s.bytes())/float64(s.n), "B/member")
	s.release()
}
