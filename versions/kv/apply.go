package kv

import (
	"errors"
	"os"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"sharefs"
)

// Bounds of one transaction of bbolt: it holds the pages that it changes in memory, and readers of the journal's
// promises wait for its progress.
const (
	rowsPerTx  = 2048
	bytesPerTx = 4 << 20
	fill       = 0.9 // of a page before it is split: most keys come in runs
)

// apply puts frozen tables into bbolt, one after the other, until the database is closed.
func (db *DB) apply() {
	for {
		_ = db.journal.Prepare() // without it a rotation takes longer
		select {
		case <-db.quit:
			return
		case <-db.work:
		}
		db.mu.RLock()
		t := db.frozen
		db.mu.RUnlock()
		if t != nil && !db.applyTable(t) {
			return
		}
	}
}

// applyTable gets a table into bbolt; on a full disk it tries until there is room. It reports whether to go on.
func (db *DB) applyTable(t *table) bool {
	// First, because after the loss of power bbolt must not have a part of what the journal has lost.
	if err := db.journal.SyncTo(t.last); err != nil {
		db.fail(err)
		return false
	}
	for {
		err := db.withRoom(wantsRoom, func() error { return db.applyOnce(t) })
		db.commitMu.Lock()
		db.attempts++
		if err == nil {
			db.mu.Lock()
			db.frozen = nil
			db.mu.Unlock()
			db.applied.Store(t.last)
			db.counters.applies.Add(1)
		}
		retry := wantsRoom(err)
		switch {
		case retry:
			db.setApplyErr(wrap("apply", db.cfg.Dir, err))
		case err == nil:
			db.setApplyErr(nil)
		default:
			// What bbolt has in memory and on disk may differ now.
			db.setFailed(&sharefs.Error{Op: "apply", Path: db.cfg.Dir, Kind: sharefs.KindOf(err),
				Detail: "meta.db cannot be written, so nothing more can be promised until the store is opened again", Err: err})
		}
		db.commitMu.Unlock()
		switch {
		case err == nil:
			// A segment that stays holds what is applied already; the next table's end removes it.
			db.clearJournal()
			if db.cfg.Applied != nil {
				db.cfg.Applied()
			}
			return true
		case !retry:
			return false
		}
		select {
		case <-db.quit:
			return false
		case <-db.again:
		case <-time.After(db.cfg.retry):
		}
	}
}

// wantsRoom reports whether a transaction failed because a page of it could not be written for want of room: it may be tried again. A sync that
// fails for that reason (a thin volume, a filesystem that copies on write) is as final as any other: the page that says where the tree begins may
// be in memory and not on the disk. bbolt gives on what [os.File.WriteAt] and fdatasync(2) say, and only the first is an [os.PathError].
func wantsRoom(err error) bool {
	var e *os.PathError
	return errors.As(err, &e) && (errors.Is(e.Err, unix.ENOSPC) || errors.Is(e.Err, unix.EDQUOT))
}

// roomTries is how often room is asked for on a full disk for one thing: more often than there are parts of what is kept back, and not for ever where that is
// not what the disk has too little of.
const roomTries = 8

// withRoom does something, and again when there is more room on a disk that was full.
func (db *DB) withRoom(full func(error) bool, do func() error) error {
	err := do()
	for n := 0; n < roomTries && full(err) && db.cfg.Room != nil && db.cfg.Room(); n++ {
		err = do()
	}
	return err
}

// setApplyErr tells those who wait for room why there is none, or that it may be had again. Called with commitMu held.
func (db *DB) setApplyErr(err error) {
	db.applyErr = err
	switch {
	case db.failed != nil:
	case err == nil:
		db.trouble.Store(nil)
	default:
		db.trouble.Store(&err)
	}
	db.room.Broadcast()
}

// applyOnce puts a table into bbolt, in as many transactions as it takes. Done by half and again, it comes to the same.
func (db *DB) applyOnce(t *table) error {
	if err := db.failpoint("apply.begin"); err != nil {
		return err
	}
	w := &writer{db: db, table: t}
	for id := range t.spaces {
		if t.spaces[id] != nil && t.spaces[id].n > 0 {
			w.todo = append(w.todo, uint8(id))
		}
	}
	db.progress.Store(0)
	db.writing.Lock()
	defer db.writing.Unlock()
	db.readers.pause()
	defer db.readers.resume()
	for done := false; !done; {
		if err := db.update(db.bolt, func(tx *bbolt.Tx) (err error) {
			if done, err = w.fill(tx); err != nil {
				return err
			}
			return db.failpoint("apply.commit")
		}); err != nil {
			return err
		}
		if err := db.failpoint("apply.committed"); err != nil {
			return err
		}
		db.progress.Store(int64(w.done))
		db.wake(db.reads.wake) // writing maps pages too
		db.commitMu.Lock()     // nobody is between looking at the progress and waiting for it
		db.room.Broadcast()
		db.commitMu.Unlock()
	}
	return nil
}

// writer walks a table, transaction after transaction.
type writer struct {
	db    *DB
	table *table
	todo  []uint8  // spaces not yet done
	at    position // in the first of them
	done  int      // rows written

	room []byte // of the present transaction: bbolt keeps the slices it is given until the commit
	size int    // bytes given to it
	rows int    // and rows

	live, past *bbolt.Bucket
	states     []*version
}

