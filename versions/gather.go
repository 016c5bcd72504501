package versions

import (
	"errors"
	"slices"

	"sharefs"
	"sharefs/versions/pack"
)

// Source is where chunks come from that are not here, as other hosts. Of is the place of a content among those that were asked for: who may see
// what goes by the version and not by the chunk.
type Source interface {
	// Want tells of chunks that Get will be asked for soon, in this order, unless another of the same content could not be had. It does not wait for them.
	Want(of int, ids ...sharefs.ChunkID)
	// Get returns a chunk, as a rule one that Want told of. Whoever sent one that good does not hold to be it is not to be asked again.
	Get(of int, id sharefs.ChunkID, good func(data []byte) bool) ([]byte, error)
}

// Checked is a [Source] of which Get returns nothing but what [Tree.CheckChunk] holds to be the chunk, under the key of the content. It is not hashed once more.
type Checked interface {
	Checked()
}

// Watcher is a [Source] that is told how far contents are.
type Watcher interface {
	// Reached says that all of a content is here up to some byte.
	Reached(of int, upTo uint64)
}

// Lease keeps chunks that no version leads to yet, and files that were filled ahead, until End.
type Lease struct {
	x     *lease
	ahead []*filling
}

// End gives the chunks free. It may be called again.
func (l *Lease) End() {
	if l != nil && l.x != nil {
		for _, f := range l.ahead {
			f.t.past.filled.remove(f)
		}
		l.x.end()
		l.x, l.ahead = nil, nil
	}
}

// Gather puts those chunks of some contents into packs that no pack has, and keeps them all on a lease, also those that were here. It holds no lock while it
// waits for the source. One content that cannot be had keeps none of the others back: errs tells of each, nil where all of it is here and survives power loss, otherwise
// what the source said, KindInvalid for what is no content, KindAccess where its share key is not here, or KindCorrupt for a node that leads nowhere. What was put into packs of it stays there
// for the next time, as long as the lease lasts. Err tells of a failure of the store; then the contents have to be gathered again.
func (t *Tree) Gather(list []Content, src Source) (l *Lease, errs []error, err error) {
	return t.gather(list, src, false, nil, nil)
}

// GatherToStage is Gather for contents that [Tree.Stage] will be asked for: it fills the files of large ones with what comes, so that Stage finds them made. The lease keeps them.
func (t *Tree) GatherToStage(list []Content, src Source) (l *Lease, errs []error, err error) {
	return t.gather(list, src, true, nil, nil)
}

// GatherSome is GatherToStage that leaves the chunks of some contents where they are, and brings the nodes alone that lead to them. Of those that are to replace what a file here holds it
// fills the file only as long as all is new: what is here already is most likely what that file has, and then Stage does with less. Shell and instead may be nil.
func (t *Tree) GatherSome(list []Content, shell, instead func(i int) bool, src Source) (l *Lease, errs []error, err error) {
	return t.gather(list, src, true, shell, instead)
}

func (t *Tree) gather(list []Content, src Source, stage bool, shell, instead func(i int) bool) (l *Lease, errs []error, err error) {
	const op = "fetch"
	if err := t.writable(op); err != nil {
		return nil, nil, err
	}
	h := &t.past
	g := gathering{
		batch: h.newBatch(&tools{}), src: src, under: keptUnder{h: h}, names: t.keys.namers(),
		tops: make([]manifest, len(list)), errs: make([]error, len(list)), keys: make([]*shareKey, len(list)), files: make([]*filling, len(list)), shell: make([]bool, len(list)),
	}
	g.watcher, _ = src.(Watcher)
	_, g.checked = src.(Checked)
	for i := range list {
		top, ok := list[i].manifest()
		if !ok {
			g.errs[i] = fail(op, sharefs.KindInvalid)
			continue
		}
		g.tops[i] = top
		g.keys[i], g.errs[i] = t.keyFor(&list[i])
		g.shell[i] = shell != nil && shell(i)
		if g.errs[i] == nil && stage && !g.shell[i] {
			if g.files[i] = t.fillAhead(top, g.keys[i], int64(list[i].Size)); g.files[i] != nil && instead != nil && instead(i) {
				g.files[i].most = 0
			}
		}
	}
	err = g.run()
	g.told.release()
	if err == nil {
		err = g.flush()
	}
	l = &Lease{x: g.lease}
	for i, f := range g.files {
		if f.end(err == nil && g.errs[i] == nil) {
			l.ahead = append(l.ahead, f)
		}
	}
	if err != nil {
		l.End()
		return nil, nil, err
	}
	return l, g.errs, nil
}

// Here reports whether all of a content is in packs. Unless it is on a lease or has a version, it may be gone at once.
func (t *Tree) Here(c *Content) (bool, error) { return t.isHere(c, keptUnder{h: &t.past}) }

func (t *Tree) isHere(c *Content, under keptUnder) (bool, error) {
	top, ok := c.manifest()
	if !ok {
		return false, nil
	}
	key, err := t.keyFor(c)
	if err != nil {
		return false, nil
	}
	_, ok, err = under.here(top, key, nil)
	return ok, err
}

// keyFor returns the key of a content; of one without chunks that is the first. It errors with KindAccess where the key is not here, and with KindInvalid where none is named.
func (t *Tree) keyFor(c *Content) (*shareKey, error) {
	now := t.keys.load()
	if !slices.ContainsFunc(c.Spans, func(s Span) bool { return !s.Hole }) {
		return now.first, nil
	}
	if c.Key == (sharefs.KeyID{}) {
		return nil, &sharefs.Error{Op: "fetch", Kind: sharefs.KindInvalid, Detail: "a content that does not say which share key its chunks are of"}
	}
	k := now.byID[c.Key]
	if k == nil {
		return nil, &sharefs.Error{Op: "fetch", Kind: sharefs.KindAccess, Detail: "its share key is not here: " + c.Key.String()}
	}
	return k, nil
}

