package record

import "math"

const (
	lookBytes = 1024 // sampled where a look takes the place of an attempt
	glance    = 256  // and while attempts are left out
	runs      = 16   // pieces of a sample: single bytes at a fixed stride would beat with columns of records
)

// nlogn[c] is c·log2(c), for the entropy of a histogram.
var nlogn = func() (t [lookBytes + 1]float32) {
	for c := 2; c <= lookBytes; c++ {
		t[c] = float32(float64(c) * math.Log2(float64(c)))
	}
	return t
}()

// looksRandom reports whether the order-0 entropy of a sample of b is about that of random bytes, as that of encrypted
// or well compressed data is. It costs about a microsecond, whatever the length, and sees no repetitions.
func looksRandom(b []byte) bool {
	var hist [256]uint16
	n := min(len(b), lookBytes)
	if len(b) <= lookBytes {
		for _, c := range b {
			hist[c]++
		}
	} else {
		const run = lookBytes / runs
		for i := range runs {
			at := i * (len(b) - run) / (runs - 1)
			for _, c := range b[at : at+run] {
				hist[c]++
			}
		}
	}
	var sum float32
	for _, c := range hist {
		sum += nlogn[c]
	}
	entropy := math.Log2(float64(n)) - float64(sum)/float64(n)
	// A sample of n random bytes shows about 255/(2n·ln 2) bits less than 8 (Miller–Madow). Half a bit, 6 %, is the
	// margin: less cannot be won by coding single bytes once a header is paid.
	bias := 255 / (2 * float64(n) * math.Ln2)
	return entropy > 8-bias-0.5
}

// glancesRandom is a cheaper look, for data that was random so far: how evenly the upper six bits of 256 bytes are
// spread. The sum of the squares of 64 counts is 1280 ± 45 for random bytes; 1800 is reached at 5.4 of 6 bits (Rényi
// entropy). b must have at least 256 bytes.
func glancesRandom(b []byte) bool {
	const run = glance / runs
	var hist [64]uint16
	for i := range runs {
		at := i * (len(b) - run) / (runs - 1)
		for _, c := range b[at : at+run] {
			hist[c>>2]++
		}
	}
	sum := 0
	for _, c := range hist {
		sum += int(c) * int(c)
	}
	return sum < 1800
}
