package converge

import (
	"slices"

	"sharefs"
	"sharefs/peers/record"
)

// Whole returns the live tree of a set of records, and the names that have no place below the root. It is the specification of this package: each step follows
// the page at the top, and nothing is done to make it fast.
func Whole(in []Input) (Result, []Key) {
	w := whole{records: map[record.ID]Input{}, files: map[sharefs.FileID]*wholeFile{}}
	for _, i := range in {
		if had, ok := w.records[i.Record.ID()]; !ok || i.Standing > had.Standing {
			w.records[i.Record.ID()] = i
		}
	}
	w.types()
	w.directories()
	w.content()
	w.names()
	return w.tree()
}

type whole struct {
	records map[record.ID]Input
	places  []*record.Record // merged placements of the right type, in order
	files   map[sharefs.FileID]*wholeFile
}

type wholeFile struct {
	typ    record.Type
	first  record.Order
	owned  bool // a placement is by somebody whose trust reaches there
	heads  []head
	attr   *record.Record
	places map[uint64]*wholePlace // by link
}

// wholePlace is where a name is.
type wholePlace struct {
	parent   sharefs.FileID
	name     string
	order    record.Order
	exists   bool // it has a place
	removed  bool
	cameBack bool
}

// merged returns the records that take part, in order.
func (w *whole) merged() (all []*record.Record) {
	for _, i := range w.records {
		if i.Standing == Merged {
			all = append(all, i.Record)
		}
	}
	slices.SortFunc(all, func(a, b *record.Record) int { return a.Order().Compare(b.Order()) })
	return all
}

// placed returns the placements that take part, in order.
func (w *whole) placed() (all []*record.Record) {
	for _, i := range w.records {
		if p, ok := i.Record.Body.(*record.Place); ok && i.Standing.places(p) {
			all = append(all, i.Record)
		}
	}
	slices.SortFunc(all, func(a, b *record.Record) int { return a.Order().Compare(b.Order()) })
	return all
}

// types finds out what each file is, and its attributes.
func (w *whole) types() {
	w.files[record.Root] = &wholeFile{typ: record.Directory}
	for _, r := range w.placed() {
		p := r.Body.(*record.Place)
		f := w.files[p.File]
		if f == nil {
			f = &wholeFile{typ: p.Type, first: r.Order(), places: map[uint64]*wholePlace{}}
			w.files[p.File] = f
		}
		f.owned = f.owned || w.records[r.ID()].Standing == Merged
		if f.typ == p.Type {
			w.places = append(w.places, r)
		}
	}
	for _, r := range w.merged() {
		if a, ok := r.Body.(*record.Attr); ok && w.files[a.File] != nil {
			w.files[a.File].attr = r
		}
	}
}

// isDir reports whether a file is known to be a directory.
func (w *whole) isDir(id sharefs.FileID) bool {
	f := w.files[id]
	return f != nil && f.typ == record.Directory
}

// directories carries out placements in order: the moves of directories, and the registers of all names.
func (w *whole) directories() {
	for _, r := range w.places {
		p := r.Body.(*record.Place)
		f := w.files[p.File]
		at := f.places[p.Link]
		if at == nil {
			at = &wholePlace{}
			f.places[p.Link] = at
		}
		switch {
		case p.Removed():
			at.removed = true
		case !w.isDir(p.Parent): // not possible
		case f.typ == record.Directory && w.isAncestor(p.File, p.Parent): // not in effect
		default:
			*at = wholePlace{parent: p.Parent, name: p.Name, order: r.Order(), exists: true}
		}
	}
}

// isAncestor reports whether a directory is another one or above it.
func (w *whole) isAncestor(dir, of sharefs.FileID) bool {
	for {
		if of == dir {
			return true
		}
		at := w.files[of].places[0]
		if at == nil || !at.exists {
			return false
		}
		of = at.parent
	}
}

// content finds the heads of each file.
func (w *whole) content() {
	fits := func(id record.ID, of sharefs.FileID) *record.Record {
		r := w.records[id].Record
		if f := w.files[of]; r != nil && f != nil && r.File() == of {
			if v, ok := r.Body.(*record.Version); ok && v.Type() == f.typ {
				return r
			}
		}
		return nil
	}
	// From which versions one comes.
	before := func(r *record.Record) (all []*record.Record) {
		v, gap := r.Body.(*record.Version), false
		for _, id := range v.Parents {
			p := fits(id, v.File)
			if p != nil && p.Order().Compare(r.Order()) > 0 {
				p = nil
			}
			if p != nil {
				all = append(all, p)
			}
			gap = gap || p == nil || w.records[id].Standing != Merged
		}
		for id, i := range w.records {
			if p := fits(id, v.File); gap && p != nil && i.Standing == Merged && p.Author == r.Author && p.Order().Compare(r.Order()) < 0 {
				all = append(all, p)
			}
		}
		return all
	}
	depth := map[record.ID]int{} // of versions that fit their file
	var deep func(r *record.Record) int
	deep = func(r *record.Record) int {
		if depth[r.ID()] == 0 {
			d := 1
			for _, p := range before(r) {
				d = max(d, 1+deep(p))
			}
			depth[r.ID()] = d
		}
		return depth[r.ID()]
	}
	superseded := map[record.ID]bool{}
	for id, i := range w.records {
		r := fits(id, i.Record.File())
		if r == nil {
			continue
		}
		deep(r)
		if i.Standing != Merged {
			continue
		}
		for todo := before(r); len(todo) > 0; {
			p := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			if !superseded[p.ID()] {
				superseded[p.ID()] = true
				todo = append(todo, before(p)...)
			}
		}
	}
	for id, i := range w.records {
		if depth[id] > 0 && i.Standing == Merged && !superseded[id] {
			f := w.files[i.Record.File()]
			f.heads = append(f.heads, head{id, depth[id], i.Record.Order(), i.Record.Body.(*record.Version).Content()})
		}
	}
	for _, f := range w.files {
		slices.SortFunc(f.heads, func(a, b head) int { return a.before(&b) })
	}
}

