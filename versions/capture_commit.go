package versions

import (
	"errors"
	"slices"

	"sharefs"
	"sharefs/versions/kv"
)

// finish does stages 6 to 8.
func (b *batch) finish() error {
	h := b.h
	if len(b.versions) == 0 && len(b.chunks) == 0 && len(h.untidy) == 0 {
		return nil
	}
	if err := b.flush(); err != nil {
		return err
	}
	for rest := b.versions; len(rest) > 0; {
		n := h.together(rest)
		equal, err := b.equals(rest[:n])
		if err == nil {
			err = h.commitVersions(rest[:n], equal)
		}
		if err != nil {
			return err
		}
		for _, c := range rest[:n] {
			h.untidy = append(h.untidy, c.id)
		}
		rest = rest[n:]
	}
	if err := h.t.db.Sync(); err != nil {
		return failed("sync the journal", err)
	}
	for _, id := range h.untidy {
		h.tidy(id)
	}
	h.untidy, b.versions = nil, nil
	return nil
}

// commitChunks writes the rows of chunks that survive power loss already. A row without a version costs nothing but its room.
func (b *batch) commitChunks() error {
	var rows kv.Batch
	var value []byte
	for id, loc := range b.chunks {
		value = loc.Append(value[:0])
		rows.Put(spaceChunk, id[:], value)
		if rows.Len() >= chunkRows {
			if _, err := b.h.t.db.Commit(&rows); err != nil {
				return failed("write to the store", err)
			}
			rows.Reset()
		}
	}
	if rows.Len() > 0 {
		if _, err := b.h.t.db.Commit(&rows); err != nil {
			return failed("write to the store", err)
		}
	}
	for id := range b.chunks {
		b.h.spoilt.heal(&id)
	}
	clear(b.chunks)
	return nil
}

// alike tells what is known of a version and the one before while it waits for capture.
type alike uint8

const (
	notAlike      alike = iota // it is another content, and they are not compared
	mayBeAlike                 // nothing is
	alikeButTimes              // as far as stamps tell, nothing was done but that the times were set
)

// together returns how many of some versions go into one commit: one that is to be compared with the one before goes into a later commit than that.
func (h *history) together(list []captured) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := min(commitRows, len(list))
	for i := 1; i < n; i++ {
		if list[i].id.ino == list[i-1].id.ino && h.alike[list[i].id] != notAlike {
			return i
		}
	}
	return n
}

// equals returns the versions before those that are to be compared with them, as far as their bytes are equal and only their names differ, because another share key came into use between the
// two. It reads both, so it cannot wait for Tree.mu. errStopped: the tree is being closed, and does not wait for that.
func (b *batch) equals(list []captured) (map[versionID]*version, error) {
	h := b.h
	equal := map[versionID]*version{}
	for _, c := range list {
		h.mu.Lock()
		compare := h.alike[c.id] != notAlike
		h.mu.Unlock()
		if !compare {
			continue
		}
		before, err := newestVersion(h.t.db, c.id.ino, c.id.own-1)
		if err != nil {
			return nil, err
		}
		if before == nil || before.place != placeKept || before.away || before.key == c.key || before.size != uint64(c.stamp.Size) {
			continue
		}
		switch same, err := b.sameAs(before, &c); {
		case errors.Is(err, errStopped):
			return nil, err
		case err != nil:
			h.t.log.Warn("a version is kept that may be equal to the one before, which cannot be read", "inode", uint64(c.id.ino), "version", c.id.own, "err", err)
		case same:
			equal[c.id] = before
		}
	}
	return equal, nil
}

// sameAs compares a version in packs with one that is about to be, of the same size.
func (b *batch) sameAs(before *version, c *captured) (bool, error) {
	t := b.h.t
	was, err := t.contentOf(before)
	if err != nil {
		return false, err
	}
	is, err := t.contentOf(&version{size: before.size, top: c.top, key: c.key})
	if err != nil {
		return false, err
	}
	return t.sameBytes(was, is, func(bytes int64) error {
		if t.closed.Load() {
			return errStopped
		}
		b.pace.step(bytes)
		return nil
	})
}

