package versions

import (
	"encoding/binary"

	"sharefs"
	"sharefs/versions/kv"
)

// A record of a checkpoint is one of a pack (type TypeRows), with an id that tells what it is, so that an index of a pack tells what is in it:
//
//	 0  kind                                     1
//	 1  zero                                     7
//	 8  generation; of changes the first commit  8
//	16  number of the part; the last commit      8
//	24  clock reading when it was written        8
//
// Its body begins with one byte, the format, 1. All integers are big endian; uvarint is that of package encoding/binary.
//
//	begin    applied, epoch, boundary (8 each) as [kv.Mark] has them
//	part     space, 1 for its past or 0, then the rows as [kv.Part] has them
//	end      number of parts, number of rows, number of the commit up to which the changes are needed (8 each)
//	changes  for each commit: uvarint its number minus that of the first, stamp (8), uvarint length of the rows, rows as package kv
//	         writes them in its journal
type recordKind byte

const (
	recordBegin   recordKind = 1 + iota // of an export
	recordPart                          // rows of it
	recordEnd                           // all of it is there
	recordChanges                       // commits of the journal
)

const checkpointFormat = 1

// recordID is the id of a record of a checkpoint.
type recordID struct {
	kind recordKind
	a, b uint64 // generation and part; or first and last commit
	at   sharefs.HLC
}

func (r recordID) id() (id sharefs.ChunkID) {
	id[0] = byte(r.kind)
	binary.BigEndian.PutUint64(id[8:], r.a)
	binary.BigEndian.PutUint64(id[16:], r.b)
	binary.BigEndian.PutUint64(id[24:], uint64(r.at))
	return id
}

// parseRecordID reads what id wrote; ok is false for what is of another kind.
func parseRecordID(id sharefs.ChunkID) (r recordID, ok bool) {
	r.kind = recordKind(id[0])
	r.a, r.b = binary.BigEndian.Uint64(id[8:]), binary.BigEndian.Uint64(id[16:])
	r.at = sharefs.HLC(binary.BigEndian.Uint64(id[24:]))
	return r, r.kind >= recordBegin && r.kind <= recordChanges && r.id() == id && (r.kind != recordChanges || r.a > 0 && r.a <= r.b)
}

func encodeBegin(m kv.Mark) []byte {
	b := []byte{checkpointFormat}
	for _, v := range [...]uint64{m.Applied, uint64(m.Epoch), uint64(m.Boundary)} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return b
}

func decodeBegin(b []byte) (m kv.Mark, err error) {
	d := decoder{b: b}
	format := d.byte()
	m.Applied, m.Epoch, m.Boundary = d.uint64(), sharefs.HLC(d.uint64()), sharefs.HLC(d.uint64())
	return m, d.whole(format)
}

// exportEnd is what stands at the end of an export.
type exportEnd struct {
	parts, rows uint64
	through     uint64 // with the changes up to this commit it is one state
}

func (e exportEnd) encode() []byte {
	b := []byte{checkpointFormat}
	for _, v := range [...]uint64{e.parts, e.rows, e.through} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return b
}

func decodeEnd(b []byte) (e exportEnd, err error) {
	d := decoder{b: b}
	format := d.byte()
	e.parts, e.rows, e.through = d.uint64(), d.uint64(), d.uint64()
	return e, d.whole(format)
}

func appendPart(b []byte, p kv.Part) []byte {
	past := byte(0)
	if p.Past {
		past = 1
	}
	return append(append(b, checkpointFormat, p.Space, past), p.Rows...)
}

func decodePart(b []byte) (p kv.Part, err error) {
	d := decoder{b: b}
	format := d.byte()
	p.Space = d.byte()
	past := d.byte()
	p.Past, p.Rows = past == 1, d.b
	d.b = nil
	d.bad = d.bad || past > 1
	return p, d.whole(format)
}

// appendChange adds a commit to the body of a record that begins with the commit first.
func appendChange(b []byte, first, seq uint64, stamp sharefs.HLC, rows []byte) []byte {
	if len(b) == 0 {
		b = append(b, checkpointFormat)
	}
	b = binary.AppendUvarint(b, seq-first)
	b = binary.BigEndian.AppendUint64(b, uint64(stamp))
	b = binary.AppendUvarint(b, uint64(len(rows)))
	return append(b, rows...)
}

// decodeChanges calls fn for each commit in the body of a record, until fn errors.
func decodeChanges(b []byte, id recordID, fn func(seq uint64, stamp sharefs.HLC, rows []byte) error) error {
	d := decoder{b: b}
	format := d.byte()
	for want := id.a; !d.bad && (len(d.b) > 0 || want <= id.b); want++ {
		seq := id.a + d.uvarint()
		stamp := sharefs.HLC(d.uint64())
		n := d.uvarint()
		if n > uint64(len(d.b)) || seq != want || seq > id.b {
			d.bad = true
			break
		}
		rows := d.take(int(n))
		if d.bad {
			break
		}
		if err := fn(seq, stamp, rows); err != nil {
			return err
		}
	}
	return d.whole(format)
}

// whole says whether a body of this format was read to its end and nothing was wrong.
func (d *decoder) whole(format byte) error {
	switch {
	case format > checkpointFormat:
		return &sharefs.Error{Op: "read a checkpoint", Kind: sharefs.KindNotSupported, Detail: "a checkpoint of a later format"}
	case d.bad || len(d.b) > 0 || format != checkpointFormat:
		return &sharefs.Error{Op: "read a checkpoint", Kind: sharefs.KindCorrupt, Detail: "a record is not what it says"}
	}
	return nil
}
