// Package simnet is a net in memory for tests: hosts with addresses, links between them that delay, drop, repeat, reorder, corrupt, limit and cut,
// all changeable at any time. Under testing/synctest its time is the fake one, so that a test over slow links takes no time and always runs the
// same way.
//
//	n := simnet.New(1)
//	a, b := n.Host("10.0.0.1"), n.Host("10.0.0.2")
//	n.Link("10.0.0.1", "10.0.0.2", simnet.Link{Delay: 25 * time.Millisecond, Loss: 0.05})
//
// A [Host] has the methods of esp.Network. Datagrams and the bytes of streams obey the same links; a stream is never corrupted, and what a link
// would drop of it is late instead, as TCP would make it.
package simnet

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// Link says what happens to what goes from one address to another.
type Link struct {
	Delay   time.Duration
	Jitter  time.Duration // up to so much is added
	Loss    float64       // share of datagrams that vanish
	Drop    func() bool   // asked for each datagram whether it vanishes; nil: none does by that
	Dup     float64       // share that comes twice
	Reorder float64       // share that is delayed by a further Delay/2 + 1 ms, so that others overtake it
	Corrupt float64       // share of which one bit is turned
	Cut     float64       // share that is truncated
	Rate    float64       // bytes/s; 0: no limit
	Queue   int           // bytes that may wait for the rate; 0: 256 KiB
	MTU     int           // larger datagrams vanish; 0: no limit
	Device  int           // larger datagrams are refused where they are sent; 0: no limit
	Down    bool          // nothing passes
	NoRoute bool          // what is sent as a datagram is refused
	NoUDP   bool
	NoTCP   bool // connections are not answered and streams stand still
}

// Net is a set of hosts. All methods are safe for concurrent use.
type Net struct {
	mu    sync.Mutex
	rng   *rand.Rand
	links map[[2]netip.Addr]*linkState
	hosts map[netip.Addr]*Host
	tap   func(from, to netip.AddrPort, b []byte)
	nat   map[netip.AddrPort]netip.AddrPort // inside to outside
	tan   map[netip.AddrPort]netip.AddrPort // outside to inside
}

type linkState struct {
	Link
	free time.Time // when the last byte that was let in has left
}

// New makes an empty net. Equal seeds and equal use give equal behaviour.
func New(seed uint64) *Net {
	return &Net{rng: rand.New(rand.NewPCG(seed, 0x5e)), links: make(map[[2]netip.Addr]*linkState), hosts: make(map[netip.Addr]*Host),
		nat: make(map[netip.AddrPort]netip.AddrPort), tan: make(map[netip.AddrPort]netip.AddrPort)}
}

// Host adds a host with addresses.
func (n *Net) Host(addrs ...string) *Host {
	h := &Host{n: n, packets: make(map[netip.AddrPort]*packetConn), listeners: make(map[netip.AddrPort]*listener), next: 40000}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range addrs {
		ip := netip.MustParseAddr(a)
		h.addrs = append(h.addrs, ip)
		n.hosts[ip] = h
	}
	return h
}

// Link sets both directions between two addresses.
func (n *Net) Link(a, b string, l Link) {
	n.OneWay(a, b, l)
	n.OneWay(b, a, l)
}

// OneWay sets one direction.
func (n *Net) OneWay(from, to string, l Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	st := n.link(netip.MustParseAddr(from), netip.MustParseAddr(to))
	st.Link = l
}

// Tap shows every datagram that is sent, and every piece of a stream. Nil ends it.
func (n *Net) Tap(fn func(from, to netip.AddrPort, b []byte)) {
	n.mu.Lock()
	n.tap = fn
	n.mu.Unlock()
}

// NAT lets the datagrams of a socket appear to come from another address, to which answers find their way. A second call is a rebinding: the old
// address leads nowhere any more. The links stay those of the inner address.
func (n *Net) NAT(inside, outside string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	in, out := netip.MustParseAddrPort(inside), netip.MustParseAddrPort(outside)
	delete(n.tan, n.nat[in])
	n.nat[in], n.tan[out] = out, in
}

func (n *Net) link(from, to netip.Addr) *linkState {
	k := [2]netip.Addr{from, to}
	st := n.links[k]
	if st == nil {
		st = &linkState{}
		n.links[k] = st
	}
	return st
}

// pass decides when size bytes that are sent now arrive; ok is false when they are dropped. n.mu is held.
func (n *Net) pass(st *linkState, size int, stream bool) (delay time.Duration, ok bool) {
	now := time.Now()
	if st.Down || stream && st.NoTCP || !stream && st.NoUDP {
		return 0, false
	}
	if !stream && (st.MTU > 0 && size > st.MTU || st.Loss > 0 && n.rng.Float64() < st.Loss) {
		return 0, false
	}
	if st.Rate > 0 {
		if st.free.Before(now) {
			st.free = now
		}
		queue := st.Queue
		if queue == 0 {
			queue = 256 << 10
		}
		if !stream && st.free.Sub(now).Seconds()*st.Rate > float64(queue) {
			return 0, false
		}
		st.free = st.free.Add(time.Duration(float64(size) / st.Rate * float64(time.Second)))
		delay = st.free.Sub(now)
	}
	delay += st.Delay
	if st.Jitter > 0 {
		delay += time.Duration(n.rng.Int64N(int64(st.Jitter)))
	}
	if !stream && st.Reorder > 0 && n.rng.Float64() < st.Reorder {
		delay += st.Delay/2 + time.Millisecond
	}
	return delay, true
}

