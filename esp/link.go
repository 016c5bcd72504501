package esp

import (
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// link is a TCP connection that carries one path of a session: records of at most 72 KiB, each with its own length in
// front.
//
// Sending is tried on the goroutine of who has something to send, without waiting. What the kernel does not take at
// once is handed, with the sending role of the path, to the link's writer, which waits for room and goes on from
// there.
type link struct {
	conn net.Conn
	now  *nowWriter // nil where the connection is not the system's
	e    *Endpoint
	out  chan *sendBatch // what the writer shall write first; capacity 1
	done chan struct{}   // closed when the link is given up
	role *role

	// Guarded by the session's lock once the link belongs to one.
	s       *Session
	p       *path
	open    bool
	closing bool       // no more records but the last one
	lastRec *sendBatch // CLOSE, written after what is under way
	until   time.Time  // when reading ends; zero: it does not

	// Owned by who reads.
	buf   *rbuf
	have  int // bytes in buf
	at    int // bytes of buf that were taken
	pn    uint64
	pkts  []inPacket
	nonce nonceBuf
	err   error // what came made no sense
}

func newLink(e *Endpoint, conn net.Conn) *link {
	l := &link{conn: conn, e: e, open: true, out: make(chan *sendBatch, 1), done: make(chan struct{}), buf: newLinkBuf()}
	l.role = newRole(l)
	if sc, ok := conn.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			l.now = newNowWriter(raw)
		}
	}
	return l
}

// message reads one handshake message: a u24 length and as many bytes.
func (l *link) message() ([]byte, error) {
	for {
		if n := l.have - l.at; n >= recordHeader {
			_, size := parseRecordHeader(l.buf.mem[l.at:])
			if size > maxHandshake {
				return nil, errTruncated
			}
			if n >= recordHeader+size {
				m := append([]byte(nil), l.buf.mem[l.at+recordHeader:l.at+recordHeader+size]...)
				l.at += recordHeader + size
				return m, nil
			}
		}
		n, err := l.conn.Read(l.buf.mem[l.have:])
		l.have += n
		if n == 0 && err != nil {
			return nil, err
		}
	}
}

// record reads one record, header included, without opening it.
func (l *link) record() (rec []byte, epoch byte, err error) {
	for {
		if l.have-l.at >= recordHeader {
			e, n := parseRecordHeader(l.buf.mem[l.at:])
			if n < tagSize || n > maxRecordBody {
				return nil, 0, errTruncated
			}
			if l.have-l.at >= recordHeader+n {
				rec = l.buf.mem[l.at : l.at+recordHeader+n]
				l.at += len(rec)
				return rec, e, nil
			}
		}
		n, err := l.conn.Read(l.buf.mem[l.have:])
		l.have += n
		if n == 0 && err != nil {
			return nil, 0, err
		}
	}
}

// sendMessage writes one handshake message. Nothing else writes at that time.
func (l *link) sendMessage(m []byte) error {
	b := make([]byte, recordHeader, recordHeader+len(m))
	putRecordHeader(b, 0, len(m))
	_ = l.conn.SetWriteDeadline(time.Now().Add(l.e.cfg.HandshakeTimeout))
	_, err := l.conn.Write(append(b, m...))
	_ = l.conn.SetWriteDeadline(time.Time{})
	return err
}

// giveUp ends a link that never came to belong to a session.
func (l *link) giveUp() {
	l.conn.Close()
	l.buf.release()
	l.e.dropLink(l)
}

// send writes a batch as far as that goes without waiting. It returns false when the writer has taken over the batch
// and the sending role. No lock is held.
func (l *link) send(b *sendBatch) bool {
	if l.now != nil {
		n, err := l.now.write(b.buf)
		if err != nil {
			l.failed(err)
			return true
		}
		if n == len(b.buf) {
			return true
		}
		b.skip = n
	}
	select {
	case l.out <- b:
		return false
	case <-l.done:
		return true
	}
}

// writer writes what send could not, and goes on until there is nothing more to send on the path.
func (l *link) writer() {
	for {
		select {
		case b := <-l.out:
			l.write(b)
		case <-l.done:
			return
		}
	}
}

// write sends b and then what the session has for the path. It holds the sending role of the path and gives it up at
// the end.
func (l *link) write(b *sendBatch) {
	s, p := l.s, l.p
	for b != nil {
		_, err := l.conn.Write(b.buf[b.skip:])
		if err != nil {
			l.failed(err)
		}
		s.mu.Lock()
		b.release()
		b.free()
		if err != nil || !p.usable() {
			b = nil
			if err != nil && l.lastRec != nil { // it would follow half a record
				l.lastRec.free()
				l.lastRec = nil
			}
		} else {
			b = s.build(p, s.now())
		}
		if b == nil {
			p.sending = false
			l.finish()
			s.arm(s.now())
			s.unlock()
			return
		}
		s.mu.Unlock()
		b.seal(p)
	}
}

// failed notes that writing failed. The path is not given up yet: what the peer said last may still wait to be read
// (its CLOSE, which explains the reset), so the reader has the last word.
func (l *link) failed(error) {
	l.s.mu.Lock()
	l.open = false
	l.readLast()
	l.s.mu.Unlock()
}

// readLast bounds what is still read: a reader that waits for a peer that is gone must not wait for ever. s.mu is held.
func (l *link) readLast() {
	if l.until.IsZero() {
		l.until = time.Now().Add(lastWords)
		_ = l.conn.SetReadDeadline(l.until)
	}
	l.role.takeBack()
}

