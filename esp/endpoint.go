package esp

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"sharefs/esp/internal/cc"
	"sharefs/esp/internal/record"
	"sharefs/esp/internal/udpio"
)

// Endpoint is one identity on the net: its sockets and the sessions that run over them. It dials and listens at the
// same time; a session serves streams in both directions, whoever dialed it.
type Endpoint struct {
	cfg     Config
	public  PublicKey
	codec   *record.Codec
	reset   [32]byte    // key of the stateless reset tokens, derived from the identity so that it survives a restart
	mac1    [2][32]byte // keys of mac1: of who knows our key, and of who does not
	jar     cookieJar
	table   cidTable
	memory  atomic.Int64 // bytes granted as windows of streams
	pairing atomic.Bool  // Config.Pairing, as it is now
	stats   endpointCounters

	socks []*socket
	tcp   []net.Listener
	wg    sync.WaitGroup // readers of sockets and links, the acceptors, the handshake worker
	stop  chan struct{}
	inits chan incomingInit // for the handshake worker

	// mu guards the fields below. It is a leaf: nothing else is locked under it but the table.
	mu       sync.Mutex
	closed   bool
	retiring bool // to be closed with the last stream
	streams  int  // of all sessions
	sessions map[*Session]struct{}
	byPeer   map[PublicKey][]*Session // the newest last
	dials    map[string]*dialCall     // under way, by address
	pending  map[[32]byte]*pending    // incoming handshakes, by the hash of INIT
	oldest   fifo[*pending]
	links    map[*link]struct{} // TCP connections, those in a handshake included
	listener *Listener
	remember map[PublicKey]bool // by peer: TCP carried the last session that was dialed
	load     loadMeter
	resets   bucket       // of stateless resets
	addrs    []netip.Addr // of this host, as of addrsAt
	addrsAt  time.Time
}

// socket is one UDP socket of an endpoint.
type socket struct {
	e    *Endpoint
	conn udpio.Conn
	role *role

	// Owned by who has the role.
	got   []*rbuf
	pkts  []inPacket
	nonce nonceBuf
	last  cidMemory
}

// New opens the sockets of an endpoint. The caller must Close it.
func New(cfg Config) (*Endpoint, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	e := &Endpoint{
		cfg: cfg, public: cfg.Key.Public(), codec: record.NewCodec(),
		stop:     make(chan struct{}),
		inits:    make(chan incomingInit, handshakeQueue),
		sessions: make(map[*Session]struct{}),
		byPeer:   make(map[PublicKey][]*Session),
		dials:    make(map[string]*dialCall),
		pending:  make(map[[32]byte]*pending),
		links:    make(map[*link]struct{}),
		remember: make(map[PublicKey]bool),
	}
	e.jar.rand = cfg.Rand
	e.pairing.Store(cfg.Pairing)
	e.mac1 = [2][32]byte{mac1Key(e.public), mac1Key(PublicKey{})}
	e.table.init()
	key, err := hkdf.Key(sha256.New, cfg.Key[:], nil, "esp/1 stateless reset", 32)
	if err != nil {
		return nil, err
	}
	copy(e.reset[:], key)
	for _, a := range cfg.Addrs {
		if err := e.bind(a); err != nil {
			e.closeSockets()
			return nil, &net.OpError{Op: "listen", Net: "esp", Err: err}
		}
	}
	for _, so := range e.socks {
		e.wg.Add(1)
		go so.run()
	}
	for _, l := range e.tcp {
		e.wg.Add(1)
		go e.acceptLinks(l)
	}
	e.wg.Add(1)
	go e.handshakeWorker()
	return e, nil
}

// bind opens UDP and TCP on one address. Where the port is left to the system, both get the same one.
func (e *Endpoint) bind(addr string) error {
	ap, err := parseListenAddr(addr)
	if err != nil {
		return err
	}
	for try := 0; ; try++ {
		err = e.bindPort(ap)
		if err == nil || ap.Port() != 0 || try == 20 {
			return err
		}
	}
}

