package book

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"sharefs"
	"sharefs/peers/trust"
)

// Added tells what pairing made of a peer.
type Added struct {
	Peer     Peer
	Again    bool        // it was known, and keeps its name
	Level    trust.Level // the highest that it has anywhere
	Freed    bool        // it was revoked and is trusted as a new one now
	Twin     string      // another peer, with another key, that has the name which this one calls itself by
	Reserved string      // why it is not called here as it calls itself, where that is not for a twin
}

// Add takes a peer up, or notes that it was paired again: then its name and what it may stay as they are, but that one who was revoked is as a new one. Name is what it calls itself
// or, of one that is added by hand, what the user calls it, empty where he leaves that open.
func (b *Book) Add(id sharefs.PeerID, name, how string, given, found []string, now time.Time) (a Added, err error) {
	calls, word := CleanName(name), b.reserved(CleanName(name))
	err = b.change(func(n *Book) error {
		i := n.index(id)
		a.Again = i >= 0
		if how == ByHand && name != "" {
			named := a.Again && !n.peers[i].Unnamed
			if named && !strings.EqualFold(n.peers[i].Name, name) {
				return &sharefs.Error{Op: "pair", Path: quoted(name), Kind: sharefs.KindExist, Detail: "the host is a peer already, called " + n.peers[i].Name +
					": sharefs peers rename " + n.peers[i].Name + " NEW calls it otherwise"}
			}
			if !named {
				if err := n.mayName(id, name, word); err != nil {
					return err
				}
				if a.Again {
					n.peers[i].Name, n.peers[i].Unnamed = name, false
				}
			}
		}
		if !a.Again {
			if len(n.peers) >= MaxPeers {
				return errFull
			}
			want, can := n.freeName(calls, word)
			if a.Reserved = word; can != want && how != ByHand {
				a.Twin = want
			}
			n.peers = append(n.peers, Peer{ID: id, Name: can, Unnamed: how == ByHand && name == ""})
			i = len(n.peers) - 1
		}
		p := &n.peers[i]
		gone := n.policy.Former(id) && p.How != ByRecovery // which is back: nobody had revoked it
		p.How, p.Paired, p.Lost = how, now.UTC().Truncate(time.Second), false
		if how != ByHand {
			p.Calls = calls
			n.nameAs(p, word)
		}
		p.Given = merge(given, p.Given)
		p.Found = merge(found, p.Found)
		if n.policy.Most(id) == trust.Blocked {
			a.Freed = a.Again && !gone
			n.policy = n.policy.Forget(id).Grant(trust.Rule{Peer: id, Level: trust.Paired})
		}
		a.Level, a.Peer = n.policy.Most(id), *p
		return nil
	})
	return a, err
}

// errFull is why no more peers are taken up.
var errFull = &sharefs.Error{Op: "pair", Kind: sharefs.KindNoSpace, Detail: "there are 1000 peers: forget one first (sharefs peers forget NAME)"}

// lostName is what a host is called whose key is lost.
func (b *Book) lostName(name string) string {
	return free(CleanName(name+"-lost"), func(s string) bool { return named(b.peers, s) })
}

// AddFormer takes a key up that this host, called so, had before it came back from a backup ([trust.Policy.Former]). One that is known stays what it is.
func (b *Book) AddFormer(id sharefs.PeerID, name string, now time.Time) error {
	if _, known := b.Peer(id); known {
		return nil
	}
	return b.change(func(n *Book) error {
		n.peers = append(n.peers, Peer{ID: id, Name: n.lostName(name), How: ByRecovery, Paired: now.UTC().Truncate(time.Second), Lost: true})
		n.policy = n.policy.WithFormer(id)
		return nil
	})
}

