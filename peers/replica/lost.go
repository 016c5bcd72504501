package replica

import (
	"errors"
	"slices"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// A database that was lost is made anew from what peers tell, and from the tree; but not from the tree alone: what others removed or moved meanwhile is still where it was here, and
// to write that down as new would bring it back. So the author waits until a peer has been heard, and then takes a name for what it was said to be once, by whomever: what was
// said of it later happens here, too. What nobody ever said is new: newer than what is said of the same file if it was done here after that (newer.go).

// Lost reports whether the database was lost and no peer has been heard since. Then Author writes nothing down, and says so.
func (r *Replica) Lost() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost && !r.heard
}

// Heard says that a peer has told all that it knows, or that there is none to be heard.
func (r *Replica) Heard() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard, r.once = true, nil
}

// once is what was said of files, at any time.
type once struct {
	at       map[converge.Slot][]converge.Key // the last one first
	of       map[sharefs.FileID][]converge.Node
	contents map[sharefs.FileID]map[string]record.ID
	attrs    map[sharefs.FileID][]record.ID
	removed  map[converge.Key]bool
	shown    map[sharefs.FileID]sharefs.FileID // a directory that became one with another one → that one
}

// lookBack looks through all records.
func (r *Replica) lookBack() *once {
	if r.once != nil {
		return r.once
	}
	o := &once{map[converge.Slot][]converge.Key{}, map[sharefs.FileID][]converge.Node{}, map[sharefs.FileID]map[string]record.ID{}, map[sharefs.FileID][]record.ID{},
		map[converge.Key]bool{}, map[sharefs.FileID]sharefs.FileID{}}
	r.tree.Nodes(func(n converge.Node) {
		for _, id := range n.Merged {
			o.shown[id] = n.Key.File
		}
	})
	var places []*record.Record
	r.tree.Inputs(func(i converge.Input) {
		switch b := i.Record.Body.(type) {
		case *record.Place:
			if b.Removed() {
				o.removed[converge.Key{File: b.File, Link: b.Link}] = true
			} else if i.Standing == converge.Merged {
				places = append(places, i.Record)
			}
		case *record.Attr:
			o.attrs[b.File] = append(o.attrs[b.File], i.Record.ID())
		case *record.Version:
			if o.contents[b.File] == nil {
				o.contents[b.File] = map[string]record.ID{}
			}
			// Of several versions with one content the last one: it has those before it behind it.
			if old := r.tree.Record(o.contents[b.File][b.Content()]); old == nil || old.Order().Compare(i.Record.Order()) < 0 {
				o.contents[b.File][b.Content()] = i.Record.ID()
			}
		}
	})
	slices.SortFunc(places, func(a, b *record.Record) int { return b.Order().Compare(a.Order()) })
	for _, rec := range places {
		p := rec.Body.(*record.Place)
		at := converge.Slot{Parent: p.Parent, Name: p.Name}
		key := converge.Key{File: p.File, Link: p.Link}
		if !slices.Contains(o.at[at], key) {
			o.at[at] = append(o.at[at], key)
		}
		o.of[p.File] = append(o.of[p.File], converge.Node{Key: key, Slot: at})
	}
	r.once = o
	return o
}

