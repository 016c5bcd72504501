package cc

import "time"

// The constants of RFC 9406, section 4.3.
const (
	hsMinThresh = 4 * time.Millisecond
	hsMaxThresh = 16 * time.Millisecond
	hsDivisor   = 8
	hsSamples   = 8
	hsCSSGrowth = 0.25
	hsCSSRounds = 5
)

// hystart leaves slow start when the round-trip time grows, before the queue overflows.
type hystart struct {
	roundEnd int64 // delivered bytes
	samples  int
	last     time.Duration // lowest of the last round; 0 = none
	current  time.Duration
	baseline time.Duration // of conservative slow start; 0 = not in it
	rounds   int
}

func (h *hystart) reset() { *h = hystart{} }

// onAck returns by how much the window grows for each acknowledged byte, and whether slow start is over.
func (h *hystart) onAck(a *Ack) (growth float64, done bool) {
	if a.Packet.Delivered >= h.roundEnd {
		h.roundEnd = a.Delivered
		h.last, h.current, h.samples = h.current, 0, 0
		if h.baseline > 0 {
			if h.rounds++; h.rounds >= hsCSSRounds {
				return hsCSSGrowth, true
			}
		}
	}
	if a.RTT > 0 {
		h.samples++
		if h.current == 0 || a.RTT < h.current {
			h.current = a.RTT
		}
	}
	if h.samples < hsSamples || h.last == 0 {
		return h.growth(), false
	}
	switch {
	case h.baseline == 0:
		if h.current >= h.last+max(hsMinThresh, min(h.last/hsDivisor, hsMaxThresh)) {
			h.baseline, h.rounds = h.current, 0
		}
	case h.current < h.baseline: // it was not a queue
		h.baseline = 0
	}
	return h.growth(), false
}

func (h *hystart) growth() float64 {
	if h.baseline > 0 {
		return hsCSSGrowth
	}
	return 1
}
