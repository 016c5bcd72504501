package converge

import (
	"slices"

	"sharefs"
	"sharefs/peers/record"
)

// Directories of one name in one directory are one. A class is what is shown as one directory, with the slots of all its members; classes and slots make up a tree of
// names. A class whose directory has no place, or one that is not known, is the top of a tree of its own.
type class struct {
	members  []member // never none; their order is brought up to date by arrange
	at       *slot    // nil: the root, or it has no place
	slots    map[string]*slot
	attached bool           // it is below the root, or was when last arranged
	identity sharefs.FileID // of its first member, when last arranged
}

// member is a directory, and where it has its place: in which member of the class above.
type member struct {
	dir    *file
	parent sharefs.FileID
}

// slot is a name in a class.
type slot struct {
	in    *class
	name  string
	dir   *class  // nil: no directory has the name
	names []named // the others
	shown shown   // what was last told to be there
}

// shown is a name of a file, of none in the zero value.
type shown struct {
	file *file
	link uint64
}

func (s shown) key() Key { return Key{s.file.id, s.link} }

// named is a name of a regular file or symlink, and the member of the class in which it has its place.
type named struct {
	file   *file
	link   uint64
	parent sharefs.FileID
}

// slot returns the slot of a name.
func (c *class) slot(name string) *slot {
	s := c.slots[name]
	if s == nil {
		s = &slot{in: c, name: name}
		if c.slots == nil {
			c.slots = map[string]*slot{}
		}
		c.slots[name] = s
	}
	return s
}

// classOf returns the class that a directory is in.
func (t *Tree) classOf(dir *file) *class {
	if dir.class == nil {
		dir.class = &class{members: []member{{dir, record.Nowhere}}, identity: dir.id}
	}
	return dir.class
}

// refresh notes that the nodes in which a file takes part may have changed.
func (t *Tree) refresh(f *file) {
	for _, s := range f.spots.All() {
		if c := t.files.Get(s.parent()).class; c != nil {
			if at := c.slots[s.name()]; at != nil {
				t.stale[at] = struct{}{}
			}
		}
	}
}

// arrange moves what has another place now: first everything is taken out, then it is put where it belongs. So what is left in between
// is a part of the tree before, and of that after, in neither of which a directory is above itself.
func (t *Tree) arrange() {
	type change struct {
		key Key
		f   *file
		now spot
	}
	changes := make([]change, 0, len(t.moved))
	for key, old := range t.moved {
		f := t.files.Get(key.File)
		now, _ := f.spots.Get(key.Link)
		changes = append(changes, change{key, f, now})
		if old.place == nil {
			continue
		}
		if old.typ() == record.Directory {
			t.take(f)
			continue
		}
		s := t.files.Get(old.parent()).class.slots[old.name()]
		s.names = slices.DeleteFunc(s.names, func(n named) bool { return n.file == f && n.link == key.Link })
		t.stale[s] = struct{}{}
	}
	for _, c := range changes {
		if c.now.place == nil {
			continue
		}
		parent := c.now.parent()
		s := t.classOf(t.files.Get(parent)).slot(c.now.name())
		t.stale[s] = struct{}{}
		if c.f.typ == record.Directory {
			d := t.classOf(c.f)
			d.members[0].parent = parent
			t.put(s, d)
			continue
		}
		s.names = append(s.names, named{c.f, c.key.Link, parent})
	}
	for c := range t.touched {
		t.check(c)
	}
	t.declass()
}

// take makes a directory the only member of a class that is nowhere, with all that has its place in it.
func (t *Tree) take(dir *file) *class {
	c := dir.class
	t.touched[c] = struct{}{}
	if c.at != nil {
		t.stale[c.at] = struct{}{}
	}
	if len(c.members) == 1 {
		if c.at != nil {
			c.at.dir, c.at = nil, nil
		}
		return c
	}
	c.members = slices.DeleteFunc(c.members, func(m member) bool { return m.dir == dir })
	dir.class = nil
	own := t.classOf(dir)
	t.touched[own] = struct{}{}
	for name, s := range c.slots {
		i := 0
		for _, n := range s.names {
			if n.parent == dir.id {
				at := own.slot(name)
				at.names = append(at.names, n)
				t.stale[at], t.stale[s] = struct{}{}, struct{}{}
				continue
			}
			s.names[i] = n
			i++
		}
		s.names = s.names[:i]
		if s.dir == nil {
			continue
		}
		var out []*file
		for _, m := range s.dir.members {
			if m.parent == dir.id {
				out = append(out, m.dir)
			}
		}
		for _, d := range out {
			sub := t.take(d)
			sub.members[0].parent = dir.id
			t.put(own.slot(name), sub)
		}
	}
	return own
}