// keptUnder tells under which share keys chunks are kept here. For one goroutine.
type keptUnder struct {
	h     *history
	of    map[pack.ID]sharefs.KeyID
	whole map[branch]weight // of what here has gone through
	shell bool              // of chunks nothing is asked, only of the nodes that lead to them
}

// branch is a node of a content, with all that it leads to. It may be in there any number of times: what other hosts say is gone through once for each branch, or a few nodes
// that lead to each other many times over would keep who does it busy for ever.
type branch struct {
	span
	level uint8
}

// weight is what a content comes to.
type weight struct {
	nodes uint64 // each as often as it is in there; at most nodesMost
	data  uint64 // bytes that are in chunks, and no hole
}

const nodesMost = 1 << 60

// real reports whether a content has no more nodes than one that was cut: a chunk has many bytes, and a node several chunks.
func (w weight) real() bool { return w.nodes <= 1024+w.data/256 }

// here is Here for a manifest, of which it puts all chunks on a lease unless that is nil. It returns what the content comes to.
func (u *keptUnder) here(top manifest, key *shareKey, x *lease) (w weight, ok bool, err error) {
	for i := range top.spans {
		s := &top.spans[i]
		if s.hole {
			continue
		}
		at := branch{*s, top.level}
		below, known := u.whole[at]
		if !known && u.shell && top.level == 0 {
			below = weight{data: uint64(s.len)}
		} else if !known {
			if x != nil {
				x.add(&s.id)
			}
			if ok, err := u.has(&s.id, key); err != nil || !ok {
				return w, false, err
			}
			if below = (weight{data: uint64(s.len)}); top.level > 0 {
				spans, err := u.h.node(s)
				if errors.Is(err, sharefs.KindCorrupt) { // as if it was not here: whoever gathers it says what is wrong
					return w, false, nil
				}
				if err != nil {
					return w, false, err
				}
				if below, ok, err = u.here(manifest{top.level - 1, spans}, key, x); err != nil || !ok {
					return w, false, err
				}
				if u.whole == nil {
					u.whole = map[branch]weight{}
				}
				below.nodes++
				u.whole[at] = below
			}
		}
		w.nodes, w.data = min(w.nodes+below.nodes, nodesMost), w.data+below.data
	}
	return w, true, nil
}

// all makes sure that a manifest leads to a content all of which is here, and puts its chunks on a lease. It returns how many bytes are in chunks. Errors: KindAgain: not all of it
// is here; KindInvalid: it is not what a file can hold.
func (u *keptUnder) all(op string, top manifest, key *shareKey, x *lease) (data uint64, err error) {
	w, ok, err := u.here(top, key, x)
	switch {
	case err != nil:
		return 0, err
	case !ok:
		return 0, &sharefs.Error{Op: op, Kind: sharefs.KindAgain, Detail: "not all of the content is here"}
	case !w.real():
		return 0, &sharefs.Error{Op: op, Kind: sharefs.KindInvalid, Detail: "the content has more nodes than any file: whoever made it meant harm"}
	}
	return w.data, nil
}

// has reports whether a pack has a chunk and nothing is known against it.
func (h *history) has(id *sharefs.ChunkID) (bool, error) {
	_, ok, err := h.t.db.Get(spaceChunk, id[:])
	return ok && !h.spoilt.has(id), failed("look for a chunk", err)
}

// has reports whether a pack has a chunk, under some share key, and nothing is known against it. Of the other keys, which may name other content so, it is none:
// a version is of one key.
func (u *keptUnder) has(id *sharefs.ChunkID, key *shareKey) (bool, error) {
	if u.h.spoilt.has(id) {
		return false, nil
	}
	got, ok, err := u.key(id)
	if err == nil {
		return ok && got == key.id, nil
	}
	switch sharefs.KindOf(err) {
	case sharefs.KindCorrupt, sharefs.KindNotExist:
		u.h.spoilt.add(id)
		return false, nil
	case sharefs.KindUnreachable: // the bucket has the pack, and does not answer
		return true, nil
	}
	return false, err
}

// key returns the share key under which a chunk is kept; ok is false where none is.
func (u *keptUnder) key(id *sharefs.ChunkID) (key sharefs.KeyID, ok bool, err error) {
	var before pack.Loc
	var cause error
	for {
		row, ok, err := u.h.t.db.Get(spaceChunk, id[:])
		if err != nil || !ok {
			return key, false, failed("look for a chunk", err)
		}
		loc, err := pack.ParseLoc(row)
		if err != nil {
			return key, false, err
		}
		if cause != nil && loc == before {
			return key, false, cause
		}
		if key, ok := u.of[loc.Pack]; ok {
			return key, true, nil
		}
		// A pack that is gone was rewritten since the row was read.
		e, err := u.h.packs.EpochOf(loc.Pack)
		if err == nil {
			if u.of == nil {
				u.of = map[pack.ID]sharefs.KeyID{}
			}
			u.of[loc.Pack] = e.Key
			return e.Key, true, nil
		}
		before, cause = loc, err
	}
}

// node reads a node of a manifest.
func (h *history) node(s *span) ([]span, error) {
	data, err := h.readChunk(s.id, nil)
	if err != nil {
		return nil, err
	}
	spans, ok := decodeSpans(data, s.len)
	if !ok {
		return nil, &sharefs.Error{Op: "fetch", Kind: sharefs.KindCorrupt, Detail: "a node of a manifest is damaged"}
	}
	return spans, nil
}