// Host is one machine. It has the methods of esp.Network.
type Host struct {
	n         *Net
	addrs     []netip.Addr
	packets   map[netip.AddrPort]*packetConn
	listeners map[netip.AddrPort]*listener
	next      uint16
}

// SetAddrs changes what Addrs tells. Sockets keep theirs.
func (h *Host) SetAddrs(addrs ...string) {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	h.addrs = nil
	for _, a := range addrs {
		ip := netip.MustParseAddr(a)
		h.addrs = append(h.addrs, ip)
		h.n.hosts[ip] = h
	}
}

// Addrs lists the addresses of the host.
func (h *Host) Addrs() ([]netip.Addr, error) {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	return append([]netip.Addr(nil), h.addrs...), nil
}

// Reaches reports whether there is a route between two addresses.
func (h *Host) Reaches(local netip.Addr, remote netip.AddrPort) bool {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	return !h.n.link(local, remote.Addr()).NoRoute
}

// bound makes a local address concrete. n.mu is held.
func (h *Host) bound(a netip.AddrPort, taken func(netip.AddrPort) bool) (netip.AddrPort, error) {
	ip := a.Addr()
	if !ip.IsValid() || ip.IsUnspecified() {
		ip = h.addrs[0]
	}
	if h.n.hosts[ip] != h {
		return a, syscall.EADDRNOTAVAIL
	}
	if a.Port() != 0 {
		ap := netip.AddrPortFrom(ip, a.Port())
		if taken(ap) {
			return a, syscall.EADDRINUSE
		}
		return ap, nil
	}
	for {
		h.next++
		if ap := netip.AddrPortFrom(ip, h.next); !taken(ap) {
			return ap, nil
		}
	}
}

// ListenPacket opens a datagram socket. An unspecified address is the first one of the host.
func (h *Host) ListenPacket(addr netip.AddrPort) (net.PacketConn, error) {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	ap, err := h.bound(addr, func(a netip.AddrPort) bool { return h.packets[a] != nil })
	if err != nil {
		return nil, err
	}
	c := &packetConn{h: h, addr: ap}
	c.cond.L = &c.mu
	h.packets[ap] = c
	return c, nil
}

type datagram struct {
	from netip.AddrPort
	b    []byte
}

// packetConn is a datagram socket.
type packetConn struct {
	h    *Host
	addr netip.AddrPort

	mu     sync.Mutex
	cond   sync.Cond
	queue  []datagram
	closed bool
	dead   deadline
}

// maxQueue is how many datagrams wait in a socket.
const maxQueue = 8192

func (c *packetConn) deliver(d datagram) {
	c.mu.Lock()
	if !c.closed && len(c.queue) < maxQueue {
		c.queue = append(c.queue, d)
		c.cond.Signal()
	}
	c.mu.Unlock()
}

func (c *packetConn) ReadFrom(p []byte) (int, net.Addr, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, nil, net.ErrClosed
		case c.dead.expired:
			return 0, nil, os.ErrDeadlineExceeded
		case len(c.queue) > 0:
			d := c.queue[0]
			c.queue = c.queue[1:]
			return copy(p, d.b), net.UDPAddrFromAddrPort(d.from), nil
		}
		c.cond.Wait()
	}
}

func (c *packetConn) WriteTo(p []byte, to net.Addr) (int, error) {
	ap, err := netip.ParseAddrPort(to.String())
	if err != nil {
		return 0, err
	}
	ap = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return 0, net.ErrClosed
	}
	n := c.h.n
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.tap != nil {
		n.tap(c.addr, ap, p)
	}
	from := c.addr
	if out, ok := n.nat[from]; ok {
		from = out
	}
	if in, ok := n.tan[ap]; ok {
		ap = in
	}
	st := n.link(c.addr.Addr(), ap.Addr())
	if st.Device > 0 && len(p) > st.Device {
		return 0, syscall.EMSGSIZE
	}
	if st.NoRoute {
		return 0, syscall.ENETUNREACH
	}
	if st.Drop != nil && st.Drop() {
		return len(p), nil
	}
	copies := 1
	if st.Dup > 0 && n.rng.Float64() < st.Dup {
		copies = 2
	}
	for range copies {
		delay, ok := n.pass(st, len(p), false)
		if !ok {
			continue
		}
		b := append([]byte(nil), p...)
		if st.Corrupt > 0 && len(b) > 0 && n.rng.Float64() < st.Corrupt {
			b[n.rng.IntN(len(b))] ^= 1 << n.rng.IntN(8)
		}
		if st.Cut > 0 && len(b) > 0 && n.rng.Float64() < st.Cut {
			b = b[:n.rng.IntN(len(b))]
		}
		n.send(datagram{from: from, b: b}, ap, delay)
	}
	return len(p), nil
}

