package pack

import (
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
)

// codecs holds encoders and decoders for one store; both are made when first used, for they hold buffers. They are not closed: that would pull
// them away from under readers who are still at work, and they hold nothing but memory.
type codecs struct {
	encOnce, decOnce sync.Once
	enc              *zstd.Encoder
	dec              *zstd.Decoder

	vain   atomic.Int32  // attempts in a row that saved too little, of those on bodies that look random; it stays where it passes surelyVain
	passed atomic.Uint64 // bodies that look random and came since
}

// A body that looks random is that as a rule, but a look at single bytes does not see what repeats. So after surelyVain vain attempts on such bodies
// one in vainTry of them is tried, until one is worth it.
const (
	surelyVain = 8
	vainTry    = 16
)

// compress appends the compressed body to dst[:0] and returns it with its codec; a body that compression saves less than a
// sixteenth of is returned as it is, for reading it back costs less.
func (c *codecs) compress(dst, plain []byte) ([]byte, Codec) {
	if len(plain) < 64 {
		return plain, Stored
	}
	random := looksRandom(plain)
	if random && c.vain.Load() >= surelyVain && c.passed.Add(1)%vainTry != 0 {
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
		if random && c.vain.Load() < surelyVain {
			c.vain.Add(1)
		}
		return plain, Stored
	}
	if random {
		c.vain.Store(0)
	}
	return packed, Zstd
}

// What is looked at of a body, in bytes: this many in runs all over it.
const (
	lookFrom = 4 << 10 // shorter ones are tried
	lookAt   = 1 << 10
	lookRuns = 16
)

// looksRandom reports whether the bytes of a long body occur about equally often, as those of encrypted or well compressed data do. The sum of the
// squares of their counts is 5,116 ± 90 for random bytes, and 9,000 where one in sixteen is always the same.
func looksRandom(body []byte) bool {
	if len(body) < lookFrom {
		return false
	}
	const run = lookAt / lookRuns
	var counts [256]int
	for i := range lookRuns {
		at := i * (len(body) - run) / (lookRuns - 1)
		for _, b := range body[at : at+run] {
			counts[b]++
		}
	}
	sum := 0
	for _, n := range counts {
		sum += n * n
	}
	return sum < 5700
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
