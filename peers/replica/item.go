package replica

import (
	"encoding/binary"
	"fmt"

	"sharefs"
	"sharefs/peers/record"
)

// Item is one entry of the log: a batch with its records, in its order, or a single record.
//
// On the wire: 1 byte kind, 1 a batch, 2 a record; of a batch a uvarint length and the batch; then for each record, of a batch as many as it names, a uvarint
// length and the record.
type Item struct {
	Batch   *record.Batch // nil: a single record
	Records []*record.Record
	Number  uint64 // of arrival in the log that listed it; not sent
}

// MaxItem bounds an item on the wire, and the records of a batch together, in bytes. So a batch always goes with its records: apart from it each would have to have a signature that is
// right, at which nobody looks who takes the batch.
const MaxItem = 1 << 20

// The kinds of items on the wire.
const (
	itemBatch  = 1
	itemRecord = 2
)

// Append appends the encoding of an item.
func (i *Item) Append(b []byte) []byte {
	if i.Batch == nil {
		return i.Records[0].AppendSized(append(b, itemRecord))
	}
	b = appendBytes(append(b, itemBatch), i.Batch.Bytes())
	for _, rec := range i.Records {
		b = rec.AppendSized(b)
	}
	return b
}

func appendBytes(b, v []byte) []byte { return append(binary.AppendUvarint(b, uint64(len(v))), v...) }

// DecodeItem reads an item, and keeps b of a batch, which must not be changed. It holds that the records are those that the batch names, and of its author and share; it checks no
// signature. Errors are of KindInvalid, and of KindNotSupported where a format is not known.
func DecodeItem(b []byte) (i Item, err error) {
	const op = "read an item"
	refuse := func(format string, args ...any) (Item, error) {
		return Item{}, &sharefs.Error{Op: op, Kind: sharefs.KindInvalid, Detail: fmt.Sprintf(format, args...)}
	}
	if len(b) == 0 || len(b) > MaxItem {
		return refuse("%d bytes, allowed are 1 to %d", len(b), MaxItem)
	}
	kind, b := b[0], b[1:]
	next := func() (v []byte, ok bool) {
		n, used := binary.Uvarint(b)
		if used <= 0 || used > 1 && b[used-1] == 0 || n > uint64(len(b)-used) {
			return nil, false
		}
		v, b = b[used:used+int(n):used+int(n)], b[used+int(n):]
		return v, true
	}
	count := 1
	switch kind {
	case itemBatch:
		raw, ok := next()
		if !ok {
			return refuse("it ends within its batch")
		}
		if i.Batch, err = record.DecodeBatch(raw); err != nil {
			return Item{}, err
		}
		count = len(i.Batch.Records)
	case itemRecord:
	default:
		return refuse("an item of kind %d", kind)
	}
	i.Records = make([]*record.Record, 0, min(count, len(b)/64))
	for range count {
		raw, ok := next()
		if !ok {
			return refuse("it ends within its records")
		}
		rec, err := record.Decode(raw)
		if err != nil {
			return Item{}, err
		}
		i.Records = append(i.Records, rec)
	}
	if len(b) > 0 {
		return refuse("%d bytes after its end", len(b))
	}
	if err := i.check(); err != nil {
		return Item{}, err
	}
	return i, nil
}

// author is who wrote the item; nobody, if it is not whole.
func (i *Item) author() (id sharefs.PeerID) {
	if len(i.Records) > 0 {
		id = i.Records[0].Author
	}
	return id
}

// check holds that the records are those of the batch.
func (i *Item) check() error {
	detail := ""
	switch {
	case i.Batch == nil && len(i.Records) != 1:
		detail = fmt.Sprintf("%d records that are in no batch", len(i.Records))
	case i.Batch != nil && len(i.Records) != len(i.Batch.Records):
		detail = fmt.Sprintf("%d records for a batch of %d", len(i.Records), len(i.Batch.Records))
	case i.Batch != nil:
		size := 0
		for n, rec := range i.Records {
			if rec.ID() != i.Batch.Records[n] || rec.Author != i.Batch.Author || rec.Share != i.Batch.Share {
				detail = fmt.Sprintf("record %d is not the one that the batch names, or of another author or share", n)
				break
			}
			if size += rec.Size(); size > MaxItem {
				detail = fmt.Sprintf("a batch with more than %d bytes of records", MaxItem)
				break
			}
		}
	}
	if detail == "" {
		return nil
	}
	return &sharefs.Error{Op: "take an item", Kind: sharefs.KindInvalid, Detail: detail}
}
