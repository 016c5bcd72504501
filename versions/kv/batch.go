package kv

import (
	"encoding/binary"

	"sharefs"
	"sharefs/versions/kv/journal"
)

// Limits of a row, in bytes. A key of this length still fits into bbolt (32 KiB) as an ordered key.
const (
	MaxKey   = 16 << 10
	MaxValue = 16 << 20
)

const (
	opPut    = 0
	opDelete = 1

	stampSize = 8
	batchHead = journal.HeaderSize + stampSize // room in front of the rows of a batch
)

// Batch is a set of changes that become visible and durable together. Where a row is changed twice the later change
// counts. The zero value is empty and ready; a batch may be used again after Reset, and not by several goroutines.
type Batch struct {
	buf    []byte    // room for the record's header and the stamp, then the rows in the journal's format
	spaces [4]uint64 // the spaces touched, one bit each
	rows   int
	err    error // of a Put or Delete; Commit returns it
}

// Put sets a row. Key and value are copied.
func (b *Batch) Put(space uint8, key, value []byte) {
	if !b.check(space, key) {
		return
	}
	if len(value) > MaxValue {
		b.err = invalid("a value has at most 16 MiB")
		return
	}
	b.buf = append(b.buf, opPut, space)
	b.buf = binary.AppendUvarint(b.buf, uint64(len(key)))
	b.buf = binary.AppendUvarint(b.buf, uint64(len(value)))
	b.buf = append(b.buf, key...)
	b.buf = append(b.buf, value...)
}

// Delete removes a row; one that does not exist is no error. The key is copied.
func (b *Batch) Delete(space uint8, key []byte) {
	if !b.check(space, key) {
		return
	}
	b.buf = append(b.buf, opDelete, space)
	b.buf = binary.AppendUvarint(b.buf, uint64(len(key)))
	b.buf = append(b.buf, key...)
}

// Len returns the number of changes.
func (b *Batch) Len() int { return b.rows }

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	b.buf, b.spaces, b.rows, b.err = b.buf[:0], [4]uint64{}, 0, nil
}

func (b *Batch) check(space uint8, key []byte) bool {
	if b.err != nil {
		return false
	}
	if len(key) == 0 || len(key) > MaxKey {
		b.err = invalid("a key has 1 byte to 16 KiB")
		return false
	}
	if len(b.buf) == 0 {
		b.buf = append(b.buf, make([]byte, batchHead)...)
	}
	b.spaces[space>>6] |= 1 << (space & 63)
	b.rows++
	return true
}

// change is one row of a batch. Its slices are parts of the batch.
type change struct {
	space  uint8
	delete bool
	key    []byte
	value  []byte
}

// nextChange reads the change at the start of rows and returns what follows it; ok is false where there is none that
// holds to the format.
func nextChange(rows []byte) (c change, rest []byte, ok bool) {
	if len(rows) < 2 || rows[0] > opDelete {
		return c, nil, false
	}
	c.delete, c.space = rows[0] == opDelete, rows[1]
	rows = rows[2:]
	klen, n := binary.Uvarint(rows)
	if n <= 0 || klen == 0 || klen > MaxKey {
		return c, nil, false
	}
	rows = rows[n:]
	vlen := uint64(0)
	if !c.delete {
		if vlen, n = binary.Uvarint(rows); n <= 0 || vlen > MaxValue {
			return c, nil, false
		}
		rows = rows[n:]
	}
	if klen+vlen > uint64(len(rows)) {
		return c, nil, false
	}
	c.key = rows[:klen:klen]
	c.value = rows[klen : klen+vlen : klen+vlen]
	return c, rows[klen+vlen:], true
}

// parseBatch checks a whole record before any of it is used.
func parseBatch(payload []byte) (stamp sharefs.HLC, rows []byte, ok bool) {
	if len(payload) <= stampSize {
		return 0, nil, false
	}
	stamp, rows = sharefs.HLC(binary.BigEndian.Uint64(payload)), payload[stampSize:]
	for rest := rows; len(rest) > 0; {
		if _, rest, ok = nextChange(rest); !ok {
			return 0, nil, false
		}
	}
	return stamp, rows, true
}

func invalid(detail string) error {
	return &sharefs.Error{Op: "commit", Kind: sharefs.KindInvalid, Detail: detail}
}
