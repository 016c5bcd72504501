package esp

import (
	"errors"
	"net"
	"syscall"
	"time"

	"sharefs/esp/internal/recovery"
	"sharefs/esp/internal/sched"
	"sharefs/esp/internal/udpio"
)

// The way out:
//
//	1  a Write, a Read that gives credit, a packet that came in, or the timer changes what there is to send      (under s.mu)
//	2  flush goes over the paths; who finds a path idle takes its sending role, others leave a note              (under s.mu)
//	3  build fills one batch with packets: ACK, control, credit, stream data, as far as window and pacing allow  (under s.mu)
//	4  seal encrypts the packets in place                                                                        (without a lock)
//	5  transmit hands the batch to the kernel with one system call                                               (without a lock)
//	6  and again from 3, until there is nothing to send
//
// So a Write sends on the goroutine of its caller, nothing waits for another goroutine to be woken, and those who
// write meanwhile fill the next batch.

// queue notes that a stream may have something to send. s.mu is held.
func (s *Session) queue(c *Conn) {
	if !c.queued && !c.removed && (c.state == connOpen || c.mayEarly()) && c.sq.pending(c.peerMax) {
		c.queued = true
		s.sendq.push(c)
	}
}

// sendCtrl queues a control frame for whatever path carries control. s.mu is held.
func (s *Session) sendCtrl(c *ctrl) {
	if s.err == nil {
		s.ctrlq = append(s.ctrlq, c)
	}
}

// flushUnlock sends what may be sent, releases s.mu and tells Config.Trace what happened.
func (s *Session) flushUnlock() {
	s.flush()
	s.unlock()
}

func (s *Session) unlockMaybeFlush(flush bool) {
	if flush {
		s.flushUnlock()
		return
	}
	s.mu.Unlock()
}

// unlock releases s.mu and then tells Config.Trace what happened.
func (s *Session) unlock() {
	ev := s.events
	s.events = nil
	s.mu.Unlock()
	for i := range ev {
		s.e.cfg.Trace(ev[i])
	}
}

// flush sends what may be sent on all paths. It gives up s.mu while it seals and sends.
func (s *Session) flush() { s.flushAt(s.now()) }

// flushAt is flush for who has just looked at the clock.
func (s *Session) flushAt(now time.Duration) {
	for again := true; again; {
		active := s.active
		for i, p := range s.paths {
			if i > 0 {
				now = s.now() // others may have sent on this path meanwhile, and times must not run back
			}
			now = s.drive(p, now)
		}
		if again = s.active != active; again { // a path broke while it was used: another one has the work now
			now = s.now()
		}
	}
	s.arm(now)
}

// shortSend is how many bytes are sent in so short a time that the clock need not be looked at again.
const shortSend = 2 << 10

// drive sends on one path until there is nothing more to send or nothing more may be sent. Only one goroutine does so
// at a time. It is given the time and returns it.
func (s *Session) drive(p *path, now time.Duration) time.Duration {
	if p.sending {
		return now // who sends looks again before it stops
	}
	p.sending = true
	for p.usable() {
		b := s.build(p, now)
		if b == nil {
			break
		}
		long := len(b.buf) > shortSend
		twin, over := s.twin(p, b)
		s.mu.Unlock()
		if twin != nil {
			twin.seal(over)
			_ = over.sock.conn.Send(twin.remote, twin.local, twin.buf, twin.seg) // it is the copy: the loss is noticed and does no harm
			twin.free()
		}
		b.seal(p)
		if p.link != nil {
			if !p.link.send(b) { // its writer has taken over the batch and the sending role
				s.mu.Lock()
				return s.now()
			}
			s.mu.Lock()
			b.release()
			b.free()
		} else {
			err := p.sock.conn.Send(b.remote, b.local, b.buf, b.seg)
			s.mu.Lock()
			s.sendResult(p, b, err)
			b.free()
		}
		if long || s.sendq.len()+len(s.ctrlq)+len(p.ctrlq)+len(s.creditq) > 0 { // others queued something meanwhile
			now = s.now()
		}
	}
	p.sending = false
	if p.link != nil {
		p.link.finish()
	}
	return now
}

