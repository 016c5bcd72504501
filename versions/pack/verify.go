package pack

import (
	"crypto/cipher"
	"io"
	"slices"

	"sharefs"
)

// Examined is what reading one pack from front to back came to.
type Examined struct {
	ID      ID
	Epoch   Epoch // of the key that its records open with
	Sealed  bool  // it lies in its lasting place, and has an index
	Bytes   int64 // its length, or as much of one that grows as is written
	Records int   // that read
	Bad     int   // that do not
	// Header says why the pack's own header cannot be read. Its records are: the name of the file tells what they need.
	Header error
	// Index says why the index of a sealed pack, or its footer, cannot be read. The records are found without.
	Index error
	// Tail is how many bytes behind the last whole record of a pack without an index are none: a crash leaves such.
	Tail int64
	// Moving: it was taken up to be appended to while it was read, so that its tail may have been another one.
	Moving bool
}

// BadRecord is a record that does not read.
type BadRecord struct {
	Record       // with a zero id where nothing tells which it was
	Err    error // why
	// Empty: bytes of it were given back to the disk, which is done only to what nobody needs.
	Empty bool
}

// Examine reads a pack from front to back, opens every seal and calls good with the epoch of the pack, each record and its plain body, which is void when good
// returns, and bad for each place that holds none: by its own header, by the index, or as a run of bytes that nothing tells the name of. What
// good returns counts as what is wrong with the record. An error means that the pack cannot be read at all: it is gone, the disk fails, or
// its key is not here. It takes one pack's index and one record of memory, and no lock but for moments.
func (s *Store) Examine(id ID, good func(e Epoch, r Record, plain []byte) error, bad func(BadRecord)) (Examined, error) {
	x := examination{s: s, sum: Examined{ID: id}, good: good, bad: bad}
	took := s.tookUp()
	f, sealed, err := s.openPlaced(id)
	if err != nil {
		return x.sum, err
	}
	defer f.Close()
	f = direct(f)
	x.sum.Sealed = sealed
	if x.size, err = s.whole(id, f); err != nil {
		return x.sum, failed("read", id, err)
	}
	x.sum.Bytes = x.size
	if begun(sealed, x.size) {
		x.sum.Tail, x.sum.Moving = x.size, true
		return x.sum, nil
	}
	hdr, err := s.readHeader(id, f, x.size)
	if err != nil {
		if hdr == nil {
			return x.sum, failed("open", id, err)
		}
		x.sum.Header = err
	}
	x.sum.Epoch = hdr.Epoch
	if x.aead, err = s.aead(hdr); err != nil {
		return x.sum, failed("open", id, err)
	}
	x.win = window{f: f, size: x.size}
	if err := x.run(); err != nil {
		return x.sum, failed("read", id, err)
	}
	x.sum.Moving = !sealed && took != s.tookUp()
	return x.sum, nil
}

// Glance looks at the header and the footer of a pack, and reads nothing else. Errors are those of [Store.Examine].
func (s *Store) Glance(id ID) (sum Examined, err error) {
	sum.ID = id
	f, sealed, err := s.openPlaced(id)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	f = direct(f)
	sum.Sealed = sealed
	if sum.Bytes, err = s.whole(id, f); err != nil {
		return sum, failed("read", id, err)
	}
	if begun(sealed, sum.Bytes) {
		return sum, nil
	}
	hdr, err := s.readHeader(id, f, sum.Bytes)
	if hdr == nil {
		return sum, failed("open", id, err)
	}
	sum.Header = err
	if sealed {
		if _, sum.Index = readFooter(f, sum.Bytes); sharefs.KindOf(sum.Index) != sharefs.KindCorrupt && sum.Index != nil {
			return sum, failed("read", id, sum.Index)
		}
	}
	return sum, nil
}

// begun reports whether a pack that grows has no header yet: it was made a moment ago, or a crash left it so, and then a start removes it.
func begun(sealed bool, size int64) bool { return !sealed && size < packHeaderLen }

