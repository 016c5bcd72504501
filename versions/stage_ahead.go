package versions

import (
	"sync"

	"golang.org/x/sys/unix"

	"sharefs"
)

// The file of a large content is filled while the content comes: what is received is at hand then, and need not be read from packs; and the disk writes while the network sends.

const (
	fillFrom      = 4 << 20 // bytes that a content has at least for that
	fillAheadMost = 64      // chunks that wait to be written
	fillStep      = 8 << 20 // bytes after which the disk begins to write

	fillWrite  = 256 << 10 // what the ends of writes are multiples of, in bytes, where more follows: the kernel keeps such runs of a file as one
	fillPieces = 256       // pieces that a write has at most
)

// filling is a file that is filled with a content by whoever gathers it. A nil one takes nothing.
type filling struct {
	t    *Tree
	key  string // of the content
	size int64
	ino  sharefs.Ino
	fd   int
	most int64 // bytes that may be in packs already: Stage copies those as fast, and need not do it now

	chunks chan placed // to whoever writes
	done   chan struct{}
	err    error // of whoever writes; his until done is closed
	given  bool  // up
}

// placed is a part of a content.
type placed struct {
	off  int64
	data []byte
}

// fillings are the files that are filled, by their content.
type fillings struct {
	mu sync.Mutex // guards of
	of map[string]*filling
}

// contentName tells contents apart.
func contentName(top manifest, key *shareKey) string {
	return string(appendSpans(append(key.id[:len(key.id):len(key.id)], top.level), top.spans))
}

// fillAhead begins to fill a file with a content; nil where it is small, or where the disk may be needed for other things.
func (t *Tree) fillAhead(top manifest, key *shareKey, size int64) *filling {
	if size < fillFrom || 2*size > t.reserve.room() {
		return nil
	}
	p, err := t.stock.take()
	if err != nil {
		return nil
	}
	unix.Close(p.fd)
	f := &filling{t: t, key: contentName(top, key), size: size, ino: p.ino, most: size / 4, chunks: make(chan placed, fillAheadMost), done: make(chan struct{})}
	if f.fd, err = t.live.open(f.ino, unix.O_WRONLY); err != nil {
		t.unfill(f.ino)
		return nil
	}
	go f.run()
	return f
}

// run writes what comes.
func (f *filling) run() {
	defer close(f.done)
	w := joined{fd: f.fd}
	from, to := int64(0), int64(0) // came, and the disk was not told of it
	for c := range f.chunks {
		if f.err != nil {
			continue
		}
		f.err = eachData(c.data, c.off, w.add)
		if c.off != to {
			from = c.off
		}
		if to = c.off + int64(len(c.data)); to-from >= fillStep {
			_ = unix.SyncFileRange(f.fd, from, to-from, unix.SYNC_FILE_RANGE_WRITE) // a hint
			from = to
		}
	}
	if f.err == nil {
		f.err = w.write(w.end)
	}
	if f.err == nil {
		_, f.err = ignoringEINTR(func() (int, error) { return 0, unix.Ftruncate(f.fd, f.size) })
	}
}

// joined writes pieces that lie behind each other in a file in few and large writes.
type joined struct {
	fd       int
	off, end int64 // where pieces lies
	pieces   [][]byte
}

// add takes a piece, which has to stay as it is.
func (w *joined) add(b []byte, off int64) error {
	if off != w.end {
		if err := w.write(w.end); err != nil {
			return err
		}
		w.off, w.end = off, off
	}
	w.pieces, w.end = append(w.pieces, b), w.end+int64(len(b))
	if upTo := w.end &^ (fillWrite - 1); upTo > w.off {
		return w.write(upTo)
	}
	if len(w.pieces) == fillPieces {
		return w.write(w.end)
	}
	return nil
}

// write writes the pieces as far as some place, which lies in the last one or at its end.
func (w *joined) write(upTo int64) error {
	all := w.pieces
	var rest []byte
	if over := int(w.end - upTo); over > 0 {
		last := &all[len(all)-1]
		cut := len(*last) - over
		*last, rest = (*last)[:cut], (*last)[cut:]
	}
	for left := all; w.off < upTo; {
		n, err := ignoringEINTR(func() (int, error) { return unix.Pwritev(w.fd, left, w.off) })
		if err != nil {
			return err
		}
		w.off += int64(n)
		for n > 0 && n >= len(left[0]) {
			n -= len(left[0])
			left = left[1:]
		}
		if n > 0 {
			left[0] = left[0][n:]
		}
	}
	clear(all)
	w.pieces = all[:0]
	if len(rest) > 0 {
		w.pieces = append(w.pieces, rest)
	}
	return nil
}

// takes reports whether it takes parts of the content that are in packs.
func (f *filling) takes() bool { return f != nil && !f.given }

// put has a part written that was received.
func (f *filling) put(off int64, data []byte) {
	if f.takes() {
		f.chunks <- placed{off, data}
	}
}

// had has a part written that was read from packs.
func (f *filling) had(off int64, data []byte, err error) {
	if f.most -= int64(len(data)); err != nil || f.most < 0 {
		f.giveUp()
		return
	}
	f.put(off, data)
}

// giveUp has the file not be filled.
func (f *filling) giveUp() {
	if f != nil {
		f.given = true
	}
}

// end ends it, and reports whether the file is there for Stage, which it is not where not all of the content came.
func (f *filling) end(whole bool) bool {
	if f == nil {
		return false
	}
	close(f.chunks)
	<-f.done
	unix.Close(f.fd)
	all := &f.t.past.filled
	all.mu.Lock()
	ok := whole && !f.given && f.err == nil && all.of[f.key] == nil
	if ok {
		if all.of == nil {
			all.of = map[string]*filling{}
		}
		all.of[f.key] = f
	}
	all.mu.Unlock()
	if !ok {
		f.t.unfill(f.ino)
	}
	return ok
}

// remove removes a file that nobody has taken.
func (a *fillings) remove(f *filling) {
	a.mu.Lock()
	ours := a.of[f.key] == f
	if ours {
		delete(a.of, f.key)
	}
	a.mu.Unlock()
	if ours {
		f.t.unfill(f.ino)
	}
}

// take returns the file that holds a content, and is not synced; zero: there is none.
func (a *fillings) take(top manifest, key *shareKey) (ino sharefs.Ino) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.of) == 0 {
		return 0
	}
	name := contentName(top, key)
	if f := a.of[name]; f != nil {
		ino = f.ino
		delete(a.of, name)
	}
	return ino
}

// unfill removes a backing file that was taken from the stock and is not to be used.
func (t *Tree) unfill(ino sharefs.Ino) {
	if err := t.live.remove(ino); err != nil {
		t.log.Warn("a file that was prepared stays behind until the next start", "err", err)
		return
	}
	t.stock.used(prepared{ino: ino})
}
