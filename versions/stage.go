package versions

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// Staged is a version of another host whose content stands in a file of its own, whole and safe from power loss, and which is to be that of a live file: by [Tree.Put] or
// [Tree.Adopt], at once for whoever looks. Of one that differs little from what the file holds there may be none: then Adopt writes what differs, and whoever looks waits (stage_patch.go). Drop must
// follow.
type Staged struct {
	t      *Tree
	author sharefs.PeerID
	top    manifest
	key    *shareKey
	size   int64
	mtime  sharefs.Time
	lease  *lease      // on all chunks, so that the row of the version can lead to them
	ino    sharefs.Ino // of the backing file; 0: it has passed to a live file
	used   bool        // it is a version here, or was to be one
	by     Op          // that it is used in
	absent bool        // the content stays elsewhere
	patch  *patch      // there is no backing file, for the content is to go into a live one in place; nil: there is
}

// By says which operation it is a part of to give it to a file that is there.
func (s *Staged) By(op Op) { s.by = op }

// Stage makes files out of some contents, all of which must be in packs, as [Tree.Gather] sees to: Stage waits for no other host. They are synced together. One that cannot
// be had keeps none of the others back: errs tells of each, nil where it is staged; KindAgain: not all of it is here, KindAccess: its share key is not, KindNoSpace: the disk has
// no room for it, KindInvalid: it is no content. Err tells of a failure that leaves nothing staged.
func (t *Tree) Stage(list []Foreign) (staged []*Staged, errs []error, err error) {
	if err := t.writable("adopt"); err != nil {
		return nil, nil, err
	}
	staged, errs = make([]*Staged, len(list)), make([]error, len(list))
	few, made := len(list) <= syncedAlone, false
	for i := range list {
		if staged[i], errs[i] = t.stage(&list[i], few); errs[i] == nil {
			made = true
		}
	}
	if few || !made {
		return staged, errs, nil
	}
	if err := t.live.sync(); err != nil {
		for _, s := range staged {
			s.Drop()
		}
		return nil, nil, failed("sync", err)
	}
	return staged, errs, nil
}

// syncedAlone is up to how many files are synced one by one: syncing all that the disk has to write may take long.
const syncedAlone = 16

// StageAbsent is [Tree.Stage] of contents that stay elsewhere: of each all is here but the chunks (Shell).
func (t *Tree) StageAbsent(f Foreign) (*Staged, error) {
	if err := t.writable("adopt"); err != nil {
		return nil, err
	}
	return t.stageSome(&f, true, true)
}

func (t *Tree) stage(foreign *Foreign, sync bool) (*Staged, error) {
	return t.stageSome(foreign, sync, false)
}

func (t *Tree) stageSome(foreign *Foreign, sync, absent bool) (*Staged, error) {
	const op = "adopt"
	top, ok := foreign.manifest()
	if !ok {
		return nil, fail(op, sharefs.KindInvalid)
	}
	key, err := t.keyFor(&foreign.Content)
	if err != nil {
		return nil, err
	}
	h := &t.past
	s := &Staged{t: t, author: foreign.Author, top: top, key: key, size: int64(foreign.Size), mtime: foreign.Mtime, lease: h.leases.take(), absent: absent}
	under := keptUnder{h: h, shell: absent}
	need, err := under.all(op, top, key, s.lease)
	if absent {
		need = 0
	} else if err == nil {
		s.ino = h.filled.take(top, key)
	}
	ahead := s.ino != 0
	var base *version
	if err == nil && !absent && !ahead {
		if v, differ := s.patchOf(foreign.Onto); v != nil {
			base, need = v, differ
		}
	}
	if room := uint64(t.reserve.room()); err == nil && !ahead && need > room {
		err = &sharefs.Error{Op: op, Kind: sharefs.KindNoSpace, Detail: fmt.Sprintf("the file has %d bytes, and there is room for %d", need, room)}
	}
	if err == nil && absent {
		err = s.stageAbsent(foreign.Onto, foreign.Mtime)
	} else if err == nil && base != nil && h.aside.clones {
		if !s.clone(foreign.Onto, base) {
			err = s.make(sync)
		}
	} else if err == nil && base != nil {
		s.patch = &patch{base.own}
	} else if err == nil {
		err = s.make(sync)
	}
	if err != nil {
		s.Drop()
		return nil, err
	}
	return s, nil
}

