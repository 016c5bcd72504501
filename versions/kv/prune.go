package kv

import (
	"bytes"
	"cmp"
	"errors"
	"runtime/debug"
	"slices"
	"sort"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"sharefs"
)

// Keep says which instants of the past can still be asked for. At each of them [DB.At] shows what it showed before anything was removed; at others it
// may show a mixture, so whoever prunes sees to it that nobody asks for those any more before he begins.
type Keep struct {
	Since sharefs.HLC   // every instant from here on
	At    []sharefs.HLC // and these before it, rising
}

// PruneStats counts what a [Pruner] did.
type PruneStats struct {
	Rows    uint64 // whose past was looked at
	States  uint64 // of their past
	Removed uint64 // of those
	Bytes   uint64 // in keys and values of what was removed
	Epochs  uint64 // whose boundaries were removed, for no state is left of them
}

// Pruner removes states of rows that no instant shows which is kept: those of versioned spaces that were superseded, in meta.db. A state holds
// from the boundary of its epoch until that of the next state's. It may be used while others read and commit, by one goroutine at a time.
//
// It reads some states in a short transaction, decides, and removes what it found together in another one. What it decided stays true in between: states
// are only ever added behind the newest one, and a deletion that was the oldest state of its row stays that.
type Pruner struct {
	PruneStats
	db     *DB
	limits []sharefs.HLC // the stamps up to which the kept instants show states, rising
	since  sharefs.HLC   // likewise of Keep.Since: whatever was superseded after it stays
	dry    bool

	space *space
	last  []byte      // key of history that was looked at last; nil at the beginning
	from  []byte      // where the beginning is
	row   []byte      // the ordered key of the row at work
	until sharefs.HLC // the stamp of the state after the one to be looked at
	grave []byte      // a kept deletion of the row, not yet known to have a state before it
	size  uint64      // of what the grave holds

	doomed [][]byte
	bytes  uint64 // in them
}

// Bounds of a step.
const (
	prunePiece    = 4096  // states that one transaction reads: some milliseconds
	pruneTx       = 4096  // states that one transaction removes
	pruneStates   = 65536 // states read by a step
	epochsAtATime = 4 << 20
)

// Prune begins to remove what keep does not need. With dry nothing is removed and all is counted.
func (db *DB) Prune(keep Keep, dry bool) (*Pruner, error) {
	if db.cfg.ReadOnly && !dry {
		return nil, &sharefs.Error{Op: "prune", Path: db.cfg.Dir, Kind: sharefs.KindReadOnly}
	}
	p := &Pruner{db: db, dry: dry}
	var err error
	if p.since, err = db.limitAt(keep.Since); err != nil {
		return nil, err
	}
	for _, t := range keep.At {
		limit, err := db.limitAt(t)
		if err != nil {
			return nil, err
		}
		p.limits = append(p.limits, limit)
	}
	slices.Sort(p.limits)
	p.limits = slices.Compact(p.limits)
	if dry {
		return p, nil
	}
	// The loss of power must not undo the boundaries that this counts on: an instant would show the state before them then.
	return p, db.Sync()
}

// needed reports whether a kept instant shows the state of a stamp that was superseded by the one of another stamp.
func (p *Pruner) needed(stamp, until sharefs.HLC) bool {
	if stamp >= until {
		return false // deleted, and made again within the epoch
	}
	if until > p.since {
		return true
	}
	i := sort.Search(len(p.limits), func(i int) bool { return p.limits[i] >= stamp })
	return i < len(p.limits) && p.limits[i] < until
}

// Space turns to the rows of a versioned space with keys of at least from.
func (p *Pruner) Space(id uint8, from []byte) error {
	s, err := p.db.space(id)
	if err != nil {
		return err
	}
	if !s.Versioned {
		return &sharefs.Error{Op: "prune", Kind: sharefs.KindInvalid, Detail: "space " + s.Name + " is not versioned"}
	}
	p.space, p.from, p.last, p.row, p.grave, p.doomed, p.bytes = s, bytes.Clone(from), nil, nil, nil, nil, 0
	return nil
}

