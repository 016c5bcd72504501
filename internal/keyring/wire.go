package keyring

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/zeebo/blake3"
)

// A ring as one host gives it to another, inside a session that only the two can read:
//
//	1 byte    format, 1
//	then, for each key, in the order of share, epoch, id:
//	16 bytes  share
//	4 bytes   epoch, big endian
//	32 bytes  key
//
// Which key is the first of a store is not told. Rings that hold the same keys have one encoding, and nothing else is read.
const (
	wireFormat = 1
	keyLen     = 16 + 4 + 32
	// MaxEncoded is the longest encoding, in bytes.
	MaxEncoded = 1 + MaxKeys*keyLen
)

// sorted returns all keys in the order of share, epoch, id.
func (r Ring) sorted() []entry {
	if r.IsZero() {
		return nil
	}
	all := append([]entry{r.first}, r.more...)
	slices.SortFunc(all, func(a, b entry) int {
		return cmp.Or(bytes.Compare(a.Share[:], b.Share[:]), cmp.Compare(a.Epoch, b.Epoch), bytes.Compare(a.id[:], b.id[:]))
	})
	return all
}

// Encode returns what a host gives another one that is to have the keys.
func (r Ring) Encode() []byte {
	b := make([]byte, 1, 1+r.Len()*keyLen)
	b[0] = wireFormat
	for _, e := range r.sorted() {
		b = append(b, e.Share[:]...)
		b = binary.BigEndian.AppendUint32(b, e.Epoch)
		b = append(b, e.Secret[:]...)
	}
	return b
}

// Decode reads what Encode returned. The first key of the ring is no particular one. It errors with KindInvalid.
func Decode(b []byte) (Ring, error) {
	if len(b) == 0 || len(b) > MaxEncoded || b[0] != wireFormat || len(b) == 1 || (len(b)-1)%keyLen != 0 {
		return Ring{}, invalid("what was sent is no ring of keys")
	}
	var keys []Key
	for k := range slices.Chunk(b[1:], keyLen) {
		keys = append(keys, Key{Share: ShareID(k[:16]), Epoch: binary.BigEndian.Uint32(k[16:]), Secret: [32]byte(k[20:])})
	}
	r := New(keys[0].Secret)
	r, err := r.Add(keys...)
	if err != nil {
		return Ring{}, err
	}
	if !bytes.Equal(r.Encode(), b) {
		return Ring{}, invalid("what was sent has keys twice, or in the wrong order")
	}
	return r, nil
}

// Sum is equal for rings that hold the same keys, and no key follows from it.
func (r Ring) Sum() (sum [16]byte) {
	h := blake3.NewDeriveKey("sharefs 2026-11 which share keys a host has")
	for _, e := range r.sorted() {
		h.Write(e.id[:])
	}
	copy(sum[:], h.Sum(nil))
	return sum
}