// Gone takes a host up that is no more, or notes of a peer that it is: nobody has its key any more ([trust.Policy.Former]). Name is what one is to be called that is not known yet.
func (b *Book) Gone(id sharefs.PeerID, name string, now time.Time) (p Peer, err error) {
	calls, why := CleanName(name), b.reserved(CleanName(name))
	err = b.change(func(n *Book) error {
		i := n.index(id)
		if i < 0 {
			if len(n.peers) >= MaxPeers {
				return errFull
			}
			_, can := n.freeName(calls, why)
			n.peers = append(n.peers, Peer{ID: id, Name: can, How: ByHand, Paired: now.UTC().Truncate(time.Second)})
			i = len(n.peers) - 1
		}
		n.peers[i].Lost, n.peers[i].CutDue, n.peers[i].Unnamed = true, false, false
		n.policy = n.policy.WithFormer(id)
		p = n.peers[i]
		return nil
	})
	return p, err
}

// Former lists the keys that this host had before, the latest first: they go into its backups as its own. That of another host that is gone is none.
func (b *Book) Former() (ids []sharefs.PeerID) {
	all, policy := b.Peers(), b.Policy()
	slices.SortStableFunc(all, func(x, y Peer) int { return y.Paired.Compare(x.Paired) })
	for i := range all {
		if all[i].How == ByRecovery && policy.Former(all[i].ID) {
			ids = append(ids, all[i].ID)
		}
	}
	return ids
}

// merge puts what is new before what was there, each once, as many as may be.
func merge(fresh, old []string) (out []string) {
	for _, a := range append(slices.Clone(fresh), old...) {
		if !slices.Contains(out, a) && len(out) < maxFound {
			out = append(out, a)
		}
	}
	return out
}

// nameAs names a peer that nobody has named by what it calls itself, which is reserved if there is a reason why.
func (b *Book) nameAs(p *Peer, why string) {
	if p.Unnamed {
		p.Name, p.Unnamed = "", false // its own name is not another's
		_, p.Name = b.freeName(p.Calls, why)
	}
}

// Met notes that a peer was connected, what it calls itself, and where it is. One that was added by hand without a name has that name from then on.
func (b *Book) Met(id sharefs.PeerID, calls string, found []string, now time.Time) error {
	calls = CleanName(calls)
	why := ""
	if p, _ := b.Peer(id); p.Unnamed {
		why = b.reserved(calls)
	}
	return b.change(func(n *Book) error {
		if i := n.index(id); i >= 0 {
			p := &n.peers[i]
			p.Calls, p.Seen = calls, now.UTC().Truncate(time.Second)
			n.nameAs(p, why)
			p.Found = merge(found, p.Found)
		}
		return nil
	})
}

// Left notes that a connection with a peer has ended.
func (b *Book) Left(id sharefs.PeerID, now time.Time) error {
	return b.change(func(n *Book) error {
		if i := n.index(id); i >= 0 {
			if now = now.UTC().Truncate(time.Second); now.After(n.peers[i].Seen) {
				n.peers[i].Seen = now
			}
		}
		return nil
	})
}

// Bringing notes that share keys which nobody brought before are about to be taken from a peer. Brought must follow.
func (b *Book) Bringing(id sharefs.PeerID, keys []sharefs.KeyID) error {
	return b.change(func(n *Book) error {
		if i := n.index(id); i >= 0 {
			n.peers[i].Bringing = nil
			for _, k := range keys {
				n.peers[i].Bringing = append(n.peers[i].Bringing, k.String())
			}
		}
		return nil
	})
}

// Brought counts those of the keys that were about to be taken which are here now, for the peers that brought them. It may be called at any time, also after a kill right behind Bringing.
func (b *Book) Brought(here func(id string) bool) error {
	if !slices.ContainsFunc(b.Peers(), func(p Peer) bool { return len(p.Bringing) > 0 }) {
		return nil
	}
	return b.change(func(n *Book) error {
		for i := range n.peers {
			p := &n.peers[i]
			for _, id := range p.Bringing {
				if here(id) {
					p.Keys++
				}
			}
			p.Bringing = nil
		}
		return nil
	})
}

// Rename gives a peer another name.
func (b *Book) Rename(word, name string) (Peer, error) {
	why := b.reserved(name)
	return b.alter(word, func(n *Book, p *Peer) error {
		if name == p.Name {
			p.Unnamed = false
			return nil
		}
		if err := n.mayName(p.ID, name, why); err != nil {
			return err
		}
		p.Name, p.Unnamed = name, false
		return nil
	})
}

