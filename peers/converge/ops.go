package converge

import (
	"cmp"
	"slices"

	"sharefs"
	"sharefs/peers/index"
	"sharefs/peers/record"
)

// Verb is what an operation does.
type Verb uint8

// The operations. Those on structure come first, then those on what a node is.
const (
	// Create makes a name that was not there: a directory, an empty file, a symlink, or a further name of a file that has one.
	Create Verb = iota
	// Move gives a name another place.
	Move
	// Remove takes a name away. A directory is empty by then.
	Remove
	// Content makes a version live.
	Content
	// SetAttr sets attributes. It comes after all that would change times of directories.
	SetAttr
	// Conflicts tells what waits for a choice.
	Conflicts
)

func (v Verb) String() string {
	return [...]string{"create", "move", "remove", "content", "attr", "conflicts"}[v]
}

// Limbo is a directory beside the root, to which names are moved for a while when the change is one that no order of operations makes directly, such as
// two files that change names. What is there is called FILE-LINK, in hexadecimal. After the last operation it is empty.
var Limbo = record.Nowhere

// Op is one step from one live tree to the next. Carried out in order, each step finds the directory that it names, no name that is taken, but where Over says so,
// and no directory that would come to lie in itself.
type Op struct {
	Verb Verb
	Key  Key
	To   Slot // of Create and Move
	// Over is a file or symlink that has the name until then and goes away in the same instant, as by rename(2); nil: the name is free.
	Over *Key
	// Node is what the name will be in the end; of Remove what it was.
	Node Node
}

// world is a live tree that operations lead from one state to the next.
type world struct {
	nodes index.Index[Key, Node]  // which do not change, so that several worlds may have them in common
	at    index.Index[Slot, Node] // but the root
	twin  *world                  // another one that is nearly always the same; nil: none
}

func newWorld() world {
	w := world{nodes: index.New(func(n *Node) Key { return n.Key }), at: index.New(func(n *Node) Slot { return n.Slot })}
	w.nodes.Put(&Node{Type: record.Directory})
	return w
}

func (w *world) node(key Key) (Node, bool) {
	n := w.nodes.Get(key)
	if n == nil {
		return Node{}, false
	}
	return *n, true
}

// get returns a node, not to be changed, and an empty one, below the root, where there is none: of what somebody has at the moment a directory above may be missing.
func (w *world) get(key Key) *Node {
	if n := w.nodes.Get(key); n != nil {
		return n
	}
	return &Node{}
}

// shared returns a node, or the same one of the twin.
func (w *world) shared(n *Node) *Node {
	if w.twin != nil {
		if o := w.twin.nodes.Get(n.Key); o != nil && o.Equal(n) {
			return o
		}
	}
	return n
}

// put says what a node is, and that it has its name.
func (w *world) put(n *Node) {
	n = w.shared(n)
	w.nodes.Put(n)
	if n.Key != (Key{}) {
		w.at.Put(n)
	}
}

// Diff returns the operations that lead from one live tree to another.
func Diff(from, to Result) []Op {
	w := newWorld()
	changes := map[Key]*Node{}
	for _, n := range from {
		w.put(&n)
		changes[n.Key] = nil
	}
	for _, n := range to {
		changes[n.Key] = &n
	}
	if changes[Key{}] == nil {
		delete(changes, Key{}) // the root is always there
	}
	return w.change(changes)
}

// planner finds the order of operations.
type planner struct {
	*world
	changes  map[Key]*Node // what differs in place, or in being there
	visiting map[Key]bool
	ops      []Op
}

// change makes nodes what they are to be, nil: not there, and returns the operations that do it. A file that becomes another thing, of which no honest author
// is the cause, goes away and is made again: while it is a file, since then nothing can be in it.
func (w *world) change(changes map[Key]*Node) []Op {
	first, last := map[Key]*Node{}, map[Key]*Node{}
	for key, n := range changes {
		if old := w.nodes.Get(key); old != nil && n != nil && old.Type != n.Type {
			if old.Type == record.Directory {
				last[key] = n
				continue
			}
			first[key] = nil
		} else if old == nil && n != nil && n.Type != record.Directory {
			if dir := w.nodes.Get(Key{File: key.File}); dir != nil && dir.Type == record.Directory {
				last[key] = n // another name of what is a directory until then
			}
		}
	}
	var ops []Op
	if len(first) > 0 {
		ops = w.series(first)
	}
	for key := range last {
		changes[key] = nil
	}
	ops = append(ops, w.series(changes)...)
	if len(last) > 0 {
		ops = append(ops, w.series(last)...)
	}
	return ops
}

// series is change where every file stays what it is.
func (w *world) series(changes map[Key]*Node) []Op {
	p := planner{world: w, changes: map[Key]*Node{}, visiting: map[Key]bool{}}
	before := map[Key]*Node{} // of what stays
	var all []Key
	for key, n := range changes {
		old := w.nodes.Get(key)
		there := old != nil
		switch {
		case !there && n == nil, there && n != nil && old.Equal(n):
			continue
		case there && n != nil:
			before[key] = old
		}
		all = append(all, key)
		if !there || n == nil || !old.sameStructure(n) {
			p.changes[key] = n
		}
	}
	slices.SortFunc(all, Key.Compare)
	for _, key := range all {
		if n, ok := p.changes[key]; ok && n != nil {
			p.settle(key)
		}
	}
	p.removeAll(all)
	p.describe(all, changes, before)
	return p.ops
}

