package esp

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sharefs/esp/internal/udpio"
)

// fuzzHandshake is a handshake that waits for the packet to be fuzzed, the same each time.
func fuzzHandshake(f testing.TB, known bool) (in *initiator, rs *responder, reply []byte) {
	f.Helper()
	key := PrivateKey{0, 2}
	peer := key.Public()
	if !known {
		peer = PublicKey{}
	}
	in, err := newInitiator(PrivateKey{0, 1}, peer, suiteAESGCM, 7, params{maxData: 1}, seeded(1))
	if err != nil {
		f.Fatal(err)
	}
	p, ok := parseInit(in.packet)
	if !ok {
		f.Fatal("INIT does not parse")
	}
	if rs, err = readInit(p, key, seeded(2)); err != nil {
		f.Fatal(err)
	}
	if reply, _, err = rs.reply(params{cid: 99, maxData: 2}); err != nil {
		f.Fatal(err)
	}
	return in, rs, reply
}

// FuzzReply answers INIT, and REPLY, by arbitrary packets: nothing but the true one is taken, and that one is after any number of others.
func FuzzReply(f *testing.F) {
	for _, known := range []bool{true, false} {
		in, _, reply := fuzzHandshake(f, known)
		f.Add(reply, known)
		f.Add(reply[:20], known)
		_, finish, err := in.readReply(reply)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(append(finish, 0), known)
	}
	f.Fuzz(func(t *testing.T, b []byte, known bool) {
		in, rs, reply := fuzzHandshake(t, known)
		message := func(packet []byte) []byte { // what the answer says, without what follows it
			n := hsHeader + 2 + int(binary.BigEndian.Uint16(packet[hsHeader:]))
			return packet[hsHeader:min(n, len(packet))]
		}
		if _, _, err := in.readReply(b); err == nil {
			if !bytes.Equal(message(b), message(reply)) {
				t.Fatal("a forged REPLY was taken")
			}
			return
		}
		_, finish, err := in.readReply(reply)
		if err != nil {
			t.Fatalf("after a forged REPLY the true one is refused: %v", err)
		}
		if known {
			return
		}
		if _, err := rs.readFinish(b, 99); err == nil && !bytes.Equal(message(b), message(finish)) {
			t.Fatal("a forged FINISH was taken")
		}
	})
}

// piecesConn is a connection on which bytes come in pieces, and then the end.
type piecesConn struct {
	net.Conn
	rest  []byte
	sizes []byte // of the pieces, less one, in turn
	turn  int
}

func (c *piecesConn) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		return 0, io.EOF
	}
	n := len(c.rest)
	if len(c.sizes) > 0 {
		n = 1 + int(c.sizes[c.turn%len(c.sizes)])
		c.turn++
	}
	n = copy(p, c.rest[:min(n, len(c.rest))])
	c.rest = c.rest[n:]
	return n, nil
}

func (c *piecesConn) Close() error                     { return nil }
func (c *piecesConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *piecesConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *piecesConn) Write(p []byte) (int, error)      { return len(p), nil }
func (c *piecesConn) SetDeadline(time.Time) error      { return nil }
func (c *piecesConn) SetReadDeadline(time.Time) error  { return nil }
func (c *piecesConn) SetWriteDeadline(time.Time) error { return nil }

// FuzzFraming cuts the bytes of a TCP connection into a handshake message and records, however they come, as a plain loop over all of them does.
func FuzzFraming(f *testing.F) {
	record := func(epoch uint64, n int) []byte {
		b := make([]byte, recordHeader+n)
		putRecordHeader(b, epoch, n)
		return b
	}
	two := append(record(0, 20), record(3, 700)...)
	f.Add(two, []byte{0})
	f.Add(append(two, record(1, tagSize-1)...), []byte{255, 3})
	f.Add(append(record(0, maxHandshake+1), 1), []byte{})
	f.Add(record(2, maxRecordBody), []byte{200})
	f.Fuzz(func(t *testing.T, b, sizes []byte) {
		l := &link{conn: &piecesConn{rest: bytes.Clone(b), sizes: sizes}, buf: newLinkBuf()}
		defer func() { l.buf.release() }()
		rest := b
		header := func() (n int, whole bool) {
			if len(rest) < recordHeader {
				return 0, false
			}
			n = int(rest[0]&0x3f)<<16 | int(rest[1])<<8 | int(rest[2])
			return n, len(rest) >= recordHeader+n
		}
		m, err := l.message()
		n, whole := header()
		if ok := whole && n <= maxHandshake; ok != (err == nil) || ok && !bytes.Equal(m, rest[recordHeader:recordHeader+n]) {
			t.Fatalf("message: %x, %v of %x", m, err, rest)
		}
		if err != nil {
			return
		}
		rest = rest[recordHeader+n:]
		rec, epoch, err := l.record()
		n, whole = header()
		if ok := whole && n >= tagSize && n <= maxRecordBody; ok != (err == nil) || ok && (!bytes.Equal(rec, rest[:recordHeader+n]) || epoch != rest[0]>>6) {
			t.Fatalf("record: epoch %d, %x, %v of %x", epoch, rec, err, rest)
		}
	})
}

