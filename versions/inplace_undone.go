package versions

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions/kv"
	"sharefs/versions/writers"
)

// The loss of power may undo what gave a file its newest version while the row of that is there. The journal is synced by itself, and that another file took the place of the backing file (Staged.swap), or
// what was written to that, is safe when the disk gets to it alone. ext4 and XFS write down what was done before a synced file grew no later than that; btrfs does not: where files were synced all at
// once, or it wrote everything down in between, their renames come half a minute later.
//
// Such a file has its mark, for that goes only when content and name are safe (syncContent), and its stamp, which nobody can make, is that of an earlier version: nobody wrote it since. Taken for what
// somebody did here it would be a new version of this host, and undo what another one wrote everywhere. So where the newest version is in packs the file is given it again, as an adoption that was cut
// short is finished (inplace_end.go), whose row says that the file is to hold the version which it has.
//
// A file of which the stamp tells nothing, for what it held was no version or it was not as that says, is not swapped without having its new name synced at once.

// undoneLooked is how many versions before the newest one are looked at for what a file holds. Those of which the disk may know nothing are the last half minute's.
const undoneLooked = 1000

// findUndone enters, at a start, an adoption for each marked file that the loss of power took back to an earlier version.
func (h *history) findUndone() error {
	t := h.t
	all := map[sharefs.Ino]*adopting{}
	var bad error
	err := t.db.Scan(spaceMark, nil, nil, func(key, _ []byte) bool {
		ino := keyIno(key)
		if h.standing(ino) != nil {
			return true
		}
		var a *adopting
		if a, bad = h.undone(ino); a != nil {
			all[ino] = a
		}
		return bad == nil
	})
	if err = errors.Join(err, bad); err != nil || len(all) == 0 {
		return failed("look for what the loss of power undid", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	settleAdopting(x, nil, all)
	if err := x.commit(); err != nil { // it is synced before the tree is used
		return err
	}
	for ino, a := range all {
		t.log.Warn("the loss of power took a file back to an earlier version: it is given its newest one again, from packs", "inode", uint64(ino), "file", t.NameOf(ino))
		h.stand(ino, &adoption{adopting: *a, row: true, again: true})
	}
	return nil
}

// undone returns what a marked file is to be given again; nil: nothing.
func (h *history) undone(ino sharefs.Ino) (*adopting, error) {
	t := h.t
	r, err := t.row(ino)
	if errors.Is(err, sharefs.KindStale) || err == nil && (!r.isRegular() || r.nlink == 0 || r.isAbsent()) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v, err := newestVersion(t.db, ino, noLimit)
	if err != nil || v == nil || v.place != placeKept || v.timed || v.damaged || v.away {
		return nil, err
	}
	st, err := t.live.stat(ino)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, failed("read a backing file", err)
	}
	if st.Mode&unix.S_ISVTX == 0 { // else an earlier version was elsewhere, and nobody wrote the hole that stands for it
		if undone, err := isEarlier(t.db, v, stampOf(&st)); err != nil || !undone {
			return nil, err
		}
	}
	return &adopting{base: v.own, was: r.mtime, author: h.author(v.author), size: int64(v.size), mtime: v.mtime, key: v.key, top: v.top}, nil
}

// isEarlier reports whether a stamp is that of an own version before one, and not of that.
func isEarlier(view kv.View, v *version, stamp writers.Stamp) (earlier bool, err error) {
	if stamp == v.stamp() {
		return false, nil
	}
	looked := 0
	err = ownVersions(view, v.ino, v.own-1, func(o *version) bool {
		earlier = !o.beside && o.stamp() == stamp
		looked++
		return !earlier && looked < undoneLooked
	})
	return earlier, err
}

// isAgain reports whether an adoption is to give a file the version that it has.
func (h *history) isAgain(a *adopting, v *version) bool {
	return v != nil && v.own == a.base && v.place == placeKept && !v.away && int64(v.size) == a.size && v.key == a.key && v.top.level == a.top.level &&
		slices.Equal(v.top.spans, a.top.spans) && h.author(v.author) == a.author
}
