package cc

import (
	"math"
	"time"
)

const (
	cubicC       = 0.4                                   // RFC 9438, section 5.1
	cubicBeta    = 0.7                                   // section 4.6
	renoAlpha    = 3 * (1 - cubicBeta) / (1 + cubicBeta) // section 4.3
	minCubicPkts = 2
	pacingGain   = 1.25 // of cwnd in a round-trip time, so that pacing does not become the bottleneck
	pacingGainSS = 2
)

// cubicFirst is how many packets Cubic begins with (RFC 9002, section 7.2).
const cubicFirst = 10

// Cubic is CUBIC (RFC 9438) with HyStart++ (RFC 9406), paced.
type Cubic struct {
	mtu      int64
	initial  int64
	cwnd     float64
	ssthresh float64
	srtt     time.Duration

	wMax     float64 // bytes: where the last reduction was
	wEst     float64 // bytes: what Reno would have
	k        float64 // seconds until wMax is regained
	epoch    time.Duration
	hasEpoch bool
	origin   float64 // cwnd at the beginning of the epoch

	recovery   time.Duration // losses of packets sent before belong to the last reduction
	inRecovery bool
	undo       *cubicUndo

	hystart hystart
}

// cubicUndo is what held before the last reduction.
type cubicUndo struct{ cwnd, ssthresh, wMax float64 }

// NewCubic returns a controller in slow start.
func NewCubic(cfg Config) *Cubic {
	c := &Cubic{mtu: cfg.mtu(), initial: cfg.initialWindow(cubicFirst), ssthresh: math.Inf(1)}
	c.cwnd = float64(c.initial)
	c.hystart.reset()
	return c
}

// Name returns "cubic".
func (c *Cubic) Name() string { return "cubic" }

// Window returns cwnd in bytes.
func (c *Cubic) Window() int64 { return int64(c.cwnd) }

// Bandwidth returns cwnd in a round-trip time, in bytes/s.
func (c *Cubic) Bandwidth() float64 {
	if c.srtt == 0 {
		return 0
	}
	return c.cwnd / c.srtt.Seconds()
}

// PacingRate returns bytes/s.
func (c *Cubic) PacingRate() float64 {
	if c.slowStart() {
		return pacingGainSS * c.Bandwidth()
	}
	return pacingGain * c.Bandwidth()
}

// Quantum returns how many bytes may leave at once.
func (c *Cubic) Quantum() int {
	if c.srtt == 0 {
		return int(c.initial)
	}
	return int(quantum(c.PacingRate(), c.mtu))
}

// State returns the name of the state.
func (c *Cubic) State() string {
	switch {
	case c.inRecovery:
		return "recovery"
	case c.slowStart():
		return "slow-start"
	}
	return "avoidance"
}

// SetMTU tells the size of a full packet.
func (c *Cubic) SetMTU(mtu int) {
	c.mtu = int64(mtu)
	c.cwnd = max(c.cwnd, c.minimum())
}

func (c *Cubic) minimum() float64 { return float64(minCubicPkts * c.mtu) }

func (c *Cubic) slowStart() bool { return c.cwnd < c.ssthresh }

// OnSent moves the epoch on where a silence ends, so that the time without data does not count (section 4.2).
func (c *Cubic) OnSent(now time.Duration, size, inflight int64, appLimited bool) {
	if inflight == 0 && appLimited {
		c.hasEpoch = false
	}
}

// OnAck grows the window.
func (c *Cubic) OnAck(a *Ack) {
	c.srtt = a.SmoothedRTT
	if a.Acked == 0 {
		return
	}
	if c.inRecovery {
		if a.Packet.Sent <= c.recovery {
			return
		}
		c.inRecovery = false
	}
	if !a.CwndLimited {
		return // a window that is not used must not grow (section 4.2, RFC 7661)
	}
	if c.slowStart() {
		growth, done := c.hystart.onAck(a)
		c.cwnd += min(growth*float64(a.Acked), max(c.ssthresh-c.cwnd, 0))
		if done {
			c.ssthresh = c.cwnd
		}
		return
	}
	c.avoid(a)
}

// avoid is congestion avoidance (sections 4.2 to 4.5).
func (c *Cubic) avoid(a *Ack) {
	if !c.hasEpoch {
		c.hasEpoch, c.epoch, c.origin, c.wEst = true, a.Now, c.cwnd, c.cwnd
		c.k = 0
		if c.wMax > c.cwnd {
			c.k = math.Cbrt((c.wMax - c.cwnd) / float64(c.mtu) / cubicC)
		} else {
			c.wMax = c.cwnd
		}
	}
	alpha := renoAlpha
	if c.wEst >= c.wMax {
		alpha = 1
	}
	c.wEst += alpha * float64(a.Acked) / c.cwnd * float64(c.mtu)

	t := (a.Now - c.epoch + a.SmoothedRTT).Seconds()
	target := c.wMax + cubicC*math.Pow(t-c.k, 3)*float64(c.mtu)
	target = min(max(target, c.cwnd), 1.5*c.cwnd)
	c.cwnd += (target - c.cwnd) / c.cwnd * float64(a.Acked)
	c.cwnd = max(c.cwnd, c.wEst)
}

// OnLost reduces the window once for each round in which something was lost.
func (c *Cubic) OnLost(l *Loss) {
	if c.inRecovery && l.Packet.Sent <= c.recovery {
		return
	}
	c.undo = &cubicUndo{c.cwnd, c.ssthresh, c.wMax}
	c.inRecovery, c.recovery = true, l.Now
	if c.cwnd < c.wMax { // fast convergence (section 4.7)
		c.wMax = c.cwnd * (1 + cubicBeta) / 2
	} else {
		c.wMax = c.cwnd
	}
	c.cwnd = max(c.cwnd*cubicBeta, c.minimum())
	c.ssthresh = c.cwnd
	c.hasEpoch = false
}

// OnSpurious takes the last reduction back (section 4.9).
func (c *Cubic) OnSpurious(time.Duration) {
	if c.undo == nil {
		return
	}
	c.cwnd = max(c.cwnd, c.undo.cwnd)
	c.ssthresh = max(c.ssthresh, c.undo.ssthresh)
	c.wMax = max(c.wMax, c.undo.wMax)
	c.undo, c.inRecovery, c.hasEpoch = nil, false, false
}

// OnPersistentCongestion starts again from the smallest window.
func (c *Cubic) OnPersistentCongestion(time.Duration) {
	c.cwnd = c.minimum()
	c.inRecovery, c.hasEpoch, c.undo = false, false, nil
	c.hystart.reset()
}
