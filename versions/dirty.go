package versions

import (
	"sync"

	"sharefs/versions/writers"
)

// Where a file is served by the daemon, each change of it comes through a handle: writes, what the kernel writes back of a mapping, copies, truncation, allocation.
// Of large files that change the daemon notes where (changing), from when somebody could first write to a file at rest that held exactly what its newest
// version says, until it comes to rest; what was noted then tells where the next version differs (changes). All of that is in memory: what a
// start finds changed is not known, and captured by other means.
//
// A range is noted before anything in it changes.
type changing struct {
	mu    sync.Mutex // guards what follows; the last lock to be taken
	since uint64     // own number of the version that ranges tell the difference to
	known ranges
}

// note notes that some bytes are about to change. A nil changing notes nothing.
func (c *changing) note(from, to int64) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known.add(from, to)
}

// noteChange notes that some bytes of a live file are about to change, if that is followed.
func (f *file) noteChange(from, to int64) {
	if to < from {
		to = endless
	}
	f.changes.Load().note(from, to)
}

// followChanges begins to note where a file changes that is at rest and about to change, if that is worth while and can be known; stamp is that of its
// content. f.content is held.
func (t *Tree) followChanges(f *file, stamp writers.Stamp) {
	f.changes.Store(nil)
	if stamp.Size < t.partFrom() {
		return
	}
	v, err := newestVersion(t.db, f.ino, noLimit)
	if err != nil || v == nil || v.place == placeLost || v.torn || v.stamp() != stamp {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if t.isServed(f) { // else enter may have had it passed through meanwhile
		f.changes.Store(&changing{since: v.own})
	}
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
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changes.drop(id) // the number may have been another content's
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	h.changes.put(id, difference{c.since, c.known})
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
