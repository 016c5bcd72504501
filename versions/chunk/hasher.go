package chunk

import (
	"github.com/zeebo/blake3"

	"sharefs"
)

// Hasher names chunks.
type Hasher struct {
	h *blake3.Hasher
}

// NewHasher returns a hasher under a key.
func NewHasher(key [32]byte) *Hasher {
	h, err := blake3.NewKeyed(key[:])
	if err != nil {
		panic(err) // only a key of another length than 32 bytes is refused
	}
	return &Hasher{h: h}
}

// ID returns the name of a chunk.
func (h *Hasher) ID(data []byte) sharefs.ChunkID {
	h.h.Reset()
	h.h.Write(data)
	var id sharefs.ChunkID
	h.h.Sum(id[:0])
	return id
}