// commitVersions writes that some versions are kept. equal is as of equals.
func (h *history) commitVersions(list []captured, equal map[versionID]*version) error {
	t := h.t
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	x.aside = true
	for _, c := range list {
		v, err := loadVersion(t.db, c.id.ino, c.id.own)
		if errors.Is(err, sharefs.KindNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if v.place == placeKept || v.place == placeLost {
			continue
		}
		if v.stamp() != c.stamp {
			continue // the number went to another content meanwhile, which still waits
		}
		// From live to aside is no change of the content: what was read when the row said live is what was set aside.
		v.place, v.top, v.key = placeKept, c.top, c.key
		x.tell(v.ino, 0)
		h.mu.Lock()
		h.unsafe[c.id.ino] = true
		like := h.alike[c.id]
		delete(h.alike, c.id)
		h.mu.Unlock()
		if like != notAlike {
			same, err := h.join(x, v, like == alikeButTimes, equal[c.id])
			if err != nil {
				return err
			}
			if same {
				h.counts.same.Add(1)
				continue
			}
		}
		v.put(&x.b)
		h.counts.captured.Add(1)
	}
	if x.b.Len() == 0 {
		return nil
	}
	return x.commit()
}

// join makes one version of two with the same content where that is not two closes but one: a timed version and the close that followed, or
// a file that a start found marked and unchanged. Redated: a program opened the file for writing and did no more than set its times, as touch(1) does; then the version before stays as
// it is, as when they are set of a file at rest. Equal, unless it is nil, is a version of other names and the same bytes. Tree.mu is held.
func (h *history) join(x *tx, v *version, redated bool, equal *version) (bool, error) {
	newest, err := newestVersion(h.t.db, v.ino, noLimit)
	if err != nil || newest == nil || newest.own != v.own || h.standing(v.ino) != nil { // an adoption goes back to the version of that number
		return false, err
	}
	if l, _, err := loadLineage(h.t.db, v.ino); err != nil || l.continued {
		return false, err // another inode counts on the number
	}
	before, err := newestVersion(h.t.db, v.ino, v.own-1)
	if err != nil || before == nil || before.place != placeKept || before.until != 0 {
		return false, err
	}
	if !before.same(v) && (equal == nil || equal.own != before.own || !before.same(equal)) {
		return false, err
	}
	if redated && v.note != "" { // somebody asked for it
		return false, nil
	}
	redated = redated && !before.timed && !before.torn
	if h.told(before, v, redated) {
		return false, nil
	}
	x.b.Delete(spaceVersion, versionKey(v.ino, v.own))
	x.b.Delete(spacePending, pendingKey(v.ino, v.own))
	if redated {
		return true, nil
	}
	before.timed, before.torn = false, false // it is what was closed, however it was read
	if before.merged == 0 {
		before.merged = max(v.merged, v.at+1)
	}
	before.setStamp(v.stamp())
	if before.note == "" {
		before.note = v.note
	}
	before.put(&x.b)
	return true, nil
}

// told reports whether a view that somebody may have looked at tells one version from another with the same content that followed it. Where the first one stays as it is, so does
// each view of a moment before the second one. Tree.mu is held.
func (h *history) told(before, v *version, stays bool) bool {
	seen := sharefs.HLC(h.t.seen.Load())
	return seen >= v.at || !stays && seen >= before.at && (before.mtime != v.mtime || before.ctime != v.ctime)
}

// same reports whether two kept versions have the same content.
func (v *version) same(w *version) bool {
	return v.size == w.size && v.top.level == w.top.level && slices.Equal(v.top.spans, w.top.spans)
}

// tidy removes what was needed until the row of a captured version survived power loss.
func (h *history) tidy(id versionID) {
	h.mu.Lock()
	delete(h.unsafe, id.ino)
	h.mu.Unlock()
	if err := h.aside.remove(asideName(id.ino, id.own)); err != nil {
		h.t.log.Warn("what was set aside stays behind until the next start", "err", err)
	}
	if mark, ok := h.referred[id]; ok {
		delete(h.referred, id)
		if err := h.keepReference(id, mark); err != nil {
			h.t.log.Warn("a large file will be captured as a whole", "inode", uint64(id.ino), "err", err)
		}
		h.boundReferences()
	} else if own := h.refs.own(id.ino); own > 0 && own < id.own {
		h.dropReference(id.ino) // it is captured by other means now
	}
	h.mu.Lock()
	h.changes.drop(id)
	h.mu.Unlock()
	if _, ok := h.t.orphans.get(id.ino); ok {
		h.t.reapSoon(id.ino)
	}
}

// unqueue takes a version out of the queue that has no business there.
func (h *history) unqueue(id versionID) error {
	t := h.t
	t.mu.Lock()
	defer t.mu.Unlock()
	v, err := loadVersion(t.db, id.ino, id.own)
	if err == nil && (v.place == placeLive || v.place == placeAside) {
		return nil
	}
	x := t.begin()
	x.b.Delete(spacePending, pendingKey(id.ino, id.own))
	return x.commit()
}

// replace notes that the content of a version is in another place than it was, or nowhere. It reports false where it is not there any more.
func (h *history) replace(id versionID, from, to place8) (bool, error) {
	t := h.t
	t.mu.Lock()
	defer t.mu.Unlock()
	v, err := loadVersion(t.db, id.ino, id.own)
	if err != nil || v.place != from {
		return false, err
	}
	x := t.begin()
	v.place = to
	v.put(&x.b)
	if err := x.commit(); err != nil {
		return false, err
	}
	if to == placeLost {
		t.reapSoon(id.ino)
	}
	return true, nil
}
