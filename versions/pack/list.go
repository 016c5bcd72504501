package pack

import (
	"strings"

	"sharefs"
)

// Info is what the file of a pack tells without being read.
type Info struct {
	ID     ID
	Sealed bool  // it lies in its lasting place: nothing is appended any more
	Size   int64 // length, bytes
	Held   int64 // bytes that it takes on the disk: less than its length where some were given back
	Remote bool  // it lies elsewhere, and what is here of it is a copy of some parts (see Remote)
}

// Each calls fn for the packs in the store, one directory after the other, until it returns false. A pack that is sealed meanwhile may come
// twice, one that is removed may come still. It opens each file for a moment.
func (s *Store) Each(fn func(Info) bool) error {
	dirs, err := s.cfg.FS.List(".")
	if err != nil {
		return &sharefs.Error{Op: "list packs", Err: err}
	}
	for _, dir := range dirs {
		if dir != openDir && len(dir) != 2 {
			continue
		}
		names, err := s.cfg.FS.List(dir)
		if err != nil {
			return &sharefs.Error{Op: "list packs", Path: dir, Err: err}
		}
		for _, name := range names {
			id, ok := ParseID(name)
			if !ok || dir != openDir && !strings.HasPrefix(name, dir) {
				continue
			}
			info := Info{ID: id, Sealed: dir != openDir}
			if err := s.measure(&info, dir+"/"+name); isNotExist(err) {
				continue
			} else if err != nil {
				return failed("look at", id, err)
			}
			if !fn(info) {
				return nil
			}
		}
	}
	return nil
}

// Stat tells of one sealed pack.
func (s *Store) Stat(id ID) (Info, error) {
	info := Info{ID: id, Sealed: true}
	if err := s.measure(&info, id.name()); err != nil {
		return info, failed("look at", id, err)
	}
	return info, nil
}

// holder is a [File] that knows what it takes on the disk.
type holder interface{ Held() (int64, error) }

func (s *Store) measure(info *Info, name string) error {
	f, err := s.cfg.FS.Open(name, false)
	if err != nil {
		return err
	}
	defer f.Close()
	if info.Size, err = f.Size(); err != nil {
		return err
	}
	info.Remote = isRemote(f)
	info.Held = info.Size
	if h, ok := f.(holder); ok {
		held, err := h.Held()
		if err != nil {
			return err
		}
		if info.Held = held; !info.Remote {
			info.Held = min(held, info.Size) // the last block may be longer than the file
		}
	}
	return nil
}

// Growing returns the pack of the epoch in use that records are appended to and its length, with what is not written yet; ok is false where there is none.
func (s *Store) Growing() (id ID, size int64, ok bool) {
	s.append.Lock()
	defer s.append.Unlock()
	c := s.current(s.use)
	if c == nil {
		return id, 0, false
	}
	return c.hdr.ID, c.size, true
}

// SyncGrowing is [Store.Sync], and returns the lengths of the packs that records are appended to, all of which survives power loss.
func (s *Store) SyncGrowing() (map[ID]int64, error) {
	s.append.Lock()
	defer s.append.Unlock()
	if err := s.syncLocked(); err != nil {
		return nil, err
	}
	sizes := map[ID]int64{}
	for _, c := range s.cur {
		sizes[c.hdr.ID] = c.size
	}
	return sizes, nil
}

// Seal seals the pack of the epoch in use that grows, whatever its length, so that it can be looked through as the others are; the next record begins another one.
// Without one it does nothing. An error is that of [Store.Sync].
func (s *Store) Seal() error {
	s.append.Lock()
	defer s.append.Unlock()
	c := s.current(s.use)
	if c == nil || s.closed {
		return nil
	}
	return s.seal(c)
}
