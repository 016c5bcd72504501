package interval

import (
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// slow is the obvious model: one bit for each integer below its length.
type slow [256]bool

func (m *slow) set(start, end uint64, v bool) (changed uint64) {
	for x := start; x < end; x++ {
		if m[x] != v {
			m[x] = v
			changed++
		}
	}
	return changed
}

func (m *slow) ranges(want bool, start, end uint64) (rs []Range) {
	for x := start; x < end; x++ {
		if m[x] != want {
			continue
		}
		if n := len(rs); n > 0 && rs[n-1].End == x {
			rs[n-1].End++
		} else {
			rs = append(rs, Range{x, x + 1})
		}
	}
	return rs
}

func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s Set
		var m slow
		bound := rapid.Uint64Range(0, uint64(len(m)))
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				a, b := bound.Draw(t, "start"), bound.Draw(t, "end")
				if got, want := s.Add(a, b), m.set(a, b, true); got != want {
					t.Fatalf("Add(%d, %d) = %d, want %d", a, b, got, want)
				}
			},
			"addShort": func(t *rapid.T) {
				a := rapid.Uint64Range(0, uint64(len(m))-4).Draw(t, "start")
				b := a + rapid.Uint64Range(0, 4).Draw(t, "len")
				if got, want := s.Add(a, b), m.set(a, b, true); got != want {
					t.Fatalf("Add(%d, %d) = %d, want %d", a, b, got, want)
				}
			},
			"remove": func(t *rapid.T) {
				a, b := bound.Draw(t, "start"), bound.Draw(t, "end")
				if got, want := s.Remove(a, b), m.set(a, b, false); got != want {
					t.Fatalf("Remove(%d, %d) = %d, want %d", a, b, got, want)
				}
			},
			"removeBelow": func(t *rapid.T) {
				x := rapid.Uint64Range(0, 32).Draw(t, "x")
				s.RemoveBelow(x)
				m.set(0, x, false)
			},
			"keepHighest": func(t *rapid.T) {
				n := rapid.IntRange(0, 40).Draw(t, "n")
				s.KeepHighest(n)
				rs := m.ranges(true, 0, uint64(len(m)))
				for len(rs) > n {
					m.set(rs[0].Start, rs[0].End, false)
					rs = rs[1:]
				}
			},
			"": func(t *rapid.T) { compare(t, &s, &m, bound.Draw(t, "from"), bound.Draw(t, "to")) },
		})
	})
}

func compare(t *rapid.T, s *Set, m *slow, from, to uint64) {
	t.Helper()
	end := uint64(len(m))
	want := m.ranges(true, 0, end)
	if !slices.Equal(s.Ranges(), want) {
		t.Fatalf("set is %v, want %v", s.Ranges(), want)
	}
	var sum uint64
	for i, r := range want {
		sum += r.Len()
		if s.At(i) != r {
			t.Fatalf("At(%d) = %v, want %v", i, s.At(i), r)
		}
	}
	if s.Sum() != sum || s.Len() != len(want) || s.Empty() != (sum == 0) {
		t.Fatalf("Sum %d Len %d Empty %v, want sum %d of %v", s.Sum(), s.Len(), s.Empty(), sum, want)
	}
	lo, ok := s.Min()
	if hi, ok2 := s.Max(); ok != (sum > 0) || ok2 != ok || ok && (lo != want[0].Start || hi != want[len(want)-1].End-1) {
		t.Fatalf("Min %d Max %d %v of %v", lo, hi, ok, want)
	}
	if got, want := slices.Collect(s.Gaps(from, to)), m.ranges(false, from, max(from, to)); !slices.Equal(got, want) {
		t.Fatalf("Gaps(%d, %d) = %v, want %v", from, to, got, want)
	}
	if got, want := s.Covers(from, to), len(m.ranges(false, from, max(from, to))) == 0; got != want {
		t.Fatalf("Covers(%d, %d) = %v", from, to, got)
	}
	if from < end && s.Contains(from) != m[from] {
		t.Fatalf("Contains(%d) = %v", from, s.Contains(from))
	}
	gap := from
	for gap < end && m[gap] {
		gap++
	}
	if got := s.NextGap(from); got != gap {
		t.Fatalf("NextGap(%d) = %d, want %d", from, got, gap)
	}
}

func TestUpperEnd(t *testing.T) {
	const top = ^uint64(0)
	var s Set
	s.Add(top-2, top)
	s.Add(0, 1)
	if got := s.Remove(0, top); got != 3 || !s.Empty() {
		t.Fatalf("removed %d, left %v", got, s.Ranges())
	}
	s.Add(5, 10)
	s.Clear()
	if _, ok := s.Max(); ok || s.Len() != 0 {
		t.Fatal("Clear left something")
	}
}

func BenchmarkAddAtEnd(b *testing.B) {
	var s Set
	for i := range b.N {
		s.Add(uint64(i), uint64(i)+1)
	}
}

func BenchmarkAddAmong64(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	var s Set
	for range b.N {
		x := rng.Uint64N(1 << 10)
		s.Add(x, x+1)
		s.Remove(x^1, x^1+1)
		s.KeepHighest(64)
	}
}
