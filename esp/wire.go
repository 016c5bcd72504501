package esp

import (
	"encoding/binary"
	"errors"
)

// The wire format in short; docs/esp-wire.md has it in full. Integers are big endian, "varint" is that of RFC 9000
// section 16.
//
//	data packet (UDP)   flags u8 | destination CID u64 | packet number u48 | sealed frames + tag 16
//	data record (TCP)   epoch u2, length u22 | sealed frames + tag 16        (packet numbers count 0, 1, 2 … unspoken)
//	handshake packet    0x80|type u8 | version u32 | …               (the same over TCP after a length u24)
const (
	// Version is the version of the protocol that this package speaks, "esp/1".
	Version = 1

	flagHandshake = 0x80 // first byte of a handshake packet; clear in a data packet
	epochMask     = 0x03 // the key epoch modulo 4, in the first byte of a data packet

	cidOffset    = 1
	pnOffset     = cidOffset + 8
	headerSize   = pnOffset + 6 // of a data packet
	tagSize      = 16
	packetExtra  = headerSize + tagSize
	maxPN        = 1<<48 - 1
	minDatagram  = 1200  // every path must carry UDP payloads of this size (as QUIC, RFC 9000 section 14)
	maxDatagram  = 65507 // the largest UDP payload over IPv4
	resetSize    = 40    // a stateless reset: 1+23 random bytes and a token of 16
	resetTokSize = 16

	recordHeader  = 3 // the length before a TCP record
	maxRecord     = recordHeader + maxRecordBody
	maxRecordBody = 72 << 10 // sealed bytes of one TCP record, tag included
)

// errTruncated reports bytes that end too early. It never leaves the package: such packets are dropped and counted.
var errTruncated = errors.New("esp: truncated")

const maxVarint = 1<<62 - 1

// appendVarint appends v in 1, 2, 4 or 8 bytes (RFC 9000 section 16). v must be below 2⁶².
func appendVarint(b []byte, v uint64) []byte {
	switch {
	case v < 1<<6:
		return append(b, byte(v))
	case v < 1<<14:
		return append(b, byte(v>>8)|0x40, byte(v))
	case v < 1<<30:
		return append(b, byte(v>>24)|0x80, byte(v>>16), byte(v>>8), byte(v))
	case v <= maxVarint:
		return binary.BigEndian.AppendUint64(b, v|0xc0<<56)
	}
	panic("esp: varint out of range")
}

// varintLen is the number of bytes that appendVarint takes.
func varintLen(v uint64) int {
	switch {
	case v < 1<<6:
		return 1
	case v < 1<<14:
		return 2
	case v < 1<<30:
		return 4
	}
	return 8
}

// readVarint reads a varint from the front of b. n is 0 when b is too short.
func readVarint(b []byte) (v uint64, n int) {
	if len(b) == 0 {
		return 0, 0
	}
	n = 1 << (b[0] >> 6)
	if len(b) < n {
		return 0, 0
	}
	switch n {
	case 1:
		return uint64(b[0] & 0x3f), 1
	case 2:
		return uint64(b[0]&0x3f)<<8 | uint64(b[1]), 2
	case 4:
		return uint64(binary.BigEndian.Uint32(b)) & (1<<30 - 1), 4
	}
	return binary.BigEndian.Uint64(b) & maxVarint, 8
}

// putHeader writes the header of a data packet into the first headerSize bytes of b.
func putHeader(b []byte, epoch uint64, cid, pn uint64) {
	_ = b[headerSize-1]
	b[0] = byte(epoch & epochMask)
	binary.BigEndian.PutUint64(b[cidOffset:], cid)
	b[pnOffset] = byte(pn >> 40)
	b[pnOffset+1] = byte(pn >> 32)
	binary.BigEndian.PutUint32(b[pnOffset+2:], uint32(pn))
}

// header is a parsed data packet header.
type header struct {
	epoch byte // modulo 4
	cid   uint64
	pn    uint64
}

// parseHeader reads the header of a data packet; ok is false for what cannot be one.
func parseHeader(b []byte) (h header, ok bool) {
	if len(b) < packetExtra || b[0]&^epochMask != 0 {
		return header{}, false
	}
	h.epoch = b[0] & epochMask
	h.cid = binary.BigEndian.Uint64(b[cidOffset:])
	h.pn = uint64(binary.BigEndian.Uint16(b[pnOffset:]))<<32 | uint64(binary.BigEndian.Uint32(b[pnOffset+2:]))
	return h, true
}

// putRecordHeader writes the header of a TCP record with n sealed bytes.
func putRecordHeader(b []byte, epoch uint64, n int) {
	b[0], b[1], b[2] = byte(epoch&epochMask)<<6|byte(n>>16), byte(n>>8), byte(n)
}

// parseRecordHeader reads what putRecordHeader wrote.
func parseRecordHeader(b []byte) (epoch byte, n int) {
	return b[0] >> 6, int(b[0]&0x3f)<<16 | int(b[1])<<8 | int(b[2])
}

// reader takes fields from the front of a byte string; the first failure sticks in bad.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) varint() uint64 {
	v, n := readVarint(r.b)
	if n == 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) u8() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// take returns the next n bytes, nil on failure (also for a length that does not fit into an int).
func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail()
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

// takeVar returns a byte string that a varint length precedes, at most limit long.
func (r *reader) takeVar(limit int) []byte {
	n := r.varint()
	if n > uint64(limit) {
		r.fail()
		return nil
	}
	return r.take(int(n))
}

func (r *reader) fail() {
	r.bad = true
	r.b = nil
}
