package esp

import (
	"context"
	"syscall"
)

// Streams that begin with data, so that a question and its answer take one round trip.
//
// Of each stream that the peer opens it may send earlyWindow bytes before it has our OPEN_ACK. We say so in the handshake, and the credit of
// the session (MAX_DATA) counts from the first byte. Packets overtake each other, so what comes of a stream before its OPEN makes the stream
// as well: it is unopened then, counts against the limit of streams, and nobody here sees it until OPEN has come. It holds no more than
// earlyWindow, which every stream is granted anyway. A stream that is over stays in peerOpened, so a late frame never makes it anew.
//
// A stream that is refused has bytes under way. They are thrown away and counted; the opener answers with RESET, which tells how many
// they were, and only then both ends forget the stream. So the sums of both stay the same to the byte.

// earlyWindow is how many bytes of a stream a peer may send before it has our OPEN_ACK.
const earlyWindow = minStreamWindow

// OpenEarly opens a stream and does not wait until the peer has taken it: first, if there is any, and what is written next leave with the
// request, as far as the peer grants in its handshake (16 KiB where it is this package; nothing where it does not know of this); the
// rest waits for the peer's answer. Where the peer does not take the stream, Read and Write return the error that [Session.Open] would have
// returned, and the peer's program has seen nothing of what was written. OpenEarly waits, as long as ctx lets it, only while the peer
// permits no more streams; ctx has no bearing on the connection that it returns.
func (s *Session) OpenEarly(ctx context.Context, first []byte) (*Conn, error) {
	c, err := s.request(ctx, true)
	if err != nil {
		return nil, s.opErr("dial", err)
	}
	if len(first) == 0 {
		s.mu.Lock()
		s.flushUnlock()
		return c, nil
	}
	if _, err := c.Write(first); err != nil { // which sends OPEN too
		c.Close()
		return nil, err
	}
	return c, nil
}

// mayEarly reports whether something of a stream may leave before the peer's OPEN_ACK. s.mu is held.
func (c *Conn) mayEarly() bool { return c.state == connOpening && c.early && c.peerMax > 0 }

// addUnopened makes the stream of a number that the peer has not used yet. s.mu is held.
func (s *Session) addUnopened(id uint64) *Conn {
	s.peerOpened.Add(id>>1, id>>1+1)
	c := s.newConn(id, earlyWindow, 0)
	c.accepted, c.state = true, connUnopened
	s.addStream(c)
	return c
}

// mayBegin finds the stream of a frame that may come before OPEN. nil: it is over, or the session is, because there cannot be such a stream.
// s.mu is held.
func (s *Session) mayBegin(id uint64) *Conn {
	if n := id >> 1; !s.ours(id) && n < s.peerLimit && !s.peerOpened.Contains(n) {
		return s.addUnopened(id)
	}
	return s.stream(id)
}

func (s *Session) onOpen(f *frame) {
	n := f.id >> 1
	if s.ours(f.id) || n >= s.peerLimit {
		s.violation(CodeProtocol, "stream %d opened by the wrong side or beyond the limit of %d", f.id, s.peerLimit)
		return
	}
	c := s.mayBegin(f.id)
	if c == nil || c.state != connUnopened {
		return // the frame came twice
	}
	c.peerMax = f.off
	stop := c.stop
	c.stop = nil
	if stop != nil && c.rerr != nil { // both halves were given up
		s.refuse(c, CloseCode(stop.code))
		return
	}
	c.state = connOpen
	l := s.listener
	if l == nil {
		l = s.e.mainListener()
	}
	if code := l.offer(c); code != CodeNone {
		s.stats.refused++
		s.refuse(c, code)
		return
	}
	s.stats.accepted++
	s.widen(c)
	s.sendCtrl(&ctrl{typ: frameOpenAck, id: c.id, a: c.granted})
	if stop != nil {
		s.onStopSending(stop)
	}
}

// widen gives a stream that was taken the window of a new one. s.mu is held.
func (s *Session) widen(c *Conn) {
	more := s.firstWindow(int(c.window)) - c.window
	c.window += more
	c.granted += more
	s.windows += int(more)
	s.e.memory.Add(int64(more))
	s.checkDataCredit()
}

// refuse answers OPEN with RESET. The stream stays until that was acknowledged and the opener has said how much it had sent. s.mu is held.
func (s *Session) refuse(c *Conn, code CloseCode) {
	c.state = connRefused
	c.closed, c.wclosed, c.rclosed = true, true, true
	s.resetStream(c, code)
	s.discard(c)
	s.settle(c)
}

// refused takes the peer's RESET in place of OPEN_ACK. s.mu is held.
func (s *Session) refused(c *Conn, code CloseCode) {
	c.openErr = syscall.ECONNREFUSED
	if code != CodeRefused {
		c.openErr = newSessionError(code, true, "stream")
	}
	c.state = connRefused
	c.werr, c.rerr = c.openErr, c.openErr
	s.resetStream(c, code) // which tells how much was sent
	c.notice()
	close(c.opened)
}

func (s *Session) onOpenAck(f *frame) {
	c := s.stream(f.id)
	if c == nil || c.state == connOpen {
		return
	}
	if c.opened == nil {
		s.violation(CodeProtocol, "OPEN_ACK for stream %d", f.id)
		return
	}
	if c.state == connRefused {
		return // said twice, and differently
	}
	c.state = connOpen
	c.peerMax = max(c.peerMax, f.off)
	close(c.opened)
	s.queue(c)
}
