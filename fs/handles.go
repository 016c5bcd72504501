package fs

import (
	"sync"
	"sync/atomic"

	"sharefs"
	"sharefs/versions"
)

// open is one open file: a live one, a version, a generated text or a control file.
type open struct {
	ino  sharefs.Ino      // of a live file
	live *versions.Handle // nil for the others
	// through: the kernel reads and writes the backing file itself.
	through bool
	past    versions.VersionReader
	text    []byte   // what a generated file held when it was opened
	ctl     *CtlFile // takes what is written
}

// close gives up what the file holds.
func (o *open) close(e *edge) {
	switch {
	case o.live != nil:
		// In this order: once the tree has heard of the close it may ask for the backing file to be given up.
		if o.through {
			e.backings.release(o.ino)
		}
		if err := o.live.Close(); err != nil {
			e.log.Warn("closing a file failed", "inode", o.ino, "error", err)
		}
	case o.past != nil:
		if err := o.past.Close(); err != nil {
			e.log.Warn("closing a version failed", "error", err)
		}
	}
}

// handles numbers the open files. Finding one takes no lock. The zero value is empty.
type handles struct {
	chunks [handleChunks]atomic.Pointer[handleChunk]

	mu   sync.Mutex // guards what follows, and the making of chunks
	free []uint64   // numbers given back
	next uint64     // the first number never used
	n    int
}

const (
	handleChunkBits = 10
	handleChunks    = 1 << 14 // 16 million open files
)

type handleChunk [1 << handleChunkBits]atomic.Pointer[open]

// slot finds the place of a number, nil where it was never handed out.
func (t *handles) slot(fh uint64) *atomic.Pointer[open] {
	i := fh >> handleChunkBits
	if i >= handleChunks {
		return nil
	}
	c := t.chunks[i].Load()
	if c == nil {
		return nil
	}
	return &c[fh&(1<<handleChunkBits-1)]
}

// add numbers o. It reports false when no number is left.
func (t *handles) add(o *open) (uint64, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var fh uint64
	if n := len(t.free); n > 0 {
		fh, t.free = t.free[n-1], t.free[:n-1]
	} else {
		if t.next >= handleChunks<<handleChunkBits {
			return 0, false
		}
		fh = t.next
		t.next++
		if i := fh >> handleChunkBits; t.chunks[i].Load() == nil {
			t.chunks[i].Store(new(handleChunk))
		}
	}
	t.slot(fh).Store(o)
	t.n++
	return fh, true
}

// get returns nil for a number that is not in use.
func (t *handles) get(fh uint64) *open {
	if s := t.slot(fh); s != nil {
		return s.Load()
	}
	return nil
}

// remove returns what had the number, nil if nothing.
func (t *handles) remove(fh uint64) *open {
	s := t.slot(fh)
	if s == nil {
		return nil
	}
	o := s.Swap(nil)
	if o == nil {
		return nil
	}
	t.mu.Lock()
	t.free = append(t.free, fh)
	t.n--
	t.mu.Unlock()
	return o
}

func (t *handles) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n
}

// drain removes all.
func (t *handles) drain() []*open {
	t.mu.Lock()
	last := t.next
	t.mu.Unlock()
	var all []*open
	for fh := range last {
		if o := t.remove(fh); o != nil {
			all = append(all, o)
		}
	}
	return all
}
