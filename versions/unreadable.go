package versions

import (
	"errors"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"sharefs"
)

// spoilt are chunks that are known not to read though a row leads to them. The capture keeps such a chunk anew when it meets with its content
// again, which heals all versions that need it.
type spoilt struct {
	count atomic.Int64 // most of the time 0, and then nobody takes mu
	mu    sync.Mutex   // guards all below
	ids   map[sharefs.ChunkID]struct{}
	told  map[versionID]struct{} // versions that the log has named
}

// Bounds of what is remembered.
const (
	maxSpoilt = 1 << 20
	maxTold   = 1 << 12
)

func (s *spoilt) has(id *sharefs.ChunkID) bool {
	if s.count.Load() == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.ids[*id]
	return ok
}

func (s *spoilt) add(id *sharefs.ChunkID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ids == nil {
		s.ids = map[sharefs.ChunkID]struct{}{}
	}
	if len(s.ids) < maxSpoilt {
		s.ids[*id] = struct{}{}
	}
	s.count.Store(int64(len(s.ids)))
}

// heal tells that a chunk was kept anew.
func (s *spoilt) heal(id *sharefs.ChunkID) {
	if s.count.Load() == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.ids, *id)
	s.count.Store(int64(len(s.ids)))
}

// first reports whether the log has not yet named a version.
func (s *spoilt) first(id versionID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.told[id]; ok || len(s.told) >= maxTold {
		return false
	}
	if s.told == nil {
		s.told = map[versionID]struct{}{}
	}
	s.told[id] = struct{}{}
	return true
}

// damage reports whether an error says that something on the disk is not what was written there, or cannot be read.
func damage(err error) bool {
	return sharefs.KindOf(err) == sharefs.KindCorrupt || errors.Is(err, unix.EIO)
}

// read reads a chunk or node for somebody who reads a version. What does not read is named, with the way out, and the log is told once which
// file it concerns.
func (r *keptReader) read(id sharefs.ChunkID) ([]byte, error) {
	if r.from != nil {
		return r.from(id)
	}
	b, err := r.h.readChunk(id, nil)
	if err == nil || !damage(err) || r.h.t.closed.Load() {
		return b, err
	}
	h, t := r.h, r.h.t
	h.spoilt.add(&id)
	err = &sharefs.Error{Op: "read a version", Kind: sharefs.KindCorrupt, Err: err,
		Detail: "chunk " + id.String() + " cannot be read: sharefs fsck tells what is concerned, sharefs fsck --repair heals what has another copy"}
	if h.spoilt.first(r.id) {
		t.ended.Go(func() {
			names := t.namesOf(map[sharefs.Ino]bool{r.id.ino: true})
			t.log.Error("a version cannot be read whole", "file", names[r.id.ino], "version", h.baseOf(r.id.ino)+r.id.own, "err", err)
		})
	}
	return nil, err
}

// gaveUp reports whether a node of a version's manifest is one that a repair of the store has given up: nothing that it led to can be reached through it.
func (h *history) gaveUp(node *sharefs.ChunkID, of versionID) bool {
	if _, ok, err := h.t.db.Get(spaceChunk, node[:]); ok || err != nil {
		return false
	}
	v, err := loadVersion(h.t.db, of.ino, of.own)
	return err == nil && v.damaged
}
