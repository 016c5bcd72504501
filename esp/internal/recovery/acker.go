package recovery

import (
	"time"

	"sharefs/esp/internal/interval"
)

// Acker keeps which packets of one packet-number space were received, and decides when to acknowledge them: at once
// when one is missing or came late, after every second one that asks for it, else after a short delay. Packets each of
// which is answered at once, by a packet without an acknowledgement, may be acknowledged together, in eights; see Answered.
type Acker struct {
	maxRanges int
	maxDelay  time.Duration

	got       interval.Set
	largestAt time.Duration // when the highest was received
	waiting   int           // packets received since the last acknowledgement that ask for one
	row       int           // of those, received since the last answer
	at        time.Duration // when one is due; 0 = none is
	asked     bool          // an acknowledgement must go at once
	lossRate  float64
}

const (
	ackEvery    = 2 // RFC 9000, section 13.2.2
	ackAnswered = 8
)

// NewAcker returns an Acker that keeps at most maxRanges ranges (the oldest are forgotten) and delays at most maxDelay.
// Values that are not positive stand for 64 ranges and 5 ms.
func NewAcker(maxRanges int, maxDelay time.Duration) *Acker {
	if maxRanges <= 0 {
		maxRanges = 64
	}
	if maxDelay <= 0 {
		maxDelay = defaultAckDelay
	}
	return &Acker{maxRanges: maxRanges, maxDelay: maxDelay}
}

// Received notes a packet that was authentic and new.
func (a *Acker) Received(now time.Duration, pn uint64, ackEliciting bool) {
	highest, ok := a.got.Max()
	switch {
	case !ok:
		a.largestAt = now
	case pn > highest:
		a.largestAt = now
		for range min(pn-highest-1, lossMemoryLong) {
			noteLoss(&a.lossRate, true, lossMemoryLong)
		}
		noteLoss(&a.lossRate, false, lossMemoryLong)
	default:
		noteLate(&a.lossRate, lossMemoryLong)
	}
	a.got.Add(pn, pn+1)
	a.got.KeepHighest(a.maxRanges)
	if !ackEliciting {
		return
	}
	a.waiting++
	if a.waiting == 1 {
		a.at = now + a.maxDelay
	}
	a.row++
	if ok && pn != highest+1 || a.row >= ackEvery {
		a.asked = true
	}
}

// LossRate returns which share of the last thousand packets did not come, 0 to 1. Numbers that the peer left out count.
func (a *Acker) LossRate() float64 { return a.lossRate }

// Ask makes an acknowledgement of what is received next due at once.
func (a *Acker) Ask() { a.asked = true }

// Due reports whether an acknowledgement should be sent now. Asked once for each batch of packets, it gives one for all.
func (a *Acker) Due(now time.Duration) bool {
	return a.waiting > 0 && (a.asked || now >= a.at)
}

// Pending reports whether something was received that asks for an acknowledgement: one may ride on a packet that is sent
// anyway.
func (a *Acker) Pending() bool { return a.waiting > 0 }

// Ripe reports whether so many packets wait for an acknowledgement that it should ride on the next answer.
func (a *Acker) Ripe() bool { return a.waiting >= ackAnswered }

// Answered notes that a packet left for the peer without an acknowledgement: what waits for one waits on.
func (a *Acker) Answered() { a.row = 0 }

// Deadline returns when an acknowledgement is due at the latest.
func (a *Acker) Deadline() (at time.Duration, ok bool) {
	if a.waiting == 0 {
		return 0, false
	}
	return a.at, true
}

// Ranges returns what was received, in ascending order; valid until the next call.
func (a *Acker) Ranges() []interval.Range { return a.got.Ranges() }

// Delay returns for how long the highest packet has been here.
func (a *Acker) Delay(now time.Duration) time.Duration { return max(now-a.largestAt, 0) }

// Sent notes that Ranges were sent.
func (a *Acker) Sent() {
	a.waiting, a.row, a.asked, a.at = 0, 0, false, 0
}

// OnAckOfAck tells that the peer has an acknowledgement whose highest number was largest: what lies below needs not be
// told again.
func (a *Acker) OnAckOfAck(largest uint64) { a.got.RemoveBelow(largest) }
