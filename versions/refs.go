package versions

import (
	"math"
	"sync"

	"sharefs"
)

// refs counts, for each inode, the references that the kernel holds (lookups it has not yet forgotten). A million of them may be
// held at once, so that nothing but the count is kept for each.
type refs struct {
	shards [cacheShards]struct {
		mu sync.Mutex
		n  map[sharefs.Ino]uint64
		_  [40]byte // a cache line of its own
	}
}

// refsDead stands in place of the count of an inode that is being removed for good.
const refsDead = math.MaxUint64

func newRefs() *refs {
	r := &refs{}
	for i := range r.shards {
		r.shards[i].n = map[sharefs.Ino]uint64{}
	}
	return r
}

// add takes n references; it reports false for an inode that is being removed.
func (r *refs) add(ino sharefs.Ino, n uint64) bool {
	s := &r.shards[ino%cacheShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	have := s.n[ino]
	if have == refsDead {
		return false
	}
	s.n[ino] = have + n
	return true
}

// sub gives n references back and reports whether none is left. More than were taken count as all.
func (r *refs) sub(ino sharefs.Ino, n uint64) bool {
	s := &r.shards[ino%cacheShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	have := s.n[ino]
	switch {
	case have == refsDead:
		return false
	case have <= n:
		delete(s.n, ino)
		return true
	}
	s.n[ino] = have - n
	return false
}

// held returns the number of references.
func (r *refs) held(ino sharefs.Ino) uint64 {
	s := &r.shards[ino%cacheShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.n[ino]; n != refsDead {
		return n
	}
	return 0
}

// bury bars an inode without references from getting any; it reports false if there are some or it is barred already.
func (r *refs) bury(ino sharefs.Ino) bool {
	s := &r.shards[ino%cacheShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.n[ino]; ok {
		return false
	}
	s.n[ino] = refsDead
	return true
}

// unbury takes bury back: the inode lives on, or nothing knows its number any more.
func (r *refs) unbury(ino sharefs.Ino) {
	s := &r.shards[ino%cacheShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n[ino] == refsDead {
		delete(s.n, ino)
	}
}

// count returns the number of inodes that are held.
func (r *refs) count() int {
	n := 0
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		n += len(s.n)
		s.mu.Unlock()
	}
	return n
}

// clear forgets all references, at the end.
func (r *refs) clear() {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		clear(s.n)
		s.mu.Unlock()
	}
}
