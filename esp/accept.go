package esp

import (
	"crypto/sha256"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Incoming handshakes. What a stranger can make us spend is bounded at each step:
//
//	1  mac1 is checked on the reader's goroutine: one hash
//	2  beyond handshakeRate for each second, or with many unfinished, a cookie is asked for: three hashes and a small packet
//	3  the queue for the worker is short; what does not fit is dropped
//	4  one worker does the Diffie-Hellman, so it takes one core at the very most, and handshakeRate keeps it far below that
//	5  Config.Authorize decides before anything is kept
//	6  a pending handshake is kept for handshakeLife; a session comes into being with the first packet that opens
//
// An INIT that comes again gets the same answer again, without work: it was lost, or somebody replays it, who then
// cannot go on, since the first packet must be sealed with keys that only the true initiator has.
const (
	handshakeQueue = 64
	handshakeRate  = 250 // Diffie-Hellman for unproven addresses each second: about 15 % of a core
	provenRate     = 1500
	handshakeBurst = 100
	handshakeLife  = 10 * time.Second
	linkHandshakes = 256 // TCP connections that have said nothing yet
)

// incomingInit is an INIT on its way to the worker.
type incomingInit struct {
	raw    []byte
	sock   *socket
	from   netip.AddrPort
	to     netip.Addr
	answer func(reply []byte, p *pending) // TCP: instead of a datagram; nil for both when there is none
}

// loadMeter bounds handshakes. The endpoint's lock guards it.
type loadMeter struct {
	unproven, proven bucket
}

// pending is an incoming handshake of which no packet has come yet. Its lock guards the making of the session.
type pending struct {
	hash    [32]byte
	cid     uint64
	reply   []byte
	expires time.Time

	mu  sync.Mutex
	rs  *responder       // XX, until FINISH has come
	res *handshakeResult // nil until then
	rk  *recvKeys
	s   *Session // once it was made
}

// onHandshakePacket takes a packet with the handshake bit from a UDP socket.
func (e *Endpoint) onHandshakePacket(b []byte, so *socket, from netip.AddrPort, to netip.Addr) {
	typ, version, cid, ok := parseHandshake(b)
	if !ok {
		e.stats.malformed.Add(1)
		return
	}
	switch typ {
	case typeInit:
		e.onInit(b, version, cid, incomingInit{sock: so, from: from, to: to})
	case typeFinish:
		if en, ok := e.table.get(cid); ok && en.pending != nil {
			e.onFinish(en.pending, b)
		} else {
			e.stats.unknownCID.Add(1)
		}
	case typeReply, typeCookie, typeVersions:
		if en, ok := e.table.get(cid); ok && en.dial != nil {
			en.dial.deliver(dialMessage{typ: typ, raw: append([]byte(nil), b...), sock: so, from: from, to: to})
		} else {
			e.stats.unknownCID.Add(1)
		}
	default:
		e.stats.malformed.Add(1)
	}
}

// onInit does all that is cheap about an INIT and hands it to the worker. It reports whether it was taken.
func (e *Endpoint) onInit(b []byte, version uint32, cid uint64, in incomingInit) bool {
	p, ok := parseInit(b)
	if !ok {
		e.stats.malformed.Add(1)
		return false
	}
	if !checkMac1(b, &e.mac1[0]) && !(e.pairing.Load() && p.pattern == patternXX && checkMac1(b, &e.mac1[1])) {
		e.stats.badMac.Add(1)
		return false
	}
	if version != Version {
		e.answer(in, appendVersions(nil, cid))
		return false
	}
	now := time.Now()
	hash := sha256.Sum256(b[:len(b)-macsSize])
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return false
	}
	e.expirePending(now)
	if old := e.pending[hash]; old != nil {
		e.mu.Unlock()
		e.stats.repeated.Add(1)
		if in.answer != nil {
			in.answer(old.reply, old)
		} else {
			e.answer(in, old.reply)
		}
		return true
	}
	busy := len(e.pending) >= e.cfg.Limits.Handshakes/2
	full := len(e.pending) >= e.cfg.Limits.Handshakes
	proven := in.answer != nil // a TCP connection stands, so the address is true
	allowed := !full
	if !proven && (busy || !e.load.unproven.take(now, handshakeRate, handshakeBurst)) {
		e.mu.Unlock()
		if !e.jar.check(now, in.from, b) {
			e.stats.cookies.Add(1)
			e.sendCookie(now, p, in)
			return false
		}
		e.mu.Lock()
		proven = true
	}
	if proven && allowed {
		allowed = e.load.proven.take(now, provenRate, handshakeBurst)
	}
	e.mu.Unlock()
	if !allowed {
		e.stats.overload.Add(1)
		return false
	}
	in.raw = append([]byte(nil), b...)
	select {
	case e.inits <- in:
		return true
	default:
		e.stats.overload.Add(1)
		return false
	}
}

