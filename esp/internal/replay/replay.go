// Package replay refuses packet numbers that were seen before: the sliding window of RFC 6479, as WireGuard uses it.
package replay

const (
	wordBits = 64
	words    = 128 + 1 // one word more than the window: the word of the newest number is only partly used
	ring     = 256     // words rounded up to a power of two, so that an index is a mask

	// Size is how far, in packets, a number may trail the highest that was accepted. It covers the reordering of a
	// path of 10 Gbit/s with 1400 B packets over about 9 ms.
	Size = (words - 1) * wordBits
)

// Window remembers which packet numbers were accepted. The zero Window has accepted none. It takes 2 KiB and is not
// safe for concurrent use.
//
// Ask [Window.Check] before the packet is opened, which spares the work of a sure duplicate, and [Window.Accept] after
// its authentication, for only an authentic packet may move the window.
type Window struct {
	next uint64 // one above the highest accepted number
	bits [ring]uint64
}

// Check reports whether pn may still be accepted: it was not before, and it is not too old to know.
func (w *Window) Check(pn uint64) bool {
	if pn >= w.next {
		return pn != ^uint64(0) // the last number would wrap next
	}
	if w.next-pn > Size {
		return false
	}
	return w.bits[pn/wordBits%ring]&(1<<(pn%wordBits)) == 0
}

// Accept marks pn as seen. It returns false, and changes nothing, where [Window.Check] would.
func (w *Window) Accept(pn uint64) bool {
	if !w.Check(pn) {
		return false
	}
	if pn >= w.next {
		if w.next > 0 {
			// Words between the old and the new highest number begin a new round of the ring.
			fresh := min(pn/wordBits-(w.next-1)/wordBits, ring)
			for i := uint64(0); i < fresh; i++ {
				w.bits[(pn/wordBits-i)%ring] = 0
			}
		}
		w.next = pn + 1
	}
	w.bits[pn/wordBits%ring] |= 1 << (pn % wordBits)
	return true
}

// Next returns the number above the highest that was accepted; 0 when none was.
func (w *Window) Next() uint64 { return w.next }
