package versions

import (
	"encoding/binary"
	"math/bits"
	"unsafe"

	"golang.org/x/sys/unix"

	"sharefs"
)

// idSet is a set of fingerprints of chunks: an open-addressed table with linear probing, 8 bytes for each slot, at most three quarters full. The
// names of chunks are keyed hashes, so 8 bytes of one tell it from all others: two of a billion chunks meet with a probability of
// 3 in 100, and then a chunk stays that nobody needs. A slot follows from the leading bits, so that whoever asks in the order of the names
// walks the table from its front to its back.
//
// Large tables lie outside the heap of Go: their pages go back to the system at once, and do not let the heap grow to twice their size. The
// zero value is empty and ready; release gives the memory back.
type idSet struct {
	slots  []uint64 // 0: free
	n      int
	common uint // leading bits that all members share, at most 63
	mapped bool // slots is a mapping of its own
}

const (
	firstSlots  = 64
	mappedSlots = 1 << 17 // from here on, 1 MiB
)

// fingerprint returns the leading 8 bytes of a chunk's name, big endian; never 0.
func fingerprint(id *sharefs.ChunkID) uint64 { return max(1, binary.BigEndian.Uint64(id[:])) }

func (s *idSet) slot(v uint64) int {
	return int((v << s.common) >> (64 - uint(bits.TrailingZeros(uint(len(s.slots))))))
}

// has reports whether a fingerprint is in the set.
func (s *idSet) has(v uint64) bool {
	if s.n == 0 {
		return false
	}
	for i := s.slot(v); ; i = (i + 1) & (len(s.slots) - 1) {
		switch s.slots[i] {
		case v:
			return true
		case 0:
			return false
		}
	}
}

// full reports whether the next member makes the table twice as large.
func (s *idSet) full() bool { return s.n >= len(s.slots)/4*3 }

// add puts a fingerprint in and reports whether it is new.
func (s *idSet) add(v uint64) bool {
	if s.full() {
		s.resize(max(firstSlots, 2*len(s.slots)))
	}
	for i := s.slot(v); ; i = (i + 1) & (len(s.slots) - 1) {
		switch s.slots[i] {
		case v:
			return false
		case 0:
			s.slots[i] = v
			s.n++
			return true
		}
	}
}

// each calls fn for all members in no order.
func (s *idSet) each(fn func(v uint64)) {
	for _, v := range s.slots {
		if v != 0 {
			fn(v)
		}
	}
}

// resize moves the members into a table of n slots, a power of two.
func (s *idSet) resize(n int) {
	old := *s
	s.slots, s.mapped, s.n = nil, false, 0
	if n >= mappedSlots {
		if b, err := unix.Mmap(-1, 0, 8*n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE); err == nil {
			_ = unix.Madvise(b, unix.MADV_HUGEPAGE) // only faster
			s.slots, s.mapped = unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(b))), n), true
		}
	}
	if s.slots == nil {
		s.slots = make([]uint64, n)
	}
	old.each(func(v uint64) { s.add(v) })
	old.release()
}

// narrow keeps the members whose leading bits are those of lo, common of them.
func (s *idSet) narrow(lo uint64, common uint) {
	old := *s
	*s = idSet{common: common}
	old.each(func(v uint64) {
		if (v^lo)>>(64-common) == 0 {
			s.add(v)
		}
	})
	old.release()
}

// release empties the set and gives its memory back.
func (s *idSet) release() {
	if s.mapped {
		_ = unix.Munmap(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s.slots))), 8*len(s.slots)))
	}
	*s = idSet{common: s.common}
}

// bytes returns what the table takes.
func (s *idSet) bytes() int64 { return 8 * int64(len(s.slots)) }
