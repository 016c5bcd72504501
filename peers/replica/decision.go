package replica

import (
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// Decision is one decision of the owner about what others did, or one that this host makes by its rules. What it changes in the tree is one operation there ([Tree.By]),
// whatever else is done at the same time, and it is known at which names that is still to be done.
type Decision struct {
	Number  uint64 // unlike that of any other since the replica was opened
	Command string // as who decided called it

	names map[converge.Key]bool // at which the tree was to become another one, and may not be yet; guarded by Replica.mu
}

// Decision begins a decision. It is for the method that writes down what is decided; those take nil too, for none that is known.
func (r *Replica) Decision(command string) *Decision {
	return &Decision{Number: r.decisions.Add(1), Command: command, names: map[converge.Key]bool{}}
}

// decides has what is written down be of a decision, nil: of none, until the function is called that it returns. r.mu is held all the time.
func (r *Replica) decides(d *Decision) (end func()) {
	r.deciding = d
	return func() { r.deciding = nil }
}

// isDecided notes that records are of the decision that is being written down.
func (r *Replica) isDecided(ids ...record.ID) {
	if r.deciding == nil {
		return
	}
	for _, id := range ids {
		r.decided[id] = r.deciding
	}
}

// owe notes that account and records may say different things of a name.
func (r *Replica) owe(key converge.Key) {
	r.due[key] = true
	if r.deciding != nil {
		r.deciding.names[key] = true
	}
}

// Left tells at how many names the tree is not yet as was decided, and how many of those [Replica.Apply] did not come to the last time, for something else was done
// meanwhile. One is the path of one of them, as far as that has one.
func (r *Replica) Left(d *Decision) (names, skipped int, one string, err error) {
	if err := r.enter(); err != nil {
		return 0, 0, "", err
	}
	defer r.mu.Unlock()
	for key := range d.names {
		if !r.due[key] {
			delete(d.names, key)
			continue
		}
		names++
		if r.skipped[key] {
			skipped++
		}
		if node, ok := r.tree.Node(key); ok {
			if path, ok := r.path(&node); ok && (one == "" || path < one) {
				one = path
			}
		}
	}
	return names, skipped, one, nil
}
