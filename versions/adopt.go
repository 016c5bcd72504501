package versions

import (
	"cmp"
	"maps"
	"slices"

	"sharefs"
)

// Span is a part of a content: a chunk, a hole, or, above level 0, a node that is itself a list of spans (manifest.go).
type Span struct {
	Len  uint64 // bytes, not zero
	Hole bool
	ID   sharefs.ChunkID // zero of a hole
}

// Content is a content as it leads to its chunks.
type Content struct {
	Size  uint64 // bytes
	Mtime sharefs.Time
	Level uint8 // 0: the spans are chunks; otherwise nodes of the level below
	Spans []Span
	Key   sharefs.KeyID // of the share key that names chunks and nodes; zero where there are none
}

// Latest is the newest version of an inode's own. The zero value stands for none.
type Latest struct {
	Own     uint64 // its number among those of the inode, from 1
	Kept    bool   // its content is in packs, and Content says where; otherwise it waits for that, or is lost
	Torn    bool   // it may be a mixture of what the file held at several moments
	Content Content
}

// Latest returns the newest of an inode's own versions.
func (t *Tree) Latest(ino sharefs.Ino) (Latest, error) {
	v, err := newestVersion(t.db, ino, noLimit)
	if err != nil || v == nil {
		return Latest{}, err
	}
	l := Latest{Own: v.own, Kept: v.canBeTold(), Torn: v.torn}
	if l.Kept {
		c, err := t.contentOf(v)
		if err != nil {
			return Latest{}, err
		}
		l.Content = *c
		// The row has the time that users see: the one of the making of a file is finer than that of the disk's writes, and it may have been set since.
		if r, err := t.row(ino); err == nil && r.nlink > 0 && !t.hot(ino) && t.past.standing(ino) == nil {
			l.Content.Mtime = r.mtime
		}
	}
	return l, nil
}

// Between lists the contents of an inode's own versions with numbers between two, the oldest first, but of those that wait for capture, are lost or may be a mixture, and of those that the
// file never held ([Tree.Beside]). Of more than most it lists the newest.
func (t *Tree) Between(ino sharefs.Ino, after, before uint64, most int) (list []Content, err error) {
	if before <= after+1 {
		return nil, nil
	}
	var bad error
	err = ownVersions(t.db, ino, before-1, func(v *version) bool {
		if v.own <= after || len(list) >= most {
			return false
		}
		if !v.canBeTold() || v.torn || v.beside {
			return true
		}
		var c *Content
		if c, bad = t.contentOf(v); bad == nil {
			list = append(list, *c)
		}
		return bad == nil
	})
	slices.Reverse(list)
	return list, cmp.Or(err, bad)
}

// canBeTold reports whether all of the content is in packs.
func (v *version) canBeTold() bool { return v.place == placeKept && !v.damaged }

// keyOf returns the id of the share key that names chunks and nodes of a kept version; zero where there are none.
func (t *Tree) keyOf(v *version) (sharefs.KeyID, error) {
	i := slices.IndexFunc(v.top.spans, func(s span) bool { return !s.hole })
	if i < 0 {
		return sharefs.KeyID{}, nil
	}
	if id, ok := t.keys.load().at(v.key); ok {
		return id, nil
	}
	id, _, err := (&keptUnder{h: &t.past}).key(&v.top.spans[i].id) // the row of the keys was lost once
	return id, err
}

// Chunk reads a chunk, or a node of a manifest, in the memory of dst where that is large enough. Errors: KindNotExist: no pack has it; KindCorrupt: it is damaged.
func (t *Tree) Chunk(id sharefs.ChunkID, dst []byte) ([]byte, error) {
	if ok, err := t.past.has(&id); err != nil || !ok {
		if err == nil {
			err = fail("read a chunk", sharefs.KindNotExist)
		}
		return nil, err
	}
	return t.past.readChunk(id, dst)
}

// manifest returns what the content leads to; ok is false where that is no manifest.
func (c *Content) manifest() (top manifest, ok bool) {
	top.level = c.Level
	left := c.Size
	for _, s := range c.Spans {
		if s.Len == 0 || s.Len > left {
			return top, false
		}
		left -= s.Len
		top.spans = append(top.spans, span{int64(s.Len), s.Hole, s.ID})
	}
	return top, left == 0 && c.Size <= 1<<63-1 && len(top.spans) <= topSpans && top.level <= maxLevel && (top.level == 0 || len(top.spans) > 0)
}