// expirePending drops handshakes that nobody finished. e.mu is held.
func (e *Endpoint) expirePending(now time.Time) {
	for e.oldest.len() > 0 && (now.After(e.oldest.front().expires) || len(e.pending) > e.cfg.Limits.Handshakes) {
		p := e.oldest.pop()
		delete(e.pending, p.hash)
		e.table.removeHandshake(p.cid)
	}
}

func (e *Endpoint) answer(in incomingInit, packet []byte) {
	if in.sock != nil {
		_ = in.sock.conn.Send(in.from, in.to, packet, len(packet)) // lost like any datagram; the initiator asks again
	}
}

func appendVersions(b []byte, cid uint64) []byte {
	b = append(b, typeVersions, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, cid)
	return binary.BigEndian.AppendUint32(append(b, 1), Version)
}

// responderName is under which key the initiator made its macs: ours, or none in XX.
func (e *Endpoint) responderName(p initPacket) PublicKey {
	if checkMac1(p.raw, &e.mac1[0]) {
		return e.public
	}
	return PublicKey{}
}

func (e *Endpoint) sendCookie(now time.Time, p initPacket, in incomingInit) {
	if in.sock == nil {
		return
	}
	var nonce [24]byte
	e.random(nonce[:])
	b := appendHandshakeHeader(make([]byte, 0, cookiePacket), typeCookie, p.cid)
	b = append(b, nonce[:]...)
	m1 := p.raw[len(p.raw)-macsSize : len(p.raw)-macSize]
	b = sealCookie(b, e.responderName(p), &nonce, e.jar.make(now, in.from), m1)
	e.answer(in, b)
}

// handshakeWorker does the expensive part, one INIT after the other.
func (e *Endpoint) handshakeWorker() {
	defer e.wg.Done()
	for {
		select {
		case in := <-e.inits:
			e.respond(in)
		case <-e.stop:
			return
		}
	}
}

// respond reads INIT, asks Authorize and answers.
func (e *Endpoint) respond(in incomingInit) {
	reply, p := e.makeReply(in)
	switch {
	case in.answer != nil:
		in.answer(reply, p)
	case reply != nil:
		e.answer(in, reply)
	}
}

