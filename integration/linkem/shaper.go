package linkem

import (
	"math/rand/v2"
	"time"
)

// Conditions of one direction of a link. The zero value is a perfect link. Packets are IP packets, headers included.
type Conditions struct {
	Delay     time.Duration // one way
	Jitter    time.Duration // up to so much is added to the delay of each packet, by chance: packets overtake each other
	Rate      float64       // bytes/s; 0: no limit
	Queue     int           // bytes that may wait for the rate; 0: a bandwidth–delay product, at least 64 KiB
	Loss      float64       // share of the packets that is dropped by chance, 0 to 1
	Duplicate float64       // share that arrives twice
	Reorder   float64       // share that is not delayed, and so comes before its time
	MTU       int           // larger packets vanish; 0: none do
	Down      bool          // all packets vanish, also those under way
}

// queue returns the bytes that may wait.
func (c *Conditions) queue() float64 {
	if c.Queue > 0 {
		return float64(c.Queue)
	}
	return max(c.Rate*2*c.Delay.Seconds(), 64<<10)
}

// Stats counts what became of the packets of one direction.
type Stats struct {
	Packets, Bytes uint64 // that came in
	Delivered      uint64
	Lost           uint64 // by chance
	Overflowed     uint64 // the queue was full
	TooBig         uint64
	WhileDown      uint64
	Duplicated     uint64
}

// fate is what the shaper decides about a packet.
type fate uint8

const (
	fateDeliver fate = iota
	fateLost
	fateOverflow
	fateTooBig
	fateDown
)

// lag is for how long the link goes on sending in retrospect, when the process was not given the processor in time.
const lag = 2 * time.Millisecond

// shaper decides when packets arrive. It has no clock; all its chance comes from the seed.
type shaper struct {
	rng  *rand.Rand
	free time.Duration // when the last byte has left the queue
}

func newShaper(seed, stream uint64) *shaper { return &shaper{rng: rand.New(rand.NewPCG(seed, stream))} }

// admit decides about a packet that comes in at now. twice is when a duplicate arrives, 0 for none.
func (s *shaper) admit(now time.Duration, size int, c *Conditions) (at, twice time.Duration, f fate) {
	// Chance is drawn in any case, so that the fate of the n-th packet does not depend on what befell others.
	lost, dup, early := s.rng.Float64() < c.Loss, s.rng.Float64() < c.Duplicate, s.rng.Float64() < c.Reorder
	jitter := time.Duration(s.rng.Float64() * float64(c.Jitter))
	switch {
	case c.Down:
		return 0, 0, fateDown
	case c.MTU > 0 && size > c.MTU:
		return 0, 0, fateTooBig
	case lost:
		return 0, 0, fateLost
	}
	at = now
	if c.Rate > 0 {
		begin := max(s.free, now-lag)
		if waiting := (begin - now).Seconds() * c.Rate; waiting+float64(size) > c.queue() {
			return 0, 0, fateOverflow
		}
		s.free = begin + time.Duration(float64(size)/c.Rate*float64(time.Second))
		at = max(s.free, now)
	}
	if !early {
		at += c.Delay + jitter
	}
	if dup {
		twice = at
	}
	return at, twice, fateDeliver
}
