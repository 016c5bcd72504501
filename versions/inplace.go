package versions

import (
	"errors"
	"sync/atomic"

	"sharefs"
	"sharefs/versions/writers"
)

// A content of another host goes into a backing file in place where somebody has that open, who is to see it change, or where little of it differs (stage_patch.go). It goes
// through these stages, with file.content held:
//
//  1. rest     nobody can write to the file, and what it holds is its newest version, the base
//  2. mark     it is armed as for any change (mark.go)
//  3. row      what it is to hold (inplace_row.go) is written down, and synced. From then on garbage collection keeps its chunks (gc_mark.go), and whoever
//     opens the file waits
//  4. write    what differs, then holes, then the size (overwrite.go); then the times; all of it is synced
//  5. settle   one change makes it a version with the author that it has, and takes the row away. Whoever writes to the file next syncs the journal first (keptSafely)
//
// Behind a start that finds the row (inplace_end.go) 4 is done again, by comparing the whole file with the names of the chunks: what reached the disk of it before
// does not matter. That cannot meet what somebody wrote here since: nobody can before 5, nor before that is synced.
//
// What goes wrong at 4 (a full disk, one that fails, a chunk that is lost) leads back to the base, which is in packs or set aside, and the row goes: the file is what
// it was, and whoever wants it changed tries again. If that fails too the file holds a mixture. It stays so, with its row: nobody opens it (KindCorrupt, or
// the disk's error) and it makes no version, until one of the two can be had again, which is tried whenever it is opened and at each start, or until another content of another host takes
// its place, or it is removed.
//
// Whoever has the file open for reading or mapped while this goes on sees parts of both, as if a program had rewritten it. Views, tags and versions
// read the base from packs until 5.
type adoption struct {
	adopting
	row    bool          // there is one
	again  bool          // what it is to hold is its newest version, and was taken from it (inplace_undone.go)
	lost   error         // why what it was to hold is not known; nil: it is
	steps  atomic.Uint64 // chunks that were looked at or written: whether it gets on
	holds  holds
	own    uint64 // the version that it became
	failed error  // why it could not be ended when that was tried last; guarded by history.mu
}

// holds says what a file holds that is being adopted. It changes with file.content held.
type holds uint8

const (
	holdsMixture holds = iota // or may
	holdsTarget               // safe from power loss
	holdsBase                 // likewise
)

// standing returns the adoption that a file is in the middle of; nil: there is none.
func (h *history) standing(ino sharefs.Ino) *adoption {
	if h.adoptions.Load() == 0 {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.adopts[ino]
}

// stand enters an adoption in place of one that there is.
func (h *history) stand(ino sharefs.Ino, a *adoption) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.adopts == nil {
		h.adopts = map[sharefs.Ino]*adoption{}
	}
	h.adopts[ino] = a
	h.adoptions.Store(int64(len(h.adopts)))
}

// ended takes an adoption out again, unless another one has its place.
func (h *history) ended(ino sharefs.Ino, a *adoption) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.adopts[ino] == a {
		delete(h.adopts, ino)
		h.adoptions.Store(int64(len(h.adopts)))
	}
}

// place is a place that tests look in at, or end the adoption.
func (h *history) place(name string) error {
	if at := h.t.cfg.adopts; at != nil {
		return at(name)
	}
	return nil
}

// overwriteLive does stages 3 and 4 with a file that is armed. Known tells that the file holds its base, so that what both have need not be looked at. After an error a.holds tells
// what there is: the base, or a mixture.
func (h *history) overwriteLive(f *file, a *adoption, known bool) error {
	t := h.t
	t.mu.Lock()
	base, err := newestVersion(t.db, f.ino, noLimit)
	if err != nil {
		t.mu.Unlock()
		return err
	}
	if base != nil && base.own != a.base { // since the file was armed a capture has joined two of the same content, or has read this one as a timed version
		a.base, known = base.own, false
	}
	a.holds = holdsBase
	if old := h.standing(f.ino); old != nil {
		a.holds = old.holds
	} else if base != nil && base.place == placeAside {
		a.holds = holdsMixture // the file may be empty, for what it held was moved there
	}
	x := t.begin()
	x.b.Put(spaceAdopting, inoKey(f.ino), a.encode())
	a.row = true
	x.after(func(uint64) { h.stand(f.ino, a) })
	err = x.commit()
	t.mu.Unlock()
	if err != nil {
		return err
	}
	if err := h.place("row"); err != nil {
		return err
	}
	if err := t.db.Sync(); err != nil {
		return failed("sync the journal", err)
	}
	if err := h.place("row synced"); err != nil {
		return err
	}
	return h.bringTo(f, a, base, known)
}

