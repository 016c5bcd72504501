package simnet

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// streamBuffer is how many bytes may be under way in one direction of a stream.
const streamBuffer = 512 << 10

// half is one direction of a stream.
type half struct {
	mu    sync.Mutex
	cond  sync.Cond
	ready []byte // arrived
	air   []piece
	size  int   // bytes in ready and air
	fin   bool  // nothing more is written
	eof   bool  // and that has arrived
	rerr  error // of who reads
	werr  error // of who writes
	rdead deadline
	wdead deadline
	timer *time.Timer
	last  time.Time // arrival of the last piece: streams keep their order
}

type piece struct {
	b  []byte
	at time.Time // zero: the link lets nothing through
}

// streamConn is one end of a stream.
type streamConn struct {
	n             *Net
	local, remote netip.AddrPort
	in, out       *half
	once          sync.Once
}

func newStream(n *Net, a, b netip.AddrPort) (client, server *streamConn) {
	x, y := &half{}, &half{}
	x.cond.L, y.cond.L = &x.mu, &y.mu
	return &streamConn{n: n, local: a, remote: b, in: y, out: x}, &streamConn{n: n, local: b, remote: a, in: x, out: y}
}

func (c *streamConn) Read(p []byte) (int, error) {
	h := c.in
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.rdead.expired:
			return 0, os.ErrDeadlineExceeded
		case len(h.ready) > 0:
			n := copy(p, h.ready)
			h.ready = h.ready[n:]
			h.size -= n
			h.cond.Broadcast()
			return n, nil
		case h.rerr != nil:
			return 0, h.rerr
		case h.eof:
			return 0, io.EOF
		}
		h.cond.Wait()
	}
}

func (c *streamConn) Write(p []byte) (total int, err error) {
	for len(p) > 0 {
		b, err := c.out.take(p)
		if err != nil {
			return total, err
		}
		c.fly(b)
		total += len(b)
		p = p[len(b):]
	}
	return total, nil
}

// take waits for room and returns a copy of as much of p as fits, which counts as under way from now on.
func (h *half) take(p []byte) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.wdead.expired:
			return nil, os.ErrDeadlineExceeded
		case h.werr != nil:
			return nil, h.werr
		case h.fin:
			return nil, syscall.EPIPE
		case h.size < streamBuffer:
			b := append([]byte(nil), p[:min(len(p), streamBuffer-h.size, 16<<10)]...)
			h.size += len(b)
			return b, nil
		}
		h.cond.Wait()
	}
}

// fly puts b, or the end of the stream where b is nil, on the link.
func (c *streamConn) fly(b []byte) {
	c.n.mu.Lock()
	if c.n.tap != nil && b != nil {
		c.n.tap(c.local, c.remote, b)
	}
	delay, ok := c.n.pass(c.n.link(c.local.Addr(), c.remote.Addr()), len(b), true)
	c.n.mu.Unlock()
	h := c.out
	h.mu.Lock()
	defer h.mu.Unlock()
	pc := piece{b: b}
	if ok {
		pc.at = time.Now().Add(delay)
		if pc.at.Before(h.last) {
			pc.at = h.last
		}
		h.last = pc.at
	}
	h.air = append(h.air, pc)
	c.arm()
}

// arm plans the next arrival. h.mu of out is held.
func (c *streamConn) arm() {
	h := c.out
	if h.timer != nil || len(h.air) == 0 {
		return
	}
	wait := time.Until(h.air[0].at)
	if h.air[0].at.IsZero() {
		wait = 200 * time.Millisecond // sent again by then
	}
	h.timer = time.AfterFunc(max(wait, 0), c.land)
}

// land delivers what has arrived.
func (c *streamConn) land() {
	c.n.mu.Lock()
	st := c.n.link(c.local.Addr(), c.remote.Addr())
	blocked := st.Down || st.NoTCP
	delay := st.Delay
	c.n.mu.Unlock()
	h := c.out
	h.mu.Lock()
	defer h.mu.Unlock()
	h.timer = nil
	now := time.Now()
	for len(h.air) > 0 {
		pc := &h.air[0]
		if pc.at.IsZero() {
			if blocked {
				break
			}
			pc.at = now.Add(delay)
		}
		if pc.at.After(now) {
			break
		}
		if pc.b == nil {
			h.eof = true
		} else {
			h.ready = append(h.ready, pc.b...)
		}
		h.air = h.air[1:]
	}
	h.cond.Broadcast()
	c.arm()
}

// CloseWrite sends the end of the stream.
func (c *streamConn) CloseWrite() error {
	h := c.out
	h.mu.Lock()
	was := h.fin
	h.fin = true
	h.cond.Broadcast()
	h.mu.Unlock()
	if !was {
		c.fly(nil)
	}
	return nil
}

// Close ends both directions. What the peer writes from now on is answered by a reset, as with TCP, and bytes that
// nobody has read make it one at once.
func (c *streamConn) Close() error {
	err := net.ErrClosed
	c.once.Do(func() {
		err = nil
		_ = c.CloseWrite()
		in := c.in
		in.mu.Lock()
		in.rdead.stop()
		unread := in.size > 0
		in.rerr = net.ErrClosed
		if in.werr == nil {
			in.werr = syscall.ECONNRESET
		}
		in.drop()
		in.mu.Unlock()

		out := c.out
		out.mu.Lock()
		out.wdead.stop()
		out.werr = net.ErrClosed
		if unread {
			if out.rerr == nil {
				out.rerr = syscall.ECONNRESET
			}
			out.drop()
		}
		out.cond.Broadcast()
		out.mu.Unlock()
	})
	return err
}

// drop forgets what is under way and wakes who waits. h.mu is held.
func (h *half) drop() {
	h.ready, h.air, h.size = nil, nil, 0
	h.cond.Broadcast()
}

func (c *streamConn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(c.local) }
func (c *streamConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

func (c *streamConn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *streamConn) SetReadDeadline(t time.Time) error {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	c.in.rdead.set(t, &c.in.mu, &c.in.cond)
	return nil
}

func (c *streamConn) SetWriteDeadline(t time.Time) error {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.out.wdead.set(t, &c.out.mu, &c.out.cond)
	return nil
}
