package esp

import (
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"sharefs/esp/internal/recovery"
)

// The way in:
//
//	1  whoever has the reader role of a socket receives a batch of datagrams (GRO: up to 64 KiB at once) or of TCP bytes
//	2  each packet is looked up by its CID and decrypted in place                                             (without a lock)
//	3  receive takes the packets of one session in one go: replay window, frames, streams, acknowledgements   (under s.mu)
//	4  flush sends what that allows: an ACK for the batch, more data                                          (send.go)
//	5  Read copies the bytes out of the receive buffer                                                        (without a lock)

// inPacket is one packet that was opened.
type inPacket struct {
	path uint32
	pn   uint64
	key  *epochKey
	body []byte // the frames
	size int    // on the wire
	buf  *rbuf  // where body lies
	sock *socket
	link *link
	from netip.AddrPort
	to   netip.Addr // our end, invalid where the system does not tell
}

// shortBatch is how many bytes a batch must bring at least for its buffer to be held until they are read; from a
// smaller one they are copied.
const shortBatch = 16 << 10

// receive takes packets that were opened with the keys of this session.
func (s *Session) receive(pkts []inPacket) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	now := s.now()
	s.dialog = false
	total := 0
	for i := range pkts {
		total += pkts[i].size
	}
	for i := range pkts {
		in := &pkts[i]
		p := s.pathOf(in, now)
		if p == nil {
			continue
		}
		if !p.replay.Accept(in.pn) {
			s.stats.replayed++
			continue
		}
		s.accept(p, in, now)
		if s.err != nil {
			break
		}
		elic, ok := s.frames(p, in, total < shortBatch, now)
		if s.err != nil {
			break
		}
		if !ok {
			continue
		}
		p.acker.Received(now, in.pn, elic)
		if elic && p.link != nil {
			p.unacked += in.size
			if p.ackAt == 0 {
				p.ackAt = now + defaultAckDelay
			}
		}
	}
	if s.dialog {
		s.dataAt = now
	}
	s.checkDrained()
	s.flushAt(now)
	s.unlock()
}

// accept notes that an authentic packet came. s.mu is held.
func (s *Session) accept(p *path, in *inPacket, now time.Duration) {
	s.heard = now
	s.signOfLife()
	p.heard = now
	p.stats.packetsIn++
	p.stats.bytesIn += uint64(in.size)
	s.stats.packetsIn++
	s.stats.bytesIn += uint64(in.size)
	if !p.validated {
		p.allowance += 3 * in.size
	}
	if keys := s.recvKeys.Load(); in.key == keys.next {
		s.recvKeys.Store(keys.advance(s.kx.takeRecv(in.key.epoch)))
	}
	if !s.confirmed {
		s.confirm(p)
	}
	if in.pn >= p.heardPN {
		p.heardPN = in.pn + 1
		if p.link == nil && (in.from != p.remote || in.sock != p.sock || in.to != p.local && in.to.IsValid()) {
			s.moved(p, in, now)
		}
	}
}

// confirm runs once, when the first packet of the peer has come. s.mu is held.
func (s *Session) confirm(p *path) {
	s.confirmed = true
	p.validated = true
	p.state = pathReady
	s.setActive(p, "first path")
	s.issueCIDs()
	s.advertise()
	s.trace(Event{Kind: EventSessionOpened})
}

// violation ends the session because of what the peer sent. s.mu is held.
func (s *Session) violation(code CloseCode, format string, args ...any) {
	s.closeLocked(newSessionError(code, false, fmt.Sprintf(format, args...)))
}

