package daemon

import (
	"sharefs"
	"sharefs/peers/replica"
	"sharefs/peers/report"
)

// mostHeldNames is how many names are told of what is held of one peer.
const mostHeldNames = 1000

// held lists removals and renames in bulk that wait for the owner, by peer.
func (t *travel) held() []report.Held {
	out := []report.Held{}
	r := t.records()
	if r == nil {
		return out
	}
	list, err := r.Holds(mostHeldNames)
	if err != nil {
		t.d.log.Error("what is held cannot be listed", "error", err)
		return out
	}
	for i := range list {
		h := &list[i]
		out = append(out, report.Held{Peer: t.author(h.Author), ID: h.Author.String(), Since: h.Since, Removals: h.Removals, Renames: h.Renames, Before: h.Before,
			Names: heldNames(h.Names), Counted: heldNames(h.Counted)})
	}
	return out
}

func heldNames(list []replica.HeldName) []report.HeldName {
	out := []report.HeldName{}
	for _, n := range list {
		name := report.HeldName{Path: n.Path, Type: "file", To: n.To}
		if n.Dir {
			name.Type = "directory"
		}
		out = append(out, name)
	}
	return out
}

// holding tells how many removals and renames of each author are held.
func (t *travel) holding() map[sharefs.PeerID]int {
	if r := t.records(); r != nil {
		if all, err := r.Holding(); err == nil {
			return all
		}
	}
	return nil
}

// decideHeld lets what is held of a peer count, or puts it back.
func (t *travel) decideHeld(peer string, accept bool) error {
	const op = "decide what is held"
	r := t.records()
	if r == nil {
		return &sharefs.Error{Op: op, Path: peer, Kind: sharefs.KindNotExist, Detail: "no files travel between this host and others, so nothing is held"}
	}
	if err := t.takesNothing(); err != nil {
		return err
	}
	id, err := t.whoHolds(peer)
	if err != nil {
		return err
	}
	decide, what := r.RejectHeld, "held reject "
	if accept {
		decide, what = r.AcceptHeld, "held accept "
	}
	return t.carried(r, what+t.author(id), func(d *replica.Decision) error {
		_, err := decide(d, id)
		return err
	})
}

// whoHolds finds the author of whom something is held, by its name here or its id. He need not be a peer any more.
func (t *travel) whoHolds(word string) (sharefs.PeerID, error) {
	for id := range t.holding() {
		if t.author(id) == word || id.Begins(word) {
			return id, nil
		}
	}
	p, err := t.d.peers.book.Find(word)
	if err == nil {
		if t.holding()[p.ID] > 0 {
			return p.ID, nil
		}
		err = &sharefs.Error{Op: "decide what is held", Path: p.Name, Kind: sharefs.KindNotExist, Detail: "nothing of this peer is held"}
	}
	return sharefs.PeerID{}, err
}