// settle brings one name to its place, and first whatever is in its way. What is in the way of something that is itself in its way is put aside.
func (p *planner) settle(key Key) {
	n := p.changes[key]
	if n == nil || p.visiting[key] {
		return
	}
	p.visiting[key] = true
	defer delete(p.visiting, key)
	if p.settle(Key{File: n.Parent}); !p.exists(n.Parent) {
		return // the directory waits for this very name to go away, and puts it aside
	}
	var over *Key
	for {
		if above, inside := p.between(key, n.Parent); inside {
			p.settle(above)
			if _, pending := p.changes[above]; pending {
				p.park(above)
			}
			continue
		}
		at := p.at.Get(n.Slot)
		if at == nil || at.Key == key {
			break
		}
		other := at.Key
		if p.goes(other) && n.Type != record.Directory && p.get(other).Type != record.Directory {
			over = &other
			break
		}
		p.settle(other)
		if still := p.at.Get(n.Slot); still != nil && still.Key == other {
			p.park(other)
		}
	}
	op := Op{Verb: Create, Key: key, To: n.Slot, Over: over, Node: *n}
	if p.nodes.Get(key) != nil {
		op.Verb = Move
	}
	p.do(op)
	delete(p.changes, key)
	if over != nil {
		delete(p.changes, *over)
	}
}

func (p *planner) exists(dir sharefs.FileID) bool { return p.nodes.Get(Key{File: dir}) != nil }

// goes reports whether a name is to go away.
func (p *planner) goes(key Key) bool { n, pending := p.changes[key]; return pending && n == nil }

// between reports whether a directory is below a name or is it, and returns what on the way has yet to go elsewhere: there is something, since in the end
// nothing is above itself.
func (p *planner) between(key Key, dir sharefs.FileID) (above Key, inside bool) {
	for at := dir; at != record.Root && at != Limbo; {
		k := Key{File: at}
		if k == key {
			return above, true
		}
		if _, pending := p.changes[k]; pending {
			above = k
		}
		n := p.nodes.Get(k)
		if n == nil {
			return above, false
		}
		at = n.Parent
	}
	return above, false
}

// park moves a name to where nothing is in its way.
func (p *planner) park(key Key) {
	const digits = "0123456789abcdef"
	name := []byte(key.File.String() + "-")
	for shift := 60; shift >= 0; shift -= 4 {
		name = append(name, digits[key.Link>>shift&15])
	}
	p.do(Op{Verb: Move, Key: key, To: Slot{Limbo, string(name)}, Node: *p.get(key)})
}

// do carries out an operation on the structure.
func (p *planner) do(op Op) {
	p.ops = append(p.ops, op)
	if op.Over != nil {
		p.nodes.Delete(*op.Over)
	}
	if old := p.nodes.Get(op.Key); old != nil {
		p.at.Delete(old.Slot)
	}
	if op.Verb == Remove {
		p.nodes.Delete(op.Key)
		return
	}
	n := op.Node
	n.Slot = op.To
	p.put(&n)
}

// removeAll removes what is to go, each directory after what is in it.
func (p *planner) removeAll(all []Key) {
	type gone struct {
		key   Key
		depth int
	}
	var list []gone
	for _, key := range all {
		if n, pending := p.changes[key]; pending && n == nil {
			depth := 0
			for at := p.get(key).Parent; at != record.Root && at != Limbo; at = p.get(Key{File: at}).Parent {
				depth++
			}
			list = append(list, gone{key, depth})
		}
	}
	slices.SortStableFunc(list, func(a, b gone) int { return cmp.Compare(b.depth, a.depth) })
	for _, g := range list {
		p.do(Op{Verb: Remove, Key: g.key, Node: *p.get(g.key)})
	}
}

// describe makes the nodes what they are to be apart from their places.
func (p *planner) describe(all []Key, changes, before map[Key]*Node) {
	for _, verb := range []Verb{Content, SetAttr, Conflicts} {
		for _, key := range all {
			n := changes[key]
			if n == nil {
				continue
			}
			old := before[key]
			if old == nil {
				old = &Node{}
			}
			differs := false
			switch verb {
			case Content:
				differs = n.Live != old.Live
			case SetAttr:
				differs = n.Attr != old.Attr
			case Conflicts:
				differs = !n.sameConflicts(old)
			}
			if differs {
				p.ops = append(p.ops, Op{Verb: verb, Key: key, Node: *n})
			}
		}
	}
	for _, key := range all {
		if n := changes[key]; n != nil {
			n = p.shared(n)
			p.nodes.Put(n)
			if at := p.at.Get(n.Slot); at != nil && at.Key == key {
				p.at.Put(n)
			}
		}
	}
}

// result returns the tree by paths.
func (w *world) result() Result {
	all := Result{}
	paths := map[sharefs.FileID]string{record.Root: ""}
	var path func(id sharefs.FileID) string
	path = func(id sharefs.FileID) string {
		p, ok := paths[id]
		if !ok {
			n := w.get(Key{File: id})
			p = path(n.Parent) + n.Name + "/"
			paths[id] = p
		}
		return p
	}
	for _, n := range slices.SortedFunc(w.nodes.All(), func(a, b *Node) int { return a.Key.Compare(b.Key) }) {
		if n.Key == (Key{}) {
			all[""] = *n
			continue
		}
		all[path(n.Parent)+n.Name] = *n
	}
	return all
}
