package pack

// Intact reads a record back and opens its seal, and does not expand it: nil says that it is what was sealed.
func (s *Store) Intact(r Record) error {
	return s.withSealed(r, func(*Epoch, *recordHeader, []byte) error { return nil })
}

// Copy appends a record of another pack to the one of its epoch that grows and returns its new place: by the epoch of its pack a record's name is checked. It is sealed anew, for each pack has a key of its own,
// and its body stays compressed as it is. Errors are those of [Store.Read] and [Store.Append].
func (s *Store) Copy(r Record) (loc Loc, err error) {
	err = s.withSealed(r, func(e *Epoch, rec *recordHeader, body []byte) error {
		loc, err = s.appendBody(e, rec.typ, rec.codec, rec.id, body, int(rec.plain), false)
		return err
	})
	return loc, err
}

// withSealed calls fn with the epoch of a record's pack, the header of the record and its body as it was sealed, compressed where it is.
func (s *Store) withSealed(r Record, fn func(e *Epoch, rec *recordHeader, body []byte) error) error {
	h, err := s.pin(r.Loc.Pack)
	if err != nil {
		return err
	}
	defer h.unpin(s)
	if err := s.settled(r.Loc); err != nil {
		return err
	}
	began := false
	read := func() error {
		return s.sealedAt(h, r, func(rec *recordHeader, body []byte) error {
			began = true
			return fn(&h.epoch, rec, body)
		})
	}
	if err = read(); !began && distrusted(h.file, r.Loc, err) {
		err = read()
	}
	return err
}

// sealedAt is withSealed for an open pack.
func (s *Store) sealedAt(h *handle, r Record, fn func(rec *recordHeader, body []byte) error) error {
	scratch := s.bufs.Get().(*[]byte)
	defer s.bufs.Put(scratch)
	raw := sized(*scratch, recordHeaderLen+int(r.Loc.Sealed))
	*scratch = raw
	if err := readFull(h.file, raw, int64(r.Loc.Off)); err != nil {
		return failed("read", r.Loc.Pack, err)
	}
	rec, err := decodeRecord(raw)
	if err != nil {
		return failed("read", r.Loc.Pack, err)
	}
	if rec.id != r.ID || rec.sealed != r.Loc.Sealed || rec.plain != r.Loc.Plain || rec.typ == typeIndex {
		return failed("read", r.Loc.Pack, damaged("another record lies at the chunk's place"))
	}
	sealed := raw[recordHeaderLen:]
	body, err := h.aead.Open(sealed[:0], rec.nonce[:], sealed, raw[:boundLen])
	if err != nil {
		return failed("read", r.Loc.Pack, errSeal)
	}
	return fn(&rec, body)
}
