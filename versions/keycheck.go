package versions

import (
	"bytes"
	"crypto/subtle"
	"fmt"
	"path/filepath"

	"github.com/zeebo/blake3"

	"sharefs"
	"sharefs/internal/keyring"
)

// globalKeys is the row of the space global that tells whether the keys of a store are those that it was made with and has used since: 32 bytes that follow
// from its first share key, the public key of the identity, all zero where there is none, and the ids of its other share keys, 16 bytes each, in the order
// in which it learned them; zeros stand for one that is not known any more. Version rows refer to a key by its place in that list, from 1; 0 is the first key. A changed bit in a key file makes another key of
// it, under which nothing reads and what is written is lost once the right one is back.
var globalKeys = []byte("keys")

// maxPlaces is more than that list has: at most [keyring.MaxKeys], and as many again for each time that the row was lost.
const maxPlaces = 64 * keyring.MaxKeys

// keyCheck returns what the row says of the first share key. The key does not follow from it.
func keyCheck(share [32]byte) (sum [32]byte) {
	blake3.DeriveKey("sharefs 2026-11 which share key a store has", share[:], sum[:])
	return sum
}

// keysRow is that row.
type keysRow struct {
	check [32]byte
	peer  sharefs.PeerID
	more  []sharefs.KeyID
}

func (r *keysRow) encode() []byte {
	b := append(append([]byte(nil), r.check[:]...), r.peer[:]...)
	for i := range r.more {
		b = append(b, r.more[i][:]...)
	}
	return b
}

func decodeKeysRow(b []byte) (r keysRow, ok bool) {
	const head = len(r.check) + len(r.peer)
	if len(b) < head || (len(b)-head)%len(sharefs.KeyID{}) != 0 {
		return r, false
	}
	copy(r.check[:], b)
	copy(r.peer[:], b[len(r.check):])
	for b = b[head:]; len(b) > 0; b = b[len(sharefs.KeyID{}):] {
		r.more = append(r.more, sharefs.KeyID(b))
	}
	return r, true
}

// lost makes the row anew that was lost with a part of meta.db. In which order the keys came is lost with it, if they are several: places that version rows may
// have are left free, by zeros, and no key is said of a version that has one of them.
func (r *keysRow) lost(k *keys) {
	if n := k.ring.Len() - 1; n > 1 {
		r.more = make([]sharefs.KeyID, n)
	}
}

// learn enters the keys of a ring that the row does not name.
func (r *keysRow) learn(k *keys) {
	known := map[sharefs.KeyID]bool{k.first.id: true}
	for _, id := range r.more {
		known[id] = true
	}
	for _, key := range k.ring.Keys() {
		if id := key.ID(); !known[id] {
			r.more = append(r.more, id)
		}
	}
}

// checkKeys refuses keys that the store was not made with, and a ring in which one is missing that it has used; keys that it does not know yet it learns.
func (t *Tree) checkKeys() error {
	k := t.keys.load()
	row, ok, err := t.db.Get(spaceGlobal, globalKeys)
	if err != nil {
		return failed("open the store", err)
	}
	want := keysRow{check: keyCheck(k.first.Secret), peer: t.cfg.Peer}
	if ok {
		wrong := func(file, detail string) error {
			return &sharefs.Error{Op: "open the store", Path: filepath.Join(t.cfg.Dir, file), Kind: sharefs.KindCorrupt, Detail: detail}
		}
		const other = "it is not the key that this store was made with: put the right one back from a backup"
		is, ok := decodeKeysRow(row)
		if !ok {
			return corrupt("the row that tells the keys", 0)
		}
		if subtle.ConstantTimeCompare(is.check[:], want.check[:]) == 0 {
			return wrong("share.key", other)
		}
		missing := 0
		for _, id := range is.more {
			if k.byID[id] == nil && id != (sharefs.KeyID{}) {
				missing++
			}
		}
		if missing > 0 {
			return wrong("share.key", fmt.Sprintf("it lacks %s that this store has used: put a newer one back from share.key.copy or a backup",
				plural(uint64(missing), "share key", "share keys")))
		}
		switch {
		case t.cfg.Peer.IsZero():
			want.peer = is.peer
		case is.peer != t.cfg.Peer && !is.peer.IsZero():
			return wrong("identity.key", other)
		}
		want.more = is.more
	} else {
		want.lost(k)
	}
	want.learn(k)
	t.keys.now.Store(deriveKeys(k.ring, want.more))
	learned := want.encode()
	if t.cfg.ReadOnly || bytes.Equal(learned, row) {
		return nil
	}
	return t.putKeys(learned)
}

// putKeys writes the row.
func (t *Tree) putKeys(row []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	x.aside = true
	x.b.Put(spaceGlobal, globalKeys, row)
	return x.commit()
}
