package versions

import (
	"encoding/binary"

	"sharefs"
)

// row is what the store keeps of one inode. A row that others can see is never changed: a change makes a copy, and the copy takes
// the place of the old one once it is on disk, so that readers need no lock and a failed commit leaves nothing to undo.
//
// On disk (space inode, key 8 bytes big endian):
//
//	1 byte    format, 1
//	1 byte    flags, the row* bits
//	uvarints  mode, nlink, uid, gid, rdev, size, blocks, number of extended attributes
//	8 bytes   birth, nanoseconds since 1970, big endian two's complement
//	varints   atime, mtime, ctime, each minus birth (zigzag, as encoding/binary)
//	16 bytes  file id
//	directory: uvarint parent, uvarint number of names in it
//	symlink:   its target, to the end
type row struct {
	ino    sharefs.Ino
	mode   uint32
	nlink  uint32 // of a directory: 2 and one for each subdirectory, 0 once it is removed
	uid    uint32
	gid    uint32
	rdev   uint32
	flags  uint8
	size   uint64
	blocks uint64 // 512-byte units
	xattrs uint64
	atime  sharefs.Time
	mtime  sharefs.Time
	ctime  sharefs.Time
	btime  sharefs.Time
	id     sharefs.FileID

	parent  sharefs.Ino // of a directory
	entries uint64      // of a directory: names in it
	target  string      // of a symlink

	seq uint64 // the commit that made this row durable when it is synced; not on disk
}

// Flags of a row tell what is worth looking for.
const (
	rowACL     uint8 = 1 << iota // has system.posix_acl_access
	rowDefault                   // has system.posix_acl_default
	rowCaps                      // has security.capability
	rowShed                      // a directory in which a name was taken from what bore it: vacant names may have a past
	rowAbsent                    // a regular file whose content is not, or not all, here; see absent.go
)

const rowXattrs = rowACL | rowDefault | rowCaps // those that are about extended attributes

const rowFormat = 1

// Sizes that directories report; ext4's smallest, for programs add them up.
const (
	dirSize   = 4096
	dirBlocks = 8
)

func (r *row) kind() uint32    { return r.mode & sharefs.ModeType }
func (r *row) isDir() bool     { return r.kind() == sharefs.ModeDir }
func (r *row) isRegular() bool { return r.kind() == sharefs.ModeRegular }
func (r *row) isSymlink() bool { return r.kind() == sharefs.ModeSymlink }

// attr returns what stat tells of the row. A directory with more subdirectories than a link count holds reports one link, as
// ext4 with its feature dir_nlink does.
func (r *row) attr() sharefs.Attr {
	a := sharefs.Attr{
		Ino: r.ino, Mode: r.mode, Nlink: r.nlink, UID: r.uid, GID: r.gid, Rdev: r.rdev, Size: r.size, Blocks: r.blocks,
		Atime: r.atime, Mtime: r.mtime, Ctime: r.ctime, Btime: r.btime,
	}
	if r.isDir() {
		a.Size, a.Blocks = dirSize, dirBlocks
		if a.Nlink >= sharefs.LinkMax {
			a.Nlink = 1
		}
	}
	return a
}

func (r *row) encode() []byte { return r.appendTo(make([]byte, 0, 96+len(r.target))) }

func (r *row) appendTo(b []byte) []byte {
	b = append(b, rowFormat, r.flags)
	for _, v := range [...]uint64{
		uint64(r.mode), uint64(r.nlink), uint64(r.uid), uint64(r.gid), uint64(r.rdev), r.size, r.blocks, r.xattrs,
	} {
		b = binary.AppendUvarint(b, v)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(r.btime))
	for _, t := range [...]sharefs.Time{r.atime, r.mtime, r.ctime} {
		b = binary.AppendVarint(b, int64(t-r.btime))
	}
	b = append(b, r.id[:]...)
	switch {
	case r.isDir():
		b = binary.AppendUvarint(b, uint64(r.parent))
		b = binary.AppendUvarint(b, r.entries)
	case r.isSymlink():
		b = append(b, r.target...)
	}
	return b
}

// decodeRow reads what encode wrote; anything else is an [sharefs.Error] of KindCorrupt.
func decodeRow(ino sharefs.Ino, b []byte) (*row, error) {
	d := decoder{b: b}
	if d.byte() != rowFormat {
		d.bad = true
	}
	r := &row{ino: ino, flags: d.byte()}
	for _, p := range [...]*uint32{&r.mode, &r.nlink, &r.uid, &r.gid, &r.rdev} {
		*p = d.uint32()
	}
	r.size, r.blocks, r.xattrs = d.uvarint(), d.uvarint(), d.uvarint()
	r.btime = sharefs.Time(d.uint64())
	for _, p := range [...]*sharefs.Time{&r.atime, &r.mtime, &r.ctime} {
		*p = r.btime + sharefs.Time(d.varint())
	}
	copy(r.id[:], d.take(len(r.id)))
	switch {
	case r.isDir():
		r.parent, r.entries = sharefs.Ino(d.uvarint()), d.uvarint()
	case r.isSymlink():
		r.target = string(d.take(len(d.b)))
	}
	if d.bad || len(d.b) > 0 {
		return nil, corrupt("inode row", ino)
	}
	return r, nil
}

// decoder reads the fields of a row one after the other; once something is wrong bad stays set and all that follows reads as zero.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || n > len(d.b) {
		d.bad, d.b = true, nil
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) byte() byte {
	if v := d.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (d *decoder) uint64() uint64 {
	if v := d.take(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) uint32() uint32 {
	v := d.uvarint()
	if v > 1<<32-1 {
		d.bad = true
	}
	return uint32(v)
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}
