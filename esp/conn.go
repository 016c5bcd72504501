package esp

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"sharefs/esp/internal/record"
)

// Conn is one stream of a session: a [net.Conn] with the manners of a TCP connection. All methods may be called by
// several goroutines at once.
//
//	Read         returns what has come, in order, up to len(p); io.EOF after the peer's CloseWrite or Close
//	Write        has no size limit; it returns when all bytes are buffered, like that of TCP, and blocks while the peer or the path is slower
//	CloseWrite   sends the end of the stream behind what was written
//	Close        ends both halves; what was written is still delivered, in the background
//	deadlines    as net.Conn says; a Write that a deadline ends reports how much of it will be delivered
//
// Errors are *net.OpError around io.EOF (bare, as net does), os.ErrDeadlineExceeded, net.ErrClosed, ECONNRESET,
// EPIPE, ETIMEDOUT or a *SessionError.
type Conn struct {
	s        *Session
	id       uint64
	accepted bool         // the peer opened it
	onClose  func() error // runs at the end of the first Close; set before the Conn is handed out

	// The reading half. rmu serialises Read and guards the fields behind it; it is taken before the session's lock.
	rmu   sync.Mutex
	dec   *record.Decoder
	taken []seg // taken from rq, being read
	at    int   // taken[:at] is read
	read  uint64
	rwake waker // something changed for a waiting Read

	// The writing half, likewise.
	wmu   sync.Mutex
	enc   *record.Encoder
	drain drainMeter
	wwake waker

	rstop, wstop atomic.Bool // a deadline passed or the half was closed: look under the lock before touching data

	// Below: guarded by s.mu.

	state     connState
	opened    chan struct{} // closed when the peer has answered OPEN
	openErr   error
	early     bool   // what was written may leave before the peer has answered
	stop      *frame // STOP_SENDING that came before OPEN
	closed    bool   // Close was called
	removed   bool   // the session has forgotten the stream
	doneWrite bool   // the write half is over: FIN or RESET acknowledged
	doneRead  bool   // the read half is over: the length is known and nothing is missing, or it was reset

	rq         recvQueue
	rerr       error // what Read returns after the bytes in rq
	rclosed    bool  // CloseRead or Close: what comes is thrown away
	rwaiting   bool
	rdead      deadline
	consumed   uint64        // bytes that Read has taken (or that were thrown away)
	granted    uint64        // the peer may send up to this offset
	window     uint64        // how far granted runs ahead of consumed
	lastGrant  time.Duration // when granted was last raised
	wantCredit bool          // a MAX_STREAM_DATA is to be sent

	sq       sendQueue
	peerMax  uint64 // the peer's limit on offsets
	werr     error  // what Write returns
	wclosed  bool   // CloseWrite or Close
	wwaiting bool
	wdead    deadline
	sendMax  int // bytes that may be buffered
	queued   bool
	reset    bool // RESET was sent
	records  record.Stats

	resent uint64
}

type connState uint8

const (
	connOpening  connState = iota // we have asked for it
	connOpen                      // the acceptor has taken it
	connRefused                   // it has not
	connUnopened                  // something of it came before the peer's OPEN
)

