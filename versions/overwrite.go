package versions

import (
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions/chunk"
)

// overwriting brings a backing file to another content where it lies. Data comes first, then holes, then the size: a full disk is met with before anything
// was given up that going back would need room for.
type overwriting struct {
	h     *history
	ino   sharefs.Ino
	fd    int
	had   int64          // bytes of the file before, and so of what holes are made in
	holes []run          // that are still to be made
	steps *atomic.Uint64 // counts chunks; nil: nobody asks
}

func (o *overwriting) open() (err error) {
	if o.fd, err = o.h.t.live.open(o.ino, unix.O_RDWR); err != nil {
		return failed("write a backing file", err)
	}
	if err = o.measure(); err != nil {
		o.close()
	}
	return err
}

func (o *overwriting) measure() error {
	var st unix.Stat_t
	if err := unix.Fstat(o.fd, &st); err != nil {
		return failed("read a backing file", err)
	}
	o.had = st.Size
	return nil
}

func (o *overwriting) close() { unix.Close(o.fd) }

// step tells that it gets on; errStopped: the tree is being closed.
func (o *overwriting) step() error {
	if o.steps != nil {
		o.steps.Add(1)
	}
	if o.h.t.closed.Load() {
		return errStopped
	}
	return nil
}

// put gives the file a chunk or a hole of the content.
func (o *overwriting) put(l located) error {
	if err := o.step(); err != nil {
		return err
	}
	if l.hole {
		if n := len(o.holes); n > 0 && o.holes[n-1].to == l.off {
			o.holes[n-1].to += l.len
		} else {
			o.holes = append(o.holes, run{l.off, l.off + l.len})
		}
		return nil
	}
	if err := o.h.place("write"); err != nil {
		return err
	}
	data, err := o.h.readChunk(l.id, nil)
	if err != nil {
		return err
	}
	if int64(len(data)) != l.len {
		return corrupt("a version's manifest", o.ino)
	}
	return o.write(data, l.off)
}

func (o *overwriting) write(b []byte, off int64) error {
	for len(b) > 0 {
		n, err := ignoringEINTR(func() (int, error) { return unix.Pwrite(o.fd, b, off) })
		if err != nil {
			return failed("write a backing file", err)
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}

// compare puts what the file does not have of a content, by the names of its chunks.
func (o *overwriting) compare(top manifest, size int64, place uint64) error {
	now := o.h.t.keys.load()
	id, ok := now.at(place)
	if !ok {
		return &sharefs.Error{Op: "read a version", Kind: sharefs.KindAccess, Detail: "its share key is not here"}
	}
	namer := chunk.NewHasher(now.byID[id].chunk)
	walk := walker{top: top, size: size, load: o.h.loadNode}
	buf := make([]byte, chunk.MaxLen)
	for off := int64(0); off < size; {
		if err := o.step(); err != nil {
			return err
		}
		l, err := walk.at(off)
		if err != nil {
			return err
		}
		same := false
		if l.hole {
			same, err = o.isHole(l.off, l.off+l.len)
		} else if l.len <= int64(len(buf)) {
			var n int
			n, err = o.read(buf[:l.len], l.off)
			same = int64(n) == l.len && namer.ID(buf[:n]) == l.id
		}
		if err == nil && !same {
			err = o.put(l)
		}
		if err != nil {
			return err
		}
		off = l.off + l.len
	}
	return nil
}

// read reads up to the end of the file.
func (o *overwriting) read(b []byte, off int64) (n int, err error) {
	n, err = preadFull(o.fd, b, off)
	return n, failed("read a backing file", err)
}

// isHole reports whether the file has no data in a run of bytes.
func (o *overwriting) isHole(from, to int64) (bool, error) {
	at, err := unix.Seek(o.fd, from, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return true, nil
	}
	return at >= to, failed("read a backing file", err)
}

// finish makes the holes, gives the file its size and its times, and makes all of it survive power loss.
func (o *overwriting) finish(size int64, mtime sharefs.Time) error {
	if err := o.h.place("written"); err != nil {
		return err
	}
	for _, hole := range o.holes {
		if err := o.punch(hole.from, min(hole.to, o.had)); err != nil {
			return err
		}
	}
	if _, err := ignoringEINTR(func() (int, error) { return 0, unix.Ftruncate(o.fd, size) }); err != nil {
		return failed("set the size of a backing file", err)
	}
	if err := o.h.place("sized"); err != nil {
		return err
	}
	if err := o.h.t.live.setTimes(o.ino, sharefs.Time(time.Now().UnixNano()), mtime); err != nil {
		return failed("set times", err)
	}
	if _, err := ignoringEINTR(func() (int, error) { return 0, unix.Fsync(o.fd) }); err != nil {
		return failed("sync", err)
	}
	return o.h.place("synced")
}

// punch makes a hole, or zeros on a disk without holes.
func (o *overwriting) punch(from, to int64) error {
	if from >= to {
		return nil
	}
	_, err := ignoringEINTR(func() (int, error) {
		return 0, unix.Fallocate(o.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, to-from)
	})
	if !errors.Is(err, unix.EOPNOTSUPP) {
		return failed("make a hole", err)
	}
	zeros := make([]byte, min(to-from, 1<<20))
	for ; from < to; from += int64(len(zeros)) {
		if err := o.write(zeros[:min(int64(len(zeros)), to-from)], from); err != nil {
			return err
		}
	}
	return nil
}
