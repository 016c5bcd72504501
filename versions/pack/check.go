package pack

import (
	"crypto/cipher"
	"slices"
	"strings"

	"sharefs"
)

// Record describes one record of a pack.
type Record struct {
	Loc  Loc
	Type Type
	ID   sharefs.ChunkID
}

// Packs lists the packs in the store, sealed and growing ones, in the order of their ids.
func (s *Store) Packs() ([]ID, error) {
	dirs, err := s.cfg.FS.List(".")
	if err != nil {
		return nil, &sharefs.Error{Op: "list packs", Err: err}
	}
	var all []ID
	for _, dir := range dirs {
		if dir != openDir && len(dir) != 2 {
			continue
		}
		names, err := s.cfg.FS.List(dir)
		if err != nil {
			return nil, &sharefs.Error{Op: "list packs", Path: dir, Err: err}
		}
		for _, name := range names {
			if id, ok := ParseID(name); ok && (dir == openDir || strings.HasPrefix(name, dir)) {
				all = append(all, id)
			}
		}
	}
	slices.SortFunc(all, func(a, b ID) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(all), nil
}

// Index lists the records of a pack in the order in which they lie: from the index of a sealed pack, by reading the whole of
// one that grows or whose index is damaged.
func (s *Store) Index(id ID) ([]Record, error) {
	h, err := s.pin(id)
	if err != nil {
		return nil, err
	}
	defer h.unpin(s)
	if err := s.settled(Loc{Pack: id, Off: maxSize}); err != nil {
		return nil, err
	}
	size, err := h.file.Size()
	if err != nil {
		return nil, failed("read", id, err)
	}
	records, err := s.readIndex(h, size)
	if err == nil || sharefs.KindOf(err) == sharefs.KindUnreachable {
		return records, failedOr(err, "read", id)
	}
	records = nil
	_, _, err = scan(h.file, size, func(e entry) { records = append(records, e.record(id)) })
	if err != nil {
		return nil, failed("read", id, err)
	}
	return records, nil
}

func (e *entry) record(id ID) Record {
	return Record{Loc: Loc{Pack: id, Off: e.off, Sealed: e.sealed, Plain: e.plain}, Type: e.typ, ID: e.id}
}

// readIndex reads the index at the end of a sealed pack.
func (s *Store) readIndex(h *handle, size int64) ([]Record, error) {
	records, _, err := s.readIndexAt(h.file, h.aead, h.id, size)
	return records, err
}

// readIndexAt is readIndex that tells also where the index begins, which is where the records end.
func (s *Store) readIndexAt(f File, aead cipher.AEAD, id ID, size int64) (records []Record, at int64, err error) {
	foot, err := readFooter(f, size)
	if err != nil {
		return nil, 0, err
	}
	raw := make([]byte, foot.length)
	if err := readFull(f, raw, int64(foot.index)); err != nil {
		return nil, 0, err
	}
	rec, err := decodeRecord(raw)
	if err != nil {
		return nil, 0, err
	}
	if rec.typ != typeIndex || uint64(rec.plain) != uint64(foot.records)*indexEntryLen || int(rec.sealed) != len(raw)-recordHeaderLen ||
		uint64(foot.records)*(recordHeaderLen+tagLen) > foot.index {
		return nil, 0, damaged("the index does not fit the footer")
	}
	body := make([]byte, rec.plain)
	if err := s.open(aead, &rec, raw, body); err != nil {
		return nil, 0, err
	}
	records = make([]Record, 0, foot.records)
	for ; len(body) > 0; body = body[indexEntryLen:] {
		e := decodeEntry(body)
		records = append(records, e.record(id))
	}
	return records, int64(foot.index), nil
}

// Verify reads every record of a pack back and opens its seal. For each that does not read it calls bad, as for a record that the
// index lists and that is not there; what cannot be named at all is reported with a zero id.
func (s *Store) Verify(id ID, bad func(Record, error)) error {
	_, err := s.Examine(id, func(Epoch, Record, []byte) error { return nil }, func(b BadRecord) { bad(b.Record, b.Err) })
	return err
}
