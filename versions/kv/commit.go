package kv

import (
	"encoding/binary"
	"time"

	"sharefs"
)

// Commit makes the changes of a batch, all of them or none. When it returns they are visible to every reader and in the
// journal, so they survive the death of the process; [DB.SyncTo] with the number it returns makes them survive the loss
// of power.
//
// After an error nothing was changed. On a full disk ([sharefs.KindNoSpace]) it may be tried again; after a failed sync
// every call fails until the store is opened anew. An empty batch changes nothing.
func (db *DB) Commit(b *Batch) (seq uint64, err error) {
	if b.err != nil {
		return 0, b.err
	}
	versioned := false
	for i, touched := range b.spaces {
		if touched&^db.known[i] != 0 || i == boundaries>>6 && touched&(1<<(boundaries&63)) != 0 {
			return 0, invalid("no such space")
		}
		versioned = versioned || touched&db.keepStamp[i] != 0
	}
	db.commitMu.Lock()
	defer db.commitMu.Unlock()
	if b.rows == 0 {
		return db.last.Load(), nil
	}
	if err := db.makeRoom(); err != nil {
		return 0, err
	}
	var stamp sharefs.HLC
	if versioned {
		if stamp = db.epoch; stamp == 0 {
			stamp = db.clock.Next()
		}
	}
	return db.append(b, stamp, func() {
		if versioned {
			db.epoch = stamp
		}
	})
}

// append writes a batch to the journal and then makes it visible; change is called with mu held. Called with commitMu
// held.
func (db *DB) append(b *Batch, stamp sharefs.HLC, change func()) (seq uint64, err error) {
	binary.BigEndian.PutUint64(b.buf[batchHead-stampSize:], uint64(stamp))
	err = db.withRoom(func(err error) bool { return sharefs.KindOf(err) == sharefs.KindNoSpace }, func() (err error) {
		seq, err = db.journal.Append(b.buf)
		return err
	})
	if err != nil {
		return 0, err
	}
	db.mu.Lock()
	db.active.add(seq, stamp, b.buf[batchHead:], &db.versioned)
	change()
	db.active.epoch, db.active.boundary = db.epoch, db.boundary
	db.mu.Unlock()
	db.last.Store(seq)
	if db.journal.Synced() == seq-1 {
		db.since.Store(time.Now().UnixNano())
	}
	db.counters.commits.Add(1)
	db.counters.rows.Add(uint64(b.rows))
	if !db.armed.Load() {
		db.armed.Store(true)
		db.wake(db.dirty)
	}
	return seq, nil
}

// Boundary ends the open epoch: [DB.At] shows what was committed up to now from t on, and the row that a later commit
// supersedes is kept. t is the instant of the latest change; where that lies before the epoch's beginning, the beginning
// counts. It must not be further ahead of the clock than [sharefs.MaxClockLead]. Without an open epoch nothing happens.
func (db *DB) Boundary(t sharefs.HLC) error {
	db.commitMu.Lock()
	defer db.commitMu.Unlock()
	if db.epoch == 0 {
		return db.usable()
	}
	if err := db.makeRoom(); err != nil {
		return err
	}
	stamp := db.epoch
	if stamp == 0 {
		return nil // somebody else ended it while this call waited for room
	}
	t = max(t, stamp)
	// What the clock has handed out itself holds, though the host's clock was set back since.
	if t > db.clock.Last() {
		if err := db.clock.Observe(t); err != nil {
			return err
		}
	}
	var b Batch
	b.Put(boundaries, be(uint64(stamp)), be(uint64(t)))
	_, err := db.append(&b, 0, func() { db.epoch, db.boundary = 0, t })
	return err
}

// usable says why nothing can be committed. Called with commitMu held.
func (db *DB) usable() error {
	switch {
	case db.closed:
		return errClosed()
	case db.failed != nil:
		return db.failed
	case db.cfg.ReadOnly:
		return &sharefs.Error{Op: "commit", Path: db.cfg.Dir, Kind: sharefs.KindReadOnly}
	}
	return nil
}

// makeRoom freezes a full table. While the one before it is being applied, it lets the active one grow beyond its half
// only as fast as that gets on, so that commits wait often and little instead of once and long. Called with commitMu
// held, which it gives up while it waits.
func (db *DB) makeRoom() error {
	for {
		if err := db.usable(); err != nil {
			return err
		}
		size, limit := db.active.size, db.cfg.MemtableSize
		if db.frozen == nil {
			if size >= limit {
				db.freeze()
			}
			return nil
		}
		if size < limit/2 {
			return nil
		}
		if db.applyErr != nil {
			// The applier stands still: take what there is room for, then say why.
			if size < limit {
				return nil
			}
			return db.applyErr
		}
		done := float64(db.progress.Load()) / float64(max(1, db.frozen.count))
		if float64(size) < float64(limit)*(1+done)/2 {
			return nil
		}
		db.counters.waits.Add(1)
		db.room.Wait()
	}
}

// idleShare is the part of a full table that is worth applying before it is full: smaller ones cost bbolt too much for each row.
const idleShare = 8

// Idle tells that nobody seems to be at work. What has come together is applied now, if it is worth it, so that the next burst finds an empty
// table: while one is applied it takes a CPU and the disk from those who wait for their commits. It returns at once.
func (db *DB) Idle() {
	db.commitMu.Lock()
	defer db.commitMu.Unlock()
	if db.usable() == nil && db.frozen == nil && db.active.size >= db.cfg.MemtableSize/idleShare {
		db.freeze()
	}
}

// freeze hands the active table to the applier. Called with commitMu held and no table frozen.
func (db *DB) freeze() {
	db.active.count = db.active.len()
	db.progress.Store(0)
	db.mu.Lock()
	db.frozen, db.active = db.active, new(table)
	db.active.epoch, db.active.boundary = db.epoch, db.boundary
	db.mu.Unlock()
	// Without a new segment the present one goes on, and is removed with a later table.
	_ = db.journal.Rotate()
	db.wake(db.work)
}

// wake tells a goroutine that there is something to do; told already is as good.
func (db *DB) wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func errClosed() error {
	return &sharefs.Error{Op: "database", Kind: sharefs.KindStale, Detail: "it is closed"}
}
