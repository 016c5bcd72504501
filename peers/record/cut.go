package record

import (
	"encoding/binary"
	"fmt"

	"sharefs"
)

// Cut ends what counts of an author whose trust was revoked: the batches of its incarnations before, and of this one up to Number. It is honoured
// where local trust says so of whoever signed it.
type Cut struct {
	Author      sharefs.PeerID // whose chain ends
	Incarnation uint64
	Number      uint64 // of the last batch that counts; 0: none of the incarnation
	Epoch       uint64 // of the share key that begins with it
}

// Kind returns KindCut.
func (c *Cut) Kind() uint8 { return KindCut }

// Allows reports whether a batch counts under the cut.
func (c *Cut) Allows(incarnation, number uint64) bool {
	return incarnation < c.Incarnation || incarnation == c.Incarnation && number <= c.Number
}

func (c *Cut) check() error {
	if c.Author.IsZero() {
		return fmt.Errorf("a cut of nobody")
	}
	return nil
}

func (c *Cut) append(b []byte) []byte {
	b = append(b, c.Author[:]...)
	b = binary.BigEndian.AppendUint64(b, c.Incarnation)
	b = binary.BigEndian.AppendUint64(b, c.Number)
	return binary.BigEndian.AppendUint64(b, c.Epoch)
}

func decodeCut(d *reader) *Cut {
	c := &Cut{}
	d.array(c.Author[:], "author of a cut")
	c.Incarnation, c.Number, c.Epoch = d.u64("incarnation"), d.u64("number"), d.u64("epoch")
	return c
}