// lastWords is how long a link whose writing half failed, or whose session was closed here, still reads what the peer
// says.
const lastWords = time.Second

// last sends the record that ends the session after what is under way. s.mu is held.
func (l *link) last(b *sendBatch) {
	l.closing = true
	if l.p.sending {
		l.lastRec = b
		return
	}
	l.writeLast(b)
}

func (l *link) writeLast(b *sendBatch) {
	_ = l.conn.SetWriteDeadline(time.Now().Add(lastWords))
	if l.now != nil {
		_, _ = l.now.write(b.buf) // the connection ends either way
		b.free()
		return
	}
	go func() { // a net in memory may make a Write wait
		_, _ = l.conn.Write(b.buf)
		b.free()
		closeWrite(l.conn)
	}()
}

// finish writes the last record, if there is one that had to wait. s.mu is held.
func (l *link) finish() {
	if b := l.lastRec; b != nil {
		l.lastRec = nil
		l.writeLast(b)
		closeWrite(l.conn)
	}
}

// shutdown ends the link: what was written goes out, the reader drains what the peer still sends, then the connection
// is closed. s.mu is held.
func (l *link) shutdown() {
	if l.lastRec != nil {
		_ = l.conn.SetWriteDeadline(time.Now().Add(lastWords))
	} else if l.now != nil || !l.closing {
		closeWrite(l.conn)
	}
	l.open = false
	l.readLast()
}

// closeWrite sends FIN, so that a peer reads all before the end.
func closeWrite(c net.Conn) {
	if cw, ok := c.(interface{ CloseWrite() error }); ok {
		_ = cw.CloseWrite()
	}
}

// reader receives until the connection ends. It is the last to use the link and closes it.
func (l *link) reader() {
	l.handle() // what came with the handshake
	err := l.role.background()
	l.conn.Close()
	close(l.done)
	l.buf.release()
	l.buf = nil
	l.s.linkGone(l.p, err)
	l.e.dropLink(l)
}

// handle implements receiver.
func (l *link) handle() {
	if l.err == nil {
		l.err = l.takeRecords()
	}
}

// kick implements receiver.
func (l *link) kick() { _ = l.conn.SetReadDeadline(time.Unix(1, 0)) }

// unkick implements receiver.
func (l *link) unkick() {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	_ = l.conn.SetReadDeadline(l.until)
}

// recv implements receiver: it reads more bytes into the buffer, behind what is there of a record that has begun.
func (l *link) recv() error {
	if l.err != nil {
		return l.err
	}
	if l.at == l.have && l.buf.alone() {
		l.at, l.have = 0, 0
	}
	if need := l.need(); l.at+need > len(l.buf.mem) || len(l.buf.mem)-l.have < 4<<10 {
		l.renew()
	}
	n, err := l.conn.Read(l.buf.mem[l.have:])
	l.have += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	if timedOut(err) {
		l.s.mu.Lock()
		over := !l.until.IsZero() && !time.Now().Before(l.until)
		l.s.mu.Unlock()
		if over {
			return io.EOF // all that could be the peer's last words
		}
	}
	return err
}

// need is how many bytes the record that begins at l.at takes, as far as that is known.
func (l *link) need() int {
	if l.have-l.at < recordHeader {
		return recordHeader
	}
	_, n := parseRecordHeader(l.buf.mem[l.at:])
	return recordHeader + n
}

// renew moves the beginning of a record to a fresh buffer, since streams may still hold the old one.
func (l *link) renew() {
	rest := l.buf.mem[l.at:l.have]
	if l.buf.alone() {
		l.have = copy(l.buf.mem, rest)
		l.at = 0
		return
	}
	b := newLinkBuf()
	l.have = copy(b.mem, rest)
	l.at = 0
	l.buf.release()
	l.buf = b
}

// takeRecords opens all records that are there in full and hands them to the session.
func (l *link) takeRecords() error {
	for {
		l.pkts = l.pkts[:0]
		var bad error
		for l.have-l.at >= recordHeader {
			epoch, n := parseRecordHeader(l.buf.mem[l.at:])
			if n < tagSize || n > maxRecordBody {
				bad = errTruncated
				break
			}
			if l.have-l.at < recordHeader+n {
				break
			}
			rec := l.buf.mem[l.at : l.at+recordHeader+n]
			l.at += len(rec)
			key := l.s.recvKeys.Load().pick(epoch)
			if key == nil {
				bad = errTruncated
				break
			}
			body, err := key.open(&l.nonce, rec, recordHeader, l.p.id, l.pn)
			if err != nil {
				bad = err
				break
			}
			l.pkts = append(l.pkts, inPacket{path: l.p.id, pn: l.pn, key: key, body: body, size: len(rec), buf: l.buf, link: l})
			l.pn++
			if key.epoch != l.s.recvKeys.Load().cur.epoch {
				break // the keys move on before the next record
			}
		}
		if len(l.pkts) > 0 {
			l.s.receive(l.pkts)
			clear(l.pkts)
		}
		if bad != nil {
			l.e.stats.badRecords.Add(1)
			return bad
		}
		if len(l.pkts) == 0 {
			return nil
		}
	}
}

// timedOut reports whether an error is that of a deadline.
func timedOut(err error) bool {
	ne, ok := err.(net.Error)
	return ok && ne.Timeout() || err == os.ErrDeadlineExceeded
}
