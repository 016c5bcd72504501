package versions

import (
	"bytes"
	"errors"
	"io"

	"golang.org/x/sys/unix"

	"sharefs"
)

// adoptedSince lists the rows of adoptions that are not to be finished behind a rebuild. Such a row may be older than what was lost: the adoption may have been over, and somebody may have
// written to the file. So it counts for a file alone of which each block is that of the base or of the target, and not all are that of one of them.
func (h *history) adoptedSince() (over []sharefs.Ino, err error) {
	var bad error
	err = h.t.db.Scan(spaceAdopting, nil, nil, func(key, value []byte) bool {
		ino := keyIno(key)
		a, err := decodeAdopting(ino, value)
		mixed := false
		if err == nil {
			mixed, bad = h.isMixture(ino, &a)
		}
		if !mixed {
			over = append(over, ino)
		}
		return bad == nil
	})
	return over, errors.Join(err, bad)
}

// isMixture reports whether a file holds parts of the two versions of an adoption, and of both. What cannot be read counts as neither.
func (h *history) isMixture(ino sharefs.Ino, a *adopting) (bool, error) {
	base, err := newestVersion(h.t.db, ino, noLimit)
	if err != nil || base == nil || base.own != a.base || base.place != placeKept || base.away {
		return false, err
	}
	fd, err := h.t.live.openProbe(ino)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, failed("read a backing file", err)
	}
	defer unix.Close(fd)
	old, now := newKeptReader(h, base), newForeignReader(h, a.top, a.size)
	defer old.Close()
	defer now.Close()
	const block = 4096
	o := overwriting{fd: fd}
	got, was, is := make([]byte, block), make([]byte, block), make([]byte, block)
	ofOld, ofNow := false, false
	for off := int64(0); ; off += block {
		n, err := o.read(got, off)
		if err != nil {
			return false, err
		}
		if n == 0 {
			return ofOld && ofNow, nil
		}
		for _, r := range []struct {
			from *keptReader
			into []byte
		}{{old, was}, {now, is}} {
			clear(r.into)
			if _, err := r.from.ReadAt(r.into, off); err != nil && err != io.EOF {
				return false, nil
			}
		}
		one, other := bytes.Equal(got[:n], was[:n]), bytes.Equal(got[:n], is[:n])
		if !one && !other {
			return false, nil
		}
		ofOld, ofNow = ofOld || !other, ofNow || !one
	}
}
