package converge

import (
	"slices"

	"sharefs"
	"sharefs/peers/index"
	"sharefs/peers/record"
)

// Tree is the live tree of the records that were added to it, and equal to what [Whole] makes of them. It is used by one goroutine at a time, and holds
// all records in memory.
type Tree struct {
	records [Merged + 1]index.Index[record.ID, record.Record] // by what they count
	files   index.Index[sharefs.FileID, file]
	log     []*move // placements of directories, in order
	// hopes are the files with a placement into a parent that is not known to be a directory (yet).
	hopes map[sharefs.FileID]map[sharefs.FileID]struct{}
	world // what was last told to be the live tree

	redone uint64 // see Redone

	// Of the change in progress:
	moves   []*move                     // new placements of directories
	fresh   []*move                     // those of directories of which nothing else is known, in directories
	redo    *record.Order               // the first placement of a directory that has to be carried out again
	dirty   []*file                     // whose names may have changed
	moved   map[Key]spot                // where names were before that have changed
	touched map[*class]struct{}         // classes whose members or place may have changed
	stale   map[*slot]struct{}          // slots whose node may have changed
	queued  map[sharefs.FileID]struct{} // files in dirty
	retyped map[sharefs.FileID]struct{} // files whose type is another one by an earlier placement
	renewed map[sharefs.FileID]struct{} // files of which a name is where it was by another placement
	paths   map[*class]string           // that were asked for since
}

// New returns the tree without records: an empty root.
func New() *Tree {
	t := &Tree{}
	t.world = newWorld()
	root := &file{typ: record.Directory}
	root.class = &class{members: []member{{root, record.Nowhere}}, attached: true}
	for s := range t.records {
		t.records[s] = index.New((*record.Record).ID)
	}
	t.files = index.New(func(f *file) sharefs.FileID { return f.id })
	t.files.Put(root)
	t.hopes = map[sharefs.FileID]map[sharefs.FileID]struct{}{}
	t.begin()
	return t
}

func (t *Tree) begin() {
	t.moves, t.fresh, t.redo, t.dirty, t.paths = nil, nil, nil, nil, nil
	t.moved, t.queued, t.renewed, t.retyped = map[Key]spot{}, map[sharefs.FileID]struct{}{}, map[sharefs.FileID]struct{}{}, map[sharefs.FileID]struct{}{}
	t.touched, t.stale = map[*class]struct{}{}, map[*slot]struct{}{}
}

// Add adds records and returns what has changed, as operations to be carried out in their order. The fewer calls, the better: a late placement of a directory is carried out
// once for each.
func (t *Tree) Add(in ...Input) []Op {
	t.begin()
	for _, i := range in {
		t.add(i)
	}
	// And all that follows from what was added.
	t.retype()
	t.redoMoves()
	t.place()
	t.arrange()
	return t.world.change(t.changes())
}

// Redone counts the records that were carried out or looked through again since the beginning, because others came that come before them in order: none, as long as clocks agree.
func (t *Tree) Redone() uint64 { return t.redone }

// Lookup returns the node of a name in a directory that is shown.
func (t *Tree) Lookup(parent sharefs.FileID, name string) (Node, bool) {
	n := t.at.Get(Slot{parent, name})
	if n == nil {
		return Node{}, false
	}
	return t.Node(n.Key)
}

// Children calls fn for what is shown in a directory that is shown, in no order.
func (t *Tree) Children(dir sharefs.FileID, fn func(Node)) {
	f := t.files.Get(dir)
	if f == nil || f.class == nil || !f.class.attached {
		return
	}
	for _, s := range f.class.slots {
		if s.shown.file != nil {
			fn(*t.get(s.shown.key()))
		}
	}
}

// Node returns the node of a name of a file, if it is shown. The root is that of the zero key.
func (t *Tree) Node(key Key) (Node, bool) { return t.world.node(key) }

// Nodes calls fn for each name that is shown, and the root, in no order.
func (t *Tree) Nodes(fn func(Node)) {
	for n := range t.nodes.All() {
		fn(*n)
	}
}

// Heads returns the heads of a file, the live one first.
func (t *Tree) Heads(id sharefs.FileID) []record.ID {
	f := t.files.Get(id)
	if f == nil {
		return nil
	}
	var ids []record.ID
	for _, h := range f.ranked() {
		ids = append(ids, h.id)
	}
	return ids
}

// Attr returns the record of the attributes of a file; zero where none has come.
func (t *Tree) Attr(id sharefs.FileID) (attr record.ID) {
	if f := t.files.Get(id); f != nil {
		attr = f.attrID()
	}
	return attr
}

// Superseded reports whether a merged version descends from a version.
func (t *Tree) Superseded(id record.ID) bool {
	if rec := t.Record(id); rec != nil {
		if b, ok := rec.Body.(*record.Version); ok {
			v, ok := t.files.Get(b.File).versions.Get(id)
			return ok && v.superseded
		}
	}
	return false
}

// Record returns a record that was added; nil if there is none of that id.
func (t *Tree) Record(id record.ID) *record.Record { return t.input(id).Record }

// input returns what was added of an id; its record is nil if that is nothing.
func (t *Tree) input(id record.ID) Input {
	for _, s := range []Standing{Merged, Known, Leads} { // those of which there are most first
		if r := t.records[s].Get(id); r != nil {
			return Input{r, s}
		}
	}
	return Input{}
}

// Standing returns what a record counts that was added; ok is false if there is none of that id.
func (t *Tree) Standing(id record.ID) (s Standing, ok bool) {
	i := t.input(id)
	return i.Standing, i.Record != nil
}

