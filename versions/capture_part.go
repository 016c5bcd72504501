package versions

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"sharefs/versions/chunk"
)

// What the capture knows of a large file before it reads it, the best first:
//
//  1. ranges      the daemon saw each write, for the file is not passed through (dirty.go): what differs is read, and nothing else
//  2. extents     there is a clone of what the last version held (reference.go): what the disk says may differ is read
//  3. names       neither: all of it is read and compared with the last version chunk by chunk, which costs a half of cutting it
//  4. nothing     there is no earlier version, or it is of no use: all of it is cut
//
// What 1 and 2 have to be sure of is said there.

// partSize is the size in bytes from which that is done. Below it a whole capture takes 20 ms.
const partSize = 16 << 20

// partFrom returns partSize, or what a test has in its place.
func (t *Tree) partFrom() int64 {
	if t.cfg.partSize > 0 {
		return t.cfg.partSize
	}
	return partSize
}

// content brings the content of a version into packs, as cut does, and reads no more of it than it has to. Referred tells that there is a clone which is to
// become the reference to the version.
func (b *batch) content(v *version, f *os.File, size int64, going func(at int64) error) (top manifest, referred bool, err error) {
	h := b.h
	if size < h.t.partFrom() {
		top, err = b.cut(f, size, going)
		return top, false, err
	}
	began, slept := time.Now(), b.pace.slept
	defer func() { h.costs.note(v.ino, time.Since(began)-(b.pace.slept-slept)) }()
	before := b.before(v, v.own-1)
	if before == nil {
		top, err = b.cut(f, size, going)
		return top, false, err
	}
	changed, known := h.changedSince(versionID{v.ino, v.own}, before.own)
	if own := h.refs.own(v.ino); !known && own > 0 && own < before.own { // others came since that have none
		if older := b.before(v, own); older != nil && older.own == own {
			before = older
		}
	}
	base := &basis{top: before.top, size: int64(before.size)}
	way := &h.counts.byRanges
	src := f
	if !known && h.mayRefer(f) {
		id := versionID{v.ino, v.own}
		if clone, err2 := h.cloneFor(id, f); err2 == nil {
			src, referred = clone, true
			defer func() {
				clone.Close()
				if err != nil {
					h.aside.remove(referencePart(id))
				}
			}()
			changed, known = h.changedSinceReference(before, clone, min(size, base.size))
			way = &h.counts.byExtents
		}
	}
	if known {
		changed.add(min(size, base.size), endless)
		base.byRanges(&changed)
	} else {
		base.byNames(b, chunk.File{File: src})
		way = &h.counts.byNames
	}
	top, err = b.recut(chunk.File{File: src}, size, base, going)
	if useless := (*basisError)(nil); errors.As(err, &useless) {
		h.t.log.Warn("a version of a large file is captured as a whole", "inode", uint64(v.ino), "version", v.own, "err", useless.error)
		top, err = b.cut(src, size, going)
	} else if err == nil {
		way.Add(1)
	}
	return top, referred, err
}

// before returns the last version of a file with a number up to upTo that is in packs and can be a basis for another one, and has the lease hold it; nil: there is
// none.
func (b *batch) before(v *version, upTo uint64) (found *version) {
	db := b.h.t.db
	for range 2 {
		found = nil
		tries := 0
		err := ownVersions(db, v.ino, upTo, func(old *version) bool {
			tries++
			if old.place == placeKept && !old.away && old.key == b.tools.key.place { // a manifest has one key
				found = old
			}
			return found == nil && tries < maxBases
		})
		if err != nil || found == nil || found.damaged || found.size == 0 || chunk.For(int64(found.size)) != chunk.For(int64(v.size)) {
			return nil
		}
		b.lease.hold(found.top)
		// Retention may have taken it away before the lease had it, and a garbage collection its chunks.
		if now, err := loadVersion(db, found.ino, found.own); err == nil && now.place == placeKept && now.same(found) {
			return found
		}
	}
	return nil
}

// maxBases is how many versions are looked at for one that is in packs.
const maxBases = 64

// changedSinceReference finds where a clone of the present content differs from the reference to an earlier version, up to size; false where that is not known.
func (h *history) changedSinceReference(before *version, now *os.File, size int64) (ranges, bool) {
	ref := h.refs.has(before)
	if ref == nil {
		return ranges{}, false
	}
	fd, err := ignoringEINTR(func() (int, error) {
		return unix.Openat(h.aside.fd, ref.name(), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	})
	if err == nil {
		defer unix.Close(fd)
		var changed ranges
		if changed, err = changedBetween(fd, int(now.Fd()), size); err == nil {
			return changed, true
		}
	}
	h.t.log.Debug("a reference is of no use", "inode", uint64(before.ino), "err", err)
	h.dropReference(before.ino)
	return ranges{}, false
}

// byRanges has a basis go by what is known to have changed since.
func (base *basis) byRanges(changed *ranges) {
	base.near = changed.meet
	base.same = func(l located, _ uint8) (bool, error) { return !changed.meet(l.off, l.off+l.len), nil }
}

// byNames has a basis look at the content itself, chunk by chunk: what has the name that it had is the same. All of the content is read, and none of it is cut.
func (base *basis) byNames(b *batch, src chunk.File) {
	buf := make([]byte, chunk.MaxLen)
	base.near = nil
	base.same = func(l located, level uint8) (bool, error) {
		if level > 0 {
			return false, nil
		}
		if l.hole {
			start, _, err := src.NextData(l.off)
			return err == nil && start >= l.off+l.len, nil
		}
		if l.len > int64(len(buf)) {
			return false, nil
		}
		if n, err := src.ReadAt(buf[:l.len], l.off); int64(n) < l.len {
			if err == io.EOF {
				return false, nil
			}
			return false, &sourceError{err}
		}
		b.pace.step(l.len)
		b.bytes += l.len
		if b.tools.namer.ID(buf[:l.len]) != l.id {
			return false, nil
		}
		b.h.counts.compared.Add(uint64(l.len))
		return true, nil
	}
}