func (e *Endpoint) makeReply(in incomingInit) (reply []byte, pend *pending) {
	e.stats.handshakes.Add(1)
	p, _ := parseInit(in.raw)
	rs, err := readInit(p, e.cfg.Key, e.cfg.Rand)
	if err != nil {
		e.stats.failed.Add(1)
		return nil, nil
	}
	if rs.pattern == patternIK && e.cfg.Authorize != nil {
		if err := e.cfg.Authorize(rs.peer); err != nil {
			e.stats.refused.Add(1)
			reply, _, err = rs.reply(params{refused: true, reason: err.Error()})
			if err != nil {
				return nil, nil
			}
			return reply, nil
		}
	}
	pend = &pending{cid: e.newCID(), expires: time.Now().Add(handshakeLife), hash: sha256.Sum256(in.raw[:len(in.raw)-macsSize])}
	ours := e.params(pend.cid)
	ours.cid = pend.cid
	reply, res, err := rs.reply(ours)
	if err != nil {
		e.stats.failed.Add(1)
		return nil, nil
	}
	pend.reply = reply
	if res != nil {
		pend.setResult(res)
	} else {
		pend.rs = rs
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || e.pending[pend.hash] != nil || !e.table.add(pend.cid, cidEntry{pending: pend}) {
		return nil, nil
	}
	e.pending[pend.hash] = pend
	e.oldest.push(pend)
	return reply, pend
}

func (p *pending) setResult(res *handshakeResult) {
	res.cid = p.cid
	p.res = res
	p.rk = newRecvKeys(res.suite, res.recv)
}

// onFinish takes the third message of XX. It costs a Diffie-Hellman, once for each pending handshake.
func (e *Endpoint) onFinish(p *pending, b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rs == nil {
		return
	}
	rs := p.rs
	p.rs = nil
	res, err := rs.readFinish(b, p.cid)
	if err != nil {
		e.stats.failed.Add(1)
		return
	}
	if e.cfg.Authorize != nil {
		if err := e.cfg.Authorize(res.peer); err != nil {
			// The initiator has the keys, so it learns of this by a session that ends at once.
			e.stats.refused.Add(1)
			res.params.refused, res.params.reason = true, err.Error()
		}
	}
	p.setResult(res)
}

// firstPacket makes the session of a pending handshake if the packet opens with its keys, and opens it. It returns
// nil if not. Exactly one of in.sock and ln is set.
func (e *Endpoint) firstPacket(p *pending, path uint32, h header, packet []byte, in *inPacket, ln *link) *Session {
	p.mu.Lock()
	defer p.mu.Unlock()
	hdr := headerSize
	if ln != nil {
		hdr = recordHeader
	}
	if p.s != nil { // another packet was faster
		if !in.open(new(nonceBuf), p.s, h.epoch, packet, hdr, path) {
			e.stats.undecrypted.Add(1)
			return nil
		}
		return p.s
	}
	if p.res == nil || h.epoch != 0 {
		e.stats.undecrypted.Add(1)
		return nil
	}
	body, err := p.rk.cur.open(new(nonceBuf), packet, hdr, path, h.pn)
	if err != nil {
		e.stats.undecrypted.Add(1)
		return nil
	}
	s := newSession(e, p.res, false)
	in.path, in.body = path, body
	in.key = s.recvKeys.Load().cur
	s.firstPath(path, in.sock, ln, in.to, in.from)
	if err := e.publish(s); err != nil {
		s.abandon()
		return nil
	}
	p.s = s
	if p.res.params.refused {
		s.mu.Lock()
		s.confirm(s.paths[0])
		s.closeLocked(newSessionError(CodeRefused, false, p.res.params.reason))
		s.unlock()
	}
	return s
}

// acceptLinks takes TCP connections.
func (e *Endpoint) acceptLinks(l net.Listener) {
	defer e.wg.Done()
	slots := make(chan struct{}, linkHandshakes)
	for {
		conn, err := l.Accept()
		if err != nil {
			select {
			case <-e.stop:
				return
			default:
			}
			if ne, ok := err.(net.Error); !ok || !ne.Timeout() {
				select {
				case <-e.stop:
					return
				case <-time.After(5 * time.Millisecond): // out of descriptors, or a connection that is gone already
				}
			}
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			conn.Close()
			e.stats.overload.Add(1)
			continue
		}
		ln := newLink(e, conn)
		if !e.addLink(ln) {
			conn.Close()
			<-slots
			continue
		}
		e.wg.Add(1)
		go func() {
			defer e.wg.Done()
			s := e.serveLink(ln)
			<-slots
			if s == nil {
				ln.giveUp()
				return
			}
			ln.reader()
		}()
	}
}

// serveLink speaks first on an accepted connection: a handshake, or JOIN. It returns the session that the link now
// belongs to, nil if none.
func (e *Endpoint) serveLink(ln *link) *Session {
	_ = ln.conn.SetReadDeadline(time.Now().Add(handshakeLife))
	m, err := ln.message()
	if err != nil {
		return nil
	}
	typ, version, cid, ok := parseHandshake(m)
	if !ok {
		e.stats.malformed.Add(1)
		return nil
	}
	switch typ {
	case typeJoin:
		en, ok := e.table.get(cid)
		if !ok || en.s == nil {
			e.stats.unknownCID.Add(1)
			return nil
		}
		return e.joinLink(en.s, en.path, ln)
	case typeInit:
	default:
		e.stats.malformed.Add(1)
		return nil
	}
	got := make(chan *pending, 1)
	var reply []byte
	taken := e.onInit(m, version, cid, incomingInit{answer: func(r []byte, p *pending) {
		reply = r
		got <- p
	}})
	if !taken {
		if version != Version {
			_ = ln.sendMessage(appendVersions(nil, cid))
		}
		return nil
	}
	var p *pending
	select {
	case p = <-got:
	case <-e.stop:
		return nil
	}
	if reply == nil || ln.sendMessage(reply) != nil || p == nil {
		return nil
	}
	p.mu.Lock()
	needsFinish := p.rs != nil
	p.mu.Unlock()
	if needsFinish {
		m, err := ln.message()
		if err != nil {
			return nil
		}
		if typ, _, cid, ok := parseHandshake(m); !ok || typ != typeFinish || cid != p.cid {
			e.stats.malformed.Add(1)
			return nil
		}
		e.onFinish(p, m)
	}
	return e.firstRecord(p, ln)
}

// firstRecord waits for the record that finishes the handshake over a link.
func (e *Endpoint) firstRecord(p *pending, ln *link) *Session {
	rec, epoch, err := ln.record()
	if err != nil {
		return nil
	}
	remote := addrPortOf(ln.conn.RemoteAddr())
	in := inPacket{size: len(rec), buf: ln.buf, link: ln, from: remote}
	s := e.firstPacket(p, pathTCP, header{epoch: epoch}, rec, &in, ln)
	if s == nil {
		return nil
	}
	_ = ln.conn.SetReadDeadline(time.Time{})
	if !s.adoptLink(ln, pathTCP) {
		return nil
	}
	ln.pn = 1
	s.receive([]inPacket{in})
	return s
}
