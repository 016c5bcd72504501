package versions

import (
	"encoding/binary"
	"slices"
	"time"

	"sharefs"
	"sharefs/versions/kv"
)

// The history of a name outlives the inode that bears it. Editors, sed -i, rsync, git and tar save a file by making another one and giving
// it the name: vim renames FILE away, creates FILE and unlinks the old one; most others rename a temporary file over FILE. So
// when an inode comes to bear a name, it continues the past of the regular file that bore the name last: a row of the space lineage
// says whose, and how far.
//
// Which inode is the one that was made to replace the other is told so:
//
//   - One that has no versions of its own continues whoever bore the name last, whether that file is gone, was renamed away, or lives on under
//     another name.
//   - One that has versions of its own keeps its past, or has none but them: history follows the file. Only if it was born while the other one
//     bore the name, as a temporary file is that took long to write, and has no second name, does it continue the other one. So a file
//     that is moved to a name which another one bore long ago keeps its numbers.
//
// What an inode came to continue under the name of a temporary file must not stay with it. It is solid if the other one was replaced
// or removed under that name (sed, tar, git), or left the name and was removed under another one afterwards (vim). It is not if the other one left the
// name and lives on, or was gone already: that is what one temporary name leaves behind that serves for one file after the other. When
// an inode comes to a further name, what is not solid is given up. What is solid is given up only by an inode without versions that replaces a
// file with a past, and where it is a part of the other one's past, so that nothing is lost.
//
// A predecessor without versions is skipped: its own lineage is continued. The numbers that users see run on: an inode's own
// versions, 1 … k, are shown as base+1 … base+k, where base is the number of the last version that it continues. That number is fixed when the row
// is written, so the lineage of a predecessor must not change later: its own row, which it gets if it has none, says that it is continued.
//
// A file saved ten thousand times in this way has a chain of ten thousand inodes. So that a version is found by its number or time without
// walking it, each row also points far back: the jump pointers of Myers, "An applicative random-access stack" (Information Processing Letters
// 17, 1983), with which any ancestor is reached in O(log n) steps.
//
// On disk (space lineage, key: inode): 1 byte format, 1; 1 byte flags, bits 0 continued, 1 firm, 2 lived; uvarints predecessor (0: none), through, base,
// depth, jump, from; 8 bytes since.
type lineage struct {
	pred    sharefs.Ino // whose past is continued; 0: nobody's
	through uint64      // the last of the predecessor's own versions that is
	base    uint64      // the number that users see of that version
	depth   uint64      // length of the chain
	jump    sharefs.Ino // an ancestor further back, or the predecessor
	// from bore the name: the predecessor, or one without versions that continued it. Firm says that it was replaced there or removed; otherwise
	// it left for another name, and lived says that it had one when this inode came.
	from        sharefs.Ino
	firm, lived bool
	since       sharefs.HLC // when this inode took its place
	// continued: another inode counts on the numbers that this one shows, so that they must not change any more.
	continued bool
}

const lineageFormat = 1

func (l *lineage) encode() []byte {
	b := append(make([]byte, 0, 48), lineageFormat, 0)
	for bit, set := range [...]bool{l.continued, l.firm, l.lived} {
		if set {
			b[1] |= 1 << bit
		}
	}
	for _, v := range [...]uint64{uint64(l.pred), l.through, l.base, l.depth, uint64(l.jump), uint64(l.from)} {
		b = binary.AppendUvarint(b, v)
	}
	return binary.BigEndian.AppendUint64(b, uint64(l.since))
}

func decodeLineage(ino sharefs.Ino, value []byte) (l lineage, err error) {
	d := decoder{b: value}
	if d.byte() != lineageFormat {
		d.bad = true
	}
	flags := d.byte()
	l.continued, l.firm, l.lived = flags&1 != 0, flags&2 != 0, flags&4 != 0
	l.pred = sharefs.Ino(d.uvarint())
	l.through, l.base, l.depth = d.uvarint(), d.uvarint(), d.uvarint()
	l.jump, l.from = sharefs.Ino(d.uvarint()), sharefs.Ino(d.uvarint())
	l.since = sharefs.HLC(d.uint64())
	if d.bad || len(d.b) > 0 || flags > 7 || (l.pred == 0) != (l.depth == 0) || (l.pred == 0) != (l.jump == 0) || l.base < l.through {
		return l, corrupt("lineage row", ino)
	}
	return l, nil
}