func (e *Endpoint) bindPort(ap netip.AddrPort) error {
	var conns []udpio.Conn
	if !e.cfg.DisableUDP {
		var err error
		if conns, err = openPackets(e.cfg.Net, ap, e.cfg.Sockets); err != nil {
			return err
		}
		ap = netip.AddrPortFrom(ap.Addr(), conns[0].LocalAddr().Port())
	}
	if !e.cfg.DisableTCP {
		l, err := e.cfg.Net.Listen(ap)
		if err != nil {
			for _, c := range conns {
				c.Close()
			}
			return err
		}
		e.tcp = append(e.tcp, l)
	}
	for _, c := range conns {
		so := &socket{e: e, conn: c}
		so.role = newRole(so)
		e.socks = append(e.socks, so)
	}
	return nil
}

func (e *Endpoint) closeSockets() {
	for _, so := range e.socks {
		so.conn.Close()
		so.role.takeBack()
	}
	for _, l := range e.tcp {
		l.Close()
	}
}

// PublicKey is the key of this endpoint.
func (e *Endpoint) PublicKey() PublicKey { return e.public }

// SetPairing begins or ends answering dialers that do not know this endpoint's key, as Config.Pairing does from the beginning.
func (e *Endpoint) SetPairing(on bool) { e.pairing.Store(on) }

// Addr is the first local address with the key, as peers dial it. An unspecified host stands for all interfaces.
func (e *Endpoint) Addr() Addr {
	a := Addr{Key: e.public}
	if len(e.socks) > 0 {
		a.Addr = e.socks[0].conn.LocalAddr()
	} else if len(e.tcp) > 0 {
		a.Addr, a.TCP = addrPortOf(e.tcp[0].Addr()), true
	}
	return a
}

// Sessions returns the sessions that live.
func (e *Endpoint) Sessions() []*Session {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make([]*Session, 0, len(e.sessions))
	for s := range e.sessions {
		out = append(out, s)
	}
	return out
}

// Session returns a living session with a peer, nil if there is none.
func (e *Endpoint) Session(peer PublicKey) *Session {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.sessionLocked(peer)
}

func (e *Endpoint) sessionLocked(peer PublicKey) *Session {
	if l := e.byPeer[peer]; len(l) > 0 {
		return l[len(l)-1]
	}
	return nil
}

// publish makes a session known. It must be complete, with its first path, since from here on packets, the program
// and the endpoint's Close reach it. The CIDs of its paths are entered at the same time.
func (e *Endpoint) publish(s *Session) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closed:
		return net.ErrClosed
	case len(e.sessions) >= e.cfg.Limits.Sessions:
		return errTooManySessions
	}
	e.sessions[s] = struct{}{}
	e.byPeer[s.peer] = append(e.byPeer[s.peer], s)
	for _, p := range s.paths {
		e.table.set(p.cid, cidEntry{s: s, path: p.id})
	}
	return nil
}

var errTooManySessions = errors.New("esp: too many sessions")

// forget removes a session. Its lock is held.
func (e *Endpoint) forget(s *Session) {
	for _, p := range s.paths {
		if last := s.lastPackets[p.id]; last != nil {
			e.table.close(p.cid, s, last)
		}
	}
	for _, cid := range s.pathsets.cids() {
		e.table.remove(cid, s)
	}
	e.table.dropTokens(s)
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.sessions, s)
	list := e.byPeer[s.peer]
	for i, t := range list {
		if t == s {
			list = append(list[:i:i], list[i+1:]...)
			break
		}
	}
	if len(list) == 0 {
		delete(e.byPeer, s.peer)
	} else {
		e.byPeer[s.peer] = list
	}
}

// Close ends all sessions and closes the sockets. What was written is given up to Config.Linger to reach the peers; the error is that
// of the sessions for which it was not enough.
// When Close returns no goroutine of the endpoint is left.
func (e *Endpoint) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return net.ErrClosed
	}
	e.closed = true
	sessions := make([]*Session, 0, len(e.sessions))
	for s := range e.sessions {
		sessions = append(sessions, s)
	}
	l := e.listener
	e.mu.Unlock()
	if l != nil {
		l.fail(net.ErrClosed)
	}
	var wg sync.WaitGroup
	errs := make([]error, len(sessions))
	for i, s := range sessions {
		wg.Go(func() { errs[i] = s.Close() })
	}
	wg.Wait()
	close(e.stop)
	e.closeSockets()
	e.mu.Lock()
	for ln := range e.links {
		if ln.s == nil {
			ln.conn.Close() // in a handshake
		}
	}
	e.mu.Unlock()
	e.wg.Wait()
	return errors.Join(errs...)
}

