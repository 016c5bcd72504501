package esp

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// Dialing a session:
//
//	at once         INIT over UDP to all addresses of the host, again after 250 ms, 500 ms, 1 s, 2 s, 2 s …
//	after 250 ms    the same INIT over TCP (at once where UDP is off, or where TCP carried the last session with this peer)
//	after 1 s       where the key was given and nobody answers: INIT without it, to learn and to say which key is there
//
// The first REPLY that opens wins. Over whichever carriage: the keys are the same, the path ids differ.
const (
	firstRetry  = 250 * time.Millisecond
	maxRetry    = 2 * time.Second
	tcpDelay    = 250 * time.Millisecond
	askDelay    = time.Second
	refusedWait = 1500 * time.Millisecond // how long UDP may still answer after TCP was refused
	dialAddrs   = 6
)

// dialing is one handshake under way.
type dialing struct {
	e    *Endpoint
	in   *initiator // with the key that was given, or XX
	ask  *initiator // XX, to learn which key is there; nil where that is pointless
	msgs chan dialMessage
	stop context.Context // done when the dial is over
}

// dialMessage is a handshake packet, or news of a TCP attempt.
type dialMessage struct {
	typ  byte
	raw  []byte
	sock *socket
	from netip.AddrPort
	to   netip.Addr
	link *link // it came over TCP
	err  error // the TCP attempt failed
}

// deliver hands a packet over without waiting; too many are dropped.
func (d *dialing) deliver(m dialMessage) {
	select {
	case d.msgs <- m:
	default:
	}
}

// dialCall is one dial that several callers may wait for.
type dialCall struct {
	done    chan struct{}
	cancel  context.CancelFunc
	waiters int // guarded by the endpoint's lock
	s       *Session
	err     error
}

// connect returns a session with the peer at an address.
func (e *Endpoint) connect(ctx context.Context, address string) (*Session, error) {
	key, hostport, err := splitAddress(address)
	if err != nil {
		return nil, err
	}
	if key.IsZero() && e.cfg.Authorize == nil {
		return nil, ErrNoKey
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil, net.ErrClosed
	}
	if s := e.dialed(key, address); s != nil {
		e.mu.Unlock()
		return s, nil
	}
	call := e.dials[address]
	if call == nil {
		dctx, cancel := context.WithTimeout(context.Background(), e.cfg.HandshakeTimeout)
		call = &dialCall{done: make(chan struct{}), cancel: cancel}
		e.dials[address] = call
		e.wg.Go(func() {
			s, err := e.handshake(dctx, key, address, hostport)
			cancel()
			e.mu.Lock()
			if e.dials[address] == call {
				delete(e.dials, address)
			}
			e.mu.Unlock()
			call.s, call.err = s, err
			close(call.done)
		})
	}
	call.waiters++
	e.mu.Unlock()
	select {
	case <-call.done:
		return call.s, call.err
	case <-ctx.Done():
	}
	e.mu.Lock()
	call.waiters--
	if call.waiters == 0 { // nobody wants it any more, and nobody may join a dial that is being given up
		call.cancel()
		if e.dials[address] == call {
			delete(e.dials, address)
		}
	}
	e.mu.Unlock()
	return nil, ctx.Err()
}

// dialed finds a session that an address leads to. e.mu is held.
func (e *Endpoint) dialed(key PublicKey, address string) *Session {
	if !key.IsZero() {
		return e.sessionLocked(key)
	}
	for s := range e.sessions {
		if s.address == address {
			return s
		}
	}
	return nil
}

// handshake dials a session.
func (e *Endpoint) handshake(ctx context.Context, key PublicKey, address, hostport string) (*Session, error) {
	addrs, err := resolve(ctx, hostport, dialAddrs)
	if err != nil {
		return nil, err
	}
	d := &dialing{e: e, msgs: make(chan dialMessage, 16), stop: ctx}
	if d.in, err = d.initiator(key); err != nil {
		return nil, err
	}
	defer e.table.removeHandshake(d.in.cid)
	if !key.IsZero() {
		if d.ask, err = d.initiator(PublicKey{}); err != nil {
			return nil, err
		}
		defer e.table.removeHandshake(d.ask.cid)
	}
	s, err := d.run(ctx, addrs, key, address)
	if err != nil && errors.Is(err, context.DeadlineExceeded) {
		err = ErrNoAnswer
	}
	return s, err
}

// initiator prepares a handshake and enters its CID.
func (d *dialing) initiator(key PublicKey) (*initiator, error) {
	for {
		cid := d.e.newCID()
		in, err := newInitiator(d.e.cfg.Key, key, defaultSuite(), cid, d.e.params(cid), d.e.cfg.Rand)
		if err != nil {
			return nil, err
		}
		if d.e.table.add(cid, cidEntry{dial: d}) {
			return in, nil
		}
	}
}