// loadLineage reads the lineage of an inode; ok is false where it has no row.
func loadLineage(view kv.View, ino sharefs.Ino) (l lineage, ok bool, err error) {
	b, ok, err := view.Get(spaceLineage, inoKey(ino))
	if err != nil || !ok {
		return l, false, failed("read a lineage", err)
	}
	l, err = decodeLineage(ino, b)
	return l, true, err
}

// heir is a row of the space lineage that the change at work writes.
type heir struct {
	ino sharefs.Ino
	lineage
}

// lineage returns the lineage of an inode as it will be after the change.
func (x *tx) lineage(ino sharefs.Ino) (lineage, bool, error) {
	for i := range x.heirs {
		if x.heirs[i].ino == ino {
			return x.heirs[i].lineage, true, nil
		}
	}
	return loadLineage(x.t.db, ino)
}

func (x *tx) setLineage(ino sharefs.Ino, l lineage) {
	x.heirs = slices.DeleteFunc(x.heirs, func(h heir) bool { return h.ino == ino })
	x.heirs = append(x.heirs, heir{ino, l})
	x.b.Put(spaceLineage, inoKey(ino), l.encode())
}

// named is the hook that finds out whose past an inode continues when it comes to bear a name.
func (h *history) named(x *tx, parent sharefs.Ino, slot uint64, name string, r, old *row) error {
	if r.isRegular() && r.seq != 0 {
		h.vacate(x, r.ino, false)
	}
	before := h.occupy(x, dentID{parent, slot})
	if !r.isRegular() || old != nil && !old.isRegular() {
		return nil
	}
	if err := h.succeed(x, parent, slot, name, r, old, before); err != nil {
		return err
	}
	if r.seq != 0 && r.nlink == 1 {
		return h.linked(x, r)
	}
	return nil
}

// succeed decides whose past an inode continues; before is who was remembered for the name.
func (h *history) succeed(x *tx, parent sharefs.Ino, slot uint64, name string, r, old *row, before bearer) error {
	if old != nil {
		before = bearer{ino: old.ino, firm: true}
	}
	if before.ino != 0 {
		if has, err := x.hasPast(before.ino); err != nil {
			return err
		} else if !has {
			before = bearer{}
		}
	}
	if r.seq == 0 { // it is made in this very change: it can have no past
		if dir, err := x.row(parent); err == nil && before.ino == 0 && dir.flags&rowShed != 0 {
			if before, err = h.lastBearer(x, parent, slot, name); err != nil {
				return err
			}
		}
		return h.inherit(x, r.ino, before)
	}
	own, err := newestVersion(x.t.db, r.ino, noLimit)
	if err != nil {
		return err
	}
	line, _, err := x.lineage(r.ino)
	if err != nil || line.continued || own != nil && r.nlink > 1 {
		return err
	}
	if before.ino == 0 || own != nil {
		disk, err := h.lastBearer(x, parent, slot, name)
		if err != nil {
			return err
		}
		if before.ino == 0 {
			before = disk
		} else if before.ino == disk.ino {
			before.since = disk.since // otherwise it came to the name in this instant
		}
	}
	give, err := h.gives(x, line, before.ino, own != nil, old != nil)
	switch {
	case err != nil || !give:
		return err
	case before.ino == 0:
		x.setLineage(r.ino, lineage{})
		return nil
	case own != nil && !h.bornUnder(x, r, before):
		return nil
	}
	return h.inherit(x, r.ino, before)
}

// gives reports whether an inode gives up the lineage that it has, if any, when it comes to a name that pred bore last, 0: nobody with a past.
func (h *history) gives(x *tx, line lineage, pred sharefs.Ino, versions, replaces bool) (bool, error) {
	solid := line.firm
	if !solid && line.lived {
		from, err := x.row(line.from)
		solid = err != nil || from.nlink == 0
	}
	switch {
	case line.pred == 0:
		return pred != 0, nil
	case pred == 0:
		return !solid && (!versions || replaces), nil
	case !versions && replaces, !solid:
		return true, nil
	}
	// Nothing is lost if it is a part of the other one's past.
	theirs, _, err := x.lineage(line.pred)
	if err != nil {
		return false, err
	}
	s, err := h.head(pred)
	if err != nil {
		return false, err
	}
	s, err = h.back(s, func(s segment) bool { return s.line.depth <= theirs.depth })
	return s.ino == line.pred, err
}

// bearer is an inode that bore a name.
type bearer struct {
	ino   sharefs.Ino // 0: none
	since sharefs.HLC // the beginning of the instant in which it came to the name; 0 if that is not on disk yet
	firm  bool        // it was replaced under the name or removed there; otherwise it left for another one
}

