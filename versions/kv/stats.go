package kv

import (
	"sync/atomic"
	"time"
)

// Stats tells how a database stands.
type Stats struct {
	Seq        uint64 `json:"seq"`         // number of the last commit
	Synced     uint64 `json:"synced"`      // of the last one that survives the loss of power
	Applied    uint64 `json:"applied"`     // of the last one in bbolt
	LagCommits uint64 `json:"lag_commits"` // commits that bbolt does not have yet
	LagBytes   int64  `json:"lag_bytes"`   // of journal that holds them
	UnsyncedMs int64  `json:"unsynced_ms"` // since the oldest commit that the loss of power could undo; 0 without one

	Segments      int   `json:"segments"`       // of the journal, with records in them
	MemtableBytes int64 `json:"memtable_bytes"` // of both tables
	MemtableRows  int   `json:"memtable_rows"`
	MetaBytes     int64 `json:"meta_bytes"` // pages of meta.db, the free ones too

	// Since Open:
	Commits uint64 `json:"commits"`
	Rows    uint64 `json:"rows"`    // in them
	Syncs   uint64 `json:"syncs"`   // calls of fdatasync for the journal
	Applies uint64 `json:"applies"` // tables applied
	Waits   uint64 `json:"waits"`   // times that a commit waited for the applier
	Trims   uint64 `json:"trims"`   // times that the mapped pages of meta.db were given back

	LastError string `json:"last_error,omitempty"` // why commits fail, or the applier does not get on, at present
}

type counters struct {
	commits, rows, applies, waits, trims atomic.Uint64
}

// Stats returns the present figures. It does not wait for the disk.
func (db *DB) Stats() Stats {
	var s Stats
	if err := db.trouble.Load(); err != nil {
		s.LastError = (*err).Error()
	}
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
	if s.Synced < s.Seq {
		s.UnsyncedMs = max(1, time.Since(time.Unix(0, db.since.Load())).Milliseconds())
	}
	if tx, err := db.begin(); err == nil {
		s.MetaBytes = tx.tx.Size()
		tx.end()
	}
	c := &db.counters
	s.Commits, s.Rows, s.Applies = c.commits.Load(), c.rows.Load(), c.applies.Load()
	s.Waits, s.Trims = c.waits.Load(), c.trims.Load()
	return s
}
