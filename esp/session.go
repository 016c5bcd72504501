package esp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"sharefs/esp/internal/interval"
	"sharefs/esp/internal/recovery"
	"sharefs/esp/internal/sched"
)

// Session is the association of two peers: proven keys, one or more paths, many streams. There is one for each pair
// of peers, however many connections a program dials. All methods may be called by several goroutines at once.
type Session struct {
	e      *Endpoint
	client bool // we dialed
	peer   PublicKey
	suite  suite
	origin time.Time // all times inside are durations since
	bind   [32]byte
	done   chan struct{}

	recvKeys atomic.Pointer[recvKeys] // replaced under mu, used without

	// mu guards all below, and the fields of paths, streams and links that say so. It is taken after a stream's rmu
	// or wmu and before the endpoint's locks, which are leaves.
	mu     sync.Mutex
	err    *SessionError // why the session is over; nil while it lives
	final  time.Duration // when it ended
	events []Event
	kept   bool // Connect handed the session out: it stays without streams

	// paths (path.go and its kin)
	paths      []*path // replaced, never changed in place
	active     *path   // carries data and control; nil while none is usable
	everPath   bool
	pathsets   pathsets
	selector   sched.Selector
	peerParams params
	heard      time.Duration // when a packet last authenticated
	sentAny    time.Duration // when an eliciting packet was last sent
	pinged     time.Duration // when the last PING was, that nothing but silence had asked for
	probedAt   time.Duration // when the last one was that Probe asked for; 0: none was
	sign       chan struct{} // closed when a packet comes; nil: nobody waits for one
	confirmed  bool          // the peer has proven that it holds the keys
	finishMsg  []byte        // FINISH, until the peer has confirmed
	address    string        // under which it was dialed

	handshakeCID, handshakePeer uint64 // CIDs of the first path: ours and the peer's

	// keys
	send sendKeys
	kx   keyExchange

	// streams
	streams     map[uint64]*Conn
	nextStream  uint64        // the next one we open, counted from 0
	streamLimit uint64        // how many the peer lets us open in all
	creditWake  chan struct{} // closed and replaced when streamLimit rises
	peerOpened  interval.Set  // of the peer's streams, counted likewise
	peerLimit   uint64        // how many it may open, as we have told it
	peerGone    uint64        // how many of them are over
	listener    *Listener     // of this session alone
	idleSince   time.Duration // since when there is no stream
	drainers    []chan struct{}

	// flow control
	recvData, consumed uint64 // sums over all streams, those gone included
	maxData            uint64 // what we have granted
	windows            int    // sum of the windows granted to open streams
	sentData           uint64
	peerMaxData        uint64

	// what waits to be sent
	sendq      fifo[*Conn]
	creditq    []*Conn
	ctrlq      []*ctrl
	wantData   bool // MAX_DATA
	wantStream bool // MAX_STREAMS
	closeFrame *ctrl

	lastPackets map[uint32][]byte // CLOSE as it left on each UDP path, by path id
	blocked     []*Conn           // have data, but the session has no credit

	// scratch space of who holds mu
	reader  frameReader
	frame   frame
	result  recovery.Result[sent]
	scratch []sched.Path

	timer   *time.Timer
	timerAt time.Duration // 0: not armed
	wall    time.Duration // what the clock said when the session began, as it was set last: nanoseconds since 1970
	dialog  bool          // what came last had data
	dataAt  time.Duration // when data were sent or came last; 0: never

	stats sessionCounters
}

// sessionCounters are guarded by the session's lock.
type sessionCounters struct {
	packetsIn, packetsOut, bytesIn, bytesOut uint64
	replayed, malformed                      uint64
	resentBytes, copiedBytes                 uint64
	rekeys, exchanges                        uint64
	migrations, lost                         uint64 // lost: on paths that are gone
	opened, accepted, refused                uint64
	wakes                                    uint64 // times that the timer fired
}

// newSession builds a session without a path. Nobody else knows it until the endpoint publishes it.
func newSession(e *Endpoint, res *handshakeResult, client bool) *Session {
	s := &Session{
		e: e, client: client, peer: res.peer, suite: res.suite, origin: time.Now(), bind: res.binding,
		done:       make(chan struct{}),
		peerParams: res.params,
		send:       newSendKeys(res.suite, res.send),
		streams:    make(map[uint64]*Conn),
		creditWake: make(chan struct{}),

		handshakeCID: res.cid, handshakePeer: res.peerCID,
	}
	s.lookAtClock()
	s.recvKeys.Store(newRecvKeys(res.suite, res.recv))
	s.streamLimit = res.params.maxStreams
	s.peerMaxData = res.params.maxData
	s.peerLimit = uint64(e.cfg.Limits.Streams)
	s.maxData = s.dataWindow()
	s.pathsets.init(s)
	return s
}

// now is the time since the session began. It is never 0, which stands for "never".
func (s *Session) now() time.Duration { return time.Since(s.origin) + 1 }

// PeerKey is the key of the peer, proven by the handshake.
func (s *Session) PeerKey() PublicKey { return s.peer }

