// Package recovery finds out what became of the packets of one path: [Sender] for those that are sent (which were
// acknowledged, which are lost, when to probe), [Acker] for those that are received (what to acknowledge, and when).
//
// It follows RFC 9002, with the loss detection by time of RACK (RFC 8985): a packet is lost when one that was sent
// later has arrived and it itself had a round-trip time and a reordering window to do so. The window adapts: at first
// three later packets are enough; where packets are seen to overtake each other, only time counts, and each loss that
// proves to have been none widens it.
//
// Now and then a packet number is left out, so that a peer that acknowledges what it has not received, to be sent more
// than the path carries, is found out (RFC 9000, section 21.4).
//
// Times are durations since an origin of the caller's choice. Nothing here reads a clock, starts a goroutine or is safe
// for concurrent use.
package recovery

import (
	"errors"
	"math"
	"math/rand/v2"
	"time"

	"sharefs/esp/internal/cc"
	"sharefs/esp/internal/interval"
)

const (
	packetThreshold = 3 // RFC 9002, section 6.1.1
	timerProbes     = 2 // packets that a probe timeout sends, so that the loss of one costs no further timeout

	// For how long after its sending a lost packet is remembered, in probe timeouts, to see whether it was only late.
	rememberPTOs = 2

	firstSkip = 256     // packets until the first number is left out, about; then it doubles
	maxSkip   = 1 << 17 // up to this

	noLimit = math.MaxInt64 / 4
)

// Errors of OnAck. The peer breaks the protocol: close the session.
var (
	ErrOptimisticAck = errors.New("the peer acknowledges a packet that was never sent: the number was left out")
	ErrUnsentAck     = errors.New("the peer acknowledges a packet number that was not used yet")
)

// Flags say what a packet is.
type Flags uint8

const (
	AckEliciting Flags = 1 << iota // the peer will acknowledge it without being asked; only such count as in flight
	Probe                          // for the path MTU: its loss says nothing about congestion (RFC 8899, section 3)
)

// Config of a Sender. CC may be nil, which means no limit.
type Config struct {
	CC          cc.Controller
	Rand        *rand.Rand    // for numbers left out; nil: none is
	InitialRTT  time.Duration // until the first sample; 0: 333 ms
	MaxAckDelay time.Duration // of the peer; 0: 5 ms
	MaxPTO      time.Duration // bound of the back-off; 0: 10 s
}

// Done is a packet whose fate is known.
type Done[T any] struct {
	PN      uint64
	Size    int
	Flags   Flags
	Sent    time.Duration
	Payload T
}

// Result takes what an event brought to light. Its slices are reused: take out what matters before the next call.
type Result[T any] struct {
	Acked    []Done[T]
	Lost     []Done[T] // each packet is reported lost at most once; should it arrive later, nothing more is said
	Probes   int       // packets to be sent now, beyond the window, since a probe timeout has passed
	Spurious int       // packets that were reported lost before, and were acknowledged now
	RTTTaken bool      // there is a new sample of the round-trip time
}

// Reset empties the result, and drops its payloads so that they can be collected.
func (r *Result[T]) Reset() {
	clear(r.Acked)
	clear(r.Lost)
	*r = Result[T]{Acked: r.Acked[:0], Lost: r.Lost[:0]}
}

// Stats counts packets. Lost includes those that proved to be only late.
type Stats struct {
	Sent, Acked, Lost, Spurious uint64
	LossRate                    float64 // of the last few hundred packets, 0 to 1
	Timeouts                    uint64
}

type state uint8

const (
	statePending state = iota // the number was given out, the packet is not sent yet
	stateIgnored              // left out, or nothing but acknowledgements
	stateOutstanding
	stateLost
	stateAcked
)

type entry[T any] struct {
	info    cc.Packet
	payload T
	flags   Flags
	state   state
}

