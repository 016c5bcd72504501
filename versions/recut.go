package versions

import (
	"io"

	"sharefs"
	"sharefs/versions/chunk"
)

// A large file that changed in few places need not be cut anew as a whole: where a chunk of an earlier version begins at a cut, and nothing in it has changed, the
// content has the same chunk there, for a cut depends on nothing but what follows the one before. So the capture takes chunks over from an earlier
// version (and nodes of its manifest, where one begins at the end of one) up to the first change, cuts from the beginning of the chunk that it lies in, and goes on
// taking over at the first cut behind the change that the earlier version has too. The chunks are those that cutting the whole content gives, but near holes that
// changed, where there may be a cut more or less.
//
// Who says what has changed is in capture_part.go. What is taken over is never read, so whoever says that something is the same has to be sure of it.

// basis is an earlier version of a content in packs.
type basis struct {
	top  manifest
	size int64
	// same reports whether a chunk or hole (level 0), or all below a node, is still what it was.
	same func(l located, level uint8) (bool, error)
	// near reports whether there may be a change in the bytes from one offset up to another one; nil: that is not known.
	near func(from, to int64) bool
}

// basisError says that an earlier version cannot be made use of; the content is cut as a whole then.
type basisError struct{ error }

func (e *basisError) Unwrap() error { return e.error }

// recutting is one content at work.
type recutting struct {
	b     *batch
	src   chunk.File
	size  int64
	base  *basis
	walk  walker
	going func(at int64) error
}

// recut is cut for a content of which an earlier version is known. A [basisError] says that this one is of no use. The lease of the batch holds the
// earlier version.
func (b *batch) recut(src chunk.File, size int64, base *basis, going func(at int64) error) (manifest, error) {
	b.readyMaps()
	r := recutting{b: b, src: src, size: size, base: base, going: going}
	r.walk = walker{top: base.top, size: base.size, load: b.h.loadNode}
	for at := int64(0); at < size; {
		l, level, ok, err := r.reusable(at)
		if err != nil {
			return manifest{}, err
		}
		if ok {
			at, err = r.reuse(l, level)
		} else {
			at, err = r.cut(at)
		}
		if err != nil {
			return manifest{}, err
		}
	}
	return b.tools.maps.finish()
}

// reuseStep is what a chunk or node that is taken over counts for, in bytes of work.
const reuseStep = 512

// reuse takes a part of the earlier version over, and returns where it ends.
func (r *recutting) reuse(l located, level uint8) (int64, error) {
	if err := r.b.tools.maps.addTo(int(level), l.span); err != nil {
		return 0, err
	}
	r.b.h.counts.reused.Add(uint64(l.len))
	r.b.pace.step(reuseStep)
	return l.off + l.len, r.going(l.off)
}

// reusable finds the largest part of the earlier version that begins at an offset and can be taken over.
func (r *recutting) reusable(at int64) (found located, level uint8, ok bool, err error) {
	if at >= r.base.size {
		return found, 0, false, nil
	}
	const longest = chunk.MaxLen
	spoilt := r.b.h.spoilt.count.Load() > 0
	found, level, ok, err = r.walk.part(at, func(l located, level uint8) (bool, error) {
		end := l.off + l.len
		switch {
		case end > r.size, end == r.base.size && end != r.size: // the last chunk ends with the content, not at a cut
			return false, nil
		case level > 0 && (!r.b.tools.maps.between(int(level)) || r.base.near != nil && r.base.near(end, end+longest)):
			return false, nil
		case spoilt && (level > 0 || r.b.h.spoilt.has(&l.id)): // it is read, which heals it
			return false, nil
		}
		return r.base.same(l, level)
	})
	if !ok || err != nil || level > 0 || r.base.near == nil {
		return found, level, ok, err
	}
	// A chunk ends before a hole that is long enough, and a hole where it ends: where that may have changed the cut may be another one.
	end := found.off + found.len
	if end < r.base.size && r.base.near(end, end+longest) {
		next, err := r.walk.at(end)
		if err != nil {
			return found, 0, false, &basisError{err}
		}
		ok = !found.hole && !next.hole
	}
	return found, 0, ok, nil
}

// cut cuts from an offset on until the earlier version can be taken over again, and returns where that is.
func (r *recutting) cut(at int64) (int64, error) {
	t := r.b.tools
	t.cutter.ResetAt(r.src, at, r.size, chunk.For(r.size))
	for {
		p, err := t.cutter.Next()
		if err == io.EOF {
			return r.size, nil
		}
		if err != nil {
			return 0, &sourceError{err}
		}
		if err := r.b.piece(&p); err != nil {
			return 0, err
		}
		if err := r.going(p.Off); err != nil {
			return 0, err
		}
		end := p.Off + p.Len
		if _, _, ok, err := r.reusable(end); ok || err != nil {
			return end, err
		}
	}
}

// part returns the largest part of a manifest that begins at an offset and that take accepts: a node, or a chunk or hole (level 0). It is asked for the
// larger ones first. ok is false where none is accepted, or none begins there. Errors are those of take, and a [basisError] for the manifest's.
func (w *walker) part(off int64, take func(l located, level uint8) (bool, error)) (found located, level uint8, ok bool, err error) {
	for w.enter(off); ; {
		last := &w.path[len(w.path)-1]
		if off < last.off || off >= last.end {
			break // at finds out
		}
		found = last.find(off)
		level = w.level()
		if found.hole {
			level = 0
		}
		if found.off == off {
			if ok, err := take(found, level); ok || err != nil {
				return found, level, ok, err
			}
		}
		if level == 0 {
			return found, 0, false, nil
		}
		if err := w.descend(found); err != nil {
			return found, 0, false, &basisError{err}
		}
	}
	_, err = w.at(off)
	if err != nil {
		err = &basisError{err}
	}
	return found, 0, false, err
}

// loadNode reads a node of a manifest.
func (h *history) loadNode(id sharefs.ChunkID, _ uint8) ([]byte, error) { return h.readChunk(id, nil) }
