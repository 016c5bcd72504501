// Package interval keeps sets of integers as ranges: packet numbers that were received, stream bytes that have arrived or
// were acknowledged. The zero [Set] is empty and ready. A Set is not safe for concurrent use.
//
// Ranges lie in a sorted slice and are merged where they touch, because the sets of a transport hold few ranges and grow
// at their upper end: adding there is O(1), a lookup O(log n), adding in the middle O(n). Who takes ranges from a network
// bounds their number with [Set.KeepHighest] or by refusing what would pass [Set.Len].
package interval

import (
	"iter"
	"slices"
	"sort"
)

// Range holds Start and all integers up to End, without End. A range whose End is not above its Start is empty.
type Range struct{ Start, End uint64 }

// Len returns how many integers the range holds.
func (r Range) Len() uint64 {
	if r.End <= r.Start {
		return 0
	}
	return r.End - r.Start
}

// Set is a set of integers.
type Set struct {
	rs []Range // ascending; neither overlapping nor touching; none empty
}

// Add puts [start, end) into the set and returns how many of its integers are new.
func (s *Set) Add(start, end uint64) (added uint64) {
	if end <= start {
		return 0
	}
	n := len(s.rs)
	if n == 0 || start > s.rs[n-1].End {
		s.rs = append(s.rs, Range{start, end})
		return end - start
	}
	if last := &s.rs[n-1]; start >= last.Start { // the usual case: the highest range grows
		if end <= last.End {
			return 0
		}
		added = end - last.End
		last.End = end
		return added
	}
	i := s.firstEndingAt(start)                                                  // first range that start may join
	j := i + sort.Search(n-i, func(k int) bool { return s.rs[i+k].Start > end }) // first range wholly above
	if i == j {
		s.rs = slices.Insert(s.rs, i, Range{start, end})
		return end - start
	}
	added = end - start
	for _, r := range s.rs[i:j] {
		added -= Range{max(r.Start, start), min(r.End, end)}.Len() // a range that only touches overlaps in nothing
	}
	s.rs[i] = Range{min(s.rs[i].Start, start), max(s.rs[j-1].End, end)}
	s.rs = slices.Delete(s.rs, i+1, j)
	return added
}

// Remove takes [start, end) out of the set and returns how many integers were there.
func (s *Set) Remove(start, end uint64) (removed uint64) {
	if end <= start || len(s.rs) == 0 {
		return 0
	}
	i := s.firstEndingAbove(start)
	j := i
	for j < len(s.rs) && s.rs[j].Start < end {
		removed += min(s.rs[j].End, end) - max(s.rs[j].Start, start)
		j++
	}
	if i == j {
		return 0
	}
	var keep [2]Range
	k := 0
	if first := s.rs[i]; first.Start < start {
		keep[k] = Range{first.Start, start}
		k++
	}
	if last := s.rs[j-1]; last.End > end {
		keep[k] = Range{end, last.End}
		k++
	}
	s.rs = slices.Replace(s.rs, i, j, keep[:k]...)
	return removed
}

// RemoveBelow takes out all integers below x.
func (s *Set) RemoveBelow(x uint64) {
	i := s.firstEndingAbove(x)
	s.rs = slices.Delete(s.rs, 0, i)
	if len(s.rs) > 0 && s.rs[0].Start < x {
		s.rs[0].Start = x
	}
}

// KeepHighest forgets the lowest ranges beyond n.
func (s *Set) KeepHighest(n int) {
	if extra := len(s.rs) - n; extra > 0 {
		s.rs = slices.Delete(s.rs, 0, extra)
	}
}

// Clear empties the set and keeps its memory.
func (s *Set) Clear() { s.rs = s.rs[:0] }

// Contains reports whether x is in the set.
func (s *Set) Contains(x uint64) bool {
	i := s.firstEndingAbove(x)
	return i < len(s.rs) && s.rs[i].Start <= x
}

// Covers reports whether all of [start, end) is in the set; an empty range always is.
func (s *Set) Covers(start, end uint64) bool {
	if end <= start {
		return true
	}
	i := s.firstEndingAbove(start)
	return i < len(s.rs) && s.rs[i].Start <= start && s.rs[i].End >= end
}

// Len returns the number of ranges, not of integers; see [Set.Sum].
func (s *Set) Len() int { return len(s.rs) }

// Empty reports whether the set holds nothing.
func (s *Set) Empty() bool { return len(s.rs) == 0 }

// Sum returns the number of integers in the set.
func (s *Set) Sum() (n uint64) {
	for _, r := range s.rs {
		n += r.End - r.Start
	}
	return n
}

// At returns the i-th range, counted upwards from 0.
func (s *Set) At(i int) Range { return s.rs[i] }

// Ranges returns all ranges in ascending order. The slice is the set's own and holds until its next change.
func (s *Set) Ranges() []Range { return s.rs }

// Min returns the lowest integer.
func (s *Set) Min() (x uint64, ok bool) {
	if len(s.rs) == 0 {
		return 0, false
	}
	return s.rs[0].Start, true
}

// Max returns the highest integer.
func (s *Set) Max() (x uint64, ok bool) {
	if len(s.rs) == 0 {
		return 0, false
	}
	return s.rs[len(s.rs)-1].End - 1, true
}

// NextGap returns the lowest integer from from upwards that is not in the set.
func (s *Set) NextGap(from uint64) uint64 {
	i := s.firstEndingAbove(from)
	if i < len(s.rs) && s.rs[i].Start <= from {
		return s.rs[i].End
	}
	return from
}

// Gaps yields the parts of [start, end) that are not in the set, in ascending order. The set must not change meanwhile.
func (s *Set) Gaps(start, end uint64) iter.Seq[Range] {
	return func(yield func(Range) bool) {
		at := start
		for i := s.firstEndingAbove(start); at < end && i < len(s.rs) && s.rs[i].Start < end; i++ {
			if r := s.rs[i]; r.Start > at && !yield(Range{at, r.Start}) {
				return
			}
			at = s.rs[i].End
		}
		if at < end {
			yield(Range{at, end})
		}
	}
}

// firstEndingAt returns the index of the first range with End ≥ x: one that touches or holds x or lies above it.
func (s *Set) firstEndingAt(x uint64) int {
	return sort.Search(len(s.rs), func(i int) bool { return s.rs[i].End >= x })
}

// firstEndingAbove returns the index of the first range with End > x: one that holds x or lies above it.
func (s *Set) firstEndingAbove(x uint64) int {
	return sort.Search(len(s.rs), func(i int) bool { return s.rs[i].End > x })
}
