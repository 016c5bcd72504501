package kv

import (
	"unsafe"

	"sharefs"
)

// table is a memtable: the rows of some successive commits, sorted in each space.
type table struct {
	spaces [256]*sorted
	first  uint64 // number of the first record in it
	last   uint64 // and of the last; 0 while it is empty
	size   int    // bytes of memory, roughly
	count  int    // rows in it, once it is frozen

	// What the database notes in meta.db when this table is applied.
	epoch    sharefs.HLC // open after the last record
	boundary sharefs.HLC // the last one up to there

	block []byte // room for content: cut from large pieces, for rows die together
	rows  []row  // likewise
}

const (
	blockSize   = 256 << 10
	rowsAtOnce  = 128
	rowSize     = int(unsafe.Sizeof(row{}) + unsafe.Sizeof(entry{})*3/2) // a leaf is two thirds full on average
	versionSize = int(unsafe.Sizeof(version{}))
)

// keep copies p into the table.
func (t *table) keep(p []byte) []byte {
	t.size += len(p)
	if len(p) > cap(t.block)-len(t.block) {
		if len(p) > blockSize/4 {
			return append(make([]byte, 0, len(p)), p...)
		}
		t.block = make([]byte, 0, blockSize)
	}
	n := len(t.block)
	t.block = append(t.block, p...)
	return t.block[n:len(t.block):len(t.block)]
}

// add puts the rows of a checked batch into the table. versioned tells which spaces keep stamps.
func (t *table) add(seq uint64, stamp sharefs.HLC, rows []byte, versioned *[256]bool) {
	if t.first == 0 {
		t.first = seq
	}
	t.last = seq
	for rest := t.keep(rows); len(rest) > 0; {
		var c change
		c, rest, _ = nextChange(rest)
		s := t.spaces[c.space]
		if s == nil {
			s = new(sorted)
			t.spaces[c.space] = s
		}
		if versioned[c.space] {
			t.set(s, stamp, &c)
		} else {
			t.set(s, 0, &c)
		}
	}
}

func (t *table) set(s *sorted, stamp sharefs.HLC, c *change) {
	fresh := false
	r := s.insert(c.key, func() *row {
		fresh = true
		if len(t.rows) == 0 {
			t.rows = make([]row, rowsAtOnce)
		}
		r := &t.rows[0]
		t.rows = t.rows[1:]
		r.key = c.key
		t.size += rowSize
		return r
	})
	if !fresh && r.stamp != stamp {
		older := r.version
		r.older = &older
		t.size += versionSize
	}
	r.stamp, r.value, r.deleted = stamp, c.value, c.delete
}

// get returns the row with this key, nil without one.
func (t *table) get(space uint8, key []byte) *row {
	if t == nil || t.spaces[space] == nil {
		return nil
	}
	return t.spaces[space].get(key)
}

// len returns the number of rows.
func (t *table) len() (n int) {
	for _, s := range t.spaces {
		if s != nil {
			n += s.n
		}
	}
	return n
}
