package record

import "math"

const (
	lookBytes  = 1024 // sampled where a look takes the place of an attempt
	lookGlance = 256  // and while attempts are left out
)

// nlogn[c] is c·log2(c), for the entropy of a histogram.
var nlogn = func() (t [lookBytes + 1]float32) {
	for c := 2; c <= lookBytes; c++ {
		t[c] = float32(float64(c) * math.Log2(float64(c)))
	}
	return t
}()

// looksRandom reports whether the order-0 entropy of a sample of b is about that of random bytes, as that of encrypted
// or well compressed data is. It sees no repetitions. most is the size of the sample, at most lookBytes: 1024 bytes take
// about a microsecond, a quarter of that takes a quarter of the time and is still enough to tell text from an image.
func looksRandom(b []byte, most int) bool {
	var hist [256]uint16
	n := min(len(b), most)
	if len(b) <= most {
		for _, c := range b {
			hist[c]++
		}
	} else {
		// Sixteen runs, evenly spread: single bytes at a fixed stride would beat with columns of records.
		const runs = 16
		run := most / runs
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
