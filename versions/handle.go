package versions

import (
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// Space is what statfs(2) tells; sizes in bytes.
type Space struct {
	BlockSize              uint32
	Total, Free, Available uint64
	Inodes, InodesFree     uint64
}

// Handle is one open file of the live tree. It opens nothing until it is asked to; what it then opens is shared by all handles of the inode,
// so that there may be more of them than the process may open files. Its methods may be called from several goroutines, but for
// Close, which comes once and last.
type Handle struct {
	t      *Tree
	f      *file
	flags  uint32
	closed atomic.Bool
	// flushed is the round of file.closing in which a descriptor of the handle was closed last; guarded by file.mu.
	flushed uint64

	way    way
	joined bool
}

// Ino returns the inode that the handle is open on.
func (h *Handle) Ino() sharefs.Ino { return h.f.ino }

// Flags returns the flags of open(2) that the handle was opened with.
func (h *Handle) Flags() uint32 { return h.flags }

// CanWrite reports whether the handle was opened for writing.
func (h *Handle) CanWrite() bool { return h.flags&unix.O_ACCMODE != unix.O_RDONLY }

// mappable reports whether a writable mapping can be made of the handle, which needs reading too.
func (h *Handle) mappable() bool { return h.flags&unix.O_ACCMODE == unix.O_RDWR }

// Backing returns a descriptor of the backing file for passthrough, which the caller closes. It is O_PATH or read-only, so that it
// never counts as a writer.
func (h *Handle) Backing() (fd int, err error) {
	if fd, ok := h.t.files.take(h.f); ok {
		return fd, nil
	}
	if fd, err = h.t.files.openContent(h.f.ino, unix.O_PATH); err == unix.ENOENT {
		if _, err = h.t.statBacking(h.f.ino); err != nil {
			return -1, err
		}
		fd, err = h.t.files.openContent(h.f.ino, unix.O_PATH)
	}
	return fd, failed("open a backing file", err)
}

// ReadAt reads from the served file; at its end fewer bytes come, without an error.
func (h *Handle) ReadAt(p []byte, off int64) (n int, err error) { return h.ReadUntil(nil, p, off) }

// ReadUntil is ReadAt that waits no longer for what is elsewhere when cancel is closed.
func (h *Handle) ReadUntil(cancel <-chan struct{}, b []byte, off int64) (n int, err error) {
	for {
		p, err := h.t.openPartial(cancel, h.f)
		if err != nil {
			return 0, err
		}
		if p != nil {
			if n, err = p.readAt(cancel, b, off); err == errRetired {
				continue
			}
			return n, err
		}
		n, err = h.readHere(b, off)
		if h.f.part.Load() == nil && !h.t.absentNow(h.f.ino) { // otherwise what it read may be a hole
			return n, err
		}
	}
}

// readHere reads from the backing file.
func (h *Handle) readHere(p []byte, off int64) (n int, err error) {
	err = h.reading(func(fd int) error {
		for n < len(p) {
			m, err := unix.Pread(fd, p[n:], off+int64(n))
			switch {
			case err == unix.EINTR:
				continue
			case err != nil && n == 0:
				return failed("read", err)
			case err != nil || m == 0:
				return nil
			}
			n += m
		}
		return nil
	})
	return n, err
}

// reading calls fn with a descriptor to read from: one of its own for a handle with O_NOATIME, as the shared one moves the atime.
func (h *Handle) reading(fn func(fd int) error) error {
	if h.flags&unix.O_NOATIME == 0 {
		return h.with(false, fn)
	}
	fd, err := h.t.files.openContent(h.f.ino, unix.O_RDONLY|unix.O_NOATIME)
	if err != nil {
		return failed("read", err)
	}
	defer unix.Close(fd)
	return fn(fd)
}

// syncs reports whether each write through the handle is to survive power loss before it is answered (O_SYNC, O_DSYNC).
func (h *Handle) syncs() bool { return h.CanWrite() && h.flags&unix.O_DSYNC != 0 }

// WriteAt writes to the served file, whatever is appended to having been worked out by the kernel. A write that the disk takes only a part of
// returns how much, without an error.
func (h *Handle) WriteAt(p []byte, off int64) (n int, err error) {
	err = h.change(off, off+int64(len(p)), func(fd int) error {
		for n < len(p) {
			m, err := unix.Pwrite(fd, p[n:], off+int64(n))
			switch {
			case err == unix.EINTR:
				continue
			case err != nil && n == 0:
				return failed("write", err)
			case err != nil:
				return nil
			case m == 0:
				return failed("write", io.ErrShortWrite)
			}
			n += m
		}
		return nil
	})
	if err == nil && n > 0 && h.syncs() {
		if err = h.Sync(h.flags&unix.O_SYNC == unix.O_DSYNC); err != nil {
			return 0, err
		}
	}
	return n, err
}

// KillPriv drops setuid, setgid and file capabilities, as a write by somebody without CAP_FSETID does.
func (h *Handle) KillPriv(who Caller) error {
	t := h.t
	if r, err := t.row(h.f.ino); err != nil || !r.hasPriv() {
		return err
	}
	t.mu.Lock()
	x := t.begin()
	r, err := x.edit(h.f.ino)
	changed := false
	if err == nil {
		if changed = x.killPriv(r, who); changed {
			err = x.commit()
		}
	}
	t.mu.Unlock()
	if err == nil && changed {
		t.forgetAttr(h.f.ino)
	}
	return err
}

// BeingWritten reports whether anybody has the file open for writing, as whoever has it mapped so does.
func (h *Handle) BeingWritten() bool {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	return h.f.writers > 0
}

// Seek finds data or a hole: whence is SEEK_DATA or SEEK_HOLE. It errors with ENXIO (KindNoDevice) beyond the last.
func (h *Handle) Seek(off int64, whence int) (at int64, err error) {
	if whence != unix.SEEK_DATA && whence != unix.SEEK_HOLE {
		return 0, fail("seek", sharefs.KindInvalid)
	}
	if p, err := h.t.openPartial(nil, h.f); err != nil {
		return 0, err
	} else if p != nil {
		return p.seek(off, whence)
	}
	err = h.with(false, func(fd int) error {
		at, err = unix.Seek(fd, off, whence) // moves the descriptor's offset, which nothing uses
		return failed("seek", err)
	})
	return at, err
}

// Allocate is fallocate(2) on a handle that can write.
func (h *Handle) Allocate(mode uint32, off, n int64, who Caller) error {
	if who.UID != 0 {
		if err := h.KillPriv(who); err != nil {
			return err
		}
	}
	end := off + n
	if mode&(unix.FALLOC_FL_COLLAPSE_RANGE|unix.FALLOC_FL_INSERT_RANGE) != 0 {
		end = endless
	}
	return h.change(off, end, func(fd int) error {
		_, err := ignoringEINTR(func() (int, error) { return 0, unix.Fallocate(fd, mode, off, n) })
		return failed("allocate", err)
	})
}

// maxCopy bounds what one CopyTo copies, in bytes, where the disk has to move it: about a second.
const maxCopy = 256 << 20

// CopyTo copies up to n bytes to another file, or another place in the same one, and returns how many; 0 at the end of this one. Where the
// disk can share blocks it does, and nothing is moved.
func (h *Handle) CopyTo(dst *Handle, off, dstOff, n int64, who Caller) (copied int64, err error) {
	if h.t.absentNow(h.f.ino) {
		return 0, fail("copy", sharefs.KindCrossDevice) // the kernel reads and writes then
	}
	if who.UID != 0 {
		if err := dst.KillPriv(who); err != nil {
			return 0, err
		}
	}
	err = h.with(false, func(from int) error {
		return dst.change(dstOff, dstOff+n, func(to int) error {
			if n > maxCopy {
				r := unix.FileCloneRange{Src_fd: int64(from), Src_offset: uint64(off), Src_length: uint64(n), Dest_offset: uint64(dstOff)}
				if unix.IoctlFileCloneRange(to, &r) == nil {
					copied = n
					return nil
				}
			}
			m, err := ignoringEINTR(func() (int, error) {
				return unix.CopyFileRange(from, &off, to, &dstOff, int(min(n, maxCopy)), 0)
			})
			copied = int64(max(m, 0))
			return failed("copy", err)
		})
	})
	return copied, err
}

// Sync makes the file's content, and unless dataOnly its attributes too, survive power loss, together with what is needed to find it.
func (h *Handle) Sync(dataOnly bool) error {
	err := h.with(false, func(fd int) error {
		_, err := ignoringEINTR(func() (int, error) {
			if dataOnly {
				return 0, unix.Fdatasync(fd)
			}
			return 0, unix.Fsync(fd)
		})
		return failed("sync", err)
	})
	if err != nil {
		return err
	}
	return h.t.SyncInode(h.f.ino)
}

// with calls fn with a descriptor of the backing file.
func (h *Handle) with(write bool, fn func(fd int) error) error {
	if write && !h.CanWrite() {
		return failed("write", unix.EBADF)
	}
	d, err := h.t.files.use(h.f, write)
	if err != nil {
		return err
	}
	defer h.t.files.done(h.f, d)
	return fn(d.fd)
}

// change is with for a descriptor through which some bytes are changed.
func (h *Handle) change(from, to int64, fn func(fd int) error) error {
	h.f.noteChange(from, to)
	return h.with(true, fn)
}

// Close ends the handle. It is the RELEASE of FUSE: a mapping that was made of the handle may live on.
func (h *Handle) Close() error {
	if h.closed.Swap(true) {
		return fail("close", sharefs.KindStale)
	}
	t, f := h.t, h.f
	f.mu.Lock()
	f.handles--
	last := f.handles <= 0
	written := false
	if h.CanWrite() {
		f.writers--
		f.closing.leave(h)
		if written = f.writers <= 0; written {
			t.files.shut(&f.wr)
		}
	}
	if last {
		t.files.shut(&f.rd)
	}
	f.mu.Unlock()
	if h.CanWrite() {
		var by time.Time
		if written {
			by = t.past.edge.due(f)
		}
		t.track.ReleaseBy(f.ino, by)
		f.mu.Lock()
		f.closing.left()
		f.mu.Unlock()
	}
	if last {
		if t.admit.Load() != nil {
			t.opens.note(f.ino)
		}
		if h.flags&unix.O_ACCMODE != unix.O_WRONLY {
			t.read(f)
		}
		t.restedPartial(f)
		t.considerReaping(f.ino)
	}
	t.files.unpin(f)
	return nil
}