// newConn makes the stream; s.mu is held. window is what we grant the peer, peerMax what it grants us.
func (s *Session) newConn(id uint64, window, peerMax uint64) *Conn {
	c := &Conn{
		s: s, id: id,
		dec:    s.e.codec.NewDecoder(),
		enc:    s.e.codec.NewEncoder(record.Options{Disabled: s.e.cfg.Compression == CompressOff, Now: s.now}),
		window: window, granted: window, peerMax: peerMax, lastGrant: s.now(),
		sendMax: min(firstSendBuffer, s.e.cfg.Limits.SendBuffer),
	}
	c.rwake.init()
	c.wwake.init()
	return c
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// opErr dresses err as net does. io.EOF stays bare.
func (c *Conn) opErr(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: "esp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// Session returns the session that the stream belongs to.
func (c *Conn) Session() *Session { return c.s }

// PeerKey is the key of who is at the other end, proven by the handshake.
func (c *Conn) PeerKey() PublicKey { return c.s.peer }

// LocalAddr returns an [Addr]: our key and the local end of the path in use.
func (c *Conn) LocalAddr() net.Addr { l, _ := c.s.addrs(); return l }

// RemoteAddr returns an [Addr]: the peer's key and the remote end of the path in use.
func (c *Conn) RemoteAddr() net.Addr { _, r := c.s.addrs(); return r }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	return c.setDeadlines("set", t, &c.rdead, &c.wdead)
}

// SetReadDeadline sets the deadline of Read, also of one that waits. The zero time means none.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadlines("set", t, &c.rdead, nil) }

// SetWriteDeadline sets the deadline of Write, also of one that waits. The zero time means none.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadlines("set", t, nil, &c.wdead) }

// deadline is a point in time after which a half returns os.ErrDeadlineExceeded. The session's lock guards it.
type deadline struct {
	timer   *time.Timer
	set     uint64 // how often it was set: a timer of an earlier setting does nothing
	expired bool
}

func (c *Conn) setDeadlines(op string, t time.Time, ds ...*deadline) error {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.closed {
		return &net.OpError{Op: op, Net: "esp", Err: net.ErrClosed}
	}
	for _, d := range ds {
		if d == nil {
			continue
		}
		d.stop()
		d.expired = false
		if !t.IsZero() {
			if wait := time.Until(t); wait <= 0 {
				d.expired = true
			} else {
				set := d.set
				d.timer = time.AfterFunc(wait, func() { c.expire(d, set) })
			}
		}
	}
	c.notice()
	return nil
}

func (d *deadline) stop() {
	d.set++
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

func (c *Conn) expire(d *deadline, set uint64) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if d.set == set {
		d.expired = true
		c.notice()
	}
}

// notice makes both halves look at their state anew. s.mu is held.
func (c *Conn) notice() {
	c.rstop.Store(c.rdead.expired || c.rclosed)
	c.wstop.Store(c.wdead.expired || c.wclosed || c.werr != nil)
	c.rwake.poke()
	c.wwake.poke()
}

// CloseWrite ends the writing half: the peer reads io.EOF after what was written. Reading goes on.
func (c *Conn) CloseWrite() error {
	s := c.s
	s.mu.Lock()
	if c.closed {
		s.mu.Unlock()
		return c.opErr("close", net.ErrClosed)
	}
	err := c.werr
	c.closeWriteLocked()
	s.flushUnlock()
	return c.opErr("close", err)
}

func (c *Conn) closeWriteLocked() {
	if c.wclosed {
		return
	}
	c.wclosed = true
	if c.werr == nil && !c.reset {
		c.sq.fin = true
		c.s.queue(c)
	}
	c.notice()
}

// CloseRead ends the reading half: what still comes is thrown away, and the peer is told to stop. Writing goes on.
func (c *Conn) CloseRead() error {
	s := c.s
	s.mu.Lock()
	if c.closed {
		s.mu.Unlock()
		return c.opErr("close", net.ErrClosed)
	}
	c.closeReadLocked(CodeNone)
	s.flushUnlock()
	return nil
}

func (c *Conn) closeReadLocked(code CloseCode) {
	if c.rclosed {
		return
	}
	c.rclosed = true
	s := c.s
	if !c.doneRead && s.err == nil {
		s.sendCtrl(&ctrl{typ: frameStopSending, id: c.id, a: uint64(code)})
	}
	s.discard(c)
	c.notice()
}

// Close ends both halves. What was written is still delivered in the background, unless the session ends before.
// Bytes that wait to be read are thrown away. A second Close returns net.ErrClosed.
func (c *Conn) Close() error {
	s := c.s
	s.mu.Lock()
	if c.closed {
		s.mu.Unlock()
		return c.opErr("close", net.ErrClosed)
	}
	c.closed = true
	c.rdead.stop()
	c.wdead.stop()
	c.closeWriteLocked()
	c.closeReadLocked(CodeNone)
	s.settle(c)
	s.flushUnlock()
	if c.rmu.TryLock() { // else a Read is about to do it
		c.dropTaken()
		c.rmu.Unlock()
	}
	if c.onClose != nil {
		return c.onClose()
	}
	return nil
}

// abort ends both halves at once and drops what was not delivered. s.mu is held.
func (c *Conn) abort(code CloseCode) {
	c.closed = true
	c.rdead.stop()
	c.wdead.stop()
	c.s.resetStream(c, code)
	c.wclosed = true
	c.closeReadLocked(code)
	c.s.settle(c)
}

// Read implements [net.Conn].
func (c *Conn) Read(p []byte) (int, error) {
	c.rmu.Lock()
	n, err := c.readLocked(p)
	c.rmu.Unlock()
	if err != nil {
		return n, c.opErr("read", err)
	}
	return n, nil
}

// readLocked is Read under rmu.
func (c *Conn) readLocked(p []byte) (n int, err error) {
	for {
		if !c.rstop.Load() {
			if len(p) == 0 {
				return 0, nil
			}
			if n, err = c.decode(p); n > 0 || err != nil {
				return n, err
			}
		}
		if err := c.fetch(); err != nil {
			return 0, err
		}
	}
}

// decode turns bytes that were taken into plain ones. Both results are zero when it needs more.
func (c *Conn) decode(p []byte) (n int, err error) {
	for n < len(p) {
		var in []byte
		if c.at < len(c.taken) {
			in = c.taken[c.at].data
		}
		out, used, derr := c.dec.Decode(p[n:], in)
		n += out
		c.read += uint64(used)
		if c.at < len(c.taken) {
			g := &c.taken[c.at]
			g.data = g.data[used:]
			if len(g.data) == 0 {
				g.release()
				c.at++
				if c.at < len(c.taken) && derr == nil {
					continue
				}
			}
		}
		if derr != nil {
			if n > 0 {
				return n, nil // the error comes again with the next call
			}
			return 0, c.s.badRecord(c, derr)
		}
		if out == 0 && used == 0 {
			break
		}
	}
	return n, nil
}

// fetch takes what has come in order, waiting for it if need be. It returns the error that ends the half.
func (c *Conn) fetch() error {
	s := c.s
	s.mu.Lock()
	for {
		switch {
		case c.rclosed:
			s.mu.Unlock()
			c.dropTaken()
			return net.ErrClosed
		case c.rdead.expired:
			s.mu.Unlock()
			return os.ErrDeadlineExceeded
		}
		credit := s.consume(c, c.read)
		c.read = 0
		if c.at < len(c.taken) || c.dec.Buffered() > 0 { // came here only to look at the state
			s.unlockMaybeFlush(credit)
			return nil
		}
		if len(c.rq.ready) > 0 {
			c.taken, c.at = c.rq.takeAll(c.taken[:0]), 0
			s.unlockMaybeFlush(credit)
			return nil
		}
		if c.rerr != nil || c.rq.eof() {
			err := c.rerr
			if err == nil {
				if err = c.dec.End(); err == nil {
					err = io.EOF
				}
			}
			s.unlockMaybeFlush(credit)
			return err
		}
		c.rwaiting = true
		ro := s.role()
		s.unlockMaybeFlush(credit)
		c.rwake.wait(ro)
		s.mu.Lock()
		c.rwaiting = false
	}
}

// dropTaken frees what a Read had taken; rmu is held.
func (c *Conn) dropTaken() {
	for ; c.at < len(c.taken); c.at++ {
		c.taken[c.at].release()
	}
	c.taken = nil
	c.dec.Close()
}

// copyPool holds the buffers of WriteTo, which takes one only while it has something to copy, so that thousands of
// idle connections hold none.
var copyPool = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// WriteTo implements [io.WriterTo]: it copies to w until io.EOF.
func (c *Conn) WriteTo(w io.Writer) (total int64, err error) {
	for {
		n, err := c.writeSome(w)
		total += n
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// writeSome waits for bytes and copies what is there to w.
func (c *Conn) writeSome(w io.Writer) (total int64, err error) {
	c.rmu.Lock()
	defer c.rmu.Unlock()
	if err := c.fetch(); err != nil {
		return 0, c.opErr("read", err)
	}
	buf := copyPool.Get().(*[]byte)
	defer copyPool.Put(buf)
	for !c.rstop.Load() {
		n, err := c.decode(*buf)
		if err != nil {
			return total, c.opErr("read", err)
		}
		if n == 0 {
			break
		}
		m, err := w.Write((*buf)[:n])
		total += int64(m)
		if err == nil && m < n {
			err = io.ErrShortWrite
		}
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// Write implements [net.Conn].
func (c *Conn) Write(p []byte) (int, error) {
	c.wmu.Lock()
	n, err := c.writeLocked(p)
	c.wmu.Unlock()
	if err != nil {
		return n, c.opErr("write", err)
	}
	return n, nil
}

// writeLocked is Write under wmu.
func (c *Conn) writeLocked(p []byte) (total int, err error) {
	if len(p) == 0 {
		s := c.s
		s.mu.Lock()
		defer s.mu.Unlock()
		return 0, c.writeErr()
	}
	for len(p) > 0 {
		if c.wstop.Load() {
			c.s.mu.Lock()
			err := c.writeErr()
			c.s.mu.Unlock()
			if err != nil {
				return total, err
			}
		}
		n := min(len(p), writePiece)
		ch := newChunk(record.Room(n))
		ch.data, n = c.enc.Next(ch.data, p[:n])
		if err := c.append(ch); err != nil {
			ch.free()
			return total, err
		}
		total += n
		p = p[n:]
	}
	return total, nil
}

// writeErr is why nothing can be written, if so. s.mu is held.
func (c *Conn) writeErr() error {
	switch {
	case c.closed:
		return net.ErrClosed
	case c.werr != nil:
		return c.werr
	case c.wclosed:
		return syscall.EPIPE
	case c.wdead.expired:
		return os.ErrDeadlineExceeded
	}
	return nil
}

// append hands a chunk over to the send queue when there is room, and sends what may be sent on the caller's goroutine.
func (c *Conn) append(ch *chunk) error {
	s := c.s
	s.mu.Lock()
	for {
		if err := c.writeErr(); err != nil {
			s.mu.Unlock()
			return err
		}
		if c.sq.buffered() < c.sendMax {
			break
		}
		c.growSendBuffer()
		if c.sq.buffered() < c.sendMax {
			break
		}
		c.wwaiting = true
		granted := c.sq.next == c.sq.end || c.sq.next < c.peerMax // else it is the peer's program that takes its time
		ro := s.role()
		s.mu.Unlock()
		began := s.now()
		c.wwake.wait(ro)
		if granted {
			c.drain.waited += s.now() - began
		}
		s.mu.Lock()
		c.wwaiting = false
	}
	c.records = c.enc.Stats()
	size := len(ch.data)
	c.sq.push(ch)
	s.queue(c)
	rate := s.pathRate()
	s.flushUnlock()
	c.drain.add(size, s.now)
	c.enc.SetPathRate(c.drain.limit(rate))
	return nil
}

// growSendBuffer doubles the buffer while it is smaller than twice what the path takes in a round trip, so that
// sending would stop while the writer wakes. More than that would only push the memory out of the processor's cache.
// s.mu is held.
func (c *Conn) growSendBuffer() {
	limit := c.s.e.cfg.Limits.SendBuffer
	p := c.s.active
	if c.sendMax >= limit || p == nil {
		return
	}
	var want float64
	if p.cc != nil {
		want = float64(p.cc.Window())
	} else {
		want = p.rate.rate() * p.rec.RTT().Min.Seconds() // the window is the kernel's, and what waits there makes the round trips long
	}
	if float64(c.sendMax) < 2*want || c.sq.unsent() == 0 && p.bandwidth() == 0 {
		c.sendMax = min(2*c.sendMax, limit)
	}
}

// ReadFrom implements [io.ReaderFrom]: it copies from r until io.EOF, in large pieces.
func (c *Conn) ReadFrom(r io.Reader) (total int64, err error) {
	buf := make([]byte, 64<<10)
	for {
		n, rerr := r.Read(buf)
		if n > 0 {
			m, werr := c.Write(buf[:n])
			total += int64(m)
			if werr != nil {
				return total, werr
			}
		}
		if rerr == io.EOF {
			return total, nil
		}
		if rerr != nil {
			return total, rerr
		}
	}
}

// waitOpen waits for the peer's answer to OPEN.
func (c *Conn) waitOpen(ctx context.Context) error {
	select {
	case <-c.opened:
	case <-ctx.Done():
		c.s.mu.Lock()
		select {
		case <-c.opened: // both at once: the answer counts
			c.s.mu.Unlock()
		default:
			c.abort(CodeCancelled)
			c.s.flushUnlock()
			return ctx.Err()
		}
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	return c.openErr
}

// ConnStats counts what went over one stream.
type ConnStats struct {
	Written     uint64        // bytes that Write took
	Read        uint64        // bytes of records that Read has consumed
	Sent        uint64        // bytes of records sent, without repetitions
	Received    uint64        // bytes of records received in all
	Resent      uint64        // bytes of records sent again
	Compressed  uint64        // records that were compressed
	Raw         uint64        // records that were not
	EncodeTime  time.Duration // spent in the encoder
	SendBuffer  int           // bytes that wait to be sent or acknowledged
	Window      uint64        // bytes that the peer may send ahead
	PeerWindow  uint64        // bytes that we may still send
	ReceiveGaps int           // gaps in what has come
}

// Stats returns the counters of the stream.
func (c *Conn) Stats() ConnStats {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	st := ConnStats{
		Written: c.records.RawBytes, Read: c.consumed, Sent: c.sq.next, Received: c.rq.high, Resent: c.resent,
		Compressed: c.records.ZstdRecords, Raw: c.records.RawRecords, EncodeTime: c.records.Spent,
		SendBuffer: c.sq.buffered(), Window: c.window, ReceiveGaps: c.rq.gaps,
	}
	if c.peerMax > c.sq.next {
		st.PeerWindow = c.peerMax - c.sq.next
	}
	return st
}
