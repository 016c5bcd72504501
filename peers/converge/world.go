package converge

import (
	"sharefs"
)

// World is a live tree as somebody has it at the moment, who changes it by himself too. Lead finds the way from there to what the records say.
type World struct{ world }

// NewWorld returns a tree with nothing but its root.
func NewWorld() *World {
	return &World{newWorld()}
}

// Like has a world and a tree, which are the same for the most part, have in common what they hold of it. One goroutine may use both at a time.
func (w *World) Like(t *Tree) { w.twin, t.twin = &t.world, &w.world }

// Node returns the node of a name of a file. The root is that of the zero key.
func (w *World) Node(key Key) (Node, bool) { return w.node(key) }

// Lookup returns what has a name in a directory.
func (w *World) Lookup(parent sharefs.FileID, name string) (Key, bool) {
	n := w.at.Get(Slot{parent, name})
	if n == nil {
		return Key{}, false
	}
	return n.Key, true
}

// Nodes calls fn for each node, in no order.
func (w *World) Nodes(fn func(Node)) {
	for n := range w.nodes.All() {
		fn(*n)
	}
}

// Set says what a node is. One that had the same name before has it no more, and is to be set elsewhere or removed.
func (w *World) Set(n Node) {
	w.Remove(n.Key)
	w.put(&n)
}

// Remove says that a name is not there.
func (w *World) Remove(key Key) {
	n := w.nodes.Get(key)
	if n == nil {
		return
	}
	w.nodes.Delete(key)
	if at := w.at.Get(n.Slot); at != nil && at.Key == key {
		w.at.Delete(n.Slot)
	}
}

// Lead returns the operations that make nodes what they are to be, nil: not there, and is the world that they lead to from then on. Every name that is in
// the way of one of them, or has to be there for it, is to be among them or to stay as it is. The nodes must not be changed afterwards.
func (w *World) Lead(to map[Key]*Node) []Op { return w.change(to) }
