package versions

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions/chunk"
)

// Of large files that change in place a reference is kept where the disk shares blocks: a clone of what the version captured last held, which tells the next capture
// where to read (extents.go). It is a file aside/INO-NUMBER-MARK.ref, all hexadecimal, where MARK tells the manifest of the version; a name that does not
// fit the version's row leads to nothing and is removed. It is made of the content that is being captured, before that is read, under another name; it gets its
// own when the row of the version survives power loss, and by then the clone does too.
//
// A clone takes no room until the file changes; then what is replaced stays on the disk until the next capture. References are given up, those first that were
// not needed for the longest time, so that they are no more than maxReferences and never could take more than a quarter of what is free on the disk. None is made of
// the first version of a file, since most large files are written once.
type references struct {
	on bool // the disk shares blocks, and its lists of extents tell

	mu   sync.Mutex // guards what follows
	kept map[sharefs.Ino]*reference
	gone []string // names of references to files that are no more
	tick uint64
}

// reference is a clone of the content of a version.
type reference struct {
	of   versionID
	mark string
	size int64 // bytes that it may take
	used uint64
}

const (
	asideRef      = ".ref"
	maxReferences = 256
)

func (r *reference) name() string { return asideName(r.of.ino, r.of.own) + "-" + r.mark + asideRef }

// mark tells one manifest from others.
func (h *history) mark(top *manifest) string {
	id := chunk.NewHasher(h.t.keys.load().first.chunk).ID(appendSpans([]byte{top.level}, top.spans))
	return fmt.Sprintf("%x", id[:8])
}

// parseReference reads the name of a reference.
func parseReference(name string) (r reference, ok bool) {
	rest, isRef := strings.CutSuffix(name, asideRef)
	i := strings.LastIndexByte(rest, '-')
	if !isRef || i < 0 {
		return r, false
	}
	id, ok := parseAside(rest[:i])
	mark, err := strconv.ParseUint(rest[i+1:], 16, 64)
	r = reference{of: id, mark: rest[i+1:]}
	return r, ok && err == nil && r.mark == fmt.Sprintf("%016x", mark)
}

// recoverReference takes a reference over that a start finds, and reports whether it fits its version.
func (h *history) recoverReference(r reference) bool {
	v, err := loadVersion(h.t.db, r.of.ino, r.of.own)
	if err != nil || v.place != placeKept || !h.refs.on || h.mark(&v.top) != r.mark {
		return false
	}
	var st unix.Stat_t
	if unix.Fstatat(h.aside.fd, r.name(), &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return false
	}
	r.size = st.Blocks * 512
	h.refs.mu.Lock()
	defer h.refs.mu.Unlock()
	if other := h.refs.kept[r.of.ino]; other != nil {
		if other.of.own > r.of.own {
			return false
		}
		h.aside.remove(other.name())
	}
	h.refs.kept[r.of.ino] = &r
	return true
}

// has returns the reference to a version, if there is one.
func (r *references) has(v *version) *reference {
	r.mu.Lock()
	defer r.mu.Unlock()
	ref := r.kept[v.ino]
	if ref == nil || ref.of.own != v.own {
		return nil
	}
	r.tick++
	ref.used = r.tick
	return ref
}

// own returns the own number of the version that a file's reference is to, 0: it has none.
func (r *references) own(ino sharefs.Ino) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ref := r.kept[ino]; ref != nil {
		return ref.of.own
	}
	return 0
}

// mayRefer reports whether a reference to what an open file holds could be kept.
func (h *history) mayRefer(f *os.File) bool {
	var st unix.Stat_t
	return h.refs.on && unix.Fstat(int(f.Fd()), &st) == nil && st.Blocks*512 <= h.aside.room()/4
}

// cloneFor makes a clone of what an open file holds, all of it on the disk, which is to become the reference to a version. The name that it has until then is
// that of nothing.
func (h *history) cloneFor(id versionID, src *os.File) (clone *os.File, err error) {
	name := referencePart(id)
	if clone, err = h.aside.clone(name, int(src.Fd())); err != nil {
		return nil, err
	}
	if _, err = ignoringEINTR(func() (int, error) { return 0, unix.Fdatasync(int(clone.Fd())) }); err != nil {
		clone.Close()
		h.aside.remove(name)
		return nil, err
	}
	return clone, nil
}

// referencePart is the name of a clone that is not a reference yet; a start removes it.
func referencePart(id versionID) string { return asideName(id.ino, id.own) + asideRef + asidePart }

// keepReference makes the clone that was made for a version its reference once the row of the version survives power loss. Mark is that of what the clone holds.
func (h *history) keepReference(id versionID, mark string) error {
	part := referencePart(id)
	v, err := loadVersion(h.t.db, id.ino, id.own)
	if err != nil || v.place != placeKept || h.mark(&v.top) != mark {
		return h.aside.remove(part) // it turned out to be the one before, or its number went to another one
	}
	var st unix.Stat_t
	if err := unix.Fstatat(h.aside.fd, part, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	ref := &reference{of: id, mark: mark, size: st.Blocks * 512}
	if err := h.aside.rename(part, ref.name()); err != nil {
		return errors.Join(err, h.aside.remove(part))
	}
	r := &h.refs
	r.mu.Lock()
	old := r.kept[id.ino]
	r.tick++
	ref.used = r.tick
	r.kept[id.ino] = ref
	r.mu.Unlock()
	h.t.unmarkSoon()
	if old != nil && old.name() != ref.name() {
		return h.aside.remove(old.name())
	}
	return nil
}

// dropReference gives the reference of a file up.
func (h *history) dropReference(ino sharefs.Ino) {
	r := &h.refs
	r.mu.Lock()
	ref := r.kept[ino]
	delete(r.kept, ino)
	r.mu.Unlock()
	if ref != nil {
		h.aside.remove(ref.name()) // one that stays is removed by a start
	}
}

// boundReferences gives references up that are too many, or might take too much of what is free on the disk.
func (h *history) boundReferences() {
	r := &h.refs
	r.mu.Lock()
	gone := r.gone
	r.gone = nil
	r.mu.Unlock()
	for _, name := range gone {
		h.aside.remove(name)
	}
	for {
		r.mu.Lock()
		var oldest *reference
		sum := int64(0)
		for _, ref := range r.kept {
			sum += ref.size
			if oldest == nil || ref.used < oldest.used {
				oldest = ref
			}
		}
		n := len(r.kept)
		r.mu.Unlock()
		if n == 0 || n <= maxReferences && sum <= h.aside.room()/4 {
			return
		}
		h.dropReference(oldest.of.ino)
	}
}

// forget gives the reference of a file up that is no more; boundReferences removes it.
func (r *references) forget(ino sharefs.Ino) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ref := r.kept[ino]; ref != nil {
		r.gone = append(r.gone, ref.name())
		delete(r.kept, ino)
	}
}

// any reports whether there is something for boundReferences to look at, which others may bring about who fill the disk.
func (r *references) any() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.kept)+len(r.gone) > 0
}

// count returns how many references there are and what they could take at most, in bytes.
func (r *references) count() (n int, bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ref := range r.kept {
		bytes += ref.size
	}
	return len(r.kept), bytes
}
