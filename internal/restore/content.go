package restore

import (
	"bytes"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/internal/treediff"
)

// content is the stage of a step that makes or changes what is no directory.
func (w *work) content(s *step) error {
	o, err := w.look(s.path)
	if err != nil {
		return err
	}
	if o.Type() != s.new.Type() {
		return &sharefs.Error{Kind: sharefs.KindAgain, Detail: "the past changed while it was read"}
	}
	anew := !s.exists() || s.fresh
	switch {
	case o.IsRegular() && anew:
		return w.create(s, o)
	case o.IsRegular() && s.what&treediff.Content != 0:
		err := w.overwrite(s, o)
		if errors.Is(err, unix.ETXTBSY) && s.old.Nlink == 1 { // a program that runs: it goes on with what it has
			return w.create(s, o)
		}
		return err
	case o.IsRegular():
		return w.in(s.path, func(dir int, name string) error {
			fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return w.dress(fd, o)
		})
	case anew:
		return w.makeNode(s, o)
	}
	return w.in(s.path, func(dir int, name string) error { return w.dressLink(dir, name, o) })
}

// makeNode makes a symbolic link, a fifo, a socket or a device.
func (w *work) makeNode(s *step, o *original) error {
	make := func(dir int, name string) error {
		var err error
		if o.Type() == unix.S_IFLNK {
			err = unix.Symlinkat(o.Target, dir, name)
		} else {
			err = unix.Mknodat(dir, name, o.Type()|0o600, int(o.Rdev))
		}
		if err == nil {
			err = w.dressLink(dir, name, o)
		}
		return err
	}
	if !s.exists() {
		return w.change(s.path, make)
	}
	place, err := w.parking()
	if err != nil {
		return err
	}
	if err := w.change(place, make); err != nil {
		return err
	}
	return w.replace(place, s.path)
}

// create makes a regular file. It comes under its name whole, with all its attributes, or not at all.
func (w *work) create(s *step, o *original) error {
	src, err := treediff.Open(w.pastFd, s.path, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	if !s.exists() {
		return w.make(src, s.path, o)
	}
	if err := w.keepAt(s.path); err != nil {
		return err
	}
	place, err := w.parking()
	if err != nil {
		return err
	}
	if err := w.make(src, place, o); err != nil {
		return err
	}
	return w.replace(place, s.path)
}

// make copies an open file to a new name.
func (w *work) make(src int, p string, o *original) error {
	return w.change(p, func(dir int, name string) error {
		fd, err := unix.Openat(dir, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		named := false
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EINVAL) { // not on every filesystem
			fd, err = unix.Openat(dir, name, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
			named = true
		}
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		err = w.copy(src, fd, true)
		if err == nil {
			err = w.dress(fd, o)
		}
		switch {
		case err == nil && !named:
			err = unix.Linkat(unix.AT_FDCWD, self(fd), dir, name, unix.AT_SYMLINK_FOLLOW)
		case err != nil && named:
			_ = unix.Unlinkat(dir, name, 0)
		}
		return err
	})
}

// overwrite brings the content and the attributes of the past into a file that is there.
func (w *work) overwrite(s *step, o *original) error {
	src, err := treediff.Open(w.pastFd, s.path, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	return w.in(s.path, func(dir int, name string) error {
		at, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(at)
		var st unix.Stat_t
		if err := unix.Fstat(at, &st); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFREG {
			return &sharefs.Error{Kind: sharefs.KindAgain, Detail: "it is no file any more"}
		}
		return w.writable(at, &st, func() error {
			if err := w.keep(at); err != nil {
				return err
			}
			fd, err := unix.Open(self(at), unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
			if err != nil {
				return err
			}
			err = w.copy(src, fd, false)
			if e := unix.Close(fd); err == nil {
				err = e
			}
			if err != nil {
				return err
			}
			return w.dress(at, o)
		})
	})
}

// writable calls fn and, where that is refused because the user has not given himself the right to write his own file, once more with it.
func (w *work) writable(fd int, st *unix.Stat_t, fn func() error) error {
	err := fn()
	if !errors.Is(err, unix.EACCES) || int(st.Uid) != os.Geteuid() || st.Mode&0o600 == 0o600 {
		return err
	}
	mode := st.Mode & 0o7777
	if e := unix.Chmod(self(fd), mode|0o600); e != nil {
		return err
	}
	if err = fn(); err != nil {
		_ = unix.Chmod(self(fd), mode)
	}
	return err
}

func (w *work) keep(fd int) error {
	if w.opts.Keep == nil {
		return nil
	}
	return w.opts.Keep(self(fd))
}

// keepAt keeps what stands under a path of the live tree if that is a regular file.
func (w *work) keepAt(p string) error {
	if w.opts.Keep == nil {
		return nil
	}
	return w.in(p, func(dir int, name string) error {
		fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			return err
		}
		return w.writable(fd, &st, func() error { return w.keep(fd) })
	})
}

const block = 256 << 10

// copy makes dst hold what src does: blocks that are equal are left alone, and what is zero becomes a hole. A dst that is empty is not read.
func (w *work) copy(src, dst int, empty bool) error {
	var st unix.Stat_t
	if err := unix.Fstat(src, &st); err != nil {
		return err
	}
	if !empty {
		var have unix.Stat_t
		if err := unix.Fstat(dst, &have); err != nil {
			return err
		}
		if have.Size > st.Size {
			if err := unix.Ftruncate(dst, st.Size); err != nil {
				return err
			}
		}
	}
	buf, there := make([]byte, min(block, st.Size+1)), make([]byte, min(block, st.Size+1))
	off := int64(0)
	for off < st.Size {
		n, err := readAt(src, buf, off)
		if err != nil {
			return err
		}
		if n == 0 {
			break // what is read is what the file holds, whatever its size was said to be
		}
		m := 0
		if !empty {
			if m, err = readAt(dst, there[:n], off); err != nil {
				return err
			}
		}
		zeros := zero(buf[:n])
		switch {
		case m == n && bytes.Equal(buf[:n], there[:n]), zeros && m == 0:
		case zeros && unix.Fallocate(dst, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, int64(n)) == nil:
		default:
			if err := writeAt(dst, buf[:n], off); err != nil {
				return err
			}
			w.mu.Lock()
			w.report.Bytes += uint64(n)
			w.mu.Unlock()
		}
		off += int64(n)
		if zeros && empty {
			off = max(off, nextData(src, off, st.Size))
		}
	}
	return unix.Ftruncate(dst, off)
}

// nextData returns where the next data begins; a file that cannot tell is all data.
func nextData(fd int, off, size int64) int64 {
	at, err := unix.Seek(fd, off, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return size
	}
	if err != nil {
		return off
	}
	return at
}

func readAt(fd int, buf []byte, off int64) (n int, err error) {
	for n < len(buf) {
		m, err := unix.Pread(fd, buf[n:], off+int64(n))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return n, err
		case m == 0:
			return n, nil
		}
		n += m
	}
	return n, nil
}

func writeAt(fd int, buf []byte, off int64) error {
	for len(buf) > 0 {
		m, err := unix.Pwrite(fd, buf, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if m == 0 {
			return io.ErrShortWrite
		}
		buf, off = buf[m:], off+int64(m)
	}
	return nil
}

func zero(b []byte) bool { return len(b) > 0 && b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1]) }
