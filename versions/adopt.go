package versions

import (
	"maps"
	"slices"
	"time"

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
	l := Latest{Own: v.own, Kept: v.place == placeKept && !v.damaged, Torn: v.torn}
	if l.Kept {
		l.Content = Content{Size: v.size, Mtime: v.mtime, Level: v.top.level}
		for _, s := range v.top.spans {
			l.Content.Spans = append(l.Content.Spans, Span{uint64(s.len), s.hole, s.id})
		}
		if l.Content.Key, err = t.keyOf(v); err != nil {
			return Latest{}, err
		}
	}
	return l, nil
}

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

// Chunk reads a chunk, or a node of a manifest. Errors: KindNotExist: no pack has it; KindCorrupt: it is damaged.
func (t *Tree) Chunk(id sharefs.ChunkID) ([]byte, error) {
	if ok, err := t.past.has(&id); err != nil || !ok {
		if err == nil {
			err = fail("read a chunk", sharefs.KindNotExist)
		}
		return nil, err
	}
	return t.past.readChunk(id, nil)
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
}

// Adopt gives a file the content of a version that another host made, and makes it a version of its own here. All of it must be in packs, as [Tree.Gather] sees to:
// Adopt waits for nobody. Base is the number of the newest of the inode's own versions that the caller knows, 0 for none: what the file held then stays a version. It
// returns the number of the new version. Whoever has the file open for reading sees it change as if a program had rewritten it. The version survives power loss after the
// next [Tree.Sync].
//
// Errors: KindAgain: the file has another version than base, or may be written to, or not all of the content is here: nothing was done; KindAccess: the share key of the
// content is not here; KindInvalid for what is no regular file and for a manifest that is none.
func (t *Tree) Adopt(ino sharefs.Ino, foreign Foreign, base uint64) (own uint64, err error) {
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
	top, ok := foreign.manifest()
	if !r.isRegular() || !ok {
		return 0, fail(op, sharefs.KindInvalid)
	}
	key, err := t.keyFor(&foreign.Content)
	if err != nil {
		return 0, err
	}
	h := &t.past
	x := h.leases.take()
	defer x.end() // when the row of the version holds them
	under := keptUnder{h: h}
	if ok, err := under.here(top, key, x); err != nil {
		return 0, err
	} else if !ok {
		return 0, &sharefs.Error{Op: op, Kind: sharefs.KindAgain, Detail: "not all of the content is here"}
	}
	src := newForeignReader(h, top, int64(foreign.Size))
	defer src.Close()
	f := t.files.pin(ino)
	defer t.files.unpin(f)
	own, err = h.adopt(f, src, top, key, foreign, base)
	if k := t.kernel.Load(); k != nil { // also of what was rewritten in part
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

// adopt rewrites a file at rest and makes the result a version that is kept already.
func (h *history) adopt(f *file, src VersionReader, top manifest, key *shareKey, foreign Foreign, base uint64) (own uint64, err error) {
	const op = "adopt"
	t := h.t
	f.content.Lock()
	defer f.content.Unlock()
	if rests, err := t.settleNow(f); err != nil || !rests {
		if err == nil {
			err = fail(op, sharefs.KindAgain)
		}
		return 0, err
	}
	newest, err := newestVersion(t.db, f.ino, noLimit)
	if err != nil {
		return 0, err
	}
	if newest != nil && newest.own != base || newest == nil && base != 0 {
		return 0, fail(op, sharefs.KindAgain)
	}
	if newest == nil || newest.place == placeLost || newest.timed {
		st, err := t.statBacking(f.ino)
		if err != nil {
			return 0, err
		}
		if st.Size > 0 { // it would be lost, and nobody knows of it
			if _, err := h.beginNow(f, ""); err != nil {
				return 0, err
			}
			return 0, fail(op, sharefs.KindAgain)
		}
	}
	err = t.arm(f, changeAll, false, func(_ *tx, r *row) error {
		r.mtime = foreign.Mtime
		return nil
	})
	if err != nil {
		return 0, err
	}
	err = func() error {
		defer t.disarm(f)
		d, err := t.files.use(f, true)
		if err != nil {
			return err
		}
		defer t.files.done(f, d)
		f.noteChange(0, endless)
		if err := fill(d.fd, src); err != nil {
			return err
		}
		return failed("set times", t.live.setTimes(f.ino, sharefs.Time(time.Now().UnixNano()), foreign.Mtime))
	}()
	if err != nil {
		return 0, err
	}
	h.edge.adopting(f.ino, true)
	rests, err := t.settleNow(f)
	h.edge.adopting(f.ino, false)
	if err != nil {
		return 0, err
	}
	if !rests { // somebody opened it for writing meanwhile: what he leaves is a version of this host
		return 0, fail(op, sharefs.KindAgain)
	}
	st, err := t.statBacking(f.ino)
	if err != nil {
		return 0, err
	}
	// From then on the live file may change freely, as after a capture.
	return h.commitAdopted(captured{versionID{f.ino, base}, stampOf(&st), top, key.place}, foreign.Author)
}

// commitAdopted says of the version that a file has just become, which follows the one that c tells, where its content is, and who made it.
func (h *history) commitAdopted(c captured, author sharefs.PeerID) (own uint64, err error) {
	t := h.t
	t.mu.Lock()
	defer t.mu.Unlock()
	v, err := newestVersion(t.db, c.id.ino, noLimit)
	if err != nil {
		return 0, err
	}
	if v == nil || v.own == c.id.own || v.stamp() != c.stamp {
		return 0, fail("adopt", sharefs.KindAgain)
	}
	x := t.begin()
	if v.author, err = h.enter(x, author); err != nil {
		return 0, err
	}
	v.place, v.top, v.key = placeKept, c.top, c.key
	v.put(&x.b)
	x.after(func(seq uint64) { h.foreignAt(c.id.ino, seq) })
	return v.own, x.commit()
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
