package pack

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"

	"sharefs"
)

// Recover looks at the packs that an earlier process left open: all are cut at their torn tails, and all but one, of the epoch in use, are sealed.
// The first Append does it otherwise.
func (s *Store) Recover() error {
	s.append.Lock()
	defer s.append.Unlock()
	switch {
	case s.closed:
		return errClosed
	case s.cfg.ReadOnly:
		return &sharefs.Error{Op: "recover packs", Kind: sharefs.KindReadOnly}
	}
	return s.takeUp()
}

// takeUp adopts once.
func (s *Store) takeUp() error {
	if s.adopted {
		return nil
	}
	if err := s.adopt(); err != nil {
		return err
	}
	s.adopted = true
	return nil
}

// adopt looks at the packs that an earlier process left open. The longest of the epoch in use that can grow further grows on; the others are
// sealed. What cannot be read at all is set aside under another name, for a person to look at.
func (s *Store) adopt() (err error) {
	names, err := s.cfg.FS.List(openDir)
	if err != nil {
		return &sharefs.Error{Op: "list packs", Path: openDir, Err: err}
	}
	var best *active
	defer func() {
		if err != nil && best != nil {
			best.file.unpin(s)
		}
	}()
	for _, name := range names {
		id, ok := ParseID(name)
		if !ok || s.growsNow(id) != nil {
			continue
		}
		c, whole, err := s.resume(id)
		switch {
		case errors.Is(err, sharefs.KindAccess):
			continue // of an epoch whose key is not here: neither ours to go on with nor to cut
		case errors.Is(err, unix.EIO):
			s.givenUp.Add(1) // its disk fails: what can be read of it is read where it lies, and others take what is new
			continue
		case err != nil:
			return err
		case c == nil:
			continue
		}
		loser := c
		if whole && c.hdr.Epoch == s.use && s.current(s.use) == nil && c.size < s.cfg.Target && (best == nil || best.size < c.size) {
			best, loser = c, best
		}
		if loser != nil {
			s.grows(loser)
			if err := s.seal(loser); err != nil {
				return err
			}
		}
	}
	if best != nil {
		s.grows(best)
	}
	return nil
}

// resume prepares a pack that was left open to be appended to, cut at its torn tail. It returns nil where nothing is left to do:
// the pack was sealed already, or held nothing. whole says that no record before the tail is damaged.
func (s *Store) resume(id ID) (c *active, whole bool, err error) {
	f, err := s.cfg.FS.Open(id.growing(), true)
	if err != nil {
		return nil, false, failed("open", id, err)
	}
	keep := false
	defer func() {
		if !keep {
			f.Close()
		}
	}()
	size, err := f.Size()
	if err != nil {
		return nil, false, failed("open", id, err)
	}
	head := make([]byte, min(size, packHeaderLen))
	if err := readFull(f, head, 0); err != nil {
		return nil, false, failed("read", id, err)
	}
	hdr, err := s.header(id, head)
	if err != nil && sharefs.KindOf(err) == sharefs.KindCorrupt {
		if rescued := s.rescue(id, f, size); rescued != nil {
			hdr, err = *rescued, nil
		}
	}
	if err != nil {
		// A pack whose header never reached the disk holds nothing that was synced.
		if len(bytes.Trim(head, "\x00")) == 0 || size < packHeaderLen {
			return nil, false, s.cfg.FS.Remove(id.growing())
		}
		return nil, false, s.cfg.FS.Rename(id.growing(), id.growing()+".damaged")
	}
	if _, err := readFooter(f, size); err == nil {
		// Killed between the footer and its sync.
		if err := f.Sync(); err != nil {
			return nil, false, failed("seal", id, err)
		}
		if err := s.place(id); err != nil {
			return nil, false, failed("seal", id, err)
		}
		return nil, false, nil
	}
	aead, err := s.aead(&hdr)
	if err != nil {
		return nil, false, err
	}
	c = &active{hdr: hdr, size: packHeaderLen, names: true}
	end, whole, err := scan(f, size, func(e entry) { c.entries = append(c.entries, e) })
	if err != nil {
		return nil, false, failed("read", id, err)
	}
	if len(c.entries) == 0 {
		return nil, false, s.cfg.FS.Remove(id.growing())
	}
	if end < size {
		if err := f.Truncate(end); err != nil {
			return nil, false, failed("cut", id, err)
		}
	}
	if err := f.Sync(); err != nil {
		return nil, false, failed("cut", id, err)
	}
	c.size, c.synced = end, end
	c.gather(nil)
	c.written.Store(end)
	rand.Read(c.nonce[:8])
	c.file = s.replace(&handle{id: id, epoch: hdr.Epoch, file: f, aead: aead})
	keep = true
	return c, whole, nil
}

