package fsx

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

func pread(fd int, b []byte, at int) (int, error) {
	total := 0
	for total < len(b) {
		n, err := unix.Pread(fd, b[total:], int64(at+total))
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return total, err
		}
		total += n
	}
	return total, nil
}

func pwrite(fd int, b []byte, at int) error {
	for len(b) > 0 {
		n, err := unix.Pwrite(fd, b, int64(at))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b, at = b[n:], at+n
	}
	return nil
}

func (e *Exerciser) read() error {
	at, n := e.span(len(e.model) + 1)
	e.note("read %d at %#x", n, at)
	// Beyond the end as well: what comes must stop there.
	b := make([]byte, n+e.rng.IntN(100))
	got, err := pread(e.fd(), b, at)
	if err != nil {
		return err
	}
	return e.compare(b[:got], at, max(0, min(len(b), len(e.model)-at)))
}

func (e *Exerciser) write() error {
	at, n := e.span(MaxSize)
	b := e.random(n)
	e.note("write %d at %#x", n, at)
	if err := pwrite(e.fd(), b, at); err != nil {
		return err
	}
	e.grow(at + n)
	copy(e.model[at:], b)
	return nil
}

func (e *Exerciser) append() error {
	n := min(1+e.rng.IntN(9000), MaxSize-len(e.model))
	if n <= 0 {
		return nil
	}
	b := e.random(n)
	e.note("append %d at %#x", n, len(e.model))
	fd, err := unix.Open(e.path, unix.O_WRONLY|unix.O_APPEND|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for rest := b; len(rest) > 0; {
		n, err := unix.Write(fd, rest)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		rest = rest[n:]
	}
	e.model = append(e.model, b...)
	return nil
}

func (e *Exerciser) resize(n int) {
	if n < len(e.model) {
		e.model = e.model[:n:n]
	}
	e.grow(n)
}

func (e *Exerciser) truncate() error {
	n := e.rng.IntN(MaxSize)
	if e.rng.IntN(3) == 0 {
		n = min(MaxSize, max(0, len(e.model)+e.rng.IntN(10000)-5000))
	}
	e.note("truncate %#x to %#x", len(e.model), n)
	// A page that is cut off must not be touched through a mapping.
	e.dropMaps(n)
	var err error
	if e.rng.IntN(2) == 0 {
		err = unix.Truncate(e.path, int64(n))
	} else {
		err = unix.Ftruncate(e.fd(), int64(n))
	}
	e.resize(n)
	return err
}

func (e *Exerciser) dropMaps(size int) {
	keep := e.maps[:0]
	for _, m := range e.maps {
		if len(m.mem) > size {
			unix.Munmap(m.mem)
		} else {
			keep = append(keep, m)
		}
	}
	e.maps = keep
}

// withMap calls fn with a mapping of all of the file, a lasting one of its beginning, or a fresh one.
func (e *Exerciser) withMap(fn func(mem []byte) error) error {
	if len(e.model) == 0 {
		return nil
	}
	if len(e.maps) > 0 && e.rng.IntN(2) == 0 {
		return fn(e.maps[e.rng.IntN(len(e.maps))].mem)
	}
	mem, err := unix.Mmap(e.fd(), 0, len(e.model), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	err = fn(mem)
	return errors.Join(err, unix.Munmap(mem))
}

func (e *Exerciser) mapRead() error {
	return e.withMap(func(mem []byte) error {
		at, n := e.span(len(mem))
		e.note("map read %d at %#x", n, at)
		return e.compare(mem[at:at+n], at, n)
	})
}

func (e *Exerciser) mapWrite() error {
	return e.withMap(func(mem []byte) error {
		at, n := e.span(len(mem))
		b := e.random(n)
		e.note("map write %d at %#x", n, at)
		copy(mem[at:], b)
		copy(e.model[at:], b)
		if e.rng.IntN(4) == 0 {
			return unix.Msync(mem, unix.MS_SYNC)
		}
		return nil
	})
}

// mapKeep makes a mapping that stays, and gives up an older one.
func (e *Exerciser) mapKeep() error {
	if len(e.maps) > 2 {
		e.note("unmap")
		err := unix.Munmap(e.maps[0].mem)
		e.maps = e.maps[1:]
		return err
	}
	if len(e.model) == 0 {
		return nil
	}
	mem, err := unix.Mmap(e.fd(), 0, len(e.model), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	e.note("map %#x", len(mem))
	e.maps = append(e.maps, mapping{mem})
	return nil
}

func (e *Exerciser) fallocate() error {
	at, n := e.span(MaxSize)
	mode := e.modes[e.rng.IntN(len(e.modes))]
	e.note("fallocate %#x %d at %#x", mode, n, at)
	if err := unix.Fallocate(e.fd(), mode, int64(at), int64(n)); err != nil {
		return err
	}
	if mode&unix.FALLOC_FL_KEEP_SIZE == 0 {
		e.grow(at + n)
	}
	if mode&(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_ZERO_RANGE) != 0 && at < len(e.model) {
		clear(e.model[at:min(at+n, len(e.model))])
	}
	return nil
}

func (e *Exerciser) copyRange() error {
	if len(e.model) == 0 {
		return nil
	}
	from, n := e.span(len(e.model))
	to := e.rng.IntN(MaxSize - n + 1)
	if from < to+n && to < from+n {
		return nil // overlapping ranges are refused
	}
	e.note("copy %d from %#x to %#x", n, from, to)
	src, dst := int64(from), int64(to)
	for left := n; left > 0; {
		k, err := unix.CopyFileRange(e.fd(), &src, e.fd(), &dst, left, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if k == 0 {
			return fmt.Errorf("copied nothing with %d to go", left)
		}
		left -= k
	}
	e.grow(to + n)
	copy(e.model[to:to+n], e.model[from:from+n])
	return nil
}

// block is the alignment that direct I/O asks for.
const block = 4096

func aligned(n int) []byte {
	b := make([]byte, n+block)
	off := block - int(uintptr(unsafe.Pointer(&b[0]))%block)
	return b[off : off+n]
}

func (e *Exerciser) directRead() error {
	if e.direct < 0 {
		return nil
	}
	at := e.rng.IntN(MaxSize) / block * block
	b := aligned((1 + e.rng.IntN(8)) * block)
	e.note("direct read %d at %#x", len(b), at)
	n, err := unix.Pread(e.direct, b, int64(at))
	if err != nil {
		return err
	}
	return e.compare(b[:n], min(at, len(e.model)), max(0, min(len(b), len(e.model)-at)))
}

func (e *Exerciser) directWrite() error {
	if e.direct < 0 {
		return nil
	}
	b := aligned((1 + e.rng.IntN(8)) * block)
	at := e.rng.IntN(MaxSize-len(b)) / block * block
	copy(b, e.random(len(b)))
	e.note("direct write %d at %#x", len(b), at)
	if err := pwrite(e.direct, b, at); err != nil {
		return err
	}
	e.grow(at + len(b))
	copy(e.model[at:], b)
	return nil
}

func (e *Exerciser) sync() error {
	e.note("sync")
	if e.rng.IntN(2) == 0 {
		return unix.Fdatasync(e.fd())
	}
	return unix.Fsync(e.fd())
}

// forget has the kernel write the file back and drop what it has cached of it.
func (e *Exerciser) forget() error {
	e.note("forget")
	fd := e.fd()
	if err := unix.SyncFileRange(fd, 0, 0, unix.SYNC_FILE_RANGE_WAIT_BEFORE|unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER); err != nil {
		return err
	}
	return unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED)
}

// reopen closes a descriptor, or all of them and the mappings with them, and opens anew.
func (e *Exerciser) reopen() error {
	all := e.rng.IntN(3) == 0
	e.note("reopen, all %v", all)
	if all {
		e.dropMaps(-1)
		for i := range e.fds {
			unix.Close(e.fds[i])
		}
		if e.direct >= 0 {
			unix.Close(e.direct)
		}
	} else {
		unix.Close(e.fds[1])
	}
	var err error
	for i := range e.fds {
		if i == 0 && !all {
			continue
		}
		if e.fds[i], err = unix.Open(e.path, unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
			return err
		}
	}
	if all && e.direct >= 0 {
		e.direct, err = unix.Open(e.path, unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	}
	return err
}

func (e *Exerciser) rename() error {
	to := e.path + "'"
	if len(to)-len("fsx") > 0 && to[len(to)-2] == '\'' {
		to = e.path[:len(e.path)-1]
	}
	e.note("rename")
	err := unix.Rename(e.path, to)
	e.path = to
	return err
}

func (e *Exerciser) stat() error {
	var st unix.Stat_t
	var err error
	if e.rng.IntN(2) == 0 {
		err = unix.Stat(e.path, &st)
	} else {
		err = unix.Fstat(e.fd(), &st)
	}
	if err != nil {
		return err
	}
	e.note("stat")
	if st.Size != int64(len(e.model)) {
		return fmt.Errorf("size %#x, want %#x", st.Size, len(e.model))
	}
	return nil
}

// seek looks for data and holes: what lies in a hole must be zero.
func (e *Exerciser) seek() error {
	if len(e.model) == 0 {
		return nil
	}
	at := e.rng.IntN(len(e.model))
	fd := e.fd()
	e.note("seek from %#x", at)
	data, err := unix.Seek(fd, int64(at), unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		data, err = int64(len(e.model)), nil
	}
	if err != nil {
		return err
	}
	if data < int64(at) || data > int64(len(e.model)) {
		return fmt.Errorf("data after %#x at %#x, the end is %#x", at, data, len(e.model))
	}
	for i := at; i < int(data); i++ {
		if e.model[i] != 0 {
			return fmt.Errorf("a hole from %#x to %#x, and there is data at %#x", at, data, i)
		}
	}
	hole, err := unix.Seek(fd, int64(at), unix.SEEK_HOLE)
	if err != nil {
		return err
	}
	if hole < int64(at) || hole > int64(len(e.model)) {
		return fmt.Errorf("hole after %#x at %#x, the end is %#x", at, hole, len(e.model))
	}
	return nil
}
