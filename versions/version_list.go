package versions

import (
	"errors"
	"slices"

	"sharefs"
	"sharefs/versions/kv"
)

// Versions lists the history of a regular file, oldest first, those that it continues (lineage.go) among them. What is settled but not yet
// captured is in it. An inode without versions has none; that is no error.
func (t *Tree) Versions(ino sharefs.Ino) ([]sharefs.Version, error) {
	h := &t.past
	s, err := h.head(ino)
	if err != nil {
		return nil, err
	}
	var all []sharefs.Version
	for more := true; more; {
		err := ownVersions(t.db, s.ino, s.through, func(v *version) bool {
			if v.place != placeLost {
				all = append(all, h.shown(ino, v, s.base))
			}
			return true
		})
		if err != nil {
			return nil, err
		}
		if s, more, err = h.older(s); err != nil {
			return nil, err
		}
	}
	if n := len(all); n > 0 {
		all[0].Live = h.isLive(ino, all[0].Number)
	}
	slices.Reverse(all)
	return all, nil
}

// shown returns what users see of a version in the history of an inode.
func (h *history) shown(ino sharefs.Ino, v *version, base uint64) sharefs.Version {
	return sharefs.Version{
		Number: base + v.own, At: v.at, Size: v.size, Data: v.data(), Mode: v.mode, UID: v.uid, GID: v.gid, Mtime: v.mtime,
		Author: h.author(v.author), Timed: v.timed, Torn: v.torn, Foreign: v.ino != ino, Damaged: v.damaged, Note: v.note,
	}
}

// data returns how many bytes of a version are not in holes, as far as its row tells: holes within nodes of its manifest count as data, and so
// does all of what is not in packs yet.
func (v *version) data() uint64 {
	if v.place != placeKept || v.top.level > 0 {
		return v.size
	}
	var n uint64
	for i := range v.top.spans {
		if !v.top.spans[i].hole {
			n += uint64(v.top.spans[i].len)
		}
	}
	return n
}

// isLive reports whether the content of a file is that of one of its versions still. Nothing of a removed file is live.
func (h *history) isLive(ino sharefs.Ino, number uint64) bool {
	t := h.t
	if r, err := t.row(ino); err != nil || r.nlink == 0 {
		return false
	}
	v, err := newestVersion(t.db, ino, noLimit)
	if err != nil || v == nil || v.place == placeLost || v.timed {
		return false
	}
	l, _, err := loadLineage(t.db, ino)
	if err != nil || l.base+v.own != number {
		return false
	}
	f := t.files.find(ino)
	if f == nil {
		return true
	}
	defer t.files.unpin(f)
	f.mu.Lock()
	hot, base := f.hot, f.base
	f.mu.Unlock()
	if !hot {
		return true
	}
	st, err := t.statFile(f)
	return err == nil && stampOf(&st) == base
}

// find returns the version with a number in the history of an inode; KindNotExist: there is none.
func (h *history) find(ino sharefs.Ino, number uint64) (*version, segment, error) {
	s, err := h.head(ino)
	if err != nil {
		return nil, s, err
	}
	if s, err = h.back(s, func(s segment) bool { return number > s.base }); err != nil {
		return nil, s, err
	}
	if number <= s.base || number-s.base > s.through {
		return nil, s, sharefs.KindNotExist
	}
	v, err := loadVersion(h.t.db, s.ino, number-s.base)
	if err == nil && v.place == placeLost {
		err = sharefs.KindNotExist
	}
	return v, s, err
}

// Version finds one version of a file by its number, in time that does not grow with the length of the history, and by 0 the one that its
// present content is. KindNotExist: there is none.
func (t *Tree) Version(ino sharefs.Ino, number uint64) (sharefs.Version, error) {
	if number == 0 {
		return t.past.live(ino)
	}
	v, s, err := t.past.find(ino, number)
	if err != nil {
		return sharefs.Version{}, err
	}
	shown := t.past.shown(ino, v, s.base)
	shown.Live = s.ino == ino && t.past.isLive(ino, number)
	return shown, nil
}

// live returns the version that the content of a file is. KindNotExist: it changed since, or there is none yet.
func (h *history) live(ino sharefs.Ino) (sharefs.Version, error) {
	v, err := newestVersion(h.t.db, ino, noLimit)
	switch {
	case err != nil:
		return sharefs.Version{}, err
	case v == nil:
		return sharefs.Version{}, sharefs.KindNotExist
	}
	l, _, err := loadLineage(h.t.db, ino)
	if err != nil {
		return sharefs.Version{}, err
	}
	shown := h.shown(ino, v, l.base)
	if shown.Live = h.isLive(ino, shown.Number); !shown.Live {
		return sharefs.Version{}, sharefs.KindNotExist
	}
	return shown, nil
}

