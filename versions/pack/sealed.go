package pack

import (
	"bytes"
	"io"
)

// CheckSealed sees that the first size bytes of a pack, wherever they lie, hold nothing that can be read without its key: a header, records each of which opens with the key,
// zeros where records were given back to the disk, an index and a footer. Errors: KindCorrupt names what else is there, and where.
func (s *Store) CheckSealed(r io.ReaderAt, size int64) error {
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
	if _, err = s.header(hdr.ID, head); err != nil {
		return err
	}
	if !bytes.Equal(hdr.encode(), head) {
		return damaged("the header says more than a header does")
	}
	if hdr.Epoch == (Epoch{Number: s.cfg.First.Number}) {
		hdr.Epoch = s.cfg.First
	}
	aead, err := s.aead(&hdr)
	if err != nil {
		return err
	}
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
	return nil
}

// CheckSealedName reports whether a file may have this name below the directory of packs: that of one that grows or was sealed, which is made of its id.
func CheckSealedName(name string) bool {
	if len(name) < len("open/")+32 && len(name) != 2+1+32 {
		return false
	}
	id, ok := ParseID(name[len(name)-32:])
	return ok && (name == id.name() || name == id.growing())
}
