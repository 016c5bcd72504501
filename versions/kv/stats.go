package kv

import "sync/atomic"

// Stats tells how a database stands.
type Stats struct {
	Seq        uint64 // number of the last commit
	Synced     uint64 // of the last one that survives the loss of power
	Applied    uint64 // of the last one in bbolt
	LagCommits uint64 // commits that bbolt does not have yet
	LagBytes   int64  // of them in the journal, with those that its segments keep beside them

	Segments      int   // of the journal
	MemtableBytes int64 // of both tables
	MemtableRows  int
	MetaBytes     int64 // pages of meta.db, the free ones too

	Commits, Rows uint64 // committed since Open
	Syncs         uint64 // calls of fdatasync for the journal since Open
	Applies       uint64 // tables applied since Open
	Waits         uint64 // times that a commit had to wait for the applier
	Trims         uint64 // times that the mapped pages of meta.db were given back

	Err error // why commits fail, or the applier does not get on; nil when all is well
}

type counters struct {
	commits, rows, applies, waits, trims atomic.Uint64
}

// Stats returns the present figures.
func (db *DB) Stats() Stats {
	db.commitMu.Lock()
	s := Stats{Err: db.failed}
	if s.Err == nil {
		s.Err = db.applyErr
	}
	db.commitMu.Unlock()

	db.mu.RLock()
	for _, t := range []*table{db.active, db.frozen} {
		if t != nil {
			s.MemtableBytes += int64(t.size)
			s.MemtableRows += t.len()
		}
	}
	db.mu.RUnlock()
	s.Applied = db.applied.Load()
	s.Seq = max(s.Applied, db.last.Load())
	s.Synced = s.Applied
	s.LagCommits = s.Seq - s.Applied
	if db.journal != nil {
		j := db.journal.Stats()
		s.Synced = max(s.Applied, j.Synced)
		s.Segments, s.LagBytes, s.Syncs = j.Segments, j.Bytes, j.Syncs
	}
	if tx, err := db.begin(); err == nil {
		s.MetaBytes = tx.Size()
		tx.Rollback()
	}
	c := &db.counters
	s.Commits, s.Rows, s.Applies, s.Waits, s.Trims = c.commits.Load(), c.rows.Load(), c.applies.Load(), c.waits.Load(), c.trims.Load()
	return s
}
