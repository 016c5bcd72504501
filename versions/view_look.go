package versions

import (
	"encoding/binary"
	"time"

	"sharefs"
)

// What has been looked at must not change. So Tree.seen is the latest moment that a view was made of, and:
//
//   - A version that begins gets a time after it (history.begin). Its own time would be that of the close, which lies back by the settle time.
//   - Instants end after it, because the clock has passed it.
//
// A start takes for seen what may have been: the last end of an instant, or the watermark if that is later. The watermark is written with each version that
// begins and by a view of a moment after the last end of an instant, so that views of longer ago cost no write. The clock passes both, whatever the
// host's clock says.
//
// On disk: space moment, key: 8 zero bytes, value: a clock reading (8, big endian).
var watermarkKey = inoKey(0)

// pass notes in a change that later clock readings follow one that the change has in it.
func (x *tx) pass(at sharefs.HLC) {
	x.b.Put(spaceMoment, watermarkKey, binary.BigEndian.AppendUint64(nil, uint64(at)))
	x.after(func(uint64) { x.t.watermark = max(x.t.watermark, at) })
}

// loadWatermark reads what may have been looked at, when the tree is opened.
func (t *Tree) loadWatermark() error {
	b, ok, err := t.db.Get(spaceMoment, watermarkKey)
	if err != nil {
		return failed("open the store", err)
	}
	if ok {
		d := decoder{b: b}
		t.watermark = sharefs.HLC(d.uint64())
		if d.bad || len(d.b) > 0 {
			return corrupt("the watermark", 0)
		}
	}
	t.watermark = max(t.watermark, t.db.Ended())
	t.clock.Restore(t.watermark)
	t.frozen = t.clock.Last()
	t.seen.Store(uint64(t.watermark))
	return nil
}

// Snapshot ends the open instant after bringing to rest what nobody can write to any more and taking the SQLite databases that somebody can write to (sqlite.go), and returns the moment: a view of it shows everything that was done
// and closed before. What the snapshot shows survives the loss of power as the live tree does: after a sync.
func (t *Tree) Snapshot() (sharefs.HLC, error) {
	if err := t.writable("snapshot"); err != nil {
		return 0, err
	}
	if err := t.past.takeDatabases(); err != nil {
		return 0, err
	}
	return t.look(sharefs.MaxHLC, true)
}

// look fixes what a view of a moment shows, and returns the moment, which for MaxHLC is the present one. Unless it is to be strict it goes on where the disk
// does not take what it writes: then the view lacks what was not ended, and a start after a crash may give another one.
func (t *Tree) look(at sharefs.HLC, strict bool) (sharefs.HLC, error) {
	now := at == sharefs.MaxHLC
	if !now && at > max(t.clock.Last(), sharefs.HLCAt(time.Now()))|0xffff { // the clock may be ahead of the host's; of its millisecond all is told
		return 0, &sharefs.Error{Op: "look at the past", Kind: sharefs.KindInvalid, Detail: at.String() + " is in the future"}
	}
	check := func(err error) error {
		if err == nil || strict {
			return err
		}
		t.log.Warn("the moment that is looked at could not be fixed", "at", at, "err", err)
		return nil
	}
	if !t.cfg.ReadOnly {
		if err := check(t.restAll(at)); err != nil {
			return 0, err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.cfg.ReadOnly && at >= t.clock.Last() {
		if err := check(t.endInstant()); err != nil {
			return 0, err
		}
	}
	if now {
		at = t.clock.Next()
	}
	t.clock.Restore(at)
	if !t.cfg.ReadOnly && at > t.watermark && at > t.db.Ended() {
		x := t.begin()
		x.aside = true
		x.pass(at)
		if err := check(x.commit()); err != nil {
			return 0, err
		}
	}
	t.seen.Store(max(t.seen.Load(), uint64(at)))
	return at, nil
}

// restAll brings to rest every file that was closed by a moment and that nobody can write to any more. It returns the first error after all were tried.
func (t *Tree) restAll(at sharefs.HLC) (first error) {
	t.files.each(func(f *file) {
		if err := t.rest(f, at); err != nil && first == nil {
			first = err
		}
	})
	return first
}

// rest brings one file to rest, if nobody has it open for writing.
func (t *Tree) rest(f *file, at sharefs.HLC) error {
	for {
		f.mu.Lock()
		closed := f.hot && f.writers == 0
		f.mu.Unlock()
		if !closed {
			return nil
		}
		released, ok := t.track.Released(f.ino)
		if !ok || sharefs.HLCAt(released) > at {
			return nil // it is being changed, also by who holds its content for long (Restore); or it was closed later
		}
		if t.past.inTransaction(f.ino) {
			return nil
		}
		if f.content.TryLock() {
			break
		}
		time.Sleep(50 * time.Microsecond) // the settler has it, or somebody who is about to open it
	}
	defer f.content.Unlock()
	_, err := t.settleNow(f)
	if sharefs.KindOf(err) == sharefs.KindStale {
		return nil // it was removed
	}
	return err
}