// seen returns the record itself and all that it names as seen, and so on, as far as it is known and of the same file.
func (w *whole) seen(r *record.Record) map[record.ID]bool {
	return seen([]*record.Record{r}, func(id record.ID) *record.Record { return w.records[id].Record })
}

// names finds out which removals do not hold.
func (w *whole) names() {
	for id, f := range w.files {
		if f.typ == record.Directory {
			continue
		}
		present := false
		for _, at := range f.places {
			present = present || at.exists && !at.removed
		}
		if present {
			continue
		}
		for link, at := range f.places {
			if !at.exists {
				continue
			}
			// The removals of this name after its place, and all that have seen one of them.
			speak := map[record.ID]*record.Record{}
			for again := true; again; {
				again = false
				for _, r := range w.places {
					p := r.Body.(*record.Place)
					if p.File != id || !p.Removed() || speak[r.ID()] != nil {
						continue
					}
					speaks := p.Link == link && r.Order().Compare(at.order) > 0
					before := w.seen(r)
					for other := range speak {
						speaks = speaks || before[other]
					}
					if speaks {
						speak[r.ID()], again = r, true
					}
				}
			}
			for _, h := range f.heads {
				saw := false
				for _, r := range speak {
					saw = saw || w.seen(r)[h.id]
				}
				at.cameBack = at.cameBack || !saw
			}
		}
	}
	// Directories that hold something are there.
	for again := true; again; {
		again = false
		for _, f := range w.files {
			for _, at := range f.places {
				if !at.exists || at.removed && !at.cameBack || at.parent == record.Root {
					continue
				}
				if dir := w.files[at.parent].places[0]; dir != nil && dir.exists && dir.removed && !dir.cameBack {
					dir.cameBack, again = true, true
				}
			}
		}
	}
}

// path returns the path of a name; ok is false if it has none below the root.
func (w *whole) path(at *wholePlace) (path string, ok bool) {
	path = at.name
	for dir := at.parent; dir != record.Root; {
		up := w.files[dir].places[0]
		if up == nil || !up.exists {
			return "", false
		}
		path, dir = up.name+"/"+path, up.parent
	}
	return path, true
}

// tree groups names by their paths and chooses.
func (w *whole) tree() (Result, []Key) {
	dirs, names := map[string][]sharefs.FileID{"": {record.Root}}, map[string][]name{}
	var orphans []Key
	for id, f := range w.files {
		for link, at := range f.places {
			if !at.exists || at.removed && !at.cameBack {
				continue
			}
			path, ok := w.path(at)
			switch {
			case !ok:
				orphans = append(orphans, Key{id, link})
			case f.typ == record.Directory:
				dirs[path] = append(dirs[path], id)
			default:
				names[path] = append(names[path], name{Key{id, link}, f.typ, at.cameBack, at.order, slices.Clone(f.heads), f.attrID()})
			}
		}
	}
	for _, all := range dirs {
		slices.SortFunc(all, func(a, b sharefs.FileID) int {
			f, o := w.files[a], w.files[b]
			if f.owned != o.owned {
				if f.owned {
					return -1
				}
				return 1
			}
			return f.first.Compare(o.first)
		})
	}
	tree := Result{}
	slot := func(path string) Slot {
		for i := len(path) - 1; i >= 0; i-- {
			if path[i] == '/' {
				return Slot{dirs[path[:i]][0], path[i+1:]}
			}
		}
		return Slot{record.Root, path}
	}
	for path, all := range dirs {
		node := Node{Key: Key{File: all[0]}, Type: record.Directory, Attr: w.files[all[0]].attrID()}
		if len(all) > 1 {
			node.Merged = all[1:]
		}
		if path != "" {
			node = choose(slot(path), &node, names[path])
		}
		tree[path] = node
	}
	for path, all := range names {
		if dirs[path] == nil {
			tree[path] = choose(slot(path), nil, all)
		}
	}
	slices.SortFunc(orphans, Key.Compare)
	return tree, orphans
}

func (f *wholeFile) attrID() (id record.ID) {
	if f.attr != nil {
		id = f.attr.ID()
	}
	return id
}

// seen returns some records of one file and all that they name as seen or as parents, and so on, as far as they are known and of that file.
func seen(from []*record.Record, get func(record.ID) *record.Record) map[record.ID]bool {
	all := map[record.ID]bool{}
	for len(from) > 0 {
		r := from[len(from)-1]
		from = from[:len(from)-1]
		if all[r.ID()] {
			continue
		}
		all[r.ID()] = true
		var before []record.ID
		switch b := r.Body.(type) {
		case *record.Place:
			before = b.Seen
		case *record.Version:
			before = b.Parents
		}
		for _, id := range before {
			if o := get(id); o.File() == r.File() {
				from = append(from, o)
			}
		}
	}
	return all
}
