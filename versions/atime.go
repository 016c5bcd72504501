package versions

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"sharefs"
)

// atimes are access times that are known and not yet written. Reading is not worth a commit, nor a row in the past: the times go out with
// the next change of their inode, when there are many, once in an hour and at the end, so that a daemon that is killed loses
// some, as the mount option lazytime of ext4 would. Those of regular files are moved by the disk under the store, as it is
// mounted, and have only to be asked for.
type atimes struct {
	n       atomic.Int64  // len(moved), to be read without mu
	writing sync.Mutex    // held while they are collected or written; comes before Tree.mu
	wake    chan struct{} // 1 deep: there is something to be seen to earlier than was known

	mu      sync.Mutex // guards all below; taken after Tree.mu
	moved   map[sharefs.Ino]sharefs.Time
	readers []*file   // pinned; file.readers is set
	given   uint64    // counts times that were given by utimensat(2)
	since   time.Time // when the first of moved was noted, or all were written last
}

const (
	// relatimeAge is how old an access time gets before reading moves it in any case (Documentation/filesystems, relatime).
	relatimeAge = sharefs.Time(24 * time.Hour)

	manyAtimes  = 1 << 16 // about 5 MB
	atimesDelay = time.Hour
	learnDelay  = time.Second // after which the disk is asked about files that were read
)

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
	at := r.atime
	if later, ok := t.atimes.get(r.ino); ok {
		at = max(at, later)
	}
	return at <= r.mtime || at <= r.ctime || t.now()-at >= relatimeAge
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

// add notes access times; a.mu is held.
func (a *atimes) add(times map[sharefs.Ino]sharefs.Time) {
	if a.moved == nil {
		a.moved = map[sharefs.Ino]sharefs.Time{}
	}
	if before := len(a.moved); before == 0 && len(times) > 0 {
		a.since = time.Now()
		defer a.rouse()
	} else if before < manyAtimes && before+len(times) >= manyAtimes {
		defer a.rouse()
	}
	for ino, at := range times {
		a.moved[ino] = max(a.moved[ino], at)
	}
	a.n.Store(int64(len(a.moved)))
}

// give drops the access time of an inode that has been given another one.
func (a *atimes) give(ino sharefs.Ino) {
	a.mu.Lock()
	a.given++
	a.mu.Unlock()
	a.forget(ino)
}

// forget drops the access time of an inode that is gone.
func (a *atimes) forget(ino sharefs.Ino) {
	if a.n.Load() == 0 {
		return
	}
	a.mu.Lock()
	delete(a.moved, ino)
	a.n.Store(int64(len(a.moved)))
	a.mu.Unlock()
}

// due reports whether it is time to write.
func (a *atimes) due() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.moved) >= manyAtimes || len(a.moved) > 0 && time.Since(a.since) >= atimesDelay
}

// next returns when there is something to do; zero while nothing was read. A host at rest is not to be woken for nothing.
func (a *atimes) next(now time.Time) (at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	soon := now.Add(learnDelay)
	switch {
	case len(a.readers) > 0 || len(a.moved) >= manyAtimes:
		return soon
	case len(a.moved) > 0:
		if at = a.since.Add(atimesDelay); at.Before(soon) {
			at = soon
		}
	}
	return at
}

// rouse has the settler ask for next.
func (a *atimes) rouse() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// accessed tells that a directory or symlink was read.
func (t *Tree) accessed(r *row) {
	if t.movesAtime(r) {
		t.atimes.mu.Lock()
		t.atimes.add(map[sharefs.Ino]sharefs.Time{r.ino: t.now()})
		t.atimes.mu.Unlock()
	}
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
	first := len(a.readers) == 1
	a.mu.Unlock()
	if first {
		a.rouse()
	}
}

// learnAtimes asks the disk about the files that were read.
func (t *Tree) learnAtimes() {
	a := &t.atimes
	a.writing.Lock()
	defer a.writing.Unlock()
	a.mu.Lock()
	readers, given := a.readers, a.given
	a.readers = nil
	a.mu.Unlock()
	found := make(map[sharefs.Ino]sharefs.Time, len(readers))
	for _, f := range readers {
		r, err := t.row(f.ino)
		if err != nil {
			continue
		}
		if st, err := t.statFile(f); err == nil {
			if at, _, _ := timesOf(&st); at > r.atime {
				found[f.ino] = at
			}
		}
	}
	a.mu.Lock()
	if a.given != given {
		// What was found may be older than what was given: the next round asks again.
		a.readers = append(readers, a.readers...)
		a.mu.Unlock()
		return
	}
	a.add(found)
	a.mu.Unlock()
	for _, f := range readers {
		f.mu.Lock()
		f.readers = false
		f.mu.Unlock()
		t.files.unpin(f)
	}
}

// writeAtimes writes the access times that are known.
func (t *Tree) writeAtimes() error {
	a := &t.atimes
	a.writing.Lock()
	defer a.writing.Unlock()
	a.mu.Lock()
	inos := make([]sharefs.Ino, 0, len(a.moved))
	for ino := range a.moved {
		inos = append(inos, ino)
	}
	a.mu.Unlock()
	for len(inos) > 0 {
		n := min(settleBatch, len(inos))
		if err := t.commitAtimes(inos[:n]); err != nil {
			return err
		}
		inos = inos[n:]
	}
	a.mu.Lock()
	a.since = time.Now()
	a.mu.Unlock()
	return nil
}

// commitAtimes writes some access times in one commit.
func (t *Tree) commitAtimes(inos []sharefs.Ino) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	wrote := make(map[sharefs.Ino]sharefs.Time, len(inos))
	for _, ino := range inos {
		at, ok := t.atimes.get(ino)
		if !ok {
			continue
		}
		wrote[ino] = at
		r, err := t.row(ino)
		if errors.Is(err, sharefs.KindStale) {
			continue
		}
		if err != nil {
			return err
		}
		if at > r.atime {
			c := *r
			c.atime = at
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
	for ino, at := range wrote {
		if a.moved[ino] == at { // else it was read again since
			delete(a.moved, ino)
		}
	}
	a.n.Store(int64(len(a.moved)))
	a.mu.Unlock()
	return nil
}
