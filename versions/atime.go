package versions

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"sharefs"
)

// atimes are access times that are known and not yet written: reading is not worth a commit of its own. Those of regular files are moved by
// the disk under the store, as it is mounted, so that they have only to be asked for.
type atimes struct {
	n       atomic.Int64 // len(moved), to be read without mu
	writing sync.Mutex   // held by flushAtimes; comes before Tree.mu

	mu      sync.Mutex // guards all below; taken after Tree.mu
	moved   map[sharefs.Ino]sharefs.Time
	readers []*file // pinned; file.readers is set
}

// relatimeAge is how old an access time gets before reading moves it in any case (Documentation/filesystems, relatime).
const relatimeAge = sharefs.Time(24 * time.Hour)

func (t *Tree) now() sharefs.Time { return sharefs.Time(time.Now().UnixNano()) }

// movesAtime reports whether reading an inode now moves its access time.
func (t *Tree) movesAtime(r *row) bool {
	if t.cfg.ReadOnly {
		return false
	}
	switch Atime(t.atime.Load()) {
	case Noatime:
		return false
	case Strictatime:
		return true
	}
	return r.atime <= r.mtime || r.atime <= r.ctime || t.now()-r.atime >= relatimeAge
}

// get returns an access time that waits to be written.
func (a *atimes) get(ino sharefs.Ino) (sharefs.Time, bool) {
	if a.n.Load() == 0 {
		return 0, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	at, ok := a.moved[ino]
	return at, ok
}

// accessed tells that a directory or symlink was read.
func (t *Tree) accessed(r *row) {
	if !t.movesAtime(r) {
		return
	}
	a := &t.atimes
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.moved == nil {
		a.moved = map[sharefs.Ino]sharefs.Time{}
	}
	if at, ok := a.moved[r.ino]; ok && Atime(t.atime.Load()) == Relatime && at > r.mtime && at > r.ctime {
		return
	}
	a.moved[r.ino] = t.now()
	a.n.Store(int64(len(a.moved)))
}

// forget drops the access time of an inode that has been given another one; Tree.mu is held.
func (a *atimes) forget(ino sharefs.Ino) {
	if a.n.Load() == 0 {
		return
	}
	a.mu.Lock()
	delete(a.moved, ino)
	a.n.Store(int64(len(a.moved)))
	a.mu.Unlock()
}

// read tells that the last handle of a file that may have been read is closed.
func (t *Tree) read(f *file) {
	f.mu.Lock()
	known := f.readers || f.hot
	f.mu.Unlock()
	if known {
		return // it is looked at anyway
	}
	r, err := t.row(f.ino)
	if err != nil || r.nlink == 0 || !t.movesAtime(r) {
		return
	}
	t.files.pin(f.ino)
	f.mu.Lock()
	if known = f.readers; !known {
		f.readers = true
	}
	f.mu.Unlock()
	if known {
		t.files.unpin(f)
		return
	}
	a := &t.atimes
	a.mu.Lock()
	a.readers = append(a.readers, f)
	a.mu.Unlock()
}

// flushAtimes writes the access times that are known.
func (t *Tree) flushAtimes() error {
	a := &t.atimes
	a.writing.Lock()
	defer a.writing.Unlock()
	a.mu.Lock()
	none, readers := len(a.moved) == 0, a.readers
	a.mu.Unlock()
	if none && len(readers) == 0 {
		return nil
	}
	found := map[sharefs.Ino]sharefs.Time{}
	for _, f := range readers {
		if st, err := t.statFile(f); err == nil {
			found[f.ino], _, _ = timesOf(&st)
		}
	}
	a.mu.Lock()
	for ino, at := range a.moved {
		found[ino] = at
	}
	a.mu.Unlock()
	inos := make([]sharefs.Ino, 0, len(found))
	for ino := range found {
		inos = append(inos, ino)
	}
	for len(inos) > 0 {
		n := min(settleBatch, len(inos))
		if err := t.writeAtimes(inos[:n], found); err != nil {
			return err
		}
		inos = inos[n:]
	}
	a.mu.Lock()
	a.readers = a.readers[len(readers):]
	a.mu.Unlock()
	for _, f := range readers {
		f.mu.Lock()
		f.readers = false
		f.mu.Unlock()
		t.files.unpin(f)
	}
	return nil
}

// writeAtimes commits some access times. They leave no row in the past worth having, but do so at most once a day for each inode that
// nobody changes.
func (t *Tree) writeAtimes(inos []sharefs.Ino, found map[sharefs.Ino]sharefs.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	for _, ino := range inos {
		r, err := t.row(ino)
		if errors.Is(err, sharefs.KindStale) {
			continue
		}
		if err != nil {
			return err
		}
		if found[ino] > r.atime {
			c := *r
			c.atime = found[ino]
			x.rows = append(x.rows, &c)
		}
	}
	if len(x.rows) > 0 {
		if err := x.commit(); err != nil {
			return err
		}
	}
	a := &t.atimes
	a.mu.Lock()
	for _, ino := range inos {
		if a.moved[ino] <= found[ino] {
			delete(a.moved, ino)
		}
	}
	a.n.Store(int64(len(a.moved)))
	a.mu.Unlock()
	return nil
}
