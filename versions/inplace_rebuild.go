package versions

import (
	"bytes"
	"errors"
	"io"

	"golang.org/x/sys/unix"

	"sharefs"
)

// settleAdopting has a change write down which rows of adoptions go, and which have another base than they had.
func settleAdopting(x *tx, gone []sharefs.Ino, changed map[sharefs.Ino]*adopting) {
	for _, ino := range gone {
		x.b.Delete(spaceAdopting, inoKey(ino))
	}
	for ino, a := range changed {
		x.b.Put(spaceAdopting, inoKey(ino), a.encode())
	}
}

// doubted settles for each row of an adoption behind a rebuild whether it counts: it may be older than what was lost, so that the adoption may have been over, and somebody may have written to the
// file. So what the file holds decides. It returns the rows that go, and those that stay with another base than they had: the newest version that is left.
func (h *history) doubted() (gone []sharefs.Ino, changed map[sharefs.Ino]*adopting, err error) {
	var bad error
	changed = map[sharefs.Ino]*adopting{}
	err = h.t.db.Scan(spaceAdopting, nil, nil, func(key, value []byte) bool {
		ino := keyIno(key)
		a, err := decodeAdopting(ino, value)
		if err != nil {
			h.t.log.Error("a row that told what was being put into a file cannot be read: what the file holds may be parts of two versions", "inode", uint64(ino), "err", err)
			gone = append(gone, ino)
			return true
		}
		var stays bool
		base := a.base
		if stays, bad = h.stillAdopted(ino, &a); bad == nil && !stays {
			gone = append(gone, ino)
		} else if a.base != base {
			changed[ino] = &a
		}
		return bad == nil
	})
	return gone, changed, errors.Join(err, bad)
}

// stillAdopted reports whether an adoption of which it is not known whether it was over is to be finished, by what its file holds: all of the target, to which nobody can have added anything then, or a
// mixture. Then the newest version becomes its base.
func (h *history) stillAdopted(ino sharefs.Ino, a *adopting) (bool, error) {
	newest, err := newestVersion(h.t.db, ino, noLimit)
	if err != nil {
		return false, err
	}
	against, again := newest, h.isAgain(a, newest)
	if again { // what it held was an earlier one
		if against, err = newestVersion(h.t.db, ino, newest.own-1); err != nil {
			return false, err
		}
	}
	holds, known, err := h.compareAdopted(ino, a, against)
	if err != nil {
		return false, err
	}
	if known && holds == holdsBase && !again {
		return false, nil
	}
	if !known {
		h.t.log.Warn("a file into which what another host wrote was being put holds something else: that is taken for what was written here since", "inode", uint64(ino), "file", h.t.NameOf(ino))
		return false, nil
	}
	if a.base = 0; newest != nil {
		a.base = newest.own
	}
	return true, nil
}

// compareAdopted finds out by its bytes what a file holds that may be in the middle of an adoption, or may have changed since: nothing but parts of its newest version, which nil stands for none of,
// and of the target, or else what is known of neither. Behind a kill each part up to the end of a chunk, or of a page, is that of one of them. Where the newest version was moved out of the
// file, or is elsewhere, nothing takes its place.
func (h *history) compareAdopted(ino sharefs.Ino, a *adopting, newest *version) (what holds, known bool, err error) {
	fd, err := h.t.live.openProbe(ino)
	if errors.Is(err, unix.ENOENT) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, failed("read a backing file", err)
	}
	defer unix.Close(fd)
	o := overwriting{h: h, ino: ino, fd: fd}
	if err := o.measure(); err != nil {
		return 0, false, err
	}
	c := comparison{fd: &o, target: side{size: a.size, walk: &walker{top: a.top, size: a.size, load: h.loadNode}}}
	now := newForeignReader(h, a.top, a.size)
	defer now.Close()
	c.target.from = now
	switch {
	case newest == nil || newest.away:
		c.empty = true
	case newest.place == placeAside:
		c.empty = true
		fallthrough
	case newest.place == placeKept:
		old, err := h.openVersion(newest)
		if err != nil {
			return 0, false, err
		}
		defer old.Close()
		c.base = side{size: old.Size(), from: old}
		if newest.place == placeKept {
			c.base.walk = &walker{top: newest.top, size: old.Size(), load: h.loadNode}
		}
	}
	return c.run()
}

// side is one of the two versions that a file may hold parts of.
type side struct {
	from io.ReaderAt // nil: nothing is known of it
	size int64
	walk *walker // where its chunks end; nil: it is not made of any
	end  int64   // of the chunk that was asked for last
	buf  [comparedBlock]byte
}

// comparedBlock is how much of a file changes as one, in bytes: what the kernel writes of it is whole pages.
const comparedBlock = 4096

// upTo returns where the part ends that begins at an offset: at the end of a chunk, or at another place if that comes first.
func (s *side) upTo(off, end int64) int64 {
	if s.walk == nil || off >= s.size {
		return end
	}
	if off >= s.end {
		l, err := s.walk.at(off)
		if err != nil {
			return end // what cannot be read is like nothing
		}
		s.end = l.off + l.len
	}
	return min(end, s.end)
}

// has reports whether it has some bytes; behind its end are zeros.
func (s *side) has(b []byte, off int64) bool {
	if s.from == nil {
		return false
	}
	of := s.buf[:len(b)]
	clear(of)
	if off < s.size {
		if _, err := s.from.ReadAt(of, off); err != nil && err != io.EOF {
			return false
		}
	}
	return bytes.Equal(b, of)
}

// comparison holds a file against the two versions that it may hold parts of.
type comparison struct {
	fd           *overwriting
	base, target side
	empty        bool // the file may have been empty before
}

// run returns what the file holds; known is false for what is none of the three.
func (c *comparison) run() (what holds, known bool, err error) {
	size := c.fd.had
	least, most := min(c.base.size, c.target.size), max(c.base.size, c.target.size)
	if c.empty {
		least = 0
	}
	if size < least || size > most {
		return 0, false, nil
	}
	isBase, isTarget := size == c.base.size && (c.base.from != nil || c.empty), size == c.target.size
	var block [comparedBlock]byte
	for off := int64(0); off < size; {
		n, err := c.fd.read(block[:min(size-off, comparedBlock)], off)
		if err != nil {
			return 0, false, err
		}
		if n == 0 {
			return 0, false, nil // somebody cuts it
		}
		for b := block[:n]; len(b) > 0; {
			end := c.target.upTo(off, c.base.upTo(off, off+int64(len(b))))
			part := b[:end-off]
			ofBase, ofTarget := c.base.has(part, off), c.target.has(part, off)
			if !ofBase && !ofTarget && !(c.empty && len(bytes.Trim(part, "\x00")) == 0) {
				return 0, false, nil
			}
			isBase, isTarget = isBase && ofBase, isTarget && ofTarget
			b, off = b[len(part):], end
		}
	}
	switch {
	case isTarget:
		return holdsTarget, true, nil
	case isBase:
		return holdsBase, true, nil
	}
	return holdsMixture, true, nil
}
