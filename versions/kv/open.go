package kv

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions/kv/journal"
)

// Keys of the bucket "meta".
var (
	metaBucket  = []byte("meta")
	keyFormat   = []byte("format")
	keyApplied  = []byte("applied")
	keyEpoch    = []byte("epoch")
	keyBoundary = []byte("boundary")
)

const (
	format = 1

	// Readers make a growing bbolt wait when it must map the file anew (a reader of 300 ms made it wait a second), so it
	// maps more than it will need. That costs addresses, not memory.
	mapSize         = 8 << 30
	mapSizeReadOnly = 1 << 30
	lockTimeout     = time.Second
	birth           = 4 // pages that bbolt begins a file with; the first transaction makes it longer
)

// Open opens the database of a store, and makes it where there is none. It replays the journal: when Open returns,
// every commit that was ever synced is there, and of later ones a prefix. Errors: [sharefs.KindBusy] where another
// process has it, [sharefs.KindCorrupt] where synced data is damaged, [sharefs.KindInvalid] where the spaces differ
// from those it was made with.
func Open(cfg Config) (*DB, error) {
	if cfg.MaxDelay <= 0 {
		cfg.MaxDelay = DefaultMaxDelay
	}
	if cfg.MemtableSize <= 0 {
		cfg.MemtableSize = DefaultMemtableSize
	}
	if cfg.Clock == nil {
		cfg.Clock = new(sharefs.Clock)
	}
	if cfg.retry <= 0 {
		cfg.retry = time.Second
	}
	if cfg.txRows <= 0 {
		cfg.txRows = rowsPerTx
	}
	db := &DB{cfg: cfg, clock: cfg.Clock, active: new(table),
		work: make(chan struct{}, 1), again: make(chan struct{}, 1), dirty: make(chan struct{}, 1),
		quit: make(chan struct{}), reads: resident{wake: make(chan struct{}, 1)}}
	db.room = sync.NewCond(&db.commitMu)
	if err := db.defineSpaces(); err != nil {
		return nil, err
	}
	if err := db.openBolt(); err != nil {
		return nil, err
	}
	if err := db.openJournal(); err != nil {
		db.readers.pause()
		db.bolt.Close()
		return nil, err
	}
	db.clock.Restore(max(db.epoch, db.boundary))
	db.tasks.Go(db.trim)
	if !cfg.ReadOnly {
		db.tasks.Go(db.apply)
		db.tasks.Go(db.flush)
		db.wake(db.work)
	}
	return db, nil
}

func (db *DB) openBolt() error {
	path := filepath.Join(db.cfg.Dir, "meta.db")
	if !db.cfg.ReadOnly {
		if err := db.steady(path); err != nil {
			return wrap("open", path, err)
		}
	}
	b, err := db.boltAt(path)
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return &sharefs.Error{Op: "open", Path: path, Kind: sharefs.KindBusy, Detail: "another process has it open"}
	case damagedFile(err):
		return &sharefs.Error{Op: "open", Path: path, Kind: sharefs.KindCorrupt, Err: err}
	case err != nil:
		return wrap("open", path, err)
	}
	db.bolt = b
	if db.cfg.noSync {
		b.AllocSize = 64 << 10 // such tests copy the file often
	}
	complete := false
	err = db.guard(func() error {
		return b.View(func(tx *bbolt.Tx) error {
			complete = db.complete(tx)
			return nil
		})
	})
	// Nothing is written unless something is missing: a store on a full disk has to open, so that files can be removed from it.
	if err == nil && !complete && !db.cfg.ReadOnly {
		err = db.update(b, db.makeMeta)
	}
	if err == nil {
		err = db.guard(func() error { return b.View(db.readMeta) })
	}
	if err != nil {
		b.Close()
		return wrap("open", path, err)
	}
	return nil
}

// boltAt opens or makes meta.db.
func (db *DB) boltAt(path string) (b *bbolt.DB, err error) {
	opts := &bbolt.Options{Timeout: lockTimeout, FreelistType: bbolt.FreelistMapType, NoStatistics: true,
		InitialMmapSize: mapSize, ReadOnly: db.cfg.ReadOnly, NoSync: db.cfg.noSync, NoGrowSync: db.cfg.noSync}
	if db.cfg.ReadOnly {
		opts.InitialMmapSize = mapSizeReadOnly
	}
	try := func() error {
		b, err = bbolt.Open(path, 0o600, opts)
		return err
	}
	err = db.guard(try)
	if errors.Is(err, unix.ENOMEM) { // the process may not map so much (RLIMIT_AS)
		opts.InitialMmapSize = 0
		err = db.guard(try)
	}
	return b, err
}

