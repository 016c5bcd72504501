package pack

import (
	"bytes"
	"errors"
	"io"

	"sharefs"
)

// CheckSealed sees that the first size bytes of a pack, wherever they lie, hold nothing that can be read without its key: a header, records each of which opens with the key,
// zeros where records were given back to the disk, an index and a footer. Name is that of the pack below the directory of packs, and says whether it is sealed, so that it ends with a footer.
// Errors: KindCorrupt names what else is there, and where.
func (s *Store) CheckSealed(name string, r io.ReaderAt, size int64) error {
	id, sealed, ok := parseName(name)
	if !ok {
		return damaged("it has not the name of a pack")
	}
	head := make([]byte, packHeaderLen)
	if size < packHeaderLen || size > maxSize {
		return damaged("it is no pack")
	}
	if err := readFull(r, head, 0); err != nil {
		return err
	}
	hdr, err := decodeHeader(head)
	if err != nil {
		return err
	}
	if _, err = s.header(id, head); err != nil {
		return err
	}
	if !bytes.Equal(hdr.encode(), head) {
		return damaged("the header says more than a header does")
	}
	if hdr.Epoch == (Epoch{Number: s.cfg.First.Number}) {
		hdr.Epoch = s.cfg.First
	}
	key, err := s.cfg.Key(hdr.Epoch) // what ciphers are kept for packs of the store says nothing of this one
	if err != nil {
		return &sharefs.Error{Op: "check pack", Path: hdr.ID.String(), Kind: sharefs.KindAccess, Err: errors.Join(ErrNoKey, err)}
	}
	aead := newAEAD(key, &hdr)
	var raw []byte
	for at := int64(packHeaderLen); at < size; {
		head := head[:min(recordHeaderLen, size-at)]
		if err := readFull(r, head, at); err != nil {
			return err
		}
		if n := len(head) - len(bytes.TrimLeft(head, "\x00")); n > 0 {
			at += int64(n)
			continue
		}
		if foot, err := decodeFooter(head[:min(footerLen, len(head))], size); err == nil && at == size-footerLen {
			if !bytes.Equal(foot.encode(), head) {
				return damaged("the footer says more than a footer does")
			}
			return nil
		}
		rec, err := decodeRecord(head)
		n := int64(recordHeaderLen) + int64(rec.sealed)
		if err == nil && at+n > size {
			err = damaged("a record goes beyond the end")
		}
		if err != nil {
			return failed("check", hdr.ID, err)
		}
		raw = sized(raw, int(n))
		if err := readFull(r, raw, at); err != nil {
			return err
		}
		body := raw[recordHeaderLen:]
		if _, err := aead.Open(body[:0], rec.nonce[:], body, raw[:boundLen]); err != nil || !bytes.Equal(raw[boundLen:recordHeaderLen], head[boundLen:]) {
			return failed("check", hdr.ID, errSeal)
		}
		at += n
	}
	if sealed {
		return failed("check", hdr.ID, damaged("it has no end"))
	}
	return nil
}

// parseName reads the name of a pack, one that grows or is sealed.
func parseName(name string) (id ID, sealed, ok bool) {
	if id, ok = ParseID(name[max(0, len(name)-32):]); !ok {
		return id, false, false
	}
	return id, name == id.name(), name == id.name() || name == id.growing()
}
