package daemon

import (
	"fmt"
	"sync"

	"sharefs"
	"sharefs/internal/keyring"
	"sharefs/peers/book"
	"sharefs/peers/trust"
)

// rings gives share keys to peers and takes theirs, of each so many that it leaves room for those of others.
type rings struct {
	tree interface {
		Keys() keyring.Ring
		AdoptKeys(keyring.Ring) (changed bool, err error)
	}
	book *book.Book

	mu sync.Mutex // held while a ring is taken, so that who is first to bring a key is one
}

func (r *rings) Ring() []byte { return r.tree.Keys().Encode() }

func (r *rings) TakeRing(from sharefs.PeerID, ring []byte) error {
	keys, err := keyring.Decode(ring)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	fresh := r.tree.Keys().Lacks(keys)
	if fresh == 0 {
		return nil
	}
	p, _ := r.book.Peer(from)
	most := keyring.MaxOfProposer
	if r.book.Policy().Most(from).Rights().In > trust.InQuarantine {
		most = keyring.MaxOfWriter
	}
	if p.Keys+fresh > most {
		return &sharefs.Error{Op: "take up share keys", Kind: sharefs.KindTooBig,
			Detail: fmt.Sprintf("it has brought %d and has %d more, and one of its level may bring %d", p.Keys, fresh, most)}
	}
	if _, err := r.tree.AdoptKeys(keys); err != nil {
		return err
	}
	return r.book.Brought(from, fresh)
}