// guard calls into bbolt, which panics over a damaged file; what lies beyond its end, mapped, is a fault.
func (db *DB) guard(call func() error) (err error) {
	defer db.damaged(debug.SetPanicOnFault(true), &err)
	return call()
}

// update changes meta.db in a transaction, guarded. After a panic in its own form of this bbolt reads more pages to give the transaction up, and if these make no
// sense either its lock stays taken, so that the file could not even be closed.
func (db *DB) update(b *bbolt.DB, change func(*bbolt.Tx) error) error {
	var tx *bbolt.Tx
	err := db.guard(func() (err error) {
		if tx, err = b.Begin(true); err != nil {
			return err
		}
		if err := change(tx); err != nil {
			return err
		}
		return tx.Commit()
	})
	if err != nil && tx != nil {
		_ = db.guard(tx.Rollback) // reads no page; of one that has ended it changes nothing
	}
	return err
}

// damaged is deferred by whoever calls into bbolt, with what [debug.SetPanicOnFault] returned: a panic over a page that makes no sense becomes an error.
func (db *DB) damaged(faults bool, err *error) {
	debug.SetPanicOnFault(faults)
	if r := recover(); r != nil {
		*err = &sharefs.Error{Op: "read", Path: filepath.Join(db.cfg.Dir, "meta.db"), Kind: sharefs.KindCorrupt,
			Detail: fmt.Sprint("a page of it makes no sense: ", r)}
	}
}

// damagedFile reports whether bbolt could make nothing of the file.
func damagedFile(err error) bool {
	return errors.Is(err, berrors.ErrInvalid) || errors.Is(err, berrors.ErrChecksum) || errors.Is(err, berrors.ErrVersionMismatch)
}

// steady sees to it that what is read from meta.db is what its disk holds. A process that died may have written its last meta page and
// not synced it; the next transaction would write over pages that the one before it needs, and the loss of power in the middle would leave
// neither whole. And a sync may have failed, after which the kernel takes the pages for clean: what is in memory of them is dropped, so that
// they are read from the disk (Rebello et al., see package journal). That was the end of the process that saw it, and its
// journal is still there.
func (db *DB) steady(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	names, err := os.ReadDir(filepath.Join(db.cfg.Dir, "journal"))
	if errors.Is(err, os.ErrNotExist) {
		// The journal is made after meta.db: power was lost at its birth, and what there is of it may be any part of nothing.
		st, err := f.Stat()
		if err == nil && st.Size() <= int64(birth*os.Getpagesize()) {
			err = os.Remove(path)
		}
		return err
	}
	if err := db.failpoint("open.sync"); err != nil {
		return err
	}
	if !db.cfg.noSync {
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return err
		}
	}
	if err == nil && len(names) > 0 {
		_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) // advice: some filesystems keep the pages
	}
	return nil
}

// complete reports whether meta.db has all that makeMeta makes.
func (db *DB) complete(tx *bbolt.Tx) bool {
	m := tx.Bucket(metaBucket)
	if m == nil || m.Get(keyFormat) == nil {
		return false
	}
	for _, s := range db.spaces {
		if s != nil && (tx.Bucket(s.live) == nil || s.Versioned && tx.Bucket(s.past) == nil || s.ID != boundaries && m.Get(spaceKey(s.ID)) == nil) {
			return false
		}
	}
	return true
}

// makeMeta makes the buckets that are missing.
func (db *DB) makeMeta(tx *bbolt.Tx) error {
	m, err := tx.CreateBucketIfNotExists(metaBucket)
	if err != nil {
		return err
	}
	if m.Get(keyFormat) == nil {
		if err := m.Put(keyFormat, be(format)); err != nil {
			return err
		}
	}
	for _, s := range db.spaces {
		if s == nil {
			continue
		}
		if _, err := tx.CreateBucketIfNotExists(s.live); err != nil {
			return err
		}
		if s.ID == boundaries {
			continue
		}
		if s.Versioned {
			if _, err := tx.CreateBucketIfNotExists(s.past); err != nil {
				return err
			}
		}
		if key := spaceKey(s.ID); m.Get(key) == nil {
			if err := m.Put(key, s.definition()); err != nil {
				return err
			}
		}
	}
	return nil
}

func spaceKey(id uint8) []byte { return append([]byte("space/"), id) }

func (s *space) definition() []byte {
	if s.Versioned {
		return append([]byte{1}, s.Name...)
	}
	return append([]byte{0}, s.Name...)
}

