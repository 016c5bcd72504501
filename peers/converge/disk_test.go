package converge

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"sharefs"
	"sharefs/peers/record"
)

// disk is a file system that carries out operations as a kernel would, and refuses what one would refuse.
type disk struct {
	nodes map[Key]Node
}

func newDisk() *disk { return &disk{nodes: map[Key]Node{{}: {Type: record.Directory}}} }

func (d *disk) at(s Slot) (Key, bool) {
	for key, n := range d.nodes {
		if n.Slot == s && key != (Key{}) {
			return key, true
		}
	}
	return Key{}, false
}

func (d *disk) empty(dir sharefs.FileID) bool {
	for key, n := range d.nodes {
		if n.Parent == dir && key != (Key{}) {
			return false
		}
	}
	return true
}

// run carries out operations; structure says whether they end with what they say the nodes are.
func (d *disk) run(ops []Op) error {
	last, series := Create, 1
	for i, op := range ops {
		if err := d.step(op); err != nil {
			var all []string
			for _, op := range ops {
				all = append(all, fmt.Sprintf("%s %s to %s/%q over %v", op.Verb, short(op.Key.File), short(op.To.Parent), op.To.Name, op.Over))
			}
			return fmt.Errorf("operation %d (%s %s): %w\n%s", i, op.Verb, short(op.Key.File), err, strings.Join(all, "\n"))
		}
		if op.Verb > Remove && op.Verb < last || op.Verb <= Remove && last > Remove {
			if series++; series > 3 { // one, where no file becomes another thing
				return fmt.Errorf("%s after %s", op.Verb, last)
			}
		}
		last = op.Verb
	}
	if !d.empty(Limbo) {
		return fmt.Errorf("something is left in limbo")
	}
	return nil
}

func (d *disk) step(op Op) error {
	node, exists := d.nodes[op.Key]
	switch op.Verb {
	case Create, Move:
		if exists != (op.Verb == Move) {
			return fmt.Errorf("it exists: %v", exists)
		}
		if parent := d.nodes[Key{File: op.To.Parent}]; op.To.Parent != Limbo && parent.Type != record.Directory {
			return fmt.Errorf("its directory is not there")
		}
		if op.To.Parent != Limbo && op.To.Name == "" || op.Key == (Key{}) {
			return fmt.Errorf("it has no name")
		}
		other, taken := d.at(op.To)
		switch {
		case taken && (op.Over == nil || *op.Over != other || d.nodes[other].Type == record.Directory || op.Node.Type == record.Directory || other == op.Key):
			return fmt.Errorf("the name is taken by %s", short(other.File))
		case !taken && op.Over != nil:
			return fmt.Errorf("nothing is there to be replaced")
		case taken:
			delete(d.nodes, other)
		}
		for at := op.To.Parent; at != record.Root && at != Limbo; at = d.nodes[Key{File: at}].Parent {
			if at == op.Key.File {
				return fmt.Errorf("it would lie in itself")
			}
		}
		if exists && node.Type != op.Node.Type {
			return fmt.Errorf("it becomes another thing")
		}
		d.nodes[op.Key] = Node{Key: op.Key, Type: op.Node.Type, Slot: op.To, Live: node.Live, Attr: node.Attr, Merged: node.Merged, Conflicts: node.Conflicts}
		return nil
	case Remove:
		if !exists || node.Type == record.Directory && !d.empty(op.Key.File) {
			return fmt.Errorf("it is not there, or not empty")
		}
		delete(d.nodes, op.Key)
		return nil
	}
	if !exists {
		return fmt.Errorf("it is not there")
	}
	switch op.Verb {
	case Content:
		if node.Type == record.Directory {
			return fmt.Errorf("content for a directory")
		}
		node.Live = op.Node.Live
	case SetAttr:
		node.Attr = op.Node.Attr
	case Conflicts:
		node.Merged, node.Conflicts = op.Node.Merged, op.Node.Conflicts
	}
	d.nodes[op.Key] = node
	return nil
}

func (d *disk) result() Result {
	w := newWorld()
	for _, n := range d.nodes {
		w.put(&n)
	}
	return w.result()
}

func short(id sharefs.FileID) string {
	if id == record.Root {
		return "/"
	}
	return id.String()[:4]
}

// text writes a result for people.
func text(r Result) string {
	var b strings.Builder
	for _, path := range slices.Sorted(maps.Keys(r)) {
		n := r[path]
		fmt.Fprintf(&b, "%-8q %-9s %s.%x", path, n.Type, short(n.Key.File), n.Key.Link&0xff)
		if !n.Live.IsZero() {
			fmt.Fprintf(&b, " live %.4s", n.Live)
		}
		for _, m := range n.Merged {
			fmt.Fprintf(&b, " and %s", short(m))
		}
		for _, c := range n.Conflicts {
			fmt.Fprintf(&b, " or %s: %.4s", short(c.Key.File), c.Version)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// differ says how two results differ; empty if they do not.
func differ(a, b Result) string {
	if maps.EqualFunc(a, b, func(x, y Node) bool { return x.Equal(&y) }) {
		return ""
	}
	return text(a) + "against\n" + text(b)
}
