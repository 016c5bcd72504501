package versions

import (
	"encoding/binary"

	"sharefs"
)

// adopting is a file into which another host's content is being put in place. While it is, the file holds parts of two versions, which is nothing that anybody wrote. So
// a row says so before the first byte goes there (inplace.go). An absent file that becomes full has one as well, for it is empty until the content has its place (adopt.go).
//
// On disk (space adopting, key: inode):
//
//	1 byte    format: 1
//	uvarint   number of the newest of the inode's own versions, which the file held before; 0: none, and it was empty
//	varint    modification time that its row had before
//	32 bytes  who made the content
//	uvarint   size in bytes
//	varint    its modification time
//	uvarint   place of the share key of its manifest, as in the row of a version (version_row.go)
//	1 byte    level, then the list at the top of its manifest (manifest.go)
type adopting struct {
	base   uint64
	was    sharefs.Time
	author sharefs.PeerID
	size   int64
	mtime  sharefs.Time
	key    uint64
	top    manifest
}

const adoptingFormat = 1

func (a *adopting) encode() []byte {
	b := binary.AppendUvarint([]byte{adoptingFormat}, a.base)
	b = binary.AppendVarint(b, int64(a.was))
	b = append(b, a.author[:]...)
	b = binary.AppendUvarint(b, uint64(a.size))
	b = binary.AppendVarint(b, int64(a.mtime))
	b = binary.AppendUvarint(b, a.key)
	b = append(b, a.top.level)
	return appendSpans(b, a.top.spans)
}

// decodeAdopting reads what encode wrote; anything else is an [sharefs.Error] of KindCorrupt.
func decodeAdopting(ino sharefs.Ino, value []byte) (adopting, error) {
	d := decoder{b: value}
	format := d.byte()
	a := adopting{base: d.uvarint(), was: sharefs.Time(d.varint())}
	copy(a.author[:], d.take(len(a.author)))
	size := d.uvarint()
	a.mtime = sharefs.Time(d.varint())
	a.key = d.uvarint()
	a.top.level = d.byte()
	if d.bad || format != adoptingFormat || size > 1<<63-1 || a.key > maxPlaces || a.top.level > maxLevel {
		return adopting{}, corrupt("row of a file that is being adopted", ino)
	}
	a.size = int64(size)
	spans, ok := decodeSpans(d.b, a.size)
	if !ok || len(spans) > topSpans {
		return adopting{}, corrupt("row of a file that is being adopted", ino)
	}
	a.top.spans = spans
	return a, nil
}