// bornUnder reports whether an inode was born while another one bore a name.
func (h *history) bornUnder(x *tx, r *row, pred bearer) bool {
	if p, err := x.row(pred.ino); err == nil && r.btime < p.btime {
		return false
	}
	return sharefs.HLCAt(timeOf(r.btime)) >= pred.since&^0xffff // birth is known to the millisecond here
}

// maxVacated bounds how many names are remembered. Beyond it the oldest instants are on disk long since.
const maxVacated = 4096

// vacate remembers who bore the names that a change makes vacant. The past of a name has but one state for each instant, so that it does not know of
// a bearer who came and went within one.
func (h *history) vacate(x *tx, ino sharefs.Ino, removed bool) {
	for i := range x.slots {
		id := x.slots[i].id
		if x.slots[i].dent.ino != 0 {
			continue
		}
		d, ok, _ := x.t.dents.get(id)
		if !ok {
			key := dentryKey(id.parent, id.cookie)
			b, found, err := x.t.db.Get(spaceDentry, key)
			if err != nil || !found {
				continue
			}
			if d, err = decodeDent(key, b); err != nil {
				continue
			}
		}
		if d.ino != ino {
			continue // a grave, or the slot of another one that the same change moves
		}
		x.after(func(uint64) {
			h.mu.Lock()
			defer h.mu.Unlock()
			if len(h.vacated) >= maxVacated {
				clear(h.vacated)
			}
			h.vacated[id] = bearer{ino: ino, firm: removed}
		})
	}
}

// separate ends the open instant before the last name of a file with versions goes that came to it within: the past of the name would not know of it,
// and nothing else leads to those versions once the daemon has ended. Where another inode continues them, that does.
func (h *history) separate(x *tx, r *row) error {
	old, err := x.t.row(r.ino)
	if err != nil || time.Duration(x.now-old.ctime) > 2*longInstant {
		return err // every name that it got is of an instant that has ended: getting one sets the change time
	}
	if v, err := newestVersion(x.t.db, r.ino, noLimit); err != nil || v == nil {
		return err
	}
	if l, _, err := x.lineage(r.ino); err != nil || l.continued {
		return err
	}
	for i := range x.slots {
		if x.slots[i].dent.ino != 0 {
			continue
		}
		open := false
		err := x.t.db.Past(spaceDentry, dentryKey(x.slots[i].id.parent, x.slots[i].id.cookie), func(rev kv.Revision) bool {
			open = rev.At == 0 && !rev.Deleted
			return false
		})
		if err != nil {
			return failed("read the past of a name", err)
		}
		if open {
			return x.t.endInstant()
		}
	}
	return nil
}

// occupy returns who was remembered for a name, and has that forgotten with the change which gives the name to somebody else.
func (h *history) occupy(x *tx, id dentID) bearer {
	h.mu.Lock()
	defer h.mu.Unlock()
	b, ok := h.vacated[id]
	if ok {
		x.after(func(uint64) {
			h.mu.Lock()
			delete(h.vacated, id)
			h.mu.Unlock()
		})
	}
	return b
}

// hasPast reports whether an inode has versions, or continues one that has.
func (x *tx) hasPast(ino sharefs.Ino) (bool, error) {
	l, _, err := x.lineage(ino)
	if err != nil || l.pred != 0 {
		return l.pred != 0, err
	}
	v, err := newestVersion(x.t.db, ino, noLimit)
	return v != nil, err
}

// maxBearers bounds how many bearers of a name are looked at who left nothing.
const maxBearers = 64

// lastBearer finds the regular file with a past that bore a name last, on disk. There is none where something else bore it since.
func (h *history) lastBearer(x *tx, parent sharefs.Ino, slot uint64, name string) (found bearer, err error) {
	key := dentryKey(parent, slot)
	var bad error
	var left sharefs.HLC // when the name was given up, or given to somebody else
	bearers := 0
	err = h.t.db.Past(spaceDentry, key, func(rev kv.Revision) bool {
		var d dent
		if !rev.Deleted {
			if d, bad = decodeDent(key, rev.Value); bad != nil {
				return false
			}
		}
		if d.name != name { // vacant, a grave, or another name of the same hash
			left = rev.Stamp
			return true
		}
		if uint32(d.typ)<<12 != sharefs.ModeRegular {
			return false
		}
		var has bool
		if has, bad = x.hasPast(d.ino); bad != nil {
			return false
		}
		if has {
			found = bearer{ino: d.ino, since: rev.Stamp}
			found.firm, bad = h.removed(x, d.ino, left)
			return false
		}
		left = rev.Stamp
		bearers++
		return bearers < maxBearers
	})
	if err == nil {
		err = bad
	}
	return found, failed("read the past of a name", err)
}

