package versions

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions/writers"
)

// Setattr sets attributes and returns those that result. A SetAttr that sets nothing is what chown(2) with -1 for both leaves: it
// counts as a change of owner. Errors: KindStale, KindIsDir and KindInvalid for the size of what is no regular file, and what the disk reports
// (KindTooLarge, KindNoSpace).
func (t *Tree) Setattr(ino sharefs.Ino, set *SetAttr, who Caller) (sharefs.Attr, error) {
	if err := t.writable("set attributes"); err != nil {
		return sharefs.Attr{}, err
	}
	r, err := t.row(ino)
	if err != nil {
		return sharefs.Attr{}, err
	}
	if r.isRegular() && (set.Size != nil || set.Atime != nil || set.Mtime != nil) {
		err = t.setContentAttr(ino, set, who)
	} else if set.Size != nil {
		kind := sharefs.KindInvalid
		if r.isDir() {
			kind = sharefs.KindIsDir
		}
		err = fail("truncate", kind)
	} else {
		err = t.setRow(ino, set, nil, who)
	}
	if err != nil {
		return sharefs.Attr{}, err
	}
	return t.Getattr(ino)
}

// setContentAttr sets attributes of a regular file that its backing file has a part in.
func (t *Tree) setContentAttr(ino sharefs.Ino, set *SetAttr, who Caller) error {
	f := t.files.pin(ino)
	defer t.files.unpin(f)
	for {
		err := t.setContentAttrOf(f, set, who)
		if err != errAbsent {
			return err
		}
		if err := t.Bring(who.Cancel, ino, true, nil); err != nil {
			return err
		}
	}
}

func (t *Tree) setContentAttrOf(f *file, set *SetAttr, who Caller) error {
	if err := t.finished(f, who.Cancel); err != nil {
		return err
	}
	if err := f.lock(who.Cancel); err != nil {
		return err
	}
	defer f.content.Unlock()
	ino := f.ino
	if set.Size != nil {
		if err := t.truncate(f, *set.Size, func(x *tx, r *row) error {
			if set.KillPriv || who.UID != 0 {
				x.killPriv(r, who)
			}
			return nil
		}); err != nil {
			return err
		}
		rest := *set
		rest.Size, rest.KillPriv = nil, false
		if rest == (SetAttr{Handle: set.Handle}) {
			return nil
		}
		set = &rest
	}
	if set.Atime == nil && set.Mtime == nil {
		return t.setRow(ino, set, nil, who)
	}
	return t.setTimes(f, set, who)
}

// truncate sets the size of a file; f.content is held. Edit changes the row before.
func (t *Tree) truncate(f *file, size uint64, edit func(*tx, *row) error) error {
	r, err := t.row(f.ino)
	switch {
	case err != nil:
		return err
	case size > 1<<63-1:
		return fail("truncate", sharefs.KindTooLarge)
	case !r.hasPriv():
		edit = nil
	}
	c := changeSome
	if size == 0 {
		c = changeAll
	}
	if err := t.arm(f, c, false, edit); err != nil {
		return err
	}
	defer t.disarm(f)
	d, err := t.files.use(f, true)
	if err != nil {
		return err
	}
	defer t.files.done(f, d)
	err = t.resize(f, d.fd, int64(size))
	return failed("truncate", err)
}

// resize sets the size of a backing file, through a descriptor of it.
func (t *Tree) resize(f *file, fd int, size int64) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	f.noteChange(min(st.Size, size), endless)
	_, err := ignoringEINTR(func() (int, error) { return 0, unix.Ftruncate(fd, size) })
	return err
}

// setTimes sets times, and whatever else is asked for, of a regular file; f.content is held. The backing file gets the same times first,
// because it tells them while the file is open, and if the daemon is killed in between the row still says what was acknowledged.
func (t *Tree) setTimes(f *file, set *SetAttr, who Caller) error {
	a, err := t.Getattr(f.ino)
	if err != nil {
		return err
	}
	atime, mtime := a.Atime, a.Mtime
	if set.Atime != nil {
		atime = *set.Atime
	}
	if set.Mtime != nil {
		mtime = *set.Mtime
	}
	if t.absentNow(f.ino) {
		if err := t.ready(f.ino, int64(a.Size)); err != nil {
			return err
		}
	}
	st, err := t.statBacking(f.ino)
	if err != nil {
		return err
	}
	if err := t.live.setTimes(f.ino, atime, mtime); err != nil {
		return failed("set times", err)
	}
	all := *set
	all.Atime, all.Mtime = &atime, &mtime
	if err := t.setRow(f.ino, &all, f, who); err != nil {
		atime, mtime, _ = timesOf(&st)
		return errors.Join(err, failed("set times back", t.live.setTimes(f.ino, atime, mtime)))
	}
	return t.noteRedated(f, stampOf(&st))
}