// bringTo does stage 4, and goes back where that fails. An error tells that the file holds its base, or a mixture, as a.holds says. The file is armed, and f.content held.
func (h *history) bringTo(f *file, a *adoption, base *version, known bool) (err error) {
	defer func() {
		if a.holds == holdsMixture && !errors.Is(err, errStopped) {
			h.mu.Lock()
			a.failed = err
			h.mu.Unlock()
		}
	}()
	o := overwriting{h: h, ino: f.ino, steps: &a.steps}
	if err = o.open(); err != nil {
		return err
	}
	defer o.close()
	first := a.holds != holdsMixture
	a.holds = holdsMixture
	if a.lost != nil {
		err = a.lost
	} else if known {
		err = h.apart(base.top, int64(base.size), a.top, a.size, o.put)
	} else {
		err = o.compare(a.top, a.size, a.key)
	}
	if err == nil {
		err = o.finish(a.size, a.mtime)
	}
	if err == nil {
		if a.holds = holdsTarget; a.again {
			a.holds = holdsBase
		}
		return nil
	}
	if errors.Is(err, errStopped) {
		return err
	}
	if err2 := h.goBack(f, &o, a, base); errors.Is(err2, errStopped) {
		return err2
	} else if err2 != nil && !first {
		return err
	} else if err2 != nil {
		h.t.log.Error("a file holds parts of two versions, and cannot be opened until one of them can be read and written", "inode", uint64(f.ino), "file", h.t.NameOf(f.ino),
			"err", err, "version_before", err2)
		return err
	}
	a.holds = holdsBase
	h.t.log.Warn("a file holds what it held before, for what another host wrote could not be put in its place", "inode", uint64(f.ino), "err", err)
	return err
}

// errNoWayBack says that what a file held is nowhere.
var errNoWayBack = errors.New("its content is nowhere else")

// goBack brings a file to its base.
func (h *history) goBack(f *file, o *overwriting, a *adoption, base *version) error {
	if err := h.place("back"); err != nil {
		return err
	}
	if err := o.measure(); err != nil { // a hole reaches as far as it was written to on the way
		return err
	}
	o.holes = nil
	switch {
	case a.base == 0: // it was empty
		return o.finish(0, a.was)
	case base == nil || base.own != a.base:
		return errNoWayBack
	case base.away: // it becomes absent again, and what its backing file holds is nothing then
		return nil
	case base.place == placeKept:
		if err := o.compare(base.top, int64(base.size), base.key); err != nil {
			return err
		}
		return o.finish(int64(base.size), base.mtime)
	case base.place == placeAside:
		src, err := h.openVersion(base)
		if err != nil {
			return err
		}
		defer src.Close()
		if err := fill(o.fd, src); err != nil {
			return err
		}
		return o.finish(int64(base.size), base.mtime)
	}
	return errNoWayBack
}

// conclude is what becomes of a file that is being adopted and has come to rest. Tree.mu and the file's content are held; r may be changed.
func (h *history) conclude(x *tx, f *file, r *row, ev writers.Event, a *adoption) error {
	own := uint64(0)
	switch {
	case r.nlink == 0: // nobody comes to it by a name any more
	case a.holds == holdsMixture:
		x.t.ops.rested(r.ino, 0)
		return nil
	case a.holds == holdsBase:
		if err := h.concludeBase(x, f, r, ev.Stamp, a); err != nil {
			return err
		}
	default:
		r.mtime = a.mtime // the disk may know coarser times alone
		h.edge.adopting(r.ino, true)
		v, err := h.begin(x, r, ev.Stamp, ev.At, "")
		h.edge.adopting(r.ino, false)
		if err == nil {
			err = h.claim(x, v, a.author, a.top, a.key, false)
		}
		if err != nil {
			return err
		}
		own = v.own
		x.t.ops.rested(r.ino, v.at)
	}
	if own == 0 {
		x.t.ops.rested(r.ino, 0)
	}
	if a.row {
		x.b.Delete(spaceAdopting, inoKey(r.ino))
	}
	x.after(func(seq uint64) {
		a.own = own
		h.foreignAt(r.ino, seq) // nobody writes before it is synced that the row is gone
		h.ended(r.ino, a)
	})
	return nil
}

// concludeBase is conclude of a file that went back to what it held.
func (h *history) concludeBase(x *tx, f *file, r *row, stamp writers.Stamp, a *adoption) error {
	r.mtime = a.was
	base, err := newestVersion(x.t.db, r.ino, noLimit)
	if err != nil || base == nil || base.own != a.base {
		return err
	}
	if base.away {
		r.flags |= rowAbsent
		r.size, r.blocks = base.size, 0
		x.unmark(f)
		return nil
	}
	base.setStamp(stamp)
	base.put(&x.b)
	return nil
}

// replaced notes in a change that what an adoption was about has another content, or is gone.
func (h *history) replaced(x *tx, ino sharefs.Ino) {
	if a := h.standing(ino); a != nil {
		x.b.Delete(spaceAdopting, inoKey(ino))
		x.after(func(uint64) { h.ended(ino, a) })
	}
}

// rested ends an adoption whose file is armed no longer: it comes to rest, and becomes a version or what it was. An error, or that it does not come to rest, leaves it standing. f.content is held.
func (h *history) rested(f *file, a *adoption) (rests bool, err error) {
	if rests, err = h.t.settleNow(f); err != nil || !rests {
		return rests, err
	}
	if a.holds != holdsBase || !a.row {
		return true, nil
	}
	if err := h.t.db.Sync(); err != nil {
		return true, failed("sync the journal", err)
	}
	if v, err := newestVersion(h.t.db, f.ino, noLimit); err == nil && v != nil && v.away && h.t.absentNow(f.ino) {
		return true, h.t.hollow(f.ino, int64(v.size), true)
	}
	return true, nil
}

// withdraw takes the row away of an adoption whose file somebody may write to. What it holds is whole, and nobody else's from now on.
func (h *history) withdraw(f *file, a *adoption) error {
	t := h.t
	t.mu.Lock()
	x := t.begin()
	h.replaced(x, f.ino)
	err := x.commit()
	t.mu.Unlock()
	if err == nil && a.row {
		err = failed("sync the journal", t.db.Sync())
	}
	return err
}
