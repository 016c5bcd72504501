package versions

import (
	"slices"
	"sync"
	"sync/atomic"

	"sharefs"
)

// trashNames tells which rows of the trash bear a name, so that emptying a large trash name by name does not read all of it each time. It is
// made when it is asked for, and anew after something came into the trash.
type trashNames struct {
	changed atomic.Uint64 // how often rows were added or moved, counted after the commit

	mu   sync.Mutex // guards what follows; held while it is made. Taken after Tree.mu
	made uint64     // the count that it is of, and one; 0: not made
	rows map[string][]trashRow
	many bool // there are more than trashNamed: it holds none
}

// trashRow is the key of a row.
type trashRow struct {
	before sharefs.HLC
	ino    sharefs.Ino
}

// trashNamed is how many rows are remembered, of some 100 bytes each.
const trashNamed = 200_000

// find returns the rows of a name, the latest first; ok is false where there are too many to be remembered.
func (n *trashNames) find(t *Tree, name string) (rows []trashRow, ok bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if changed := n.changed.Load() + 1; n.made != changed {
		n.rows, n.many, n.made = map[string][]trashRow{}, false, 0
		count := 0
		err := t.scanTrash(func(r Trashed) bool {
			if count++; count > trashNamed {
				n.rows, n.many = nil, true
				return false
			}
			n.rows[r.Name] = append(n.rows[r.Name], trashRow{r.Before, r.Ino})
			return true
		})
		if err != nil {
			return nil, false, err
		}
		n.made = changed
	}
	return slices.Clone(n.rows[name]), !n.many, nil
}

// forget takes a row out, after the commit that deleted it.
func (n *trashNames) forget(name string, r trashRow) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch rows := slices.DeleteFunc(n.rows[name], func(o trashRow) bool { return o == r }); {
	case len(rows) > 0:
		n.rows[name] = rows
	default:
		delete(n.rows, name)
	}
}