// make fills the file, unless it was filled ahead.
func (s *Staged) make(sync bool) error {
	t := s.t
	ahead := s.ino != 0
	if !ahead {
		p, err := t.stock.take()
		if err != nil {
			return err
		}
		unix.Close(p.fd)
		s.ino = p.ino
	}
	fd, err := t.live.open(s.ino, unix.O_WRONLY)
	if err != nil {
		return failed("write a backing file", err)
	}
	if !ahead {
		src := s.open()
		err = fill(fd, src)
		src.Close()
	}
	if err == nil && sync {
		_, err = ignoringEINTR(func() (int, error) { return 0, unix.Fsync(fd) })
		err = failed("sync", err)
	}
	if e := unix.Close(fd); err == nil {
		err = failed("write a backing file", e)
	}
	if err != nil {
		return err
	}
	return failed("set times", t.live.setTimes(s.ino, sharefs.Time(time.Now().UnixNano()), s.mtime))
}

// takeFrom has a function put into the staged file what it takes from a live one.
func (s *Staged) takeFrom(ino sharefs.Ino, put func(to, from int) error) error {
	from, err := s.t.live.openProbe(ino)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	to, err := s.t.live.open(s.ino, unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	return put(to, from)
}

// Ino returns the inode that [Tree.Put] makes with it; 0: that is not known before, or it has passed to a live file.
func (s *Staged) Ino() sharefs.Ino { return s.ino }

// open reads the content from packs.
func (s *Staged) open() *keptReader { return newForeignReader(&s.t.past, s.top, s.size) }

// passed tells that the file is that of an inode now.
func (s *Staged) passed() {
	s.t.stock.used(prepared{ino: s.ino})
	s.ino = 0
}

// Drop ends it, and removes the file unless it has passed to a live one. It may be called again, and of nil.
func (s *Staged) Drop() {
	if s == nil || s.lease == nil {
		return
	}
	if s.ino != 0 {
		s.t.unfill(s.ino)
		s.ino = 0
	}
	s.lease.end()
	s.lease = nil
}

// begin gives a new inode the staged file, and makes its content the first version.
func (s *Staged) begin(x *tx, r *row) error {
	h := &s.t.past
	st, err := s.t.live.stat(s.ino)
	if err != nil {
		return failed("read a backing file", err)
	}
	r.size, r.blocks = uint64(st.Size), uint64(st.Blocks)
	r.mtime = s.mtime // the disk may know coarser times alone, and nobody is to take one for a time that was set here
	if s.absent {
		r.blocks = 0
		r.flags |= rowAbsent
	}
	v, err := h.begin(x, r, stampOf(&st), time.Now(), "")
	if err != nil {
		return err
	}
	return s.claim(x, v)
}

// claim says of a version that it is the one that is staged. Tree.mu is held.
func (s *Staged) claim(x *tx, v *version) error {
	return s.t.past.claim(x, v, s.author, s.top, s.key.place, s.absent)
}

// claim says of a version where its content is, and who made it. Tree.mu is held.
func (h *history) claim(x *tx, v *version, author sharefs.PeerID, top manifest, key uint64, away bool) (err error) {
	if v.author, err = h.enter(x, author); err != nil {
		return err
	}
	v.place, v.top, v.key, v.away = placeKept, top, key, away
	v.put(&x.b)
	x.after(func(seq uint64) { h.foreignAt(v.ino, seq) })
	return nil
}

// swapTries is how often a file that nobody has open by the rows is looked at: that it is at rest is found out by opening it, too.
const swapTries = 4

// swap puts the staged file in the place of a live one that nobody has open, and reports whether it did. The file is armed, and f.content held.
func (s *Staged) swap(f *file) bool {
	for try := range swapTries {
		if done, busy := s.trySwap(f); done || !busy {
			return done
		}
		time.Sleep(time.Duration(try) * time.Millisecond)
	}
	return false
}

// trySwap is swap once; busy tells that it may be done in a moment.
func (s *Staged) trySwap(f *file) (done, busy bool) {
	t := s.t
	f.mu.Lock()
	opens, free := f.opens, f.handles == 0
	if free {
		t.files.shut(&f.rd)
		t.files.shut(&f.wr)
	}
	f.mu.Unlock()
	if !free {
		return false, false
	}
	if k := t.kernel.Load(); k != nil && !(*k).DropBacking(f.ino) {
		return false, false
	}
	if !t.past.unshared(f.ino) {
		return false, true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.handles > 0 || f.opens != opens || f.rd.users > 0 || f.wr.users > 0 {
		return false, false
	}
	t.files.shut(&f.rd)
	t.files.shut(&f.wr)
	_, err := ignoringEINTR(func() (int, error) {
		return 0, unix.Renameat(t.live.fd, t.live.name(s.ino), t.live.fd, t.live.name(f.ino))
	})
	if err != nil {
		return false, false
	}
	s.passed()
	return true, false
}