// wasThere takes a name that the account does not have for one that somebody once said to be there, and reports whether there is one: that of the same file, or of one that nobody has
// here and that once held what this inode holds, for a file goes on in another inode where it was saved by another one renamed over it.
func (r *Replica) wasThere(c *came, to converge.Slot) (bool, error) {
	typ := typeOf(c.Type)
	e := r.inos.Get(c.Ino)
	id, err := r.cfg.Tree.FileID(c.Ino)
	if errors.Is(err, sharefs.KindStale) {
		return true, nil // gone, which is told of
	}
	if err != nil {
		return false, err
	}
	o := r.lookBack()
	var same, like *converge.Key
	// What is there by all that is known may be in another inode than its own: as directories are that became one, and files that were saved.
	if n, ok := r.tree.Lookup(to.Parent, to.Name); ok && e == nil && r.files.Get(n.Key.File) == nil && n.Type == typ {
		if typ == record.Directory {
			if !r.placed[id] || slices.Contains(n.Merged, id) {
				like = &n.Key
			}
		} else if held, err := r.onceHeld(o, n.Key.File, c.Ino); err != nil {
			return false, err
		} else if !held.IsZero() {
			like = &n.Key
		}
	}
	for i := range o.at[to] {
		if like != nil && i == 0 {
			same = like
			break
		}
		key := &o.at[to][i]
		has := r.files.Get(key.File)
		switch {
		case e != nil && has == e, e == nil && has == nil && key.File == id:
			if _, used := r.nameOf(key); !used && same == nil {
				same = key
			}
		case e == nil && has == nil && like == nil && typ == record.Regular && !r.placed[id]:
			if held, err := r.onceHeld(o, key.File, c.Ino); err != nil {
				return false, err
			} else if !held.IsZero() {
				like = key
			}
		}
	}
	if same == nil {
		same = like
	}
	if same == nil && e == nil && typ == record.Regular && (!r.placed[id] || r.passing(o, id)) {
		if same, err = r.goesOn(o, c, to); err != nil {
			return false, err
		}
	}
	moved := same == nil
	if moved { // somewhere else, as below a directory that became one with the one that has the name now
		if same, err = r.unused(o, e, id, c); err != nil {
			return false, err
		}
	}
	if same == nil {
		return false, nil
	}
	if last := r.last.Get(*same); last != nil && last.Body.(*record.Place).Type != typ {
		return false, nil
	}
	fresh := e == nil
	if fresh {
		e = r.bind(same.File, c.Ino, typ)
	}
	r.name(e, same.Link, spot{c.slot, c.Name})
	r.show(e, same.Link)
	r.due[*same] = true
	if moved {
		if err := r.sayMoved(o, e, *same, c); err != nil {
			return false, err
		}
	}
	if !fresh {
		return true, nil
	}
	if typ == record.Regular {
		if err := r.hadLast(o, e, c); err != nil {
			return false, err
		}
	}
	return true, r.wasLike(o, e, to)
}

// unused returns one of the names that a file was said to have, and has not here: the one of that text if there is one; nil: it has all.
func (r *Replica) unused(o *once, e *entry, id sharefs.FileID, c *came) (found *converge.Key, err error) {
	if e == nil && r.files.Get(id) != nil { // another inode has become that file
		return nil, nil
	}
	if e != nil {
		id = e.id
	}
	for i := range o.of[id] {
		n := &o.of[id][i]
		if _, used := r.nameOf(&n.Key); used || found != nil && n.Slot.Name != c.Name {
			continue
		}
		if dir := r.files.Get(n.Slot.Parent); dir != nil && (dir.ino != c.dir || n.Slot.Name != c.Name) {
			if d, there, err := r.cfg.Tree.Slot(dir.ino, n.Slot.Name); err != nil {
				return nil, err
			} else if there && d.Ino == c.Ino { // which that is
				continue
			}
		}
		if found = &n.Key; n.Slot.Name == c.Name {
			break
		}
	}
	return found, nil
}

// wasLike takes an inode for what its file was once said to be like, and writes down what nobody said.
func (r *Replica) wasLike(o *once, e *entry, at converge.Slot) error {
	a, err := r.cfg.Tree.Getattr(e.ino)
	if err != nil {
		if errors.Is(err, sharefs.KindStale) {
			err = nil
		}
		return err
	}
	now, err := r.like(e, a.Mode)
	if err != nil {
		return err
	}
	said := slices.Clone(o.attrs[e.id])
	if e.typ == record.Directory { // and of those that became one with it
		for _, key := range o.at[at] {
			said = append(said, o.attrs[key.File]...)
		}
	}
	if i := slices.IndexFunc(said, func(id record.ID) bool { return r.hasAttr(e, id, now) }); i >= 0 {
		e.attr = said[i]
		r.saveEntry(e)
	}
	return r.inodeUnless(e, r.leads)
}

// nameOf returns where the account has a name.
func (r *Replica) nameOf(key *converge.Key) (spot, bool) {
	if e := r.files.Get(key.File); e != nil {
		s, ok := e.names.Get(key.Link)
		return s, ok
	}
	return spot{}, false
}

// onceHeld returns the version of a file that holds what an inode holds; zero where there is none.
func (r *Replica) onceHeld(o *once, id sharefs.FileID, ino sharefs.Ino) (record.ID, error) {
	_, v, err := r.cfg.Tree.Latest(ino)
	if err != nil || v == nil {
		return record.ID{}, err
	}
	return o.contents[id][v.Content()], nil
}