// retire closes the endpoint when no stream is left.
func (e *Endpoint) retire() {
	e.mu.Lock()
	e.retiring = true
	now := e.streams == 0
	e.mu.Unlock()
	if now {
		e.Close()
	}
}

// countStream notes that streams were opened (1) or are over (-1).
func (e *Endpoint) countStream(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.streams += n
	if e.streams == 0 && e.retiring && !e.closed {
		go e.Close() // it waits for goroutines of which the caller may be one
	}
}

// spawn runs fn on a goroutine that Close waits for, unless the endpoint is closed.
func (e *Endpoint) spawn(fn func()) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.wg.Go(fn)
	return true
}

// addLink notes a connection, unless the endpoint is closed.
func (e *Endpoint) addLink(l *link) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || len(e.links) >= e.cfg.Limits.Sessions+e.cfg.Limits.Handshakes {
		return false
	}
	e.links[l] = struct{}{}
	return true
}

func (e *Endpoint) dropLink(l *link) {
	e.mu.Lock()
	delete(e.links, l)
	e.mu.Unlock()
}

// mainListener is that of the endpoint, nil if there is none.
func (e *Endpoint) mainListener() *Listener {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.listener
}

// newCID returns a random CID, never 0.
func (e *Endpoint) newCID() uint64 {
	var b [8]byte
	for {
		e.random(b[:])
		if cid := binary.BigEndian.Uint64(b[:]); cid != 0 {
			return cid
		}
	}
}

// random fills b. Without randomness nothing can go on.
func (e *Endpoint) random(b []byte) {
	if _, err := io.ReadFull(e.cfg.Rand, b); err != nil {
		panic("esp: no randomness: " + err.Error())
	}
}

// newRand returns a generator for what needs no secrecy, seeded from the endpoint's randomness.
func (e *Endpoint) newRand() *rand.Rand {
	var b [16]byte
	e.random(b[:])
	return rand.New(rand.NewPCG(binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])))
}

func (e *Endpoint) newController(mtu int) cc.Controller {
	cfg := cc.Config{MTU: mtu, Rand: e.newRand()}
	if e.cfg.Congestion == "cubic" {
		return cc.NewCubic(cfg)
	}
	return cc.NewBBR(cfg)
}

// params are what we tell a peer.
func (e *Endpoint) params(cid uint64) params {
	p := params{
		maxData: 2 * uint64(e.cfg.Limits.SessionWindow), maxStreams: uint64(e.cfg.Limits.Streams),
		idleTimeout: e.cfg.IdleTimeout, ackDelay: defaultAckDelay, earlyWindow: earlyWindow, hasToken: true,
	}
	p.resetToken = e.resetToken(cid)
	return p
}

// Listen returns the listener for the streams that peers open. There is one at a time; while there is none they are
// refused.
func (e *Endpoint) Listen() (*Listener, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closed:
		return nil, &net.OpError{Op: "listen", Net: "esp", Err: net.ErrClosed}
	case e.listener != nil:
		return nil, &net.OpError{Op: "listen", Net: "esp", Err: errListening}
	}
	e.listener = newListener(e, nil)
	return e.listener, nil
}

var errListening = errors.New("esp: the endpoint has a listener already")

// Listen opens an endpoint on addr ("HOST:PORT", UDP and TCP) and listens there. Closing the listener closes the
// endpoint with the last connection.
func Listen(addr string, cfg Config) (*Listener, error) {
	cfg.Addrs = []string{addr}
	e, err := New(cfg)
	if err != nil {
		return nil, err
	}
	l, err := e.Listen()
	if err != nil {
		e.Close()
		return nil, err
	}
	l.owns = true
	return l, nil
}