// frames takes the frames of a packet. elic: the packet asks for an ACK; ok is false where something in it found no
// room, so that it must not be acknowledged and will come again. s.mu is held.
func (s *Session) frames(p *path, in *inPacket, own bool, now time.Duration) (elic, ok bool) {
	fr := &s.reader
	fr.reset(in.body)
	f := &s.frame
	ok = true
	asks, only := 0, false
	for s.err == nil {
		more, err := fr.next(f)
		if err != nil {
			s.stats.malformed++
			s.violation(CodeFrame, "%v, type %#x", err, f.typ)
			return false, false
		}
		if !more {
			break
		}
		if f.typ != frameAck && f.typ != frameClose {
			asks++
			only = f.typ == framePing || f.typ == framePathResponse
		}
		switch {
		case f.typ&^3 == frameStream:
			if !s.onStream(f, in.buf, own) {
				ok = false
			}
		case f.typ == frameAck:
			s.onAck(f, now)
		default:
			s.onControl(p, f, in, now)
		}
	}
	if only && asks == 1 { // nothing will come of it but the acknowledgement: no timer is to wake us for that
		p.acker.Ask()
	}
	return asks > 0, ok
}

// stream finds the stream that a frame names. It ends the session when the peer cannot mean any that ever was. nil:
// it is gone.
func (s *Session) stream(id uint64) *Conn {
	if c := s.streams[id]; c != nil {
		return c
	}
	n := id >> 1
	if s.ours(id) && n >= s.nextStream || !s.ours(id) && !s.peerOpened.Contains(n) {
		s.violation(CodeProtocol, "a frame for stream %d, which was never opened", id)
	}
	return nil
}

func (s *Session) onStream(f *frame, buf *rbuf, own bool) (ok bool) {
	s.dialog = true
	c := s.mayBegin(f.id)
	if c == nil {
		return true
	}
	if c.rq.hasFinal && c.doneRead {
		return true
	}
	end := f.off + uint64(len(f.data))
	before := c.rq.next
	if c.rclosed || c.rerr != nil {
		if end > c.rq.high {
			grown := end - c.rq.high
			c.rq.high = end
			if !s.received(c, grown) {
				s.overrun(c)
				return false
			}
		}
		if f.fin {
			if err := c.rq.setFinal(end); err != nil {
				s.violation(CodeProtocol, "stream %d: %v", c.id, err)
				return false
			}
		}
		s.discard(c)
		s.settle(c)
		return true
	}
	if end > c.granted {
		s.overrun(c)
		return false
	}
	grown, err := c.rq.insert(f.off, f.data, buf, own && !c.rwaiting)
	switch {
	case err == errTooMany:
		return false
	case err != nil:
		s.violation(CodeProtocol, "stream %d: %v", c.id, err)
		return false
	case !s.received(c, grown):
		s.overrun(c)
		return false
	}
	if f.fin {
		if err := c.rq.setFinal(end); err != nil {
			s.violation(CodeProtocol, "stream %d: %v", c.id, err)
			return false
		}
		if end > c.rq.high { // the end alone was faster: what is missing counts by now, for the stream may be closed before it comes
			grown := end - c.rq.high
			c.rq.high = end
			if !s.received(c, grown) {
				s.overrun(c)
				return false
			}
		}
	}
	if c.rq.next != before || c.rq.eof() {
		c.rwake.poke()
		if c.rq.eof() {
			s.settle(c)
		}
	}
	return true
}

func (s *Session) overrun(c *Conn) {
	s.violation(CodeFlow, "stream %d: offset %d beyond the credit of %d, or the session's %d beyond %d",
		c.id, c.rq.high, c.granted, s.recvData, s.maxData)
}

// onAck takes an ACK. s.mu is held.
func (s *Session) onAck(f *frame, now time.Duration) {
	p := s.path(uint32(f.id))
	if p == nil {
		return // of a path that is gone
	}
	r := &s.result
	r.Reset()
	if err := p.rec.OnAck(now, f.ranges, f.delay, r); err != nil {
		s.violation(CodeProtocol, "path %d: %v", p.id, err)
		return
	}
	if len(r.Acked) > 0 {
		if p.suspect {
			s.revived(p)
		}
		p.firstUnanswered = now
	}
	s.settleResult(p, r, now)
}