// Inputs calls fn for all records that were added, with what they count, in no order.
func (t *Tree) Inputs(fn func(Input)) {
	for s := range t.records {
		for r := range t.records[s].All() {
			fn(Input{r, Standing(s)})
		}
	}
}

// Renew has a record stand for one of the same id that was added, which says the same and may lack its signature.
func (t *Tree) Renew(rec *record.Record) {
	if s, ok := t.Standing(rec.ID()); ok {
		t.records[s].Put(rec)
	}
}

// Names returns how many names are shown.
func (t *Tree) Names() int { return t.nodes.Len() - 1 }

// Records returns how many records were added.
func (t *Tree) Records() (n int) {
	for s := range t.records {
		n += t.records[s].Len()
	}
	return n
}

// Result returns the whole tree by paths, which costs as much as the tree is large.
func (t *Tree) Result() Result { return t.world.result() }

// Orphans returns the names that have no place below the root, in order. It costs as much as there are files.
func (t *Tree) Orphans() []Key {
	var all []Key
	for f := range t.files.All() {
		for link, at := range f.spots.All() {
			if c := t.files.Get(at.parent()).class; c == nil || !c.attached {
				all = append(all, Key{f.id, link})
			}
		}
	}
	slices.SortFunc(all, Key.Compare)
	return all
}

// add files one record.
func (t *Tree) add(i Input) {
	r := i.Record
	had := t.input(r.ID())
	known := had.Record != nil
	if known && had.Standing >= i.Standing {
		return
	}
	if known { // and stays the one that it is: what comes now may lack its signature
		r = had.Record
		t.records[had.Standing].Delete(r.ID())
	}
	t.records[i.Standing].Put(r)
	switch b := r.Body.(type) {
	case *record.Version:
		f := t.file(b.File)
		if f.addVersion(r, b, i.Standing == Merged) || f.cameBack() {
			t.soil(f)
		}
	case *record.Place:
		if i.Standing.places(b) {
			t.addPlace(r, b, i.Standing == Merged, had.Standing.places(b) && known)
		} else if f := t.files.Get(b.File); f != nil && f.cameBack() {
			t.soil(f)
		}
	case *record.Attr:
		if f := t.file(b.File); i.Standing == Merged && (f.attr == nil || f.attr.Compare(r) < 0) {
			f.attr = r
			t.soil(f)
		}
	}
}

// file returns what is known of a file.
func (t *Tree) file(id sharefs.FileID) *file {
	f := t.files.Get(id)
	if f == nil {
		f = &file{id: id}
		t.files.Put(f)
	}
	return f
}

// soil notes that the names of a file, or what they show, may have changed.
func (t *Tree) soil(f *file) {
	if _, ok := t.queued[f.id]; !ok {
		t.queued[f.id] = struct{}{}
		t.dirty = append(t.dirty, f)
	}
	t.refresh(f)
}

// addPlace files a placement, of an author whose trust reaches there (owned) or whom it leads; again: it was filed before as one that leads.
func (t *Tree) addPlace(r *record.Record, p *record.Place, owned, again bool) {
	f := t.file(p.File)
	if owned && !f.owned {
		f.owned = true
		if f.class != nil {
			t.touched[f.class] = struct{}{}
		}
	}
	if again {
		return
	}
	fresh := false
	_, retyped := t.retyped[f.id]
	switch {
	case retyped:
		if r.Compare(f.first) < 0 {
			f.first = r
		}
		return
	case f.typ == 0:
		fresh = p.Parent != f.id && len(t.hopes[f.id]) == 0
		f.typ, f.first = p.Type, r
		f.tryAll()
		if f.typ == record.Directory {
			t.hopesFulfilled(f.id)
		}
	case r.Compare(f.first) < 0:
		f.first = r
		if f.typ != p.Type {
			t.retyped[f.id] = struct{}{}
			return
		}
		if f.class != nil {
			t.touched[f.class] = struct{}{}
		}
	case f.typ != p.Type:
		return
	}
	t.enter(f, r, p, fresh)
}

// enter files a placement that fits its file. Fresh: nothing else is known of it, nor of anything in it.
func (t *Tree) enter(f *file, r *record.Record, p *record.Place, fresh bool) {
	t.soil(f)
	if parent := t.files.Get(p.Parent); !p.Removed() && (parent == nil || parent.typ != record.Directory) {
		t.hope(f, p.Parent)
		fresh = false
	}
	if f.typ == record.Directory && fresh && !p.Removed() {
		t.fresh = append(t.fresh, &move{record: r, place: p, order: r.Order(), dir: f})
		return
	}
	if f.typ == record.Directory {
		t.moves = append(t.moves, &move{record: r, place: p, order: r.Order(), dir: f})
		return
	}
	f.insert(r, p)
}

// hope notes that a file has a placement into what is not known to be a directory.
func (t *Tree) hope(f *file, parent sharefs.FileID) {
	all := t.hopes[parent]
	if all == nil {
		all = map[sharefs.FileID]struct{}{}
		t.hopes[parent] = all
	}
	all[f.id] = struct{}{}
}

// hopesFulfilled takes up what was placed into a directory before it was known.
func (t *Tree) hopesFulfilled(dir sharefs.FileID) {
	dirs := false
	for id := range t.hopes[dir] {
		f := t.files.Get(id)
		t.soil(f)
		dirs = dirs || f.typ == record.Directory
	}
	delete(t.hopes, dir)
	if dirs {
		t.redoOf(func(m *move) bool { return m.place.Parent == dir })
	}
}
