package versions

import (
	"golang.org/x/sys/unix"

	"sharefs"
)

// Open opens a regular file; flags are those of open(2), O_TRUNC among them. Errors: KindStale, KindIsDir, KindLoop for a symlink,
// KindNoDevice for what the kernel opens itself.
func (t *Tree) Open(ino sharefs.Ino, flags uint32, who Caller) (*Handle, error) {
	h := &Handle{t: t, flags: flags}
	if h.CanWrite() || flags&unix.O_TRUNC != 0 {
		if err := t.writable("open"); err != nil {
			return nil, err
		}
	}
	// The reference keeps the inode from being removed for good until the handle does.
	if !t.refs.add(ino, 1) {
		return nil, stale(ino)
	}
	defer t.Forget(ino, 1)
	r, err := t.row(ino)
	if err != nil {
		return nil, err
	}
	switch r.kind() {
	case sharefs.ModeRegular:
	case sharefs.ModeDir:
		return nil, fail("open", sharefs.KindIsDir)
	case sharefs.ModeSymlink:
		return nil, fail("open", sharefs.KindLoop)
	default:
		return nil, fail("open", sharefs.KindNoDevice)
	}
	h.f = t.files.pin(ino)
	if err := t.finished(h.f, who.Cancel); err != nil {
		t.files.unpin(h.f)
		return nil, err
	}
	defer t.enter(h, r, false)()
	if !h.CanWrite() && flags&unix.O_TRUNC == 0 {
		t.opened(h)
		return h, nil
	}
	for {
		if err = t.openChange(h, who); err != errAbsent {
			break
		}
		if err = t.bring(who.Cancel, h.f, true, nil); err != nil {
			break
		}
	}
	if err != nil {
		t.files.unpin(h.f)
		return nil, err
	}
	if err := t.readySync(h); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// readySync makes the name and the mark of a file survive power loss before a handle is used each write of which is to: under passthrough
// the daemon sees none of them.
func (t *Tree) readySync(h *Handle) error {
	if !h.syncs() {
		return nil
	}
	return t.SyncInode(h.f.ino)
}

// openChange opens a file for writing, or cuts it, or both.
func (t *Tree) openChange(h *Handle, who Caller) error {
	f := h.f
	if err := f.lock(who.Cancel); err != nil {
		return err
	}
	locked := true
	unlock := func() {
		if locked {
			f.content.Unlock()
		}
		locked = false
	}
	defer unlock()
	r, err := t.row(f.ino)
	if err != nil {
		return err
	}
	// A write under passthrough is not seen, so that whoever might write counts as having done so.
	var edit func(*tx, *row) error
	if who.UID != 0 && r.hasPriv() {
		edit = func(x *tx, r *row) error { x.killPriv(r, who); return nil }
	}
	cut := h.flags&unix.O_TRUNC != 0
	f.mu.Lock()
	rested, writing := !f.hot, f.writers > 0
	f.mu.Unlock()
	if h.CanWrite() {
		if !rested && !writing && t.cfg.Settle > 0 {
			t.past.counts.joined.Add(1)
		}
		c := changeSome
		if cut {
			c = changeAll
		}
		if err := t.arm(f, c, h.mappable(), edit); err != nil {
			return err
		}
		if gone, err := t.outlived(f); gone || err != nil {
			t.disarm(f)
			if err == nil {
				err = stale(f.ino)
			}
			return err
		}
	}
	if cut {
		if err := t.truncate(f, 0, edit); err != nil {
			if h.CanWrite() {
				t.disarm(f)
			}
			return err
		}
	}
	t.opened(h)
	unlock()
	if edit != nil || rested && h.mappable() {
		// The kernel has the mode from before, or would believe for an hour in times that a mapping is about to move.
		t.forgetAttr(f.ino)
	}
	return nil
}

// outlived reports whether a file that nobody has open has no name any more: then the kernel came to it by a name that was taken away behind its back, by what another host did, and what
// would be written to it would be lost. It looks the name up again when it is told that the file is stale. Once a file is armed no other host takes its last name.
func (t *Tree) outlived(f *file) (bool, error) {
	f.mu.Lock()
	held := f.handles > 0
	f.mu.Unlock()
	if held {
		return false, nil
	}
	r, err := t.row(f.ino)
	return err == nil && r.nlink == 0, err
}

// opened counts a handle.
func (t *Tree) opened(h *Handle) {
	f := h.f
	if t.admit.Load() != nil {
		t.opens.note(f.ino)
	}
	f.mu.Lock()
	f.handles++
	f.opens++
	if h.CanWrite() {
		f.writers++
	}
	if h.mappable() {
		f.mapped = true
	}
	f.mu.Unlock()
}
