package versions

import (
	"cmp"
	"sync"
	"sync/atomic"
	"time"

	"sharefs"
)

// A snapshot takes the databases that are open first. Everybody who may read the root can ask for one, at any rate. So they are taken by one at a time, on
// behalf of all who wait meanwhile; for a time that is bounded; each for a share of the time that is bounded (restShare); and none that has not changed. What
// cannot be held then is left as its last version has it: a snapshot takes nothing that may be torn.
const (
	snapshotWithin  = 10 * time.Second
	snapshotWaiting = 16 // who comes then gets a snapshot without the databases
)

// taking is who takes the databases for snapshots.
type taking struct {
	mu      sync.Mutex // held meanwhile; guards err
	begun   atomic.Uint64
	waiting atomic.Int32
	err     error // of the last time
}

// takeDatabases takes all databases that somebody can write to.
func (h *history) takeDatabases() error {
	k := &h.taking
	before := k.begun.Load()
	defer k.waiting.Add(-1)
	if k.waiting.Add(1) > snapshotWaiting {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.begun.Load() == before { // else it was done, all of it, after this call had come
		k.begun.Add(1)
		k.err = h.takeOpenDatabases(time.Now().Add(cmp.Or(h.t.cfg.within, snapshotWithin)))
	}
	return k.err
}

// takeOpenDatabases begins with none after a deadline.
func (h *history) takeOpenDatabases(deadline time.Time) error {
	t := h.t
	if t.cfg.Hold == nil {
		return nil
	}
	var with *tools
	for _, ino := range h.openDatabases() {
		d := h.databaseOf(ino)
		if d == nil || d.path == "" || h.unchanged(d) {
			continue
		}
		at, _ := h.homeOf(ino)
		if wait := time.Until(at.rests); time.Until(deadline) < max(wait, 0) {
			t.log.Info("a snapshot goes without the newest state of an SQLite database: it was held for long", "path", d.path)
			continue
		} else if wait > 0 && !t.sleep(wait) {
			return errStopped
		}
		if with == nil {
			with = h.newTools()
		}
		if err := h.takeHeld(d, with); err != nil {
			return err
		}
	}
	return nil
}

// takeHeld makes a version of a database, and of its log, if it can be held.
func (h *history) takeHeld(d *database, with *tools) error {
	b := h.newBatch(with)
	defer b.lease.end()
	all, err := h.readLocked(b, d)
	if err != nil {
		h.t.log.Info("a snapshot goes without the newest state of an SQLite database", "path", d.path, "why", err)
		return nil
	}
	_, _, err = h.keepTimed(b, all, "")
	if k := sharefs.KindOf(err); k == sharefs.KindStale || k == sharefs.KindNotExist {
		return nil // it was removed
	}
	return err
}

// unchanged reports whether the newest versions of a database and of its log are what these hold now, taken while it was held.
func (h *history) unchanged(d *database) bool {
	at, ok := h.homeOf(d.file)
	if !ok || at.held.IsZero() {
		return false
	}
	for _, ino := range []sharefs.Ino{d.file, d.log} {
		if ino == 0 {
			continue
		}
		v, err := newestVersion(h.t.db, ino, noLimit)
		if err != nil || v == nil || !v.timed || v.torn || v.place != placeKept {
			return false
		}
		st, err := h.t.live.stat(ino)
		if err != nil || stampOf(&st) != v.stamp() || at.held.Sub(timeOf(v.ctime)) < stampTick {
			return false
		}
	}
	return true
}
