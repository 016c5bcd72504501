package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"sharefs"
	"sharefs/peers/record"
)

// Reader reads the messages of a stream. It is used by one goroutine at a time.
type Reader struct {
	r    io.Reader
	head [headSize]byte
}

// NewReader returns a reader of messages. What it reads from should have a buffer.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

// Next reads a message; those that may be skipped are. Errors of KindInvalid and KindNotSupported are the peer's fault and say what is wrong; all others are those of
// the stream, io.EOF at its end.
func (r *Reader) Next() (Message, error) {
	for {
		if _, err := io.ReadFull(r.r, r.head[:]); err != nil {
			return nil, err
		}
		n, k := binary.BigEndian.Uint32(r.head[:]), Kind(r.head[4])
		limit := most(k)
		switch {
		case limit < 0:
			return nil, &sharefs.Error{Op: op, Kind: sharefs.KindNotSupported,
				Detail: fmt.Sprintf("a message of kind %d, which this version of ShareFS does not know: update it, or ask the peer's owner", k)}
		case n == 0 || int64(n)-1 > int64(limit):
			return nil, invalid("a message of kind %d with %d bytes, allowed are 1 to %d", k, n, limit+1)
		}
		body, err := read(r.r, int(n)-1)
		if err != nil {
			return nil, err
		}
		if k >= kindSkipped && k != KindUnkept {
			continue
		}
		m, err := Decode(k, body)
		if err != nil {
			return nil, err
		}
		return m, nil
	}
}

// roomFirst is how many bytes are made room for before they have come: most messages of chunks fit.
const roomFirst = 320 << 10

// read reads n bytes. Room is made for them as they come, so that a length that is said costs nothing.
func read(r io.Reader, n int) ([]byte, error) {
	b := make([]byte, 0, min(n, roomFirst))
	for len(b) < n {
		if len(b) == cap(b) {
			b = slices.Grow(b, min(n-len(b), len(b)))
		}
		got, err := io.ReadFull(r, b[len(b):min(cap(b), n)])
		b = b[:len(b)+got]
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return b, nil
}

const op = "read from a peer"

func invalid(format string, args ...any) error {
	return &sharefs.Error{Op: op, Kind: sharefs.KindInvalid, Detail: fmt.Sprintf(format, args...)}
}

// Decode reads the body of a message of a known kind. Chunks, rings and ids keep body; records do not.
func Decode(k Kind, body []byte) (Message, error) {
	d := decoder{b: body, kind: k}
	var m Message
	switch k {
	case KindHello:
		m = &Hello{d.u16(), d.u16()}
	case KindRing:
		m = &Ring{d.rest()}
	case KindSeen:
		m = &Seen{d.batch(bytes.Clone(d.rest()))}
	case KindOffer:
		m = &Offer{d.log(), d.u64()}
	case KindWithdraw:
		m = &Withdraw{}
	case KindBegin:
		m = &Begin{d.u32(), d.log(), d.u64()}
	case KindItems:
		m = d.items()
	case KindAck:
		m = &Ack{d.log(), d.u64()}
	case KindStop:
		m = &Stop{}
	case KindHere:
		m = d.here()
	case KindKeep:
		m = &Keep{d.u32(), d.here().Versions}
	case KindKept:
		m = &Kept{d.u32(), d.here().Versions}
	case KindUnkept:
		m = &Unkept{d.u32(), d.refusals()}
	case KindRelease:
		m = &Release{d.u32(), d.flag(), d.here().Versions}
	case KindReleased:
		m = &Released{d.u32(), d.here().Versions}
	case KindBye:
		m = &Bye{Code(d.u8()), clean(string(d.rest()))}
	case KindWant:
		m = d.want()
	case KindChunks:
		m = d.chunks()
	default:
		return nil, invalid("a message of kind %d", k)
	}
	if d.err == nil && len(d.b) > 0 {
		d.refuse("%d bytes after its end", len(d.b))
	}
	if d.err != nil {
		return nil, d.err
	}
	return m, nil
}

// clean makes text of a peer fit for a terminal.
func clean(s string) string {
	return strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return '?'
		}
		return c
	}, s)
}

// decoder takes a body apart. The first thing that is wrong is kept, and everything after it reads as zero.
type decoder struct {
	b    []byte
	kind Kind
	err  error
}

func (d *decoder) refuse(format string, args ...any) {
	if d.err == nil {
		d.err = invalid("a message of kind %d: %s", d.kind, fmt.Sprintf(format, args...))
	}
}