// Key returns the key of the row that the next step goes on with; somebody else may begin there with [Pruner.Space].
func (p *Pruner) Key() []byte {
	if p.last == nil {
		return p.from
	}
	return plainKey(nil, p.last)
}

// Step looks at some states and removes those that are not needed; done is true when it has looked at all of the space.
func (p *Pruner) Step() (done bool, err error) {
	for read := 0; !done && read < pruneStates && len(p.doomed) < pruneTx; read += prunePiece {
		if done, err = p.read(); err != nil {
			return false, err
		}
	}
	if !p.dry {
		if err := p.db.remove(p.space.past, p.doomed); err != nil {
			return false, err
		}
	}
	p.Removed += uint64(len(p.doomed))
	p.Bytes += p.bytes
	clear(p.doomed)
	p.doomed, p.bytes = p.doomed[:0], 0
	return done, nil
}

// read looks at one piece.
func (p *Pruner) read() (done bool, err error) {
	tx, err := p.db.begin()
	if err != nil {
		return false, err
	}
	defer tx.end()
	defer p.db.damaged(debug.SetPanicOnFault(true), &err)
	live, past := tx.liveBucket(p.space), tx.pastBucket(p.space)
	if live == nil || past == nil {
		return true, nil
	}
	now, c := live.Cursor(), past.Cursor()
	var k, v []byte
	if p.last == nil {
		k, v = c.Seek(orderedKey(nil, p.from))
	} else if k, v = c.Seek(p.last); bytes.Equal(k, p.last) {
		k, v = c.Next()
	}
	for n := 0; n < prunePiece; n++ {
		if k == nil {
			p.endRow()
			return true, nil
		}
		if p.row == nil || !bytes.Equal(k[:len(k)-stampSize], p.row) {
			p.beginRow(k, now)
		}
		p.look(k, v)
		p.last = append(p.last[:0], k...)
		k, v = c.Next()
	}
	return false, nil
}

// beginRow turns to the row of a key of history.
func (p *Pruner) beginRow(k []byte, now *bbolt.Cursor) {
	p.endRow()
	p.row = append(p.row[:0], k[:len(k)-stampSize]...)
	p.until = sharefs.MaxHLC
	key := plainKey(nil, k)
	if at, v := now.Seek(key); bytes.Equal(at, key) {
		p.until, _ = splitStamp(v)
	}
	p.Rows++
}

// look decides on the next older state of the row at work.
func (p *Pruner) look(k, v []byte) {
	stamp := pastStamp(k)
	_, there := splitPast(v)
	switch {
	case !p.needed(stamp, p.until):
		p.doom(bytes.Clone(k), uint64(len(k)+len(v)))
	case there:
		p.grave = nil // it says something: the row was there before
	default:
		// Of deletions without a state in between the oldest one counts.
		p.endRow()
		p.grave, p.size = bytes.Clone(k), uint64(len(k)+len(v))
	}
	p.until = stamp
	p.States++
}

// endRow removes a deletion before which no state of the row is left: that there is none says the same.
func (p *Pruner) endRow() {
	if p.grave != nil {
		p.doom(p.grave, p.size)
		p.grave = nil
	}
}

func (p *Pruner) doom(k []byte, size uint64) {
	p.doomed = append(p.doomed, k)
	p.bytes += size
}

// remove deletes rows of a bucket of meta.db in one transaction.
func (db *DB) remove(bucket []byte, keys [][]byte) error {
	if len(keys) == 0 {
		return nil
	}
	db.writing.Lock()
	defer db.writing.Unlock()
	if db.ended {
		return errClosed()
	}
	db.readers.pause()
	defer db.readers.resume()
	err := db.update(db.bolt, func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucket)
		for _, k := range keys {
			if err := b.Delete(k); err != nil {
				return err
			}
		}
		return db.failpoint("prune.commit")
	})
	switch {
	case err == nil:
		return db.failpoint("prune.committed")
	case errors.Is(err, berrors.ErrDatabaseNotOpen):
		return errClosed()
	case wantsRoom(err):
		return wrap("prune", db.cfg.Dir, err)
	}
	// As with applying: what bbolt has in memory and on disk may differ now.
	err = &sharefs.Error{Op: "prune", Path: db.cfg.Dir, Kind: sharefs.KindOf(err),
		Detail: "meta.db cannot be written, so nothing more can be promised until the store is opened again", Err: err}
	db.fail(err)
	return err
}

