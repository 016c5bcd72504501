package kv

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"

	"go.etcd.io/bbolt"

	"sharefs"
	"sharefs/versions/kv/journal"
)

// Builder makes a meta.db out of an export and the changes that followed it. Nothing of it counts before [Builder.Finish] has returned. One
// goroutine uses it.
type Builder struct {
	db    *DB
	tx    *bbolt.Tx // of Part; nil between
	size  int       // bytes put into it
	table *table    // of Changes: what is not in meta.db yet
	last  uint64
	rows  uint64
}

// Bounds of what a builder holds before it goes to the file, in bytes.
const (
	buildTx    = 16 << 20
	buildTable = 64 << 20
	buildTxRow = 1 << 16
	buildAlloc = 64 << 20 // the file grows by so much
)

// NewBuilder makes an empty meta.db in a directory that exists and has none. Of cfg, Dir, Spaces and Clock count; the clock follows all
// stamps.
func NewBuilder(cfg Config) (*Builder, error) {
	if cfg.Clock == nil {
		cfg.Clock = new(sharefs.Clock)
	}
	db := &DB{cfg: Config{Dir: cfg.Dir, Spaces: cfg.Spaces, Clock: cfg.Clock, txRows: buildTxRow}, clock: cfg.Clock, active: new(table)}
	db.cfg.noSync = true // once, at the end
	db.room = sync.NewCond(&db.commitMu)
	if err := db.defineSpaces(); err != nil {
		return nil, err
	}
	path := filepath.Join(cfg.Dir, "meta.db")
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		return nil, wrap("build", path, os.ErrExist)
	}
	if err := db.openBolt(); err != nil {
		return nil, err
	}
	db.bolt.AllocSize = buildAlloc
	return &Builder{db: db, table: new(table)}, nil
}

// Begin says where the export began whose parts follow.
func (b *Builder) Begin(m Mark) {
	b.last, b.db.epoch, b.db.boundary = m.Applied, m.Epoch, m.Boundary
	b.db.clock.Restore(max(m.Epoch, m.Boundary))
}

// Part adds a part of an export. All of them come before the first change. [sharefs.KindCorrupt]: it is none.
func (b *Builder) Part(p Part) (err error) {
	defer b.db.damaged(debug.SetPanicOnFault(true), &err)
	s := b.db.spaces[p.Space]
	if s == nil || p.Past && !s.Versioned {
		return b.unfit("an export has rows of a space that is not defined")
	}
	if err := b.begin(); err != nil {
		return err
	}
	name := s.live
	if p.Past {
		name = s.past
	}
	bucket := b.tx.Bucket(name)
	bucket.FillPercent = fill
	for rows := bytes.Clone(p.Rows); len(rows) > 0; { // bbolt keeps the values that it is given until the commit
		key, value, rest, ok := nextRow(rows)
		switch {
		case !ok:
			return b.unfit("an export has a row that is none")
		case p.Past && (len(key) < group+1+stampSize || len(value) == 0), !p.Past && s.Versioned && len(value) < stampSize:
			return b.unfit("an export has a row without its stamp")
		}
		if err := bucket.Put(key, value); err != nil {
			return wrap("build", b.db.cfg.Dir, err)
		}
		b.size += len(key) + len(value)
		b.rows++
		rows = rest
	}
	if b.size >= buildTx {
		return b.end()
	}
	return nil
}

func (b *Builder) begin() (err error) {
	defer b.db.damaged(debug.SetPanicOnFault(true), &err)
	if b.tx == nil {
		b.db.readers.pause()
		b.tx, err = b.db.bolt.Begin(true)
	}
	return wrap("build", b.db.cfg.Dir, err)
}

// end commits what parts were added.
func (b *Builder) end() error {
	if b.tx == nil {
		return nil
	}
	tx := b.tx
	b.tx, b.size = nil, 0
	err := b.db.guard(tx.Commit)
	if err != nil {
		b.abandon(tx)
	}
	b.db.readers.resume()
	return wrap("build", b.db.cfg.Dir, err)
}

// abandon gives a transaction up. It reads no page, so that it can be done after a panic over one.
func (b *Builder) abandon(tx *bbolt.Tx) { _ = b.db.guard(tx.Rollback) }

// Last returns the number of the last commit added, at first that of the mark.
func (b *Builder) Last() uint64 { return b.last }

// Rows returns how many rows were added so far.
func (b *Builder) Rows() uint64 { return b.rows }

// Open returns the stamp of the epoch that is open after what was added, 0 without one, and the last boundary.
func (b *Builder) Open() (epoch, boundary sharefs.HLC) { return b.db.epoch, b.db.boundary }

// Changes adds a commit with the rows that [Archive.Next] gave. Numbers rise; one may be left out, and what it changed is then missing.
// One that was added already, or that the export holds, changes nothing. [sharefs.KindCorrupt]: they are none.
func (b *Builder) Changes(seq uint64, stamp sharefs.HLC, rows []byte) error {
	if err := b.end(); err != nil {
		return err
	}
	if len(rows) > 0 {
		for rest := rows; len(rest) > 0; {
			var ok bool
			if _, rest, ok = nextChange(rest); !ok {
				return b.unfit("a change is damaged")
			}
			b.rows++
		}
		if err := b.db.replayed(stamp, rows); err != nil {
			return err
		}
		b.table.add(seq, stamp, rows, &b.db.versioned)
	}
	b.db.clock.Restore(max(b.db.epoch, b.db.boundary))
	b.last = max(b.last, seq)
	if b.table.size >= buildTable {
		return b.flush()
	}
	return nil
}

