package near

import (
	"encoding/binary"
	"hash/crc32"
	"io"

	"sharefs"
	"sharefs/versions/pack"
)

// Sizes of the format, in bytes.
const (
	noteLen   = 4096
	blockLen  = 64 << 10
	pinnedMax = 256 << 10 // of a pack's tail that is kept; of a longer one the footer alone is
	maxPack   = 1 << 31
	maxTag    = 256
	maxURL    = 1024
	noteText  = 64 + pack.HeaderLen
)

const (
	noteMagic  = "sharefsN"
	noteFormat = 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// blockSum is the checksum of a block that is here.
func blockSum(b []byte) uint32 { return max(1, checksum(b)) }

// note tells of a remote pack.
type note struct {
	id   pack.ID
	size int64 // of the pack, bytes
	tail int64 // where what is kept of its end begins
	sum  uint32
	head [pack.HeaderLen]byte
	etag string // that the bucket gave it; empty: not known
	url  string // of the bucket
}

func roundUp(n int64) int64 { return (n + noteLen - 1) / noteLen * noteLen }

// blocks returns how many blocks the pack has.
func (n *note) blocks() int { return int((n.size + blockLen - 1) / blockLen) }

// table and data return where the checksums and the blocks begin in the file.
func (n *note) table() int64 { return noteLen + roundUp(n.size-n.tail) }
func (n *note) data() int64  { return n.table() + roundUp(4*int64(n.blocks())) }

// blockSize returns the length of a block.
func (n *note) blockSize(i int) int64 { return min(blockLen, n.size-int64(i)*blockLen) }

func (n *note) encode() []byte {
	b := make([]byte, noteLen)
	copy(b, noteMagic)
	binary.BigEndian.PutUint16(b[8:], noteFormat)
	binary.BigEndian.PutUint16(b[10:], uint16(len(n.etag)))
	binary.BigEndian.PutUint16(b[12:], uint16(len(n.url)))
	copy(b[16:], n.id[:])
	binary.BigEndian.PutUint64(b[32:], uint64(n.size))
	binary.BigEndian.PutUint64(b[40:], uint64(n.tail))
	binary.BigEndian.PutUint32(b[48:], n.sum)
	copy(b[64:], n.head[:])
	copy(b[noteText:], n.etag+n.url)
	binary.BigEndian.PutUint32(b[60:], noteSum(b))
	return b
}

func noteSum(b []byte) uint32 { return crc32.Update(checksum(b[:60]), castagnoli, b[64:noteLen]) }

// decodeNote is the inverse of encode. Its errors are of kind corrupt, or not supported for what a later format may be.
func decodeNote(b []byte) (n note, err error) {
	bad := func(detail string) (note, error) {
		return note{}, &sharefs.Error{Op: "read the note of a pack", Kind: sharefs.KindCorrupt, Detail: detail}
	}
	if len(b) < noteLen || string(b[:8]) != noteMagic || binary.BigEndian.Uint32(b[60:]) != noteSum(b) {
		return bad("it is not whole")
	}
	if binary.BigEndian.Uint16(b[8:]) != noteFormat {
		return note{}, &sharefs.Error{Op: "read the note of a pack", Kind: sharefs.KindNotSupported, Detail: "it has a later format"}
	}
	tag, url := int(binary.BigEndian.Uint16(b[10:])), int(binary.BigEndian.Uint16(b[12:]))
	if tag > maxTag || url > maxURL {
		return bad("its lengths are impossible")
	}
	n.id = pack.ID(b[16:32])
	n.size = int64(binary.BigEndian.Uint64(b[32:]))
	n.tail = int64(binary.BigEndian.Uint64(b[40:]))
	n.sum = binary.BigEndian.Uint32(b[48:])
	copy(n.head[:], b[64:])
	n.etag, n.url = string(b[noteText:noteText+tag]), string(b[noteText+tag:noteText+tag+url])
	if n.size < pack.HeaderLen+pack.FooterLen || n.size > maxPack || n.tail < pack.HeaderLen || n.tail > n.size-pack.FooterLen || n.size-n.tail > pinnedMax {
		return bad("its lengths are impossible")
	}
	return n, nil
}

// makeNote reads what a note holds of a pack, and returns the tail with it. An error of kind corrupt says that the pack's ends are damaged.
func makeNote(r io.ReaderAt, id pack.ID, size int64, etag, url string) (n note, tail []byte, err error) {
	n = note{id: id, size: size, etag: etag, url: url}
	if size < pack.HeaderLen+pack.FooterLen || size > maxPack {
		return n, nil, &sharefs.Error{Op: "read a pack", Path: id.String(), Kind: sharefs.KindCorrupt, Detail: "it ends too early"}
	}
	if len(etag) > maxTag {
		n.etag = ""
	}
	if len(url) > maxURL {
		n.url = url[:maxURL]
	}
	if err := readFull(r, n.head[:], 0); err != nil {
		return n, nil, err
	}
	tail = make([]byte, min(noteLen*8, size-pack.HeaderLen)) // mostly the whole of it
	if err := readFull(r, tail, size-int64(len(tail))); err != nil {
		return n, nil, err
	}
	at, err := pack.Bounds(id, n.head[:], tail[len(tail)-pack.FooterLen:], size)
	if err != nil {
		return n, nil, err
	}
	switch want := size - at; {
	case want > pinnedMax:
		tail = tail[len(tail)-pack.FooterLen:]
	case want <= int64(len(tail)):
		tail = tail[int64(len(tail))-want:]
	default:
		rest := make([]byte, want)
		copy(rest[want-int64(len(tail)):], tail)
		if err := readFull(r, rest[:want-int64(len(tail))], at); err != nil {
			return n, nil, err
		}
		tail = rest
	}
	n.tail, n.sum = size-int64(len(tail)), checksum(tail)
	return n, tail, nil
}

// readFull reads exactly len(b) bytes; fewer are corruption.
func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	switch {
	case n == len(b):
		return nil
	case err == nil || err == io.EOF:
		return &sharefs.Error{Op: "read", Kind: sharefs.KindCorrupt, Detail: "it ends too early"}
	}
	return err
}
