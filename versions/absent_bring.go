package versions

import (
	"golang.org/x/sys/unix"

	"sharefs"
)

// Bring brings all of an absent file here, and makes it full. Progress, if there is any, is called with how many bytes of it are here. It does nothing for a file that is full. Who is patient waits for
// somebody who has it to come.
// Errors: KindUnreachable, KindNoSpace, and EINTR where cancel was closed.
func (t *Tree) Bring(cancel <-chan struct{}, ino sharefs.Ino, patient bool, progress func(bytes uint64)) error {
	const op = "bring here"
	if err := t.writable(op); err != nil {
		return err
	}
	if !t.refs.add(ino, 1) {
		return stale(ino)
	}
	defer t.Forget(ino, 1)
	f := t.files.pin(ino)
	defer t.files.unpin(f)
	f.mu.Lock()
	f.entering++ // it does not become absent anew meanwhile
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.entering--
		f.mu.Unlock()
		t.restedPartial(f)
	}()
	return t.bring(cancel, f, patient, progress)
}

// bring is Bring of a file that is pinned and entered; f.content is not held.
func (t *Tree) bring(cancel <-chan struct{}, f *file, patient bool, progress func(uint64)) error {
	for t.absentNow(f.ino) {
		p, err := t.openPartial(cancel, f)
		if err != nil {
			return err
		}
		if p == nil {
			return nil
		}
		if err = p.bring(cancel, patient, progress); err == nil {
			err = t.becomeFull(f, p)
		}
		if err == errRetired {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// bring gets all chunks.
func (p *partial) bring(cancel <-chan struct{}, patient bool, progress func(uint64)) error {
	for off := int64(0); off < int64(p.v.size); {
		l, err := p.at(off)
		if err != nil {
			return err
		}
		if !l.hole && !p.isHere(l.off) {
			if _, err := p.chunk(cancel, l, true, patient); err != nil {
				return err
			}
		}
		if off = l.off + l.len; progress != nil {
			progress(uint64(off))
		}
	}
	return nil
}

// becomeFull says of an absent file all of which is here that it is full.
func (t *Tree) becomeFull(f *file, p *partial) error {
	err := t.becomesFull(f, p)
	if err == nil {
		p.idle()
		t.forgetAttr(f.ino)
		if filled := t.filled.Load(); filled != nil {
			(*filled)(f.ino)
		}
	}
	return err
}

func (t *Tree) becomesFull(f *file, p *partial) error {
	if err := t.live.syncFile(f.ino); err != nil { // most of it, while others get at the file
		return failed("sync", err)
	}
	f.content.Lock()
	defer f.content.Unlock()
	p.saving.Lock()
	defer p.saving.Unlock()
	if p.retired || f.part.Load() != p || !t.absentNow(f.ino) {
		return errRetired
	}
	// From here on the file is content, whatever the row says: what the row says is that it is to be compared with its name.
	if err := unix.Fchmodat(t.live.fd, t.live.name(f.ino), modeBacking, 0); err != nil {
		return failed("bring here", err)
	}
	a, err := t.Getattr(f.ino)
	if err != nil {
		return err
	}
	if err := t.live.setTimes(f.ino, a.Atime, a.Mtime); err != nil {
		return failed("set times", err)
	}
	// The journal is synced by itself: with the row, and without this, the file would be taken for a hole after a loss of power.
	if err := t.live.syncFile(f.ino); err != nil {
		return failed("sync", err)
	}
	st, err := t.live.stat(f.ino)
	if err != nil {
		return failed("read a backing file", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	v, err := newestVersion(t.db, f.ino, noLimit)
	if err != nil {
		return err
	}
	if v == nil || v.own != p.v.own {
		return errRetired
	}
	x := t.begin()
	r, err := x.edit(f.ino)
	if err != nil {
		return err
	}
	r.flags &^= rowAbsent
	r.blocks = uint64(st.Blocks)
	_, _, v.ctime = timesOf(&st)
	v.put(&x.b)
	if err := x.commit(); err != nil {
		return err
	}
	p.retired = true
	f.mu.Lock()
	f.part.Store(nil)
	f.mu.Unlock()
	return nil
}

// turnedOutFull takes the flag from a file that a rebuild found full.
func (t *Tree) turnedOutFull(r *row) error {
	if t.cfg.ReadOnly {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	c, err := x.edit(r.ino)
	if err != nil {
		return err
	}
	c.flags &^= rowAbsent
	return x.commit()
}

// restedPartial makes an absent file full that was read to its end. It is called when somebody has left it.
func (t *Tree) restedPartial(f *file) {
	p := f.part.Load()
	if p == nil {
		return
	}
	f.mu.Lock()
	busy := f.handles+f.entering > 0
	f.mu.Unlock()
	if busy {
		return
	}
	p.idle()
	p.mu.Lock()
	added := p.added
	p.mu.Unlock()
	if added && p.known() {
		if err := t.becomeFull(f, p); err != nil && err != errRetired {
			t.log.Warn("a file that is all here counts as absent still", "inode", uint64(f.ino), "err", err)
		}
	} else if added {
		t.forgetAttr(f.ino)
	}
	f.mu.Lock()
	gone := f.handles+f.entering == 0 && f.part.CompareAndSwap(p, nil)
	f.mu.Unlock()
	if gone {
		p.retire()
	}
}
