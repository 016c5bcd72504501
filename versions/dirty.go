package versions

import (
	"slices"
	"sync"

	"sharefs/versions/writers"
)

// Where a file is served by the daemon, each change of it comes through a handle: writes, what the kernel writes back of a mapping, copies, truncation, allocation.
// Of large files that change the daemon notes where (changing), from when somebody could first write to a file at rest that held exactly what its newest
// version says, until it comes to rest; what was noted then tells where the next version differs (changes). All of that is in memory: what a
// start finds changed is not known, and captured by other means.
//
// A range is noted before anything in it changes, and counts as being changed until that is done: a timed version that is taken meanwhile may hold either.
type changing struct {
	mu    sync.Mutex // guards what follows; the last lock to be taken
	since uint64     // own number of the version that ranges tell the difference to
	known ranges
	now   []run // being changed at this moment
}

// begin notes that some bytes are about to change; end follows. A nil changing notes nothing.
func (c *changing) begin(from, to int64) {
	if c == nil {
		return
	}
	c.mu.Lock()
	c.known.add(from, to)
	c.now = append(c.now, run{from, to})
	c.mu.Unlock()
}

func (c *changing) end(from, to int64) {
	if c == nil {
		return
	}
	c.mu.Lock()
	if i := slices.Index(c.now, run{from, to}); i >= 0 {
		c.now = slices.Delete(c.now, i, i+1)
	}
	c.mu.Unlock()
}

// change calls fn, which changes some bytes of a live file, and has them noted.
func (f *file) change(from, to int64, fn func() error) error {
	c := f.changes.Load()
	if to < from {
		to = endless
	}
	c.begin(from, to)
	defer c.end(from, to)
	return fn()
}

// followChanges begins to note where a file changes that is at rest and about to change, if that is worth while and can be known; stamp is that of its
// content. f.content is held.
func (t *Tree) followChanges(f *file, stamp writers.Stamp) {
	f.changes.Store(nil)
	if stamp.Size < t.partFrom() || !t.isServed(f) {
		return
	}
	v, err := newestVersion(t.db, f.ino, noLimit)
	if err != nil || v == nil || v.place == placeLost || v.stamp() != stamp {
		return
	}
	f.changes.Store(&changing{since: v.own})
}

// changes tells where versions differ from earlier ones; history.mu guards it.
type changes struct {
	of   map[versionID]difference
	runs int
}

// difference is what is known to differ between a version and an earlier one.
type difference struct {
	since uint64 // own number of that one
	in    ranges
}

// maxDifferences bounds the runs of all differences that are remembered until versions are captured, 16 bytes each.
const maxDifferences = 1 << 18

func (c *changes) put(id versionID, d difference) {
	c.drop(id)
	if c.runs+len(d.in.runs) > maxDifferences || c.of == nil {
		c.of, c.runs = map[versionID]difference{}, 0
	}
	c.of[id] = d
	c.runs += len(d.in.runs) + 1
}

func (c *changes) drop(id versionID) {
	if d, ok := c.of[id]; ok {
		c.runs -= len(d.in.runs) + 1
		delete(c.of, id)
	}
}

// noteChanges takes what was noted of a file as the difference of a version that begins, at rest, to the one before. Tree.mu is held.
func (h *history) noteChanges(id versionID) {
	f := h.t.files.find(id.ino)
	if f == nil {
		return
	}
	defer h.t.files.unpin(f)
	c := f.changes.Swap(nil)
	if c == nil {
		return
	}
	c.mu.Lock()
	d := difference{c.since, c.known}
	c.mu.Unlock()
	h.mu.Lock()
	h.changes.put(id, d)
	h.mu.Unlock()
}

// changedSince returns where a version may differ from an earlier one of the inode; false where that is not known.
func (h *history) changedSince(id versionID, since uint64) (all ranges, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for at := id.own; at != since; {
		d, ok := h.changes.of[versionID{id.ino, at}]
		if !ok || d.since >= at || d.since < since {
			return ranges{}, false
		}
		all.addAll(&d.in)
		at = d.since
	}
	return all, true
}