// noteRedated notes that the times of a hot file were set which had a stamp before. What was written to it since base, under passthrough, has given it another one; what is written at this very
// moment may be missed, so that the content has to be compared all the same (history.join). f.content is held.
func (t *Tree) noteRedated(f *file, was writers.Stamp) error {
	f.mu.Lock()
	only := f.hot && (was == f.base || was == f.redated)
	f.mu.Unlock()
	if !only {
		return nil
	}
	st, err := t.statBacking(f.ino)
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.redated = stampOf(&st)
	f.mu.Unlock()
	return nil
}

// setRow commits attributes. With a file, times were given to its backing file, which the mark has to say.
func (t *Tree) setRow(ino sharefs.Ino, set *SetAttr, f *file, who Caller) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	r, err := x.edit(ino)
	if err != nil {
		return err
	}
	if err := x.setAttr(r, set, who); err != nil {
		return err
	}
	if f != nil && f.marked && f.markFresh {
		x.b.Put(spaceMark, inoKey(ino), markValue(false))
	}
	if err := x.commit(); err != nil {
		return err
	}
	if set.Atime != nil {
		t.atimes.give(ino)
	}
	if f != nil {
		f.markFresh = false
		f.mu.Lock()
		f.fresh = false
		if f.marked {
			f.seq = max(f.seq, r.seq)
		}
		f.mu.Unlock()
	}
	return nil
}

// setAttr changes a row as Setattr is asked to, but for the size.
func (x *tx) setAttr(r *row, set *SetAttr, who Caller) error {
	chown := set.UID != nil || set.GID != nil || *set == (SetAttr{Handle: set.Handle})
	if set.UID != nil {
		r.uid = *set.UID
	}
	if set.GID != nil {
		r.gid = *set.GID
	}
	if chown && !r.isDir() || set.KillPriv {
		x.killPriv(r, who) // chown(2) does so whoever calls it
	}
	if set.Mode != nil {
		r.mode = r.mode&sharefs.ModeType | *set.Mode&sharefs.ModePerm
		if r.flags&rowACL != 0 {
			if err := x.chmodACL(r); err != nil {
				return err
			}
		}
	}
	if set.Atime != nil {
		r.atime = *set.Atime
	}
	if set.Mtime != nil {
		r.mtime = *set.Mtime
	}
	r.ctime = x.now
	if set.Ctime != nil {
		r.ctime = *set.Ctime
	}
	return nil
}

// killPriv drops what would let a file that was changed run with the rights of another: setuid, setgid where the group may execute or whoever
// changes the file is not in it (as Linux's setattr_should_drop_sgid), and file capabilities. It reports whether there was any of them.
func (x *tx) killPriv(r *row, who Caller) bool {
	before := *r
	r.mode &^= sharefs.ModeSetuid
	if r.mode&sharefs.ModeSetgid != 0 && (r.mode&0o010 != 0 || !who.in(r.gid)) {
		r.mode &^= sharefs.ModeSetgid
	}
	if r.flags&rowCaps != 0 {
		x.b.Delete(spaceXattr, xattrKey(r.ino, xattrCaps))
		r.flags &^= rowCaps
		r.xattrs--
	}
	if *r == before {
		return false
	}
	r.ctime = x.now
	return true
}

// hasPriv reports whether killPriv might change a row.
func (r *row) hasPriv() bool {
	return r.mode&(sharefs.ModeSetuid|sharefs.ModeSetgid) != 0 || r.flags&rowCaps != 0
}

// in reports whether the caller has a group. It is asked for files with setgid alone. A caller whose groups cannot be told counts as being in.
func (c Caller) in(gid uint32) bool {
	if c.UID == 0 || c.GID == gid {
		return true
	}
	groups, known := c.Groups()
	return !known || slices.Contains(groups, gid)
}

// Groups lists the groups of the caller beside its own, which the kernel does not send along. Known is false where they cannot be told: the
// caller is gone, or belongs to processes that this one cannot see.
func (c Caller) Groups() (groups []uint32, known bool) {
	status, err := os.ReadFile("/proc/" + strconv.FormatUint(uint64(c.PID), 10) + "/status")
	if err != nil {
		return nil, false
	}
	for line := range strings.Lines(string(status)) {
		if list, ok := strings.CutPrefix(line, "Groups:"); ok {
			for _, word := range strings.Fields(list) {
				gid, err := strconv.ParseUint(word, 10, 32)
				if err != nil {
					return nil, false
				}
				groups = append(groups, uint32(gid))
			}
			return groups, true
		}
	}
	return nil, false
}
