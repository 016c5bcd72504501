package kv

import (
	"errors"

	"sharefs"
	"sharefs/versions/kv/journal"
)

// Archive follows the commits of a database that was opened with [Config.Archive], so that they can be kept elsewhere and meta.db be made
// anew from there. It reads what the journal holds, behind and beside those who commit, who do not wait for it. One goroutine uses
// it at a time.
type Archive struct {
	db   *DB
	skip [256]bool
	tail *journal.Tail
	rows []byte
}

// Changes returns an archive that begins behind the commit with this number. Rows of the spaces in skip are left out.
func (db *DB) Changes(after uint64, skip ...uint8) *Archive {
	a := &Archive{db: db, tail: db.journal.Tail(after)}
	for _, id := range skip {
		a.skip[id] = true
	}
	return a
}

// Seq returns the number of the last commit given out.
func (a *Archive) Seq() uint64 { return a.tail.Seq() }

// Next calls fn for the commits that follow, each with its number, the stamp of its epoch (0 where no versioned row is in it) and its rows as
// [Builder.Changes] takes them, up to the last that survives the loss of power or until limit bytes were read, at least one. What fn gets
// is void when it returns. It reports how many there were. [sharefs.KindNotExist]: the journal does not go back so far.
func (a *Archive) Next(limit int, fn func(seq uint64, stamp sharefs.HLC, rows []byte) error) (n int, err error) {
	n, err = a.tail.Next(limit, func(r journal.Record) error {
		stamp, rows, ok := parseBatch(r.Payload)
		if !ok {
			return &sharefs.Error{Op: "archive", Kind: sharefs.KindCorrupt, Detail: "the journal holds a record that is no batch"}
		}
		return fn(r.Seq, stamp, a.without(rows))
	})
	var e *sharefs.Error
	if err != nil && !errors.As(err, &e) {
		err = wrap("archive", a.db.cfg.Dir, err)
	}
	return n, err
}

// without returns rows but for those of skipped spaces.
func (a *Archive) without(rows []byte) []byte {
	a.rows = a.rows[:0]
	from := 0 // of what stays and is not copied yet
	for at := 0; at < len(rows); {
		c, rest, _ := nextChange(rows[at:])
		next := len(rows) - len(rest)
		if a.skip[c.space] {
			a.rows = append(a.rows, rows[from:at]...)
			from = next
		}
		at = next
	}
	if from == 0 {
		return rows
	}
	a.rows = append(a.rows, rows[from:]...)
	return a.rows
}

// Archived says that the commits up to this number were copied and need not stay in the journal for that.
func (db *DB) Archived(seq uint64) {
	db.copied.Store(seq)
	db.clearJournal()
}

// KeepJournal has the journal stay as it is from now on and returns the number of the commit behind which all are in it.
func (db *DB) KeepJournal() uint64 {
	db.commitMu.Lock()
	defer db.commitMu.Unlock()
	// A segment goes only when all of it is applied, and more is applied only when somebody has commitMu.
	seq := db.applied.Load()
	db.copied.Store(seq)
	return seq
}

// clearJournal removes the segments that nobody needs. One that stays although it could go is removed the next time.
func (db *DB) clearJournal() {
	_ = db.journal.RemoveTo(min(db.applied.Load(), db.copied.Load()))
}

// Synced returns the number of the last commit that survives the loss of power.
func (db *DB) Synced() uint64 { return db.journal.Synced() }

// JournalBytes returns how many bytes of records the journal holds.
func (db *DB) JournalBytes() int64 { return db.journal.Stats().Bytes }
