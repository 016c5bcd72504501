package versions

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Where the disk shares blocks between files, two files that have the same block at the same offset hold the same there: a block that is shared is never written
// in place. So a clone of what a file held once tells, by a look at the lists of extents alone, where the file may have changed since. That is relied on for
// XFS and btrfs only, and only for plain extents: what is not yet on the disk, lies in the inode, or is compressed or encrypted may differ. (FS_IOC_FIEMAP,
// Documentation/filesystems/fiemap.rst of Linux.)

// extentsTell reports whether the disk that an open file is on is one of those.
func extentsTell(fd int) bool {
	var s unix.Statfs_t
	_, err := ignoringEINTR(func() (int, error) { return 0, unix.Fstatfs(fd, &s) })
	return err == nil && (uint64(s.Type)&0xffffffff == unix.XFS_SUPER_MAGIC || uint64(s.Type)&0xffffffff == unix.BTRFS_SUPER_MAGIC)
}

// mapped is a run of bytes of a file and where it is on the disk.
type mapped struct {
	from, to int64
	place    uint64 // of the first byte; of data
	hole     bool
	vague    bool // the place does not tell what it holds
}

// same reports whether two files have the same at an offset that lies in both runs.
func (m *mapped) same(o *mapped, at int64) bool {
	if m.hole || o.hole {
		return m.hole && o.hole
	}
	return !m.vague && !o.vague && m.place+uint64(at-m.from) == o.place+uint64(at-o.from)
}

// differing adds to a set where two files may differ up to size. Each next returns the runs of one of them in their order, without a gap.
func differing(set *ranges, size int64, next [2]func() (mapped, error)) error {
	var here [2]mapped
	for at := int64(0); at < size; {
		for i := range here {
			if here[i].to > at {
				continue
			}
			m, err := next[i]()
			if err != nil {
				return err
			}
			if m.from != at || m.to <= at {
				return errExtents
			}
			here[i] = m
		}
		end := min(here[0].to, here[1].to, size)
		if !here[0].same(&here[1], at) {
			set.add(at, end)
		}
		at = end
	}
	return nil
}

// errExtents says that the disk's list of extents is none.
var errExtents = errors.New("the list of extents is out of order")

// Of linux/fiemap.h and linux/fs.h.
const (
	fsIocFiemap   = 0xc020660b // _IOWR('f', 11, struct fiemap)
	fiemapSync    = 1
	extentLast    = 0x1
	extentPlain   = extentLast | extentMerged | extentShared // any other flag, known or not, makes an extent a vague one
	extentMerged  = 0x1000
	extentShared  = 0x2000
	extentsAtOnce = 256

	fnvOffset, fnvPrime = 14695981039346656037, 1099511628211
)

type fiemapExtent struct {
	Logical, Physical, Length uint64
	_                         [2]uint64
	Flags                     uint32
	_                         [3]uint32
}

type fiemap struct {
	Start, Length        uint64
	Flags, Mapped, Count uint32
	_                    uint32
	Extents              [extentsAtOnce]fiemapExtent
}

// extents reads the list of extents of a file, in order.
type extents struct {
	fd   int
	size int64
	at   int64 // what was returned ends there
	list []fiemapExtent
	last bool
	sync uint32
	sum  uint64 // of all that was read, FNV-1a by words
	buf  *fiemap
}

// extentsOf begins the list for a file of some size, once all of it is on the disk.
func extentsOf(fd int, size int64) *extents {
	return &extents{fd: fd, size: size, sync: fiemapSync, sum: fnvOffset, buf: &fiemap{}}
}

// next returns the next run.
func (x *extents) next() (mapped, error) {
	for {
		for len(x.list) > 0 && int64(x.list[0].Logical+x.list[0].Length) <= x.at {
			x.last = x.last || x.list[0].Flags&extentLast != 0
			x.list = x.list[1:]
		}
		if len(x.list) > 0 {
			break
		}
		if x.last {
			return x.hole(max(x.size, x.at+1)), nil
		}
		if err := x.read(); err != nil {
			return mapped{}, err
		}
	}
	e := &x.list[0]
	from := int64(e.Logical)
	if from > x.at {
		return x.hole(from), nil
	}
	m := mapped{from: x.at, to: int64(e.Logical + e.Length), place: e.Physical + uint64(x.at-from), vague: e.Flags&^extentPlain != 0}
	x.at = m.to
	return m, nil
}

func (x *extents) hole(to int64) mapped {
	m := mapped{from: x.at, to: to, hole: true}
	x.at = to
	return m
}

// read reads some more of the list; where there is nothing more, x.last is true.
func (x *extents) read() error {
	x.buf.Start, x.buf.Length, x.buf.Flags, x.buf.Count, x.buf.Mapped = uint64(x.at), uint64(endless-x.at), x.sync, extentsAtOnce, 0
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(x.fd), fsIocFiemap, uintptr(unsafe.Pointer(x.buf)))
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return errno
		}
		break
	}
	x.sync = 0
	x.list = x.buf.Extents[:min(x.buf.Mapped, extentsAtOnce)]
	x.last = len(x.list) == 0
	end := uint64(0)
	for _, e := range x.list {
		if e.Logical < end || e.Length == 0 || e.Logical+e.Length > endless || e.Logical+e.Length < e.Logical {
			return errExtents
		}
		end = e.Logical + e.Length
		for _, v := range [...]uint64{e.Logical, e.Physical, e.Length, uint64(e.Flags &^ extentShared)} {
			x.sum = (x.sum ^ v) * fnvPrime
		}
	}
	return nil
}

// changedBetween finds where two files that share blocks may differ up to size. Where the blocks of before are moved about on the disk meanwhile (a balance, a
// defragmentation), so that a place may have held one thing first and another one later, the error is errExtents.
func changedBetween(before, after int, size int64) (set ranges, err error) {
	old := extentsOf(before, size)
	if err := differing(&set, size, [2]func() (mapped, error){old.next, extentsOf(after, size).next}); err != nil {
		return set, err
	}
	again := extentsOf(before, size)
	for again.at < size {
		if _, err := again.next(); err != nil {
			return set, err
		}
	}
	if again.sum != old.sum {
		return set, errExtents
	}
	return set, nil
}