// Sender keeps the packets of one packet-number space that were sent.
type Sender[T any] struct {
	cfg Config
	rtt RTT

	ring packets[T]
	next uint64 // next number to be given out

	acked       interval.Set // numbers from ring.base on
	largest     uint64       // acknowledged
	hasLargest  bool
	firstOut    uint64 // no packet below it is outstanding
	skipAt      uint64
	skipPeriod  uint64
	skipped     [8]uint64 // the last numbers that were left out
	skips       int
	outstanding int   // packets
	inflight    int64 // bytes

	// Rate samples.
	delivered    int64
	deliveredAt  time.Duration
	firstSent    time.Duration
	lost         int64
	limitedUntil int64 // delivered bytes until which the program, not the window, limits; 0 = it does not
	cwndLimited  bool  // in this round
	wasLimited   bool  // in the last one
	roundEnd     int64

	// RACK: the newest sent of the delivered packets.
	rackSent time.Duration
	reorder  reorder

	lossAt        time.Duration // when the next packet will be held to be lost; 0 = none
	lastEliciting time.Duration
	ptoCount      int

	stats    Stats
	longLoss float64
	ack      cc.Ack // what the controller was told last
	loss     cc.Loss
}

// New returns a Sender whose first packet number is 0.
func New[T any](cfg Config) *Sender[T] {
	if cfg.InitialRTT <= 0 {
		cfg.InitialRTT = defaultRTT
	}
	if cfg.MaxAckDelay <= 0 {
		cfg.MaxAckDelay = defaultAckDelay
	}
	if cfg.MaxPTO <= 0 {
		cfg.MaxPTO = defaultMaxPTO
	}
	s := &Sender[T]{cfg: cfg, skipPeriod: firstSkip, skipAt: math.MaxUint64}
	if cfg.Rand != nil {
		s.planSkip()
	}
	s.reorder.init()
	return s
}

// RTT returns what is known of the round-trip time.
func (s *Sender[T]) RTT() RTT { return s.rtt }

// Stats returns the counters.
func (s *Sender[T]) Stats() Stats { return s.stats }

// LossRate returns the rate of loss of the last thousand packets, 0 to 1.
func (s *Sender[T]) LossRate() float64 { return s.longLoss }

// PTOCount returns how many probe timeouts have passed since something was acknowledged.
func (s *Sender[T]) PTOCount() int { return s.ptoCount }

// LargestAcked returns the highest packet number that was acknowledged.
func (s *Sender[T]) LargestAcked() (pn uint64, ok bool) { return s.largest, s.hasLargest }

// Inflight returns the bytes in flight, Outstanding the packets.
func (s *Sender[T]) Inflight() int64 { return s.inflight }

// Outstanding returns how many packets are neither acknowledged nor lost.
func (s *Sender[T]) Outstanding() int { return s.outstanding }

// Available returns how many bytes the window still has room for; it may be negative.
func (s *Sender[T]) Available() int64 {
	if s.cfg.CC == nil {
		return noLimit
	}
	return s.cfg.CC.Window() - s.inflight
}

// CanSend reports whether a packet may be sent: the window need not have room for all of it, or a window that is no
// multiple of the packet size would never be used up.
func (s *Sender[T]) CanSend() bool { return s.Available() > 0 }

// NextPN gives out the next packet number. Each must be given to Sent, even if sending fails, or the Sender remembers
// all later packets for ever.
func (s *Sender[T]) NextPN() uint64 {
	if s.next == s.skipAt {
		s.ring.push(s.next).state = stateIgnored
		s.skipped[s.skips%len(s.skipped)] = s.next
		s.skips++
		s.next++
		s.planSkip()
	}
	pn := s.next
	s.ring.push(pn)
	s.next++
	return pn
}

func (s *Sender[T]) planSkip() {
	s.skipAt = s.next + s.skipPeriod/2 + s.cfg.Rand.Uint64N(s.skipPeriod)
	s.skipPeriod = min(2*s.skipPeriod, maxSkip)
}

