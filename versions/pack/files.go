package pack

import (
	"crypto/cipher"

	"sharefs"
)

// maxOpen bounds the packs that are open for reading at a time.
const maxOpen = 64

// handle is an open pack, shared by its readers and closed when it has left the ring and the last of them is done.
type handle struct {
	id    ID
	epoch Epoch
	file  File
	aead  cipher.AEAD

	// guarded by Store.mu
	users int  // readers at work, and the writer
	used  bool // since the hand passed (second-chance replacement)
	out   bool // left the ring: the last user closes
}

// drop takes the handle out of use; Store.mu is held.
func (h *handle) drop() {
	h.out = true
	if h.users == 0 {
		h.file.Close()
	}
}

func (h *handle) unpin(s *Store) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.users--
	if h.out && h.users == 0 {
		h.file.Close()
	}
}

// pin returns the open pack; the caller unpins it.
func (s *Store) pin(id ID) (*handle, error) {
	s.mu.Lock()
	if s.files == nil {
		s.mu.Unlock()
		return nil, errClosed
	}
	if h := s.files[id]; h != nil {
		h.users++
		h.used = true
		s.mu.Unlock()
		return h, nil
	}
	s.mu.Unlock()
	f, err := s.openFile(id)
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	if err != nil {
		f.Close()
		return nil, failed("open", id, err)
	}
	hdr, err := s.readHeader(id, f, size)
	if hdr != nil {
		err = nil // damaged or not: what its records are sealed with is known
	}
	var aead cipher.AEAD
	if err == nil {
		aead, err = s.aead(hdr)
	}
	if err != nil {
		f.Close()
		return nil, failed("open", id, err)
	}
	return s.share(&handle{id: id, epoch: hdr.Epoch, file: f, aead: aead}), nil
}

var errClosed = &sharefs.Error{Op: "packs", Kind: sharefs.KindInvalid, Detail: "the packs are closed"}

// share puts a handle into the ring, pinned once, unless another goroutine was faster: then that one's is returned.
func (s *Store) share(h *handle) *handle {
	s.mu.Lock()
	defer s.mu.Unlock()
	if other := s.files[h.id]; other != nil {
		h.file.Close()
		other.users++
		other.used = true
		return other
	}
	if _, ok := s.gone[h.id]; ok { // removed since it was opened: kept open it would hold its room
		h.users, h.out = 1, true
		return h
	}
	return s.enter(h)
}

// replace is share for the writer's handle: that of a reader, which cannot write, makes way for it.
func (s *Store) replace(h *handle) *handle {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetPack(h.id)
	return s.enter(h)
}

// enter puts a handle into the ring, pinned once; s.mu is held.
func (s *Store) enter(h *handle) *handle {
	h.users, h.used = 1, true
	if s.files == nil { // closed meanwhile: the last user closes the file
		h.out = true
		return h
	}
	for tries := 0; len(s.ring) >= maxOpen && tries < 2*maxOpen; tries++ {
		s.hand %= len(s.ring)
		old := s.ring[s.hand]
		if old.used || old.users > 0 {
			old.used = false
			s.hand++
			continue
		}
		s.forget(s.hand)
	}
	s.files[h.id] = h
	s.ring = append(s.ring, h)
	return h
}

// forget takes the handle at a place of the ring out of use; s.mu is held.
func (s *Store) forget(i int) {
	h := s.ring[i]
	s.ring[i] = s.ring[len(s.ring)-1]
	s.ring = s.ring[:len(s.ring)-1]
	delete(s.files, h.id)
	h.drop()
}

// forgetPack takes a pack's handle out of use; s.mu is held.
func (s *Store) forgetPack(id ID) {
	for i, h := range s.ring {
		if h.id == id {
			s.forget(i)
			return
		}
	}
}

// openFile opens a pack for reading where it lies: sealed, or growing. It looks a second time for a sealed one, for it may have been
// sealed between the first look and the second.
func (s *Store) openFile(id ID) (File, error) {
	var err error
	for _, name := range []string{id.name(), id.growing(), id.name()} {
		var f File
		if f, err = s.cfg.FS.Open(name, false); err == nil {
			return f, nil
		}
		if !isNotExist(err) {
			break
		}
	}
	return nil, failed("open", id, err)
}

// failed names the pack in an error. A pack that is not there is corruption: something points to it.
func failed(op string, id ID, err error) error {
	kind := sharefs.KindOf(err)
	if isNotExist(err) {
		kind = sharefs.KindCorrupt
	}
	return &sharefs.Error{Op: op + " pack", Path: id.String(), Kind: kind, Err: err}
}
