package esp

import (
	"net/netip"
	"sync/atomic"
	"time"
)

// endpointCounters count what happens outside of sessions. All of it is dropped without an answer unless it says
// otherwise.
type endpointCounters struct {
	unknownCID  atomic.Uint64 // packets of no session
	undecrypted atomic.Uint64 // packets that did not open: forged, corrupt, or of keys long gone
	malformed   atomic.Uint64 // what is no packet at all
	badMac      atomic.Uint64 // INIT of who does not know our key
	overload    atomic.Uint64 // INIT that found the queue or the table full
	cookies     atomic.Uint64 // cookies asked for
	refused     atomic.Uint64 // peers that Authorize did not want
	handshakes  atomic.Uint64 // INIT that cost a Diffie-Hellman
	failed      atomic.Uint64 // INIT or FINISH that did not open
	repeated    atomic.Uint64 // INIT that was seen before
	resetsSent  atomic.Uint64 // stateless resets
	resetsTaken atomic.Uint64
	badRecords  atomic.Uint64 // TCP links that ended because of what came over them
}

// sort hands the datagrams of some batches to their sessions. The caller has the reader role of the socket.
func (so *socket) sort(batches ...*rbuf) {
	var cur *Session
	pkts := so.pkts[:0]
	for _, b := range batches {
		cur, pkts = so.sortOne(b, cur, pkts)
	}
	if len(pkts) > 0 {
		cur.receive(pkts)
	}
	clear(pkts[:cap(pkts)])
	so.pkts = pkts[:0]
}

// sortOne is sort for one batch, behind packets of a session that it has not been given. It returns those that are left so at its end.
func (so *socket) sortOne(b *rbuf, cur *Session, pkts []inPacket) (*Session, []inPacket) {
	e := so.e
	for i := range b.batch.Datagrams {
		d := &b.batch.Datagrams[i]
		if len(d.Data) > 0 && d.Data[0]&flagHandshake != 0 {
			e.onHandshakePacket(d.Data, so, d.From, d.To)
			continue
		}
		h, ok := parseHeader(d.Data)
		if !ok {
			if s := e.table.byToken(d.Data); s != nil {
				e.onStatelessReset(s)
			} else {
				e.stats.malformed.Add(1)
			}
			continue
		}
		en, ok := so.last.get(&e.table, h.cid)
		if !ok {
			e.onUnknown(d.Data, h.cid, so, d.From, d.To)
			continue
		}
		in := inPacket{pn: h.pn, size: len(d.Data), buf: b, sock: so, from: d.From, to: d.To}
		if en.pending != nil {
			s := e.firstPacket(en.pending, pathUDP, h, d.Data, &in, nil)
			if s == nil {
				continue
			}
			en = cidEntry{s: s, path: pathUDP}
		} else if en.closed != nil {
			if en.closed.again() {
				_ = so.conn.Send(d.From, d.To, en.closed.b, len(en.closed.b)) // the next packet asks again
			}
			continue
		} else if en.s == nil {
			e.stats.unknownCID.Add(1)
			continue
		} else if !in.open(&so.nonce, en.s, h.epoch, d.Data, headerSize, en.path) {
			if s := e.table.byToken(d.Data); s != nil {
				e.onStatelessReset(s)
			} else {
				e.stats.undecrypted.Add(1)
			}
			continue
		}
		if en.s != cur {
			if len(pkts) > 0 {
				cur.receive(pkts)
				pkts = pkts[:0]
			}
			cur = en.s
		}
		pkts = append(pkts, in)
		if in.key.epoch != cur.recvKeys.Load().cur.epoch && in.key == cur.recvKeys.Load().next {
			cur.receive(pkts) // the keys move on before the next packet
			pkts = pkts[:0]
		}
	}
	return cur, pkts
}

// open decrypts the packet in place with the keys of s.
func (in *inPacket) open(n *nonceBuf, s *Session, epoch byte, packet []byte, hdr int, path uint32) bool {
	key := s.recvKeys.Load().pick(epoch)
	if key == nil {
		return false
	}
	body, err := key.open(n, packet, hdr, path, in.pn)
	if err != nil {
		return false
	}
	in.path, in.key, in.body = path, key, body
	return true
}

// onUnknown deals with a packet of no session: it may be a stateless reset, or deserve one.
func (e *Endpoint) onUnknown(packet []byte, cid uint64, so *socket, from netip.AddrPort, to netip.Addr) {
	if s := e.table.byToken(packet); s != nil {
		e.onStatelessReset(s)
		return
	}
	e.stats.unknownCID.Add(1)
	// Shorter than what it answers, so that two endpoints without memory do not talk for ever, and few, so that it
	// floods nobody.
	if len(packet) <= packetExtra || !e.allowReset() {
		return
	}
	var r [packetExtra]byte
	e.random(r[:])
	r[0] &= epochMask
	tok := e.resetToken(cid)
	copy(r[packetExtra-resetTokSize:], tok[:])
	if so.conn.Send(from, to, r[:], len(r)) == nil {
		e.stats.resetsSent.Add(1)
	}
}

// onStatelessReset ends a session of which the peer knows nothing any more.
func (e *Endpoint) onStatelessReset(s *Session) {
	e.stats.resetsTaken.Add(1)
	s.close(newSessionError(CodeNone, true, "the peer has no memory of this session"))
}

// bucket lets through a number of events for each second. The endpoint's lock guards it.
type bucket struct {
	tokens float64
	last   time.Time
}

func (b *bucket) take(now time.Time, rate, burst float64) bool {
	if b.last.IsZero() {
		b.tokens = burst
	} else {
		b.tokens = min(burst, b.tokens+now.Sub(b.last).Seconds()*rate)
	}
	b.last = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// resetRate bounds stateless resets for each second.
const resetRate = 50

func (e *Endpoint) allowReset() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.resets.take(time.Now(), resetRate, resetRate)
}

// drain takes what waits in the socket, if nobody receives at the moment.
func (so *socket) drain() {
	if !so.role.state.CompareAndSwap(roleFree, roleLed) {
		return
	}
	for range 64 {
		b := newBatchBuf()
		ok, err := so.conn.TryRecv(b.batch)
		if ok && err == nil {
			so.sort(b)
		}
		b.release()
		if !ok || err != nil {
			break
		}
	}
	so.role.release()
}
