package versions

import (
	"sharefs"
)

// Mtime returns when a regular file was changed last, and the number of the newest of its own versions, 0 for none, that has this time: nobody can write to the file, and nothing was written to
// it behind that version. Ok is false where that is not so. Made: the time is that of the making of the file, which is empty, so nobody has set one, or that one.
func (t *Tree) Mtime(ino sharefs.Ino) (at sharefs.Time, own uint64, made, ok bool, err error) {
	r, err := t.row(ino)
	if err != nil || !r.isRegular() {
		return 0, 0, false, false, err
	}
	v, err := newestVersion(t.db, ino, noLimit)
	if err != nil {
		return 0, 0, false, false, err
	}
	rests := !t.hot(ino) && t.past.standing(ino) == nil
	now, err := t.row(ino) // written to, and at rest again, it has another one
	if err != nil {
		return 0, 0, false, false, err
	}
	rests = rests && now.mtime == r.mtime && now.ctime == r.ctime && now.size == r.size
	if v != nil {
		own = v.own
	}
	return r.mtime, own, r.size == 0 && r.mtime == r.btime, rests, nil
}

// SetMtime sets the time of the last change of a regular file at rest, if its newest version is base, 0 for none. It makes no version, and leaves the access time as it is. The kernel is told.
//
// Errors: KindAgain: the file has another version than base, one that is not in packs yet, or may be written to; KindInvalid for what is no regular file. Nothing was done then.
func (t *Tree) SetMtime(ino sharefs.Ino, at sharefs.Time, base uint64) error {
	if err := t.referRegular("set the time", ino); err != nil {
		return err
	}
	defer t.Forget(ino, 1)
	f := t.files.pin(ino)
	defer t.files.unpin(f)
	if err := t.past.redate(f, at, base); err != nil {
		return err
	}
	t.forgetAttr(ino)
	return nil
}

// redate is SetMtime with the file's content held.
func (h *history) redate(f *file, at sharefs.Time, base uint64) error {
	t := h.t
	f.content.Lock()
	defer f.content.Unlock()
	if h.standing(f.ino) != nil {
		return again("what another host wrote is being put into it")
	}
	if err := t.restNow(f); err != nil {
		return err
	}
	newest, err := newestVersion(t.db, f.ino, noLimit)
	switch {
	case err != nil:
		return err
	case newest == nil && base != 0, newest != nil && newest.own != base:
		return again("it has another version")
	case newest != nil && newest.place != placeKept:
		return again("its version is not in packs yet")
	}
	r, err := t.row(f.ino)
	if err != nil {
		return err
	}
	known, err := h.holdsVersion(f, r, newest)
	if err != nil {
		return err
	}
	if err := t.setTimes(f, &SetAttr{Mtime: &at}, Caller{}); err != nil || !known {
		return err
	}
	return h.restamp(f.ino, base)
}

// restamp has the stamp of a version be that of the file which holds it, so that it is known still to do so. The file's content is held.
func (h *history) restamp(ino sharefs.Ino, own uint64) error {
	t := h.t
	st, err := t.statBacking(ino)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	v, err := loadVersion(t.db, ino, own)
	if err != nil {
		return err
	}
	x := t.begin()
	x.aside = true
	v.setStamp(stampOf(&st))
	v.put(&x.b)
	return x.commit()
}
