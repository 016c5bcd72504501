package record

import "math"

const lookBytes = 1024 // sampled at most

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
	n := 0
	if len(b) <= lookBytes {
		for _, c := range b {
			hist[c]++
		}
		n = len(b)
	} else {
		// Sixteen runs, evenly spread: single bytes at a fixed stride would beat with columns of records.
		const runs, run = 16, lookBytes / 16
		for i := range runs {
			at := i * (len(b) - run) / (runs - 1)
			for _, c := range b[at : at+run] {
				hist[c]++
			}
		}
		n = lookBytes
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
