package versions

import (
	"crypto/subtle"
	"path/filepath"

	"github.com/zeebo/blake3"

	"sharefs"
)

// globalKeys is the row of the space global that tells whether the keys of a store are those that it was made with: 32 bytes that follow from the
// share key, and the public key of the identity, all zero where there is none. A changed bit in a key file makes another key of it, under which
// nothing reads and what is written is lost once the right one is back.
var globalKeys = []byte("keys")

// keyCheck returns what the row says of a share key. The key does not follow from it.
func keyCheck(share [32]byte) (sum [32]byte) {
	blake3.DeriveKey("sharefs 2026-11 which share key a store has", share[:], sum[:])
	return sum
}

// checkKeys refuses keys that the store was not made with; a store that does not know its keys yet learns them.
func (t *Tree) checkKeys() error {
	want := keyCheck(t.cfg.ShareKey)
	row, ok, err := t.db.Get(spaceGlobal, globalKeys)
	if err != nil {
		return failed("open the store", err)
	}
	const size = len(want) + len(sharefs.PeerID{})
	if ok {
		wrong := func(file string) error {
			return &sharefs.Error{Op: "open the store", Path: filepath.Join(t.cfg.Dir, file), Kind: sharefs.KindCorrupt,
				Detail: "it is not the key that this store was made with: put the right one back from a backup"}
		}
		peer := sharefs.PeerID{}
		switch {
		case len(row) != size:
			return corrupt("the row that tells the keys", 0)
		case subtle.ConstantTimeCompare(row[:len(want)], want[:]) == 0:
			return wrong("share.key")
		}
		copy(peer[:], row[len(want):])
		if peer == t.cfg.Peer || t.cfg.Peer.IsZero() {
			return nil
		}
		if !peer.IsZero() {
			return wrong("identity.key")
		}
	}
	if t.cfg.ReadOnly {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	x.b.Put(spaceGlobal, globalKeys, append(want[:], t.cfg.Peer[:]...))
	return x.commit()
}
