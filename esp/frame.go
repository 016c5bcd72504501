package esp

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"sharefs/esp/internal/interval"
)

// Frame types. Types below 0x40 are critical: one that is not known ends the session. A type of 0x40 and above is
// followed by a varint length and is skipped when it is not known, so that the protocol can grow.
const (
	framePadding       = 0x00 //
	framePing          = 0x01 //
	frameAck           = 0x02 // path, delay µs, ranges-1, largest, first length-1, then gap-1, length-1 …
	frameClose         = 0x03 // code, reason length, reason
	frameMaxData       = 0x04 // limit on the sum of all stream offsets
	frameMaxStreamData = 0x05 // stream, limit
	frameMaxStreams    = 0x06 // how many streams the peer may have opened in all
	frameOpen          = 0x07 // stream, window that the opener grants
	frameOpenAck       = 0x08 // stream, window that the acceptor grants
	frameReset         = 0x09 // stream, code, final size
	frameStopSending   = 0x0a // stream, code
	framePathChallenge = 0x0b // 8 bytes
	framePathResponse  = 0x0c // the same 8 bytes
	framePathStatus    = 0x0d // path, sequence, status
	framePathAbandon   = 0x0e // path, code
	frameNewCID        = 0x0f // path, CID u64, reset token 16 bytes
	frameRetireCID     = 0x10 // path
	frameAddrs         = 0x11 // sequence, count, addresses
	frameObservedAddr  = 0x12 // path, address
	frameKeyEx         = 0x13 // sequence, first epoch that mixes the secret in, X25519 public key 32 bytes
	frameStream        = 0x18 // …0x1b: stream, offset, [length,] data
	streamFin          = 0x01 // bit: the data end the stream
	streamLen          = 0x02 // bit: a length stands before the data, else they reach to the end of the packet

	frameIgnorable = 0x40
)

const (
	maxAckRanges   = 64
	maxReason      = 256
	maxAddrs       = 64
	maxFrameStream = 1<<60 - 1
)

// Statuses of PATH_STATUS.
const (
	statusStandby = 0 // the sender keeps the path for later
	statusActive  = 1 // the sender sends its data here
)

// frame is one parsed frame: a union, of which typ says what is set. data and ranges point into the packet and into
// the reader's own buffer.
type frame struct {
	typ    uint64
	id     uint64 // stream or path
	off    uint64 // offset, limit, final size or sequence
	code   uint64 // code, status or epoch
	fin    bool
	delay  time.Duration
	cid    uint64
	data   []byte
	ranges []interval.Range // ascending
	addrs  []candidateAddr
}

// candidateAddr is one address in ADDRS.
type candidateAddr struct {
	addr netip.AddrPort
	tcp  bool
}

var (
	errFrame        = errors.New("esp: malformed frame")
	errUnknownFrame = errors.New("esp: unknown critical frame")
)

// frameReader takes the frames of one packet one by one, without allocating in the common case.
type frameReader struct {
	r      reader
	ranges [maxAckRanges]interval.Range
}

func (fr *frameReader) reset(b []byte) { fr.r = reader{b: b} }

// next reads one frame. ok is false at the end of the packet; err is errFrame or errUnknownFrame, after which the
// rest must not be read.
func (fr *frameReader) next(f *frame) (ok bool, err error) {
	r := &fr.r
	for len(r.b) > 0 && r.b[0] == framePadding {
		r.b = r.b[1:]
	}
	if len(r.b) == 0 {
		return false, nil
	}
	typ := r.varint()
	f.typ = typ
	switch {
	case r.bad:
	case typ&^3 == frameStream:
		f.id, f.off, f.fin = r.varint(), r.varint(), typ&streamFin != 0
		n := uint64(len(r.b))
		if typ&streamLen != 0 {
			n = r.varint()
		}
		if n > uint64(len(r.b)) || f.off+n > maxVarint || f.id > maxFrameStream {
			r.fail()
			break
		}
		f.data = r.take(int(n))
	case typ == frameAck:
		fr.readAck(f)
	case typ >= frameIgnorable:
		n := r.varint()
		if n > uint64(len(r.b)) {
			r.fail()
			break
		}
		f.data = r.take(int(n))
	default:
		if !fr.readControl(f) {
			return false, errUnknownFrame
		}
	}
	if r.bad {
		return false, errFrame
	}
	return true, nil
}

