package replica

import (
	"fmt"
	"maps"
	"slices"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// Conflict is a name of which several versions wait for a choice.
type Conflict struct {
	Path string // from the root, without a slash before it
	// Live is the version that is shown; nil of a directory, and of a file whose version has not come.
	Live *record.Record
	// Others are the versions beside it, ranked, of the same file or of others that have the same name. The record is nil where none has come of such a file.
	Others []Other
}

// Other is a version that is not shown.
type Other struct {
	File    sharefs.FileID
	Version *record.Record
}

// Conflicts lists up to some conflicts by path, those after a path.
func (r *Replica) Conflicts(after string, most int) (list []Conflict, err error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	found := map[string]converge.Key{}
	for key := range r.contest {
		n, _ := r.tree.Node(key)
		if path, ok := r.path(&n); ok && path > after {
			found[path] = key
		}
	}
	paths := slices.Sorted(maps.Keys(found))
	for _, path := range paths[:min(most, len(paths))] {
		n, _ := r.tree.Node(found[path])
		list = append(list, r.conflict(path, &n))
		r.toldOf(&n)
	}
	return list, nil
}

// ConflictAt returns the conflict of a path; ok is false where there is none.
func (r *Replica) ConflictAt(path string) (c Conflict, ok bool, err error) {
	if err := r.enter(); err != nil {
		return c, false, err
	}
	defer r.mu.Unlock()
	n, ok := r.lookup(path)
	if !ok || len(n.Conflicts) == 0 {
		return c, false, nil
	}
	r.toldOf(&n)
	return r.conflict(path, &n), true, nil
}

// PathOf returns where a name in a directory of the tree is for the records, whether they know the name or not; ok is false where they do not know the directory.
func (r *Replica) PathOf(dir sharefs.Ino, name string) (path string, ok bool, err error) {
	if err := r.enter(); err != nil {
		return "", false, err
	}
	defer r.mu.Unlock()
	e := r.inos.Get(dir)
	if e == nil {
		return "", false, nil
	}
	path, ok = r.path(&converge.Node{Slot: converge.Slot{Parent: e.id, Name: name}})
	return path, ok, nil
}

func (r *Replica) conflict(path string, n *converge.Node) Conflict {
	c := Conflict{Path: path, Live: r.tree.Record(n.Live)}
	for _, o := range n.Conflicts {
		c.Others = append(c.Others, Other{File: o.Key.File, Version: r.tree.Record(o.Version)})
	}
	return c
}

// Bases returns for each of the other versions of a conflict those from which it and the ones named before it went apart, the nearest first; none of a file that has only the
// name in common.
func (r *Replica) Bases(c *Conflict) ([][]*record.Record, error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	list := make([][]*record.Record, len(c.Others))
	before := []*record.Record{c.Live}
	for i := range c.Others {
		v := c.Others[i].Version
		list[i] = r.bases(before, v)
		before = append(before, v)
	}
	return list, nil
}

// mostBehind bounds how many versions are gone through to find where some went apart, mostBases how many such are named.
const (
	mostBehind = 10_000
	mostBases  = 16
)

// bases lists versions from which some version and one of others come, the latest first. What replaces something is later than it, so those are gone through the latest first, and the first
// that both sides lead to is behind no other.
func (r *Replica) bases(others []*record.Record, rec *record.Record) (list []*record.Record) {
	const (
		ofOthers = 1 << iota
		ofRec
		ofBoth = ofOthers | ofRec
	)
	side := map[record.ID]uint8{}
	var todo []*record.Record // the earliest first
	add := func(v *record.Record, of uint8) {
		if v == nil || side[v.ID()]|of == side[v.ID()] {
			return
		}
		side[v.ID()] |= of
		if i, there := slices.BinarySearchFunc(todo, v, func(a, b *record.Record) int { return a.Order().Compare(b.Order()) }); !there {
			todo = slices.Insert(todo, i, v)
		}
	}
	for _, v := range others {
		add(v, ofOthers)
	}
	add(rec, ofRec)
	for n := 0; len(todo) > 0 && n < mostBehind && len(list) < mostBases; n++ {
		v := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if side[v.ID()] == ofBoth {
			list = append(list, v)
		}
		for _, id := range v.Body.(*record.Version).Parents {
			if up := r.tree.Record(id); up != nil && up.Body.Kind() == record.KindVersion { // an author can name anything
				add(up, side[v.ID()])
			}
		}
	}
	return list
}

// path returns where a name is in the tree that the records make.
func (r *Replica) path(n *converge.Node) (string, bool) { return pathIn(r.tree, n) }

// Resolve ends a conflict: one of its versions is to be live, and the others count as seen, or those alone that of names, where it names any. It writes that
// down; [Replica.Apply] does it. Errors: KindNotExist: the name is in no conflict, or the version is none of it; KindInvalid: more versions than can be resolved at once, or
// one that has not come.
func (r *Replica) Resolve(d *Decision, path string, take record.ID, of ...record.ID) error {
	const op = "resolve"
	if err := r.enter(); err != nil {
		return err
	}
	defer r.mu.Unlock()
	defer r.decides(d)()
	n, ok := r.lookup(path)
	if !ok || len(n.Conflicts) == 0 {
		return &sharefs.Error{Op: op, Path: path, Kind: sharefs.KindNotExist, Detail: "it has no conflict"}
	}
	rec := r.tree.Record(take)
	if take != n.Live && !slices.ContainsFunc(n.Conflicts, func(c converge.Conflict) bool { return c.Version == take }) || rec == nil {
		return &sharefs.Error{Op: op, Path: path, Kind: sharefs.KindNotExist, Detail: "that version is no part of the conflict"}
	}
	chosen := rec.Body.(*record.Version)
	if n.Type == record.Directory || n.Type != chosen.Type() {
		return &sharefs.Error{Op: op, Path: path, Kind: sharefs.KindInvalid, Detail: "a directory and a file, or a file and a symlink, have the name: rename or remove one of them"}
	}
	seen := func(record.ID) bool { return true }
	if len(of) > 0 {
		seen = r.sameAs(append(slices.Clip(of), take))
	}
	if err := r.choose(path, &n, rec, seen); err != nil {
		return err
	}
	return r.sync()
}

// sameAs tells which versions hold what one of some holds: of several that do, one stands for all in a conflict.
func (r *Replica) sameAs(ids []record.ID) func(record.ID) bool {
	contents := map[string]bool{}
	content := func(id record.ID) (holds string) {
		if rec := r.tree.Record(id); rec != nil {
			if v, ok := rec.Body.(*record.Version); ok {
				holds = v.Content()
			}
		}
		return holds
	}
	for _, id := range ids {
		contents[content(id)] = true
	}
	return func(id record.ID) bool { return contents[content(id)] }
}

// choose writes down that a content is that of a name, with those heads of its file as parents that count as seen, and that the other files that have the name, of which all heads
// do, are removed from it.
func (r *Replica) choose(path string, n *converge.Node, chosen *record.Record, seen func(record.ID) bool) error {
	unseen := func(id record.ID) bool { return !seen(id) }
	v := *chosen.Body.(*record.Version)
	v.Mtime = timeIn(r.tree, chosen)
	v.File, v.Parents = n.Key.File, slices.DeleteFunc(slices.Clone(r.tree.Heads(n.Key.File)), unseen)
	if len(v.Parents) > record.MaxParents {
		return &sharefs.Error{Op: "resolve", Path: path, Kind: sharefs.KindInvalid, Detail: fmt.Sprintf("%d versions, at most %d can be resolved at once: write to the file first", len(v.Parents), record.MaxParents)}
	}
	v.Parents = r.cover(v.Parents, record.MaxParents)
	if err := r.say(&v, append(r.times(v.Parents), r.attrs[v.File])...); err != nil {
		return err
	}
	done := map[converge.Key]bool{n.Key: true}
	for _, c := range n.Conflicts {
		heads := slices.Clone(r.tree.Heads(c.Key.File))
		if done[c.Key] || c.Key.File == n.Key.File || slices.ContainsFunc(heads, unseen) {
			continue
		}
		done[c.Key] = true
		typ := record.Regular
		if last := r.last.Get(c.Key); last != nil {
			typ = last.Body.(*record.Place).Type
		}
		if err := r.removal(c.Key, typ, heads, r.say); err != nil {
			return err
		}
	}
	return nil
}

// times returns those of some records.
func (r *Replica) times(ids []record.ID) (all []sharefs.HLC) {
	for _, id := range ids {
		all = append(all, r.tree.Record(id).HLC)
	}
	return all
}

// lookup finds a path in the tree that the records make.
func (r *Replica) lookup(path string) (converge.Node, bool) { return lookup(r.tree, path) }