// scan reads the records of a pack one after the other and returns where the last whole one ends. Past a damaged place it goes on
// at the next record that is whole, and says so: what was cut off by a crash has none behind it. It holds one record in memory
// and reads at most a small multiple of size bytes, whatever the pack holds.
func scan(f File, size int64, emit func(entry)) (end int64, whole bool, err error) {
	head := make([]byte, recordHeaderLen)
	var body []byte
	at := int64(packHeaderLen)
	end, whole = at, true
	for budget := 8 * size; at+recordHeaderLen <= size && budget > 0; {
		if err := readFull(f, head, at); err != nil {
			return end, whole, err
		}
		rec, err := decodeRecord(head)
		ok := err == nil && at+recordHeaderLen+int64(rec.sealed) <= size
		if ok {
			budget -= recordHeaderLen + int64(rec.sealed)
			body = sized(body, int(rec.sealed))
			if err := readFull(f, body, at+recordHeaderLen); err != nil {
				return end, whole, err
			}
			ok = checksum(body) == rec.body
		}
		if !ok {
			next, err := nextHeader(f, at+1, size)
			if err != nil {
				return end, whole, err
			}
			budget -= next - at + resyncLen
			at = next
			continue
		}
		if at != end {
			whole = false
		}
		if rec.typ != typeIndex {
			emit(entry{id: rec.id, off: uint32(at), sealed: rec.sealed, plain: rec.plain, typ: rec.typ, codec: rec.codec})
			end = at + recordHeaderLen + int64(rec.sealed)
		} else if at == end {
			break // an index whose footer did not reach the disk: it is written again
		}
		at += recordHeaderLen + int64(rec.sealed)
	}
	return end, whole, nil
}

// resyncLen is how much nextHeader reads at a time, in bytes.
const resyncLen = 16 << 10

// nextHeader returns where at or after from the next whole record header begins, or size.
func nextHeader(f File, from, size int64) (int64, error) {
	block := make([]byte, resyncLen)
	for from+recordHeaderLen <= size {
		b := block[:min(int64(len(block)), size-from)]
		if err := readFull(f, b, from); err != nil {
			return size, err
		}
		for at := 0; ; at++ {
			i := bytes.Index(b[at:], []byte(recordMagic))
			if i < 0 || at+i+recordHeaderLen > len(b) {
				break
			}
			at += i
			if _, err := decodeRecord(b[at:]); err == nil {
				return from + int64(at), nil
			}
		}
		from += int64(len(b)-recordHeaderLen) + 1
	}
	return size, nil
}

func readFooter(f File, size int64) (footer, error) {
	if size < packHeaderLen+footerLen {
		return footer{}, damaged("the pack has no footer")
	}
	b := make([]byte, footerLen)
	if err := readFull(f, b, size-footerLen); err != nil {
		return footer{}, err
	}
	return decodeFooter(b, size)
}

func decodeEntry(b []byte) (e entry) {
	copy(e.id[:], b)
	e.off = binary.BigEndian.Uint32(b[32:])
	e.sealed = binary.BigEndian.Uint32(b[36:])
	e.plain = binary.BigEndian.Uint32(b[40:])
	e.typ, e.codec = Type(b[44]), Codec(b[45])
	return e
}
