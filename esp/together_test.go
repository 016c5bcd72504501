package esp

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"sharefs/esp/internal/udpio"
)

// queuedSocket is a socket in which batches wait. It keeps what is sent.
type queuedSocket struct {
	fuzzSocket
	wait  []*udpio.Batch
	tried int
	sent  [][]byte
}

func (q *queuedSocket) Recv(b *udpio.Batch) error {
	if len(q.wait) == 0 {
		return net.ErrClosed
	}
	b.Datagrams = append(b.Datagrams[:0], q.wait[0].Datagrams...)
	q.wait = q.wait[1:]
	return nil
}

func (q *queuedSocket) TryRecv(b *udpio.Batch) (bool, error) {
	q.tried++
	return len(q.wait) > 0, q.Recv(b)
}

func (q *queuedSocket) Send(_ netip.AddrPort, _ netip.Addr, b []byte, _ int) error {
	q.sent = append(q.sent, bytes.Clone(b))
	return nil
}

// TestWhatWaitsIsAcknowledgedTogether has long batches wait in a socket, and short ones: of a transfer that comes faster than it is taken one ACK tells of several
// batches, and a message by itself is neither held back nor looked behind.
func TestWhatWaitsIsAcknowledgedTogether(t *testing.T) {
	q := &queuedSocket{}
	so := &socket{e: testEndpoint(t, Config{Key: PrivateKey{0, 2}, Rand: seeded(9), DisableTCP: true, Sockets: 1}), conn: q}
	s := fuzzSession(t, so, [resetTokSize]byte{1})
	var nonce nonceBuf
	next := uint64(0)
	batch := func(packets int) *udpio.Batch {
		b := &udpio.Batch{}
		for range packets {
			p := make([]byte, 1200, 1200+tagSize)
			putHeader(p, 0, 0x0102030405060708, next)
			p[headerSize] = framePing // and padding
			p = s.recvKeys.Load().cur.seal(&nonce, p, headerSize, pathUDP, next)
			b.Datagrams = append(b.Datagrams, udpio.Datagram{Data: p, From: netip.MustParseAddrPort("127.0.0.1:9")})
			next++
		}
		return b
	}
	// acks handles what one recv brings and returns how many ACKs that are, and up to which packet the last one goes.
	acks := func() (n int, upTo uint64) {
		t.Helper()
		q.sent = nil
		if err := so.recv(); err != nil {
			t.Fatal(err)
		}
		so.handle()
		for _, p := range q.sent {
			h, ok := parseHeader(p)
			if !ok {
				t.Fatalf("%x was sent", p)
			}
			body, err := s.send.cur.open(&nonce, p, headerSize, pathUDP, h.pn)
			if err != nil {
				t.Fatal(err)
			}
			var r frameReader
			var f frame
			r.reset(body)
			for {
				more, err := r.next(&f)
				if err != nil {
					t.Fatal(err)
				}
				if !more {
					break
				}
				if f.typ == frameAck {
					n++
					upTo = f.ranges[len(f.ranges)-1].End
				}
			}
		}
		return n, upTo
	}
	for range 6 {
		q.wait = append(q.wait, batch(40))
	}
	if n, upTo := acks(); n != 1 || upTo != 160 {
		t.Errorf("of six long batches of 40 packets %d ACKs tell of %d, not one of 160", n, upTo)
	}
	if n, upTo := acks(); n != 1 || upTo != 240 {
		t.Errorf("of the two that are left %d ACKs tell of %d, not one of 240", n, upTo)
	}
	q.tried = 0
	q.wait = append(q.wait, batch(2), batch(40), batch(2), batch(40))
	if n, upTo := acks(); n != 1 || upTo != 242 || q.tried != 0 {
		t.Errorf("of a short batch %d ACKs tell of %d, after %d looks at what is behind it", n, upTo, q.tried)
	}
	if n, upTo := acks(); n != 1 || upTo != 284 || q.tried != 1 {
		t.Errorf("of a long batch before a short one %d ACKs tell of %d, after %d looks at what is behind", n, upTo, q.tried)
	}
	if n, upTo := acks(); n != 1 || upTo != 324 || q.tried != 2 {
		t.Errorf("of a long batch by itself %d ACKs tell of %d, after %d looks at what is behind", n, upTo, q.tried)
	}
	if err := so.recv(); err == nil {
		t.Error("the socket is closed, and nobody is told")
	}
}
