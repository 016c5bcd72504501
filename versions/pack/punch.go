package pack

import (
	"cmp"
	"errors"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"sharefs"
)

// puncher is a [File] that can give a part of its blocks back to the disk. What is given back reads as zeros.
type puncher interface{ Punch(off, n int64) error }

// Punch gives the room of dead records of a sealed pack back to the disk, where they lie in runs of at least least bytes, and returns how
// many bytes those runs have. Nothing may lead to the records any more, durably. The pack keeps its length and its index.
//
// The headers of the records are zeroed and synced before anything is given back: so a record whose header is whole is whole as well,
// at whatever moment the power fails, and who makes rows out of indexes (a rebuild) has but to look at headers ([Store.Present]).
// KindNotSupported: the disk cannot do it; the pack is as it was.
func (s *Store) Punch(id ID, dead []Record, least int64) (freed int64, err error) {
	f, err := s.cfg.FS.Open(id.name(), true)
	if err != nil {
		return 0, failed("open", id, err)
	}
	defer f.Close()
	p, ok := f.(puncher)
	if !ok {
		return 0, &sharefs.Error{Op: "punch pack", Path: id.String(), Kind: sharefs.KindNotSupported}
	}
	runs := deadRuns(dead, least)
	if len(runs) == 0 {
		return 0, nil
	}
	// Asked for behind the end, where nothing is: a disk that cannot do it says so before a header is gone.
	size, err := f.Size()
	if err == nil {
		err = p.Punch(size, 1)
	}
	if err != nil {
		return 0, failed("punch", id, err)
	}
	var zeros [recordHeaderLen]byte
	for _, r := range runs {
		for _, rec := range r.records {
			if _, err := f.WriteAt(zeros[:], int64(rec.Loc.Off)); err != nil {
				return 0, failed("punch", id, err)
			}
		}
	}
	if err := f.Sync(); err != nil {
		return 0, failed("punch", id, err)
	}
	for _, r := range runs {
		if err := p.Punch(r.from, r.to-r.from); err != nil {
			return freed, failed("punch", id, err)
		}
		freed += r.to - r.from
	}
	return freed, nil
}

// run is a stretch of records that follow each other without a gap.
type run struct {
	from, to int64
	records  []Record
}

// deadRuns returns the stretches of at least least bytes that records make.
func deadRuns(records []Record, least int64) (runs []run) {
	records = slices.Clone(records)
	slices.SortFunc(records, func(a, b Record) int { return cmp.Compare(a.Loc.Off, b.Loc.Off) })
	for len(records) > 0 {
		n, end := 0, int64(records[0].Loc.Off)
		for n < len(records) && int64(records[n].Loc.Off) == end {
			end = records[n].Loc.end()
			n++
		}
		if r := (run{int64(records[0].Loc.Off), end, records[:n]}); r.to-r.from >= least {
			runs = append(runs, r)
		}
		records = records[n:]
	}
	return runs
}

// Punchable returns how many bytes [Store.Punch] would give back of whole records.
func Punchable(dead []Record, least int64) (n int64) {
	for _, r := range deadRuns(dead, least) {
		n += r.to - r.from
	}
	return n
}

// end returns where the record ends.
func (l *Loc) end() int64 { return int64(l.Off) + recordHeaderLen + int64(l.Sealed) }

// Len returns the bytes that the record takes in its pack.
func (l *Loc) Len() int64 { return recordHeaderLen + int64(l.Sealed) }

// Present lists the records of a pack as [Store.Index] does, but for those that were punched. It reads the header of each. Of one that lies elsewhere none
// was: what is there is as it was sealed.
func (s *Store) Present(id ID) ([]Record, error) {
	records, err := s.Index(id)
	if err != nil {
		return nil, err
	}
	h, err := s.pin(id)
	if err != nil {
		return nil, err
	}
	defer h.unpin(s)
	if isRemote(h.file) {
		return records, nil
	}
	head := make([]byte, recordHeaderLen)
	var bad error
	records = slices.DeleteFunc(records, func(r Record) bool {
		if err := readFull(h.file, head, int64(r.Loc.Off)); err != nil {
			bad = err
			return false
		}
		rec, err := decodeRecord(head)
		return err != nil || rec.id != r.ID
	})
	if bad != nil {
		return nil, failed("read", id, bad)
	}
	return records, nil
}

// Held returns how many bytes the file takes on the disk.
func (f osFile) Held() (int64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, &os.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	return st.Blocks * 512, nil
}

// Punch gives blocks back; the parts of blocks at either end are zeroed.
func (f osFile) Punch(off, n int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			return &sharefs.Error{Op: "punch", Path: f.Name(), Kind: sharefs.KindNotSupported, Err: err}
		default:
			return &os.PathError{Op: "fallocate", Path: f.Name(), Err: err}
		}
	}
}
