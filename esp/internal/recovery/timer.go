package recovery

import "time"

// Deadline returns when OnTimeout is to be called, ok false where nothing is waited for. It may change with every other
// call.
func (s *Sender[T]) Deadline() (at time.Duration, ok bool) {
	switch {
	case s.lossAt > 0:
		return s.lossAt, true
	case s.outstanding > 0:
		return s.lastEliciting + s.PTO(), true
	}
	return 0, false
}

// Losing reports whether Deadline is the time when a packet will be held to be lost, which may be near, and not that of
// a probe.
func (s *Sender[T]) Losing() bool { return s.lossAt > 0 }

// PTO returns the probe timeout with its back-off.
func (s *Sender[T]) PTO() time.Duration {
	pto := s.rtt.pto(s.cfg.InitialRTT, s.cfg.MaxAckDelay)
	for range s.ptoCount {
		if pto *= 2; pto >= s.cfg.MaxPTO {
			return s.cfg.MaxPTO
		}
	}
	return pto
}

// OnTimeout does what is due: packets whose time is over are reported lost, or r.Probes tells how many probes to send.
// It may be called too early, and then does nothing.
func (s *Sender[T]) OnTimeout(now time.Duration, r *Result[T]) {
	at, ok := s.Deadline()
	if !ok || now < at {
		return
	}
	if s.lossAt > 0 {
		s.detectLost(now, r)
		s.prune(now)
		return
	}
	s.ptoCount++
	s.lastEliciting = now // should no probe be sent, the next timeout comes all the same
	s.stats.Timeouts++
	r.Probes = timerProbes
}