// send delivers d after delay. n.mu is held.
func (n *Net) send(d datagram, to netip.AddrPort, delay time.Duration) {
	arrive := func() {
		n.mu.Lock()
		var dst *packetConn
		if h := n.hosts[to.Addr()]; h != nil {
			dst = h.packets[to]
		}
		n.mu.Unlock()
		if dst != nil {
			dst.deliver(d)
		}
	}
	time.AfterFunc(delay, arrive)
}

// Inject delivers a datagram that nobody sent, from any address.
func (n *Net) Inject(from, to netip.AddrPort, b []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.send(datagram{from: from, b: append([]byte(nil), b...)}, to, 0)
}

func (c *packetConn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return net.ErrClosed
	}
	c.closed = true
	c.dead.stop()
	c.cond.Broadcast()
	c.mu.Unlock()
	c.h.n.mu.Lock()
	if c.h.packets[c.addr] == c {
		delete(c.h.packets, c.addr)
	}
	c.h.n.mu.Unlock()
	return nil
}

func (c *packetConn) LocalAddr() net.Addr                { return net.UDPAddrFromAddrPort(c.addr) }
func (c *packetConn) SetDeadline(t time.Time) error      { return c.SetReadDeadline(t) }
func (c *packetConn) SetWriteDeadline(t time.Time) error { return nil }
func (c *packetConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead.set(t, &c.mu, &c.cond)
	return nil
}

// deadline expires under the lock of its owner.
type deadline struct {
	timer   *time.Timer
	gen     int
	expired bool
}

func (d *deadline) stop() {
	d.gen++
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

func (d *deadline) set(t time.Time, mu *sync.Mutex, cond *sync.Cond) {
	d.stop()
	d.expired = false
	if t.IsZero() {
		return
	}
	wait := time.Until(t)
	if wait <= 0 {
		d.expired = true
		cond.Broadcast()
		return
	}
	gen := d.gen
	d.timer = time.AfterFunc(wait, func() {
		mu.Lock()
		defer mu.Unlock()
		if d.gen == gen {
			d.expired = true
			cond.Broadcast()
		}
	})
}

// Listen opens a stream listener.
func (h *Host) Listen(addr netip.AddrPort) (net.Listener, error) {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	ap, err := h.bound(addr, func(a netip.AddrPort) bool { return h.listeners[a] != nil })
	if err != nil {
		return nil, err
	}
	l := &listener{h: h, addr: ap, queue: make(chan *streamConn, 128), done: make(chan struct{})}
	h.listeners[ap] = l
	return l, nil
}

type listener struct {
	h     *Host
	addr  netip.AddrPort
	queue chan *streamConn
	once  sync.Once
	done  chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.h.n.mu.Lock()
		if l.h.listeners[l.addr] == l {
			delete(l.h.listeners, l.addr)
		}
		l.h.n.mu.Unlock()
	})
	return nil
}

func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }

// Dial connects a stream; it takes one round trip of the link.
func (h *Host) Dial(ctx context.Context, local netip.Addr, remote netip.AddrPort) (net.Conn, error) {
	h.n.mu.Lock()
	if !local.IsValid() {
		local = h.addrs[0]
		for _, a := range h.addrs { // the one on the same net, if there is one
			if p, err := a.Prefix(24); err == nil && p.Contains(remote.Addr()) {
				local = a
			}
		}
	}
	h.next++
	la := netip.AddrPortFrom(local, h.next)
	h.n.mu.Unlock()
	for {
		h.n.mu.Lock()
		there, ok1 := h.n.pass(h.n.link(local, remote.Addr()), 60, true)
		back, ok2 := h.n.pass(h.n.link(remote.Addr(), local), 60, true)
		h.n.mu.Unlock()
		wait := there + back
		if !ok1 || !ok2 {
			wait = time.Second // SYN is sent again
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: ctx.Err()}
		}
		if ok1 && ok2 {
			break
		}
	}
	h.n.mu.Lock()
	var l *listener
	if rh := h.n.hosts[remote.Addr()]; rh != nil {
		l = rh.listeners[remote]
	}
	h.n.mu.Unlock()
	refused := &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(remote), Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	if l == nil {
		return nil, refused
	}
	a, b := newStream(h.n, la, remote)
	select {
	case l.queue <- b:
		return a, nil
	case <-l.done:
		return nil, refused
	}
}

func (h *Host) String() string { return fmt.Sprint(h.addrs) }