// Commit adds changes that were not in the export: as the commit behind the last, in an epoch of its own, which is ended.
func (b *Builder) Commit(batch *Batch) error {
	if batch.err != nil || batch.Len() == 0 {
		return batch.err
	}
	stamp := b.db.epoch
	if stamp == 0 {
		stamp = b.db.clock.Next()
	}
	if err := b.Changes(b.last+1, stamp, batch.buf[batchHead:]); err != nil {
		return err
	}
	var ended Batch
	ended.Put(boundaries, be(uint64(stamp)), be(uint64(b.db.clock.Next())))
	return b.Changes(b.last+1, 0, ended.buf[batchHead:])
}

// flush puts the changes into meta.db.
func (b *Builder) flush() error {
	if err := b.end(); err != nil {
		return err
	}
	t := b.table
	if t.last == 0 {
		return nil
	}
	t.epoch, t.boundary = b.db.epoch, b.db.boundary
	t.count = t.len()
	b.table = new(table)
	return wrap("build", b.db.cfg.Dir, b.db.applyOnce(t))
}

// View returns what was built so far.
func (b *Builder) View() (View, error) {
	if err := b.flush(); err != nil {
		return nil, err
	}
	return b.db, nil
}

// Plain adds rows of a space that is not versioned, in rising order of the keys where that can be.
func (b *Builder) Plain(space uint8, fn func(put func(key, value []byte) error) error) error {
	s := b.db.spaces[space]
	if s == nil || s.Versioned {
		return b.unfit("no such space")
	}
	if err := b.flush(); err != nil {
		return err
	}
	err := fn(func(key, value []byte) (err error) {
		defer b.db.damaged(debug.SetPanicOnFault(true), &err)
		if err := b.begin(); err != nil {
			return err
		}
		bucket := b.tx.Bucket(s.live)
		bucket.FillPercent = fill
		if err := bucket.Put(key, bytes.Clone(value)); err != nil {
			return wrap("build", b.db.cfg.Dir, err)
		}
		b.rows++
		if b.size += len(key) + len(value); b.size >= buildTx {
			return b.end()
		}
		return nil
	})
	return errors.Join(err, b.end())
}

// Finish writes down that commits up to a number are in it, at least the last one that was added, and makes all of it survive the loss of
// power but for the file's name. The builder is closed then, also after an error.
func (b *Builder) Finish(applied uint64) error {
	err := b.flush()
	if err == nil {
		err = b.db.update(b.db.bolt, func(tx *bbolt.Tx) error {
			m := tx.Bucket(metaBucket)
			for _, p := range []struct {
				key   []byte
				value uint64
			}{{keyApplied, max(applied, b.last)}, {keyEpoch, uint64(b.db.epoch)}, {keyBoundary, uint64(b.db.boundary)}} {
				if err := m.Put(p.key, be(p.value)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err == nil {
		err = b.db.bolt.Sync()
	}
	return wrap("build", b.db.cfg.Dir, errors.Join(err, b.Close()))
}

// Close gives up what is not finished. It may be called again.
func (b *Builder) Close() error {
	if b.tx != nil {
		b.abandon(b.tx)
		b.tx = nil
	}
	if b.db.bolt == nil {
		return nil
	}
	b.db.readers.pause()
	err := b.db.bolt.Close()
	b.db.bolt = nil
	return err
}

func (b *Builder) unfit(detail string) error {
	return &sharefs.Error{Op: "build", Path: b.db.cfg.Dir, Kind: sharefs.KindCorrupt, Detail: detail}
}

// Verify reads all of a meta.db that nobody has open and returns the number of the last commit in it. [sharefs.KindNotExist]: there is none;
// [sharefs.KindCorrupt]: it does not read; [sharefs.KindBusy]: somebody has it.
func Verify(dir string) (applied uint64, err error) {
	path := filepath.Join(dir, "meta.db")
	if _, err := os.Lstat(path); err != nil {
		return 0, wrap("verify", path, err)
	}
	db := &DB{cfg: Config{Dir: dir, ReadOnly: true}, active: new(table)}
	if err := db.defineSpaces(); err != nil {
		return 0, err
	}
	if err := db.openBolt(); err != nil {
		return 0, err
	}
	defer db.bolt.Close()
	err = db.guard(func() error {
		return db.bolt.View(func(tx *bbolt.Tx) error {
			return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
				return b.ForEach(func(k, v []byte) error {
					var sum byte // so that the page is really looked at
					for _, p := range [...][]byte{k, v} {
						if len(p) > 0 {
							sum ^= p[0] ^ p[len(p)-1]
						}
					}
					_ = sum
					return nil
				})
			})
		})
	})
	return db.applied.Load(), wrap("verify", path, err)
}

// ScanJournal reads what is left of the journal of a store that nobody has open, and changes nothing: fn is called for every commit that reads, with
// rows as [Builder.Changes] takes them, without those of the spaces in skip. A nil disk is the directory "journal" in dir. Damage says what
// does not read although it had been synced.
func ScanJournal(dir string, disk journal.FS, skip []uint8, fn func(seq uint64, stamp sharefs.HLC, rows []byte) error) (damage []error, err error) {
	if disk == nil {
		dir = filepath.Join(dir, "journal")
		if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
			return nil, nil
		}
		disk = journal.Dir(dir)
	}
	a := &Archive{}
	for _, id := range skip {
		a.skip[id] = true
	}
	var odd []error
	damage, err = journal.Scan(disk, func(r journal.Record) error {
		stamp, rows, ok := parseBatch(r.Payload)
		if !ok {
			odd = append(odd, &sharefs.Error{Op: "journal scan", Kind: sharefs.KindCorrupt, Detail: fmt.Sprintf("record %d is no batch", r.Seq)})
			return nil
		}
		return fn(r.Seq, stamp, a.without(rows))
	})
	return append(damage, odd...), wrap("read the journal", dir, err)
}
