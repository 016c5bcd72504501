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
// Where the newest version is elsewhere alone the file becomes absent again: what it has to be given is there. A hole that stands for it is no sign then, for who empties an absent file leaves one
// to the loss of power too (recreate).
//
// A file of which the stamp tells nothing, for what it held was no version or it was not as that says, is not swapped without having its new name synced at once.

// undoneLooked is how many versions before the newest one are looked at for what a file holds. Those of which the disk may know nothing are the last half minute's.
const undoneLooked = 1000

// findUndone enters, at a start, an adoption for each marked file that the loss of power took back to an earlier version, or has it be absent.
func (h *history) findUndone() error {
	t := h.t
	all := map[sharefs.Ino]*adopting{}
	away := map[sharefs.Ino]*version{}
	var bad error
	err := t.db.Scan(spaceMark, nil, nil, func(key, _ []byte) bool {
		ino := keyIno(key)
		if h.standing(ino) != nil {
			return true
		}
		var v *version
		var was sharefs.Time
		if v, was, bad = h.undone(ino); v != nil && v.away {
			away[ino] = v
		} else if v != nil {
			all[ino] = &adopting{base: v.own, was: was, author: h.author(v.author), size: int64(v.size), mtime: v.mtime, key: v.key, top: v.top}
		}
		return bad == nil
	})
	if err = errors.Join(err, bad); err != nil || len(all)+len(away) == 0 {
		return failed("look for what the loss of power undid", err)
	}
	if err := h.standUndone(all); err != nil {
		return err
	}
	return h.leaveUndone(away)
}

// standUndone has files be given their newest versions again behind the start.
func (h *history) standUndone(all map[sharefs.Ino]*adopting) error {
	t := h.t
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

// leaveUndone has files be absent whose newest versions are elsewhere.
func (h *history) leaveUndone(away map[sharefs.Ino]*version) error {
	for ino := range away {
		h.t.log.Warn("the loss of power took a file back to an earlier version: its newest one is fetched from other hosts when it is read", "inode", uint64(ino), "file", h.t.NameOf(ino))
	}
	if len(away) == 0 {
		return nil
	}
	return h.makeAbsent(away)
}

// makeAbsent has files be absent whose newest versions are elsewhere, whatever is in their backing files. They are at rest, and nobody has them open.
func (h *history) makeAbsent(away map[sharefs.Ino]*version) error {
	t := h.t
	if err := h.sayAbsent(away); err != nil {
		return err
	}
	if err := t.db.Sync(); err != nil { // the row tells before there is a hole
		return failed("sync the journal", err)
	}
	for ino, v := range away {
		if err := t.hollow(ino, int64(v.size), true); err != nil {
			return err
		}
	}
	return nil
}

// sayAbsent has the rows of files say that their newest versions are elsewhere, and that nobody has written to them.
func (h *history) sayAbsent(away map[sharefs.Ino]*version) error {
	t := h.t
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	for ino, v := range away {
		r, err := x.edit(ino)
		if err != nil {
			return err
		}
		r.flags |= rowAbsent
		r.size, r.blocks, r.mtime = v.size, 0, v.mtime
		x.b.Delete(spaceMark, inoKey(ino))
		if f := t.files.find(ino); f != nil {
			x.unmark(f)
			t.files.unpin(f)
		}
	}
	return x.commit()
}

// undone returns the version that a marked file is to hold again, and of when its row says that it is; nil: it is to hold what it does.
func (h *history) undone(ino sharefs.Ino) (again *version, was sharefs.Time, err error) {
	t := h.t
	r, err := t.row(ino)
	if errors.Is(err, sharefs.KindStale) || err == nil && (!r.isRegular() || r.nlink == 0 || r.isAbsent()) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	v, err := newestVersion(t.db, ino, noLimit)
	if err != nil || v == nil || v.place != placeKept || v.timed || v.damaged {
		return nil, 0, err
	}
	st, err := t.live.stat(ino)
	if errors.Is(err, unix.ENOENT) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, failed("read a backing file", err)
	}
	if hole := st.Mode&unix.S_ISVTX != 0; !hole { // else an earlier version was elsewhere, and nobody wrote the hole that stands for it
		if undone, err := isEarlier(t.db, v, stampOf(&st)); err != nil || !undone {
			return nil, 0, err
		}
	} else if v.away {
		return nil, 0, nil
	}
	return v, r.mtime, nil
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
