package versions

import (
	"cmp"
	"errors"
	"sync/atomic"
	"time"

	"sharefs"
)

// An SQLite database that stays open is taken while SQLite's own locks keep everybody from changing it, and its write-ahead log with it, under the same
// time, so that whatever shows the one as it was shows the other as well. A rollback journal is not taken: what it would undo is not in the database file
// while that is held. The locks are taken through the mount, which its daemon must not touch: Config.Hold has a child process do it.
//
// Where the locks are not had in time, or not kept until all is read, the versions are torn.

// Hold is an SQLite database that nobody changes.
type Hold interface {
	// Files returns the inodes of the database and of its write-ahead log, 0 for none.
	Files() (file, log sharefs.Ino)
	// Release lets it go, and reports whether it was held until now. It is called once.
	Release() bool
}

// holdFor is how long a database is read before that is given up: who holds it gives up then as well.
const holdFor = 2 * time.Second

// errHeldTooLong says that a database cannot be read within holdFor.
var errHeldTooLong = errors.New("it takes too long to read")

// readDatabase captures a database and its log; the file asked for comes first.
func (h *history) readDatabase(b *batch, d *database, asked sharefs.Ino) (all []heldContent, err error) {
	all, why := h.readLocked(b, d)
	if why == nil {
		if all = askedFirst(all, asked); all[0].ino == asked {
			return all, nil
		}
		why = errors.New("the log is not that of the database")
	}
	if errors.Is(why, errStopped) {
		return nil, why
	}
	h.t.log.Info("an SQLite database is taken while it may be written to", "inode", uint64(d.file), "path", d.path, "why", why)
	all = nil
	for _, ino := range []sharefs.Ino{d.file, d.log} {
		if ino == 0 {
			continue
		}
		one, err := h.readSteady(b, ino)
		if err != nil {
			if ino != asked {
				continue // it is gone
			}
			return nil, err
		}
		one.torn = true // each may stand still, and still not belong to the other
		all = append(all, one)
	}
	return askedFirst(all, asked), nil
}

// askedFirst puts the file that was asked for in front.
func askedFirst(all []heldContent, asked sharefs.Ino) []heldContent {
	for i := range all {
		if all[i].ino == asked {
			all[0], all[i] = all[i], all[0]
		}
	}
	return all
}

// Bounds of holding. Whoever waits keeps a worker of the mount busy, which others need, the one who holds among them.
const (
	maxHolds     = 2
	holdsWaiting = 16
	holdsWithin  = 10 * time.Second
)

// turns gives out who may have a database held.
type turns struct {
	free    chan struct{} // one for each that may begin
	waiting atomic.Int32
}

func newTurns() *turns {
	t := &turns{free: make(chan struct{}, maxHolds)}
	for range maxHolds {
		t.free <- struct{}{}
	}
	return t
}

// take waits for a turn, up to a time, and reports whether it has one, which is to be given back. It does not wait in a crowd.
func (t *turns) take(stop <-chan struct{}, within time.Duration) bool {
	select {
	case <-t.free:
		return true
	default:
	}
	defer t.waiting.Add(-1)
	if t.waiting.Add(1) > holdsWaiting {
		return false
	}
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-t.free:
		return true
	case <-timer.C:
	case <-stop:
	}
	return false
}

func (t *turns) give() { t.free <- struct{}{} }

// restShare is for how many times as long as it was held a database is let alone by snapshots then: everybody may ask for these.
const restShare = 9

// hold has a database held, and says when that began. What is returned gives it back.
func (h *history) hold(d *database) (held Hold, since time.Time, release func() bool, err error) {
	if h.t.cfg.Hold == nil {
		return nil, since, nil, errors.New("nobody can hold it")
	}
	if d.path == "" {
		return nil, since, nil, errors.New("the file has not exactly one name")
	}
	if !h.holding.take(h.t.stop, holdsWithin) {
		return nil, since, nil, errors.New("too many databases are being taken")
	}
	began := time.Now()
	end := func() {
		now := time.Now()
		h.remember(d.file, func(at *home) { at.rests = now.Add(restShare * now.Sub(began)) })
		h.holding.give()
	}
	held, err = h.t.cfg.Hold(d.path)
	if err != nil {
		end()
		return nil, since, nil, err
	}
	since, released := time.Now(), false
	return held, since, func() bool {
		if released {
			return false
		}
		released = true
		defer end()
		return held.Release()
	}, nil
}

// readLocked captures a database while it is held. An error says why it could not be.
func (h *history) readLocked(b *batch, d *database) (all []heldContent, err error) {
	hold, since, release, err := h.hold(d)
	if err != nil {
		return nil, err
	}
	defer release()
	file, log := hold.Files()
	if file != d.file {
		return nil, errors.New("another file has its name")
	}
	d.log = log
	var files []*grabbed
	defer func() {
		for _, g := range files {
			g.close()
		}
	}()
	cloned := true
	for _, ino := range []sharefs.Ino{file, log} {
		if ino == 0 {
			continue
		}
		g, err := h.grab(ino)
		if err != nil {
			return nil, err
		}
		files = append(files, g)
		cloned = cloned && g.clone != nil
	}
	errLost := errors.New("it was not held until all was read")
	if cloned && !release() { // what follows takes no locks
		return nil, errLost
	}
	defer func(fast bool) { b.pace.fast = fast }(b.pace.fast)
	b.pace.hurry()
	for _, g := range files {
		one, err := g.read(b, func(int64) error {
			switch {
			case h.t.closed.Load():
				return errStopped
			case !cloned && time.Since(since) > cmp.Or(h.t.cfg.holdFor, holdFor):
				return errHeldTooLong
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if one.torn {
			return nil, errors.New("it was changed in spite of its locks")
		}
		all = append(all, one)
	}
	if !cloned && !release() {
		return nil, errLost
	}
	h.remember(file, func(at *home) { at.held = since })
	return all, nil
}