// removed reports whether an inode lost its last name in the instant that began at a reading.
func (h *history) removed(x *tx, ino sharefs.Ino, at sharefs.HLC) (bool, error) {
	if r, err := x.row(ino); err == nil && r.nlink > 0 {
		return false, nil
	}
	var died sharefs.HLC
	var bad error
	err := h.t.db.Past(spaceInode, inoKey(ino), func(rev kv.Revision) bool {
		if !rev.Deleted {
			r, err := decodeRow(ino, rev.Value)
			if err != nil || r.nlink > 0 {
				bad = err
				return false
			}
		}
		died = rev.Stamp
		return true
	})
	if err == nil {
		err = bad
	}
	return died == at, failed("read the past of an inode", err)
}

// inherit makes an inode continue the past of another one, if there is one and it has a past.
func (h *history) inherit(x *tx, ino sharefs.Ino, from bearer) error {
	pred := from.ino
	if pred == 0 || pred == ino {
		return nil
	}
	p, err := x.row(pred)
	lives := err == nil && p.nlink > 0
	if err == nil {
		if err := x.pinAs(ino, p); err != nil {
			return err
		}
	}
	last, err := newestVersion(x.t.db, pred, noLimit)
	if err != nil {
		return err
	}
	theirs, has, err := x.lineage(pred)
	if err != nil {
		return err
	}
	since := x.t.clock.Next()
	if last == nil {
		if theirs.pred != 0 && theirs.pred != ino {
			theirs.since, theirs.continued = since, false
			if theirs.firm {
				theirs.from, theirs.firm, theirs.lived = pred, from.firm, lives
			}
			x.setLineage(ino, theirs)
			h.counts.continued.Add(1)
		}
		return nil
	}
	if !has || !theirs.continued {
		theirs.continued = true
		x.setLineage(pred, theirs)
	}
	l := lineage{
		pred: pred, through: last.own, base: theirs.base + last.own, depth: theirs.depth + 1, jump: pred, since: since,
		from: pred, firm: from.firm, lived: lives,
	}
	if theirs.jump != 0 {
		far, _, err := x.lineage(theirs.jump)
		if err != nil {
			return err
		}
		var farther lineage
		if far.jump != 0 {
			if farther, _, err = x.lineage(far.jump); err != nil {
				return err
			}
		}
		if theirs.depth-far.depth == far.depth-farther.depth && far.jump != 0 {
			l.jump = far.jump
		}
	}
	x.setLineage(ino, l)
	h.counts.continued.Add(1)
	return nil
}

// segment is the part of a history that one inode has.
type segment struct {
	ino     sharefs.Ino
	base    uint64 // added to the inode's own numbers
	through uint64 // the last own number that belongs to the history
	since   sharefs.HLC
	line    lineage
}

// head returns the newest segment of an inode's history.
func (h *history) head(ino sharefs.Ino) (segment, error) {
	return h.segment(ino, noLimit)
}

func (h *history) segment(ino sharefs.Ino, through uint64) (segment, error) {
	l, _, err := loadLineage(h.t.db, ino)
	return segment{ino: ino, base: l.base, through: through, since: l.since, line: l}, err
}

// older returns the segment before another one; ok is false where that is the first.
func (h *history) older(s segment) (before segment, ok bool, err error) {
	if s.line.pred == 0 {
		return segment{}, false, nil
	}
	before, err = h.segment(s.line.pred, s.line.through)
	if err == nil && before.line.depth >= s.line.depth { // damaged: following it might not end
		err = corrupt("lineage row", s.ino)
	}
	return before, err == nil, err
}

// back goes back from a segment to the newest one for which stop is true, or to the first. stop must stay true for all segments before one for which
// it is.
func (h *history) back(s segment, stop func(segment) bool) (segment, error) {
	for !stop(s) && s.line.pred != 0 {
		far, err := h.segment(s.line.jump, 0)
		if err != nil {
			return s, err
		}
		if far.line.pred != 0 && far.line.depth < s.line.depth && !stop(far) {
			s = far // passed over: its through does not matter
			continue
		}
		before, _, err := h.older(s)
		if err != nil {
			return s, err
		}
		s = before
	}
	return s, nil
}
