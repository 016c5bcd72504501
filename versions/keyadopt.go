package versions

import (
	"errors"

	"sharefs"
	"sharefs/internal/keyring"
)

// Keys returns the share keys that the tree has.
func (t *Tree) Keys() keyring.Ring { return t.keys.load().ring }

// AdoptKeys takes up the share keys of another ring: of a store that this one has met, or with a new epoch. What they say is in use is what everything new is
// cut, named and sealed by from then on. It goes through these stages, and may be interrupted in each and called again:
//
//  1. [Config.KeepKeys] makes the ring survive the loss of power, in share.key
//  2. the row "keys" says which keys there are, and is synced: from then on a ring without them is refused
//  3. the keys are known to who reads
//  4. the key in use is another one: packs of others that grow are sealed, and the capture goes on with new tools
//
// A key is never given up. Errors: KindInvalid: a key is none, or is known as another one's; KindReadOnly; KindNotSupported: nobody keeps keys.
func (t *Tree) AdoptKeys(more keyring.Ring) error {
	const op = "take up share keys"
	t.adopting.Lock()
	defer t.adopting.Unlock()
	now := t.keys.load()
	ring, err := now.ring.Add(more.Keys()...)
	switch {
	case err != nil:
		return err
	case ring.Len() == now.ring.Len():
		return nil
	case t.cfg.ReadOnly:
		return &sharefs.Error{Op: op, Path: t.cfg.Dir, Kind: sharefs.KindReadOnly}
	case t.cfg.KeepKeys == nil:
		return &sharefs.Error{Op: op, Path: t.cfg.Dir, Kind: sharefs.KindNotSupported}
	}
	if err := t.cfg.KeepKeys(ring); err != nil {
		return err
	}
	if err := t.keyPlace("kept"); err != nil {
		return err
	}
	row, ok, err := t.db.Get(spaceGlobal, globalKeys)
	if err != nil {
		return failed(op, err)
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
	next, err := t.Keys().Next()
	if err != nil {
		return keyring.Ring{}, err
	}
	if err := t.AdoptKeys(next); err != nil {
		return keyring.Ring{}, err
	}
	return t.Keys(), nil
}

// keyPlace is a point at which a test interrupts AdoptKeys.
func (t *Tree) keyPlace(name string) error {
	if t.cfg.keyPlace == nil {
		return nil
	}
	return t.cfg.keyPlace(name)
}
