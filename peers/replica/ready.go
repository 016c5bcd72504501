package replica

import (
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// Bounds of what is readied at a time, which is on the disk twice then.
const (
	readyFiles = 256
	readyBytes = 64 << 20
)

// readying readies the contents that operations need, many at a time, so that they are synced together.
type readying struct {
	r    *Replica
	ops  []converge.Op
	next int // those before it were looked at
	here map[int]result
}

// result is what became of the content of an operation.
type result struct {
	content Staged
	err     error
}

// of returns the content that an operation needs, nil if it needs none. Operations ask in their order.
func (y *readying) of(i int) (Staged, error) {
	if i >= y.next {
		y.fill(i)
	}
	it := y.here[i]
	return it.content, it.err
}

// fill readies the content of an operation and of those after it.
func (y *readying) fill(i int) {
	y.drop()
	y.here = map[int]result{}
	var list []*record.Record
	var at []int
	for size := uint64(0); i < len(y.ops) && len(list) < readyFiles && size < readyBytes; i++ {
		if rec := y.needs(&y.ops[i]); rec != nil {
			list, at = append(list, rec), append(at, i)
			size += rec.Body.(*record.Version).Size
		}
	}
	y.next = i
	if len(list) == 0 {
		return
	}
	made, errs, err := y.r.cfg.Tree.Stage(list)
	for n, op := range at {
		if err != nil {
			y.here[op] = result{nil, err}
		} else if errs[n] != nil {
			y.here[op] = result{nil, errs[n]}
		} else {
			y.here[op] = result{made[n], nil}
		}
	}
}

// needs returns the version whose content an operation needs.
func (y *readying) needs(op *converge.Op) *record.Record {
	e := y.r.files[op.Key.File]
	switch {
	case op.Node.Type != record.Regular || op.Node.Live.IsZero(), op.Verb != converge.Create && op.Verb != converge.Content:
		return nil
	case op.Verb == converge.Create && e != nil && len(e.names) > 0: // a further name
		return nil
	}
	rec := y.r.tree.Record(op.Node.Live)
	if op.Verb == converge.Content && (e == nil || y.r.holds(e, rec)) {
		return nil // it was made with it, or could not be made
	}
	return rec
}

// drop gives up what was readied.
func (y *readying) drop() {
	for _, it := range y.here {
		if it.content != nil {
			it.content.Drop()
		}
	}
	y.here = nil
}
