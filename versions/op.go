package versions

import (
	"encoding/binary"
	"math"

	"sharefs"
)

// An operation is what one command changed in one go: all changes of a process group, as a shell makes one for each command, without a pause of
// more than Config.Pause. It stands between two moments: ViewAt(ID) is the tree before it, ViewAt(After) the tree after it. What it changed is
// listed by name, so that it can be undone beside others that were at work meanwhile.
//
// On disk (space op): key 8 bytes the id, all bits flipped, so that the newest comes first, and 4 bytes a part, big endian. Part 0:
//
//	1 byte    format, 1
//	1 byte    flags: bit 0 ended, 1 partly, 2 by another host
//	8 bytes   after, big endian
//	uvarints  uid, process group; made, removed, renamed, linked, written, attributes
//	strings   command, label: uvarint length, then the bytes
//	32 bytes  of one by another host: its id
//
// Parts from 1 on, which an operation has once it has ended: changes one after the other, each
//
//	1 byte    verb
//	uvarints  inode, parent, length of the name
//	rest      the name
type Operation struct {
	ID      sharefs.HLC // the moment before its first change
	After   sharefs.HLC // the moment from which on all of it is done, as far as is known
	UID     uint32      // of the user
	Process uint32      // its process group, 0 where that cannot be told
	Command string      // as it was called, at most opCommandMax bytes; not always UTF-8
	Label   string      // what the program itself says that it does; see [sharefs.UndoLabel]
	// Author is the host that made the changes, which came from it: those of one host without a pause are one operation. Zero: somebody here.
	Author sharefs.PeerID
	Counts sharefs.OpCounts
	Ended  bool // otherwise it is at work, or the daemon was killed meanwhile
	Partly bool // not all that it changed is listed: there was too much
}

// OpVerb says what happened to a name or an inode. The numbers are on disk.
type OpVerb uint8

// The verbs. The first five are about a name, as the last one is, the others about an inode, whatever its names.
const (
	OpMade        OpVerb = 1 + iota
	OpRemoved            // unlinked, or replaced by a rename
	OpRenamedFrom        // the name that it left
	OpRenamedTo          // the name that it came to
	OpLinked
	OpWritten
	OpAttributes
	// OpUnsure says that others had the file open for writing when the operation came to it: no version is what it held before.
	OpUnsure
	// OpOthers is about a name: another operation gave it, at the same time, in a directory that this one made.
	OpOthers
	opVerbs
)

var opVerbNames = [opVerbs]string{"", "made", "removed", "renamed-from", "renamed-to", "linked", "written", "attributes", "unsure", "others"}

func (v OpVerb) String() string { return opVerbNames[min(v, opVerbs-1)] }

// ofName reports whether the verb is about a name.
func (v OpVerb) ofName() bool { return v < OpWritten || v == OpOthers }

// gives reports whether something has a name by it that had not.
func (v OpVerb) gives() bool { return v == OpMade || v == OpRenamedTo || v == OpLinked }

// OpChange is one change of an operation.
type OpChange struct {
	Verb   OpVerb
	Ino    sharefs.Ino // 0 where it is not known: of a removal
	Parent sharefs.Ino // for a verb about an inode: the directory in which the kernel found it last, 0 where that is not known
	Name   string
	Dir    bool // what was made or removed is a directory; not kept
}

const (
	opFormat     = 1
	opEnded      = 1
	opPartly     = 2
	opForeign    = 4
	opCommandMax = 240
	opPartBytes  = 32 << 10 // changes of one row, about
)

func opKey(id sharefs.HLC, part uint32) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 12), math.MaxUint64-uint64(id))
	return binary.BigEndian.AppendUint32(b, part)
}

// opOf reads the key of a row; ok is false for one that is none.
func opOf(key []byte) (id sharefs.HLC, part uint32, ok bool) {
	if len(key) != 12 {
		return 0, 0, false
	}
	return sharefs.HLC(math.MaxUint64 - binary.BigEndian.Uint64(key)), binary.BigEndian.Uint32(key[8:]), true
}

func (o *Operation) encode() []byte {
	b := []byte{opFormat, 0}
	if o.Ended {
		b[1] |= opEnded
	}
	if o.Partly {
		b[1] |= opPartly
	}
	b = binary.BigEndian.AppendUint64(b, uint64(o.After))
	for _, n := range [...]uint64{
		uint64(o.UID), uint64(o.Process),
		o.Counts.Made, o.Counts.Removed, o.Counts.Renamed, o.Counts.Linked, o.Counts.Written, o.Counts.Attributes,
	} {
		b = binary.AppendUvarint(b, n)
	}
	for _, s := range [...]string{o.Command, o.Label} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	if !o.Author.IsZero() {
		b[1] |= opForeign
		b = append(b, o.Author[:]...)
	}
	return b
}

// decodeOperation reads what encode wrote; anything else is an [sharefs.Error] of KindCorrupt.
func decodeOperation(id sharefs.HLC, b []byte) (*Operation, error) {
	d := decoder{b: b}
	if d.byte() != opFormat {
		d.bad = true
	}
	flags := d.byte()
	o := &Operation{ID: id, After: sharefs.HLC(d.uint64()), Ended: flags&opEnded != 0, Partly: flags&opPartly != 0}
	o.UID, o.Process = d.uint32(), d.uint32()
	for _, p := range [...]*uint64{
		&o.Counts.Made, &o.Counts.Removed, &o.Counts.Renamed, &o.Counts.Linked, &o.Counts.Written, &o.Counts.Attributes,
	} {
		*p = d.uvarint()
	}
	for _, p := range [...]*string{&o.Command, &o.Label} {
		*p = string(d.take(int(min(d.uvarint(), math.MaxInt32))))
	}
	if flags&opForeign != 0 {
		copy(o.Author[:], d.take(len(o.Author)))
		d.bad = d.bad || o.Author.IsZero()
	}
	if d.bad || len(d.b) > 0 || flags > opEnded|opPartly|opForeign {
		return nil, corrupt("the row of an operation", 0)
	}
	return o, nil
}

func (c *OpChange) appendTo(b []byte) []byte {
	b = append(b, byte(c.Verb))
	b = binary.AppendUvarint(b, uint64(c.Ino))
	b = binary.AppendUvarint(b, uint64(c.Parent))
	b = binary.AppendUvarint(b, uint64(len(c.Name)))
	return append(b, c.Name...)
}

// decodeOpChanges reads changes to the end of a part.
func decodeOpChanges(b []byte) (list []OpChange, err error) {
	for d := (decoder{b: b}); len(d.b) > 0; {
		c := OpChange{Verb: OpVerb(d.byte()), Ino: sharefs.Ino(d.uvarint()), Parent: sharefs.Ino(d.uvarint())}
		c.Name = string(d.take(int(min(d.uvarint(), sharefs.NameMax+1))))
		if d.bad || c.Verb == 0 || c.Verb >= opVerbs || len(c.Name) > sharefs.NameMax || c.Verb.ofName() != (c.Name != "") {
			return nil, corrupt("the changes of an operation", 0)
		}
		list = append(list, c)
	}
	return list, nil
}
