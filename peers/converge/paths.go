package converge

import (
	"slices"
	"strings"

	"sharefs"
	"sharefs/peers/record"
)

// Spot is a name of a file that has its place below the root, whether it is shown there or in conflict with what is.
type Spot struct {
	Key
	Type   record.Type
	Parent sharefs.FileID // the directory that it was put into, which may be shown as a part of another one
	Path   string         // from the root, without a slash before it
	Place  record.ID      // the placement that is in effect
}

// Spots calls fn for each name of a file that has its place below the root, in the order of their links.
func (t *Tree) Spots(id sharefs.FileID, fn func(Spot)) {
	f := t.files.Get(id)
	if f == nil {
		return
	}
	for _, link := range slices.Sorted(f.spots.Keys()) {
		s, _ := f.spots.Get(link)
		if dir, ok := t.Path(s.parent()); ok {
			fn(Spot{Key{id, link}, f.typ, s.parent(), Join(dir, s.name()), s.place.ID()})
		}
	}
}

// Placed reports whether a name has a place, be it below the root or below a directory that is not known: otherwise it is removed, or never was.
func (t *Tree) Placed(key Key) bool {
	f := t.files.Get(key.File)
	return f != nil && f.spots.Has(key.Link)
}

// Places calls fn for the placements of a name that are no removals, the last one first, until it returns false; of a directory, for those in effect.
func (t *Tree) Places(key Key, fn func(*record.Record) bool) {
	f := t.files.Get(key.File)
	switch {
	case f == nil:
	case f.typ == record.Directory:
		for m := f.pos; m != nil && fn(m.record); {
			m = m.before.pos
		}
	default:
		places, _ := f.links.Get(key.Link)
		for _, r := range slices.Backward(places) {
			if !r.Body.(*record.Place).Removed() && !fn(r) {
				return
			}
		}
	}
}

// Trails calls fn for each name that a file has or had, with where it is or was last by the placements of all that is above it, removed or not. A name that never had a possible place is left
// out.
func (t *Tree) Trails(id sharefs.FileID, fn func(key Key, path string, there bool)) {
	f := t.files.Get(id)
	if f == nil {
		return
	}
	if f.typ == record.Directory {
		if f.pos != nil {
			if dir, ok := t.Trail(f.pos.place.Parent); ok {
				fn(Key{File: id}, Join(dir, f.pos.place.Name), f.spots.Has(0))
			}
		}
		return
	}
	for _, link := range slices.Sorted(f.links.Keys()) {
		places, _ := f.links.Get(link)
		for _, r := range slices.Backward(places) {
			p := r.Body.(*record.Place)
			if parent := t.files.Get(p.Parent); p.Removed() || parent == nil || parent.typ != record.Directory {
				continue
			}
			if dir, ok := t.Trail(p.Parent); ok {
				fn(Key{id, link}, Join(dir, p.Name), f.spots.Has(link))
			}
			break
		}
	}
}

// Type returns what a file is by its first placement; 0: it has none.
func (t *Tree) Type(id sharefs.FileID) record.Type {
	if f := t.files.Get(id); f != nil {
		return f.typ
	}
	return 0
}

// Above calls fn for a directory and all that are above it, removed or not, but the root, until it returns false.
func (t *Tree) Above(dir sharefs.FileID, fn func(sharefs.FileID) bool) {
	for dir != record.Root && fn(dir) {
		f := t.files.Get(dir)
		if f == nil || f.pos == nil {
			return
		}
		dir = f.pos.place.Parent
	}
}

// Trail returns where a directory is or was last, as Trails does.
func (t *Tree) Trail(dir sharefs.FileID) (string, bool) {
	var names []string
	for dir != record.Root {
		f := t.files.Get(dir)
		if f == nil || f.pos == nil {
			return "", false
		}
		names, dir = append(names, f.pos.place.Name), f.pos.place.Parent
	}
	slices.Reverse(names)
	return strings.Join(names, "/"), true
}

// Below calls fn for each name that lies below a directory, or one that is shown as the same.
func (t *Tree) Below(dir sharefs.FileID, fn func(Spot)) {
	f := t.files.Get(dir)
	if f == nil || f.class == nil || !f.class.attached {
		return
	}
	top := t.pathOf(f.class) + "/"
	f.class.each(map[*class]struct{}{}, func(id sharefs.FileID) {
		t.Spots(id, func(at Spot) {
			if strings.HasPrefix(at.Path, top) {
				fn(at)
			}
		})
	})
}

// Join returns the path of a name in a directory.
func Join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// Path returns where a directory is, from the root, without a slash before it; that of the root is empty. It is false for what is no directory below the root.
func (t *Tree) Path(dir sharefs.FileID) (string, bool) {
	f := t.files.Get(dir)
	if f == nil || f.class == nil || !f.class.attached {
		return "", false
	}
	return t.pathOf(f.class), true
}

// pathOf returns the path of a class below the root, and remembers it until the next change.
func (t *Tree) pathOf(c *class) string {
	if c.at == nil {
		return ""
	}
	path, ok := t.paths[c]
	if !ok {
		path = Join(t.pathOf(c.at.in), c.at.name)
		if t.paths == nil {
			t.paths = map[*class]string{}
		}
		t.paths[c] = path
	}
	return path
}

// Touched calls fn once for each file of which a name may have another path since the last call of Add, or the same by another placement, may have come or may be gone. It costs as
// much as what was moved holds.
func (t *Tree) Touched(fn func(sharefs.FileID)) {
	told := map[sharefs.FileID]struct{}{}
	tell := func(id sharefs.FileID) {
		if _, ok := told[id]; !ok {
			told[id] = struct{}{}
			fn(id)
		}
	}
	for id := range t.renewed {
		tell(id)
	}
	below := map[*class]struct{}{}
	for key := range t.moved {
		f := t.files.Get(key.File)
		tell(f.id)
		if f.class != nil {
			f.class.each(below, tell)
		}
	}
}

// each calls fn for all that has its place below a class, which was not looked at before.
func (c *class) each(before map[*class]struct{}, fn func(sharefs.FileID)) {
	if _, ok := before[c]; ok {
		return
	}
	before[c] = struct{}{}
	for _, s := range c.slots {
		for _, n := range s.names {
			fn(n.file.id)
		}
		if s.dir != nil {
			for _, m := range s.dir.members {
				fn(m.dir.id)
			}
			s.dir.each(before, fn)
		}
	}
}
