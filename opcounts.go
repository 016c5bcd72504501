package sharefs

import "iter"

// What the label of an operation begins with that undoes another one, or does it again; the id of that follows.
const (
	UndoLabel = "undo "
	RedoLabel = "redo "
)

// OpCounts counts the changes that one program made by their kind.
type OpCounts struct {
	Made       uint64 `json:"made"`
	Removed    uint64 `json:"removed"`
	Renamed    uint64 `json:"renamed"`
	Linked     uint64 `json:"linked"`
	Written    uint64 `json:"written"` // opened for writing, or cut
	Attributes uint64 `json:"attributes"`
}

// Sum returns the number of all changes.
func (c *OpCounts) Sum() (sum uint64) {
	for _, n := range c.All() {
		sum += n
	}
	return sum
}

// All yields each kind of which there were changes, and their number.
func (c *OpCounts) All() iter.Seq2[string, uint64] {
	return func(yield func(kind string, n uint64) bool) {
		for _, k := range [...]struct {
			kind string
			n    uint64
		}{{"made", c.Made}, {"removed", c.Removed}, {"renamed", c.Renamed}, {"linked", c.Linked}, {"written", c.Written}, {"attributes", c.Attributes}} {
			if k.n > 0 && !yield(k.kind, k.n) {
				return
			}
		}
	}
}