// VersionAt finds the version that a name held at an instant, and the inode that bore the name then. Where the name did not exist then, or bore
// something without versions, it looks in the history of the file that has the name now or had it last. KindNotExist: there is none.
func (t *Tree) VersionAt(parent sharefs.Ino, name string, at sharefs.HLC) (sharefs.Ino, sharefs.Version, error) {
	h := &t.past
	var p place
	if kept, ok := t.KeptInstant(at); ok {
		var err error
		if p, err = t.findDent(t.rowsAt(kept), parent, name); err != nil {
			return 0, sharefs.Version{}, err
		}
	}
	if p.found() && uint32(p.typ)<<12 == sharefs.ModeRegular {
		v, err := h.at(p.ino, at)
		if !errors.Is(err, sharefs.KindNotExist) {
			return p.ino, v, err
		}
	}
	ino, err := t.Past(parent, name)
	if err != nil {
		return 0, sharefs.Version{}, err
	}
	v, err := h.at(ino, at)
	return ino, v, err
}

// at finds the last version in the history of an inode that was closed up to an instant.
func (h *history) at(ino sharefs.Ino, at sharefs.HLC) (sharefs.Version, error) {
	s, err := h.head(ino)
	if err != nil {
		return sharefs.Version{}, err
	}
	// Its own versions first: they may be older than the moment at which it came to continue another one's past.
	found, err := h.ownAt(s, at)
	if err != nil {
		return sharefs.Version{}, err
	}
	if found == nil {
		if s, err = h.back(s, func(s segment) bool { return s.since <= at }); err != nil {
			return sharefs.Version{}, err
		}
	}
	for more := true; more; {
		if found == nil {
			if found, err = h.ownAt(s, at); err != nil {
				return sharefs.Version{}, err
			}
		}
		if found != nil {
			shown := h.shown(ino, found, s.base)
			shown.Live = s.ino == ino && h.isLive(ino, shown.Number)
			return shown, nil
		}
		if s, more, err = h.older(s); err != nil {
			return sharefs.Version{}, err
		}
	}
	return sharefs.Version{}, sharefs.KindNotExist
}

// ownAt finds the last version of a segment that was closed up to an instant; nil: there is none.
func (h *history) ownAt(s segment, at sharefs.HLC) (*version, error) {
	v, err := heldAt(h.t.db, s.ino, at)
	if err != nil || v == nil || v.own <= s.through && v.place != placeLost {
		return v, err
	}
	// That one belongs to another history, or is lost: the one before counts.
	var found *version
	err = ownVersions(h.t.db, s.ino, min(s.through, v.own), func(v *version) bool {
		if v.place != placeLost {
			found = v
		}
		return found == nil
	})
	return found, err
}

// Past finds the regular file that bears a name or, where none does, the one with versions that bore it last. It takes no reference, and the
// inode may be no more: only its versions can be asked for. KindNotExist: there is none.
func (t *Tree) Past(parent sharefs.Ino, name string) (sharefs.Ino, error) {
	if err := checkName("look up", name); err != nil {
		return 0, err
	}
	p, err := t.dent(parent, name)
	if err != nil {
		return 0, err
	}
	if p.found() {
		if uint32(p.typ)<<12 != sharefs.ModeRegular {
			return 0, sharefs.KindNotExist
		}
		return p.ino, nil
	}
	// The name lay in its own slot unless another one had that, in which case the next slots are to be looked at as well.
	for slot := t.cookieOf(name); ; slot++ {
		t.past.mu.Lock()
		last := t.past.vacated[dentID{parent, slot}]
		t.past.mu.Unlock()
		x := &tx{t: t} // for reading alone
		if last.ino != 0 {
			has, err := x.hasPast(last.ino)
			if err != nil || has {
				return last.ino, err
			}
		}
		last, err := t.past.lastBearer(x, parent, slot, name)
		if err != nil || last.ino != 0 {
			return last.ino, err
		}
		chained, err := t.everChained(dentID{parent, slot})
		if err != nil {
			return 0, err
		}
		if !chained {
			return 0, sharefs.KindNotExist
		}
	}
}

// everChained reports whether names that belong to a slot ever were put into later ones.
func (t *Tree) everChained(id dentID) (chained bool, err error) {
	key := dentryKey(id.parent, id.cookie)
	err = t.db.Past(spaceDentry, key, func(rev kv.Revision) bool {
		if d, err := decodeDent(key, rev.Value); err == nil && !rev.Deleted {
			chained = chained || d.chained
		}
		return !chained
	})
	return chained, failed("read the past of a name", err)
}

// FileID returns the identity of a file on every host, also of one that is no more and has versions.
func (t *Tree) FileID(ino sharefs.Ino) (id sharefs.FileID, err error) {
	r, err := t.row(ino)
	if err == nil {
		return r.id, nil
	}
	if !errors.Is(err, sharefs.KindStale) {
		return id, err
	}
	v, err := newestVersion(t.db, ino, noLimit)
	switch {
	case err != nil:
		return id, err
	case v == nil:
		return id, stale(ino)
	}
	return v.file, nil
}
