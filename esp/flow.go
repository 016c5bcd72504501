package esp

// Flow control. The peer may send ahead on each stream by the stream's window. The windows of all open streams together stay within the
// window of the session (and those of all sessions within Limits.Memory), so a stream that nobody reads never keeps another one from moving:
// what it holds is within its own window, and that was set aside for it. Only the floor of minStreamWindow for each stream is given without
// asking. MAX_DATA follows what is consumed and thus never binds a peer that keeps to the limits of the streams.

// firstWindow is the window of a new stream, which has so much already: large while few are open. s.mu is held.
func (s *Session) firstWindow(has int) uint64 {
	l := &s.e.cfg.Limits
	left := has + min(l.SessionWindow-s.windows, l.Memory-int(s.e.memory.Load()))
	return uint64(max(min(left/4, firstWindow, l.StreamWindow), minStreamWindow))
}

// consume notes that Read took n bytes of a stream, and reports whether the peer should be told. s.mu is held.
func (s *Session) consume(c *Conn, n uint64) (tell bool) {
	if n == 0 || c.removed {
		return false
	}
	c.consumed += n
	s.consumed += n
	if c.granted-c.consumed < c.window/2 && !c.rq.hasFinal {
		s.growWindow(c)
		c.granted = c.consumed + c.window
		c.lastGrant = s.now()
		tell = s.wantCredit(c)
	}
	return s.checkDataCredit() || tell
}

// growWindow doubles a window half of which was used up within four of the shortest round trips: it should hold a few of them, so that neither the
// way of the credit nor a gap makes the peer wait. Queues do not count, else a window would grow with the queue it makes.
func (s *Session) growWindow(c *Conn) {
	l := &s.e.cfg.Limits
	if s.active == nil {
		return
	}
	if s.now()-c.lastGrant > 4*s.active.rec.RTT().Min || c.window >= uint64(l.StreamWindow) {
		return
	}
	more := min(int(c.window), l.StreamWindow-int(c.window), l.SessionWindow-s.windows, l.Memory-int(s.e.memory.Load()))
	if more <= 0 {
		return
	}
	c.window += uint64(more)
	s.windows += more
	s.e.memory.Add(int64(more))
}

func (s *Session) wantCredit(c *Conn) bool {
	if !c.wantCredit && s.err == nil {
		c.wantCredit = true
		s.creditq = append(s.creditq, c)
	}
	return true
}

// dataWindow is how far MAX_DATA runs ahead of what is consumed: twice what all streams may hold, so that with updates at three quarters it
// never falls below that. s.mu is held.
func (s *Session) dataWindow() uint64 {
	return 2 * uint64(max(s.e.cfg.Limits.SessionWindow, s.windows))
}

// checkDataCredit raises MAX_DATA when a quarter of it is used. s.mu is held.
func (s *Session) checkDataCredit() bool {
	window := s.dataWindow()
	if s.maxData-s.consumed >= window/4*3 {
		return false
	}
	s.maxData = s.consumed + window
	s.wantData = true
	return true
}

// received accounts for n bytes by which the highest offset of a stream rose; false: the peer has overrun its credit. s.mu is held.
func (s *Session) received(c *Conn, n uint64) bool {
	s.recvData += n
	return c.rq.high <= c.granted && s.recvData <= s.maxData
}

// discard throws away what has come on a stream whose reading half was closed, and gives the credit back. s.mu is held.
func (s *Session) discard(c *Conn) {
	c.rq.drop()
	if c.removed || c.rq.high <= c.consumed {
		return
	}
	s.consumed += c.rq.high - c.consumed
	c.consumed = c.rq.high
	if !c.rq.hasFinal && c.state != connRefused && c.granted-c.consumed < c.window/2 {
		c.granted = c.consumed + c.window
		s.wantCredit(c)
	}
	s.checkDataCredit()
}
