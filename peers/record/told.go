package record

import (
	"crypto/ed25519"
	"fmt"
)

// Told says what another author said: a place, a version or attributes, which the author of this record has taken for good, and on which something of his own leans. It stands for that
// record where its author is trusted and the other one is not: who has both has the same one twice, for it has its id, and it is as old as it is.
type Told struct {
	// Record has no signature: the author of this one answers for it.
	Record *Record
}

// Kind returns KindTold.
func (t *Told) Kind() uint8 { return KindTold }

func (t *Told) check() error {
	switch b := t.Record.Body.(type) {
	case *Version, *Attr:
	case *Place:
		if b.Removed() {
			return fmt.Errorf("a removal by another author")
		}
	default:
		return fmt.Errorf("a body of kind %d by another author", b.Kind())
	}
	return nil
}

// append writes what is signed of the record, but its format.
func (t *Told) append(b []byte) []byte {
	from := len(b)
	b = t.Record.appendSigned(b)
	return append(b[:from], b[from+1:]...)
}

func decodeTold(d *reader) *Told {
	raw := make([]byte, 0, 1+len(d.b)+ed25519.SignatureSize)
	raw = append(append(raw, Format), d.take(len(d.b), "record")...)
	if len(raw) >= headerSize && raw[headerSize-1] == KindTold { // nothing is told within what is told
		d.refuse("a body of kind %d by another author", KindTold)
		return &Told{}
	}
	rec, err := Decode(raw[:len(raw)+ed25519.SignatureSize])
	if err != nil {
		d.refuse("what another author said: %v", err)
	}
	return &Told{rec}
}

// Says returns the record that counts: what it tells of another author, or itself.
func (r *Record) Says() *Record {
	if t, ok := r.Body.(*Told); ok {
		return t.Record
	}
	return r
}