func (s *Session) sendResult(p *path, b *sendBatch, err error) {
	switch {
	case err == nil:
		p.broken = 0
	case udpio.IsTooBig(err):
		p.mtu.TooBig(s.now(), b.seg)
		if b.probe { // it would take room in the window until it is held to be lost, a round trip of the first data
			p.rec.Refused(b.pkts[0].pn)
		}
		p.cc.SetMTU(p.mtu.Size())
	case errors.Is(err, net.ErrClosed):
	default:
		if p.broken == 0 {
			p.broken = s.now()
			p.why = "send: " + err.Error()
			s.pathBroken(p)
		}
		if p.state == pathProbing && p != s.active && noRoute(err) { // the peer, who may have opened it, need not ask again
			s.dropPath(p, p.why, true)
		}
	}
}

// noRoute reports whether an error says that nothing leads to an address from here, rather than that it is not the time for it.
func noRoute(err error) bool {
	for _, e := range []error{syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.EADDRNOTAVAIL} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// seal encrypts all packets of the batch in place.
func (b *sendBatch) seal(p *path) {
	hdr := p.headerSize()
	for i := range b.pkts {
		k := &b.pkts[i]
		full := b.buf[k.start : k.end+tagSize : k.end+tagSize]
		if c := k.direct; c != nil {
			n := k.end - k.start - hdr
			b.key.sealFrom(&b.nonce, full, hdr, c.mem[chunkHead-k.head:chunkHead-k.head+n], p.id, k.pn)
			continue
		}
		b.key.seal(&b.nonce, full[:k.end-k.start], hdr, p.id, k.pn)
	}
}

// redundantSize is the largest packet of which a copy goes over a second path.
const redundantSize = minDatagram

// twin makes a copy of a batch of one small packet for the second best path, where the scheduler is Redundant. s.mu
// is held.
func (s *Session) twin(p *path, b *sendBatch) (*sendBatch, *path) {
	if s.e.cfg.Scheduler != Redundant || p != s.active || p.link != nil || len(b.pkts) != 1 || len(b.buf) > redundantSize || !b.eliciting {
		return nil, nil
	}
	now := s.now()
	paths := s.schedPaths(now)
	for i := range paths {
		if paths[i].ID == p.id {
			paths[i].Alive = true // while it is suspected the copy matters most
		}
	}
	for _, i := range sched.Copies(sched.Redundant, p.id, paths, nil) {
		q := s.path(paths[i].ID)
		if q == p || q.link != nil || !q.validated || q.rec.Available() <= 0 {
			continue
		}
		t := newSendBatch()
		t.key, t.remote, t.local = b.key, q.remote, q.local
		w := packetWriter{b: t, own: q.id, elic: true, t: b.carried}
		w.t.ackTop = 0
		t.buf = append(t.buf, b.buf[:b.pkts[0].end]...)
		s.finish(q, &w, now)
		t.seg = len(t.buf)
		return t, q
	}
	return nil, nil
}

// carries reports whether the path takes stream data, and control. s.mu is held.
func (s *Session) carries(p *path, now time.Duration) (data, control bool) {
	if p == s.active {
		return true, true
	}
	if s.active == nil || p.state != pathReady {
		return false, false
	}
	return s.spreads(p, now), false
}

// packetWriter builds one packet at the end of a batch.
type packetWriter struct {
	b     *sendBatch
	start int
	body  int // where the frames begin
	limit int // where they must end
	t     sent
	elic  bool
	pad   int    // the packet is padded to this size, tag included
	own   uint32 // id of the path it leaves on
	fresh bool   // it carries what is sent twice where packets are lost

	direct *chunk // all of it goes into the packet, behind what was written so far
	head   int    // what that is, in bytes
}

func (w *packetWriter) room() int   { return w.limit - len(w.b.buf) }
func (w *packetWriter) empty() bool { return len(w.b.buf) == w.body }

// build makes the next batch for a path, or returns nil when nothing is to be sent or may be. s.mu is held.
func (s *Session) build(p *path, now time.Duration) *sendBatch {
	if s.err != nil {
		return nil
	}
	if s.send.due(now) && s.kx.mayAdvance(s) {
		s.send.advance(now)
		s.stats.rekeys++
	}
	p.paceUntil = 0
	data, control := s.carries(p, now)
	if b := s.buildProbe(p, now); b != nil {
		return b
	}
	hasCtrl := len(p.ctrlq) > 0 || control && (len(s.ctrlq) > 0 || len(s.creditq) > 0 || s.wantData || s.wantStream) || p.probes > 0 || p.sayActive
	s.endFlight(p, now)
	hasData := data && (s.sendq.len() > 0 || len(p.tail.again) > 0)
	if hasData {
		s.dataAt = now
	}
	ackDue := p.ackDue(now)
	if !hasCtrl && !hasData && !ackDue {
		if data && !p.rec.AppLimited() && p.room(now) > 0 {
			p.rec.SetAppLimited()
		}
		p.paceUntil = 0 // nothing waits for it
		return nil
	}
	var room int64
	if hasData || p.probes > 0 {
		if room = p.room(now); p.probes == 0 && p.tooLittle(room) {
			room = 0
		}
	}
	if !hasCtrl && !ackDue && room <= 0 {
		return nil
	}
	size := p.packetSize()
	if !p.validated && p.allowance < size {
		if size = min(p.allowance, minDatagram); size < 128 {
			return nil
		}
	}
	b := newSendBatch()
	b.key, b.remote, b.local, b.seg = s.send.cur, p.remote, p.local, size
	most := 1
	if p.link == nil && p.validated {
		most = min(p.sock.conn.MaxSegments(p.remote, size), (sendBuffer-64)/size, cap(b.pkts))
	}
	hdr := p.headerSize()
	for len(b.pkts) < max(most, 1) {
		w := packetWriter{b: b, start: len(b.buf), limit: len(b.buf) + size - tagSize, own: p.id}
		b.buf = b.buf[:w.start+hdr]
		w.body = len(b.buf)
		s.writeAcks(p, &w, now, ackDue || hasCtrl || room > 0)
		s.writeControl(p, &w, control, now)
		if data && room > 0 || p.probes > 0 {
			s.writeData(p, &w, room, data)
		}
		if data && room > 0 {
			s.writeAgain(p, &w)
		}
		if p.probes > 0 && !w.elic {
			w.b.buf = append(w.b.buf, framePing)
			w.elic = true
		}
		if w.empty() {
			b.buf = b.buf[:w.start]
			break
		}
		n := s.finish(p, &w, now)
		if !data { // what little goes over a standby says nothing about what it could carry
			p.rec.SetAppLimited()
		}
		room -= int64(n)
		if p.probes > 0 {
			p.probes--
		}
		if !p.validated {
			p.allowance -= n
		}
		if n < size { // only the last packet of a batch may be short
			break
		}
		hasCtrl = len(p.ctrlq) > 0 || control && len(s.ctrlq) > 0
		ackDue = false
		if room <= 0 && !hasCtrl {
			break
		}
	}
	if len(b.pkts) == 0 {
		b.free()
		return nil
	}
	if b.pkts[0].end+tagSize-b.pkts[0].start < size {
		b.seg = len(b.buf)
	}
	if p.link == nil && b.paced > 0 {
		p.pace.Sent(now, b.paced, data && s.sendq.len()+len(p.tail.again) > 0)
	}
	if s.sendq.len() > 1 { // another stream begins the next batch
		s.sendq.push(s.sendq.pop())
	}
	return b
}

// release gives up the chunks that the batch was sealed from. s.mu is held.
func (b *sendBatch) release() {
	for i := range b.pkts {
		if c := b.pkts[i].direct; c != nil {
			b.pkts[i].direct = nil
			c.free()
		}
	}
}

// finish gives the packet its number and header, and notes it as sent. It returns the size on the wire.
func (s *Session) finish(p *path, w *packetWriter, now time.Duration) int {
	b := w.b
	for p.link == nil && len(b.buf)-w.start+tagSize < w.pad {
		b.buf = append(b.buf, framePadding)
	}
	end := len(b.buf)
	b.buf = b.buf[:end+tagSize]
	n := end + tagSize - w.start
	pn := p.rec.NextPN() // on a TCP path these are 0, 1, 2 …, as the peer counts them
	if p.link != nil {
		putRecordHeader(b.buf[w.start:], b.key.epoch, n-recordHeader)
	} else {
		putHeader(b.buf[w.start:], b.key.epoch, p.dcid, pn)
	}
	if pn > maxPN {
		s.closeLocked(newSessionError(CodeKeys, false, "packet numbers used up"))
	}
	b.pkts = append(b.pkts, outPacket{start: w.start, end: end, pn: pn, direct: w.direct, head: w.head})
	var flags recovery.Flags
	if w.elic {
		flags |= recovery.AckEliciting
		s.sentAny = now
	}
	if w.t.probe > 0 {
		flags |= recovery.Probe
	}
	if w.t.ackTop == 0 {
		p.acker.Answered()
	}
	w.t.epoch = b.key.epoch
	if b.eliciting = w.elic && w.t.probe == 0; b.eliciting && s.e.cfg.Scheduler == Redundant {
		b.carried = w.t
	}
	if w.fresh {
		p.tail.fresh = now
	}
	if w.elic && p.rec.Outstanding() == 0 {
		p.firstUnanswered = now
	}
	p.rec.Sent(now, pn, n, flags, w.t)
	if w.elic && w.t.probe == 0 {
		b.paced += int64(n)
	}
	s.send.packets++
	p.stats.packetsOut++
	p.stats.bytesOut += uint64(n)
	s.stats.packetsOut++
	s.stats.bytesOut += uint64(n)
	return n
}

// writeAcks puts the ACK of this path into the packet when it is due or the packet leaves anyway, but in the latter case
// only now and then; and on the active path those of paths that cannot carry their own.
func (s *Session) writeAcks(p *path, w *packetWriter, now time.Duration, leaves bool) {
	if leaves && p.acker.Pending() && (now-p.ackedAt >= ackPause || p.acker.Ripe() || p.ackDue(now)) {
		s.writeAck(p, w, now)
	}
	if p != s.active {
		return
	}
	for _, q := range s.paths {
		if q != p && !q.usable() && q.acker.Pending() {
			s.writeAck(q, w, now)
		}
	}
}

func (s *Session) writeAck(q *path, w *packetWriter, now time.Duration) {
	r := q.acker.Ranges()
	if len(r) == 0 {
		return
	}
	before := len(w.b.buf)
	w.b.buf = appendAck(w.b.buf, q.id, q.acker.Delay(now), r, w.room())
	if len(w.b.buf) == before {
		return
	}
	q.acker.Sent()
	q.unacked, q.ackAt, q.ackedAt = 0, 0, now
	if q.id == w.own {
		w.t.ackTop = r[len(r)-1].End
	}
}

// writeControl puts control frames into the packet.
func (s *Session) writeControl(p *path, w *packetWriter, control bool, now time.Duration) {
	p.ctrlq = w.writeQueue(p.ctrlq)
	if p.sayActive && w.room() > 32 {
		p.sayActive = false
		s.writeStatus(p, w)
	}
	if !control {
		return
	}
	s.ctrlq = w.writeQueue(s.ctrlq)
	if s.wantData && w.room() > 16 {
		s.wantData = false
		w.b.buf = append(w.b.buf, frameMaxData)
		w.b.buf = appendVarint(w.b.buf, s.maxData)
		w.add(sentFrame{kind: sentMaxData})
	}
	if s.wantStream && w.room() > 16 {
		s.wantStream = false
		w.b.buf = append(w.b.buf, frameMaxStreams)
		w.b.buf = appendVarint(w.b.buf, s.peerLimit)
		w.add(sentFrame{kind: sentMaxStreams})
	}
	for len(s.creditq) > 0 && w.room() > 24 {
		c := s.creditq[len(s.creditq)-1]
		s.creditq[len(s.creditq)-1] = nil
		s.creditq = s.creditq[:len(s.creditq)-1]
		c.wantCredit = false
		if c.removed || c.rq.hasFinal {
			continue
		}
		w.b.buf = append(w.b.buf, frameMaxStreamData)
		w.b.buf = appendVarint(w.b.buf, c.id)
		w.b.buf = appendVarint(w.b.buf, c.granted)
		w.add(sentFrame{kind: sentCredit, c: c})
	}
}

func (w *packetWriter) add(f sentFrame) {
	w.t.add(f)
	w.elic = true
}

// writeQueue puts frames of q into the packet, in order, as long as they fit, and returns the rest.
func (w *packetWriter) writeQueue(q []*ctrl) []*ctrl {
	n := 0
	for n < len(q) && q[n].size() <= w.room() {
		c := q[n]
		w.b.buf = c.append(w.b.buf)
		w.add(sentFrame{kind: sentCtrl, ctrl: c})
		w.fresh = w.fresh || c.opens()
		if c.typ == framePathChallenge || c.typ == framePathResponse {
			w.pad = min(minDatagram, w.limit-w.start+tagSize) // the path must carry packets of this size
		}
		n++
	}
	if n == 0 {
		return q
	}
	clear(q[:n])
	if n == len(q) {
		return q[:0]
	}
	return q[n:]
}

// writeData puts stream frames into the packet: what was lost first, then what is new, one stream after the other.
func (s *Session) writeData(p *path, w *packetWriter, room int64, data bool) {
	for data && s.sendq.len() > 0 && w.room() > streamFrameOverhead {
		c := s.sendq.front()
		c.queued = false
		off, n, fresh, ok := c.sq.peek(c.peerMax)
		if ok && fresh && n > 0 {
			if left := s.peerMaxData - s.sentData; n > left {
				if n = left; n == 0 {
					ok = false
					s.blocked = append(s.blocked, c)
				}
			}
		}
		if !ok || c.removed || c.reset {
			s.sendq.pop()
			continue
		}
		n = min(n, uint64(w.room()-streamHeaderLen(c.id, off, w.room())))
		var direct *chunk
		if p.link != nil && n > 0 {
			n, direct = c.sq.direct(off, n)
			if len(w.b.buf)-w.body > chunkHead-streamFrameOverhead { // no room for the frames before it
				direct = nil
			}
		}
		fin := c.sq.take(off, n)
		body := w.stream(c.id, off, int(n), fin)
		if direct != nil {
			at := len(w.b.buf) - int(n)
			w.head = at - w.body
			copy(direct.mem[chunkHead-w.head:chunkHead], w.b.buf[w.body:at])
			direct.refs++
			w.direct = direct
		} else {
			c.sq.copyTo(body, off)
		}
		w.add(sentFrame{kind: sentStream, c: c, off: off, n: uint32(n), fin: fin})
		w.fresh = true
		p.stats.dataOut += n
		if fresh {
			s.sentData += n
		} else {
			c.resent += n
			s.stats.resentBytes += n
		}
		if c.sq.pending(c.peerMax) {
			c.queued = true
		} else {
			s.sendq.pop()
		}
		if p.link != nil && n >= directMin {
			return // a chunk that is sealed from must be the last thing in the packet, and the next one is to begin with a packet
		}
	}
}

// stream writes the header of a STREAM frame, and returns where its n bytes belong.
func (w *packetWriter) stream(id, off uint64, n int, fin bool) []byte {
	w.b.buf = appendStreamHeader(w.b.buf, id, off, n, fin)
	at := len(w.b.buf)
	w.b.buf = w.b.buf[:at+n]
	return w.b.buf[at:]
}

// directMin is the size from which on a chunk is worth sealing from without a copy.
const directMin = 4 << 10

// buildProbe makes a packet that tests a larger PMTU. s.mu is held.
func (s *Session) buildProbe(p *path, now time.Duration) *sendBatch {
	if p.mtu == nil || p != s.active || !p.validated || !s.confirmed {
		return nil
	}
	size, ok := p.mtu.Probe(now)
	if !ok || size > maxDatagram {
		return nil
	}
	b := newSendBatch()
	b.key, b.remote, b.local, b.seg = s.send.cur, p.remote, p.local, size
	w := packetWriter{b: b, limit: size - tagSize, pad: size, elic: true, own: p.id}
	b.buf = b.buf[:headerSize]
	w.body = len(b.buf)
	b.buf = append(b.buf, framePing)
	w.t.probe, b.probe = size, true
	s.finish(p, &w, now)
	return b
}

// sayClose sends CLOSE on a path, past all queues. s.mu is held; the system call is made under it, as this is the
// last packet of the session.
func (s *Session) sayClose(p *path) {
	if !p.usable() || !s.confirmed && !s.client || !p.validated {
		return
	}
	b := newSendBatch()
	b.key, b.remote, b.local = s.send.cur, p.remote, p.local
	w := packetWriter{b: b, limit: minDatagram - tagSize, own: p.id}
	b.buf = b.buf[:p.headerSize()]
	w.body = len(b.buf)
	b.buf = s.closeFrame.append(b.buf)
	s.finish(p, &w, s.now())
	b.seg = len(b.buf)
	b.seal(p)
	if p.link != nil {
		p.link.last(b)
		return
	}
	_ = p.sock.conn.Send(b.remote, b.local, b.buf, b.seg) // the session ends either way
	s.lastPackets[p.id] = append([]byte(nil), b.buf...)
	b.free()
}