// fill puts rows into a transaction until it is full; done is true when the table is at its end.
func (w *writer) fill(tx *bbolt.Tx) (done bool, err error) {
	w.room, w.size, w.rows = nil, 0, 0
	for len(w.todo) > 0 {
		s := w.db.spaces[w.todo[0]]
		w.live = tx.Bucket(s.live)
		w.live.FillPercent = fill
		if s.Versioned {
			w.past = tx.Bucket(s.past)
			w.past.FillPercent = fill
		}
		rows := w.table.spaces[s.ID]
		for r := rows.row(w.at); r != nil; r = rows.row(w.at) {
			if w.rows >= w.db.cfg.txRows || w.size >= bytesPerTx {
				return false, nil
			}
			if s.Versioned {
				err = w.versioned(r)
			} else {
				err = w.plain(r)
			}
			if err != nil {
				return false, err
			}
			w.at = rows.next(w.at)
			w.done++
		}
		w.todo, w.at = w.todo[1:], position{}
	}
	m := tx.Bucket(metaBucket)
	for _, p := range []struct {
		key   []byte
		value uint64
	}{{keyApplied, w.table.last}, {keyEpoch, uint64(w.table.epoch)}, {keyBoundary, uint64(w.table.boundary)}} {
		if err := m.Put(p.key, be(p.value)); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (w *writer) plain(r *row) error {
	if r.deleted {
		return w.delete(w.live, r.key)
	}
	return w.put(w.live, r.key, r.value)
}

// versioned merges the states of a row in the table with the one in bbolt. The newest becomes the live row, the others
// history. Doing so twice changes nothing.
func (w *writer) versioned(r *row) error {
	w.states = w.states[:0]
	for v := &r.version; v != nil; v = v.older {
		w.states = append(w.states, v)
	}
	had := w.live.Get(r.key)
	if had != nil {
		// Its stamp is that of one of these, or older than all of them, but in a second try: then it is the newest.
		stamp, value := splitStamp(had)
		if oldest := w.states[len(w.states)-1]; stamp < oldest.stamp {
			w.states = append(w.states, &version{stamp: stamp, value: value})
		}
	}
	oldest := len(w.states) - 1
	for i := oldest; i >= 0; i-- {
		v := w.states[i]
		switch {
		case v.deleted:
			// That there was no row is worth a row only where there was one before.
			if i == oldest && !w.hadBefore(r.key, v.stamp) || i < oldest && w.states[i+1].deleted {
				continue
			}
			if err := w.put(w.past, w.pastKey(r.key, v.stamp), []byte{0}); err != nil {
				return err
			}
		case i > 0:
			value := append(w.take(1+len(v.value)), 1)
			if err := w.put(w.past, w.pastKey(r.key, v.stamp), append(value, v.value...)); err != nil {
				return err
			}
		}
	}
	if newest := w.states[0]; !newest.deleted {
		value := append(w.take(stampSize+len(newest.value)), be(uint64(newest.stamp))...)
		return w.put(w.live, r.key, append(value, newest.value...))
	}
	if had != nil {
		return w.delete(w.live, r.key)
	}
	return nil
}

// hadBefore reports whether history knows the row as being there right before a stamp.
func (w *writer) hadBefore(key []byte, stamp sharefs.HLC) bool {
	want := w.pastKey(key, stamp-1)
	k, v := w.past.Cursor().Seek(want)
	if !samePast(k, want) {
		return false
	}
	_, ok := splitPast(v)
	return ok
}

func (w *writer) pastKey(key []byte, stamp sharefs.HLC) []byte {
	return pastKey(w.take((len(key)/group+1)*(group+1)+stampSize), key, stamp)
}

// take returns room for n bytes that stays as it is until the transaction ends.
func (w *writer) take(n int) []byte {
	if n > cap(w.room)-len(w.room) {
		w.room = make([]byte, 0, max(64<<10, n))
	}
	at := len(w.room)
	w.room = w.room[:at+n]
	return w.room[at : at : at+n]
}

func (w *writer) put(b *bbolt.Bucket, key, value []byte) error {
	w.rows++
	w.size += len(key) + len(value)
	return b.Put(key, value)
}

func (w *writer) delete(b *bbolt.Bucket, key []byte) error {
	w.rows++
	w.size += len(key)
	return b.Delete(key)
}

// Checkpoint returns when everything committed before is in meta.db and synced.
func (db *DB) Checkpoint() error {
	db.commitMu.Lock()
	defer db.commitMu.Unlock()
	if err := db.usable(); err != nil {
		return err
	}
	return db.checkpoint()
}

// checkpoint is Checkpoint with commitMu held, which it gives up while it waits.
func (db *DB) checkpoint() error {
	// If the disk was full, there may be room by now: what counts is an attempt that ends from here on.
	before := db.attempts
	if db.applyErr != nil {
		db.wake(db.again)
	}
	for target := db.last.Load(); db.applied.Load() < target; db.room.Wait() {
		switch {
		case db.failed != nil:
			return db.failed
		case db.applyErr != nil && db.attempts > before:
			return db.applyErr
		}
		if db.frozen == nil && db.active.last != 0 {
			db.freeze()
		}
	}
	return nil
}
