package pack

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"

	"github.com/zeebo/blake3"

	"sharefs"
)

// ID names a pack: 128 random bits.
type ID [16]byte

// String returns the id in 32 hexadecimal digits, which is the name of the pack's file.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// ParseID reads the name of a pack's file.
func ParseID(s string) (id ID, ok bool) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, false
	}
	copy(id[:], b)
	return id, id.String() == s
}

// Type tells what a record holds.
type Type uint8

// The types of records.
const (
	TypeChunk Type = 1 // content
	TypeMap   Type = 2 // a piece of the map from a version to its chunks
	typeIndex Type = 3 // where the records before it are
	TypeRows  Type = 4 // rows of the tree, of a checkpoint; its id is not the name of its content
)

// Codec tells how the plain body was packed before it was sealed.
type Codec uint8

// The codecs.
const (
	Stored Codec = 0
	Zstd   Codec = 1
)

// Sizes of the format, in bytes.
const (
	packHeaderLen   = 64
	recordHeaderLen = 64
	footerLen       = 32
	indexEntryLen   = 48
	tagLen          = 16
	boundLen        = 56 // of a record header, that the seal binds

	// MaxPlain bounds the plain body of a record. A header that says more is damaged or hostile.
	MaxPlain = 4 << 20
	// maxSize bounds a pack: offsets have 32 bits.
	maxSize = 1 << 31
)

const (
	packMagic   = "sharefsP"
	footerMagic = "sharefsE"
	recordMagic = "Rc"
	format      = 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// Header begins a pack.
type Header struct {
	ID      ID
	Epoch   Epoch
	Created sharefs.HLC
}

func (h *Header) encode() []byte {
	b := make([]byte, packHeaderLen)
	copy(b, packMagic)
	binary.BigEndian.PutUint16(b[8:], format)
	binary.BigEndian.PutUint32(b[12:], h.Epoch.Number)
	copy(b[16:], h.ID[:])
	binary.BigEndian.PutUint64(b[32:], uint64(h.Created))
	copy(b[40:], h.Epoch.Key[:])
	binary.BigEndian.PutUint32(b[60:], checksum(b[:60]))
	return b
}

func decodeHeader(b []byte) (h Header, err error) {
	switch {
	case len(b) < packHeaderLen || string(b[:8]) != packMagic || checksum(b[:60]) != binary.BigEndian.Uint32(b[60:]):
		return h, damaged("the header is not whole")
	case binary.BigEndian.Uint16(b[8:]) != format:
		return h, &sharefs.Error{Op: "pack", Kind: sharefs.KindNotSupported, Detail: "a pack of a later format"}
	}
	h.Epoch.Number = binary.BigEndian.Uint32(b[12:])
	copy(h.ID[:], b[16:])
	h.Created = sharefs.HLC(binary.BigEndian.Uint64(b[32:]))
	copy(h.Epoch.Key[:], b[40:])
	return h, nil
}

// recordHeader is the decoded header of a record.
type recordHeader struct {
	typ    Type
	codec  Codec
	sealed uint32 // length of the body as it lies in the pack, with the tag
	plain  uint32
	nonce  [12]byte
	id     sharefs.ChunkID
	body   uint32 // CRC of the sealed body
}

func (h *recordHeader) encode(b []byte) {
	_ = b[recordHeaderLen-1]
	copy(b, recordMagic)
	b[2], b[3] = byte(h.typ), byte(h.codec)
	binary.BigEndian.PutUint32(b[4:], h.sealed)
	binary.BigEndian.PutUint32(b[8:], h.plain)
	copy(b[12:24], h.nonce[:])
	copy(b[24:56], h.id[:])
	binary.BigEndian.PutUint32(b[56:], h.body)
	binary.BigEndian.PutUint32(b[60:], checksum(b[:60]))
}

// decodeRecord reads a record header. It accepts only lengths that a record of this package can have.
func decodeRecord(b []byte) (h recordHeader, err error) {
	if len(b) < recordHeaderLen || string(b[:2]) != recordMagic || checksum(b[:60]) != binary.BigEndian.Uint32(b[60:]) {
		return h, damaged("a record's header is not whole")
	}
	h.typ, h.codec = Type(b[2]), Codec(b[3])
	h.sealed = binary.BigEndian.Uint32(b[4:])
	h.plain = binary.BigEndian.Uint32(b[8:])
	copy(h.nonce[:], b[12:24])
	copy(h.id[:], b[24:56])
	h.body = binary.BigEndian.Uint32(b[56:])
	limit := uint32(MaxPlain)
	if h.typ == typeIndex {
		limit = maxSize
	}
	switch {
	case h.sealed < tagLen || h.plain > limit || h.sealed-tagLen > h.plain:
		return h, damaged("a record's lengths are impossible")
	case h.codec == Stored && h.sealed-tagLen != h.plain, h.codec > Zstd:
		return h, damaged("a record's codec and lengths do not fit")
	case h.typ < TypeChunk || h.typ > TypeRows:
		return h, damaged("a record's type is unknown")
	}
	return h, nil
}

// footer ends a sealed pack.
type footer struct {
	index   uint64 // offset of the index record
	records uint32
	length  uint32 // of the index record, header and sealed body
}

func (f *footer) encode() []byte {
	b := make([]byte, footerLen)
	copy(b, footerMagic)
	binary.BigEndian.PutUint64(b[8:], f.index)
	binary.BigEndian.PutUint32(b[16:], f.records)
	binary.BigEndian.PutUint32(b[20:], f.length)
	binary.BigEndian.PutUint32(b[28:], checksum(b[:28]))
	return b
}

func decodeFooter(b []byte, size int64) (f footer, err error) {
	if len(b) < footerLen || string(b[:8]) != footerMagic || checksum(b[:28]) != binary.BigEndian.Uint32(b[28:]) {
		return f, damaged("the footer is not whole")
	}
	f.index = binary.BigEndian.Uint64(b[8:])
	f.records = binary.BigEndian.Uint32(b[16:])
	f.length = binary.BigEndian.Uint32(b[20:])
	if f.index < packHeaderLen || f.index > maxSize || int64(f.index)+int64(f.length)+footerLen != size || f.length < recordHeaderLen+tagLen {
		return f, damaged("the footer does not fit the pack")
	}
	return f, nil
}

// newAEAD derives the key of a pack.
func newAEAD(share [32]byte, h *Header) cipher.AEAD {
	material := make([]byte, 0, 64)
	material = append(material, share[:]...)
	material = binary.BigEndian.AppendUint32(material, h.Epoch.Number)
	material = append(material, h.ID[:]...)
	var key [32]byte
	blake3.DeriveKey("sharefs 2026-11 key of a pack", material, key[:])
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // only a key of a wrong length is refused
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

func damaged(detail string) error {
	return &sharefs.Error{Op: "pack", Kind: sharefs.KindCorrupt, Detail: detail}
}
