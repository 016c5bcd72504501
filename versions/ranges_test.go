package versions

import (
	"math/rand/v2"
	"testing"
)

// TestRangesHoldWhatWasAdded compares with a plain list of everything that was added: all of it is in the set, and nothing that is further from it than the gap.
func TestRangesHoldWhatWasAdded(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 21))
		var set, other ranges
		var all []run
		size := int64(1) << (18 + seed%12)
		for range 1 + r.IntN(400) {
			from := r.Int64N(size)
			to := from + r.Int64N(1<<(2+r.IntN(16)))
			if r.IntN(100) == 0 {
				to = endless
			}
			if r.IntN(4) == 0 {
				other.add(from, to)
			} else {
				set.add(from, to)
			}
			if from < to {
				all = append(all, run{from, to})
			}
		}
		set.addAll(&other)
		for i, x := range set.runs {
			if x.from >= x.to || i > 0 && x.from-set.gap <= set.runs[i-1].to {
				t.Fatalf("seed %d: run %d is %v after %v", seed, i, x, set.runs[max(i-1, 0)])
			}
		}
		near := func(from, to, by int64) bool {
			for _, x := range all {
				if from-by < x.to && (x.from <= by || x.from-by < to) {
					return true
				}
			}
			return false
		}
		for range 500 {
			from := r.Int64N(size + 1000)
			to := from + 1 + r.Int64N(1<<(1+r.IntN(16)))
			switch {
			case near(from, to, 0) && !set.meet(from, to):
				t.Fatalf("seed %d: %d to %d was added and is not in the set", seed, from, to)
			case !near(from, to, set.gap+1) && set.meet(from, to):
				t.Fatalf("seed %d: %d to %d is in the set, and nothing near it was added", seed, from, to)
			}
		}
	}
}

func TestRangesAreBounded(t *testing.T) {
	t.Parallel()
	var set ranges
	r := rand.New(rand.NewPCG(1, 22))
	var added []int64
	for range 5 * maxRuns {
		at := r.Int64N(1 << 40)
		set.add(at, at+4096)
		added = append(added, at)
		if len(set.runs) > maxRuns {
			t.Fatalf("%d runs", len(set.runs))
		}
	}
	for _, at := range added {
		if !set.meet(at, at+1) || !set.meet(at+4095, at+4096) {
			t.Fatalf("%d was added and is not in the set", at)
		}
	}
}