// Epochs removes the boundaries of epochs of which no state is left in any space. Pause is called every few milliseconds; its error ends it. It reads all
// rows of the versioned spaces, and takes 9 bytes of memory for each epoch, of at most four million at a time.
func (p *Pruner) Epochs(pause func() error) error {
	if p.dry {
		return nil
	}
	// From here on states of those epochs are in meta.db alone, and only ever move from the rows of the moment to those of the past, which are looked at
	// after them.
	if err := p.db.Checkpoint(); err != nil {
		return err
	}
	for from := sharefs.HLC(0); ; {
		stamps, err := p.epochs(from)
		if err != nil || len(stamps) == 0 {
			return err
		}
		from = stamps[len(stamps)-1] + 1
		used := make([]bool, len(stamps))
		for _, s := range p.db.spaces {
			if s == nil || !s.Versioned {
				continue
			}
			for _, past := range []bool{false, true} {
				if err := p.markEpochs(s, past, stamps, used, pause); err != nil {
					return err
				}
			}
		}
		if err := p.removeEpochs(stamps, used, pause); err != nil {
			return err
		}
	}
}

// epochs returns the stamps of ended epochs from one on whose states may be gone.
func (p *Pruner) epochs(from sharefs.HLC) (stamps []sharefs.HLC, err error) {
	tx, err := p.db.begin()
	if err != nil {
		return nil, err
	}
	defer tx.end()
	defer p.db.damaged(debug.SetPanicOnFault(true), &err)
	b := tx.liveBucket(p.db.spaces[boundaries])
	if b == nil {
		return nil, nil
	}
	c := b.Cursor()
	for k, _ := c.Seek(be(uint64(from))); k != nil && len(stamps) < epochsAtATime; k, _ = c.Next() {
		stamp := sharefs.HLC(number(k))
		if stamp >= p.since {
			break
		}
		stamps = append(stamps, stamp)
	}
	return stamps, nil
}

// markEpochs notes which epochs the rows of a space are of.
func (p *Pruner) markEpochs(s *space, past bool, stamps []sharefs.HLC, used []bool, pause func() error) error {
	var last []byte
	for done := false; !done; {
		if err := pause(); err != nil {
			return err
		}
		var err error
		if last, done, err = p.markPiece(s, past, last, stamps, used); err != nil {
			return err
		}
	}
	return nil
}

// markPiece does so from a key on, and returns where to go on.
func (p *Pruner) markPiece(s *space, past bool, from []byte, stamps []sharefs.HLC, used []bool) (next []byte, done bool, err error) {
	tx, err := p.db.begin()
	if err != nil {
		return nil, false, err
	}
	defer tx.end()
	defer p.db.damaged(debug.SetPanicOnFault(true), &err)
	b := tx.liveBucket(s)
	if past {
		b = tx.pastBucket(s)
	}
	if b == nil {
		return nil, true, nil
	}
	c := b.Cursor()
	k, v := c.Seek(from)
	for n := 0; n < 4*prunePiece && k != nil; n++ {
		var stamp sharefs.HLC
		if past {
			stamp = pastStamp(k)
		} else {
			stamp, _ = splitStamp(v)
		}
		if i, ok := slices.BinarySearchFunc(stamps, stamp, cmp.Compare[sharefs.HLC]); ok {
			used[i] = true
		}
		next = append(next[:0], k...)
		k, v = c.Next()
	}
	return append(next, 0), k == nil, nil
}

// removeEpochs removes the boundaries of epochs that are not used.
func (p *Pruner) removeEpochs(stamps []sharefs.HLC, used []bool, pause func() error) error {
	var keys [][]byte
	flush := func() error {
		if err := p.db.remove(p.db.spaces[boundaries].live, keys); err != nil {
			return err
		}
		p.PruneStats.Epochs += uint64(len(keys))
		keys = keys[:0]
		return pause()
	}
	for i, stamp := range stamps {
		if used[i] {
			continue
		}
		if keys = append(keys, be(uint64(stamp))); len(keys) == pruneTx {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}
