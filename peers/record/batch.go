package record

import (
	"crypto/ed25519"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"sharefs"
)

// MaxBatch is how many records a batch may name.
const MaxBatch = 4096

// Hash names a batch: the hash of all that was signed.
type Hash [32]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Batch is one link of an author's chain. It never changes but for its signature; the ids must not be changed.
type Batch struct {
	Share       ShareID
	Author      sharefs.PeerID
	Incarnation uint64
	Number      uint64 // from 1
	Prev        Hash   // zeros in the first
	HLC         sharefs.HLC
	Records     []ID // in the order of authoring

	hash Hash
	raw  []byte
}

const (
	batchDomain = "sharefs batch 1\n"
	batchHeader = 1 + 16 + 32 + 8 + 8 + 32 + 8
)

// Seal completes a batch whose fields were filled in, without a signature. Errors are of [sharefs.KindInvalid].
func (b *Batch) Seal() error {
	if err := b.check(); err != nil {
		return invalid("author a batch", err)
	}
	raw := make([]byte, 0, batchHeader+2+32*len(b.Records)+ed25519.SignatureSize)
	raw = append(raw, Format)
	raw = append(raw, b.Share[:]...)
	raw = append(raw, b.Author[:]...)
	raw = binary.BigEndian.AppendUint64(raw, b.Incarnation)
	raw = binary.BigEndian.AppendUint64(raw, b.Number)
	raw = append(raw, b.Prev[:]...)
	raw = binary.BigEndian.AppendUint64(raw, uint64(b.HLC))
	raw = appendIDs(raw, b.Records)
	b.hash = hash(batchDomain, raw)
	b.raw = append(raw, make([]byte, ed25519.SignatureSize)...)
	return nil
}

func (b *Batch) check() error {
	switch {
	case b.Author.IsZero():
		return fmt.Errorf("an author of zeros")
	case b.HLC == 0:
		return fmt.Errorf("a time of zero")
	case b.Number == 0:
		return fmt.Errorf("a batch of number 0; the first is 1")
	case (b.Number == 1) != (b.Prev == Hash{}):
		return fmt.Errorf("batch %d with the hash %s of the one before", b.Number, b.Prev)
	case len(b.Records) == 0 || len(b.Records) > MaxBatch:
		return fmt.Errorf("a batch of %d records, allowed are 1 to %d", len(b.Records), MaxBatch)
	}
	seen := make(map[ID]struct{}, len(b.Records))
	for _, id := range b.Records {
		seen[id] = struct{}{}
	}
	if len(seen) < len(b.Records) {
		return fmt.Errorf("a batch that names a record twice")
	}
	return nil
}

// DecodeBatch reads a batch and keeps raw, which must not be changed. It does not check the signature. Errors are as those of [Decode].
func DecodeBatch(raw []byte) (*Batch, error) {
	const op = "read a batch"
	signed, d, err := opened(op, raw, batchHeader)
	if err != nil {
		return nil, err
	}
	b := &Batch{raw: raw}
	d.array(b.Share[:], "share")
	d.array(b.Author[:], "author")
	b.Incarnation, b.Number = d.u64("incarnation"), d.u64("number")
	d.array(b.Prev[:], "hash")
	b.HLC = sharefs.HLC(d.u64("time"))
	b.Records = d.ids(MaxBatch, "records")
	if err := d.end(b.check); err != nil {
		return nil, invalid(op, err)
	}
	b.hash = hash(batchDomain, signed)
	return b, nil
}

// Hash returns the batch's name.
func (b *Batch) Hash() Hash { return b.hash }

// Bytes returns the encoding, not to be changed.
func (b *Batch) Bytes() []byte { return b.raw }

// Sign signs the batch. The key must be the author's.
func (b *Batch) Sign(key ed25519.PrivateKey) error {
	sig, err := sign(b.Author, key, batchDomain, b.hash)
	copy(b.signature(), sig)
	return err
}

// Verify checks the signature. The error is of [sharefs.KindCorrupt].
func (b *Batch) Verify() error {
	return verify("check a batch", b.signature(), b.Author, batchDomain, b.hash)
}

func (b *Batch) signature() []byte { return b.raw[len(b.raw)-ed25519.SignatureSize:] }
