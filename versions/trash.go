package versions

import (
	"cmp"
	"encoding/binary"
	"maps"
	"math"
	"slices"
	"time"

	"sharefs"
	"sharefs/versions/kv"
)

// Trashed is something that was removed and that nothing has replaced under its name at once. A directory that was removed with all that it held is one.
//
// On disk (space trash): key 8 bytes the moment before the operation that removed it, all bits flipped, and 8 bytes the inode, big
// endian; value 1 byte format, 1; uvarints parent, uid of whoever removed it; then the name.
type Trashed struct {
	Before sharefs.HLC // ViewAt shows it there
	Ino    sharefs.Ino
	Parent sharefs.Ino // the directory that it lay in
	Name   string
	By     uint32 // the user who removed it
}

const trashFormat = 1

func trashKey(before sharefs.HLC, ino sharefs.Ino) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 16), math.MaxUint64-uint64(before))
	return binary.BigEndian.AppendUint64(b, uint64(ino))
}

func (r *Trashed) put(b *kv.Batch) {
	v := []byte{trashFormat}
	v = binary.AppendUvarint(v, uint64(r.Parent))
	v = binary.AppendUvarint(v, uint64(r.By))
	b.Put(spaceTrash, trashKey(r.Before, r.Ino), append(v, r.Name...))
}

func decodeTrashed(key, value []byte) (r Trashed, err error) {
	d := decoder{b: value}
	if len(key) != 16 || d.byte() != trashFormat {
		return r, corrupt("a row of the trash", 0)
	}
	r.Before = sharefs.HLC(math.MaxUint64 - binary.BigEndian.Uint64(key))
	r.Ino = sharefs.Ino(binary.BigEndian.Uint64(key[8:]))
	r.Parent, r.By = sharefs.Ino(d.uvarint()), d.uint32()
	r.Name = string(d.b)
	if d.bad || r.Name == "" || len(r.Name) > sharefs.NameMax {
		return r, corrupt("a row of the trash", r.Ino)
	}
	return r, nil
}

// trashOf returns what the changes of an operation leave in the trash: what it removed that was there before it, from directories that are there still, and
// did not replace. With a name it looks at that alone.
func (t *Tree) trashOf(o *Operation, changes []OpChange, taken map[sharefs.Ino]bool, only string) (rows []Trashed, err error) {
	type name struct {
		parent sharefs.Ino
		name   string
	}
	before, replaced := t.db.At(o.ID), map[name]bool{}
	for _, c := range changes {
		if only != "" && c.Name != only {
			continue
		}
		if c.Verb.gives() {
			replaced[name{c.Parent, c.Name}] = true
		}
	}
	for _, c := range changes {
		if c.Verb != OpRemoved || only != "" && c.Name != only || replaced[name{c.Parent, c.Name}] || sharefs.IsLimbo(c.Parent, c.Name) {
			continue
		}
		if dir, err := t.row(c.Parent); err != nil || dir.nlink == 0 {
			continue
		}
		was, err := t.findDent(before, c.Parent, c.Name)
		if err != nil {
			return nil, err
		}
		if !was.found() || taken[was.ino] {
			continue
		}
		if r, err := t.row(was.ino); err == nil && r.nlink > 0 {
			continue // it lives on under another name
		}
		rows = append(rows, Trashed{Before: o.ID, Ino: was.ino, Parent: c.Parent, Name: c.Name, By: o.UID})
	}
	return rows, nil
}

// Trash calls fn for what was removed, the latest first, until it returns false. What was brought back since may be among it.
// With a name it is what bore that alone, which takes some microseconds, and a fraction of one for each row of the trash when something has come into it since.
func (t *Tree) Trash(name string, fn func(Trashed) bool) error {
	if !t.cfg.ReadOnly && !t.closed.Load() {
		if err := t.ops.endIdle(time.Now()); err != nil {
			return err
		}
	}
	fresh, working, err := t.freshTrash(name)
	if err != nil {
		return err
	}
	for _, r := range fresh {
		if !fn(r) {
			return nil
		}
	}
	if name != "" {
		rows, ok, err := t.ops.trash.find(t, name)
		if err != nil {
			return err
		}
		if ok {
			return t.trashRows(rows, working, fn)
		}
	}
	return t.scanTrash(func(r Trashed) bool { return name != "" && r.Name != name || working[r.Before] || fn(r) })
}

// scanTrash calls fn for all rows, the latest first, until it returns false.
func (t *Tree) scanTrash(fn func(Trashed) bool) error {
	var bad error
	err := t.db.Scan(spaceTrash, nil, nil, func(key, value []byte) bool {
		var r Trashed
		r, bad = decodeTrashed(key, value)
		return bad == nil && fn(r)
	})
	if err == nil {
		err = bad
	}
	return failed("read the trash", err)
}

// trashRows calls fn for those of some rows that are there still.
func (t *Tree) trashRows(rows []trashRow, working map[sharefs.HLC]bool, fn func(Trashed) bool) error {
	for _, k := range rows {
		if working[k.before] {
			continue
		}
		key := trashKey(k.before, k.ino)
		value, ok, err := t.db.Get(spaceTrash, key)
		if err != nil {
			return failed("read the trash", err)
		}
		if !ok {
			continue
		}
		r, err := decodeTrashed(key, value)
		if err != nil || !fn(r) {
			return err
		}
	}
	return nil
}

// freshTrash is what operations that go on have removed up to now, the latest first, and which operations these are.
func (t *Tree) freshTrash(name string) (rows []Trashed, working map[sharefs.HLC]bool, err error) {
	type removals struct {
		of      Operation
		changes []OpChange
		taken   map[sharefs.Ino]bool
	}
	var all []removals
	working = map[sharefs.HLC]bool{}
	o := &t.ops
	o.mu.Lock()
	for p := range o.all {
		working[p.ID] = true
		r := removals{of: p.Operation, taken: maps.Clone(p.untrashed)}
		for _, c := range p.changes {
			if c.Verb.ofName() && (name == "" || c.Name == name) {
				r.changes = append(r.changes, c)
			}
		}
		all = append(all, r)
	}
	o.mu.Unlock()
	slices.SortFunc(all, func(a, b removals) int { return cmp.Compare(b.of.ID, a.of.ID) })
	for i := range all {
		some, err := t.trashOf(&all[i].of, all[i].changes, all[i].taken, name)
		if err != nil {
			return nil, nil, err
		}
		rows = append(rows, some...)
	}
	return rows, working, nil
}

// Untrash takes something out of the trash, for it was brought back or nobody wants to see it there any more. Its history stays.
func (t *Tree) Untrash(before sharefs.HLC, ino sharefs.Ino) error {
	if err := t.writable("untrash"); err != nil {
		return err
	}
	t.ops.ends.Lock()
	defer t.ops.ends.Unlock()
	t.ops.mu.Lock()
	for p := range t.ops.all {
		if p.ID == before {
			p.untrashed[ino] = true
		}
	}
	t.ops.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	key := trashKey(before, ino)
	value, ok, err := t.db.Get(spaceTrash, key)
	if err != nil || !ok {
		return failed("read the trash", err)
	}
	var b kv.Batch
	b.Delete(spaceTrash, key)
	if err := t.ops.commit(&b); err != nil {
		return err
	}
	if r, err := decodeTrashed(key, value); err == nil {
		t.ops.trash.forget(r.Name, trashRow{before, ino})
	}
	return nil
}