// settleResult tells the streams what became of their bytes. s.mu is held.
func (s *Session) settleResult(p *path, r *recovery.Result[sent], now time.Duration) {
	for i := range r.Acked {
		d := &r.Acked[i]
		t := &d.Payload
		if t.epoch == s.send.cur.epoch {
			s.send.acked = true
		}
		if t.ackTop > 0 {
			p.acker.OnAckOfAck(t.ackTop - 1)
		}
		if p.link != nil {
			p.rate.add(now, d.Size)
		} else if t.probe > 0 {
			p.mtu.ProbeAcked(now, t.probe)
			p.cc.SetMTU(p.mtu.Size())
		} else {
			p.mtu.PacketAcked(d.Size)
		}
		if t.first.kind == sentStream && t.more == nil { // most packets
			s.frameAcked(&t.first)
		} else {
			t.each(s.frameAcked)
		}
	}
	for i := range r.Lost {
		d := &r.Lost[i]
		if d.Payload.probe > 0 {
			p.mtu.ProbeLost(now, d.Payload.probe)
		} else if p.mtu != nil && p.mtu.PacketLost(now, d.Size) {
			p.cc.SetMTU(p.mtu.Size())
			s.trace(Event{Kind: EventPath, Path: p.id, Detail: fmt.Sprintf("PMTU falls to %d", p.mtu.Size())})
		}
		d.Payload.each(s.frameLost)
	}
	p.probes += r.Probes
	r.Reset()
}

func (s *Session) frameAcked(f *sentFrame) {
	switch f.kind {
	case sentStream:
		c := f.c
		if c.removed {
			return
		}
		if c.sq.ack(f.off, uint64(f.n), f.fin) > 0 && c.wwaiting && c.sq.buffered() <= c.sendMax-c.sendMax/4 {
			c.wwake.poke()
		}
		if c.sq.finAcked {
			s.settle(c)
		}
	case sentCtrl:
		s.ctrlAcked(f.ctrl)
	}
}

func (s *Session) frameLost(f *sentFrame) {
	switch f.kind {
	case sentStream:
		if !f.c.removed && !f.c.reset {
			f.c.sq.lose(f.off, uint64(f.n), f.fin)
			s.queue(f.c)
		}
	case sentCredit:
		if !f.c.removed && !f.c.rq.hasFinal {
			s.wantCredit(f.c)
		}
	case sentMaxData:
		s.wantData = true
	case sentMaxStreams:
		s.wantStream = true
	case sentCtrl:
		s.ctrlLost(f.ctrl)
	}
}

// ctrlAcked acts on the delivery of control frames that matter.
func (s *Session) ctrlAcked(c *ctrl) {
	switch c.typ {
	case frameReset:
		if st := s.streams[c.id]; st != nil {
			st.doneWrite = true
			s.settle(st)
		}
	case frameKeyEx:
		s.kx.delivered(s)
	}
}

// ctrlLost queues a control frame again where it still matters.
func (s *Session) ctrlLost(c *ctrl) {
	switch c.typ {
	case framePing, framePathChallenge, framePathResponse, framePathStatus, frameClose:
		return // who sent them asks again by itself
	case frameOpen, frameOpenAck, frameReset, frameStopSending:
		if s.streams[c.id] == nil && c.typ != frameReset {
			return
		}
	case frameAddrs:
		if c.a != s.pathsets.addrSeq {
			return
		}
	}
	s.sendCtrl(c)
}