// Foreign is a version that another host made.
type Foreign struct {
	Content
	Author sharefs.PeerID
	Onto   sharefs.Ino // the file that it is to be that of, if there is one: what that holds already need not be written; 0: none
}

// Adopt gives a file the content of a version that another host made, and makes it a version of its own here. Base is the number of the newest of the inode's own
// versions that the caller knows, 0 for none: what the file held then stays a version. It returns the number of the new version, which survives power loss after the
// next [Tree.SyncNames]: if the disk loses the content alone, the next start puts it there again. Whoever opens the file sees the old content or the new one, which he may have to wait for; who has it open for reading sees it change as if a program had rewritten it (inplace.go). After an error
// the file holds what it did before, unless the log says otherwise.
//
// What is staged to stay elsewhere makes the file absent, which errors with KindBusy where somebody has it open and it is not absent.
//
// Errors: KindAgain: the file has another version than base, or may be written to: nothing was done; KindInvalid for what is no regular file, and for
// what was staged and has been used.
func (t *Tree) Adopt(ino sharefs.Ino, s *Staged, base uint64) (own uint64, err error) {
	const op = "adopt"
	if err := t.writable(op); err != nil {
		return 0, err
	}
	if !t.refs.add(ino, 1) {
		return 0, stale(ino)
	}
	defer t.Forget(ino, 1)
	r, err := t.row(ino)
	if err != nil {
		return 0, err
	}
	if !r.isRegular() || s.used {
		return 0, fail(op, sharefs.KindInvalid)
	}
	f := t.files.pin(ino)
	defer t.files.unpin(f)
	far := s.absent || r.isAbsent()
	if s.absent {
		own, err = t.past.adoptAbsent(f, s, base)
	} else {
		own, err = t.past.adopt(f, s, base)
	}
	k := t.kernel.Load()
	switch {
	case k == nil:
	case far: // the kernel waits for those who read it, and they for what is elsewhere, which may need who asks for this
		t.ended.Go(func() { (*k).ForgetContent(ino, 0, 0) })
	default: // also of what was rewritten in part
		(*k).ForgetContent(ino, 0, 0)
	}
	return own, err
}

// newForeignReader reads a content that is in packs and has no version yet. Its chunks are on a lease.
func newForeignReader(h *history, top manifest, size int64) *keptReader {
	r := &keptReader{h: h, size: size}
	r.walk = walker{top: top, size: size, load: func(id sharefs.ChunkID, _ uint8) ([]byte, error) { return r.read(id) }}
	h.leases.enter(r)
	return r
}

