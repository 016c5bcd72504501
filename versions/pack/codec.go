package pack

import (
	"sync"

	"github.com/klauspost/compress/zstd"
)

// codecs holds encoders and decoders for one store; both are made when first used, for they hold buffers. They are not closed: that would pull
// them away from under readers who are still at work, and they hold nothing but memory.
type codecs struct {
	encOnce, decOnce sync.Once
	enc              *zstd.Encoder
	dec              *zstd.Decoder
}

// compress appends the compressed body to dst[:0] and returns it with its codec; a body that compression saves less than a
// sixteenth of is returned as it is, for reading it back costs less.
func (c *codecs) compress(dst, plain []byte) ([]byte, Codec) {
	if len(plain) < 64 {
		return plain, Stored
	}
	c.encOnce.Do(func() {
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2),
			zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(512<<10))
		if err != nil {
			panic(err) // only options out of range are refused
		}
		c.enc = enc
	})
	packed := c.enc.EncodeAll(plain, dst[:0])
	if len(packed) > len(plain)-len(plain)/16 {
		return plain, Stored
	}
	return packed, Zstd
}

// expand decompresses into dst, whose length must be that of the plain body.
func (c *codecs) expand(dst, packed []byte) error {
	c.decOnce.Do(func() {
		dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(4), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(maxSize), zstd.WithDecodeAllCapLimit(true), zstd.IgnoreChecksum(true))
		if err != nil {
			panic(err)
		}
		c.dec = dec
	})
	out, err := c.dec.DecodeAll(packed, dst[:0:len(dst)])
	if err != nil || len(out) != len(dst) {
		return damaged("a record does not decompress to its length")
	}
	return nil
}
