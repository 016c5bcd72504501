package recovery

import (
	"time"

	"sharefs/esp/internal/cc"
	"sharefs/esp/internal/interval"
)

// OnAck takes an acknowledgement: ranges of packet numbers in any order, and how long the peer says it waited since it
// received the highest of them. It appends to r what is newly known. On an error nothing after the offending range was
// taken; the session must be closed.
func (s *Sender[T]) OnAck(now time.Duration, ranges []interval.Range, delay time.Duration, r *Result[T]) error {
	var n newlyAcked
	for _, rg := range ranges {
		if err := s.takeRange(now, rg, r, &n); err != nil {
			return err
		}
	}
	if !n.any {
		return nil
	}
	if !s.hasLargest || n.highest > s.largest {
		s.largest, s.hasLargest = n.highest, true
	}
	r.Spurious += n.spurious
	var sample time.Duration
	if n.bytes > 0 {
		if n.newestPN == n.highest {
			s.rtt.add(now-n.newest.Sent, min(max(delay, 0), s.cfg.MaxAckDelay))
			sample = s.rtt.Latest
			r.RTTTaken = true
		}
		s.ptoCount = 0
		s.rackSent = max(s.rackSent, n.newest.Sent)
		s.reorder.seen = s.reorder.seen || n.overtaken
	}
	before := s.lost
	s.detectLost(now, r)
	if n.bytes > 0 {
		s.sample(now, &n, s.lost-before, sample)
	}
	s.prune(now)
	return nil
}

// newlyAcked is what one acknowledgement makes known.
type newlyAcked struct {
	any       bool
	highest   uint64    // acknowledged, newly or again
	newest    cc.Packet // with the highest number of those that are new
	newestPN  uint64
	bytes     int64 // 0 where nothing is new
	spurious  int
	overtaken bool // a packet has arrived after one that was sent later, before it was held to be lost
}

func (s *Sender[T]) takeRange(now time.Duration, rg interval.Range, r *Result[T], n *newlyAcked) error {
	if rg.End <= rg.Start {
		return nil
	}
	if rg.End > s.next {
		return ErrUnsentAck
	}
	for _, pn := range s.skipped[:min(s.skips, len(s.skipped))] {
		if rg.Start <= pn && pn < rg.End {
			return ErrOptimisticAck
		}
	}
	n.highest, n.any = max(n.highest, rg.End-1), true
	start := max(rg.Start, s.ring.base)
	if start >= rg.End {
		return nil
	}
	for gap := range s.acked.Gaps(start, rg.End) {
		for pn := gap.Start; pn < gap.End; pn++ {
			e := s.ring.get(pn)
			switch e.state {
			case statePending:
				return ErrUnsentAck
			case stateIgnored:
				continue
			case stateOutstanding:
				if s.hasLargest && pn < s.largest {
					n.overtaken = true
				}
				s.stats.Acked++
				s.note(false)
				r.Acked = append(r.Acked, done(pn, e))
				s.settle(e, stateAcked)
			case stateLost:
				n.spurious++
				s.stats.Spurious++
				e.state = stateAcked
				s.spurious(now, e)
			}
			n.bytes += e.info.Size
			if pn >= n.newestPN {
				n.newest, n.newestPN = e.info, pn
			}
		}
	}
	s.acked.Add(start, rg.End)
	return nil
}

// sample makes a rate sample (draft-ietf-ccwg-bbr-04, section 4.1.2.3) and hands it to congestion control.
//
// All packets of one acknowledgement are taken together: those which were delivered between the sending of its newest
// packet and now.
func (s *Sender[T]) sample(now time.Duration, n *newlyAcked, lost int64, rtt time.Duration) {
	newest := &n.newest
	s.delivered += n.bytes
	s.deliveredAt = now
	s.firstSent = newest.Sent
	if s.limitedUntil > 0 && s.delivered > s.limitedUntil {
		s.limitedUntil = 0
	}
	if s.cfg.CC == nil {
		return
	}
	a := &s.ack // not a local one, which would escape to the heap each time
	*a = cc.Ack{
		Now: now, Acked: n.bytes, Lost: lost, Delivered: s.delivered, TotalLost: s.lost, Inflight: s.inflight,
		RTT: rtt, MinRTT: s.rtt.Min, SmoothedRTT: s.rtt.Smoothed, Packet: *newest,
		RateBytes:   s.delivered - newest.Delivered,
		CwndLimited: s.cwndLimited || s.wasLimited,
	}
	// The slower of sending and delivery: the faster one is an artefact of bunched packets or acknowledgements. What is
	// shorter than the lowest round-trip time cannot be right.
	interval := max(newest.Sent-newest.FirstSent, now-newest.DeliveredAt)
	if interval > 0 && interval >= s.rtt.Min {
		a.Rate = float64(a.RateBytes) / interval.Seconds()
	}
	s.cfg.CC.OnAck(a)
	if newest.Delivered >= s.roundEnd {
		s.roundEnd = s.delivered
		s.wasLimited, s.cwndLimited = s.cwndLimited, false
	}
}

// prune forgets the packets at the beginning whose fate is known.
func (s *Sender[T]) prune(now time.Duration) {
	keep := rememberPTOs * s.rtt.pto(s.cfg.InitialRTT, s.cfg.MaxAckDelay)
	pn := s.ring.base
	for ; pn < s.next; pn++ {
		e := s.ring.get(pn)
		if e.state == statePending || e.state == stateOutstanding || e.state == stateLost && now < e.info.Sent+keep {
			break
		}
	}
	if pn > s.ring.base {
		s.ring.dropBelow(pn)
		s.acked.RemoveBelow(pn)
	}
}

// Rates of loss are those of about so many packets: the one of the statistics follows what happens; the other one is for
// what is to be done only where a path is known to lose, for which a few numbers that were left out are no sign.
const (
	lossMemory     = 256
	lossMemoryLong = 1024
)

// noteLoss takes the fate of one packet into a rate of loss.
func noteLoss(rate *float64, lost bool, memory float64) {
	x := 0.0
	if lost {
		x = 1
	}
	*rate += (x - *rate) / memory
}

// noteLate takes back that a packet was lost.
func noteLate(rate *float64, memory float64) { *rate = max(0, *rate-1/memory) }

// note takes the fate of one packet into the rates of loss.
func (s *Sender[T]) note(lost bool) {
	noteLoss(&s.stats.LossRate, lost, lossMemory)
	noteLoss(&s.longLoss, lost, lossMemoryLong)
}