// readControl reads the frames that are neither STREAM nor ACK. It is false for an unknown type.
func (fr *frameReader) readControl(f *frame) bool {
	r := &fr.r
	switch f.typ {
	case framePing:
	case frameClose:
		f.code = r.varint()
		f.data = r.takeVar(maxReason)
	case frameMaxData, frameMaxStreams:
		f.off = r.varint()
	case frameMaxStreamData, frameOpen, frameOpenAck:
		f.id, f.off = r.varint(), r.varint()
	case frameReset:
		f.id, f.code, f.off = r.varint(), r.varint(), r.varint()
	case frameStopSending, framePathAbandon:
		f.id, f.code = r.varint(), r.varint()
	case framePathChallenge, framePathResponse:
		f.data = r.take(8)
	case framePathStatus:
		f.id, f.off, f.code = r.varint(), r.varint(), r.varint()
	case frameNewCID:
		f.id, f.cid = r.varint(), r.u64()
		f.data = r.take(resetTokSize)
	case frameRetireCID:
		f.id = r.varint()
	case frameAddrs:
		f.off = r.varint()
		n := r.varint()
		if n > maxAddrs {
			r.fail()
		}
		f.addrs = f.addrs[:0]
		for i := uint64(0); i < n && !r.bad; i++ {
			f.addrs = append(f.addrs, readAddr(r))
		}
	case frameObservedAddr:
		f.id = r.varint()
		f.addrs = append(f.addrs[:0], readAddr(r))
	case frameKeyEx:
		f.off, f.code = r.varint(), r.varint()
		f.data = r.take(KeySize)
	default:
		return false
	}
	switch f.typ {
	case framePathStatus, framePathAbandon, frameNewCID, frameRetireCID, frameObservedAddr:
		if f.id > maxPathID {
			r.fail()
		}
	}
	return true
}

func (fr *frameReader) readAck(f *frame) {
	r := &fr.r
	f.id = r.varint()
	f.delay = time.Duration(min(r.varint(), 1<<24)) * time.Microsecond
	n := r.varint() + 1
	largest, first := r.varint(), r.varint()
	if r.bad || n > maxAckRanges || first > largest || largest > maxPN || f.id > maxPathID {
		r.fail()
		return
	}
	out := fr.ranges[maxAckRanges-n:] // filled from the back: the wire descends, the caller wants ascending
	out[n-1] = interval.Range{Start: largest - first, End: largest + 1}
	low := largest - first
	for i := int(n) - 2; i >= 0; i-- {
		gap, length := r.varint()+1, r.varint()+1
		if r.bad || gap+length > low {
			r.fail()
			return
		}
		end := low - gap
		low = end - length
		out[i] = interval.Range{Start: low, End: end}
	}
	f.ranges = out
}

// Appenders. Each is pinned by a hex table in frame_test.go.

// appendAck writes an ACK of the ranges (ascending, half open, not empty, the newest maxAckRanges are taken) for a
// path. room bounds what may be appended: the oldest ranges are left out when they do not fit. It appends nothing
// when not even one fits.
func appendAck(b []byte, path uint32, delay time.Duration, ranges []interval.Range, room int) []byte {
	if len(ranges) > maxAckRanges {
		ranges = ranges[len(ranges)-maxAckRanges:]
	}
	last := ranges[len(ranges)-1]
	us := uint64(max(delay, 0) / time.Microsecond)
	size := 1 + varintLen(uint64(path)) + varintLen(us) + 2 + varintLen(last.End-1) + varintLen(last.End-last.Start-1)
	n := 1
	for i := len(ranges) - 2; i >= 0; i-- {
		more := varintLen(ranges[i+1].Start-ranges[i].End-1) + varintLen(ranges[i].End-ranges[i].Start-1)
		if size+more > room {
			break
		}
		size += more
		n++
	}
	if size > room {
		return b
	}
	b = append(b, frameAck)
	b = appendVarint(b, uint64(path))
	b = appendVarint(b, us)
	b = appendVarint(b, uint64(n-1))
	b = appendVarint(b, last.End-1)
	b = appendVarint(b, last.End-last.Start-1)
	for i := len(ranges) - 2; i >= len(ranges)-n; i-- {
		b = appendVarint(b, ranges[i+1].Start-ranges[i].End-1)
		b = appendVarint(b, ranges[i].End-ranges[i].Start-1)
	}
	return b
}

