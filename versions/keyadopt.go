package versions

import (
	"errors"
	"fmt"

	"sharefs"
	"sharefs/internal/keyring"
)

// Keys returns the share keys that the tree has.
func (t *Tree) Keys() keyring.Ring { return t.keys.load().ring }

// AdoptKeys takes up the share keys of a store that this one has met. What they say together is in use is what everything new is cut, named and sealed by
// from then on; changed tells that it is another key than before. A ring without a new key is nothing. It goes through these stages, and may be interrupted in
// each and called again:
//
//  1. [Config.KeepKeys] makes the ring survive the loss of power, in share.key
//  2. the row "keys" says which keys there are, and is synced: from then on a ring without them is refused
//  3. the keys are known to who reads
//  4. the key in use is another one: packs of others that grow are sealed, and the capture goes on with new tools
//
// A key is never given up. Errors: KindInvalid: a key is none, or is known as another one's; KindTooBig: there would be more than [keyring.MaxTaken];
// KindReadOnly; KindNotSupported: nobody keeps keys.
func (t *Tree) AdoptKeys(more keyring.Ring) (changed bool, err error) {
	t.adopting.Lock()
	defer t.adopting.Unlock()
	before := t.keys.load()
	ring, err := before.ring.Add(more.Keys()...)
	if err == nil && ring.Len() > before.ring.Len() && ring.Len() > keyring.MaxTaken {
		err = &sharefs.Error{Op: takeUpKeys, Kind: sharefs.KindTooBig,
			Detail: fmt.Sprintf("it would have %d share keys, and %d is the most that other hosts may bring it to", ring.Len(), keyring.MaxTaken)}
	}
	if err == nil {
		err = t.takeUp(before, ring)
	}
	return t.keys.load().use.id != before.use.id, err
}

const takeUpKeys = "take up share keys"

// takeUp has a ring, which holds all keys that there are, be that of the tree. Tree.adopting is held.
func (t *Tree) takeUp(now *keys, ring keyring.Ring) error {
	switch {
	case ring.Len() == now.ring.Len():
		return nil
	case t.cfg.ReadOnly:
		return &sharefs.Error{Op: takeUpKeys, Path: t.cfg.Dir, Kind: sharefs.KindReadOnly}
	case t.cfg.KeepKeys == nil:
		return &sharefs.Error{Op: takeUpKeys, Path: t.cfg.Dir, Kind: sharefs.KindNotSupported}
	}
	if err := t.cfg.KeepKeys(ring); err != nil {
		return err
	}
	if err := t.keyPlace("kept"); err != nil {
		return err
	}
	row, ok, err := t.db.Get(spaceGlobal, globalKeys)
	if err != nil {
		return failed(takeUpKeys, err)
	}
	r, whole := decodeKeysRow(row)
	if !ok || !whole {
		return corrupt("the row that tells the keys", 0)
	}
	r.learn(deriveKeys(ring, nil))
	if err := t.putKeys(r.encode()); err != nil {
		return err
	}
	if err := t.db.Sync(); err != nil {
		return failed("sync the journal", err)
	}
	if err := t.keyPlace("learned"); err != nil {
		return err
	}
	h := &t.past
	h.capturing.Lock()
	defer h.capturing.Unlock()
	next := deriveKeys(ring, r.more)
	t.keys.now.Store(next)
	defer t.keys.tell()
	if next.use.id == now.use.id {
		return nil
	}
	h.tools = h.newTools()
	h.tools.behind = true
	use := next.use.epoch()
	err = h.packs.Use(use)
	for _, s := range t.checkpoint.stores() {
		err = errors.Join(err, s.Use(use))
	}
	return err
}

// BeginEpoch makes a new share key, which is in use from then on, for somebody who has the others is to have no more. It returns all keys.
func (t *Tree) BeginEpoch() (keyring.Ring, error) {
	t.adopting.Lock()
	defer t.adopting.Unlock()
	now := t.keys.load()
	next, err := now.ring.Next()
	if err == nil {
		err = t.takeUp(now, next)
	}
	if err != nil {
		return keyring.Ring{}, err
	}
	return t.Keys(), nil
}

// KeysChanged returns a channel that gets a value when there are keys that there were not when it was last emptied. It is for one goroutine: whoever gives the
// keys to other hosts.
func (t *Tree) KeysChanged() <-chan struct{} { return t.keys.changed }

// keyPlace is a point at which a test interrupts AdoptKeys.
func (t *Tree) keyPlace(name string) error {
	if t.cfg.keyPlace == nil {
		return nil
	}
	return t.cfg.keyPlace(name)
}

// CheckChunk makes sure that plain is the chunk, or node of a manifest, that a name stands for under a key. Errors: KindCorrupt: it is another one; KindAccess: the key is not here.
func (t *Tree) CheckChunk(key sharefs.KeyID, id sharefs.ChunkID, plain []byte) error {
	const op = "check a chunk"
	k := t.keys.load().byID[key]
	switch {
	case k == nil:
		return &sharefs.Error{Op: op, Kind: sharefs.KindAccess, Detail: "the share key " + key.String() + " is not here"}
	case k.name(plain) != id:
		return &sharefs.Error{Op: op, Kind: sharefs.KindCorrupt, Detail: "it is not " + id.String()}
	}
	return nil
}
