// Package cc decides how much a path may carry: [BBR], shaped after BBRv3 (draft-ietf-ccwg-bbr-04), which models the
// path's bandwidth and round-trip time and bounds itself where loss passes 2 %, and [Cubic] (RFC 9438 with HyStart++,
// RFC 9406), which takes every loss for congestion.
//
// A controller is driven by the loss detection of its path (package recovery): OnSent for each packet, OnLost for each
// that was lost, then OnAck once for the ACK that told. It does no I/O, has no clock and no randomness but what it is
// given, and is not safe for concurrent use. Bytes are those of the UDP payload.
package cc

import (
	"math/rand/v2"
	"time"
)

// Controller is congestion control for one path.
type Controller interface {
	Name() string

	// OnSent tells of a packet; inflight counts the bytes that were in flight before it.
	OnSent(now time.Duration, size, inflight int64, appLimited bool)
	OnAck(a *Ack)
	OnLost(l *Loss)
	// OnSpurious tells that packets that were declared lost had only been late, and that none of those which the last
	// reduction was for was lost in truth.
	OnSpurious(now time.Duration)
	// OnPersistentCongestion tells that nothing came through for a long time (RFC 9002, section 7.6).
	OnPersistentCongestion(now time.Duration)
	SetMTU(mtu int)

	Window() int64       // bytes that may be in flight
	PacingRate() float64 // bytes/s; 0: no limit
	Quantum() int        // bytes that may leave at once
	Bandwidth() float64  // estimate of what the path carries, bytes/s; 0: not known yet
	State() string       // for traces
}

// Packet is what is remembered of the time at which a packet was sent: from it and the state when it is acknowledged
// follows the rate of delivery (draft-ietf-ccwg-bbr-04, section 4.1).
type Packet struct {
	Sent        time.Duration
	Size        int64
	Delivered   int64         // bytes delivered until then
	DeliveredAt time.Duration // when the last of them was acknowledged
	FirstSent   time.Duration // when the packet was sent whose acknowledgement began this interval
	Lost        int64         // bytes lost until then
	Inflight    int64         // with this packet
	AppLimited  bool
}

// Ack is one acknowledgement that made something new known.
type Ack struct {
	Now         time.Duration
	Acked       int64         // bytes newly acknowledged
	Lost        int64         // bytes newly declared lost
	Delivered   int64         // bytes delivered since the beginning
	TotalLost   int64         // bytes lost since the beginning
	Inflight    int64         // bytes still in flight
	RTT         time.Duration // of the newest packet; 0: no sample
	MinRTT      time.Duration // of the whole path, for CUBIC
	SmoothedRTT time.Duration

	// The rate sample, taken from the newest acknowledged packet; Rate is 0 where there is none.
	Packet      Packet
	Rate        float64 // bytes/s
	RateBytes   int64   // delivered between its sending and now
	CwndLimited bool    // the window, not the program, held sending back in the last round trip
}

// Loss is one packet that was declared lost.
type Loss struct {
	Now       time.Duration
	Packet    Packet
	Delivered int64
	TotalLost int64 // with this packet
	Inflight  int64 // without it
}

// Config of a controller.
type Config struct {
	MTU           int        // bytes of a full packet; 0: 1200
	InitialWindow int64      // bytes; 0: what the controller begins with
	Rand          *rand.Rand // for the probing times of BBR; must be set for it
}

func (c *Config) mtu() int64 {
	if c.MTU <= 0 {
		return 1200
	}
	return int64(c.MTU)
}

func (c *Config) initialWindow(packets int64) int64 {
	if c.InitialWindow > 0 {
		return c.InitialWindow
	}
	return firstWindow(packets, c.mtu())
}

// firstWindow is so many packets, at most as many bytes as those of Ethernet have unless two packets are more (RFC 9002, section 7.2).
func firstWindow(packets, mtu int64) int64 { return min(packets*mtu, max(packets*1472, 2*mtu)) }

const (
	quantumTime = time.Millisecond
	maxQuantum  = 64 << 10
)

// quantum is how much leaves at once: a millisecond's worth, within what one system call sends.
func quantum(rate float64, mtu int64) int64 {
	q := int64(rate * quantumTime.Seconds())
	return max(min(q, maxQuantum), 2*mtu)
}
