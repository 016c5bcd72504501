package versions

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sharefs"
)

// A version that is not yet in packs has its content in the live backing file. When that is about to change, the content is set aside into
// a file of its own, aside/INO-NUMBER (both hexadecimal), and only when the row says so may the change begin. In this order of preference:
//
//   - The disk can share blocks (FICLONE): that takes no time whatever the size.
//   - Up to asideLimit bytes of data: they are copied.
//   - Otherwise the version is lost, and counted: holding up whoever wants to write for seconds is worse.
//
// An aside file is never changed, and removed once the row that says where else the content is survives power loss.
type asideDir struct {
	fd int // O_PATH
}

// asideLimit is how many bytes of data are copied aside at most: about a second of an SSD.
const asideLimit = 1 << 30

func (a *asideDir) open(store string, readOnly bool) error {
	a.fd = -1
	path := filepath.Join(store, "aside")
	if !readOnly {
		if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return failed("make the directory of what is set aside", err)
		}
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT && readOnly {
		return nil
	}
	a.fd = fd
	return failed("open the directory of what is set aside", err)
}

func (a *asideDir) close() {
	if a.fd > 0 {
		unix.Close(a.fd)
	}
	a.fd = -1
}

func asideName(ino sharefs.Ino, own uint64) string { return fmt.Sprintf("%x-%x", uint64(ino), own) }

func parseAside(name string) (id versionID, ok bool) {
	first, second, found := strings.Cut(name, "-")
	ino, err := strconv.ParseUint(first, 16, 64)
	own, err2 := strconv.ParseUint(second, 16, 64)
	id = versionID{sharefs.Ino(ino), own}
	return id, found && err == nil && err2 == nil && name == asideName(id.ino, id.own)
}

// read opens an aside file.
func (a *asideDir) read(id versionID) (int, error) {
	return ignoringEINTR(func() (int, error) {
		return unix.Openat(a.fd, asideName(id.ino, id.own), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_LARGEFILE, 0)
	})
}

// create makes an aside file; one that a crash left there is replaced.
func (a *asideDir) create(name string) (int, error) {
	const flags = unix.O_RDWR | unix.O_CREAT | unix.O_EXCL | unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_LARGEFILE
	fd, err := ignoringEINTR(func() (int, error) { return unix.Openat(a.fd, name, flags, 0o600) })
	if err == unix.EEXIST {
		if err := a.remove(name); err != nil {
			return -1, err
		}
		fd, err = ignoringEINTR(func() (int, error) { return unix.Openat(a.fd, name, flags, 0o600) })
	}
	return fd, err
}

// remove unlinks an aside file; one that is not there is no error.
func (a *asideDir) remove(name string) error {
	if err := unix.Unlinkat(a.fd, name, 0); err != nil && err != unix.ENOENT {
		return err
	}
	return nil
}

// beforeChange is the hook that keeps a version whose content is the live backing file. f.content is held.
func (h *history) beforeChange(f *file, _ change) error {
	v, err := newestVersion(h.t.db, f.ino, noLimit)
	if err != nil || v == nil {
		return err
	}
	switch v.place {
	case placeLive:
		return h.setAside(v)
	case placeKept:
		h.mu.Lock()
		unsafe := h.unsafe[f.ino]
		h.mu.Unlock()
		if unsafe {
			return failed("sync the journal", h.t.db.Sync())
		}
	}
	return nil
}

// setAside brings the content of the newest version from the live backing file into one of its own. A disk that is full or damaged does not
// keep a user from changing the file: then the version is lost.
func (h *history) setAside(v *version) error {
	id := versionID{v.ino, v.own}
	place := placeAside
	switch cloned, err := h.copyAside(id); {
	case errors.Is(err, errTooLarge):
		h.counts.tooLarge.Add(1)
		h.t.log.Warn("a version is lost: its file is changed before it was captured, and too large to be copied", "inode", uint64(v.ino), "size", v.size)
		place = placeLost
	case err != nil:
		h.counts.lost.Add(1)
		h.t.log.Warn("a version is lost: its file is changed before it was captured, and it cannot be copied", "inode", uint64(v.ino), "err", err)
		place = placeLost
	case cloned:
		h.counts.cloned.Add(1)
	default:
		h.counts.copied.Add(1)
	}
	moved, err := h.setPlace(id, place)
	if err != nil || !moved || place == placeLost {
		h.aside.remove(asideName(id.ino, id.own)) // captured meanwhile, or nothing was committed: a start would remove it too
	}
	return err
}

// setPlace commits that a version whose content was live has it elsewhere. It reports false where that is so already.
func (h *history) setPlace(id versionID, place place8) (bool, error) {
	t := h.t
	t.mu.Lock()
	defer t.mu.Unlock()
	v, err := loadVersion(t.db, id.ino, id.own)
	if err != nil {
		return false, err
	}
	if v.place != placeLive {
		return false, nil
	}
	x := t.begin()
	v.place = place
	v.put(&x.b)
	return true, x.commit()
}

var errTooLarge = errors.New("too large to be copied")

// copyAside makes a copy of a live backing file that shares its blocks, or does not.
func (h *history) copyAside(id versionID) (cloned bool, err error) {
	src, err := h.t.live.openProbe(id.ino)
	if err != nil {
		return false, err
	}
	defer unix.Close(src)
	name := asideName(id.ino, id.own)
	dst, err := h.aside.create(name)
	if err != nil {
		return false, err
	}
	cloned, err = cloneOrCopy(dst, src, asideLimit)
	if err2 := unix.Close(dst); err == nil {
		err = err2
	}
	if err != nil {
		h.aside.remove(name)
	}
	return cloned, err
}

// cloneOrCopy makes dst, which is empty, the same as src; more than limit bytes of data are not copied (errTooLarge).
func cloneOrCopy(dst, src int, limit int64) (cloned bool, err error) {
	if unix.IoctlFileClone(dst, src) == nil {
		return true, nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(src, &st); err != nil {
		return false, err
	}
	if st.Blocks*512 > limit {
		return false, errTooLarge
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

// recoverAside looks through what is set aside at a start: what no row points to is removed.
func (h *history) recoverAside() error {
	d, err := os.Open(filepath.Join(h.t.cfg.Dir, "aside"))
	if err != nil {
		return failed("look through what is set aside", err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return failed("look through what is set aside", err)
	}
	for _, name := range names {
		id, ok := parseAside(name)
		if ok {
			v, err := loadVersion(h.t.db, id.ino, id.own)
			if err != nil && !errors.Is(err, sharefs.KindNotExist) {
				return err
			}
			ok = err == nil && v.place == placeAside
		}
		if !ok {
			if err := h.aside.remove(name); err != nil {
				return failed("remove what is set aside", err)
			}
		}
	}
	return nil
}
