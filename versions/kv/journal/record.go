package journal

import (
	"encoding/binary"
	"hash/crc32"
)

// Sizes of the format, in bytes.
const (
	SegmentHeaderSize = 32      // magic 8, number 8, salt 8, zero 4, CRC32C 4
	HeaderSize        = 24      // length 4, CRC32C 4, sequence 8, durable 8; Append wants this much room in front of a payload
	MaxPayload        = 1 << 26 // what a record may hold; a longer length is damage
)

const magic = "SFSJRNL1"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Record is one entry of the journal.
type Record struct {
	Seq     uint64 // 1, 2, 3 …
	Durable uint64 // the last number known to be synced when this one was written
	Payload []byte
}

// checksum covers the salt, the header without the checksum itself, and the payload of the record in rec.
func checksum(salt *[8]byte, rec []byte) uint32 {
	c := crc32.Update(0, castagnoli, salt[:])
	c = crc32.Update(c, castagnoli, rec[0:4])
	return crc32.Update(c, castagnoli, rec[8:])
}

// seal fills the header in front of the payload.
func seal(rec []byte, salt *[8]byte, seq, durable uint64) {
	binary.BigEndian.PutUint32(rec[0:], uint32(len(rec)-HeaderSize))
	binary.BigEndian.PutUint64(rec[8:], seq)
	binary.BigEndian.PutUint64(rec[16:], durable)
	binary.BigEndian.PutUint32(rec[4:], checksum(salt, rec))
}

// parse reads the record at the start of data. n is its whole length, 0 where there is none.
func parse(data []byte, salt *[8]byte) (r Record, n int) {
	if len(data) <= HeaderSize {
		return Record{}, 0
	}
	length := binary.BigEndian.Uint32(data)
	if length == 0 || length > MaxPayload || int(length) > len(data)-HeaderSize {
		return Record{}, 0
	}
	n = HeaderSize + int(length)
	if binary.BigEndian.Uint32(data[4:]) != checksum(salt, data[:n]) {
		return Record{}, 0
	}
	return Record{
		Seq:     binary.BigEndian.Uint64(data[8:]),
		Durable: binary.BigEndian.Uint64(data[16:]),
		Payload: data[HeaderSize:n:n],
	}, n
}

func segmentHeader(number uint64, salt [8]byte) []byte {
	h := make([]byte, SegmentHeaderSize)
	copy(h, magic)
	binary.BigEndian.PutUint64(h[8:], number)
	copy(h[16:], salt[:])
	binary.BigEndian.PutUint32(h[28:], crc32.Checksum(h[:28], castagnoli))
	return h
}

// parseSegmentHeader returns the salt; ok is false where the header is torn or that of another segment.
func parseSegmentHeader(data []byte, number uint64) (salt [8]byte, ok bool) {
	if len(data) < SegmentHeaderSize || string(data[:8]) != magic || binary.BigEndian.Uint64(data[8:]) != number ||
		binary.BigEndian.Uint32(data[28:]) != crc32.Checksum(data[:28], castagnoli) {
		return salt, false
	}
	copy(salt[:], data[16:])
	return salt, true
}

// ParseSegment calls fn for each record of a segment file, in order, up to the first that cannot be read or does not
// follow the one before it; payloads are parts of data. It returns where the readable part ends.
func ParseSegment(number uint64, data []byte, fn func(Record)) (end int) {
	salt, ok := parseSegmentHeader(data, number)
	if !ok {
		return 0
	}
	end = SegmentHeaderSize
	for prev := uint64(0); ; {
		r, n := parse(data[end:], &salt)
		if n == 0 || r.Seq == 0 || prev != 0 && r.Seq != prev+1 {
			return end
		}
		fn(r)
		prev = r.Seq
		end += n
	}
}

// Bounds of the search behind a tear, so that content that somebody chose cannot make it long.
const (
	maxCandidates    = 4096
	maxCandidateCost = 256 << 20 // bytes to checksum
)

// durableBehind looks for whole records behind the first unreadable one and returns the greatest number that one of them
// knows to be synced: if that is beyond what could be read, the tear is damage to synced data.
func durableBehind(number uint64, data []byte, end int) (durable uint64) {
	salt, ok := parseSegmentHeader(data, number)
	if !ok {
		return 0
	}
	cost := 0
	for tries := 0; end+HeaderSize < len(data) && tries < maxCandidates && cost < maxCandidateCost; end++ {
		length := binary.BigEndian.Uint32(data[end:])
		if length == 0 || length > MaxPayload || int(length) > len(data)-end-HeaderSize {
			continue
		}
		// A number that is known to be synced is smaller than the record's own.
		if binary.BigEndian.Uint64(data[end+16:]) >= binary.BigEndian.Uint64(data[end+8:]) {
			continue
		}
		tries++
		cost += int(length)
		if r, n := parse(data[end:], &salt); n > 0 {
			durable = max(durable, r.Durable)
			end += n - 1
		}
	}
	return durable
}