// run sends INIT until somebody answers.
func (d *dialing) run(parent context.Context, addrs []netip.AddrPort, key PublicKey, address string) (*Session, error) {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	defer d.dropLate(cancel)
	e := d.e
	cookies := make(map[netip.AddrPort][]byte)
	tcpLeft := 0
	var tcpErr error
	startTCP := func(in *initiator) {
		for _, a := range addrs {
			if e.spawn(func() { d.overTCP(ctx, a, in) }) {
				tcpLeft++
			}
		}
	}
	sendUDP := func(in *initiator) {
		for _, a := range addrs {
			d.overUDP(in, a, cookies[a])
		}
	}

	retry := time.NewTimer(0)
	defer retry.Stop()
	pause := firstRetry
	if e.cfg.DisableUDP {
		retry.Stop()
	}
	var tcp, ask, refused <-chan time.Time
	if !e.cfg.DisableTCP {
		wait := tcpDelay
		if e.cfg.DisableUDP || e.lastWasTCP(key) {
			wait = 0
		}
		t := time.NewTimer(wait)
		defer t.Stop()
		tcp = t.C
	}
	if d.ask != nil {
		t := time.NewTimer(askDelay)
		defer t.Stop()
		ask = t.C
	}
	asking, asked := false, false
	for {
		select {
		case <-parent.Done():
			return nil, parent.Err()
		case <-e.stop:
			return nil, net.ErrClosed
		case <-retry.C:
			sendUDP(d.in)
			if asking {
				sendUDP(d.ask)
			}
			retry.Reset(pause)
			pause = min(2*pause, maxRetry)
		case <-tcp:
			startTCP(d.in)
		case <-ask:
			asking = true
			if !e.cfg.DisableUDP {
				sendUDP(d.ask)
			}
		case <-refused:
			return nil, tcpErr
		case m := <-d.msgs:
			if m.err != nil {
				tcpLeft--
				if errors.Is(m.err, syscall.ECONNREFUSED) || tcpErr == nil {
					tcpErr = m.err
				}
				if tcpLeft > 0 {
					continue
				}
				if d.ask != nil && !asked && !errors.Is(tcpErr, syscall.ECONNREFUSED) && !timedOut(tcpErr) {
					asked = true // the host took the connection and said nothing: has it another key?
					startTCP(d.ask)
					continue
				}
				if e.cfg.DisableUDP {
					return nil, d.silence(tcpErr)
				}
				if errors.Is(tcpErr, syscall.ECONNREFUSED) && refused == nil {
					t := time.NewTimer(refusedWait)
					defer t.Stop()
					refused = t.C
				}
				continue
			}
			s, err := d.take(m, cookies, key, address)
			if s != nil || err != nil {
				return s, err
			}
		}
	}
}

// silence is what a failed TCP attempt means when there is nothing else.
func (d *dialing) silence(err error) error {
	if errors.Is(err, syscall.ECONNREFUSED) || timedOut(err) {
		return err
	}
	return ErrNoAnswer
}

// dropLate gives up the links that come in after the dial is over.
func (d *dialing) dropLate(cancel context.CancelFunc) {
	cancel()
	d.e.table.removeHandshake(d.in.cid)
	for {
		select {
		case m := <-d.msgs:
			if m.link != nil {
				m.link.giveUp()
			}
		default:
			return
		}
	}
}

func (d *dialing) overUDP(in *initiator, to netip.AddrPort, cookie []byte) {
	packet := in.packet
	if cookie != nil {
		packet = in.withCookie(cookie)
	}
	if so := d.e.socketFor(to); so != nil {
		_ = so.conn.Send(to, netip.Addr{}, packet, len(packet)) // tried again, and TCP is tried too
	}
}

// socketFor picks a socket that can send to an address, nil if there is none.
func (e *Endpoint) socketFor(to netip.AddrPort) *socket {
	for _, so := range e.socks {
		la := so.conn.LocalAddr().Addr()
		if la.IsUnspecified() && (la.Is6() || to.Addr().Is4()) || !la.IsUnspecified() && la.Is4() == to.Addr().Is4() {
			return so
		}
	}
	return nil
}

