package esp

import (
	"context"
	"time"
)

// probeAgain is how long after one question the next is asked, whoever wants it: until then loss recovery sees to it.
const probeAgain = time.Second

// Heard returns when the last packet of the peer came.
func (s *Session) Heard() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.origin.Add(s.heard - 1) // the session's clock begins with 1
}

// Probe asks the peer for a sign of life, and waits until any packet of it comes, the session ends, or the context does. A session at rest learns so at once what it would notice
// with its next keep-alive, and sees to its paths; it does not end for want of an answer, which it gives [Config].IdleTimeout.
func (s *Session) Probe(ctx context.Context) error {
	s.mu.Lock()
	if s.err != nil {
		defer s.mu.Unlock()
		return s.err
	}
	if s.sign == nil {
		s.sign = make(chan struct{})
	}
	sign := s.sign
	if now := s.now(); s.probedAt == 0 || now-s.probedAt >= probeAgain {
		s.probedAt = now
		s.sendCtrl(&ctrl{typ: framePing})
	}
	s.flushUnlock()
	select {
	case <-sign:
		return nil
	case <-s.done:
		return s.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// signOfLife wakes who waits for one. s.mu is held.
func (s *Session) signOfLife() {
	if s.sign != nil {
		close(s.sign)
		s.sign = nil
	}
}