// tookUp reports whether the packs that an earlier process left open were looked at.
func (s *Store) tookUp() bool {
	s.append.Lock()
	defer s.append.Unlock()
	return s.adopted
}

// openPlaced is openFile that tells where the pack lies.
func (s *Store) openPlaced(id ID) (f File, sealed bool, err error) {
	for _, name := range []string{id.name(), id.growing(), id.name()} {
		if f, err = s.cfg.FS.Open(name, false); err == nil {
			return f, name == id.name(), nil
		}
		if !isNotExist(err) {
			break
		}
	}
	return nil, false, failed("open", id, err)
}

// whole returns the length of a pack; of the one that grows, as far as it holds whole records: what is being written ends anywhere.
func (s *Store) whole(id ID, f File) (int64, error) {
	if w := s.growsNow(id); w != nil {
		if err := s.settled(Loc{Pack: id, Off: maxSize}); err != nil {
			return 0, err
		}
		size, err := f.Size()
		// Where it was sealed meanwhile, index and footer are in the file, all of them.
		return min(size, w.written.Load()), err
	}
	return f.Size()
}

// readHeader reads the header of a pack. With the error that it is damaged comes the one that the pack must have had, as far as its records
// need it; nil where that cannot be told.
func (s *Store) readHeader(id ID, f File, size int64) (*Header, error) {
	head := make([]byte, min(size, packHeaderLen))
	if err := readFull(f, head, 0); err != nil {
		return nil, err
	}
	hdr, err := s.header(id, head)
	if err != nil && sharefs.KindOf(err) != sharefs.KindCorrupt {
		return nil, err
	}
	if err != nil {
		all := s.epochs()
		hdr = Header{ID: id, Epoch: all[0]}
		if len(all) > 1 {
			if e, ok := s.epochOf(id, f, size); ok {
				hdr.Epoch = e
			}
		}
	}
	return &hdr, err
}

// header decodes the header of a pack.
func (s *Store) header(id ID, head []byte) (Header, error) {
	hdr, err := decodeHeader(head)
	if err == nil && hdr.ID != id {
		err = damaged("the header names another pack")
	}
	if hdr.Epoch == (Epoch{Number: s.cfg.First.Number}) {
		hdr.Epoch = s.cfg.First
	}
	return hdr, err
}

// epochs lists all epochs whose keys are here.
func (s *Store) epochs() []Epoch {
	if s.cfg.Epochs == nil {
		return []Epoch{s.cfg.Epoch}
	}
	return s.cfg.Epochs()
}

// EpochOf returns the epoch of a pack. Errors are those of [Store.Read].
func (s *Store) EpochOf(id ID) (Epoch, error) {
	h, err := s.pin(id)
	if err != nil {
		return Epoch{}, err
	}
	defer h.unpin(s)
	return h.epoch, nil
}

// examination is an Examine at work.
type examination struct {
	s    *Store
	aead cipher.AEAD
	size int64
	win  window
	sum  Examined
	good func(Epoch, Record, []byte) error
	bad  func(BadRecord)

	listed []Record // by the index, in the order of their places
	ends   bool     // an index was met with
	plain  []byte
	body   []byte
}

func (x *examination) run() error {
	end := x.size
	if x.sum.Sealed {
		records, at, err := x.s.readIndexAt(x.win.f, x.aead, x.sum.ID, x.size)
		if err != nil {
			if sharefs.KindOf(err) != sharefs.KindCorrupt {
				return err
			}
			x.sum.Index = err
		} else {
			x.listed, end = records, at
			slices.SortFunc(x.listed, func(a, b Record) int { return int(int64(a.Loc.Off) - int64(b.Loc.Off)) })
		}
	}
	at := int64(packHeaderLen)
	last := at // where the last record ended that has a header
	for budget := 8 * x.size; at < end && budget > 0 && !x.ends; {
		n, err := x.record(at, end)
		if err != nil {
			return err
		}
		if n > 0 {
			budget -= n
			at += n
			last = at
			continue
		}
		next, err := x.lost(at, end)
		if err != nil {
			return err
		}
		budget -= next - at + resyncLen
		at = next
	}
	if !x.sum.Sealed && !x.ends {
		x.sum.Tail = max(0, x.size-last)
	}
	for _, r := range x.listed { // behind the end of a pack that was cut
		if err := x.missing(r); err != nil {
			return err
		}
	}
	return nil
}

