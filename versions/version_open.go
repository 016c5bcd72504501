package versions

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions/pack"
)

// OpenVersion opens one version of a file by its number for reading. It reads nothing yet but rows; KindNotExist: there is none.
func (t *Tree) OpenVersion(ino sharefs.Ino, number uint64) (VersionReader, error) {
	v, _, err := t.past.find(ino, number)
	if err != nil {
		return nil, err
	}
	return t.past.openVersion(v)
}

// openVersion opens a version for reading.
func (h *history) openVersion(v *version) (VersionReader, error) {
	if v.place == placeKept {
		return newKeptReader(h, v), nil
	}
	r := &looseReader{h: h, id: versionID{v.ino, v.own}, size: int64(v.size), fd: -1}
	if err := r.open(); err != nil {
		return nil, err
	}
	return r, nil
}

// looseReader reads a version that is not in packs yet. Its content may be set aside or captured while it is read: what was read counts only if
// the row says afterwards that it was still there, for the row is changed before the content is.
type looseReader struct {
	h    *history
	id   versionID
	size int64

	mu    sync.RWMutex // guards what follows; held shared while the descriptor is read from
	place place8
	fd    int // of the live or the aside file; -1 once kept is set, or closed
	kept  *keptReader
}

// open opens the content where it is now; r.mu is held or nobody else has r.
func (r *looseReader) open() error {
	for range 100 {
		if r.fd >= 0 {
			unix.Close(r.fd)
			r.fd = -1
		}
		v, err := loadVersion(r.h.t.db, r.id.ino, r.id.own)
		if err != nil {
			return err
		}
		r.place = v.place
		switch v.place {
		case placeKept:
			r.kept = newKeptReader(r.h, v)
			return nil
		case placeLive:
			r.fd, err = r.h.t.live.openProbe(r.id.ino)
		case placeAside:
			r.fd, err = r.h.aside.read(r.id)
		default:
			return sharefs.KindNotExist
		}
		if err == nil {
			return nil
		}
		r.fd = -1
		if !errors.Is(err, unix.ENOENT) {
			return failed("open a version", err)
		}
	}
	return corrupt("a version's content", r.id.ino)
}

// Size returns the size of the version in bytes.
func (r *looseReader) Size() int64 { return r.size }

// ReadAt implements io.ReaderAt.
func (r *looseReader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fail("read a version", sharefs.KindInvalid)
	}
	if off >= r.size {
		return 0, io.EOF
	}
	short := int64(len(p)) > r.size-off
	if short {
		p = p[:r.size-off]
	}
	for range 100 {
		n, sure, err := r.try(p, off)
		switch {
		case err != nil:
			return n, err
		case sure && short:
			return n, io.EOF
		case sure:
			return n, nil
		}
		r.mu.Lock()
		err = r.open()
		r.mu.Unlock()
		if err != nil {
			return 0, err
		}
	}
	return 0, corrupt("a version's content", r.id.ino)
}

// try reads and reports whether what it read is the version.
func (r *looseReader) try(p []byte, off int64) (n int, sure bool, err error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.kept != nil {
		n, err = r.kept.ReadAt(p, off)
		return n, true, err
	}
	if r.fd < 0 {
		return 0, false, failed("read a version", unix.EBADF)
	}
	if n, err = preadFull(r.fd, p, off); err != nil {
		return n, false, failed("read a version", err)
	}
	v, err := loadVersion(r.h.t.db, r.id.ino, r.id.own)
	if err != nil {
		return 0, false, err
	}
	sure = v.place == r.place && (v.place != placeAside || r.h.aside.holds(r.id, r.fd))
	if sure && n < len(p) {
		return n, false, corrupt("a version's content", r.id.ino)
	}
	return n, sure, nil
}

// NextData returns the first run of data at or after off, or the size where none follows.
func (r *looseReader) NextData(off int64) (start, end int64, err error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.kept != nil {
		return r.kept.NextData(off)
	}
	return off, r.size, nil
}

// Close implements io.Closer.
func (r *looseReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fd >= 0 {
		unix.Close(r.fd)
		r.fd = -1
	}
	if r.kept != nil {
		return r.kept.Close()
	}
	return nil
}

// keptReader reads a version out of packs. Of a file that is read from front to back the chunks that follow are decoded ahead, by
// goroutines of their own.
type keptReader struct {
	h    *history
	id   versionID
	size int64

	from   func(sharefs.ChunkID) ([]byte, error) // where chunks come from; nil: the packs, as those of a version of this tree
	end    func()                                // of from; nil: nothing is to be done
	gone   error                                 // retention took the version away before it was known that somebody reads it
	closed atomic.Bool
	mu     sync.Mutex // guards what follows
	walk   walker
	cache  [cachedChunks]*decoded // the least recently used one is replaced
	tick   uint64
	next   int64 // where a reader goes on that reads from front to back
	ahead  sync.WaitGroup
}

// Bounds of what a reader keeps: at most 8 chunks of up to 256 KiB, half of them ahead.
const (
	cachedChunks = 8
	aheadChunks  = 3
)

// decoded is a chunk in memory, or on its way there.
type decoded struct {
	located
	used  uint64
	ready chan struct{} // closed when data or err is set
	data  []byte
	err   error
}

