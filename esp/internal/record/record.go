// Package record is the layer between what a program writes to a stream and the bytes whose offsets the transport
// acknowledges: it splits the writes into records, each compressed by itself or not. Since it lies above the offsets, a
// retransmission never compresses again, and since it is the same over every carrier, so are the bytes of a stream.
//
// A stream is a sequence of records without anything between them:
//
//	+----------------+----------------+-----------+------------------+
//	| rawLen varint  | encLen varint  | codec u8  | body, encLen B   |
//	+----------------+----------------+-----------+------------------+
//
//	varint  unsigned LEB128 in its shortest form, as encoding/binary's Uvarint
//	rawLen  1 to 262144: bytes that the program wrote
//	encLen  1 to 262144: bytes of the body
//	codec   0  raw:  the body is what was written; encLen = rawLen
//	        1  zstd: the body is one or more zstd frames (RFC 8878) without dictionary that decode to exactly rawLen
//	                 bytes; encLen < rawLen; a window of more than 256 KiB is refused
//
// An [Encoder] decides for each record whether compressing pays; a [Decoder] gives back the bytes, a raw body as it
// arrives, a compressed one when it is complete. What one Write wrote is never merged with what another did: lengths of
// compressed secrets beside text of an attacker's choice would tell of the secrets (CRIME).
//
// A [Codec] holds the compressors that all streams of an endpoint share.
package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
)

const (
	// MaxRaw is the most a record may hold, in bytes, both raw and encoded.
	MaxRaw = 256 << 10

	// MaxHeader is the longest header: two varints of three bytes and the codec.
	MaxHeader = 3 + 3 + 1

	// chunk is how much of a long write becomes one compressed record: one zstd block (RFC 8878, Block_Maximum_Size),
	// which the encoder takes without copying it into its history.
	chunk = 128 << 10
)

// The codecs, as they stand in a header.
const (
	codecRaw  = 0
	codecZstd = 1
)

// Header is the parsed head of a record.
type Header struct {
	RawLen int
	EncLen int
	Codec  byte
}

// ErrCorrupt is the class of all errors that bytes of the peer can cause; each is an [*Error].
var ErrCorrupt = errors.New("corrupt record")

// Error says what is wrong with a record. It is final: the stream cannot be read any further.
type Error struct {
	Header Header
	Detail string
	Err    error // of the decompressor, if it was that which refused
}

func (e *Error) Error() string {
	s := fmt.Sprintf("corrupt record (raw %d, encoded %d, codec %d): %s", e.Header.RawLen, e.Header.EncLen, e.Header.Codec, e.Detail)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is makes errors.Is(err, ErrCorrupt) true.
func (e *Error) Is(target error) bool { return target == ErrCorrupt }

// AppendHeader appends h in its wire form.
func AppendHeader(dst []byte, h Header) []byte {
	dst = binary.AppendUvarint(dst, uint64(h.RawLen))
	dst = binary.AppendUvarint(dst, uint64(h.EncLen))
	return append(dst, h.Codec)
}

// ParseHeader reads a header from the start of b. It returns its length n, which is 0 with a nil error where b ends
// before the header does.
func ParseHeader(b []byte) (h Header, n int, err error) {
	raw, i, err := parseLen(b)
	if i == 0 || err != nil {
		return Header{RawLen: raw}, 0, err
	}
	enc, j, err := parseLen(b[i:])
	if j == 0 || err != nil {
		return Header{RawLen: raw, EncLen: enc}, 0, err
	}
	if len(b) == i+j {
		return Header{}, 0, nil
	}
	h = Header{RawLen: raw, EncLen: enc, Codec: b[i+j]}
	switch {
	case h.Codec == codecRaw && enc != raw:
		return h, 0, &Error{Header: h, Detail: "a raw body must be as long as what it holds"}
	case h.Codec == codecZstd && enc >= raw:
		return h, 0, &Error{Header: h, Detail: "a compressed body must be shorter than what it holds"}
	case h.Codec > codecZstd:
		return h, 0, &Error{Header: h, Detail: "unknown codec"}
	}
	return h, i + j + 1, nil
}

// parseLen reads one length; n is 0 where b is too short to tell.
func parseLen(b []byte) (v, n int, err error) {
	for n < len(b) && n < 3 {
		c := b[n]
		v |= int(c&0x7f) << (7 * n)
		n++
		if c < 0x80 {
			switch {
			case v == 0:
				return v, 0, &Error{Detail: "a length of zero"}
			case c == 0:
				return v, 0, &Error{Detail: "a length that is not in its shortest form"}
			case v > MaxRaw:
				return v, 0, &Error{Detail: fmt.Sprintf("a length of %d, allowed are %d", v, MaxRaw)}
			}
			return v, n, nil
		}
	}
	if n == 3 {
		return v, 0, &Error{Detail: fmt.Sprintf("a length over %d", MaxRaw)}
	}
	return 0, 0, nil
}

// Codec holds the zstd encoders and decoders that the streams of one endpoint share, one of each for a core, made when
// first needed. It is safe for concurrent use. The zero Codec is not usable; see [NewCodec].
//
// It is an object and not a global of the package since the compressors hold channels, and a channel that was made
// inside a testing/synctest bubble must not be used outside of it.
type Codec struct {
	enc func() *zstd.Encoder
	dec func() *zstd.Decoder
	buf sync.Pool // *[]byte of MaxRaw capacity: bodies that wait for their end, plain bytes that wait for a reader
}

// NewCodec returns a codec that makes its compressors when they are first needed.
func NewCodec() *Codec {
	return &Codec{
		enc: sync.OnceValue(func() *zstd.Encoder {
			e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(MaxRaw),
				zstd.WithEncoderCRC(false), zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)), zstd.WithLowerEncoderMem(true))
			if err != nil {
				panic("record: options of the zstd encoder: " + err.Error()) // they are constants
			}
			return e
		}),
		dec: sync.OnceValue(func() *zstd.Decoder {
			d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(runtime.GOMAXPROCS(0)), zstd.WithDecoderLowmem(true),
				zstd.WithDecoderMaxMemory(MaxRaw), zstd.WithDecoderMaxWindow(MaxRaw), zstd.WithDecodeAllCapLimit(true))
			if err != nil {
				panic("record: options of the zstd decoder: " + err.Error())
			}
			return d
		}),
		buf: sync.Pool{New: func() any { b := make([]byte, 0, MaxRaw); return &b }},
	}
}

func (c *Codec) getBuf() *[]byte { return c.buf.Get().(*[]byte) }

func (c *Codec) putBuf(b *[]byte) {
	*b = (*b)[:0]
	c.buf.Put(b)
}

// decompress decodes body into dst, which must be exactly as long as the header promised.
func (c *Codec) decompress(dst, body []byte, h Header) error {
	out, err := c.dec().DecodeAll(body, dst[:0:h.RawLen])
	if err != nil {
		return &Error{Header: h, Detail: "zstd", Err: err}
	}
	if len(out) != h.RawLen {
		return &Error{Header: h, Detail: fmt.Sprintf("it decodes to %d bytes", len(out))}
	}
	return nil
}
