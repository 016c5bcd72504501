package versions

import (
	"sync"
	"sync/atomic"

	"sharefs"
)

// absents are the inodes of absent files, once somebody asks: a host without a budget has few, and is to tell of them without looking at every file.
type absents struct {
	on   atomic.Bool // what becomes absent is noted
	walk sync.Mutex  // held while the rows are looked through
	mu   sync.Mutex  // guards what follows; nothing but rows is read under it
	set  map[sharefs.Ino]struct{}
	all  bool // it has all that there are
}

// note notes what a change made absent; it is committed.
func (a *absents) note(r *row) {
	if !r.isAbsent() || !a.on.Load() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.set[r.ino] = struct{}{}
}

// FindAbsent looks through the rows of all files, the first time, so that EachAbsent knows those that are absent; cancel ends it.
func (t *Tree) FindAbsent(cancel <-chan struct{}) error {
	a := &t.absents
	a.walk.Lock()
	defer a.walk.Unlock()
	a.mu.Lock()
	all := a.all
	if a.set == nil {
		a.set = map[sharefs.Ino]struct{}{}
	}
	a.mu.Unlock()
	if all {
		return nil
	}
	a.on.Store(true) // before the rows are read: a change is in them, or notes what it makes absent
	cut := false
	err := t.db.Scan(spaceInode, nil, nil, func(key, value []byte) bool {
		if r, err := decodeRow(keyIno(key), value); err == nil && r.isRegular() {
			a.note(r)
		}
		select {
		case <-cancel:
			cut = true
		default:
		}
		return !cut
	})
	if err != nil || cut {
		return failed("look for absent files", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = true
	return nil
}

// EachAbsent calls fn for each absent file that has a name, with its size and how much of it is here, until it returns false. Before FindAbsent has ended it knows of none.
func (t *Tree) EachAbsent(fn func(ino sharefs.Ino, size, here uint64) bool) {
	a := &t.absents
	var list []*row
	a.mu.Lock()
	for ino := range a.set {
		if !a.all {
			break
		}
		r, err := t.row(ino)
		switch { // under the lock: what becomes absent again after this was read is noted after it was dropped
		case err == nil && r.isAbsent() && r.nlink > 0:
			list = append(list, r)
		case err == nil && !r.isAbsent() || sharefs.KindOf(err) == sharefs.KindStale:
			delete(a.set, ino)
		}
	}
	a.mu.Unlock()
	for _, r := range list {
		here := uint64(0)
		if st, err := t.live.stat(r.ino); err == nil {
			here = uint64(st.Blocks) * 512
		}
		if !fn(r.ino, r.size, here) {
			return
		}
	}
}
