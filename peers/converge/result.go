package converge

import (
	"bytes"
	"cmp"
	"slices"

	"sharefs"
	"sharefs/peers/record"
)

// Standing is what a record counts.
type Standing uint8

// The standings, in order.
const (
	Known  Standing = iota // a version that others may have gone on from; it changes nothing by itself
	Leads                  // a directory on the way to where its author's trust reaches: it is there, and the identity of no other one. Anything else is Known
	Merged                 // by an author whose trust reaches into the live tree
)

// places reports whether a record of a standing takes part as a placement.
func (s Standing) places(p *record.Place) bool {
	return s == Merged || s == Leads && p.Type == record.Directory && !p.Removed()
}

// Input is a record and what it counts. Of one that comes several times, the highest standing counts.
type Input struct {
	Record   *record.Record
	Standing Standing
}

// Key is one name of a file.
type Key struct {
	File sharefs.FileID
	Link uint64
}

// Compare orders keys.
func (k Key) Compare(o Key) int {
	return cmp.Or(bytes.Compare(k.File[:], o.File[:]), cmp.Compare(k.Link, o.Link))
}

// Slot is where a name can be.
type Slot struct {
	Parent sharefs.FileID // the identity of the directory
	Name   string
}

// Node is a name in the live tree.
type Node struct {
	Key  Key
	Type record.Type
	Slot // zero of the root
	// Merged are other directories of the same name that are shown as this one, in the order of their first placement, those that lead only last.
	Merged    []sharefs.FileID
	Live      record.ID // the version that is live; zero of directories, and where none has come
	Attr      record.ID // the record of its attributes; zero where none has come
	Conflicts []Conflict
}

// Conflict is a version that waits for a choice.
type Conflict struct {
	Key     Key       // which file; of the node itself, or one that has the same name
	Version record.ID // zero where none has come
}

// Equal reports whether two nodes are the same in all.
func (n *Node) Equal(o *Node) bool {
	return n.sameStructure(o) && n.Live == o.Live && n.Attr == o.Attr && n.sameConflicts(o)
}

func (n *Node) sameStructure(o *Node) bool {
	return n.Key == o.Key && n.Type == o.Type && n.Slot == o.Slot
}

func (n *Node) sameConflicts(o *Node) bool {
	return slices.Equal(n.Merged, o.Merged) && slices.Equal(n.Conflicts, o.Conflicts)
}

// Result is a live tree: its nodes by their paths. The root's path is empty.
type Result map[string]Node

// head is a version that takes part in a choice.
type head struct {
	id      record.ID
	depth   int
	order   record.Order
	content string
}

// before reports whether h is chosen before o.
func (h *head) before(o *head) int {
	return cmp.Or(cmp.Compare(o.depth, h.depth), o.order.Compare(h.order))
}

// name is a name of a regular file or symlink that takes part in the choice for a slot.
type name struct {
	key      Key
	typ      record.Type
	cameBack bool
	place    record.Order
	heads    []head // ranked
	attr     record.ID
}

func (n *name) before(o *name) int {
	if n.cameBack != o.cameBack {
		if o.cameBack {
			return -1
		}
		return 1
	}
	none := head{depth: -1}
	a, b := &none, &none
	if len(n.heads) > 0 {
		a = &n.heads[0]
	}
	if len(o.heads) > 0 {
		b = &o.heads[0]
	}
	return cmp.Or(a.before(b), o.place.Compare(n.place))
}

// choose completes the node of a slot: dir is the directory that is shown there, nil if none; names are all others that have the place.
func choose(slot Slot, dir *Node, names []name) Node {
	slices.SortFunc(names, func(a, b name) int { return a.before(&b) })
	var node Node
	contents := map[string]bool{}
	files := map[sharefs.FileID]bool{}
	if dir != nil {
		node = *dir
	} else {
		first := &names[0]
		node = Node{Key: first.key, Type: first.typ, Attr: first.attr}
	}
	node.Slot = slot
	for i := range names {
		n := &names[i]
		if files[n.key.File] {
			continue
		}
		files[n.key.File] = true
		if len(n.heads) == 0 && n.key != node.Key {
			node.Conflicts = append(node.Conflicts, Conflict{Key: n.key})
		}
		for j := range n.heads {
			h := &n.heads[j]
			if contents[h.content] {
				continue
			}
			contents[h.content] = true
			if j == 0 && n.key == node.Key {
				node.Live = h.id
				continue
			}
			node.Conflicts = append(node.Conflicts, Conflict{n.key, h.id})
		}
	}
	return node
}
