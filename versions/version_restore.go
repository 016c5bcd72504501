package versions

import (
	"bytes"
	"io"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions/chunk"
)

// Restore gives a file the content and the permission bits of one of its versions. What it holds at present becomes a version first, unless it
// is one. Owner, names, extended attributes and access control lists stay; the modification time becomes the present one, so that what
// goes by times (make, rsync) sees that the file changed. Setuid and setgid of the version are given only by root, and whoever does not own the
// file leaves its permission bits alone, as chmod(2) demands. That the caller may write the file and read the version is for the edge to see to.
//
// The result is a version of its own, with the next number, as any other change is. Whoever has the file open sees the content change as if a
// program had rewritten the file; but an SQLite database that somebody has open for writing is not touched. It is noted as a change of an
// operation; of the zero one nowhere. Errors: KindBusy of such a database, KindNotExist where there is no such version, KindExist where the file
// holds the same at present, KindInvalid for what is no regular file, and what reading and writing report.
func (t *Tree) Restore(by Op, ino sharefs.Ino, number uint64, who Caller) error {
	const op = "restore"
	if err := t.referRegular(op, ino); err != nil {
		return err
	}
	defer t.Forget(ino, 1)
	v, err := t.Version(ino, number)
	if err != nil {
		return err
	}
	src, err := t.OpenVersion(ino, number)
	if err != nil {
		return err
	}
	defer src.Close()
	f := t.files.pin(ino)
	defer t.files.unpin(f)
	h := &t.past
	if err := h.lockUnused(f, src, op); err != nil { // before a version is made for nothing
		return err
	}
	f.content.Unlock()
	if _, _, err := h.commitNow(f, ""); err != nil {
		return failed("keep the present version", err)
	}
	same := h.isLive(ino, number)
	if !same {
		if same, err = h.holds(f, src, v.Mode, who); err != nil {
			return failed(op, err)
		}
	}
	if same {
		return fail(op, sharefs.KindExist)
	}
	err = h.rewrite(by, f, src, v.Mode, who)
	if k := t.kernel.Load(); k != nil { // also of what was rewritten in part
		(*k).ForgetContent(ino, 0, 0)
	}
	return err
}

// referRegular takes a reference on a regular file that is to be changed. As in Open: whoever removes the file meanwhile leaves it to Forget, which is told when it is not used any more.
func (t *Tree) referRegular(op string, ino sharefs.Ino) error {
	if err := t.writable(op); err != nil {
		return err
	}
	if !t.refs.add(ino, 1) {
		return stale(ino)
	}
	r, err := t.row(ino)
	if err == nil && !r.isRegular() {
		err = fail(op, sharefs.KindInvalid)
	}
	if err != nil {
		t.Forget(ino, 1)
	}
	return err
}

// restoredMode returns the permission bits that restoring a version's gives.
func restoredMode(mode uint32, who Caller) uint32 {
	if who.UID == 0 {
		return mode & sharefs.ModePerm
	}
	return mode & sharefs.ModePerm &^ (sharefs.ModeSetuid | sharefs.ModeSetgid)
}

// holds reports whether a file has the content and the permission bits already that restoring a version would give it.
func (h *history) holds(f *file, src VersionReader, mode uint32, who Caller) (bool, error) {
	t := h.t
	f.content.Lock()
	defer f.content.Unlock()
	r, err := t.row(f.ino)
	if err != nil || r.isAbsent() || r.mode&sharefs.ModePerm != restoredMode(mode, who) {
		return false, err
	}
	fd, err := t.live.openProbe(f.ino)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Size != src.Size() {
		return false, err
	}
	was, is := make([]byte, min(st.Size, 128<<10)), make([]byte, min(st.Size, 128<<10))
	for off := int64(0); off < st.Size; {
		n, err := src.ReadAt(was[:min(int64(len(was)), st.Size-off)], off)
		if err != nil && err != io.EOF {
			return false, err
		}
		m, err := ignoringEINTR(func() (int, error) { return unix.Pread(fd, is[:n], off) })
		if err != nil || m == 0 || !bytes.Equal(is[:m], was[:m]) {
			return false, err
		}
		off += int64(m)
	}
	return true, nil
}

// rewrite puts other content into a file.
func (h *history) rewrite(by Op, f *file, src VersionReader, mode uint32, who Caller) error {
	t := h.t
	if err := h.lockUnused(f, src, "restore"); err != nil {
		return err
	}
	defer f.content.Unlock()
	err := t.arm(f, changeAll, false, func(x *tx, r *row) error {
		x.killPriv(r, who)
		bits := restoredMode(mode, who)
		if who.UID != 0 && who.UID != r.uid {
			bits = r.mode & sharefs.ModePerm
		}
		return x.setAttr(r, &SetAttr{Mode: &bits}, who)
	})
	if err != nil {
		return err
	}
	by.changes(OpChange{Verb: OpWritten, Ino: f.ino})
	err = func() error {
		defer t.disarm(f)
		d, err := t.files.use(f, true)
		if err != nil {
			return err
		}
		defer t.files.done(f, d)
		f.noteChange(0, endless)
		return fill(d.fd, src)
	}()
	if err != nil {
		return err
	}
	// The result counts as closed at once, so that the next restore finds it among the versions; if somebody else has the file open for
	// writing it does when that one closes it.
	_, err = t.settleNow(f)
	return err
}

// fill makes the content of an open file that of a version. Holes stay holes.
func fill(fd int, src VersionReader) error {
	truncate := func(size int64) error {
		_, err := ignoringEINTR(func() (int, error) { return 0, unix.Ftruncate(fd, size) })
		return failed("restore", err)
	}
	if err := truncate(0); err != nil {
		return err
	}
	size := src.Size()
	buf := make([]byte, min(size, 1<<20))
	sparse, _ := src.(chunk.Extents)
	for off := int64(0); off < size; {
		if sparse != nil {
			start, _, err := sparse.NextData(off)
			if err != nil {
				return err
			}
			if off = start; off >= size {
				break
			}
		}
		n, err := src.ReadAt(buf[:min(int64(len(buf)), size-off)], off)
		if err != nil && err != io.EOF {
			return err
		}
		if n == 0 {
			return corrupt("a version's content", 0)
		}
		if err := writeSparse(fd, buf[:n], off); err != nil {
			return failed("restore", err)
		}
		off += int64(n)
	}
	return truncate(size)
}

// writeSparse writes what is not zero, in blocks of 64 KiB.
func writeSparse(fd int, b []byte, off int64) error {
	return eachData(b, off, func(part []byte, off int64) error {
		for len(part) > 0 {
			n, err := ignoringEINTR(func() (int, error) { return unix.Pwrite(fd, part, off) })
			if err != nil {
				return err
			}
			part, off = part[n:], off+int64(n)
		}
		return nil
	})
}

// eachData calls fn with each block of 64 KiB that is not zero all over, in order, and its place.
func eachData(b []byte, off int64, fn func(part []byte, off int64) error) error {
	const block = 64 << 10
	for len(b) > 0 {
		part := b[:min(block, len(b))]
		b = b[len(part):]
		zero := true
		for _, c := range part {
			if c != 0 {
				zero = false
				break
			}
		}
		if !zero {
			if err := fn(part, off); err != nil {
				return err
			}
		}
		off += int64(len(part))
	}
	return nil
}
