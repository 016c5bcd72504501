package replica

import (
	"errors"
	"maps"
	"time"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// Programs save in two ways beside writing to a file: they write another one and rename it over the file, or they rename the file away, write another one under its name, and remove the first. For
// the user it is one file before and after, so its records go on: others who changed it meanwhile are in conflict with a change of it that has a version before it, not with a file of its name. That
// holds as well where the other file was told of before it got the name, or before the first was removed, which a moment decides: then it is removed again. But it must have been made
// for that, as far as can be told: here, less than savingFor ago, and nobody else told of it. What is older is a file of its own.

// savingFor is how long a save takes at most, from when the other file was written, to when it has the name and the first is gone.
const savingFor = 10 * time.Second

// mostBegun bounds of how many files it is remembered that they were made, or renamed, here lately.
const mostBegun = 4096

// saving is what of the files of this host tells whether somebody saves. In memory alone: after a restart a rename is a rename.
type saving struct {
	begun young[sharefs.FileID] // files that were made here
	moved map[sharefs.FileID]movedFrom
}

// movedFrom is the name that a file had before it was renamed here.
type movedFrom struct {
	converge.Slot
	at time.Time
}

func newSaving() saving {
	return saving{newYoung[sharefs.FileID](), map[sharefs.FileID]movedFrom{}}
}

// began notes that a file was made here.
func (s *saving) began(id sharefs.FileID, now time.Time) {
	s.begun.add(id, now)
	s.begun.prune(now.Add(-savingFor))
	s.begun.trim(mostBegun)
}

// leaves notes what name a file had that gets another one.
func (r *Replica) leaves(e *entry, link uint64, to converge.Slot) {
	last := r.last.Get(converge.Key{File: e.id, Link: link})
	if e.typ != record.Regular || last == nil || last.Body.(*record.Place).Removed() {
		return
	}
	was, now := slotOf(last.Body.(*record.Place)), r.cfg.Now()
	if was == to {
		return
	}
	if len(r.moved) >= mostBegun {
		maps.DeleteFunc(r.moved, func(_ sharefs.FileID, m movedFrom) bool { return now.Sub(m.at) >= savingFor })
	}
	if len(r.moved) < mostBegun {
		r.moved[e.id] = movedFrom{was, now}
	}
}

// takeOver has another inode be a file from now on whose inode is no more, and reports whether it does: it has the name that the file had.
func (r *Replica) takeOver(e *entry, d sharefs.Dentry) (bool, error) {
	if e.typ != record.Regular || typeOf(d.Type) != record.Regular || e.names.Len() > 1 || len(e.loose) > 0 {
		return false, nil
	}
	if alive, err := r.links(e.ino); err != nil || alive > 0 {
		return false, err
	}
	if temp := r.inos.Get(d.Ino); temp != nil {
		if is, err := r.madeToSave(temp); err != nil || !is {
			return false, err
		}
		return true, r.goOn(e, temp)
	}
	// One that was made for a file of another host is that file, even if the account does not know it yet.
	if id, err := r.cfg.Tree.FileID(d.Ino); err != nil || r.placed[id] {
		if errors.Is(err, sharefs.KindStale) {
			err = nil
		}
		return false, err
	}
	// What the inode before held at last is a version of the file too.
	if err := r.version(e); err != nil {
		return false, err
	}
	r.rebind(e, d.Ino)
	return true, r.inode(e)
}

// takeBack has a file that is gone, a name of which is loose, go on in what was made under the name that it had before it was renamed, and reports whether it does.
func (r *Replica) takeBack(e *entry, key converge.Key) (bool, error) {
	from, ok := r.moved[e.id]
	if !ok || r.cfg.Now().Sub(from.at) >= savingFor || e.names.Len() > 0 || len(e.loose) != 1 {
		return false, nil
	}
	n, ok := r.tree.Lookup(from.Parent, from.Name)
	if !ok || n.Key.File == e.id {
		return false, nil
	}
	temp := r.files.Get(n.Key.File)
	if temp == nil {
		return false, nil
	}
	at, there := temp.names.Get(n.Key.Link)
	if is, err := r.madeToSave(temp); err != nil || !is || !there {
		return false, err
	}
	if err := r.goOn(e, temp); err != nil {
		return false, err
	}
	delete(r.moved, e.id)
	r.name(e, key.Link, at)
	r.show(e, key.Link)
	r.due[key] = true
	return true, r.say(&record.Place{File: e.id, Link: key.Link, Type: e.typ, Parent: from.Parent, Name: from.Name}, r.lastAt(key), r.lastAt(n.Key))
}

// madeToSave reports whether a file was made here lately, has one name, and nobody else told of it.
func (r *Replica) madeToSave(e *entry) (bool, error) {
	at, ok := r.begun.at[e.id]
	if !ok || r.cfg.Now().Sub(at) >= savingFor || e.typ != record.Regular || e.names.Len()+len(e.loose) != 1 {
		return false, nil
	}
	mine := func(rec *record.Record) bool { return rec == nil || rec.Author == r.cfg.Self }
	for _, id := range r.tree.Heads(e.id) {
		if !mine(r.tree.Record(id)) {
			return false, nil
		}
	}
	key := onlyName(e)
	if n, ok := r.tree.Node(key); ok && !mine(r.tree.Record(n.Attr)) || !mine(r.last.Get(key)) {
		return false, nil
	}
	links, err := r.links(e.ino)
	return links == 1, err
}

// onlyName is the name of a file that has one.
func onlyName(e *entry) converge.Key {
	for link := range e.names.Keys() {
		return converge.Key{File: e.id, Link: link}
	}
	return converge.Key{File: e.id, Link: e.loose[0]}
}

// goOn has a file go on in the inode of one that was made to save it, and writes down that that is gone.
func (r *Replica) goOn(e, temp *entry) error {
	// What the file held at last is a version of it too.
	if err := r.version(e); err != nil {
		return err
	}
	key := onlyName(temp)
	if len(temp.loose) == 0 {
		r.loosen(key)
	}
	if err := r.sayGone(temp, key); err != nil {
		return err
	}
	r.rebind(e, temp.ino)
	return r.inode(e)
}