// record reads the record at a place and returns its length; 0: there is none.
func (x *examination) record(at, end int64) (int64, error) {
	if at+recordHeaderLen > end {
		return 0, nil
	}
	head, err := x.win.at(at, recordHeaderLen)
	if err != nil {
		return 0, err
	}
	rec, err := decodeRecord(head)
	n := recordHeaderLen + int64(rec.sealed)
	if err != nil || at+n > end {
		return 0, nil
	}
	if rec.typ == typeIndex {
		x.ends = true // whether or not its footer reached the disk, and is whole
		return n, nil
	}
	r := Record{Loc: Loc{Pack: x.sum.ID, Off: uint32(at), Sealed: rec.sealed, Plain: rec.plain}, Type: rec.typ, ID: rec.id}
	for len(x.listed) > 0 && int64(x.listed[0].Loc.Off) < at { // it begins where another one ended that is damaged
		if err := x.missing(x.listed[0]); err != nil {
			return 0, err
		}
		x.listed = x.listed[1:]
	}
	if len(x.listed) > 0 && x.listed[0].Loc == r.Loc {
		x.listed = x.listed[1:]
	}
	raw, err := x.win.at(at, int(n))
	if err != nil {
		return 0, err
	}
	x.body = append(x.body[:0], raw...)
	raw = x.body
	if checksum(raw[recordHeaderLen:]) != rec.body {
		x.report(r, damaged("a record was changed on disk"), raw)
		return n, nil
	}
	x.plain = sized(x.plain, int(rec.plain))
	switch err := x.s.open(x.aead, &rec, raw, x.plain); {
	case err == errSeal:
		x.report(r, damaged("a seal does not open though its checksum is right: another key, or forged"), nil)
	case err != nil:
		x.report(r, err, nil)
	default:
		if err := x.good(x.sum.Epoch, r, x.plain); err != nil {
			x.report(r, err, nil)
			return n, nil
		}
		x.sum.Records++
	}
	return n, nil
}

func (x *examination) report(r Record, err error, raw []byte) {
	x.sum.Bad++
	x.bad(BadRecord{Record: r, Err: err, Empty: holey(raw)})
}

// lost deals with a place where no record header is, and returns where the next one begins. The index names what lay there.
func (x *examination) lost(at, end int64) (next int64, err error) {
	if len(x.listed) > 0 || x.sum.Sealed && x.sum.Index == nil {
		next = end
		for i, r := range x.listed { // the next that the index knows
			if off := int64(r.Loc.Off); off > at {
				next = min(end, off)
				break
			} else if off == at {
				next = min(end, at+recordHeaderLen+int64(r.Loc.Sealed))
				if i+1 < len(x.listed) {
					next = min(next, int64(x.listed[i+1].Loc.Off))
				}
				break
			}
		}
		for len(x.listed) > 0 && int64(x.listed[0].Loc.Off) < next {
			if err := x.missing(x.listed[0]); err != nil {
				return 0, err
			}
			x.listed = x.listed[1:]
		}
		return next, nil
	}
	if next, err = nextHeader(x.win.f, at+1, end); err != nil {
		return 0, err
	}
	if next < end { // otherwise it is a torn tail, or the damaged index
		raw, err := x.win.at(at, int(min(next, at+MaxPlain)-at))
		if err != nil {
			return 0, err
		}
		x.report(Record{Loc: Loc{Pack: x.sum.ID, Off: uint32(at), Sealed: uint32(next - at)}}, damaged("a record's header is not whole"), raw)
	}
	return next, nil
}

