// Package keyring holds the share keys of a store. A store begins with one key, its first: with it begins a share, whose id follows from that key, and it is
// the share's epoch 1. A further epoch of a share begins when somebody who has its keys is not to have the next one. When two stores meet they give each
// other their rings, and both hold the keys of both from then on.
//
// A [Ring] is a set of keys, one of them the first. It only ever grows, and what it says follows from the set: rings that hold the same keys say the
// same key is in use, in whatever order the keys came. Two hosts that begin an epoch of one share without knowing of each other have two keys of one
// epoch: both are kept, and one of them is used by both as soon as they meet. So a key is named by its [sharefs.KeyID], and the epoch puts keys in order.
// The id of a later key follows from its share and its epoch too, so that it is no other key's, whatever somebody says of the secret that it has.
//
// The package does no I/O; it says what share.key holds (file.go).
package keyring

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/zeebo/blake3"

	"sharefs"
)

// FirstEpoch is the epoch of the key that a share begins with.
const FirstEpoch = 1

// Bounds of what a ring holds, so that nobody who may add keys to it can make it endless, or leave no room for the next key. Epochs have no gaps (see
// [Ring.Add]), so that none can be far ahead either.
const (
	MaxKeys  = 1024
	MaxTaken = 768 // of which at most so many may have come from other hosts: the rest is for the epochs that this one begins
	MaxEpoch = MaxKeys

	// Of which one host may bring at most so many that were not here: one that may write, whose ring has what all that it knows brought it, and one that may propose.
	MaxOfWriter   = 512
	MaxOfProposer = 64
)

// ShareID names a share: the id of the key that it began with.
type ShareID = sharefs.KeyID

// Key is a share key.
type Key struct {
	Share  ShareID
	Epoch  uint32 // from 1
	Secret [32]byte
}

// IDOf returns the id of a key that a share begins with, which is that of the share.
func IDOf(secret *[32]byte) (id sharefs.KeyID) {
	blake3.DeriveKey("sharefs 2026-11 id of a share key", secret[:], id[:])
	return id
}

// ID returns the id of the key: BLAKE3's derive_key of its secret, and of share, epoch (32 bits, big endian) and secret from the second epoch on.
func (k Key) ID() (id sharefs.KeyID) {
	if k.Epoch <= FirstEpoch {
		return IDOf(&k.Secret)
	}
	b := make([]byte, 0, keyLen)
	b = append(b, k.Share[:]...)
	b = binary.BigEndian.AppendUint32(b, k.Epoch)
	b = append(b, k.Secret[:]...)
	blake3.DeriveKey("sharefs 2026-11 id of a later share key", b, id[:])
	return id
}

// entry is a key of a ring.
type entry struct {
	Key
	id sharefs.KeyID
}

// compare puts keys in the order in which they are preferred: the lowest share, of it the last epoch.
func compare(a, b entry) int {
	return cmp.Or(bytes.Compare(a.Share[:], b.Share[:]), -cmp.Compare(a.Epoch, b.Epoch), bytes.Compare(a.id[:], b.id[:]))
}

// check returns what is wrong with a key of some id: its epoch is none, or it is said to be what a share began with, and is not.
func (k *Key) check(id sharefs.KeyID) error {
	switch {
	case k.Epoch < FirstEpoch || k.Epoch > MaxEpoch:
		return invalid(fmt.Sprintf("there is no epoch %d", k.Epoch))
	case (k.Epoch == FirstEpoch) != (k.Share == id):
		return invalid(fmt.Sprintf("the key %v is not of epoch %d of share %v", id, k.Epoch, k.Share))
	}
	return nil
}

func invalid(detail string) error {
	return &sharefs.Error{Op: "share keys", Kind: sharefs.KindInvalid, Detail: detail}
}

// Ring is a set of share keys, one of which is the first of the store. It does not change once it is made; the zero value holds no key.
type Ring struct {
	first entry
	more  []entry // beside the first, in the order of compare
}

// New returns the ring of a store that has one key.
func New(secret [32]byte) Ring {
	id := IDOf(&secret)
	return Ring{first: entry{Key{Share: id, Epoch: FirstEpoch, Secret: secret}, id}}
}

// Make returns the ring of a new store.
func Make() Ring {
	var secret [32]byte
	rand.Read(secret[:])
	return New(secret)
}