func newKeptReader(h *history, v *version) *keptReader {
	r := &keptReader{h: h, id: versionID{v.ino, v.own}, size: int64(v.size)}
	if v.away {
		a := &awayChunks{h: h, v: v, cut: make(chan struct{})}
		r.from, r.end = a.read, a.close
	}
	r.walk = walker{top: v.top, size: r.size, load: func(id sharefs.ChunkID, _ uint8) ([]byte, error) { return r.read(id) }}
	h.leases.enter(r)
	// A garbage collection leaves what readers have of whom it knows. If the row is there still, it cannot have come before that.
	if _, err := loadVersion(h.t.db, v.ino, v.own); err != nil {
		r.gone = failed("read a version", err)
	}
	return r
}

// readChunk reads a chunk, or a node of a manifest, out of packs.
func (h *history) readChunk(id sharefs.ChunkID, dst []byte) ([]byte, error) {
	var before pack.Loc
	var cause error
	for {
		row, ok, err := h.t.db.Get(spaceChunk, id[:])
		if err != nil {
			return nil, failed("look for a chunk", err)
		}
		if !ok {
			return nil, &sharefs.Error{Op: "read a version", Kind: sharefs.KindCorrupt, Detail: "no pack has chunk " + id.String()}
		}
		loc, err := pack.ParseLoc(row)
		if err != nil {
			return nil, err
		}
		if cause != nil && loc == before {
			return nil, cause
		}
		// A pack that is gone was rewritten since the row was read: then the row says where the chunk is now.
		b, err := h.packs.Read(loc, id, dst)
		if err == nil {
			return b, nil
		}
		before, cause = loc, err
	}
}

// Size returns the size of the version in bytes.
func (r *keptReader) Size() int64 { return r.size }

// ReadAt implements io.ReaderAt.
func (r *keptReader) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fail("read a version", sharefs.KindInvalid)
	}
	if r.gone != nil {
		return 0, r.gone
	}
	for n < len(p) && off < r.size {
		if r.closed.Load() {
			return n, failed("read a version", unix.EBADF)
		}
		d, err := r.chunk(off)
		if err != nil {
			return n, err
		}
		in := off - d.off
		var m int
		if d.hole {
			m = int(min(int64(len(p)-n), d.len-in))
			clear(p[n : n+m])
		} else {
			<-d.ready
			if d.err != nil {
				r.drop(d) // the next one tries again
				return n, d.err
			}
			m = copy(p[n:], d.data[in:])
		}
		n, off = n+m, off+int64(m)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// NextData returns the first run of data at or after off, one chunk or less, or the size where none follows. With it a reader passes over
// the holes of a sparse file.
func (r *keptReader) NextData(off int64) (start, end int64, err error) {
	if r.gone != nil {
		return 0, 0, r.gone
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for off < r.size {
		l, err := r.walk.at(off)
		if err != nil {
			return 0, 0, err
		}
		if !l.hole {
			return off, l.off + l.len, nil
		}
		off = l.off + l.len
	}
	return r.size, r.size, nil
}

// chunk returns the chunk that covers off, in memory or on its way.
func (r *keptReader) chunk(off int64) (*decoded, error) {
	r.mu.Lock()
	d := r.cached(off)
	if d == nil {
		l, err := r.walk.at(off)
		if err != nil {
			r.mu.Unlock()
			return nil, err
		}
		if l.hole {
			r.next = l.off + l.len
			r.mu.Unlock()
			return &decoded{located: l}, nil
		}
		d = r.enter(l)
		sequential := l.off == r.next
		r.next = l.off + l.len
		if sequential {
			r.readAhead()
		}
		r.mu.Unlock()
		r.decode(d)
		return d, nil
	}
	if d.off == r.next {
		r.next = d.off + d.len
		r.readAhead()
	}
	r.mu.Unlock()
	return d, nil
}

// cached returns the chunk that covers off if it is at hand; r.mu is held.
func (r *keptReader) cached(off int64) *decoded {
	for _, d := range r.cache {
		if d != nil && d.off <= off && off < d.off+d.len {
			r.tick++
			d.used = r.tick
			return d
		}
	}
	return nil
}

// enter makes room for a chunk; r.mu is held. A chunk that loses its place is read to the end by whoever has it.
func (r *keptReader) enter(l located) *decoded {
	at := 0
	for i, d := range r.cache {
		if d == nil {
			at = i
			break
		}
		if d.used < r.cache[at].used {
			at = i
		}
	}
	r.tick++
	d := &decoded{located: l, used: r.tick, ready: make(chan struct{})}
	r.cache[at] = d
	return d
}

// drop takes a chunk that could not be read out of what is at hand.
func (r *keptReader) drop(d *decoded) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.cache {
		if r.cache[i] == d {
			r.cache[i] = nil
		}
	}
}

// readAhead has the chunks that follow decoded; r.mu is held.
func (r *keptReader) readAhead() {
	off := r.next
	for range aheadChunks {
		if off >= r.size || r.closed.Load() {
			return
		}
		if d := r.cached(off); d != nil {
			off = d.off + d.len
			continue
		}
		l, err := r.walk.at(off)
		if err != nil || l.hole {
			return
		}
		d := r.enter(l)
		r.ahead.Go(func() { r.decode(d) })
		off = l.off + l.len
	}
}

// decode reads a chunk that was entered.
func (r *keptReader) decode(d *decoded) {
	data, err := r.read(d.id)
	if err == nil && int64(len(data)) != d.len {
		err = corrupt("a version's manifest", 0)
	}
	d.data, d.err = data, err
	close(d.ready)
}

// Close waits for what is being read ahead.
func (r *keptReader) Close() error {
	if r.closed.Swap(true) {
		return nil
	}
	if r.end != nil {
		r.end()
	}
	r.mu.Lock()
	clear(r.cache[:])
	r.mu.Unlock()
	r.ahead.Wait()
	r.h.leases.leave(r)
	return nil
}
