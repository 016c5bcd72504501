package versions

import (
	"time"

	"sharefs"
)

// Commit makes what a file holds now a version with a note, without waiting until it has come to rest. Where somebody may be writing to it the
// version is a timed one. Where what it holds is a version already it makes none and reports false; the note is then added to that
// version if it has none, and never replaces one. Errors: KindInvalid for what is no regular file and for a note that is no text,
// KindTooBig for one of more than NoteMax bytes.
func (t *Tree) Commit(ino sharefs.Ino, note string) (sharefs.Version, bool, error) {
	const op = "commit"
	if err := t.writable(op); err != nil {
		return sharefs.Version{}, false, err
	}
	if err := checkNote(op, note); err != nil {
		return sharefs.Version{}, false, err
	}
	r, err := t.row(ino)
	if err != nil {
		return sharefs.Version{}, false, err
	}
	if !r.isRegular() {
		return sharefs.Version{}, false, fail(op, sharefs.KindInvalid)
	}
	h := &t.past
	f := t.files.pin(ino)
	defer t.files.unpin(f)
	v, fresh, err := h.commitNow(f, note)
	if err != nil {
		return sharefs.Version{}, false, err
	}
	l, _, err := loadLineage(t.db, ino)
	if err != nil {
		return sharefs.Version{}, false, err
	}
	shown := h.shown(ino, v, l.base)
	shown.Live = h.isLive(ino, shown.Number)
	return shown, fresh, nil
}

// commitNow returns the version that a file's content is now, and whether that was made just now. No lock is held.
func (h *history) commitNow(f *file, note string) (*version, bool, error) {
	f.content.Lock()
	v, fresh, rests, err := h.settleVersion(f, note)
	f.content.Unlock()
	if err != nil {
		return nil, false, err
	}
	if !rests {
		if v, fresh, err = h.takeTimed(f.ino, h.newTools(), note); err != nil {
			return nil, false, err
		}
	}
	if !fresh && note != "" && v.note == "" {
		if v, err = h.annotate(versionID{v.ino, v.own}, note); err != nil {
			return nil, false, err
		}
	}
	return v, fresh, nil
}

// settleVersion brings a file to rest and returns the version that it then is, which is made if need be. Rests is false, and nothing was
// done, where somebody may write to it. f.content is held.
func (h *history) settleVersion(f *file, note string) (v *version, fresh, rests bool, err error) {
	t := h.t
	if err := h.finish(f); err != nil {
		return nil, false, false, err
	}
	before, err := newestVersion(t.db, f.ino, noLimit)
	if err != nil {
		return nil, false, false, err
	}
	if rests, err = t.settleNow(f); err != nil || !rests {
		return nil, false, false, err
	}
	if v, err = h.askedFor(f.ino); err != nil {
		return nil, false, false, err
	}
	switch {
	case v == nil || v.place == placeLost || v.timed:
		// It was never written to, or its version is gone.
		v, err = h.beginNow(f, note)
		return v, true, true, err
	case before == nil || before.own != v.own:
		if note != "" {
			v, err = h.annotate(versionID{v.ino, v.own}, note)
		}
		return v, true, true, err
	}
	return v, false, true, nil
}

// askedFor returns the newest version of a file, which stays one from now on even where it differs from that before in its times alone.
func (h *history) askedFor(ino sharefs.Ino) (*version, error) {
	h.t.mu.Lock()
	defer h.t.mu.Unlock()
	v, err := newestVersion(h.t.db, ino, noLimit)
	if err != nil || v == nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if id := (versionID{ino, v.own}); h.alike[id] == alikeButTimes {
		delete(h.alike, id)
	}
	return v, nil
}

// beginNow makes a version of a file at rest. f.content is held.
func (h *history) beginNow(f *file, note string) (*version, error) {
	t := h.t
	st, err := t.statBacking(f.ino)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	r, err := x.row(f.ino)
	if err != nil {
		return nil, err
	}
	v, err := h.begin(x, r, stampOf(&st), time.Now(), note)
	if err != nil {
		return nil, err
	}
	return v, x.commit()
}

// annotate gives a version a note unless it has one, and returns it as it is then.
func (h *history) annotate(id versionID, note string) (*version, error) {
	t := h.t
	t.mu.Lock()
	defer t.mu.Unlock()
	v, err := loadVersion(t.db, id.ino, id.own)
	if err != nil || v.note != "" {
		return v, err
	}
	x := t.begin()
	v.note = note
	v.put(&x.b)
	return v, x.commit()
}

// Describe sets the note on a version of a file, in place of one that it has. Errors: KindNotExist: there is no such version, and as [Tree.Commit].
func (t *Tree) Describe(ino sharefs.Ino, number uint64, note string) error {
	const op = "describe"
	if err := t.writable(op); err != nil {
		return err
	}
	if err := checkNote(op, note); err != nil {
		return err
	}
	v, s, err := t.past.find(ino, number)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if v, err = loadVersion(t.db, s.ino, v.own); err != nil || v.note == note {
		return err
	}
	x := t.begin()
	v.note = note
	v.put(&x.b)
	return x.commit()
}
