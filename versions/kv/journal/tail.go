package journal

import (
	"encoding/binary"
	"fmt"

	"sharefs"
)

// tailPiece is how much of a segment a tail reads at a time, in bytes.
const tailPiece = 256 << 10

// Tail follows a journal: it reads the records that survive the loss of power, in their order, beside whoever appends. One goroutine uses it at
// a time. What it has yet to read must not be removed.
type Tail struct {
	j    *Journal
	seq  uint64 // of the last record given out
	name string // of the segment it is in; empty: none yet
	off  int64
	buf  []byte
}

// Tail returns a tail that begins behind the record with this number.
func (j *Journal) Tail(after uint64) *Tail { return &Tail{j: j, seq: after} }

// Next calls fn for the records that follow, up to the last that is synced or until their payloads have limit bytes together, at least one;
// payloads are void when fn returns. It reports how many there were. [sharefs.KindNotExist]: the next record is in no segment any more;
// [sharefs.KindCorrupt]: it does not read.
func (t *Tail) Next(limit int, fn func(Record) error) (n int, err error) {
	for limit > 0 {
		target := t.j.Synced()
		if t.seq >= target {
			return n, nil
		}
		g, ok := t.segment()
		if !ok {
			return n, t.missing()
		}
		if err := t.read(&g); err != nil {
			return n, err
		}
		for rest := t.buf; len(rest) > 0 && limit > 0; {
			r, size := parse(rest, &g.salt)
			switch {
			case size == 0:
				return n, t.damaged(&g)
			case r.Seq > target:
				return n, nil
			case r.Seq > t.seq+1:
				return n, t.missing()
			case r.Seq == t.seq+1:
				if err := fn(r); err != nil {
					return n, err
				}
				n++
				t.seq = r.Seq
				limit -= len(r.Payload)
			}
			rest = rest[size:]
			t.off += int64(size)
		}
	}
	return n, nil
}

func (t *Tail) missing() error {
	return &sharefs.Error{Op: "journal tail", Kind: sharefs.KindNotExist, Detail: fmt.Sprintf("record %d is not there any more", t.seq+1)}
}

func (t *Tail) damaged(g *segment) error {
	return &sharefs.Error{Op: "journal tail", Path: g.name, Kind: sharefs.KindCorrupt, Detail: fmt.Sprintf("record %d does not read back", t.seq+1)}
}

// Seq returns the number of the last record given out.
func (t *Tail) Seq() uint64 { return t.seq }

// segment returns the first segment that goes beyond the last record, as it is now, with the tail's place in it.
func (t *Tail) segment() (segment, bool) {
	t.j.mu.Lock()
	defer t.j.mu.Unlock()
	if t.j.closed {
		return segment{}, false
	}
	for _, g := range t.j.files() {
		if g.last > t.seq {
			if g.name != t.name {
				t.name, t.off = g.name, SegmentHeaderSize
			}
			return *g, true
		}
	}
	return segment{}, false
}

// read fills buf with whole records from the tail's place on, at least one.
func (t *Tail) read(g *segment) error {
	for want := int64(tailPiece); ; {
		size := min(want, g.size-t.off)
		if int64(cap(t.buf)) < size {
			t.buf = make([]byte, size)
		}
		t.buf = t.buf[:size]
		if m, err := g.file.ReadAt(t.buf, t.off); int64(m) < size {
			return fail("read", g.name, err)
		}
		end := 0
		next := HeaderSize // where the record at end ends
		for ; end+HeaderSize <= len(t.buf); end = next {
			length := binary.BigEndian.Uint32(t.buf[end:])
			if length == 0 || length > MaxPayload {
				return t.damaged(g)
			}
			if next = end + HeaderSize + int(length); next > len(t.buf) {
				break
			}
		}
		if end > 0 {
			t.buf = t.buf[:end]
			return nil
		}
		if t.off+size == g.size {
			return t.damaged(g)
		}
		want = int64(next)
	}
}
