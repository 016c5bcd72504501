package replica

import (
	"cmp"
	"fmt"
	"slices"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// Left is a change that was not taken, and why.
type Left struct {
	Change
	Err error
}

// Accept takes those changes of an author into the live tree that wanted picks, by telling them as this host's own, so that they count wherever this host does; [Replica.Apply] does what
// follows. With a file go the directories that are not here yet and that it is put into, and what he moved or removed out of its way. Contents have to be here. It returns what was taken and
// what not, by path. The error is of the database.
func (r *Replica) Accept(d *Decision, author sharefs.PeerID, wanted func(*Change) bool) (taken []Change, left []Left, err error) {
	err = r.both(author, func(over *converge.Tree) error {
		defer r.decides(d)()
		all := compare(r.tree, over)
		a := newAcceptance(r, author, over, all)
		for i := range all {
			if wanted(&all[i]) {
				a.choose(&all[i])
			}
		}
		a.checkCircles()
		a.drop()
		if err := a.tell(); err != nil {
			return err
		}
		for i := range all {
			ch := &all[i]
			if a.chosen[ch.key] == ch {
				taken = append(taken, *ch)
			} else if err := a.bad[ch.key]; err != nil {
				left = append(left, Left{*ch, err})
			}
		}
		return r.sync()
	})
	return taken, left, err
}

// acceptance is what is taken of an author's changes.
type acceptance struct {
	r *Replica
	*comparison
	changes map[converge.Key]*Change
	latest  map[sharefs.FileID]sharefs.HLC      // of what the author says of a file
	removed map[sharefs.FileID][]*record.Record // by the author, that wait

	chosen map[converge.Key]*Change
	parent map[converge.Key]sharefs.FileID // where those go that get another place
	slots  map[converge.Slot]converge.Key
	needs  map[converge.Key][]converge.Key // what has to be taken with them
	bad    map[converge.Key]error
}

func newAcceptance(r *Replica, author sharefs.PeerID, over *converge.Tree, all []Change) *acceptance {
	a := &acceptance{r: r, comparison: newComparison(r.tree, over), changes: map[converge.Key]*Change{}, latest: map[sharefs.FileID]sharefs.HLC{}, removed: map[sharefs.FileID][]*record.Record{},
		chosen: map[converge.Key]*Change{}, parent: map[converge.Key]sharefs.FileID{}, slots: map[converge.Slot]converge.Key{}, needs: map[converge.Key][]converge.Key{}, bad: map[converge.Key]error{}}
	for i := range all {
		a.changes[all[i].key] = &all[i]
	}
	for id, s := range r.aside[author] {
		if rec := r.tree.Record(id); s.waits() {
			file := fileOf(rec)
			a.latest[file] = max(a.latest[file], rec.HLC)
			if p, ok := rec.Body.(*record.Place); ok && p.Removed() && p.Type != record.Directory {
				a.removed[file] = append(a.removed[file], rec)
			}
		}
	}
	return a
}

func (a *acceptance) refuse(ch *Change, kind sharefs.Kind, detail string) {
	a.bad[ch.key] = &sharefs.Error{Op: "accept", Path: ch.Path, Kind: kind, Detail: detail}
}

// choose has a change be taken, with what it needs.
func (a *acceptance) choose(ch *Change) {
	if a.chosen[ch.key] != nil || a.bad[ch.key] != nil {
		return
	}
	a.chosen[ch.key] = ch
	if err := a.content(ch); err != nil {
		a.bad[ch.key] = err
		return
	}
	if !ch.Added && !ch.Moved {
		return
	}
	dir, ok := a.here(ch.node.Parent)
	if !ok {
		up := a.changes[converge.Key{File: dir}]
		if up == nil {
			a.refuse(ch, sharefs.KindNotExist, "the directory that it is put into is not here")
			return
		}
		a.need(ch, up)
	}
	a.parent[ch.key] = dir
	to := converge.Slot{Parent: dir, Name: ch.node.Name}
	if key, taken := a.slots[to]; taken && (ch.Type != record.Directory || a.changes[key].Type != record.Directory) {
		a.refuse(ch, sharefs.KindExist, "something else has the name, which is taken too: rename that first")
		return
	}
	a.slots[to] = ch.key
	for _, x := range ch.node.Conflicts { // a file of here, in a directory that is one with the author's only then
		if b, here := a.base.Node(x.Key); here && x.Key != ch.key && b.Type != ch.Type {
			a.refuse(ch, sharefs.KindExist, "something else has the name here: rename or remove that first")
			return
		}
	}
	b, taken := a.base.Lookup(dir, ch.node.Name)
	if !taken || b.Key == ch.key || b.Type == record.Directory && ch.Type == record.Directory {
		return
	}
	if other := a.changes[b.Key]; other != nil && (other.Removed || other.Moved) {
		a.need(ch, other)
		return
	}
	a.refuse(ch, sharefs.KindExist, "something else has the name here: rename or remove that first")
}

func (a *acceptance) need(ch, other *Change) {
	a.needs[ch.key] = append(a.needs[ch.key], other.key)
	a.choose(other)
}

// content says why the content of a change cannot be taken.
func (a *acceptance) content(ch *Change) error {
	if !ch.Content() {
		return nil
	}
	heads := a.base.Heads(ch.key.File)
	if slices.Contains(heads, ch.from) {
		return nil
	}
	if len(heads) >= record.MaxParents {
		return &sharefs.Error{Op: "accept", Path: ch.Path, Kind: sharefs.KindInvalid, Detail: fmt.Sprintf("%d versions of it are in conflict: resolve that first", len(heads))}
	}
	v := ch.Proposed.Body.(*record.Version)
	if v.Type() == record.Symlink {
		return nil
	}
	if v.Key != (sharefs.KeyID{}) && !a.r.cfg.Keys.Has(v.Key) {
		return &sharefs.Error{Op: "accept", Path: ch.Path, Kind: sharefs.KindAccess, Detail: "the share key of its content has not come yet"}
	}
	ok, err := a.r.cfg.Tree.Here(v)
	if err == nil && !ok {
		err = &sharefs.Error{Op: "accept", Path: ch.Path, Kind: sharefs.KindUnreachable, Detail: "its content is not here, and no peer that is connected sends it"}
	}
	return err
}

// up returns the directory that one will be in.
func (a *acceptance) up(dir sharefs.FileID) (sharefs.FileID, bool) {
	key := converge.Key{File: dir}
	if a.chosen[key] != nil {
		if id, ok := a.parent[key]; ok {
			return id, true
		}
	}
	n, ok := a.base.Node(key)
	return n.Parent, ok
}

// depth returns how deep below the root a directory will be; ok is false where it would lie in itself.
func (a *acceptance) depth(dir sharefs.FileID) (n int, ok bool) {
	for seen := map[sharefs.FileID]bool{}; dir != record.Root; n++ {
		up, there := a.up(dir)
		if !there || seen[dir] {
			return n, false
		}
		seen[dir], dir = true, up
	}
	return n, true
}

// checkCircles refuses directories that would come to lie in themselves, because the author moved another one first that is not chosen.
func (a *acceptance) checkCircles() {
	for key, dir := range a.parent {
		if a.bad[key] != nil {
			continue
		}
		if _, ok := a.depth(dir); !ok {
			a.refuse(a.chosen[key], sharefs.KindInvalid, "it would lie in itself: take what else is moved with it")
		}
	}
}

// drop gives up what needs something that cannot be taken.
func (a *acceptance) drop() {
	for again := true; again; {
		again = false
		for key, ch := range a.chosen {
			for _, other := range a.needs[key] {
				if a.bad[other] != nil && a.bad[key] == nil {
					a.refuse(ch, sharefs.KindOf(a.bad[other]), "it needs "+a.changes[other].Path+", which cannot be taken")
					again = true
				}
			}
		}
	}
	for key := range a.bad {
		delete(a.chosen, key)
	}
}

// tell writes down what was chosen: places first, each directory after those above it, then what the files are, then what is gone, the deepest first.
func (a *acceptance) tell() error {
	type placed struct {
		*Change
		depth int
	}
	var list []placed
	for key, ch := range a.chosen {
		dir, ok := a.parent[key]
		if ch.Removed {
			n, _ := a.base.Node(key)
			dir, ok = n.Parent, true
		}
		d := 0
		if ok {
			d, _ = a.depth(dir)
		}
		list = append(list, placed{ch, d})
	}
	slices.SortFunc(list, func(x, y placed) int { return cmp.Or(cmp.Compare(x.depth, y.depth), x.key.Compare(y.key)) })
	before := map[converge.Key]converge.Node{} // for what is told changes the tree at once
	for _, p := range list {
		before[p.key], _ = a.base.Node(p.key)
	}
	for _, p := range list {
		if err := a.place(p.Change, before[p.key].Merged); err != nil {
			return err
		}
	}
	for _, p := range list {
		if err := a.describe(p.Change); err != nil {
			return err
		}
	}
	for _, p := range slices.Backward(list) {
		if n := before[p.key]; p.Removed {
			if err := a.remove(&n); err != nil {
				return err
			}
		}
	}
	return nil
}

// along lists those of some directories that go where another one goes with which they are one here: all but those that the author has elsewhere.
func (a *acceptance) along(merged []sharefs.FileID, with sharefs.FileID) (keys []converge.Key) {
	for _, id := range merged {
		as := a.shownAs(id)
		if _, there := a.over.Node(converge.Key{File: as}); !there || as == with {
			keys = append(keys, converge.Key{File: id})
		}
	}
	return keys
}

// place tells where something is, and with it the directories that are one with it here.
func (a *acceptance) place(ch *Change, merged []sharefs.FileID) error {
	dir, ok := a.parent[ch.key]
	if !ok {
		return nil
	}
	keys := append([]converge.Key{ch.key}, a.along(merged, ch.node.Key.File)...)
	r := a.r
	var above []sharefs.HLC
	if ch.Type == record.Directory {
		for at := dir; at != record.Root; {
			n, ok := r.tree.Node(converge.Key{File: at})
			if !ok {
				break
			}
			above = append(above, r.lastAt(n.Key))
			for _, id := range n.Merged {
				above = append(above, r.lastAt(converge.Key{File: id}))
			}
			at = n.Parent
		}
	}
	for _, key := range keys {
		before := append(slices.Clone(above), r.lastAt(key), a.latest[key.File])
		if err := r.say(&record.Place{File: key.File, Link: key.Link, Type: ch.Type, Parent: dir, Name: ch.node.Name}, before...); err != nil {
			return err
		}
	}
	return nil
}

// describe tells attributes and content of something.
func (a *acceptance) describe(ch *Change) error {
	r, file := a.r, ch.key.File
	b, _ := r.tree.Node(ch.key)
	attr, timed := unlike(r.tree, a.over, &b, &ch.node, ch.Content())
	if rec := a.over.Record(ch.node.Attr); rec != nil && (ch.Attr || ch.Timed || ch.Added) && (attr || timed) {
		files := []sharefs.FileID{file}
		if ch.joined() { // on each host another one of the two may be the one that is shown
			files = append(files, ch.node.Key.File)
		}
		for _, file := range files {
			attr := *rec.Body.(*record.Attr)
			attr.File = file
			before := []sharefs.HLC{r.attrs[file], a.latest[file]}
			if attr.HasMtime {
				at, ok := record.Mtime(a.over.Record(ch.node.Live), rec)
				live := ch.Live
				if ch.Content() { // which is told with its time
					live, ok = nil, false
				}
				setTime(&attr, at, ok, live)
				if live != nil {
					before = append(before, live.HLC)
				}
			}
			if err := r.say(&attr, before...); err != nil {
				return err
			}
		}
	}
	if !ch.Content() {
		return nil
	}
	v := *ch.Proposed.Body.(*record.Version)
	v.Mtime = timeIn(a.over, ch.Proposed)
	other := v.File
	v.File, v.Parents = file, slices.Clone(a.base.Heads(file))
	if slices.Contains(v.Parents, ch.from) {
		return nil
	}
	if other == file {
		v.Parents = append(v.Parents, ch.from)
	}
	slices.SortFunc(v.Parents, record.ID.Compare)
	if err := r.say(&v, append(r.times(v.Parents), a.latest[file], r.attrs[file])...); err != nil || other == file {
		return err
	}
	// He made a file of his own under the name that one has here: it is a part of that one now.
	key := ch.node.Key
	for _, c := range ch.node.Conflicts {
		if c.Version == ch.from {
			key = c.Key
		}
	}
	// What he removed of it, and is not here, was seen too, or he would have that again.
	aside := slices.DeleteFunc(slices.Clone(a.removed[key.File]), func(rec *record.Record) bool {
		_, here := a.base.Node(keyOf(rec))
		return here
	})
	return a.gone(key, ch.Type, a.over.Heads(key.File), aside...)
}

// remove tells that a name is gone.
func (a *acceptance) remove(n *converge.Node) error {
	for _, key := range append([]converge.Key{n.Key}, a.along(n.Merged, n.Key.File)...) {
		if err := a.gone(key, n.Type, a.base.Heads(key.File)); err != nil {
			return err
		}
	}
	return nil
}

// gone tells that a name is removed.
func (a *acceptance) gone(key converge.Key, typ record.Type, versions []record.ID, aside ...*record.Record) error {
	return a.r.removal(key, typ, versions, func(p record.Body, before ...sharefs.HLC) error {
		return a.r.say(p, append(before, a.latest[key.File])...)
	}, aside...)
}

// Refuse decides against those changes of an author that wanted picks: they are not shown any more until he says more of the same files. What is held is not decided by it. It
// returns what was decided against, by path. The error is of the database.
func (r *Replica) Refuse(author sharefs.PeerID, wanted func(*Change) bool) (refused []Change, err error) {
	err = r.both(author, func(over *converge.Tree) error {
		files := map[sharefs.FileID][]int{}
		all := compare(r.tree, over)
		for i := range all {
			if ch := &all[i]; wanted(ch) {
				files[ch.key.File] = append(files[ch.key.File], i)
				if id := ch.node.Key.File; !ch.Removed && id != ch.key.File {
					files[id] = append(files[id], i)
				}
				if ch.Content() {
					if id := fileOf(ch.Proposed); id != ch.key.File && id != ch.node.Key.File {
						files[id] = append(files[id], i)
					}
				}
			}
		}
		var ids []record.ID
		done := map[int]bool{}
		for id, s := range r.aside[author] {
			if at, ok := files[fileOf(r.tree.Record(id))]; ok && s == Proposed {
				ids = append(ids, id)
				for _, i := range at {
					done[i] = true
				}
			}
		}
		r.decide(Refused, ids...)
		for i := range all {
			if done[i] {
				refused = append(refused, all[i])
			}
		}
		return r.sync()
	})
	return refused, err
}

// ProposedAt returns the version that an author proposes for the file of a path, in the live tree or his own; nil: none.
func (r *Replica) ProposedAt(author sharefs.PeerID, path string) (rec *record.Record, err error) {
	err = r.both(author, func(over *converge.Tree) error {
		if over == r.tree {
			return nil
		}
		c := comparison{base: r.tree, over: over}
		b, here := lookup(r.tree, path)
		o, there := over.Node(b.Key)
		if !here || !there {
			o, there = lookup(over, path)
		}
		switch {
		case !there || o.Type == record.Directory:
		case here:
			if id, ok := c.news(&b, &o); ok {
				rec = over.Record(id)
			}
		default:
			rec = over.Record(o.Live)
		}
		return nil
	})
	return rec, err
}