func (d *decoder) take(n int) []byte {
	if d.err == nil && n > len(d.b) {
		d.refuse("it ends too early")
	}
	if d.err != nil {
		return nil
	}
	b := d.b[:n:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) rest() []byte { return d.take(len(d.b)) }

func (d *decoder) u8() uint8 {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if b := d.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// flag reads yes or no.
func (d *decoder) flag() bool {
	v := d.u8()
	if v > 1 {
		d.refuse("a flag of %d, which is 0 or 1", v)
	}
	return v == 1
}

func (d *decoder) log() (id LogID) {
	copy(id[:], d.take(len(id)))
	return id
}

func (d *decoder) id() (id [32]byte) {
	copy(id[:], d.take(len(id)))
	return id
}

// varint reads one in its shortest form that is at most so much.
func (d *decoder) varint(most int) int {
	if d.err != nil {
		return 0
	}
	v, n := binary.Uvarint(d.b)
	switch {
	case n == 0:
		d.refuse("it ends too early")
	case n < 0 || n > 1 && d.b[n-1] == 0:
		d.refuse("a number that is not in its shortest form")
	case v > uint64(most):
		d.refuse("a length or count of %d, allowed are %d", v, most)
	}
	if d.err != nil {
		return 0
	}
	d.b = d.b[n:]
	return int(v)
}

// blame says what is wrong with a record or batch. Those of a newer format keep their kind of error.
func (d *decoder) blame(err error) {
	if d.err == nil {
		d.err = &sharefs.Error{Op: op, Kind: sharefs.KindOf(err), Err: err}
	}
}

func (d *decoder) batch(raw []byte) *record.Batch {
	if d.err != nil {
		return nil
	}
	b, err := record.DecodeBatch(raw)
	if err != nil {
		d.blame(err)
	}
	return b
}

func (d *decoder) record() *record.Record {
	raw := d.take(d.varint(record.MaxRecord))
	if d.err != nil {
		return nil
	}
	r, err := record.Decode(raw)
	if err != nil {
		d.blame(err)
	}
	return r
}

// The kinds of items.
const (
	itemBatch  = 1
	itemRecord = 2
)

func (d *decoder) items() *Items {
	m := &Items{Run: d.u32(), After: d.u64(), UpTo: d.u64()}
	if m.UpTo < m.After {
		d.refuse("items after number %d up to %d", m.After, m.UpTo)
	}
	for d.err == nil && len(d.b) > 0 {
		var it Item
		switch kind := d.u8(); kind {
		case itemBatch:
			it = d.batchItem()
		case itemRecord:
			it.Records = []*record.Record{d.record()}
		default:
			d.refuse("an item of kind %d", kind)
		}
		m.Items = append(m.Items, it)
	}
	return m
}

// batchItem reads a batch and its records, which must be among those that it names, in its order: who trusts the signature of the batch trusts them.
func (d *decoder) batchItem() (it Item) {
	it.Batch = d.batch(bytes.Clone(d.take(d.varint(maxBatch))))
	n := d.varint(record.MaxBatch)
	if d.err != nil {
		return it
	}
	names := it.Batch.Records
	for range n {
		r := d.record()
		if d.err != nil {
			return it
		}
		at := slices.Index(names, r.ID())
		if at < 0 || r.Author != it.Batch.Author || r.Share != it.Batch.Share {
			d.refuse("a record that its batch does not name, or in another order")
			return it
		}
		names = names[at+1:]
		it.Records = append(it.Records, r)
	}
	return it
}

func (d *decoder) here() *Here {
	m := &Here{}
	for d.err == nil && len(d.b) > 0 {
		m.Versions = append(m.Versions, d.id())
	}
	return m
}

func (d *decoder) refusals() (list []Refusal) {
	for d.err == nil && len(d.b) > 0 {
		list = append(list, Refusal{d.id(), Reason(d.u8()), d.u64()})
	}
	return list
}

func (d *decoder) want() *Want {
	m := &Want{}
	for left := MaxWanted; d.err == nil && len(d.b) > 0; {
		g := Group{Version: d.id()}
		n := d.varint(left)
		if n == 0 {
			d.refuse("a version of which nothing is wanted")
		}
		if n*32 > len(d.b) {
			d.refuse("it ends too early")
		}
		if d.err != nil {
			break
		}
		left -= n
		g.IDs = make([]ID, n)
		for i := range g.IDs {
			g.IDs[i] = d.id()
		}
		m.Groups = append(m.Groups, g)
	}
	if len(m.Groups) == 0 {
		d.refuse("nothing is wanted")
	}
	return m
}

func (d *decoder) chunks() *Chunks {
	m := &Chunks{}
	for d.err == nil && len(d.b) > 0 {
		var data []byte
		if n := d.varint(MaxChunk); n > 0 {
			data = d.take(n)
		}
		if m.Data = append(m.Data, data); len(m.Data) > MaxWanted {
			d.refuse("more than %d answers", MaxWanted)
		}
	}
	if len(m.Data) == 0 {
		d.refuse("no answer")
	}
	return m
}
