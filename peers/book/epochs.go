package book

import "sharefs/peers/trust"

// shutOut returns how many peers have the share keys under one policy, as all have that may read something, and may read less under another.
func shutOut(before, after trust.Policy) (n uint64) {
	for _, id := range before.Peers() {
		if before.Narrows(id, after) {
			n++
		}
	}
	return n
}

// EpochsDue returns how many peers may know the share key in use and are not to know the next one. It is kept together with the change that ended their trust: whatever
// happens, a new epoch of the share keys is begun for them.
func (b *Book) EpochsDue() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.due
}

// EpochBegun tells that a new epoch was begun for so many of them as EpochsDue returned before.
func (b *Book) EpochBegun(due uint64) error {
	return b.change(func(n *Book) error {
		n.due -= min(due, n.due)
		return nil
	})
}
