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
//   - All of the content goes (O_TRUNC), and nobody has the backing file open: it is moved, and an empty one takes its place (aside_move.go).
//   - The disk can share blocks (FICLONE). This and the move take no time whatever the size.
//   - The content is copied, and whoever wants to write waits for it: a GiB is about a second. So that this is seldom, large content is
//     captured before all else as soon as it has come to rest (history.urgent).
//   - There is no room for a copy on the disk: the version is lost, counted and named in the log. A full disk does not keep a user from
//     changing a file.
//
// An aside file is never changed, and removed once the row that says where else the content is survives power loss. It has its name only
// when all of it survives power loss: a copy is synced under another name first. So what a start finds under a name may be trusted, whatever
// the row says (recoverAside). Of what was moved as much survives as was synced before, by whoever wrote it or by the disk in its time.
type asideDir struct {
	fd     int  // O_PATH
	clones bool // the disk can share blocks
	// room returns how many bytes may be copied; tests replace it.
	room func() int64
}

// Suffixes of files that are no version's content yet, or never; a start removes them.
const (
	asidePart = ".part" // a copy that is being made
	asideNew  = ".new"  // an empty file that is to become the live one
	asideHeld = ".held" // a clone that lives while it is read
)

// Of the disk a twentieth is left free by copies, at most leftFree bytes.
const leftFree = 1 << 30

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
	a.room = a.available
	a.clones = err == nil && !readOnly && canClone(path)
	return failed("open the directory of what is set aside", err)
}

// canClone reports whether the disk below a directory can share blocks.
func canClone(dir string) bool {
	var fds [2]int
	for i := range fds {
		fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return false
		}
		defer unix.Close(fd)
		fds[i] = fd
	}
	return unix.IoctlFileClone(fds[0], fds[1]) == nil
}

// available is room in earnest.
func (a *asideDir) available() int64 {
	var s unix.Statfs_t
	if _, err := ignoringEINTR(func() (int, error) { return 0, unix.Fstatfs(a.fd, &s) }); err != nil {
		return 0
	}
	return int64(s.Bavail)*s.Bsize - min(int64(s.Blocks/20)*s.Bsize, leftFree)
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

// stat asks for what the disk says of an aside file.
func (a *asideDir) stat(id versionID, st *unix.Stat_t) error {
	_, err := ignoringEINTR(func() (int, error) {
		return 0, unix.Fstatat(a.fd, asideName(id.ino, id.own), st, unix.AT_SYMLINK_NOFOLLOW)
	})
	return err
}

// holds reports whether an open file is the aside file of a version. While a file is moved aside its name leads to the live file, and if the
// move is given up to a copy.
func (a *asideDir) holds(id versionID, fd int) bool {
	var here, there unix.Stat_t
	return unix.Fstat(fd, &here) == nil && a.stat(id, &there) == nil && here.Ino == there.Ino
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

// clone makes an aside file that shares the blocks of an open file.
func (a *asideDir) clone(name string, src int) (*os.File, error) {
	fd, err := a.create(name)
	if err != nil {
		return nil, err
	}
	clone := os.NewFile(uintptr(fd), "clone")
	if err := unix.IoctlFileClone(fd, src); err != nil {
		clone.Close()
		a.remove(name)
		return nil, err
	}
	return clone, nil
}

// rename gives an aside file another name, in place of what has that.
func (a *asideDir) rename(from, to string) error {
	_, err := ignoringEINTR(func() (int, error) { return 0, unix.Renameat(a.fd, from, a.fd, to) })
	return err
}

// remove unlinks an aside file; one that is not there is no error.
func (a *asideDir) remove(name string) error {
	if err := unix.Unlinkat(a.fd, name, 0); err != nil && err != unix.ENOENT {
		return err
	}
	return nil
}

// recoverAside looks through what is set aside at a start. What no row needs is removed, and the two cases mended in which a row does not
// say where the content is.
func (h *history) recoverAside() error {
	const op = "look through what is set aside"
	d, err := os.Open(filepath.Join(h.t.cfg.Dir, "aside"))
	if err != nil {
		return failed(op, err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return failed(op, err)
	}
	for _, name := range names {
		keep := false
		if part, ok := strings.CutSuffix(name, asidePart); ok {
			keep, err = h.recoverPart(part)
		} else if ref, ok := parseReference(name); ok {
			keep = h.recoverReference(ref)
		} else if id, ok := parseAside(name); ok {
			keep, err = h.recoverOne(id)
		}
		if err != nil {
			return failed(op, err)
		}
		if !keep {
			if err := h.aside.remove(name); err != nil {
				return failed("remove what is set aside", err)
			}
		}
	}
	return nil
}

// recoverPart gives a copy its name where that was lost with the power: the row that says that it is there was written after the copy was
// synced.
func (h *history) recoverPart(name string) (keep bool, err error) {
	id, ok := parseAside(name)
	if !ok {
		return false, nil
	}
	v, err := loadVersion(h.t.db, id.ino, id.own)
	if errors.Is(err, sharefs.KindNotExist) {
		return false, nil
	}
	if err != nil || v.place != placeAside {
		return false, err
	}
	if err := unix.Faccessat(h.aside.fd, name, unix.F_OK, 0); err != unix.ENOENT {
		return false, err
	}
	return true, h.aside.rename(name+asidePart, name)
}

// recoverOne reports whether one aside file is needed.
func (h *history) recoverOne(id versionID) (keep bool, err error) {
	v, err := loadVersion(h.t.db, id.ino, id.own)
	if errors.Is(err, sharefs.KindNotExist) {
		return false, nil
	}
	if err != nil || v.place != placeAside && v.place != placeLive {
		return false, err
	}
	var st unix.Stat_t
	if err := h.aside.stat(id, &st); err != nil {
		return false, err
	}
	live, liveErr := h.t.live.stat(id.ino)
	switch {
	case liveErr == nil && live.Ino == st.Ino:
		// It is the live backing file still: the daemon was killed within a move.
		if v.place == placeAside {
			_, err = h.replace(id, placeAside, placeLive)
		}
		return false, err
	case v.place == placeAside:
		return true, nil
	case uint64(st.Size) != v.size:
		return false, nil
	}
	// The power went before the row was synced that says it is here, and so did the mark of whoever changed the live file afterwards.
	return true, h.adoptAside(v)
}

// adoptAside makes an aside file the content of a version, and has the start look at the live file as at one that may have changed.
func (h *history) adoptAside(v *version) error {
	t := h.t
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	v.place = placeAside
	v.put(&x.b)
	_, marked, err := t.db.Get(spaceMark, inoKey(v.ino))
	if err != nil {
		return err
	}
	if r, err := t.row(v.ino); err == nil && r.nlink > 0 && !marked {
		x.b.Put(spaceMark, inoKey(v.ino), markValue(true))
	}
	return x.commit()
}