func (db *DB) readMeta(tx *bbolt.Tx) error {
	m := tx.Bucket(metaBucket)
	if m == nil {
		return db.unfit(sharefs.KindCorrupt, "meta.db has no bucket meta")
	}
	if f := number(m.Get(keyFormat)); f != format {
		return db.unfit(sharefs.KindNotSupported, "meta.db has a format that this program does not know")
	}
	for _, s := range db.spaces {
		if s == nil || s.ID == boundaries {
			continue
		}
		if d := m.Get(spaceKey(s.ID)); d != nil && string(d) != string(s.definition()) {
			return db.unfit(sharefs.KindInvalid, "space "+s.Name+" was defined otherwise")
		}
	}
	db.applied.Store(number(m.Get(keyApplied)))
	db.last.Store(db.applied.Load())
	db.epoch = sharefs.HLC(number(m.Get(keyEpoch)))
	db.boundary = sharefs.HLC(number(m.Get(keyBoundary)))
	return nil
}

// openJournal replays into the frozen table what bbolt does not have yet.
func (db *DB) openJournal() error {
	fs := db.cfg.FS
	if fs == nil {
		dir := filepath.Join(db.cfg.Dir, "journal")
		if db.cfg.ReadOnly {
			if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
				return nil
			}
		} else if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return wrap("open", dir, err)
		}
		fs = journal.Dir(dir)
	}
	t := new(table)
	load := func(r journal.Record) error {
		stamp, rows, ok := parseBatch(r.Payload)
		if !ok {
			return db.unfit(sharefs.KindCorrupt, "the journal holds a record that is no batch")
		}
		if err := db.replayed(stamp, rows); err != nil {
			return err
		}
		t.add(r.Seq, stamp, rows, &db.versioned)
		t.epoch, t.boundary = db.epoch, db.boundary
		return nil
	}
	if db.cfg.ReadOnly {
		last, err := journal.Read(fs, db.applied.Load(), load)
		db.last.Store(last)
		db.active = t
		return err
	}
	// The names of meta.db and the journal, whoever made them.
	if err := journal.Dir(db.cfg.Dir).SyncDir(); err != nil {
		return wrap("open", db.cfg.Dir, err)
	}
	db.copied.Store(^uint64(0))
	if db.cfg.Archive {
		db.copied.Store(db.cfg.Copied)
	}
	j, err := journal.OpenKeeping(fs, db.applied.Load(), min(db.applied.Load(), db.copied.Load()), load)
	if err != nil {
		return err
	}
	db.journal = j
	if t.last != 0 {
		db.frozen = t
		db.last.Store(t.last)
	}
	return nil
}

// replayed follows the epochs through a replayed batch.
func (db *DB) replayed(stamp sharefs.HLC, rows []byte) error {
	if stamp != 0 {
		db.epoch = stamp
	}
	for len(rows) > 0 {
		var c change
		c, rows, _ = nextChange(rows)
		if db.spaces[c.space] == nil {
			return db.unfit(sharefs.KindInvalid, "the journal holds rows of a space that is not defined")
		}
		if c.space == boundaries {
			db.epoch, db.boundary = 0, sharefs.HLC(number(c.value))
		}
	}
	return nil
}

// Close syncs and applies everything and ends the use of the database; the journal is empty then. Calls that come later
// fail. After an error what was not applied is in the journal still, and the next Open finds it.
func (db *DB) Close() error {
	db.commitMu.Lock()
	if db.closed {
		db.commitMu.Unlock()
		return nil
	}
	db.closed = true
	var err error
	if db.journal != nil {
		err = db.checkpoint()
	}
	db.commitMu.Unlock()
	close(db.quit)
	db.tasks.Wait()
	if db.journal != nil {
		var e error
		if err == nil {
			e = db.journal.Discard()
		} else {
			_ = db.journal.SyncTo(db.last.Load())
			e = db.journal.Close()
		}
		err = cmp.Or(err, e)
	}
	db.writing.Lock()
	defer db.writing.Unlock()
	db.ended = true
	db.readers.pause() // for good: bbolt waits for those that it knows
	if e := db.bolt.Close(); err == nil && e != nil {
		err = wrap("close", db.cfg.Dir, e)
	}
	return err
}

// unfit says why a store cannot be opened.
func (db *DB) unfit(kind sharefs.Kind, detail string) error {
	return &sharefs.Error{Op: "open", Path: db.cfg.Dir, Kind: kind, Detail: detail}
}

func be(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// number reads what be wrote; anything else is 0.
func number(p []byte) uint64 {
	if len(p) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(p)
}

// wrap gives an error its place, unless it has one.
func wrap(op, path string, err error) error {
	var e *sharefs.Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	kind := sharefs.KindOf(err)
	if errors.Is(err, unix.EDQUOT) {
		kind = sharefs.KindNoSpace
	}
	return &sharefs.Error{Op: op, Path: path, Kind: kind, Err: err}
}
