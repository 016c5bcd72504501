package versions

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"sharefs"
)

// A backing file whose content is about to go as a whole is moved aside, and an empty one takes its place:
//
//  1. nobody   has it open or mapped but who captures it: no handle, no registration for passthrough, no lease of another kind
//  2. link     it gets its second name, aside/INO-NUMBER
//  3. commit   the row of the version says so, in the same commit as the mark of whoever is about to write
//  4. replace  an empty file is renamed over live/HH/INO
//
// If the daemon is killed between 2 and 4 both names lead to the same content, which nobody has changed; a start sees that by the count of
// links. If somebody opened the file since 1, that one has to see it change: then 4 makes a copy of what is aside instead.
type swap struct {
	h     *history
	v     *version
	opens uint64 // how often the file had been opened at 1
	put   bool   // 3 is done; otherwise the version was captured meanwhile
	empty string // the name of the empty file
}

// prepareMove does stages 1 and 2. It returns nil where the content has to be copied. f.content is held.
func (h *history) prepareMove(f *file, v *version) *swap {
	f.mu.Lock()
	opens := f.opens
	free := f.handles == 0
	if free {
		h.t.files.shut(&f.rd)
		h.t.files.shut(&f.wr)
	}
	f.mu.Unlock()
	if !free {
		return nil
	}
	if k := h.t.kernel.Load(); k != nil && !(*k).DropBacking(f.ino) {
		return nil
	}
	if !h.unshared(f.ino) {
		return nil
	}
	name := asideName(v.ino, v.own)
	m := &swap{h: h, v: v, opens: opens, empty: name + asideNew}
	fd, err := h.aside.create(m.empty)
	if err != nil {
		return nil
	}
	unix.Close(fd)
	if err = h.aside.remove(name); err == nil {
		err = unix.Linkat(h.t.live.fd, h.t.live.name(f.ino), h.aside.fd, name, 0)
	}
	if err != nil {
		h.aside.remove(m.empty)
		return nil
	}
	return m
}

// unshared reports whether nobody has a backing file open or mapped but who captures it, as a write lease tells (fcntl(2)).
func (h *history) unshared(ino sharefs.Ino) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if at := h.inHand; at.file != nil && at.ino == ino {
		return takesLease(int(at.file.Fd()))
	}
	fd, err := h.t.live.openProbe(ino)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return takesLease(fd)
}

// takesLease reports whether a descriptor is the only one that its file is open by. An open that meets the lease within its microseconds
// makes the kernel signal its holder: SIGURG is what the Go runtime expects to get for no reason.
func takesLease(fd int) bool {
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETSIG, int(unix.SIGURG)); err != nil {
		return false
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		return false
	}
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
	return err == nil
}

// beingRead is what the capture has open of the live files.
type beingRead struct {
	ino  sharefs.Ino
	file *os.File
}

// edit does stage 3, within a change. Tree.mu is held.
func (m *swap) edit(x *tx) error {
	if m == nil {
		return nil
	}
	v, err := loadVersion(m.h.t.db, m.v.ino, m.v.own)
	if err != nil {
		return err
	}
	if m.put = v.place == placeLive; m.put {
		v.place = placeAside
		v.put(&x.b)
	}
	return nil
}

// cancel gives a move up of which stage 3 has failed. The second name stays, for after a failed commit it is not known what a start will find;
// the next move or copy replaces it, the capture removes it, and so does a start.
func (m *swap) cancel() {
	if m != nil {
		m.h.aside.remove(m.empty)
	}
}

// finish does stage 4. f.content is held, and nothing else.
func (m *swap) finish(f *file) error {
	if m == nil {
		return nil
	}
	h, id := m.h, versionID{m.v.ino, m.v.own}
	if m.put && m.replace(f) == nil {
		f.noteChange(0, endless) // all of it, though nothing was written
		h.counts.moved.Add(1)
		return nil
	}
	h.aside.remove(m.empty)
	if m.put {
		if cause := h.copyAside(id); cause != nil {
			lost, err := h.replace(id, placeAside, placeLost)
			if err != nil {
				return err
			}
			if lost {
				h.reportLoss(m.v, changedEarly, cause)
			}
		}
	}
	// Where it was captured meanwhile, nothing else removes the second name.
	if v, err := loadVersion(h.t.db, id.ino, id.own); err != nil || v.place == placeAside {
		return err
	}
	if err := h.aside.remove(asideName(id.ino, id.own)); err != nil {
		return failed("remove what is set aside", err)
	}
	return h.keptSafely(f.ino)
}

// errOpened says that a file was opened since it was looked at.
var errOpened = errors.New("opened meanwhile")

// replace puts the empty file in the place of the live one, unless somebody has opened that since stage 1. Who opens it from now on gets the
// empty one.
func (m *swap) replace(f *file) error {
	t := m.h.t
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.handles > 0 || f.opens != m.opens || f.rd.users > 0 || f.wr.users > 0 {
		return errOpened
	}
	t.files.shut(&f.rd)
	t.files.shut(&f.wr)
	_, err := ignoringEINTR(func() (int, error) {
		return 0, unix.Renameat(m.h.aside.fd, m.empty, t.live.fd, t.live.name(f.ino))
	})
	return err
}
