package kv

import (
	"time"

	"sharefs"
)

// Sync returns when all commits made so far survive the loss of power.
func (db *DB) Sync() error { return db.SyncTo(db.last.Load()) }

// SyncTo returns when the commit with this number, and all before it, survive the loss of power. Callers at the same
// time share one fdatasync(2). A failed sync is final: this and every later call fails until the store is opened anew.
func (db *DB) SyncTo(seq uint64) error {
	if db.journal == nil {
		return nil
	}
	if db.applied.Load() >= seq { // bbolt has it, and synced
		return nil
	}
	err := db.journal.SyncTo(seq)
	if err != nil && sharefs.KindOf(err) != sharefs.KindStale {
		db.fail(err)
	}
	if err == nil && db.cfg.Synced != nil {
		db.cfg.Synced()
	}
	return err
}

// fail makes every later commit fail.
func (db *DB) fail(err error) {
	db.commitMu.Lock()
	defer db.commitMu.Unlock()
	db.setFailed(err)
}

// setFailed is fail with commitMu held.
func (db *DB) setFailed(err error) {
	if db.failed == nil {
		db.failed = err
		db.trouble.Store(&err)
	}
	db.room.Broadcast()
}

// flush syncs what nobody asked to sync, MaxDelay after the first commit of it.
func (db *DB) flush() {
	timer := time.NewTimer(db.cfg.MaxDelay)
	defer timer.Stop()
	for {
		select {
		case <-db.quit:
			return
		case <-db.dirty:
		}
		timer.Reset(db.cfg.MaxDelay)
		select {
		case <-db.quit:
			return
		case <-timer.C:
		}
		// Before the number is read, so that a commit after it wakes us again.
		db.armed.Store(false)
		_ = db.Sync() // a failure stays with the database: every later call tells it
	}
}
