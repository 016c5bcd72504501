package versions

import (
	"github.com/zeebo/blake3"

	"sharefs"
)

// keys are what follows from the share key. Everybody who holds that key derives the same ones, so that equal chunks meet within a share.
type keys struct {
	share [32]byte
	chunk [32]byte // names chunks
	gear  [32]byte // decides where content is cut
}

func deriveKeys(share [32]byte) keys {
	k := keys{share: share}
	blake3.DeriveKey("sharefs 2026-11 names of chunks", share[:], k.chunk[:])
	blake3.DeriveKey("sharefs 2026-11 cuts of content", share[:], k.gear[:])
	return k
}

// firstEpoch is the epoch of the share key that a store begins with.
const firstEpoch = 1

// ofEpoch returns the share key of an epoch, for [pack.Config].
func (k *keys) ofEpoch(epoch uint32) ([32]byte, error) {
	if epoch != firstEpoch {
		return [32]byte{}, sharefs.KindAccess
	}
	return k.share, nil
}