// IsZero reports whether there is no key in it.
func (r Ring) IsZero() bool { return r.first.Epoch == 0 }

// First returns the key that the store began with: what was made before it had others, what its bucket is known by, and what stands on recovery sheets.
func (r Ring) First() Key { return r.first.Key }

// Share returns the id of the share that the store began with.
func (r Ring) Share() ShareID { return r.first.Share }

// Len returns how many keys there are.
func (r Ring) Len() int {
	if r.IsZero() {
		return 0
	}
	return 1 + len(r.more)
}

// Keys returns all keys, the first of the store before the others.
func (r Ring) Keys() []Key {
	if r.IsZero() {
		return nil
	}
	all := make([]Key, 0, r.Len())
	all = append(all, r.first.Key)
	for i := range r.more {
		all = append(all, r.more[i].Key)
	}
	return all
}

// Use returns the key for what is new: of the lowest share the last epoch, and if that has several keys, the one with the lowest id.
func (r Ring) Use() Key {
	if len(r.more) > 0 && compare(r.more[0], r.first) < 0 {
		return r.more[0].Key
	}
	return r.first.Key
}

// ByID finds a key.
func (r Ring) ByID(id sharefs.KeyID) (Key, bool) {
	if r.first.id == id && !r.IsZero() {
		return r.first.Key, true
	}
	for i := range r.more {
		if r.more[i].id == id {
			return r.more[i].Key, true
		}
	}
	return Key{}, false
}

// Has reports whether all keys of another ring are in this one.
func (r Ring) Has(other Ring) bool { return len(r.Lacks(other)) == 0 }

// Lacks lists the keys of another ring that are not in this one.
func (r Ring) Lacks(other Ring) (ids []sharefs.KeyID) {
	for _, k := range other.Keys() {
		id := k.ID()
		if _, ok := r.ByID(id); !ok {
			ids = append(ids, id)
		}
	}
	return ids
}

// Add returns the ring with further keys, those of another store's ring say. It errors with KindInvalid if one of them is no key of its share and epoch, or
// is of an epoch whose share has no key of the epoch before; and with KindTooBig if they are more than MaxKeys.
func (r Ring) Add(keys ...Key) (Ring, error) {
	out := Ring{first: r.first, more: slices.Clone(r.more)}
	for _, k := range keys {
		id := k.ID()
		if err := k.check(id); err != nil {
			return r, err
		}
		if _, ok := out.ByID(id); ok {
			continue
		}
		if out.IsZero() {
			return r, invalid("a ring begins with its first key")
		}
		if out.Len() >= MaxKeys {
			return r, &sharefs.Error{Op: "share keys", Kind: sharefs.KindTooBig, Detail: fmt.Sprintf("there are more than %d", MaxKeys)}
		}
		e := entry{k, id}
		at, _ := slices.BinarySearchFunc(out.more, e, compare)
		out.more = slices.Insert(out.more, at, e)
	}
	for _, k := range keys {
		if k.Epoch > FirstEpoch && !out.hasEpoch(k.Share, k.Epoch-1) {
			return r, invalid(fmt.Sprintf("there is a key of epoch %d of share %v, and none of epoch %d", k.Epoch, k.Share, k.Epoch-1))
		}
	}
	return out, nil
}

// hasEpoch reports whether there is a key of an epoch of a share.
func (r Ring) hasEpoch(share ShareID, epoch uint32) bool {
	if r.first.Share == share && r.first.Epoch == epoch {
		return true
	}
	_, ok := slices.BinarySearchFunc(r.more, entry{Key: Key{Share: share, Epoch: epoch}}, func(a, b entry) int {
		return cmp.Or(bytes.Compare(a.Share[:], b.Share[:]), -cmp.Compare(a.Epoch, b.Epoch))
	})
	return ok
}

// Shares returns the ids of the shares that there are keys of, the one in use before the others.
func (r Ring) Shares() []ShareID {
	var ids []ShareID
	for _, k := range r.Keys() {
		ids = append(ids, k.Share)
	}
	slices.SortFunc(ids, func(a, b ShareID) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(ids)
}

// Next returns the ring with a new key, which begins the next epoch of the share in use. What is new from then on is closed to whoever has the others only.
func (r Ring) Next() (Ring, error) {
	now := r.Use()
	k := Key{Share: now.Share, Epoch: now.Epoch + 1}
	rand.Read(k.Secret[:])
	return r.Add(k)
}
