package esp

import "time"

// A session at rest costs a host as little as it can. A wake of the process costs more than what it does then, so what is to be done is done at the same moments by all sessions, and
// nothing wakes in vain.

// worthSleep is how much longer a session at rest must be able to sleep for its timer to be put off.
const worthSleep = 100 * time.Millisecond

// rests reports whether nothing is under way, and what came last was no data, which somebody may be about to answer. s.mu is held.
func (s *Session) rests() bool {
	if s.dialog {
		return false
	}
	for _, p := range s.paths {
		if p.sending || p.rec.Outstanding() > 0 {
			return false
		}
	}
	return true
}

// heartbeats reports whether the paths are kept warm: there is more than one, and somebody who uses them.
func (s *Session) heartbeats() bool { return len(s.paths) > 1 && len(s.streams) > 0 }

// busyFor is how long after the last data a session does not count as at rest. At rest its paths are only kept open, as the PINGs do it, and the first data find out at once which
// of them are worth anything.
const busyFor = 10 * time.Second

func (s *Session) busy() bool { return s.dataAt != 0 && s.now() < s.dataAt+busyFor }

// keepAliveAt is when something must be sent so that the peer, and the boxes between, know of us. One PING and its acknowledgement serve both ends: it is sent by whoever dialed,
// behind whose box the path is to be kept open, and by the other end where nothing comes. It is sent earlier, at a common moment, so that a host at rest wakes once for all its
// sessions, those included that others have dialed.
func (s *Session) keepAliveAt() time.Duration {
	if !s.confirmed || len(s.streams) == 0 && !s.kept {
		return 0
	}
	since := max(s.sentAny, s.heard)
	if a := s.active; a != nil && len(s.paths) > 1 { // what the others carry keeps no box open for this one
		since = max(s.pinged, a.heard)
	}
	return s.keptAlive(since)
}

// keptAlive is until when a path where something was sent or came at a time is held to be known of: whoever dialed sends then, after a sixth of KeepAlive at the earliest, and
// the other end where that does not come.
func (s *Session) keptAlive(since time.Duration) time.Duration {
	wait := s.e.cfg.KeepAlive
	step := max(wait/3, 1)
	if !s.client {
		return s.common(since+wait+2*step, step)
	}
	if at := s.common(since+wait, wait); at >= since+step/2 {
		return at
	}
	return s.common(since+wait, step)
}

// ping sends a PING on the active path, and sees to those besides that will want one soon, so that they are kept open together. s.mu is held.
func (s *Session) ping(now time.Duration) {
	s.sentAny, s.pinged = now, now // also where nothing can be sent, so that the timer does not spin
	s.sendCtrl(&ctrl{typ: framePing})
	if !s.client || !s.heartbeats() {
		return
	}
	for _, p := range s.paths {
		if p != s.active && p.usable() && p.link == nil && p.challenged == 0 && now-max(p.probed, p.heard) >= s.e.cfg.KeepAlive/6 {
			s.sendChallenge(p)
		}
	}
}

// common returns the last moment up to at that is a multiple of step by the clock of this host, and so by those of all hosts whose clocks are right.
func (s *Session) common(at, step time.Duration) time.Duration {
	return at - time.Duration(uint64(s.wall+at)%uint64(step)) // unsigned, for a clock may be set to before 1970
}

// lookAtClock notes what the clock of this host, which may be set at any time, says now.
func (s *Session) lookAtClock() { s.wall = time.Duration(time.Now().UnixNano()) - s.now() }