// adopt replaces what a file at rest holds and makes the result a version that is kept already.
func (h *history) adopt(f *file, s *Staged, base uint64) (own uint64, err error) {
	t := h.t
	f.content.Lock()
	defer f.content.Unlock()
	broken := h.finish(f) // a mixture, which may be replaced as anything else
	if err := t.restNow(f); err != nil {
		return 0, err
	}
	newest, err := newestVersion(t.db, f.ino, noLimit)
	if err != nil {
		return 0, err
	}
	if newest != nil && newest.own != base || newest == nil && base != 0 {
		return 0, again("it has another version")
	}
	if broken == nil && (newest == nil || newest.place == placeLost || newest.timed) {
		st, err := t.statBacking(f.ino)
		if err != nil {
			return 0, err
		}
		if st.Size > 0 { // it would be lost, and nobody knows of it
			if _, err := h.beginNow(f, ""); err != nil {
				return 0, err
			}
			return 0, again("what it holds is no version yet")
		}
	}
	r, err := t.row(f.ino)
	if err != nil {
		return 0, err
	}
	s.used = true
	known, err := h.holdsVersion(f, r, newest)
	if err == nil && s.patch != nil && (broken != nil || !known || newest.own != s.patch.base) {
		err = s.whole()
	}
	if err != nil {
		return 0, err
	}
	told := known
	if !known && newest != nil && newest.place == placeKept && !r.isAbsent() {
		if told, err = h.hasStamp(f.ino, newest); err != nil {
			return 0, err
		}
	}
	a := &adoption{adopting: adopting{base: base, was: r.mtime, author: s.author, size: s.size, mtime: s.mtime, key: s.key.place, top: s.top}}
	emptied := r.isAbsent()
	err = t.armNow(f, changeAll, false, func(x *tx, r *row) error {
		x.killPriv(r, Caller{}) // what another host wrote runs with nobody's rights
		r.mtime = s.mtime
		if emptied { // until the content has its place a start would take the empty file for what somebody left here
			a.holds, a.row = holdsMixture, true
			x.b.Put(spaceAdopting, inoKey(f.ino), a.encode())
			x.after(func(uint64) { h.stand(f.ino, a) })
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	s.by.changes(OpChange{Verb: OpWritten, Ino: f.ino})
	err = func() error {
		defer t.disarm(f)
		f.noteChange(0, endless)
		if emptied {
			if err := h.place("emptied"); err != nil {
				return err
			}
		}
		if s.patch == nil && s.swap(f) {
			a.holds, a.row = holdsTarget, a.row || broken != nil
			if broken != nil { // that goes, and no mixture may be there then
				err = t.live.sync()
			} else if !told { // a start could not tell by its stamp that it is the one before (inplace_undone.go)
				err = t.live.syncName(f.ino)
			}
			if err != nil {
				return failed("sync", err)
			}
			h.stand(f.ino, a)
			return nil
		}
		return h.overwriteLive(f, a, known && broken == nil)
	}()
	return h.adopted(f, a, err)
}

// adopted has a file come to rest that was given another content, or was to be: cause says why it was not.
func (h *history) adopted(f *file, a *adoption, cause error) (own uint64, err error) {
	if !a.row { // nothing finds it out later
		defer h.ended(f.ino, a)
	}
	if cause != nil && h.standing(f.ino) != a {
		return 0, cause // nothing was done
	}
	rests, err := h.rested(f, a)
	switch {
	case cause != nil:
		return 0, cause
	case err != nil:
		return 0, err
	case !rests: // somebody opened it for writing meanwhile: what he leaves is a version of this host
		if err := h.withdraw(f, a); err != nil {
			return 0, err
		}
		return 0, again("somebody opened it for writing meanwhile")
	case a.own == 0:
		return 0, again("it has no name any more")
	}
	return a.own, nil // from then on the live file may change freely, as after a capture
}

// holdsVersion reports whether a file at rest holds just what a version in packs is, as its stamp tells. f.content is held.
func (h *history) holdsVersion(f *file, r *row, v *version) (bool, error) {
	if v == nil || v.place != placeKept || v.timed || v.damaged || v.away || r.isAbsent() {
		return false, nil
	}
	return h.hasStamp(f.ino, v)
}

// hasStamp reports whether a live file has the stamp of a version.
func (h *history) hasStamp(ino sharefs.Ino, v *version) (bool, error) {
	st, err := h.t.statBacking(ino)
	return err == nil && stampOf(&st) == v.stamp(), err
}

// again is the error of what is not as the caller of Adopt knows it to be.
func again(why string) error {
	return &sharefs.Error{Op: "adopt", Kind: sharefs.KindAgain, Detail: why}
}

// foreignAt notes up to which commit the journal has to be synced before an inode may change, and forgets those for which it is. Tree.mu is held.
func (h *history) foreignAt(ino sharefs.Ino, seq uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.foreign) >= h.foreignMost {
		synced := h.t.db.Synced()
		maps.DeleteFunc(h.foreign, func(_ sharefs.Ino, seq uint64) bool { return seq <= synced })
		h.foreignMost = max(1024, 2*len(h.foreign))
	}
	h.foreign[ino] = seq
}

// enter returns the place of an author in the list, to which the change at work adds it. Tree.mu is held.
func (h *history) enter(x *tx, author sharefs.PeerID) (uint64, error) {
	if author.IsZero() {
		return 0, nil
	}
	h.mu.Lock()
	list := h.authors
	h.mu.Unlock()
	if i := slices.Index(list, author); i >= 0 {
		return uint64(i + 1), nil
	}
	list = append(slices.Clip(list), author)
	b := make([]byte, 0, len(list)*len(author))
	for _, id := range list {
		b = append(b, id[:]...)
	}
	x.b.Put(spaceGlobal, globalAuthors, b)
	x.after(func(uint64) {
		h.mu.Lock()
		h.authors = list
		h.mu.Unlock()
	})
	return uint64(len(list)), nil
}
