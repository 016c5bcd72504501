package pack

import (
	"errors"
	"io/fs"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// WriteUnread is WriteAt of what nobody is going to read soon: where the file can do that, it does not stay in memory once the disk has it. It is as safe as any
// other write: Sync tells of it.
func WriteUnread(f File, b []byte, off int64) (int, error) {
	if u, ok := f.(interface {
		WriteUnread(b []byte, off int64) (int, error)
	}); ok {
		return u.WriteUnread(b, off)
	}
	return f.WriteAt(b, off)
}

// WriteUnread is what the function of that name asks for. The disk takes from b what it can (O_DIRECT): no page is filled then that somebody else may need, and nothing is copied.
// With the rest, and where the filesystem refuses that, the kernel is asked to let go of the pages; what can do neither keeps it in memory.
func (f osFile) WriteUnread(b []byte, off int64) (n int, err error) {
	if from, to := pastPart(b, off); from < to {
		if n, err = f.File.WriteAt(b[:from], off); err == nil {
			var k int
			k, err = f.writePast(b[from:to], off+int64(from))
			n += k
		}
	}
	if err == nil {
		var k int
		k, err = f.writeLetGo(b[n:], off+int64(n))
		n += k
	}
	return n, err
}

// pastUnit is what places in a file and in memory are multiples of where the disk takes it from there, in bytes: hardly a disk asks for more, and one that does refuses.
// pastLeast is from how many bytes on that is worth it.
const (
	pastUnit  = 4 << 10
	pastLeast = 64 << 10
)

// pastPart returns which part of b, that is to be written at some place, the disk may take from there: from b[from] to b[to].
func pastPart(b []byte, off int64) (from, to int) {
	from = int(-off & (pastUnit - 1))
	to = from + (len(b)-from)&^(pastUnit-1)
	if to-from < pastLeast || unaligned(b[from:]) != 0 {
		return 0, 0
	}
	return from, to
}

// unaligned returns by how many bytes the begin of b lies behind a place in memory that the disk may take it from.
func unaligned(b []byte) int {
	return int(uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (pastUnit - 1))
}

// pastRoom makes room that begins at such a place.
func pastRoom(n int) []byte {
	b := make([]byte, n+pastUnit)
	return b[-unaligned(b)&(pastUnit-1):][:n]
}

// writePast writes past the page cache. It writes less where the filesystem does not do that, or stops in the middle: that is no error.
func (f osFile) writePast(b []byte, off int64) (n int, err error) {
	// Another description of the same file, for readers use this one. It is opened each time, which takes no time beside the write, so that nobody has to close it.
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(int(f.Fd())), unix.O_WRONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, nil
	}
	defer unix.Close(fd)
	for n < len(b) {
		k, err := unix.Pwrite(fd, b[n:], off+int64(n))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP), err == nil && k == 0:
			return n, nil
		case err != nil:
			return n, &fs.PathError{Op: "write", Path: f.Name(), Err: err}
		}
		if n += k; k%pastUnit != 0 {
			return n, nil
		}
	}
	return n, nil
}

// dontCache has the kernel let go of the pages of a write as soon as the disk has them (RWF_DONTCACHE, Linux 6.14).
const dontCache = 0x80

// writeLetGo writes so that the kernel lets go of the pages, where it can.
func (f osFile) writeLetGo(b []byte, off int64) (n int, err error) {
	for n < len(b) {
		k, err := unix.Pwritev2(int(f.Fd()), [][]byte{b[n:]}, off+int64(n), dontCache)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS), err == nil && k == 0:
			k, err = f.WriteAt(b[n:], off+int64(n))
			return n + k, err
		case err != nil:
			return n, &fs.PathError{Op: "write", Path: f.Name(), Err: err}
		}
		n += k
	}
	return n, nil
}
