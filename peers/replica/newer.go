package replica

import (
	"cmp"
	"errors"
	"slices"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// A host whose records were lost may have done something last of which it told nobody who could be heard. Nobody ever said that, and the tree's own past tells when it was done: what was done after all
// that is said of the same name is written down, with that time, so that it has the place among what others did that it would have had. What was said once, by whomever, is not new,
// whenever it came here: what was said later counts. Of what a file holds the past tells which known version it came from.

// mostPast is how many of the contents that an inode held are looked at.
const mostPast = 1024

// saidAsOf has what do writes down be as old as a moment, or as what it replaces.
func (r *Replica) saidAsOf(at sharefs.HLC, do func() error) error {
	r.asOf = at
	defer func() { r.asOf = 0 }()
	return do()
}

// sayMoved writes down that a file has a name here that nobody said it to have, if it came to it after all that is known of the name that it was said to have.
func (r *Replica) sayMoved(o *once, e *entry, key converge.Key, c *came) error {
	dir := r.inos.Get(c.dir)
	for i := range o.of[key.File] {
		if n := &o.of[key.File][i]; n.Key == key && n.Slot.Name == c.Name && o.as(n.Slot.Parent) == o.as(dir.id) {
			return nil
		}
	}
	since, _, err := r.cfg.Tree.Bore(c.dir, c.Name)
	if err != nil || since <= r.lastAt(key) || isLimbo(converge.Slot{Parent: dir.id, Name: c.Name}) {
		return err
	}
	if !r.placed[dir.id] { // nobody was told of that one yet, and it cannot be younger than what is in it
		since = r.now()
	}
	return r.saidAsOf(since, func() error { return r.sayPlace(e, key, dir, c.Name) })
}

// as returns the directory as which one is shown.
func (o *once) as(id sharefs.FileID) sharefs.FileID {
	if other, ok := o.shown[id]; ok {
		return other
	}
	return id
}

// goesOn returns the name of the file that goes on in an inode of which nobody knows, and whose content nobody knows: it held once what the file was said to hold, or it was made in the place of one that
// did, as most programs save. Nil: there is none.
func (r *Replica) goesOn(o *once, c *came, to converge.Slot) (*converge.Key, error) {
	before, err := r.before(c)
	if err != nil {
		return nil, err
	}
	for i := range o.at[to] {
		key := &o.at[to][i]
		if r.files.Get(key.File) != nil {
			continue
		}
		last, err := r.heldLast(o, key.File, c.Ino)
		was := !last.IsZero()
		if err == nil && !was && before != 0 {
			was, err = r.wasFile(o, key.File, before)
		}
		if err != nil || was {
			return key, err
		}
	}
	return nil, nil
}

// passing reports whether a file was said to have names and has none any more, as one that was made for a save, and told of before it took the place of another one.
func (r *Replica) passing(o *once, id sharefs.FileID) bool {
	for i := range o.of[id] {
		if last := r.last.Get(o.of[id][i].Key); last == nil || !last.Body.(*record.Place).Removed() {
			return false
		}
	}
	return len(o.of[id]) > 0
}

// before returns the inode that had a name before what has it now, and has none any more; 0: there is none that is known.
func (r *Replica) before(c *came) (sharefs.Ino, error) {
	_, before, err := r.cfg.Tree.Bore(c.dir, c.Name)
	if err != nil || typeOf(before.Type) != record.Regular {
		return 0, err
	}
	if alive, err := r.links(before.Ino); err != nil || alive > 0 {
		return 0, err
	}
	return before.Ino, nil
}

// wasFile reports whether an inode that has no name any more was a file: by its id, or by what it held.
func (r *Replica) wasFile(o *once, file sharefs.FileID, ino sharefs.Ino) (bool, error) {
	switch id, err := r.cfg.Tree.FileID(ino); {
	case err == nil && id == file:
		return true, nil
	case errors.Is(err, sharefs.KindStale) || err == nil && r.placed[id]:
		return false, nil
	case err != nil:
		return false, err
	}
	last, err := r.heldLast(o, file, ino)
	return !last.IsZero(), err
}

// contents lists what an inode held, as far as it can be told, the oldest first.
func (r *Replica) contents(ino sharefs.Ino) (list []*record.Version, err error) {
	own, v, err := r.cfg.Tree.Latest(ino)
	if err != nil {
		return nil, err
	}
	if list, err = r.cfg.Tree.Between(ino, 0, own, mostPast); err == nil && v != nil {
		list = append(list, v)
	}
	return list, err
}

// heldLast returns the last of a file's versions that an inode held. That both were empty once tells nothing.
func (r *Replica) heldLast(o *once, file sharefs.FileID, ino sharefs.Ino) (last record.ID, err error) {
	list, err := r.contents(ino)
	for _, v := range list {
		if id := o.contents[file][v.Content()]; !id.IsZero() && v.Size > 0 {
			last = id
		}
	}
	return last, err
}

// hadLast notes which version of its file an inode holds, or which it held last, before somebody changed that here.
func (r *Replica) hadLast(o *once, e *entry, c *came) (err error) {
	if e.version, err = r.onceHeld(o, e.id, c.Ino); err != nil {
		return err
	}
	if !e.version.IsZero() {
		e.own, _, err = r.cfg.Tree.Latest(c.Ino)
	} else if e.version, err = r.heldLast(o, e.id, c.Ino); err == nil && e.version.IsZero() {
		var before sharefs.Ino
		if before, err = r.before(c); err == nil && before != 0 {
			e.version, err = r.heldLast(o, e.id, before)
		}
	}
	if err != nil || e.version.IsZero() {
		return err
	}
	r.told[e.version] = true
	r.saveEntry(e)
	return nil
}

// goneHere is a name that was said to be there and that was taken away here.
type goneHere struct {
	key   converge.Key
	typ   record.Type
	since sharefs.HLC
	saw   []record.ID
}

// alsoGone writes down names that went here after all that is known of them, and returns how many records that took.
func (r *Replica) alsoGone() (int, error) {
	said := len(r.fresh)
	o := r.lookBack()
	// Not as the tree of the records shows them: of two with one name, as where one was renamed over the other one, it shows one.
	in := map[sharefs.FileID][]*record.Record{}
	for rec := range r.last.All() {
		if p := rec.Body.(*record.Place); !p.Removed() && o.as(p.File) == p.File {
			in[o.as(p.Parent)] = append(in[o.as(p.Parent)], rec)
		}
	}
	list, err := r.goneBelow(o, in, record.Root, sharefs.RootIno)
	slices.SortStableFunc(list, func(a, b goneHere) int { return cmp.Compare(a.since, b.since) })
	for i := 0; i < len(list) && err == nil; i++ {
		a := &list[i]
		err = r.saidAsOf(a.since, func() error {
			node, _ := r.tree.Node(a.key)
			for _, key := range append([]converge.Key{a.key}, r.along(node.Merged)...) {
				if err := r.removal(key, a.typ, a.saw, r.say); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return len(r.fresh) - said, err
}

// goneBelow lists those below a directory, what is in another one before that.
func (r *Replica) goneBelow(o *once, in map[sharefs.FileID][]*record.Record, dir sharefs.FileID, ino sharefs.Ino) (list []goneHere, err error) {
	places := in[dir]
	delete(in, dir) // in no circle
	for _, rec := range places {
		p := rec.Body.(*record.Place)
		key := keyOf(rec)
		below := sharefs.Ino(0)
		if e := r.files.Get(p.File); e != nil && e.typ == record.Directory {
			below = e.ino
		}
		var gone *goneHere
		if _, here := r.nameOf(&key); !here {
			var before sharefs.Ino
			if before, gone, err = r.wentHere(o, rec, ino); err != nil {
				return nil, err
			}
			if p.Type == record.Directory && before != 0 {
				below = before
			}
		}
		if below != 0 {
			more, err := r.goneBelow(o, in, p.File, below)
			if err != nil {
				return nil, err
			}
			list = append(list, more...)
		}
		if gone != nil {
			list = append(list, *gone)
		}
	}
	return list, nil
}

// wentHere returns the inode that was here under a name that a record gives, 0 if none was, and what is to be said of that; nil: nothing.
func (r *Replica) wentHere(o *once, rec *record.Record, dir sharefs.Ino) (sharefs.Ino, *goneHere, error) {
	p := rec.Body.(*record.Place)
	since, before, err := r.cfg.Tree.Bore(dir, p.Name)
	if err != nil {
		return 0, nil, err
	}
	was, err := r.wasPlaced(o, p, before)
	if err != nil || !was {
		return 0, nil, err
	}
	if since <= rec.HLC || o.removed[keyOf(rec)] {
		return before.Ino, nil, nil
	}
	if d, there, err := r.cfg.Tree.Slot(dir, p.Name); err != nil {
		return 0, nil, err
	} else if there {
		if led, err := r.ledTo(o, p, d); err != nil || led {
			return 0, nil, err
		}
	}
	saw, err := r.heldEver(o, p, before.Ino)
	return before.Ino, &goneHere{keyOf(rec), p.Type, since, saw}, err
}

// ledTo reports whether what has a name now may have it by what is said: another one that was put there, which hides the one before, or that one itself in another inode. Of what is no regular file it
// cannot be told what it was.
func (r *Replica) ledTo(o *once, p *record.Place, d sharefs.Dentry) (bool, error) {
	if e := r.inos.Get(d.Ino); e != nil && slices.ContainsFunc(o.at[converge.Slot{Parent: p.Parent, Name: p.Name}], func(k converge.Key) bool { return k.File == e.id }) {
		return true, nil
	}
	if p.Type != record.Regular || typeOf(d.Type) != record.Regular {
		return p.Type != record.Regular, nil
	}
	held, err := r.heldLast(o, p.File, d.Ino)
	return !held.IsZero(), err
}

// wasPlaced reports whether what had a name here is the file that was put there.
func (r *Replica) wasPlaced(o *once, p *record.Place, before sharefs.Dentry) (bool, error) {
	if before.Ino == 0 || typeOf(before.Type) != p.Type {
		return false, nil
	}
	if p.Type != record.Regular {
		return r.inos.Get(before.Ino) == nil, nil
	}
	if e := r.files.Get(p.File); e != nil { // by another name
		return e.ino == before.Ino, nil
	}
	return r.wasFile(o, p.File, before.Ino)
}

// heldEver lists the versions of a file that an inode held.
func (r *Replica) heldEver(o *once, p *record.Place, ino sharefs.Ino) (ids []record.ID, err error) {
	if p.Type == record.Symlink {
		return r.tree.Heads(p.File), nil
	}
	list, err := r.contents(ino)
	for _, v := range list {
		if id := o.contents[p.File][v.Content()]; !id.IsZero() {
			ids = append(ids, id)
		}
	}
	return ids, err
}