// Forget removes a peer and all that it may.
func (b *Book) Forget(word string) (p Peer, err error) {
	err = b.change(func(n *Book) error {
		if p, err = n.find(word); err != nil {
			return err
		}
		n.peers = slices.DeleteFunc(n.peers, func(q Peer) bool { return q.ID == p.ID })
		n.policy = n.policy.Forget(p.ID)
		return nil
	})
	return p, err
}

// Grant gives a peer a level for what a pattern names; one for the whole share that was revoked counts from then on.
func (b *Book) Grant(word string, level trust.Level, pattern trust.Pattern) (Peer, error) {
	return b.alter(word, func(n *Book, p *Peer) error {
		n.policy = n.policy.Grant(trust.Rule{Peer: p.ID, Pattern: pattern, Level: level})
		return nil
	})
}

// Inherit removes the rule of a peer for what a pattern names, which is not the whole share: how far a peer is trusted with that is always said.
func (b *Book) Inherit(word string, pattern trust.Pattern) (Peer, error) {
	return b.alter(word, func(n *Book, p *Peer) error {
		fail := func(kind sharefs.Kind, detail string) error {
			return &sharefs.Error{Op: "rule of", Path: strconv.Quote(p.Name), Kind: kind, Detail: detail}
		}
		if pattern == (trust.Pattern{}) {
			return fail(sharefs.KindInvalid, "that for the whole share cannot go: grant another level, or revoke the peer")
		}
		if !slices.ContainsFunc(n.policy.Rules(p.ID), func(r trust.Rule) bool { return r.Pattern == pattern }) {
			return fail(sharefs.KindNotExist, "there is none for "+strconv.Quote(pattern.String()))
		}
		n.policy = n.policy.Revoke(p.ID, pattern)
		return nil
	})
}

// Revoke takes everything from a peer: it is blocked.
func (b *Book) Revoke(word string) (Peer, error) {
	return b.alter(word, func(n *Book, p *Peer) error {
		n.revoke(p)
		return nil
	})
}

// revoke blocks a peer, and notes whether what it wrote counted, for then the other hosts are to be told where that ends.
func (b *Book) revoke(p *Peer) {
	p.CutDue = p.CutDue || b.policy.Former(p.ID) || b.policy.Most(p.ID).Rights().In >= trust.InMerge
	b.policy = b.policy.Forget(p.ID).Grant(trust.Rule{Peer: p.ID, Level: trust.Blocked})
}

// CutSaid notes that other hosts were told where a peer ends that was revoked.
func (b *Book) CutSaid(id sharefs.PeerID) error {
	return b.change(func(n *Book) error {
		if i := n.index(id); i >= 0 {
			n.peers[i].CutDue = false
		}
		return nil
	})
}

// Replace revokes a peer whose key is lost, and gives its name to another one, which stays at the level that it has.
func (b *Book) Replace(old, by string) (was, is Peer, err error) {
	err = b.change(func(n *Book) error {
		o, err := n.find(old)
		if err != nil {
			return err
		}
		y, err := n.find(by)
		if err != nil {
			return err
		}
		if o.ID == y.ID {
			return &sharefs.Error{Op: "replace", Path: o.Name, Kind: sharefs.KindInvalid, Detail: "a peer does not replace itself"}
		}
		i, j := n.index(o.ID), n.index(y.ID)
		name := o.Name
		n.peers[i].Name = n.lostName(name)
		n.peers[i].Lost, n.peers[i].Unnamed = true, false
		n.peers[j].Name, n.peers[j].Unnamed = name, false
		n.revoke(&n.peers[i])
		was, is = n.peers[i], n.peers[j]
		return nil
	})
	return was, is, err
}

func (b *Book) alter(word string, fn func(n *Book, p *Peer) error) (out Peer, err error) {
	err = b.change(func(n *Book) error {
		found, err := n.find(word)
		if err != nil {
			return err
		}
		i := n.index(found.ID)
		if err := fn(n, &n.peers[i]); err != nil {
			return err
		}
		out = n.peers[i]
		return nil
	})
	return out, err
}