// streamFrameOverhead is the most that the header of a STREAM frame takes.
const streamFrameOverhead = 1 + 8 + 8 + 4

// appendStreamHeader writes a STREAM header with a length field of fixed size (two bytes below 16 KiB, else four),
// behind which n bytes follow.
func appendStreamHeader(b []byte, id, off uint64, n int, fin bool) []byte {
	typ := byte(frameStream | streamLen)
	if fin {
		typ |= streamFin
	}
	b = append(b, typ)
	b = appendVarint(b, id)
	b = appendVarint(b, off)
	return appendVarint(b, uint64(n))
}

// streamHeaderLen is what appendStreamHeader will write.
func streamHeaderLen(id, off uint64, n int) int {
	return 1 + varintLen(id) + varintLen(off) + varintLen(uint64(n))
}

// ctrl is a control frame that waits to be sent or that a packet in flight carries. It can be sent again as it is.
type ctrl struct {
	typ  uint8
	id   uint64
	a, b uint64
	data []byte // challenge, token, reason, key or encoded addresses
}

// size is the most that c takes on the wire.
func (c *ctrl) size() int { return 1 + 8*3 + 4 + len(c.data) }

func (c *ctrl) append(b []byte) []byte {
	b = append(b, c.typ)
	switch c.typ {
	case framePing:
	case frameClose:
		b = appendVarint(b, c.a)
		b = appendVarint(b, uint64(len(c.data)))
		b = append(b, c.data...)
	case frameMaxData, frameMaxStreams:
		b = appendVarint(b, c.a)
	case frameMaxStreamData, frameOpen, frameOpenAck, frameStopSending, framePathAbandon:
		b = appendVarint(b, c.id)
		b = appendVarint(b, c.a)
	case frameReset, framePathStatus:
		b = appendVarint(b, c.id)
		b = appendVarint(b, c.a)
		b = appendVarint(b, c.b)
	case framePathChallenge, framePathResponse:
		b = append(b, c.data...)
	case frameNewCID:
		b = appendVarint(b, c.id)
		b = binary.BigEndian.AppendUint64(b, c.a)
		b = append(b, c.data...)
	case frameRetireCID:
		b = appendVarint(b, c.id)
	case frameAddrs: // data holds count and addresses
		b = appendVarint(b, c.a)
		b = append(b, c.data...)
	case frameObservedAddr: // data holds the address
		b = appendVarint(b, c.id)
		b = append(b, c.data...)
	case frameKeyEx:
		b = appendVarint(b, c.a)
		b = appendVarint(b, c.b)
		b = append(b, c.data...)
	default:
		panic("esp: control frame of unknown type")
	}
	return b
}

// Addresses: kind u8 (4 or 6, bit 0x10 for TCP), 4 or 16 bytes, port u16.
const addrTCP = 0x10

func appendAddr(b []byte, a candidateAddr) []byte {
	kind := byte(4)
	ip := a.addr.Addr().Unmap()
	if ip.Is6() {
		kind = 6
	}
	if a.tcp {
		kind |= addrTCP
	}
	b = append(b, kind)
	b = append(b, ip.AsSlice()...)
	return binary.BigEndian.AppendUint16(b, a.addr.Port())
}

func readAddr(r *reader) (a candidateAddr) {
	kind := r.u8()
	a.tcp = kind&addrTCP != 0
	size := 0
	switch kind &^ addrTCP {
	case 4:
		size = 4
	case 6:
		size = 16
	default:
		r.fail()
		return a
	}
	ip, _ := netip.AddrFromSlice(r.take(size))
	port := r.u16()
	if !r.bad {
		a.addr = netip.AddrPortFrom(ip.Unmap(), port)
	}
	return a
}
