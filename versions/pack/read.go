package pack

import (
	"crypto/cipher"
	"io"

	"sharefs"
)

// Read returns the plain body of the record at loc in dst's memory where it is large enough. The record must be the one of
// chunk id. What was read back is not what was written: an error of kind corrupt.
func (s *Store) Read(loc Loc, id sharefs.ChunkID, dst []byte) ([]byte, error) {
	if loc.Off < packHeaderLen || loc.Sealed < tagLen || loc.Plain > MaxPlain || loc.Sealed-tagLen > loc.Plain {
		return nil, damaged("a location is impossible")
	}
	h, err := s.pin(loc.Pack)
	if err != nil {
		return nil, err
	}
	defer h.unpin(s)
	if err := s.settled(loc); err != nil {
		return nil, err
	}
	out, err := s.readAt(h.file, h.aead, loc, id, dst)
	if distrusted(h.file, loc, err) {
		out, err = s.readAt(h.file, h.aead, loc, id, dst)
	}
	return out, err
}

// readAt is Read from a file.
func (s *Store) readAt(f io.ReaderAt, aead cipher.AEAD, loc Loc, id sharefs.ChunkID, dst []byte) ([]byte, error) {
	scratch := s.bufs.Get().(*[]byte)
	defer s.bufs.Put(scratch)
	raw := sized(*scratch, recordHeaderLen+int(loc.Sealed))
	*scratch = raw
	if err := readFull(f, raw, int64(loc.Off)); err != nil {
		return nil, failed("read", loc.Pack, err)
	}
	rec, err := decodeRecord(raw)
	if err != nil {
		return nil, failed("read", loc.Pack, err)
	}
	if rec.id != id || rec.sealed != loc.Sealed || rec.plain != loc.Plain {
		return nil, failed("read", loc.Pack, damaged("another record lies at the chunk's place"))
	}
	dst = sized(dst, int(loc.Plain))
	err = s.open(aead, &rec, raw, dst)
	if err == errSeal {
		// The attempt has used the body up: it is looked at once more.
		if err := readFull(f, raw, int64(loc.Off)); err != nil {
			return nil, failed("read", loc.Pack, err)
		}
		err = damaged("a record was changed on disk")
		if checksum(raw[recordHeaderLen:]) == rec.body {
			err = damaged("a seal does not open though its checksum is right: another key, or forged")
		}
	}
	if err != nil {
		return nil, failed("read", loc.Pack, err)
	}
	return dst, nil
}

// errSeal says that a record is not what was sealed.
var errSeal = damaged("a seal does not open")

// open unseals and expands the record in raw (header and sealed body) into dst, which has the plain length. raw is used up.
func (s *Store) open(aead cipher.AEAD, rec *recordHeader, raw, dst []byte) error {
	bound, body := raw[:boundLen], raw[recordHeaderLen:]
	into := dst[:0]
	if rec.codec == Zstd {
		into = body[:0]
	}
	packed, err := aead.Open(into, rec.nonce[:], body, bound)
	if err != nil {
		return errSeal
	}
	if rec.codec == Zstd {
		return s.codecs.expand(dst, packed)
	}
	return nil
}

// settled makes sure that the record at loc has reached its file.
func (s *Store) settled(loc Loc) error {
	end := int64(loc.Off) + recordHeaderLen + int64(loc.Sealed)
	if w := s.growsNow(loc.Pack); w == nil || end <= w.written.Load() {
		return nil
	}
	s.append.Lock()
	defer s.append.Unlock()
	if w := s.growsNow(loc.Pack); w != nil {
		return s.flush(w)
	}
	return nil
}

// sized returns b with length n, in its memory where that is large enough.
func sized(b []byte, n int) []byte {
	if cap(b) >= n {
		return b[:n]
	}
	return make([]byte, n)
}

// readFull reads exactly len(b) bytes; fewer are corruption.
func readFull(f io.ReaderAt, b []byte, off int64) error {
	n, err := f.ReadAt(b, off)
	switch {
	case n == len(b):
		return nil
	case err == nil || err == io.EOF:
		return damaged("the pack ends too early")
	}
	return err
}
