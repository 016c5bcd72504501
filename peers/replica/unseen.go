package replica

import (
	"sharefs/peers/record"
)

// A crash between what is done in the tree and what the account says of it leaves things there that nobody did by himself. They are told from what somebody did here by what the records said then.

// catchUpHere writes down what changed in the tree before something is taken that may say otherwise, if memory was read anew since. What was done here just before a crash stands in the tree, and not
// in the account: by the records of that time it is what they say, and by later ones, such as of its removal, it would be something that somebody did here since.
func (r *Replica) catchUpHere() error {
	if err := r.enter(); err != nil {
		return err
	}
	need := r.unseen && r.walked && !r.lost
	r.mu.Unlock()
	if !need {
		return nil
	}
	_, _ = r.Author() // what cannot be written down is told by who does that at other times, and holds up nothing here
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken == nil {
		r.unseen = false
	}
	return nil
}

// gaveWay reports whether a name that is gone, and not shown by the records, gave way here to the one that they show in its place: this was done just before a crash, and nobody removed it.
func (r *Replica) gaveWay(last *record.Record) bool {
	if last == nil {
		return false
	}
	p := last.Body.(*record.Place)
	shown, ok := r.tree.Lookup(p.Parent, p.Name)
	if !ok || p.Removed() || shown.Key.File == p.File {
		return false
	}
	if by := r.last.Get(shown.Key); by == nil || by.Author == r.cfg.Self { // somebody put it there over the other one, which he removed by that
		return false
	}
	has, dir := r.files.Get(shown.Key.File), r.files.Get(p.Parent)
	if has == nil || dir == nil {
		return false
	}
	at, ok := has.names.Get(shown.Key.Link)
	return ok && at.dir == dir.ino && at.name == p.Name
}
