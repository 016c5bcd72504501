package versions

import (
	"encoding/binary"
	"errors"
	"math"

	"sharefs"
	"sharefs/versions/kv"
	"sharefs/versions/writers"
)

// A version is a row of the space version: key inode (8, big endian) and its number among the inode's own versions (8, all bits
// flipped, so that the newest comes first). Numbers begin with 1 and are never used twice; what a user sees is this number and
// what the lineage of the inode comes to (lineage.go). Rows stay when the inode is gone.
//
//	1 byte    format: 2, or 3 if it has the field key
//	1 byte    flags: bits 0–1 the place of the content, bit 2 timed, bit 3 damaged, bit 4 torn, bit 5 away, bit 6 beside
//	8 bytes   the clock reading at which it was closed, big endian
//	16 bytes  id of the file: rows of versions stay when that of the inode is gone
//	uvarints  size, mode, uid, gid, index of the author in the row "authors" of the space global
//	varints   mtime, ctime of the backing file minus mtime (zigzag)
//	uvarints  merged: 0 none, 1 before, else what it is later than the first clock reading, and 1 more; until: how much later, 0 for none; neither is in
//	          format 1, where the row counts as merged with the close
//	uvarint   key, in format 3 alone: place of the share key that manifest and chunks are named by in the row "keys" (keycheck.go), from 1; in the others the first
//	uvarint   length of the note, then the note
//	kept:     1 byte level, then the list at the top of the manifest (manifest.go)
//
// A version whose content is not in packs has a row in the space pending as well, with the same key inode and the number unflipped,
// which is the queue of the capture.
type version struct {
	ino   sharefs.Ino
	own   uint64 // its number among those of the inode
	place place8
	timed bool
	// damaged: a part of its content is lost, as a check of the store found; the rest can be read.
	damaged bool
	// torn: it was read while it was written to, and may be a mixture of what the file held at several moments. Only timed ones are.
	torn bool
	// away: its chunks need not be here, for others keep them; the nodes of its manifest are. Of a kept one.
	away bool
	// beside: the file never held it; see beside.go.
	beside bool
	at     sharefs.HLC
	file   sharefs.FileID
	size   uint64
	mode   uint32
	uid    uint32
	gid    uint32
	// author is an index into the row "authors", 0 for none.
	author uint64
	mtime  sharefs.Time
	ctime  sharefs.Time // of the backing file: with size and mtime the stamp of the content
	note   string
	top    manifest // of a kept one
	key    uint64   // place of the share key of the manifest, 0: the first of the store; of a kept one
	// merged is a clock reading right before the commit that brought the row of the inode up to date with this content; mergedBefore: the row had
	// nothing to be told; 0: none did, for it is timed.
	merged sharefs.HLC
	// until is when the next version began, if that one is removed and this one stays: from then on this is not what the file held. 0: the
	// next row tells.
	until sharefs.HLC
}

// place8 says where the content of a version is.
type place8 uint8

const (
	placeLive  place8 = iota // the live backing file as it stands: every change of that is preceded by a change of this row
	placeAside               // a file of its own; see aside.go
	placeKept                // packs
	placeLost                // nowhere: the row remains so that the number is not used again
)

const (
	versionFormat  = 2
	versionFormat1 = 1 // without merged and until
	versionFormat3 = 3 // with key
	versionTimed   = 4
	versionDamaged = 8
	versionTorn    = 16
	versionAway    = 32
	versionBeside  = 64

	mergedBefore sharefs.HLC = 1
)

func versionKey(ino sharefs.Ino, own uint64) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 16), uint64(ino))
	return binary.BigEndian.AppendUint64(b, math.MaxUint64-own)
}

func pendingKey(ino sharefs.Ino, own uint64) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 16), uint64(ino))
	return binary.BigEndian.AppendUint64(b, own)
}

func (v *version) stamp() writers.Stamp {
	return writers.Stamp{Size: int64(v.size), Mtime: v.mtime, Ctime: v.ctime}
}

func (v *version) setStamp(s writers.Stamp) {
	v.size, v.mtime, v.ctime = uint64(s.Size), s.Mtime, s.Ctime
}

func (v *version) encode() []byte {
	b := make([]byte, 0, 80+len(v.note)+34*len(v.top.spans))
	flags := byte(v.place)
	if v.timed {
		flags |= versionTimed
	}
	if v.damaged {
		flags |= versionDamaged
	}
	if v.torn {
		flags |= versionTorn
	}
	if v.away {
		flags |= versionAway
	}
	if v.beside {
		flags |= versionBeside
	}
	format := byte(versionFormat)
	if v.key > 0 {
		format = versionFormat3
	}
	b = append(b, format, flags)
	b = binary.BigEndian.AppendUint64(b, uint64(v.at))
	b = append(b, v.file[:]...)
	for _, n := range [...]uint64{v.size, uint64(v.mode), uint64(v.uid), uint64(v.gid), v.author} {
		b = binary.AppendUvarint(b, n)
	}
	b = binary.AppendVarint(b, int64(v.mtime))
	b = binary.AppendVarint(b, int64(v.ctime-v.mtime))
	merged := uint64(v.merged)
	if v.merged > mergedBefore {
		merged = uint64(max(v.merged, v.at+1) - v.at + 1)
	}
	b = binary.AppendUvarint(b, merged)
	b = binary.AppendUvarint(b, uint64(max(v.until, v.at)-v.at))
	if v.key > 0 {
		b = binary.AppendUvarint(b, v.key)
	}
	b = binary.AppendUvarint(b, uint64(len(v.note)))
	b = append(b, v.note...)
	if v.place == placeKept {
		b = append(b, v.top.level)
		b = appendSpans(b, v.top.spans)
	}
	return b
}

