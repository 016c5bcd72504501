package chunk

import (
	"encoding/binary"

	"github.com/zeebo/blake3"
)

// Params bound the lengths of chunks, in bytes. Min and Avg are even, and Min ≤ Avg ≤ Max.
type Params struct {
	Min, Avg, Max int
	strict, loose uint64 // masks before and after Avg; bit 63 is clear in both
}

// Two classes of chunks. Small ones share more between versions of the files that people edit; large ones keep the number of rows for
// disk images and databases in bounds (16 million for a TiB).
var (
	Small = params(4<<10, 16<<10, 64<<10)
	Large = params(16<<10, 64<<10, 256<<10)
)

// MaxLen is the longest chunk of any class, in bytes.
const MaxLen = 256 << 10

// smallLimit is the size of a file, in bytes, from which its chunks are large. A file that grows past it shares nothing
// with its shorter versions, once.
const smallLimit = 8 << 20

// For returns the class for a file of that many bytes.
func For(size int64) Params {
	if size < smallLimit {
		return Small
	}
	return Large
}

// params derives the masks: the average is a power of two, 2^n; four times stricter before it, four times looser after it.
func params(low, avg, high int) Params {
	bits := 0
	for 1<<bits < avg {
		bits++
	}
	return Params{Min: low, Avg: avg, Max: high, strict: highBits(bits + 2), loose: highBits(bits - 2)}
}

// highBits returns a mask of n bits below bit 63. The high bits of a gear hash depend on the most bytes (bit b on the last
// b+1), and the two-byte roll needs the highest one free.
func highBits(n int) uint64 { return (1<<n - 1) << (63 - n) }

// Gear is the table of the rolling hash.
type Gear struct {
	one [256]uint64 // what a byte adds
	two [256]uint64 // the same shifted left by one, for the first byte of a pair
}

// NewGear derives the table from a key.
func NewGear(key [32]byte) *Gear {
	var raw [256 * 8]byte
	blake3.DeriveKey("sharefs 2026-11 gear table of the chunker", key[:], raw[:])
	g := new(Gear)
	for i := range g.one {
		g.one[i] = binary.LittleEndian.Uint64(raw[i*8:])
		g.two[i] = g.one[i] << 1
	}
	return g
}

// Cut returns the length of the first chunk of b, at most p.Max. Unless b holds the rest of the content, it must hold at least
// p.Max bytes, or the cut depends on how the content was read.
func (g *Gear) Cut(p *Params, b []byte) int {
	n := min(len(b), p.Max)
	if n <= p.Min {
		return n
	}
	b = b[:n]
	var hash uint64
	i := p.Min
	if at := g.roll(b, &i, min(p.Avg, n), p.strict, &hash); at > 0 {
		return at
	}
	if at := g.roll(b, &i, n, p.loose, &hash); at > 0 {
		return at
	}
	return n
}

// roll hashes pairs of bytes from *i up to end and returns where a chunk ends, or 0. An odd last byte before end is left:
// end is even (p.Avg) or the end of the chunk anyway.
func (g *Gear) roll(b []byte, i *int, end int, mask uint64, hash *uint64) int {
	h, at := *hash, *i
	first := mask << 1
	for ; at+1 < end; at += 2 {
		h = h<<2 + g.two[b[at]]
		if h&first == 0 {
			return at + 1
		}
		h += g.one[b[at+1]]
		if h&mask == 0 {
			return at + 2
		}
	}
	*hash, *i = h, at
	return 0
}