// Binding is the same for both ends of a session and different for any two sessions: a hash of the whole handshake, keys included. What
// is signed or compared together with it holds for this session alone (RFC 5056; Noise, section 11.2), so nobody in the
// middle can carry it from one session to another.
func (s *Session) Binding() [32]byte { return s.bind }

// Dialed reports whether this end dialed the session.
func (s *Session) Dialed() bool { return s.client }

// Done is closed when the session is over.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err says why the session is over, nil while it is not.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		return nil
	}
	return s.err
}

// addrs are the two ends of the path in use.
func (s *Session) addrs() (local, remote Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	local.Key, remote.Key = s.e.public, s.peer
	p := s.active
	if p == nil && len(s.paths) > 0 {
		p = s.paths[0]
	}
	if p != nil {
		local.Addr, local.TCP = p.localAddr(), p.link != nil
		remote.Addr, remote.TCP = p.remote, p.link != nil
		s.pathsets.lastLocal, s.pathsets.lastRemote = local.Addr, remote.Addr
	} else {
		local.Addr, remote.Addr = s.pathsets.lastLocal, s.pathsets.lastRemote
	}
	return local, remote
}

// LocalAddr returns an [Addr]: our key and the local end of the path in use.
func (s *Session) LocalAddr() net.Addr { l, _ := s.addrs(); return l }

// RemoteAddr returns an [Addr]: the peer's key and the remote end of the path in use.
func (s *Session) RemoteAddr() net.Addr { _, r := s.addrs(); return r }

// streamID makes the number on the wire of the n-th stream that one side opened: even for those of who dialed the
// session.
func streamID(n uint64, byClient bool) uint64 {
	if byClient {
		return n << 1
	}
	return n<<1 | 1
}

// role is that of the socket which the packets of this session come in on. s.mu is held.
func (s *Session) role() *role {
	switch p := s.active; {
	case p == nil:
		return nil
	case p.link != nil:
		return p.link.role
	default:
		return p.sock.role
	}
}

// ours reports whether we open streams of this number.
func (s *Session) ours(id uint64) bool { return (id&1 == 0) == s.client }

// Open opens a stream and waits until the peer has taken it. The error is ECONNREFUSED where nobody listens there.
func (s *Session) Open(ctx context.Context) (*Conn, error) {
	c, err := s.open(ctx)
	if err != nil {
		return nil, s.opErr("dial", err)
	}
	return c, nil
}

func (s *Session) opErr(op string, err error) error {
	l, r := s.addrs()
	return &net.OpError{Op: op, Net: "esp", Source: l, Addr: r, Err: err}
}