// Dial opens an endpoint of its own for one connection to "KEY@HOST:PORT". Closing the connection delivers what was
// written, or says that it could not, and closes the endpoint. A program with more than one connection makes an [Endpoint] and uses its Dial.
func Dial(ctx context.Context, address string, cfg Config) (*Conn, error) {
	if cfg.Sockets == 0 {
		cfg.Sockets = 1
	}
	e, err := New(cfg)
	if err != nil {
		return nil, err
	}
	c, err := e.Dial(ctx, address)
	if err != nil {
		e.Close()
		return nil, err
	}
	c.onClose = e.Close
	return c, nil
}

// Dial opens a stream to the peer at "KEY@HOST:PORT", over the session with it if there is one, else over a new one.
// Without "KEY@" whoever answers there is asked for its key, which Config.Authorize must accept.
func (e *Endpoint) Dial(ctx context.Context, address string) (*Conn, error) {
	for try := 0; ; try++ {
		s, err := e.connect(ctx, address)
		if err != nil {
			return nil, &net.OpError{Op: "dial", Net: "esp", Err: fmt.Errorf("%s: %w", address, err)}
		}
		c, err := s.open(ctx)
		if err == nil {
			return c, nil
		}
		if s.Err() != nil && try == 0 && ctx.Err() == nil {
			continue // the session ended in this moment; dial a new one
		}
		return nil, s.opErr("dial", err)
	}
}

// DialContext is Dial with the signature that net/http and others ask for. The network is not looked at.
func (e *Endpoint) DialContext(ctx context.Context, _, address string) (net.Conn, error) {
	c, err := e.Dial(ctx, address)
	if err != nil {
		return nil, err // not a *Conn that is nil
	}
	return c, nil
}

// Connect returns the session with the peer at an address, dialing it if need be. It stays until it is closed, also
// without streams.
func (e *Endpoint) Connect(ctx context.Context, address string) (*Session, error) {
	s, err := e.connect(ctx, address)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "esp", Err: fmt.Errorf("%s: %w", address, err)}
	}
	s.mu.Lock()
	s.kept = true
	s.arm(s.now())
	s.mu.Unlock()
	return s, nil
}

// run receives on the socket until the endpoint is closed.
func (so *socket) run() {
	defer so.e.wg.Done()
	_ = so.role.background() // net.ErrClosed
}

// recv implements receiver.
func (so *socket) recv() error {
	b := newBatchBuf()
	err := so.conn.Recv(b.batch)
	if err == nil {
		so.got = append(so.got, b)
		so.recvMore()
		return nil
	}
	b.release()
	if errors.Is(err, net.ErrClosed) || timedOut(err) {
		return err
	}
	select {
	case <-so.e.stop:
		return net.ErrClosed
	case <-time.After(time.Millisecond): // a passing error of the system must not make a busy loop
		return nil
	}
}

// Of a transfer that comes faster than it is taken several batches wait in the socket. They are handled together, so that one ACK tells of all: to send one, and to take it, costs
// both ends as much as a batch. Who is fast enough finds nothing more, and acknowledges as before.
const (
	togetherMost = 4
	togetherFrom = 32 << 10 // bytes that a batch of such a transfer has at least
)

// recvMore keeps what waits in the socket behind a long batch.
func (so *socket) recvMore() {
	for len(so.got) < togetherMost && so.got[len(so.got)-1].batch.Size() >= togetherFrom {
		b := newBatchBuf()
		if ok, err := so.conn.TryRecv(b.batch); !ok || err != nil { // an error comes again
			b.release()
			return
		}
		so.got = append(so.got, b)
	}
}

// handle implements receiver.
func (so *socket) handle() {
	got := so.got
	so.sort(got...)
	for i, b := range got {
		b.release()
		got[i] = nil
	}
	so.got = got[:0]
}

// kick implements receiver.
func (so *socket) kick() { _ = so.conn.SetReadDeadline(time.Unix(1, 0)) }

// unkick implements receiver.
func (so *socket) unkick() { _ = so.conn.SetReadDeadline(time.Time{}) }