// fuzzSocket is a socket on which nothing comes, and from which nothing goes out.
type fuzzSocket struct{}

func (fuzzSocket) Recv(*udpio.Batch) error                            { return net.ErrClosed }
func (fuzzSocket) TryRecv(*udpio.Batch) (bool, error)                 { return false, nil }
func (fuzzSocket) Send(netip.AddrPort, netip.Addr, []byte, int) error { return nil }
func (fuzzSocket) MaxSegments(netip.AddrPort, int) int                { return 1 }
func (fuzzSocket) LocalAddr() netip.AddrPort                          { return netip.MustParseAddrPort("127.0.0.1:7") }
func (fuzzSocket) SetReadDeadline(time.Time) error                    { return nil }
func (fuzzSocket) Close() error                                       { return nil }
func (fuzzSocket) Stats() udpio.Stats                                 { return udpio.Stats{} }

// fuzzSession is a session of an endpoint that sends nothing.
func fuzzSession(t testing.TB, so *socket, token [resetTokSize]byte) *Session {
	t.Helper()
	res := &handshakeResult{suite: suiteAESGCM, peer: PrivateKey{0, 1}.Public(), send: secret{1}, recv: secret{2}, cid: 0x0102030405060708, peerCID: 5,
		params: params{hasToken: true, resetToken: token, maxData: 1 << 20, maxStreams: 5, earlyWindow: 100}}
	s := newSession(so.e, res, false)
	s.firstPath(pathUDP, so, nil, netip.Addr{}, netip.MustParseAddrPort("127.0.0.1:9"))
	if err := so.e.publish(s); err != nil {
		t.Fatal(err)
	}
	return s
}

// FuzzDatagram hands arbitrary datagrams to an endpoint with a session: each is counted, and none ends the session but one that ends with the token of
// a stateless reset.
func FuzzDatagram(f *testing.F) {
	token := [resetTokSize]byte{1, 2, 3, 4, 5, 6, 7, 8, 9}
	so := &socket{e: testEndpoint(f, Config{Key: PrivateKey{0, 2}, Rand: seeded(9), DisableTCP: true, Sockets: 1}), conn: fuzzSocket{}}
	e := so.e
	s := fuzzSession(f, so, token)
	f.Add(append(make([]byte, resetSize-resetTokSize), token[:]...))
	ours := make([]byte, headerSize+tagSize)
	putHeader(ours, 0, 0x0102030405060708, 1)
	f.Add(ours)
	for _, typ := range []byte{typeInit, typeReply, typeFinish, typeCookie, typeVersions, typeJoin, flagHandshake} {
		f.Add(append(appendHandshakeHeader(nil, typ, 7), 0, 4, 1, 2, 3, 4))
	}
	in, _, _ := fuzzHandshake(f, true)
	f.Add(in.packet)
	c := &e.stats
	count := func() (sum uint64) {
		for _, n := range []*atomic.Uint64{&c.unknownCID, &c.undecrypted, &c.malformed, &c.badMac, &c.overload, &c.cookies, &c.handshakes, &c.repeated,
			&c.resetsTaken} {
			sum += n.Load()
		}
		return sum
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if s.Err() != nil { // it was reset, or nothing was heard of the peer for too long
			s = fuzzSession(t, so, token)
		}
		version := len(b) >= hsHeader && b[0] == typeInit && binary.BigEndian.Uint32(b[1:]) != Version
		before, resets := count(), c.resetsTaken.Load()
		so.sort(&rbuf{batch: &udpio.Batch{Datagrams: []udpio.Datagram{{Data: bytes.Clone(b), From: netip.MustParseAddrPort("192.0.2.1:5")}}}})
		if c.resetsTaken.Load() > resets && !bytes.HasSuffix(b, token[:]) {
			t.Fatal("the session was reset without its token")
		}
		for range 60_000 { // an INIT that opens is counted by the worker
			if count() > before || version {
				return
			}
			time.Sleep(time.Millisecond)
		}
		t.Fatalf("%x was dropped without being counted", b)
	})
}

// FuzzAddress reads texts that should be addresses: what is taken has a form that is taken again and means the same.
func FuzzAddress(f *testing.F) {
	key := PrivateKey{0, 2}.Public()
	f.Add(key.String() + "@127.0.0.1:7000")
	f.Add(strings.ToUpper(key.String()) + "@[::1]:http")
	f.Add("example.org:7000")
	f.Add("@:")
	f.Add(key.String()[1:] + "x@h:1")
	f.Fuzz(func(t *testing.T, text string) {
		k, hostport, err := splitAddress(text)
		if err != nil {
			return
		}
		if _, _, err := net.SplitHostPort(hostport); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if !k.IsZero() {
			if again, rest, err := splitAddress(k.String() + "@" + hostport); err != nil || again != k || rest != hostport {
				t.Fatalf("%q: %v, %q, %v", text, again, rest, err)
			}
		}
	})
}