// onControl takes all other frames. s.mu is held.
func (s *Session) onControl(p *path, f *frame, in *inPacket, now time.Duration) {
	switch f.typ {
	case framePing:
	case frameClose:
		s.closeLocked(newSessionError(CloseCode(f.code), true, printable(f.data)))
	case frameMaxData:
		if f.off > s.peerMaxData {
			s.peerMaxData = f.off
			blocked := s.blocked
			s.blocked = nil
			for _, c := range blocked {
				s.queue(c)
			}
		}
	case frameMaxStreamData:
		if c := s.stream(f.id); c != nil && f.off > c.peerMax {
			c.peerMax = f.off
			s.queue(c)
		}
	case frameMaxStreams:
		if f.off > s.streamLimit {
			s.streamLimit = f.off
			close(s.creditWake)
			s.creditWake = make(chan struct{})
		}
	case frameOpen:
		s.onOpen(f)
	case frameOpenAck:
		s.onOpenAck(f)
	case frameReset:
		s.onReset(f)
	case frameStopSending:
		s.onStopSending(f)
	case frameKeyEx:
		s.kx.received(s, f)
	case framePathChallenge:
		p.ctrlq = append(p.ctrlq, &ctrl{typ: framePathResponse, data: append([]byte(nil), f.data...)})
	case framePathResponse:
		s.onPathResponse(p, f, now)
	case framePathStatus:
		s.onPathStatus(f, now)
	case framePathAbandon:
		s.onPathAbandon(f)
	case frameNewCID:
		s.onNewCID(f)
	case frameRetireCID:
		s.onRetireCID(f)
	case frameAddrs:
		s.onAddrs(f)
	case frameObservedAddr:
		if q := s.path(uint32(f.id)); q != nil {
			q.observed = f.addrs[0].addr
		}
	}
}

// resetStream ends the writing half at once: what was not delivered is dropped. s.mu is held.
func (s *Session) resetStream(c *Conn, code CloseCode) {
	if c.reset || c.doneWrite {
		return
	}
	c.reset = true
	s.sendCtrl(&ctrl{typ: frameReset, id: c.id, a: uint64(code), b: c.sq.next})
	c.sq.drop()
	if c.werr == nil {
		c.werr = syscall.EPIPE
	}
	c.notice()
}

func (s *Session) onReset(f *frame) {
	c := s.mayBegin(f.id)
	if c == nil || c.doneRead {
		return
	}
	if f.off < c.rq.high || c.rq.hasFinal && c.rq.final != f.off {
		s.violation(CodeProtocol, "stream %d: %v", c.id, errFinalSize)
		return
	}
	grown := f.off - c.rq.high
	c.rq.high = f.off
	if !s.received(c, grown) {
		s.overrun(c)
		return
	}
	c.rq.final, c.rq.hasFinal = f.off, true
	code := CloseCode(f.code)
	switch {
	case c.state == connOpening && (!c.early || code == CodeRefused || code == CodeLimit):
		s.refused(c, code)
	case c.rerr == nil:
		c.rerr = resetError(code)
	}
	c.doneRead = true
	s.discard(c)
	c.rwake.poke()
	s.settle(c)
}

// resetError is what Read returns after RESET.
func resetError(code CloseCode) error {
	if code == CodeNone || code == CodeCancelled {
		return syscall.ECONNRESET
	}
	return newSessionError(code, true, "stream")
}

func (s *Session) onStopSending(f *frame) {
	c := s.mayBegin(f.id)
	if c == nil || c.reset || c.doneWrite {
		return
	}
	if c.state == connUnopened { // the answer to OPEN comes first
		c.stop = &frame{typ: frameStopSending, id: f.id, code: f.code}
		return
	}
	if c.sq.finSent && c.sq.next == c.sq.end && c.wclosed {
		// All was sent, the end too: the peer does not want it, and will learn the length from what is under way.
		c.werr = syscall.EPIPE
		return
	}
	if c.werr == nil {
		c.werr = syscall.EPIPE
		if CloseCode(f.code) != CodeNone {
			c.werr = newSessionError(CloseCode(f.code), true, "stream")
		}
	}
	s.resetStream(c, CloseCode(f.code))
}

// badRecord ends a stream whose bytes cannot be decoded. The caller holds rmu only.
func (s *Session) badRecord(c *Conn, cause error) error {
	err := &SessionError{Code: CodeRecord, Reason: cause.Error(), err: cause}
	s.mu.Lock()
	if c.rerr == nil && !c.removed {
		c.rerr = err
		s.sendCtrl(&ctrl{typ: frameStopSending, id: c.id, a: uint64(CodeRecord)})
		s.discard(c)
	}
	s.flushUnlock()
	return err
}
