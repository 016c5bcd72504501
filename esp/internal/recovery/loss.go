package recovery

import (
	"time"

	"sharefs/esp/internal/cc"
)

// reorder is the reordering window of RACK (RFC 8985, section 6.2): a quarter of the lowest round-trip time, times a
// factor that grows with each round in which losses proved to be none, and falls back after 16 recoveries without.
type reorder struct {
	seen     bool // packets overtake each other on this path
	mult     int
	keep     int           // recoveries until mult falls back
	grownAt  time.Duration // when mult grew last
	recovery time.Duration // losses of packets sent before belong to the last recovery
	pending  int           // packets of that recovery which are still held to be lost
}

const (
	reorderKeep    = 16
	reorderMaxMult = 32
)

func (r *reorder) init() { r.mult = 1 }

// window is how much longer than a round-trip time a packet may take.
func (s *Sender[T]) reorderWindow() time.Duration {
	w := time.Duration(s.reorder.mult) * s.rtt.Min / 4
	return max(min(w, s.rtt.Smoothed), granularity)
}

// detectLost reports the packets that are lost by now, and sets the time at which the next one will be.
func (s *Sender[T]) detectLost(now time.Duration, r *Result[T]) {
	s.lossAt = 0
	if !s.hasLargest {
		return
	}
	wait := max(s.rtt.Latest, s.rtt.Smoothed) + s.reorderWindow()
	first := len(r.Lost)
	for pn := s.first(); pn < s.largest; pn++ {
		e := s.ring.get(pn)
		if e == nil {
			break
		}
		if e.state != stateOutstanding {
			continue
		}
		if e.info.Sent > s.rackSent {
			break // later ones were sent later still
		}
		byCount := !s.reorder.seen && s.largest-pn >= packetThreshold
		if at := e.info.Sent + wait; !byCount && at > now {
			s.lossAt = at // the following ones come no earlier
			break
		}
		s.declareLost(now, pn, e, r)
	}
	if len(r.Lost) > first {
		s.persistent(now, r.Lost[first:])
	}
}

func (s *Sender[T]) declareLost(now time.Duration, pn uint64, e *entry[T], r *Result[T]) {
	r.Lost = append(r.Lost, done(pn, e))
	s.settle(e, stateLost)
	if e.flags&Probe != 0 {
		return
	}
	s.stats.Lost++
	s.note(true)
	s.lost += e.info.Size
	if e.info.Sent > s.reorder.recovery || s.reorder.recovery == 0 { // a recovery begins
		if s.reorder.keep > 0 {
			if s.reorder.keep--; s.reorder.keep == 0 {
				s.reorder.mult = 1
			}
		}
		s.reorder.recovery, s.reorder.pending = now, 0
	}
	s.reorder.pending++
	if s.cfg.CC != nil {
		s.loss = cc.Loss{Now: now, Packet: e.info, Delivered: s.delivered, TotalLost: s.lost, Inflight: s.inflight}
		s.cfg.CC.OnLost(&s.loss)
	}
}

// spurious learns from a packet that was held to be lost and is not.
func (s *Sender[T]) spurious(now time.Duration, e *entry[T]) {
	if e.flags&Probe != 0 {
		return
	}
	s.reorder.seen = true
	s.reorder.keep = reorderKeep
	if now-s.reorder.grownAt >= s.rtt.Smoothed || s.reorder.grownAt == 0 { // once in a round
		s.reorder.mult = min(s.reorder.mult+1, reorderMaxMult)
		s.reorder.grownAt = now
	}
	s.lost -= e.info.Size
	noteLate(&s.stats.LossRate, lossMemory)
	noteLate(&s.longLoss, lossMemoryLong)
	if e.info.Sent <= s.reorder.recovery && s.reorder.pending > 0 {
		if s.reorder.pending--; s.reorder.pending == 0 && s.cfg.CC != nil {
			s.cfg.CC.OnSpurious(now)
		}
	}
}

// persistent looks whether the lost packets span so long a time that nothing can have come through in it (RFC 9002,
// section 7.6): at least two that elicit acknowledgements, sent after the first sample, and none between them arrived.
func (s *Sender[T]) persistent(now time.Duration, lost []Done[T]) {
	if s.cfg.CC == nil || s.rtt.Smoothed == 0 {
		return
	}
	span := 3 * (s.rtt.Smoothed + max(4*s.rtt.Var, granularity) + s.cfg.MaxAckDelay)
	for i := 0; i < len(lost); {
		j := i
		for j+1 < len(lost) && s.noneArrived(lost[j].PN, lost[j+1].PN) {
			j++
		}
		if lost[j].Sent-lost[i].Sent >= span {
			s.cfg.CC.OnPersistentCongestion(now)
			return
		}
		i = j + 1
	}
}

// noneArrived reports whether no packet between two numbers was acknowledged.
func (s *Sender[T]) noneArrived(from, to uint64) bool {
	for gap := range s.acked.Gaps(from, to) {
		return gap.Start == from && gap.End == to
	}
	return false
}
