package esp

import (
	"fmt"
	"time"
)

// The timer of a session serves all its deadlines. It is moved only when something becomes due earlier than it is set
// for; when it fires too early it is set anew. So a stream of packets costs no timer operations. A session that comes to rest
// has it put off, for each time that it fires in vain wakes a process that has nothing to do.

// minTimer is the least the timer waits. What is due now was done by the flush before; what could not be done then
// must not make a busy loop.
const minTimer = 50 * time.Microsecond

// arm sets the timer for the earliest deadline, or later by a moment where it is not to the point. s.mu is held.
func (s *Session) arm(now time.Duration) {
	if s.err != nil {
		return
	}
	rests := s.rests()
	if s.timerAt != 0 && !rests && s.timerAt-now <= s.unhurried() {
		return
	}
	at := s.nextDeadline()
	if at == 0 || s.timerAt != 0 && s.timerAt <= at && (!rests || at-s.timerAt < worthSleep) {
		return
	}
	s.timerAt = at
	wait := max(at-s.now(), minTimer)
	if s.timer == nil {
		s.timer = time.AfterFunc(wait, s.onTimer)
		return
	}
	s.timer.Reset(wait)
}

// unhurried is how soon after now, at the earliest, something new becomes due; a timer that is set for before that need not
// be moved. Deadlines further away, those of paths and of the session, may be late by as much. s.mu is held.
func (s *Session) unhurried() time.Duration {
	for _, p := range s.paths {
		if p.link == nil && (p.paceUntil != 0 || p.rec.Losing() || s.tailAt(p) != 0) {
			return 0
		}
	}
	return min(defaultAckDelay, s.peerParams.ackDelay) // a probe timeout is longer than what the peer's ACKs may take
}

func (s *Session) stopTimer() {
	if s.timer != nil {
		s.timer.Stop()
	}
	s.timerAt = 0
}

// earliest keeps the smaller of two times, of which 0 means never.
func earliest(at *time.Duration, t time.Duration) {
	if t != 0 && (*at == 0 || t < *at) {
		*at = t
	}
}

// nextDeadline is when the timer has something to do, 0: never. s.mu is held.
func (s *Session) nextDeadline() (at time.Duration) {
	for _, p := range s.paths {
		if !p.usable() {
			continue
		}
		if t, ok := p.rec.Deadline(); ok && p.link == nil {
			earliest(&at, max(t, 1))
		}
		if p.sending {
			continue // who sends does it, and arms the timer afterwards
		}
		if p.link != nil {
			earliest(&at, p.ackAt)
			continue
		}
		if t, ok := p.acker.Deadline(); ok {
			earliest(&at, max(t, 1))
		}
		earliest(&at, p.paceUntil)
		earliest(&at, s.tailAt(p))
		if p == s.active && s.confirmed && p.validated {
			if t, ok := p.mtu.Deadline(); ok {
				earliest(&at, max(t, 1))
			}
		}
	}
	earliest(&at, s.keepAliveAt())
	earliest(&at, s.idleAt())
	earliest(&at, s.pathsets.deadline())
	earliest(&at, s.kx.deadline(s))
	return at
}

// idleAt is when the peer is given up, or an unused session is closed.
func (s *Session) idleAt() time.Duration {
	at := s.heard + s.e.cfg.IdleTimeout
	if !s.confirmed {
		at = s.heard + s.e.cfg.HandshakeTimeout
	}
	if len(s.streams) == 0 && !s.kept && s.client && s.idleSince != 0 {
		earliest(&at, s.idleSince+s.e.cfg.IdleTimeout)
	}
	return at
}

// onTimer does what has become due.
func (s *Session) onTimer() {
	s.mu.Lock()
	if p := s.active; p != nil && p.sock != nil && s.err == nil {
		s.mu.Unlock()
		p.sock.drain() // packets that wait in the socket come before a verdict on silence
		s.mu.Lock()
	}
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.timerAt = 0
	s.stats.wakes++
	s.lookAtClock()
	now := s.now()
	for _, p := range s.paths {
		if !p.usable() || p.link != nil {
			continue
		}
		if t, ok := p.rec.Deadline(); ok && now >= t {
			s.onRecoveryTimeout(p, now)
		}
	}
	if t := s.keepAliveAt(); t != 0 && now >= t {
		s.ping(now)
	}
	switch {
	case !s.confirmed && now >= s.idleAt():
		s.closeLocked(newSessionError(CodeTimeout, false, "the handshake was not confirmed"))
	case now >= s.heard+s.e.cfg.IdleTimeout:
		s.closeLocked(newSessionError(CodeTimeout, false, fmt.Sprintf("nothing heard for %v", s.e.cfg.IdleTimeout)))
	case s.idleAt() <= now:
		s.closeLocked(newSessionError(CodeNone, false, "idle"))
	default:
		s.pathsets.tick(now)
		s.kx.tick(s, now)
	}
	s.flushUnlock()
}

// blackHoleFloor is how long no packet was acknowledged before probe timeouts count as a sign that large packets vanish:
// a busy machine may keep a peer on it from answering for a while.
const blackHoleFloor = 100 * time.Millisecond

// onRecoveryTimeout serves the loss timer of a path. s.mu is held.
func (s *Session) onRecoveryTimeout(p *path, now time.Duration) {
	r := &s.result
	r.Reset()
	before := p.rec.PTOCount()
	p.rec.OnTimeout(now, r)
	s.settleResult(p, r, now)
	if p.rec.PTOCount() <= before {
		return // packets were declared lost; the path is not silent
	}
	if now-p.firstUnanswered >= blackHoleFloor && p.mtu.Timeout(now, p.rec.PTOCount()) {
		p.cc.SetMTU(p.mtu.Size())
		s.trace(Event{Kind: EventPath, Path: p.id, Detail: fmt.Sprintf("PMTU falls to %d", p.mtu.Size())})
	}
	// A probe carries what has waited longest, so that a lost tail costs no further round trip.
	if t, ok := p.rec.Oldest(); ok {
		t.each(func(f *sentFrame) {
			if f.kind == sentStream || f.kind == sentCtrl {
				s.frameLost(f)
			}
		})
	}
	if s.finishMsg != nil && !s.confirmed && p.link == nil {
		_ = p.sock.conn.Send(p.remote, p.local, s.finishMsg, len(s.finishMsg)) // FINISH may have been lost; it comes again with the next timeout
	}
	if t, ok := p.rec.Oldest(); ok && t.probe > 0 && p.rec.Outstanding() == 1 {
		return // nothing but a probe of the PMTU, which may well be lost
	}
	s.onSilence(p, now)
}
