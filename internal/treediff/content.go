package treediff

import (
	"bytes"
	"errors"
	"io"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// OwnPrefix begins the names of the extended attributes that a mount makes itself: they are no part of what a tree holds.
const OwnPrefix = "user.sharefs."

// ReadXattrs reads the extended attributes of what a path names, without following it; nil where there are none.
func ReadXattrs(p string) (map[string]string, error) {
	return readXattrs(p, unix.Llistxattr, unix.Lgetxattr)
}

// ReadXattrsOf reads the extended attributes of an open file, which may be open by O_PATH.
func ReadXattrsOf(fd int) (map[string]string, error) {
	return readXattrs("/proc/self/fd/"+strconv.Itoa(fd), unix.Listxattr, unix.Getxattr)
}

func readXattrs(p string, listOf func(string, []byte) (int, error), valueOf func(string, string, []byte) (int, error)) (map[string]string, error) {
	list, err := grow(func(buf []byte) (int, error) { return listOf(p, buf) })
	if err != nil || len(list) == 0 {
		if err == unix.ENOTSUP || err == unix.ENOENT {
			err = nil
		}
		return nil, err
	}
	var out map[string]string
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		if strings.HasPrefix(name, OwnPrefix) {
			continue
		}
		value, err := grow(func(buf []byte) (int, error) { return valueOf(p, name, buf) })
		if err == unix.ENODATA {
			continue // gone meanwhile
		}
		if err != nil {
			return nil, err
		}
		if out == nil {
			out = map[string]string{}
		}
		out[name] = string(value)
	}
	return out, nil
}

// grow calls a system call with a larger buffer until what it tells fits.
func grow(call func([]byte) (int, error)) ([]byte, error) {
	for size := 256; ; size *= 4 {
		buf := make([]byte, size)
		n, err := call(buf)
		if err == unix.ERANGE && size < 1<<20 {
			continue
		}
		if err != nil {
			return nil, err
		}
		return buf[:n], nil
	}
}

const block = 256 << 10

// compareContent reads two files of equal size and compares them.
func (c *comparison) compareContent(p pair) {
	if c.ctx.Err() != nil {
		return
	}
	a, err := Open(c.old.fd, p.old.Path, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		c.problem(c.old, p.old.Path, err)
		return
	}
	defer unix.Close(a)
	b, err := Open(c.new.fd, p.new.Path, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		c.problem(c.new, p.new.Path, err)
		return
	}
	defer unix.Close(b)
	n := min(block, p.new.Size)
	buf1, buf2 := make([]byte, n), make([]byte, n)
	for off := int64(0); c.ctx.Err() == nil; {
		x, err := readAt(a, buf1, off)
		if err != nil {
			c.problem(c.old, p.old.Path, err)
			return
		}
		y, err := readAt(b, buf2, off)
		if err != nil {
			c.problem(c.new, p.new.Path, err)
			return
		}
		c.read.Add(uint64(x + y))
		if !bytes.Equal(buf1[:x], buf2[:y]) {
			c.differs(p, Content)
			return
		}
		off += int64(x)
		if x < len(buf1) || off >= p.new.Size {
			return
		}
		if zero(buf1[:x]) { // in a hole perhaps, which may be long
			if skip := min(nextData(a, off), nextData(b, off)); skip > off {
				off = skip
			}
		}
	}
}

// readAt reads until the buffer is full, or to the end of the file.
func readAt(fd int, buf []byte, off int64) (n int, err error) {
	for n < len(buf) {
		m, err := unix.Pread(fd, buf[n:], off+int64(n))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return n, err
		}
		if m == 0 {
			break
		}
		n += m
	}
	return n, nil
}

func zero(b []byte) bool { return len(b) > 0 && b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1]) }

// nextData returns where the next data begins, from off on; the size of the file where only a hole is left.
func nextData(fd int, off int64) int64 {
	at, err := unix.Seek(fd, off, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		if at, err = unix.Seek(fd, 0, io.SeekEnd); err == nil {
			return at
		}
	}
	if err != nil {
		return off
	}
	return at
}

// with calls fn with paths by which a pair can be reached.
func (c *comparison) with(p pair, fn func(oldPath, newPath string)) {
	var fds [2]int
	for i, side := range []struct {
		t *tree
		e *Entry
	}{{c.old, p.old}, {c.new, p.new}} {
		fd, err := Open(side.t.fd, path.Dir(side.e.Path), unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			c.problem(side.t, side.e.Path, err)
			return
		}
		defer unix.Close(fd)
		fds[i] = fd
	}
	fn(Reach(fds[0], path.Base(p.old.Path)), Reach(fds[1], path.Base(p.new.Path)))
}
