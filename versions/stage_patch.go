package versions

import (
	"errors"

	"golang.org/x/sys/unix"

	"sharefs"
)

// A large content that is to be that of a file which holds nearly the same need not be put together anew. Where the disk shares blocks the file's present content is cloned, and what differs
// is written to the clone, which takes its place as any staged file does. Elsewhere nothing is staged, and what differs goes into the live file in place (inplace.go).

const (
	// patchFrom is the size in bytes from which that is done: 9 ms in place of 37. Below it less is gained (8 MiB: 8 in place of 16), and a file that is renamed is never seen half done
	// (docs/performance.md).
	patchFrom = 16 << 20
	// patchShare is which part of a content may differ, as a divisor.
	patchShare = 4
)

// patch is a content that is staged as what differs from that which a file holds.
type patch struct {
	base uint64 // the file's version
}

// patchFrom returns the constant, or what a test has in its place.
func (t *Tree) patchFrom() int64 {
	if t.cfg.patchSize > 0 {
		return t.cfg.patchSize
	}
	return patchFrom
}

// errTooMuch says that too much differs.
var errTooMuch = errors.New("too much differs")

// patchOf looks whether a content is to be a patch of the version that a file holds, which it returns with the bytes that differ; nil: it is not.
func (s *Staged) patchOf(onto sharefs.Ino) (base *version, differ uint64) {
	t, h := s.t, &s.t.past
	if onto == 0 || s.size < t.patchFrom() || h.standing(onto) != nil || t.hot(onto) {
		return nil, 0
	}
	r, err := t.row(onto)
	if err != nil || !r.isRegular() || r.nlink == 0 {
		return nil, 0
	}
	v, err := newestVersion(t.db, onto, noLimit)
	if err != nil || v == nil || v.key != s.key.place {
		return nil, 0
	}
	f := t.files.pin(onto)
	defer t.files.unpin(f)
	if known, err := h.holdsVersion(f, r, v); err != nil || !known {
		return nil, 0
	}
	err = h.apart(v.top, int64(v.size), s.top, s.size, func(l located) error {
		if !l.hole {
			differ += uint64(l.len)
		}
		if differ > uint64(s.size)/patchShare {
			return errTooMuch
		}
		return nil
	})
	if err != nil {
		return nil, 0
	}
	return v, differ
}

// clone makes the staged file of one that holds a version, and reports whether it did.
func (s *Staged) clone(onto sharefs.Ino, base *version) bool {
	t := s.t
	f := t.files.pin(onto)
	defer t.files.unpin(f)
	p, err := t.stock.take()
	if err != nil {
		return false
	}
	unix.Close(p.fd)
	s.ino = p.ino
	if err := s.patchClone(f, base); err != nil {
		t.log.Debug("a content is staged as a whole", "inode", uint64(onto), "err", err)
		t.unfill(s.ino)
		s.ino = 0
		return false
	}
	return true
}

func (s *Staged) patchClone(f *file, base *version) error {
	if err := s.cloneOf(f, base); err != nil {
		return err
	}
	o := overwriting{h: &s.t.past, ino: s.ino}
	if err := o.open(); err != nil {
		return err
	}
	defer o.close()
	if err := o.h.apart(base.top, int64(base.size), s.top, s.size, o.put); err != nil {
		return err
	}
	return o.finish(s.size, s.mtime)
}

var errNotTheVersion = errors.New("the file does not hold the version any more, or is being changed")

// cloneOf makes the staged file share all blocks of a live one, if that holds a version still.
func (s *Staged) cloneOf(f *file, base *version) error {
	t := s.t
	if !f.content.TryLock() { // whoever has it may be waiting for what this is done for
		return errNotTheVersion
	}
	defer f.content.Unlock()
	r, err := t.row(f.ino)
	if err != nil {
		return err
	}
	known, err := t.past.holdsVersion(f, r, base)
	if err != nil {
		return err
	}
	if !known || t.hot(f.ino) {
		return errNotTheVersion
	}
	return s.takeFrom(f.ino, unix.IoctlFileClone)
}

// whole has a file hold the content that was staged as a patch.
func (s *Staged) whole() error {
	if s.patch == nil {
		return nil
	}
	s.patch = nil
	return s.make(true)
}