// put puts a class that is nowhere into a slot; if there is one already, both become one.
func (t *Tree) put(s *slot, c *class) {
	t.stale[s], t.touched[c] = struct{}{}, struct{}{}
	if s.dir == nil {
		s.dir, c.at = c, s
		return
	}
	into := s.dir
	if len(into.slots) < len(c.slots) {
		into.at = nil
		into, c = c, into
		s.dir, into.at = into, s
	}
	t.touched[into], t.touched[c] = struct{}{}, struct{}{}
	for _, m := range c.members {
		m.dir.class = into
	}
	into.members = append(into.members, c.members...)
	c.members = nil
	for name, from := range c.slots {
		to := into.slot(name)
		to.names = append(to.names, from.names...)
		t.stale[from], t.stale[to] = struct{}{}, struct{}{}
		from.names = nil
		if sub := from.dir; sub != nil {
			from.dir, sub.at = nil, nil
			t.put(to, sub)
		}
	}
}

// check finds out whether a class is below the root, and what its identity is.
func (t *Tree) check(c *class) {
	if len(c.members) == 0 { // it became a part of another one
		t.attach(c, false)
		return
	}
	slices.SortFunc(c.members, func(a, b member) int { return a.dir.before(b.dir) })
	if id := c.members[0].dir.id; id != c.identity {
		c.identity = id
		for _, s := range c.slots {
			t.stale[s] = struct{}{}
		}
	}
	if c.at != nil {
		t.stale[c.at] = struct{}{}
	}
	top := c
	for top.at != nil {
		top = top.at.in
	}
	t.attach(c, top.isRoot())
}

// firstOrder returns the order of the first placement; zero of what has none.
func (f *file) firstOrder() (o record.Order) {
	if f.first != nil {
		o = f.first.Order()
	}
	return o
}

// before orders directories of one name: those that only lead come last.
func (f *file) before(o *file) int {
	if f.owned != o.owned {
		if f.owned {
			return -1
		}
		return 1
	}
	return f.firstOrder().Compare(o.firstOrder())
}

func (c *class) isRoot() bool { return len(c.members) > 0 && c.members[0].dir.id == record.Root }

// attach notes whether a class is below the root, and so all below it.
func (t *Tree) attach(c *class, attached bool) {
	if c.attached == attached {
		return
	}
	c.attached = attached
	for _, s := range c.slots {
		t.stale[s] = struct{}{}
		if s.dir != nil {
			t.attach(s.dir, attached)
		}
	}
}

// changes returns the nodes that have changed, nil for what is no longer there.
func (t *Tree) changes() map[Key]*Node {
	changes := map[Key]*Node{}
	for s := range t.stale {
		if s.shown.file != nil {
			key := s.shown.key()
			if _, ok := changes[key]; !ok {
				changes[key] = nil
			}
			s.shown = shown{}
		}
		if s.dir == nil && len(s.names) == 0 {
			if s.in.slots[s.name] == s {
				delete(s.in.slots, s.name)
			}
			continue
		}
		if !s.in.attached {
			continue
		}
		node := t.node(s)
		s.shown = shown{t.files.Get(node.Key.File), node.Key.Link}
		changes[node.Key] = &node
	}
	if root := t.rootNode(); !root.Equal(t.get(Key{})) {
		changes[Key{}] = &root
	}
	return changes
}

func (t *Tree) rootNode() Node {
	return Node{Type: record.Directory, Attr: t.files.Get(record.Root).attrID()}
}

func (f *file) attrID() (id record.ID) {
	if f.attr != nil {
		id = f.attr.ID()
	}
	return id
}

// node returns what is shown in a slot.
func (t *Tree) node(s *slot) Node {
	var dir *Node
	if s.dir != nil {
		first := s.dir.members[0].dir
		dir = &Node{Key: Key{File: first.id}, Type: record.Directory, Attr: first.attrID()}
		for _, m := range s.dir.members[1:] {
			dir.Merged = append(dir.Merged, m.dir.id)
		}
	}
	names := make([]name, len(s.names))
	for i, n := range s.names {
		at, _ := n.file.spots.Get(n.link)
		names[i] = name{Key{n.file.id, n.link}, n.file.typ, at.cameBack, at.place.Order(), n.file.ranked(), n.file.attrID()}
	}
	return choose(Slot{s.in.identity, s.name}, dir, names)
}
