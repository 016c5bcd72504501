package versions

import (
	"slices"
	"time"

	"sharefs"
)

// besideLooked is how many of an inode's newest own versions are looked through for one that is there already, and how many of a history, which may have as many inodes.
const besideLooked = 1000

// Beside enters a version that another host made into the history of a file, which goes on holding what it holds: so that what was written there at the same time can be read, compared and
// restored as any other version. It is entered before the newest one, which is entered once more behind it. All of the content must be in packs, as [Tree.Gather] sees to. It returns
// the number by which users see it. One that is there already is not entered again.
//
// Errors: KindAgain: the file's newest version is not captured yet, or it may be written to, or it is in the middle of an adoption, or not all of the content is here; KindNotSupported: the file has no version that it
// could stand beside; KindAccess: the share key of the content is not here; KindInvalid for what is no regular file and for a manifest that is none.
func (t *Tree) Beside(ino sharefs.Ino, foreign Foreign) (number uint64, err error) {
	const op = "keep a version of another host"
	if err := t.writable(op); err != nil {
		return 0, err
	}
	top, ok := foreign.manifest()
	if !ok {
		return 0, fail(op, sharefs.KindInvalid)
	}
	key, err := t.keyFor(&foreign.Content)
	if err != nil {
		return 0, err
	}
	h := &t.past
	lease := h.leases.take()
	defer lease.end() // when the row of the version holds them
	under := keptUnder{h: h}
	if _, err := under.all(op, top, key, lease); err != nil {
		return 0, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	x.aside = true
	r, err := x.row(ino)
	if err != nil {
		return 0, err
	}
	if !r.isRegular() {
		return 0, fail(op, sharefs.KindInvalid)
	}
	author, err := h.enter(x, foreign.Author)
	if err != nil {
		return 0, err
	}
	v := &version{
		ino: ino, place: placeKept, file: r.id, mode: r.mode, uid: r.uid, gid: r.gid, author: author, size: foreign.Size, mtime: foreign.Mtime, ctime: foreign.Mtime,
		top: top, key: key.place, merged: mergedBefore, beside: true,
	}
	l, _, err := x.lineage(ino)
	if err != nil {
		return 0, err
	}
	last, own, _, err := besideWhat(t, v, noLimit, besideLooked)
	switch {
	case err != nil:
		return 0, err
	case own > 0:
		return l.base + own, nil
	case last == nil || last.place == placeLost || last.timed:
		return 0, &sharefs.Error{Op: op, Kind: sharefs.KindNotSupported, Detail: "the file has no version yet"}
	case last.place != placeKept || t.hot(ino) || h.standing(ino) != nil:
		return 0, fail(op, sharefs.KindAgain)
	}
	v.own = last.own + 1
	v.at = max(h.reading(time.Now()), last.at+1, sharefs.HLC(t.seen.Load())+1)
	again := *last
	again.own, again.at, again.until, again.merged = last.own+2, v.at+1, 0, mergedBefore
	v.put(&x.b)
	again.put(&x.b)
	x.pass(again.at)
	x.tell(ino, 0)
	return l.base + v.own, x.commit()
}

// Numbered returns the number by which users see the newest version of a file that has the content of a version which another host made, or this one, and that author; 0: there is none.
// A version of an inode whose past the file continues is one of the file.
func (t *Tree) Numbered(ino sharefs.Ino, foreign Foreign) (uint64, error) {
	top, ok := foreign.manifest()
	if !ok {
		return 0, nil
	}
	key, err := t.keyFor(&foreign.Content)
	if err != nil {
		return 0, err
	}
	h := &t.past
	h.mu.Lock()
	author := uint64(slices.Index(h.authors, foreign.Author) + 1)
	h.mu.Unlock()
	if author == 0 {
		return 0, nil
	}
	v := &version{size: foreign.Size, author: author, top: top, key: key.place}
	s, err := h.head(ino)
	left := besideLooked
	for ok := true; ok && err == nil && left > 0; s, ok, err = h.older(s) {
		v.ino = s.ino
		_, own, looked, err := besideWhat(t, v, s.through, left)
		if err != nil {
			return 0, err
		}
		if own > 0 {
			return s.base + own, nil
		}
		left -= max(looked, 1)
	}
	return 0, err
}

// besideWhat looks through up to most of an inode's own versions, the newest up to one first. It returns the newest of them, nil where there is none, the number of the one that is v already, 0 where
// none is, and how many it looked at.
func besideWhat(t *Tree, v *version, upTo uint64, most int) (last *version, own uint64, looked int, err error) {
	err = ownVersions(t.db, v.ino, upTo, func(o *version) bool {
		if last == nil {
			last = o
		}
		if o.place == placeKept && o.author == v.author && o.same(v) && o.key == v.key {
			own = o.own
		}
		looked++
		return own == 0 && looked < most
	})
	return last, own, looked, err
}
