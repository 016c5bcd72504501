package replica

import (
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// toldOf notes which versions whoever is here can see from now on, for what is written or removed then replaces them. What was written or removed before, and is not written down yet, was
// done by somebody who could not see them: then they count as seen as soon as it is, and what is in conflict with it stays so.
func (r *Replica) toldOf(n *converge.Node) {
	e := r.files.Get(n.Key.File)
	if !n.Live.IsZero() && (e == nil || n.Live == e.version) { // otherwise it has not come into the tree
		r.told[n.Live] = true
	}
	if len(n.Conflicts) == 0 {
		return
	}
	if e != nil && !r.isToldWhole(e) {
		r.untold[n.Key] = true
		return
	}
	delete(r.untold, n.Key)
	for _, c := range n.Conflicts {
		r.told[c.Version] = true
	}
}

// tellLater notes as seen what could not be while there was something to write down about its file.
func (r *Replica) tellLater() {
	keys := r.untold
	r.untold = map[converge.Key]bool{}
	for key := range keys {
		if n, ok := r.tree.Node(key); ok {
			r.toldOf(&n)
		}
	}
}

// isToldWhole reports whether all that was done to a file is written down: nobody writes to it, and its content and names are those of the account.
func (r *Replica) isToldWhole(e *entry) bool {
	if e.typ != record.Regular {
		return true
	}
	// In that order: a file is at rest once it has the version.
	a, err := r.cfg.Tree.Getattr(e.ino)
	if err != nil || a.Changing {
		return false
	}
	own, _, err := r.cfg.Tree.Latest(e.ino)
	if err != nil || own != e.own {
		return false
	}
	for _, s := range e.names.All() {
		d, there, err := r.cfg.Tree.NameAt(s.dir, s.cookie)
		if err != nil || !there || d.Ino != e.ino {
			return false
		}
	}
	return true
}
