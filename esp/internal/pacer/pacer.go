// Package pacer spreads packets over time, at the rate that congestion control asks for: each byte has an earliest time
// of departure, one byte's time after that of the byte before it (Saeed et al., "Carousel", SIGCOMM 2017).
package pacer

import (
	"math"
	"time"
)

// Slack is how much lateness is made up for: who was to send at a time and came later, as timers of a user-space
// program do by up to a millisecond and more under load, may send at once what it has missed, up to so much time's worth.
const Slack = 5 * time.Millisecond

// Pacer says when packets may leave. The zero Pacer has no limit. It is not safe for concurrent use.
type Pacer struct {
	rate    float64 // bytes/s; 0 = no limit
	quantum int64   // bytes that may leave at once
	next    time.Duration
	waiting bool // the last Budget was used up or refused, so the sender comes back because of the clock
}

// SetRate sets the rate in bytes/s, 0 for no limit, and how many bytes may leave at once.
func (p *Pacer) SetRate(bytesPerSecond float64, quantum int) {
	p.rate, p.quantum = bytesPerSecond, int64(max(quantum, 1))
}

// Budget returns how many bytes may be sent now: none before the time is due, else at least a quantum.
func (p *Pacer) Budget(now time.Duration) int64 {
	if p.rate <= 0 {
		return math.MaxInt64
	}
	if now < p.next {
		p.waiting = true
		return 0
	}
	return p.quantum + int64(p.late(now).Seconds()*p.rate)
}

// late is the lateness that is made up for. After a silence there is none.
func (p *Pacer) late(now time.Duration) time.Duration {
	if !p.waiting {
		return 0
	}
	return min(now-p.next, Slack)
}

// Next returns when Budget gives something; it is in the past where that is now.
func (p *Pacer) Next() time.Duration { return p.next }

// Sent notes that n bytes were sent at now. more says that there is more to send, so that the sender will come back when
// time allows.
func (p *Pacer) Sent(now time.Duration, n int64, more bool) {
	if p.rate <= 0 {
		p.next, p.waiting = now, false
		return
	}
	base := p.next
	if now > base {
		base = now - p.late(now)
	}
	p.next = base + time.Duration(float64(n)/p.rate*float64(time.Second))
	p.waiting = more
}
