package daemon

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"sharefs"
	"sharefs/peers/book"
	"sharefs/peers/engine"
	"sharefs/peers/replica"
	"sharefs/peers/report"
	"sharefs/peers/trust"
)

// ends is what becomes of cuts, by which hosts that revoke one peer at different moments come to one tree (replica.Cut).
type ends struct {
	soon  chan struct{} // capacity 1: there may be something to do
	doing sync.Mutex    // held while it is done

	mu   sync.Mutex // guards much
	much map[sharefs.PeerID]overrun
}

// overrun is what is past a cut and too much to be taken back by itself.
type overrun struct {
	low     replica.Cut
	changes int
}

func takenBackOf(name string) string { return "revoke --cut of " + name }

// lookForCuts has cuts be heeded that came, or came to count.
func (t *travel) lookForCuts() {
	poke(t.ends.soon)
}

// followCuts heeds cuts as they come.
func (t *travel) followCuts() {
	for {
		select {
		case <-t.stop:
			return
		case <-t.ends.soon:
		}
		if _, err := t.heedCuts(); err != nil {
			t.d.log.Error("where revoked peers end could not be brought in order", "error", err)
		}
	}
}

// revoked reports whether the owner has revoked a peer, and how much of it this host takes back by itself.
func (t *travel) revoked(author sharefs.PeerID) (replica.Bulk, bool) {
	b := t.d.peers.book
	policy := b.Policy()
	if policy.Most(author) != trust.Blocked || policy.Former(author) {
		return replica.Bulk{}, false
	}
	_, known := b.Peer(author)
	bulk := engine.Much()
	bulk.Within = 0 // all of it at once
	return bulk, known
}

// heedCuts brings in order what this host says of ends, and what it has of them.
func (t *travel) heedCuts() (back map[sharefs.PeerID]replica.TakenBack, err error) {
	t.ends.doing.Lock()
	defer t.ends.doing.Unlock()
	return t.heed()
}

// heed says where peers end that were revoked here, takes back what was said of those that are trusted again, and heeds the lowest cuts of who is revoked. It returns what was taken back. t.ends.doing
// is held.
func (t *travel) heed() (back map[sharefs.PeerID]replica.TakenBack, err error) {
	r := t.records()
	if r == nil || t.takesNothing() != nil {
		return nil, nil
	}
	if err := t.sayCuts(r); err != nil {
		return nil, err
	}
	due, err := r.Overruns()
	if err != nil {
		return nil, err
	}
	back, much := map[sharefs.PeerID]replica.TakenBack{}, map[sharefs.PeerID]overrun{}
	var made []*replica.Decision
	for _, id := range due {
		p, ok := t.d.peers.book.Peer(id)
		if !ok {
			continue
		}
		low, err := r.Lowest(id)
		if err != nil {
			return back, err
		}
		t.ends.mu.Lock()
		was, known := t.ends.much[id]
		t.ends.mu.Unlock()
		if known && was.low == low {
			much[id] = was
			continue
		}
		d := r.Decision(takenBackOf(p.Name))
		took, err := r.TakeBack(d, id, false, false)
		if err != nil {
			return back, err
		}
		t.tellAll()
		made = append(made, d)
		if took.Much {
			much[id] = overrun{low, len(took.Changes)}
			continue
		}
		if back[id] = took; len(took.Changes) > 0 {
			t.d.log.Info("what a revoked peer wrote past where another host revoked it is taken back", "peer", p.Name, "by", t.author(took.By), "changes", len(took.Changes))
		}
	}
	t.ends.mu.Lock()
	t.ends.much = much
	t.ends.mu.Unlock()
	var late error
	for _, d := range made { // once all is decided: one that is late keeps no other one back
		if err := t.await(r, d, false); late == nil {
			late = err
		}
	}
	return back, late
}

// sayCuts says what other hosts are to be told of where peers end. Who was forgotten is not trusted anew by that.
func (t *travel) sayCuts(r *replica.Replica) error {
	b := t.d.peers.book
	said, err := r.OwnCuts()
	if err != nil {
		return err
	}
	policy := b.Policy()
	for _, id := range said {
		if _, known := b.Peer(id); known && policy.Most(id) != trust.Blocked {
			if err := r.Uncut(id); err != nil {
				return err
			}
			t.tellAll()
		}
	}
	for _, p := range b.Peers() {
		if !p.CutDue {
			continue
		}
		epoch := uint64(t.d.tree.Keys().Use().Epoch) // it was begun with the revocation
		if p.How == book.ByRecovery {
			epoch = 0 // a key of this host itself, which is given nothing
		}
		err := r.Cut(p.ID, epoch)
		if err == nil {
			err = b.CutSaid(p.ID)
		}
		if err != nil {
			return err
		}
		t.tellAll()
	}
	return nil
}

// overruns tells of what is past a cut, and too much to be taken back unasked.
func (t *travel) overruns() []report.Overrun {
	t.ends.mu.Lock()
	all := maps.Clone(t.ends.much)
	t.ends.mu.Unlock()
	out := []report.Overrun{}
	for id, o := range all {
		if p, ok := t.d.peers.book.Peer(id); ok {
			out = append(out, report.Overrun{Peer: p.Name, By: t.author(o.low.By), Changes: o.changes})
		}
	}
	slices.SortFunc(out, func(a, b report.Overrun) int { return strings.Compare(a.Peer, b.Peer) })
	return out
}

// cuts lists who has revoked a peer, the first one first.
func (t *travel) cuts(id sharefs.PeerID) (out []report.Cut) {
	r := t.records()
	if r == nil {
		return nil
	}
	list, err := r.Cuts(id)
	if err != nil {
		return nil // without a database the engine says so
	}
	for _, c := range list {
		if c.By != t.d.store.Keys.Peer() {
			out = append(out, report.Cut{By: t.author(c.By), At: c.At})
		}
	}
	return out
}
