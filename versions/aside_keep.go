package versions

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// beforeChange is the hook that keeps a version whose content is the live backing file. f.content is held.
func (h *history) beforeChange(f *file, c change) (*swap, error) {
	v, err := newestVersion(h.t.db, f.ino, noLimit)
	if err != nil || v == nil {
		return nil, err
	}
	switch v.place {
	case placeLive:
		if c == changeAll {
			if m := h.prepareMove(f, v); m != nil {
				return m, nil
			}
		}
		return nil, h.setAside(v)
	case placeKept:
		return nil, h.keptSafely(f.ino)
	}
	return nil, nil
}

// keptSafely sees to it that the row which says that a version is kept survives power loss.
func (h *history) keptSafely(ino sharefs.Ino) error {
	h.mu.Lock()
	unsafe := h.unsafe[ino] || h.foreign[ino] > h.t.db.Synced()
	h.mu.Unlock()
	if !unsafe {
		return nil
	}
	return failed("sync the journal", h.t.db.Sync())
}

// setAside brings the content of the newest version from the live backing file into one of its own. A disk that is full or damaged does not
// keep a user from changing the file: then the version is lost.
func (h *history) setAside(v *version) error {
	id := versionID{v.ino, v.own}
	place := placeAside
	if err := h.copyAside(id); err != nil {
		place = placeLost
		defer h.reportLoss(v, changedEarly, err)
	}
	moved, err := h.replace(id, placeLive, place)
	if err != nil || !moved || place == placeLost {
		h.aside.remove(asideName(id.ino, id.own)) // captured meanwhile, or nothing was committed: a start would remove it too
	}
	return err
}

// errNoRoom says that the disk has no room for a copy.
var errNoRoom = errors.New("the disk has no room for a copy")

// slowCopy is for how long somebody waits for a copy before the log tells of it.
const slowCopy = time.Second

// copyAside makes a copy of a live backing file, which shares its blocks or not, and gives it its name once it survives power loss.
func (h *history) copyAside(id versionID) error {
	src, err := h.t.live.openProbe(id.ino)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	name := asideName(id.ino, id.own)
	dst, err := h.aside.create(name + asidePart)
	if err != nil {
		return err
	}
	began := time.Now()
	cloned, err := cloneOrCopy(dst, src, h.aside.room)
	if err == nil {
		_, err = ignoringEINTR(func() (int, error) { return 0, unix.Fdatasync(dst) })
	}
	if err2 := unix.Close(dst); err == nil {
		err = err2
	}
	if err == nil {
		err = h.aside.rename(name+asidePart, name)
	}
	switch {
	case err != nil:
		h.aside.remove(name + asidePart) // a start would remove it too
	case cloned:
		h.counts.cloned.Add(1)
	default:
		h.counts.copied.Add(1)
		if took := time.Since(began); took > slowCopy {
			h.t.log.Warn("a program waited to open a file while the version before was copied", "inode", uint64(id.ino), "for", took.Round(time.Millisecond))
		}
	}
	return err
}

// cloneOrCopy makes dst, which is empty, the same as src; more bytes of data than there is room for are not copied (errNoRoom).
func cloneOrCopy(dst, src int, room func() int64) (cloned bool, err error) {
	if unix.IoctlFileClone(dst, src) == nil {
		return true, nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(src, &st); err != nil {
		return false, err
	}
	if st.Blocks*512 > room() {
		return false, errNoRoom
	}
	if err := unix.Ftruncate(dst, st.Size); err != nil {
		return false, err
	}
	for off := int64(0); off < st.Size; {
		start, err := unix.Seek(src, off, unix.SEEK_DATA)
		if err == unix.ENXIO {
			break
		}
		end := st.Size
		if err == nil {
			if end, err = unix.Seek(src, start, unix.SEEK_HOLE); err != nil {
				return false, err
			}
		} else if err == unix.EINVAL {
			start = off // the disk knows of no holes
		} else {
			return false, err
		}
		if err := copyRange(dst, src, start, end); err != nil {
			return false, err
		}
		off = end
	}
	return false, nil
}

// copyRange copies a run of bytes to the same place in another file.
func copyRange(dst, src int, from, to int64) error {
	for from < to {
		in, out := from, from
		n, err := ignoringEINTR(func() (int, error) {
			return unix.CopyFileRange(src, &in, dst, &out, int(min(to-from, 1<<30)), 0)
		})
		switch {
		case err == nil && n > 0:
			from += int64(n)
			continue
		case err == nil:
			return nil // the file became shorter: the version's size will tell
		case err != unix.ENOSYS && err != unix.EXDEV && err != unix.EINVAL && err != unix.EOPNOTSUPP:
			return err
		}
		return copyByHand(dst, src, from, to)
	}
	return nil
}

// copyByHand is copyRange where the kernel does not do it.
func copyByHand(dst, src int, from, to int64) error {
	buf := make([]byte, min(1<<20, to-from))
	for from < to {
		n, err := ignoringEINTR(func() (int, error) { return unix.Pread(src, buf[:min(int64(len(buf)), to-from)], from) })
		if err != nil || n == 0 {
			return err
		}
		for b, at := buf[:n], from; len(b) > 0; {
			m, err := ignoringEINTR(func() (int, error) { return unix.Pwrite(dst, b, at) })
			if err != nil {
				return err
			}
			b, at = b[m:], at+int64(m)
		}
		from += int64(n)
	}
	return nil
}