// missing reports a record that the index lists and that is not at its place.
func (x *examination) missing(r Record) error {
	off, n := int64(r.Loc.Off), recordHeaderLen+int64(r.Loc.Sealed)
	if off+n > x.size {
		x.report(r, damaged("the pack ends too early"), nil)
		return nil
	}
	raw, err := x.win.at(off, int(n))
	if err != nil {
		return err
	}
	x.report(r, damaged("a record's header is not whole"), raw)
	return nil
}

// holeLen is a run of zero bytes that no sealed body holds by chance.
const holeLen = 64

// holey reports whether bytes of a record were given back to the disk.
func holey(raw []byte) bool {
	run := 0
	for _, b := range raw {
		if b != 0 {
			run = 0
		} else if run++; run == holeLen {
			return true
		}
	}
	return false
}

// windowLen is how much is read at a time, in bytes.
const windowLen = 1 << 20

// window reads a file from front to back in large pieces.
type window struct {
	f    File
	size int64
	buf  []byte
	off  int64
}

// at returns n bytes at off, valid until the next call.
func (w *window) at(off int64, n int) ([]byte, error) {
	if off < w.off || off+int64(n) > w.off+int64(len(w.buf)) {
		want := int(min(int64(max(n, windowLen)), w.size-off))
		if want < n {
			return nil, damaged("the pack ends too early")
		}
		w.buf, w.off = sized(w.buf, want), off
		if m, err := w.f.ReadAt(w.buf, off); m < len(w.buf) {
			w.buf = w.buf[:m]
			if m < n {
				if err == nil || err == io.EOF {
					err = damaged("the pack ends too early")
				}
				return nil, err
			}
		}
	}
	at := int(off - w.off)
	return w.buf[at : at+n], nil
}

// Raw reads bytes of a pack as they lie on the disk, fewer where it ends before.
func (s *Store) Raw(id ID, off int64, n int) ([]byte, error) {
	f, _, err := s.openPlaced(id)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, n)
	m, err := f.ReadAt(b, off)
	if err != nil && err != io.EOF {
		return nil, failed("read", id, err)
	}
	return b[:m], nil
}

// Length returns how long a pack is, in bytes; of the one that grows, as far as it is written. KindCorrupt: it is not there.
func (s *Store) Length(id ID) (int64, error) {
	f, _, err := s.openPlaced(id)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	size, err := s.whole(id, f)
	return size, failedOr(err, "read", id)
}

func failedOr(err error, op string, id ID) error {
	if err == nil {
		return nil
	}
	return failed(op, id, err)
}

// Strays lists files among the packs that are none, with their paths below the store's directory.
func (s *Store) Strays() ([]string, error) {
	dirs, err := s.cfg.FS.List(".")
	if err != nil {
		return nil, &sharefs.Error{Op: "list packs", Err: err}
	}
	var out []string
	for _, dir := range dirs {
		if dir != openDir && !isHex2(dir) {
			out = append(out, dir)
			continue
		}
		names, err := s.cfg.FS.List(dir)
		if err != nil {
			return nil, &sharefs.Error{Op: "list packs", Path: dir, Err: err}
		}
		for _, name := range names {
			if id, ok := ParseID(name); !ok || dir != openDir && id.dir() != dir {
				out = append(out, dir+"/"+name)
			}
		}
	}
	slices.Sort(out)
	return out, nil
}

func isHex2(s string) bool {
	if len(s) != 2 {
		return false
	}
	for _, c := range s {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
			return false
		}
	}
	return true
}

// Where returns the path of a pack below the store's directory, where it lies at the moment.
func (s *Store) Where(id ID) string {
	f, sealed, err := s.openPlaced(id)
	if err != nil {
		return id.name()
	}
	f.Close()
	if sealed {
		return id.name()
	}
	return id.growing()
}
