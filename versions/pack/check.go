package pack

import (
	"cmp"
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
	if records, err := s.readIndex(h, size); err == nil {
		return records, nil
	}
	var records []Record
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
	foot, err := readFooter(h.file, size)
	if err != nil {
		return nil, err
	}
	raw := make([]byte, foot.length)
	if err := readFull(h.file, raw, int64(foot.index)); err != nil {
		return nil, err
	}
	rec, err := decodeRecord(raw)
	if err != nil {
		return nil, err
	}
	if rec.typ != typeIndex || uint64(rec.plain) != uint64(foot.records)*indexEntryLen || int(rec.sealed) != len(raw)-recordHeaderLen ||
		uint64(foot.records)*(recordHeaderLen+tagLen) > foot.index {
		return nil, damaged("the index does not fit the footer")
	}
	body := make([]byte, rec.plain)
	if err := s.open(h.aead, &rec, raw, body); err != nil {
		return nil, err
	}
	records := make([]Record, 0, foot.records)
	for ; len(body) > 0; body = body[indexEntryLen:] {
		e := decodeEntry(body)
		records = append(records, e.record(h.id))
	}
	return records, nil
}

// Verify reads every record of a pack back and opens its seal. For each that does not read it calls bad, as for a record that the
// index lists and that is not there; what cannot be named at all is reported with a zero record.
func (s *Store) Verify(id ID, bad func(Record, error)) error {
	records, err := s.Index(id)
	if err != nil {
		return err
	}
	slices.SortFunc(records, func(a, b Record) int { return cmp.Compare(a.Loc.Off, b.Loc.Off) })
	var buf []byte
	end := int64(packHeaderLen)
	for _, r := range records {
		if int64(r.Loc.Off) > end {
			bad(Record{}, damaged("bytes that are no record"))
		}
		end = int64(r.Loc.Off) + recordHeaderLen + int64(r.Loc.Sealed)
		b, err := s.Read(r.Loc, r.ID, buf)
		if err != nil {
			bad(r, err)
			continue
		}
		buf = b
	}
	return nil
}
