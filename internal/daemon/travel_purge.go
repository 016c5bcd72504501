package daemon

import (
	"sharefs"
	"sharefs/peers/replica"
	"sharefs/peers/report"
)

// mostPurged is how many changes of a purge are told of.
const mostPurged = 10_000

// purge takes back what a peer did to the tree, or only tells what that would change; cut: what is past the lowest cut of it alone, however much that is.
func (t *travel) purge(peer string, cut, dry bool) (changes []report.Change, by string, err error) {
	p, err := t.d.peers.book.Find(peer)
	if err != nil {
		return nil, "", err
	}
	r := t.records()
	if r == nil {
		return nil, "", &sharefs.Error{Op: "purge", Path: p.Name, Kind: sharefs.KindNotExist, Detail: "no files travel between this host and others, so there is nothing of it"}
	}
	if err := t.takesNothing(); err != nil {
		return nil, "", err
	}
	var list []replica.Purged
	what, purge := "--purge of "+p.Name, func(d *replica.Decision) (err error) {
		list, err = r.Purge(d, p.ID, dry)
		return err
	}
	if cut {
		what, purge = takenBackOf(p.Name), func(d *replica.Decision) error {
			back, err := r.TakeBack(d, p.ID, dry, true)
			if list = back.Changes; !back.By.IsZero() {
				by = t.author(back.By)
			}
			return err
		}
	}
	if dry {
		err = purge(nil)
	} else {
		err = t.carried(r, what, purge)
	}
	if cut && !dry {
		t.lookForCuts()
	}
	return changesOf(list), by, err
}

// changesOf tells what was taken back.
func changesOf(list []replica.Purged) []report.Change {
	out := []report.Change{}
	for _, c := range list[:min(len(list), mostPurged)] {
		out = append(out, report.Change{What: c.What, Path: c.Path, From: c.From})
	}
	return out
}