// decodeVersion reads what encode wrote; anything else is an [sharefs.Error] of KindCorrupt.
func decodeVersion(key, value []byte) (*version, error) {
	v := &version{ino: keyIno(key)}
	d := decoder{b: value}
	format := d.byte()
	if len(key) != 16 || format < versionFormat1 || format > versionFormat3 {
		return nil, corrupt("version row", v.ino)
	}
	v.own = math.MaxUint64 - binary.BigEndian.Uint64(key[8:])
	flags := d.byte()
	v.place, v.timed, v.damaged = place8(flags&3), flags&versionTimed != 0, flags&versionDamaged != 0
	v.torn, v.away, v.beside = flags&versionTorn != 0, flags&versionAway != 0, flags&versionBeside != 0
	v.at = sharefs.HLC(d.uint64())
	copy(v.file[:], d.take(len(v.file)))
	v.size = d.uvarint()
	for _, p := range [...]*uint32{&v.mode, &v.uid, &v.gid} {
		*p = d.uint32()
	}
	v.author = d.uvarint()
	v.mtime = sharefs.Time(d.varint())
	v.ctime = v.mtime + sharefs.Time(d.varint())
	if format >= versionFormat {
		switch merged := d.uvarint(); merged {
		case 0, uint64(mergedBefore):
			v.merged = sharefs.HLC(merged)
		default:
			v.merged = v.at + sharefs.HLC(merged-1)
			d.bad = d.bad || v.merged <= v.at || v.merged == mergedBefore
		}
		if later := d.uvarint(); later > 0 {
			v.until = v.at + sharefs.HLC(later)
			d.bad = d.bad || v.until <= v.at
		}
	} else if !v.timed && v.at < sharefs.MaxHLC {
		v.merged = v.at + 1
	}
	if format == versionFormat3 {
		v.key = d.uvarint()
		d.bad = d.bad || v.key == 0 || v.key > maxPlaces
	}
	v.note = string(d.take(int(min(d.uvarint(), sharefs.NoteMax+1))))
	if v.place == placeKept {
		v.top.level = d.byte()
		spans, ok := decodeSpans(d.b, int64(v.size))
		if !ok || len(spans) > topSpans || v.top.level > maxLevel {
			d.bad = true
		}
		v.top.spans, d.b = spans, nil
	}
	if d.bad || len(d.b) > 0 || flags > 127 || v.torn && !v.timed || v.away && v.place != placeKept || v.own == 0 || v.size > math.MaxInt64 || len(v.note) > sharefs.NoteMax {
		return nil, corrupt("version row", v.ino)
	}
	return v, nil
}

// put writes the row into a change, and the one in the queue as its place demands.
func (v *version) put(b *kv.Batch) {
	b.Put(spaceVersion, versionKey(v.ino, v.own), v.encode())
	if v.place == placeLive || v.place == placeAside {
		b.Put(spacePending, pendingKey(v.ino, v.own), nil)
	} else {
		b.Delete(spacePending, pendingKey(v.ino, v.own))
	}
}

// loadVersion reads one version; KindNotExist: there is none.
func loadVersion(view kv.View, ino sharefs.Ino, own uint64) (*version, error) {
	key := versionKey(ino, own)
	b, ok, err := view.Get(spaceVersion, key)
	switch {
	case err != nil:
		return nil, failed("read a version", err)
	case !ok:
		return nil, sharefs.KindNotExist
	}
	return decodeVersion(key, b)
}

// newestVersion reads the newest of an inode's own versions up to a number, lost ones too; nil where there is none.
func newestVersion(view kv.View, ino sharefs.Ino, upTo uint64) (v *version, err error) {
	scanErr := ownVersions(view, ino, upTo, func(found *version) bool {
		v = found
		return false
	})
	return v, scanErr
}

// ownVersions calls fn for an inode's own versions with numbers up to upTo, newest first, lost ones too, until fn returns false.
func ownVersions(view kv.View, ino sharefs.Ino, upTo uint64, fn func(*version) bool) error {
	var bad error
	_, to := inoRange(ino)
	err := view.Scan(spaceVersion, versionKey(ino, upTo), to, func(key, value []byte) bool {
		v, err := decodeVersion(key, value)
		if err != nil {
			bad = err
			return false
		}
		return fn(v)
	})
	if err == nil {
		err = bad
	}
	return failed("read versions", err)
}

// heldAt finds the last of an inode's own versions that was closed up to an instant, lost ones too; nil: there is none. It takes O(log n) steps of n later
// versions, and finds a recent one at once.
func heldAt(view kv.View, ino sharefs.Ino, at sharefs.HLC) (*version, error) {
	v, err := newestVersion(view, ino, noLimit)
	if err != nil || v == nil || v.at <= at {
		return v, err
	}
	// Times rise with the numbers. What is looked for is low, or lies between from and high; numbers up to from belong to low or to none.
	high, from := v.own, uint64(0)
	var low *version
	look := func(number uint64) error {
		v, err := loadVersion(view, ino, number) // most are there, and a seek costs four times as much
		if errors.Is(err, sharefs.KindNotExist) {
			v, err = newestVersion(view, ino, number)
		}
		switch {
		case err != nil:
			return err
		case v == nil:
			from = number // older ones are removed
		case v.at <= at:
			low, from = v, number
		default:
			high = v.own
		}
		return nil
	}
	for step := uint64(1); from == 0 && high > 1; step *= 2 {
		if err := look(high - min(step, high-1)); err != nil {
			return nil, err
		}
	}
	for high-from > 1 {
		if err := look(from + (high-from)/2); err != nil {
			return nil, err
		}
	}
	return low, nil
}
