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
	if err := r.count(); err != nil { // what the daemon was ended in
		return err
	}
	fresh := r.tree.Keys().Lacks(keys)
	if len(fresh) == 0 {
		return nil
	}
	p, _ := r.book.Peer(from)
	most := keyring.MaxOfProposer
	if r.book.Policy().Most(from).Rights().In > trust.InQuarantine {
		most = keyring.MaxOfWriter
	}
	if p.Keys+len(fresh) > most {
		return &sharefs.Error{Op: "take up share keys", Kind: sharefs.KindTooBig,
			Detail: fmt.Sprintf("it has brought %d and has %d more, and one of its level may bring %d", p.Keys, len(fresh), most)}
	}
	if err := r.book.Bringing(from, fresh); err != nil {
		return err
	}
	if _, err := r.tree.AdoptKeys(keys); err != nil {
		return err // they may be in share.key: then the next start has them, and they count
	}
	return r.count()
}

// count has the keys that were being taken count for the peers that they came from, as far as they are here.
func (r *rings) count() error {
	var have map[string]bool
	return r.book.Brought(func(id string) bool {
		if have == nil {
			have = map[string]bool{}
			for _, k := range r.tree.Keys().Keys() {
				have[k.ID().String()] = true
			}
		}
		return have[id]
	})
}
