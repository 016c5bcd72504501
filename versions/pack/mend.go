package pack

import (
	"crypto/cipher"
	"crypto/rand"

	"sharefs"
)

// Mend makes anew what can be derived of a pack whose own header, index or footer is damaged, and leaves every record where it is: the header
// from the name of the file, index and footer from the records. It reports what it did; none of both: nothing was damaged. Of a pack
// that still grows the index is none of its business. What lay between the last whole record and the damaged index is written over, so
// whoever wants to keep those bytes reads them first ([Store.Raw] from [Store.End] on). Callers see to it that nobody else mends the same pack.
func (s *Store) Mend(id ID) (m Mended, err error) {
	if s.cfg.ReadOnly {
		return m, &sharefs.Error{Op: "mend pack", Path: id.String(), Kind: sharefs.KindReadOnly}
	}
	if s.growsNow(id) != nil {
		return m, nil
	}
	name := s.Where(id)
	f, err := s.cfg.FS.Open(name, true)
	if err != nil {
		return m, failed("open", id, err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return m, failed("read", id, err)
	}
	hdr, damage := s.readHeader(id, f, size)
	if hdr == nil {
		return m, failed("mend", id, damage)
	}
	if damage != nil {
		var ok bool
		if hdr.Epoch, ok = s.epochOf(id, f, size); !ok {
			return m, failed("mend", id, damage)
		}
		if _, err := f.WriteAt(hdr.encode(), 0); err != nil {
			return m, failed("mend", id, err)
		}
		m.Header = true
	}
	aead, err := s.aead(hdr)
	if err != nil {
		return m, err
	}
	if name == id.name() {
		if m.Index, err = s.mendIndex(id, f, aead, size); err != nil {
			return m, failed("mend", id, err)
		}
	}
	if m.Header || m.Index {
		err = f.Sync()
	}
	return m, failedOr(err, "mend", id)
}

// Mended tells what [Store.Mend] did.
type Mended struct{ Header, Index bool }

// mendIndex writes index and footer behind the last whole record where they are damaged. A crash in between leaves them damaged.
func (s *Store) mendIndex(id ID, f File, aead cipher.AEAD, size int64) (bool, error) {
	if _, _, err := s.readIndexAt(f, aead, id, size); err == nil || sharefs.KindOf(err) != sharefs.KindCorrupt {
		return false, err
	}
	c := &active{file: &handle{id: id, file: f, aead: aead}}
	end, _, err := scan(f, size, func(e entry) { c.entries = append(c.entries, e) })
	if err != nil {
		return false, err
	}
	if len(c.entries) == 0 {
		return false, damaged("none of its records can be read")
	}
	rand.Read(c.nonce[:8])
	c.size = end
	s.finish(c)
	if _, err := f.WriteAt(c.buf, end); err != nil {
		return false, err
	}
	return true, f.Truncate(c.size)
}

// End returns where the last whole record of a pack ends, as Mend sees it.
func (s *Store) End(id ID) (int64, error) {
	f, _, err := s.openPlaced(id)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return 0, failed("read", id, err)
	}
	end, _, err := scan(f, size, func(entry) {})
	return end, failedOr(err, "read", id)
}

// epochOf returns the epoch of a pack whose header does not tell: the one under whose key some record of it opens; ok is false where there is none
// among those whose keys are here.
func (s *Store) epochOf(id ID, f File, size int64) (found Epoch, ok bool) {
	scan(f, size, func(e entry) {
		if ok {
			return
		}
		raw := make([]byte, recordHeaderLen+int(e.sealed))
		for _, epoch := range s.epochs() {
			key, err := s.cfg.Key(epoch)
			if err != nil || readFull(f, raw, int64(e.off)) != nil { // an attempt uses them up
				continue
			}
			rec, err := decodeRecord(raw)
			aead := newAEAD(key, &Header{ID: id, Epoch: epoch})
			if err == nil && s.open(aead, &rec, raw, make([]byte, rec.plain)) == nil {
				found, ok = epoch, true
				return
			}
		}
	})
	return found, ok
}

// rescue returns the header of a pack that was left open and whose own is damaged, and writes it anew, if its records open under what its name
// tells; nil if they do not.
func (s *Store) rescue(id ID, f File, size int64) *Header {
	epoch, ok := s.epochOf(id, f, size)
	if !ok {
		return nil
	}
	hdr := &Header{ID: id, Epoch: epoch}
	if _, err := f.WriteAt(hdr.encode(), 0); err != nil {
		return nil
	}
	return hdr
}