// overTCP sends INIT over a connection of its own and delivers what is answered.
func (d *dialing) overTCP(ctx context.Context, to netip.AddrPort, in *initiator) {
	conn, err := d.e.cfg.Net.Dial(ctx, netip.Addr{}, to)
	if err != nil {
		d.tell(ctx, dialMessage{err: err})
		return
	}
	l := newLink(d.e, conn)
	if !d.e.addLink(l) {
		l.conn.Close()
		l.buf.release()
		d.tell(ctx, dialMessage{err: net.ErrClosed})
		return
	}
	over := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	if err = l.sendMessage(in.packet); err == nil {
		var m []byte
		if m, err = l.message(); err == nil {
			if !over() { // the dial is over
				l.giveUp()
				return
			}
			typ, _, cid, ok := parseHandshake(m)
			if ok && cid == in.cid {
				if d.tell(ctx, dialMessage{typ: typ, raw: m, link: l}) {
					return
				}
				l.giveUp()
				return
			}
			err = errTruncated
		}
	}
	over()
	l.giveUp()
	d.tell(ctx, dialMessage{err: err})
}

// tell hands m to run, which takes the link over then. It is false when the dial is over.
func (d *dialing) tell(ctx context.Context, m dialMessage) bool {
	select {
	case d.msgs <- m:
		return true
	case <-ctx.Done():
		return false
	}
}

// take looks at one handshake packet. Both results are nil when it changes nothing.
func (d *dialing) take(m dialMessage, cookies map[netip.AddrPort][]byte, key PublicKey, address string) (*Session, error) {
	e := d.e
	cid := binary.BigEndian.Uint64(m.raw[5:])
	in := d.in
	if d.ask != nil && cid == d.ask.cid {
		in = d.ask
	}
	switch m.typ {
	case typeCookie:
		if len(m.raw) != cookiePacket || m.link != nil {
			break
		}
		m1 := in.packet[len(in.packet)-macsSize : len(in.packet)-macSize]
		if c := openCookie(m.raw[hsHeader+24:], in.peer, m.raw[hsHeader:hsHeader+24], m1); c != nil {
			cookies[m.from] = c
			d.overUDP(in, m.from, c)
		}
		return nil, nil
	case typeVersions:
		if versionsOffer(m.raw, Version) {
			break // somebody makes fun of us
		}
		if m.link != nil {
			m.link.giveUp()
		}
		return nil, ErrVersion
	case typeReply:
		res, finish, err := in.readReply(m.raw)
		if err != nil {
			e.stats.failed.Add(1)
			break
		}
		s, err := d.established(m, in, res, finish, key, address)
		if err != nil && m.link != nil {
			m.link.giveUp()
		}
		return s, err
	}
	if m.link != nil {
		m.link.giveUp()
	}
	return nil, nil
}

func versionsOffer(raw []byte, version uint32) bool {
	r := reader{b: raw[hsHeader:]}
	for n := r.u8(); n > 0 && !r.bad; n-- {
		if r.u32() == version && !r.bad {
			return true
		}
	}
	return false
}

// established makes the session that a REPLY completes.
func (d *dialing) established(m dialMessage, in *initiator, res *handshakeResult, finish []byte, key PublicKey, address string) (*Session, error) {
	e := d.e
	if !key.IsZero() && res.peer != key {
		return nil, &KeyError{Expected: key, Seen: res.peer}
	}
	if in == d.ask {
		return nil, nil // the right key, but it does not answer those who know it? Go on waiting.
	}
	if res.params.refused {
		return nil, &RefusedError{Reason: res.params.reason}
	}
	if res.peerCID == 0 {
		return nil, errParams
	}
	if key.IsZero() {
		if err := e.cfg.Authorize(res.peer); err != nil {
			return nil, err
		}
	}
	s := newSession(e, res, true)
	s.address = address
	id := uint32(pathUDP)
	if m.link != nil {
		id = pathTCP
		m.from = addrPortOf(m.link.conn.RemoteAddr())
		_ = m.link.conn.SetDeadline(time.Time{})
	}
	s.firstPath(id, m.sock, m.link, m.to, m.from)
	if finish != nil {
		s.finishMsg = finish
		if m.link != nil {
			if err := m.link.sendMessage(finish); err != nil {
				s.abandon()
				return nil, err
			}
		} else {
			_ = m.sock.conn.Send(m.from, m.to, finish, len(finish)) // sent again with each timeout until the peer confirms
		}
	}
	if err := e.publish(s); err != nil {
		s.abandon()
		return nil, err
	}
	e.noteCarriage(res.peer, m.link != nil)
	s.begin()
	return s, nil
}

// lastWasTCP reports whether TCP carried the last session that was dialed to this peer.
func (e *Endpoint) lastWasTCP(key PublicKey) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.remember[key]
}

func (e *Endpoint) noteCarriage(key PublicKey, tcp bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !tcp {
		delete(e.remember, key)
	} else if len(e.remember) < e.cfg.Limits.Sessions {
		e.remember[key] = true
	}
}
