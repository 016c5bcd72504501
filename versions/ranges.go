package versions

import (
	"math"
	"slices"
	"sort"
)

// ranges is a set of bytes of a file, as runs in their order. It may hold more than was added: runs that lie close to each other are one, the closer
// the fewer of them there are to be. The zero value is empty. One goroutine uses it.
type ranges struct {
	runs []run
	gap  int64 // runs that are no further apart are one; at least rangeGap
}

// run is a run of bytes; to is not in it.
type run struct{ from, to int64 }

const (
	rangeGap = 16 << 10      // less than the shortest of the large chunks: what lies between would be read anyway
	maxRuns  = 1 << 14       // 256 KiB
	endless  = math.MaxInt64 // the end of a run to the end of the file, wherever that is
)

// add adds the bytes from one offset up to another one.
func (r *ranges) add(from, to int64) {
	if from >= to {
		return
	}
	r.gap = max(r.gap, rangeGap)
	// All runs from i up to j lie close enough to be one with it.
	i := len(r.runs)
	if i > 0 && r.runs[i-1].to >= from-r.gap { // else it comes after all of them, as most do
		i = sort.Search(len(r.runs), func(i int) bool { return r.runs[i].to >= from-r.gap })
	}
	j := i
	for ; j < len(r.runs) && r.runs[j].from-r.gap <= to; j++ {
		from, to = min(from, r.runs[j].from), max(to, r.runs[j].to)
	}
	if j > i {
		r.runs[i] = run{from, to}
		r.runs = slices.Delete(r.runs, i+1, j)
		return
	}
	r.runs = slices.Insert(r.runs, i, run{from, to})
	for len(r.runs) > maxRuns {
		r.coarsen()
	}
}

// coarsen makes one of runs that are up to twice as far apart as those that are one already.
func (r *ranges) coarsen() {
	r.gap *= 2
	kept := r.runs[:1]
	for _, next := range r.runs[1:] {
		if last := &kept[len(kept)-1]; next.from-r.gap <= last.to {
			last.to = max(last.to, next.to)
		} else {
			kept = append(kept, next)
		}
	}
	r.runs = kept
}

// addAll adds another set.
func (r *ranges) addAll(o *ranges) {
	for _, x := range o.runs {
		r.add(x.from, x.to)
	}
}

// meet reports whether any of the bytes from one offset up to another one is in the set.
func (r *ranges) meet(from, to int64) bool {
	i := sort.Search(len(r.runs), func(i int) bool { return r.runs[i].to > from })
	return i < len(r.runs) && r.runs[i].from < to
}