func (s *Session) open(ctx context.Context) (*Conn, error) {
	c, err := s.request(ctx, false)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.flushUnlock()
	if err := c.waitOpen(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// request makes a stream and queues its OPEN, as soon as the peer permits another one. The caller sends it.
func (s *Session) request(ctx context.Context, early bool) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	for s.err == nil && s.nextStream >= s.streamLimit {
		wake := s.creditWake
		s.mu.Unlock()
		select {
		case <-wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		s.mu.Lock()
	}
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	id := streamID(s.nextStream, s.client)
	s.nextStream++
	s.stats.opened++
	c := s.newConn(id, s.firstWindow(0), 0)
	c.opened = make(chan struct{})
	if c.early = early; early {
		c.peerMax = s.peerParams.earlyWindow
	}
	s.addStream(c)
	s.sendCtrl(&ctrl{typ: frameOpen, id: id, a: c.window})
	return c, nil
}

func (s *Session) addStream(c *Conn) {
	s.streams[c.id] = c
	s.windows += int(c.window)
	s.e.memory.Add(int64(c.window))
	s.e.countStream(1)
	s.idleSince = 0
	s.checkDataCredit()
}

// settle forgets a stream both halves of which are over. s.mu is held.
func (s *Session) settle(c *Conn) {
	if c.removed {
		return
	}
	if !c.doneWrite && c.sq.done() {
		c.doneWrite = true
	}
	if !c.doneRead && (c.rq.eof() || c.rclosed && c.rq.hasFinal) {
		c.doneRead = true
	}
	if !c.doneWrite || !c.doneRead {
		return
	}
	// Bytes in ready still wait for Read; their memory is the reader's from here on.
	s.removeStream(c)
}

func (s *Session) removeStream(c *Conn) {
	c.removed = true
	delete(s.streams, c.id)
	s.e.countStream(-1)
	s.windows -= int(c.window)
	s.e.memory.Add(-int64(c.window))
	if c.rq.high > c.consumed {
		s.consumed += c.rq.high - c.consumed
	}
	c.consumed = c.rq.high
	if !s.ours(c.id) {
		s.peerGone++
		if allowed := s.peerGone + uint64(s.e.cfg.Limits.Streams); allowed-s.peerLimit >= uint64(max(s.e.cfg.Limits.Streams/8, 1)) {
			s.peerLimit = allowed
			s.wantStream = true
		}
	}
	if len(s.streams) == 0 {
		s.idleSince = s.now()
	}
	s.checkDataCredit()
}

// Listen returns a listener for the streams that this peer opens, instead of that of the endpoint.
func (s *Session) Listen() (*Listener, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	if s.listener != nil {
		return nil, &net.OpError{Op: "listen", Net: "esp", Err: syscall.EADDRINUSE}
	}
	s.listener = newListener(s.e, s)
	return s.listener, nil
}

// Close ends the session with all its streams. What was written is given up to Config.Linger to reach the peer; an error for which
// errors.Is finds syscall.ETIMEDOUT says that this was not enough, as it is not with a peer that is gone.
func (s *Session) Close() error {
	err := s.drain(s.e.cfg.Linger)
	s.Abort()
	return err
}

// Abort ends the session with all its streams as [Session.Close] does, and at once: what was written and has not left by now never does.
func (s *Session) Abort() { s.close(newSessionError(CodeNone, false, "")) }

// drain waits until every byte that was written has been acknowledged, at most for the given time. A session that ends meanwhile is
// the peer's answer, and no error, unless it was silence that ended it.
func (s *Session) drain(limit time.Duration) error {
	if limit <= 0 {
		return nil
	}
	s.mu.Lock()
	if s.err != nil || s.delivered() {
		s.mu.Unlock()
		return nil
	}
	wake := make(chan struct{})
	s.drainers = append(s.drainers, wake)
	s.mu.Unlock()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-wake:
		return nil
	case <-s.done:
		if err := s.Err(); errors.Is(err, syscall.ETIMEDOUT) {
			return err
		}
		return nil
	case <-t.C:
		return &net.OpError{Op: "close", Net: "esp", Err: fmt.Errorf("the peer has not confirmed all that was written within %v: %w", limit, syscall.ETIMEDOUT)}
	}
}

// checkDrained wakes who waits in drain. s.mu is held.
func (s *Session) checkDrained() {
	if len(s.drainers) == 0 || !s.delivered() {
		return
	}
	for _, w := range s.drainers {
		close(w)
	}
	s.drainers = nil
}

// delivered reports whether nothing that was written waits for an acknowledgement. s.mu is held.
func (s *Session) delivered() bool {
	for _, c := range s.streams {
		if c.wclosed && !c.doneWrite && !c.reset || c.sq.buffered() > 0 {
			return false
		}
	}
	return true
}

func (s *Session) close(err *SessionError) {
	s.mu.Lock()
	s.closeLocked(err)
	s.flushUnlock()
}

// closeLocked ends the session: streams get the error, the peer is told unless the error came from it, and the
// endpoint forgets the session. s.mu is held.
func (s *Session) closeLocked(err *SessionError) {
	if s.err != nil {
		return
	}
	s.err = err
	s.final = s.now()
	s.trace(Event{Kind: EventSessionClosed, Detail: err.Error()})
	for _, c := range s.streams {
		s.failStream(c, err)
	}
	if s.listener != nil {
		s.listener.fail(err)
	}
	close(s.creditWake)
	s.creditWake = make(chan struct{})
	s.stopTimer()
	s.pathsets.stop()
	tell := !err.Remote && err.Code != CodeTimeout
	if tell {
		s.closeFrame = &ctrl{typ: frameClose, a: uint64(err.Code), data: []byte(err.Reason[:min(len(err.Reason), maxReason)])}
	}
	s.lastPackets = make(map[uint32][]byte)
	for _, p := range s.paths {
		if tell {
			s.sayClose(p)
		}
		if p.link != nil {
			p.link.shutdown()
		}
	}
	s.sendq = fifo[*Conn]{}
	s.ctrlq, s.creditq, s.blocked = nil, nil, nil
	s.e.forget(s)
	close(s.done)
}

// failStream ends a stream with the session. s.mu is held.
func (s *Session) failStream(c *Conn, err error) {
	if c.opened != nil && c.state == connOpening && c.openErr == nil {
		c.openErr = err
		close(c.opened)
	}
	if !c.rq.eof() && c.rerr == nil {
		c.rerr = err
	}
	if c.werr == nil {
		c.werr = err
	}
	c.sq.drop()
	c.rdead.stop()
	c.wdead.stop()
	if c.rclosed {
		c.rq.drop()
	}
	c.removed = true
	s.e.memory.Add(-int64(c.window))
	delete(s.streams, c.id)
	s.e.countStream(-1)
	c.notice()
}

// localAddr of the path, as far as the socket knows it.
func (p *path) localAddr() netip.AddrPort {
	if p.link != nil {
		return addrPortOf(p.link.conn.LocalAddr())
	}
	la := p.sock.conn.LocalAddr()
	if p.local.IsValid() {
		return netip.AddrPortFrom(p.local, la.Port())
	}
	return la
}

// fifo is a queue that does not keep what has left it.
type fifo[T any] struct {
	items []T
	head  int
}

func (q *fifo[T]) len() int { return len(q.items) - q.head }

func (q *fifo[T]) push(v T) {
	if q.head > 0 && len(q.items) == cap(q.items) {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, v)
}

func (q *fifo[T]) front() T { return q.items[q.head] }

func (q *fifo[T]) pop() T {
	var zero T
	v := q.items[q.head]
	q.items[q.head] = zero
	q.head++
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return v
}
