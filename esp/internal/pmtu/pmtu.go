// Package pmtu finds the largest datagram that a path carries, by sending packets of that size and seeing whether they
// arrive (RFC 8899, Datagram Packetization Layer PMTU Discovery). It believes no ICMP message.
//
// Sizes are those of the UDP payload, in bytes. The search goes up a short ladder of sizes that networks have; where a
// step fails, it tries the ordinary sizes below that step, the largest first.
package pmtu

import (
	"math"
	"slices"
	"time"
)

const (
	// Base is the size that every path must carry (RFC 8899, section 5.1.2; RFC 9000, section 14.1).
	Base = 1200

	maxProbes     = 3                // lost ones, until a size is held to be too large (MAX_PROBES)
	raiseInterval = 10 * time.Minute // after which larger sizes are tried again (PMTU_RAISE_TIMER)

	// A black hole is assumed after so many large packets were lost, over at least such a time, while none arrived, or
	// after so many probe timeouts in a row.
	blackHoleLosses   = 6
	blackHoleTime     = 500 * time.Millisecond
	blackHoleTimeouts = 2
)

var (
	// ladder: Ethernet with room for a tunnel or PPPoE under IPv6, jumbo frames, loopback.
	ladder = []int{1452, 8900, 65000}
	// between are tried below a step that failed: tunnels, Ethernet over IPv4, loopback of other systems.
	between = []int{1232, 1280, 1360, 1400, 1472, 4000, 16000, 32000}
)

// Config of a Discovery. The zero value searches from 1200 up to 65000.
type Config struct {
	Base  int // known to work; 0: [Base]
	Max   int // never more than this, 0: the top of the ladder
	Fixed int // no discovery at all, this size always; 0: discovery
}

// Discovery is the search on one path. It is not safe for concurrent use.
//
// Ask [Discovery.Probe] at [Discovery.Deadline], and tell the fate of each probe and of each other packet.
type Discovery struct {
	cfg  Config
	size int // confirmed

	ceiling int           // the smallest size that is held to be too large
	probing int           // size of the probe that is under way; 0 = none
	tries   int           // probes of the next size that were lost
	next    time.Duration // no probe before

	losses int // large packets lost since one arrived
	lossAt time.Duration
}

// New starts a search.
func New(cfg Config) *Discovery {
	if cfg.Base <= 0 {
		cfg.Base = Base
	}
	if cfg.Max <= 0 {
		cfg.Max = ladder[len(ladder)-1]
	}
	d := &Discovery{cfg: cfg, size: cfg.Base, ceiling: math.MaxInt}
	if cfg.Fixed > 0 {
		d.size = cfg.Fixed
	}
	return d
}

// Size returns the largest payload that is known to arrive.
func (d *Discovery) Size() int { return d.size }

// candidate returns the size to be tried next, 0 where none is left.
func (d *Discovery) candidate() int {
	if d.cfg.Fixed > 0 || d.size >= d.cfg.Max {
		return 0
	}
	open := func(n int) bool { return n > d.size && n < d.ceiling && n <= d.cfg.Max }
	for _, n := range ladder {
		if open(n) {
			return n
		}
	}
	if open(d.cfg.Max) {
		return d.cfg.Max
	}
	for _, n := range slices.Backward(between) {
		if open(n) {
			return n
		}
	}
	return 0
}

// Deadline returns when Probe has something to say; ok is false while a probe is under way, or where there is nothing
// to search.
func (d *Discovery) Deadline() (at time.Duration, ok bool) {
	return d.next, d.cfg.Fixed == 0 && d.probing == 0 && (d.candidate() > 0 || d.ceiling <= d.cfg.Max)
}

// Probe returns the size of a probe to be sent at now: a packet of exactly that payload, which elicits an
// acknowledgement and carries nothing that matters. ok is false where it is not the time for one.
func (d *Discovery) Probe(now time.Duration) (size int, ok bool) {
	if at, ok := d.Deadline(); !ok || now < at {
		return 0, false
	}
	size = d.candidate()
	if size == 0 { // it is time to see whether the path has changed
		d.ceiling = math.MaxInt
		size = d.candidate()
	}
	d.probing = size
	return size, true
}

// ProbeAcked tells that a probe has arrived.
func (d *Discovery) ProbeAcked(now time.Duration, size int) {
	if size == d.probing {
		d.probing = 0
	}
	if size > d.size && size <= d.cfg.Max && d.cfg.Fixed == 0 {
		d.size, d.tries, d.losses = size, 0, 0
		if d.ceiling <= size {
			d.ceiling = math.MaxInt
		}
	}
	d.rest(now)
}

// ProbeLost tells that a probe was lost. After three of a size, larger ones are left out.
func (d *Discovery) ProbeLost(now time.Duration, size int) {
	if size != d.probing {
		return
	}
	d.probing = 0
	if d.tries++; d.tries >= maxProbes {
		d.tries = 0
		d.ceiling = min(d.ceiling, size)
	}
	d.rest(now)
}

// TooBig tells that the local device refused a packet of that size (EMSGSIZE).
func (d *Discovery) TooBig(now time.Duration, size int) {
	if size == d.probing {
		d.probing = 0
	}
	if size <= d.cfg.Base || d.cfg.Fixed > 0 {
		return // nothing smaller is to be had
	}
	d.tries = 0
	d.ceiling = min(d.ceiling, size)
	if d.size >= size {
		d.size = d.cfg.Base
	}
	d.rest(now)
}

// rest waits before the path is searched again, once nothing is left to try.
func (d *Discovery) rest(now time.Duration) {
	d.next = now
	if d.candidate() == 0 {
		d.next = now + raiseInterval
	}
}

// PacketAcked tells that a packet other than a probe has arrived.
func (d *Discovery) PacketAcked(size int) {
	if size > d.cfg.Base {
		d.losses = 0
	}
}

// PacketLost tells that a packet other than a probe was lost. It reports whether that made Size fall to the base: large
// packets have not been arriving for a while.
func (d *Discovery) PacketLost(now time.Duration, size int) (shrunk bool) {
	if size <= d.cfg.Base || size > d.size {
		return false
	}
	if d.losses == 0 {
		d.lossAt = now
	}
	d.losses++
	if d.losses < blackHoleLosses || now-d.lossAt < blackHoleTime {
		return false
	}
	return d.shrink(now)
}

// Timeout tells of the n-th probe timeout in a row, after which nothing at all arrives: where all packets are large,
// that is how a black hole looks. It reports whether Size fell to the base.
func (d *Discovery) Timeout(now time.Duration, n int) (shrunk bool) {
	return n >= blackHoleTimeouts && d.shrink(now)
}

func (d *Discovery) shrink(now time.Duration) bool {
	if d.cfg.Fixed > 0 || d.size <= d.cfg.Base {
		return false
	}
	d.size, d.probing, d.tries, d.losses = d.cfg.Base, 0, 0, 0
	d.ceiling = math.MaxInt
	d.next = now + blackHoleTime // what stays in the way is found again, by probes that carry nothing
	return true
}