// Sent notes a packet with a number from NextPN. size is that of the datagram. A packet that elicits no acknowledgement
// is not followed any further, and its payload is dropped.
func (s *Sender[T]) Sent(now time.Duration, pn uint64, size int, flags Flags, payload T) {
	s.stats.Sent++
	e := s.ring.get(pn)
	if e == nil {
		return // a number that was not given out
	}
	if flags&AckEliciting == 0 {
		e.state = stateIgnored
		s.prune(now)
		return
	}
	appLimited := s.limitedUntil > 0
	if s.cfg.CC != nil {
		s.cfg.CC.OnSent(now, int64(size), s.inflight, appLimited || s.inflight == 0)
	}
	if s.inflight == 0 { // an interval begins (draft-ietf-ccwg-bbr-04, section 4.1.2.2)
		s.firstSent, s.deliveredAt = now, now
	}
	s.inflight += int64(size)
	s.outstanding++
	s.lastEliciting = now
	e.info = cc.Packet{
		Sent: now, Size: int64(size), Delivered: s.delivered, DeliveredAt: s.deliveredAt, FirstSent: s.firstSent,
		Lost: s.lost, Inflight: s.inflight, AppLimited: appLimited,
	}
	e.payload, e.flags, e.state = payload, flags, stateOutstanding
	if s.cfg.CC != nil && s.inflight+int64(size) > s.cfg.CC.Window() {
		s.cwndLimited = true
	}
}

// Refused says of a packet that was given to Sent that it never left: it is not in flight, nobody will acknowledge it, and it is no loss.
func (s *Sender[T]) Refused(pn uint64) {
	if e := s.ring.get(pn); e != nil && e.state == stateOutstanding {
		s.settle(e, stateIgnored)
	}
}

// SetAppLimited tells that there was nothing more to send though the window had room: samples of the rate taken from
// now on say what the program sent, not what the path carries.
func (s *Sender[T]) SetAppLimited() { s.limitedUntil = max(s.delivered+s.inflight, 1) }

// AppLimited reports whether SetAppLimited would change nothing.
func (s *Sender[T]) AppLimited() bool { return s.limitedUntil >= max(s.delivered+s.inflight, 1) }

// Oldest returns the payload of the oldest packet that is neither acknowledged nor lost: what a probe should carry, if
// there is nothing new to send.
func (s *Sender[T]) Oldest() (payload T, ok bool) {
	for pn := s.first(); pn < s.next; pn++ {
		if e := s.ring.get(pn); e.state == stateOutstanding && e.flags&Probe == 0 {
			return e.payload, true
		}
	}
	return payload, false
}

// NextNumber returns a number below which no packet is still to be sent.
func (s *Sender[T]) NextNumber() uint64 { return s.next }

// Recent tells of the packets that are neither acknowledged nor lost, the last one first, down to a number or until fn returns false.
func (s *Sender[T]) Recent(from uint64, fn func(size int, payload *T) bool) {
	from = max(from, s.first())
	for pn := s.next; pn > from; pn-- {
		if e := s.ring.get(pn - 1); e.state == stateOutstanding && e.flags&Probe == 0 && !fn(int(e.info.Size), &e.payload) {
			return
		}
	}
}

// first returns the lowest number that is outstanding, or s.next.
func (s *Sender[T]) first() uint64 {
	s.firstOut = max(s.firstOut, s.ring.base)
	for s.firstOut < s.next && s.ring.get(s.firstOut).state != stateOutstanding {
		if s.ring.get(s.firstOut).state == statePending {
			break
		}
		s.firstOut++
	}
	return s.firstOut
}

// Abandon gives up the path: all that is outstanding is reported lost, without any regard to congestion.
func (s *Sender[T]) Abandon(r *Result[T]) {
	for pn := s.first(); pn < s.next; pn++ {
		if e := s.ring.get(pn); e.state == stateOutstanding {
			r.Lost = append(r.Lost, done(pn, e))
			s.settle(e, stateLost)
		}
	}
	s.ring.dropBelow(s.next)
	s.acked.Clear()
	s.lossAt, s.ptoCount = 0, 0
}

func done[T any](pn uint64, e *entry[T]) Done[T] {
	return Done[T]{PN: pn, Size: int(e.info.Size), Flags: e.flags, Sent: e.info.Sent, Payload: e.payload}
}

// settle takes an outstanding packet out of the books.
func (s *Sender[T]) settle(e *entry[T], to state) {
	var zero T
	e.payload = zero
	e.state = to
	s.inflight -= e.info.Size
	s.outstanding--
}
