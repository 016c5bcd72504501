package kv

import (
	"bytes"
	"encoding/binary"
	"sort"

	"sharefs"
)

// row is one key in a table with the states it had there. A plain row has one state.
type row struct {
	key []byte
	version
}

// version is one state of a row; older is the one of an earlier epoch in the same table.
type version struct {
	stamp   sharefs.HLC // of its epoch; 0 in a plain space
	value   []byte
	deleted bool
	older   *version
}

// at returns the newest state with a stamp up to limit, nil without one.
func (r *row) at(limit sharefs.HLC) *version {
	v := &r.version
	for v != nil && v.stamp > limit {
		v = v.older
	}
	return v
}

// sorted is a set of rows in the order of their keys: leaves of up to leafSize entries, and one list of the leaves.
// With the n of a table, some 10^5, inserting into that list costs less than a deeper tree. The zero value is empty.
// Readers may share it while nobody inserts.
type sorted struct {
	leaves []leaf
	hint   int // the leaf of the latest insertion: keys come in runs
	n      int
}

const leafSize = 128

type leaf struct {
	first   prefix // that of its first entry: searches touch the list alone
	entries []entry
}

// entry has the first bytes of the key beside the pointer, so that most comparisons stay within the leaf.
type entry struct {
	prefix
	row *row
}

// prefix is the first 16 bytes of a key, short keys filled up with zeros. Keys with equal prefixes may differ.
type prefix struct{ hi, lo uint64 }

func prefixOf(key []byte) (p prefix) {
	if len(key) >= 16 {
		return prefix{binary.BigEndian.Uint64(key), binary.BigEndian.Uint64(key[8:])}
	}
	var b [16]byte
	copy(b[:], key)
	return prefix{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])}
}

// compare orders a key against that of an entry.
func compare(p prefix, key []byte, q prefix, other *row) int {
	switch {
	case p.hi != q.hi:
		if p.hi < q.hi {
			return -1
		}
		return 1
	case p.lo != q.lo:
		if p.lo < q.lo {
			return -1
		}
		return 1
	case len(key) == len(other.key) && len(key) <= 16:
		return 0
	}
	return bytes.Compare(key, other.key)
}

// position is a place in a sorted set: before the entry with this index of this leaf.
type position struct{ leaf, index int }

// search returns the place of the first row with a key of at least key, and whether it is that key.
func (s *sorted) search(key []byte) (position, bool) {
	p := prefixOf(key)
	// The last leaf that begins at or before key.
	at := sort.Search(len(s.leaves), func(i int) bool {
		l := &s.leaves[i]
		return compare(p, key, l.first, l.entries[0].row) < 0
	}) - 1
	if at < 0 {
		return position{}, false
	}
	return s.searchLeaf(at, p, key)
}

func (s *sorted) searchLeaf(at int, p prefix, key []byte) (position, bool) {
	es := s.leaves[at].entries
	lo, hi := 0, len(es)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		switch c := compare(p, key, es[mid].prefix, es[mid].row); {
		case c == 0:
			return position{at, mid}, true
		case c < 0:
			hi = mid
		default:
			lo = mid + 1
		}
	}
	if lo == len(es) && at+1 < len(s.leaves) {
		return position{at + 1, 0}, false
	}
	return position{at, lo}, false
}

// get returns the row with this key, nil without one.
func (s *sorted) get(key []byte) *row {
	if p, ok := s.search(key); ok {
		return s.leaves[p.leaf].entries[p.index].row
	}
	return nil
}

// row returns the row at a place, nil behind the last.
func (s *sorted) row(p position) *row {
	if p.leaf >= len(s.leaves) || p.index >= len(s.leaves[p.leaf].entries) {
		return nil
	}
	return s.leaves[p.leaf].entries[p.index].row
}

// next returns the place behind p.
func (s *sorted) next(p position) position {
	if p.index++; p.index >= len(s.leaves[p.leaf].entries) && p.leaf+1 < len(s.leaves) {
		return position{p.leaf + 1, 0}
	}
	return p
}

// floor returns the row with the greatest key up to key, nil without one.
func (s *sorted) floor(key []byte) *row {
	p, ok := s.search(key)
	switch {
	case ok:
	case p.index > 0:
		p.index--
	case p.leaf > 0:
		p.leaf--
		p.index = len(s.leaves[p.leaf].entries) - 1
	default:
		return nil
	}
	return s.row(p)
}

// insert returns the row with this key; where there is none it adds the one that create returns.
func (s *sorted) insert(key []byte, create func() *row) *row {
	p := prefixOf(key)
	if len(s.leaves) == 0 {
		r := create()
		s.leaves = append(s.leaves, newLeaf(entry{p, r}))
		s.n++
		return r
	}
	at := s.leafFor(p, key)
	pos, ok := s.searchLeaf(at, p, key)
	if ok {
		return s.leaves[pos.leaf].entries[pos.index].row
	}
	r := create()
	s.n++
	if pos.leaf != at { // behind the last entry of its leaf
		pos = position{at, len(s.leaves[at].entries)}
	}
	es := s.leaves[at].entries
	if len(es) == leafSize {
		if pos.index == leafSize {
			// A run of rising keys leaves full leaves behind.
			s.addLeaf(at+1, newLeaf(entry{p, r}))
			s.hint = at + 1
			return r
		}
		s.addLeaf(at+1, newLeaf(es[leafSize/2:]...))
		clear(es[leafSize/2:])
		s.leaves[at].entries = es[:leafSize/2]
		if pos.index > leafSize/2 {
			at++
			pos.index -= leafSize / 2
		}
		es = s.leaves[at].entries
	}
	es = append(es, entry{})
	copy(es[pos.index+1:], es[pos.index:])
	es[pos.index] = entry{p, r}
	s.leaves[at].entries = es
	s.leaves[at].first = es[0].prefix
	s.hint = at
	return r
}

// leafFor returns the leaf that a key belongs into.
func (s *sorted) leafFor(p prefix, key []byte) int {
	begins := func(i int) bool { // the leaf begins at or before key
		l := &s.leaves[i]
		return compare(p, key, l.first, l.entries[0].row) >= 0
	}
	if h := s.hint; begins(h) && (h+1 == len(s.leaves) || !begins(h+1)) {
		return h
	}
	return max(0, sort.Search(len(s.leaves), func(i int) bool { return !begins(i) })-1)
}

func (s *sorted) addLeaf(at int, l leaf) {
	s.leaves = append(s.leaves, leaf{})
	copy(s.leaves[at+1:], s.leaves[at:])
	s.leaves[at] = l
}

func newLeaf(es ...entry) leaf {
	return leaf{first: es[0].prefix, entries: append(make([]entry, 0, leafSize), es...)}
}
