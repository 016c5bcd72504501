//go:build linux

package linkem

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// piece makes what a device hands over: headers of IP and transport, and data behind them.
func piece(kind byte, ip, transport, data, each int) []byte {
	b := make([]byte, vnetHeader+ip+transport+data)
	b[1] = kind
	binary.NativeEndian.PutUint16(b[4:], uint16(each))
	binary.NativeEndian.PutUint16(b[6:], uint16(ip))
	if kind&^pieceECN != pieceUDP && kind != 0 {
		b[vnetHeader+ip+12] = byte(transport/4) << 4
	}
	return b
}

func TestOnWire(t *testing.T) {
	const tcp4, tcp6 = 1, 4 // VIRTIO_NET_HDR_GSO_TCPV4, _TCPV6
	for _, c := range []struct {
		name           string
		piece          []byte
		packets, bytes int
	}{
		{"one packet", piece(0, 20, 8, 1000, 0), 1, 1028},
		{"UDP, the last one shorter", piece(pieceUDP, 20, 8, 3500, 1000), 4, 3500 + 4*28},
		{"UDP, all alike", piece(pieceUDP, 40, 8, 3000, 1000), 3, 3000 + 3*48},
		{"TCP with options", piece(tcp4, 20, 32, 2897, 1448), 3, 2897 + 3*52},
		{"TCP over IPv6 with ECN", piece(tcp6|pieceECN, 40, 20, 2856, 1428), 2, 2856 + 2*60},
		{"headers alone", piece(tcp4, 20, 20, 0, 1448), 1, 40},
		{"cut in the header", make([]byte, vnetHeader-1), 0, 0},
		{"cut in TCP's", piece(tcp4, 20, 20, 0, 1448)[:vnetHeader+25], 1, 25},
	} {
		if packets, bytes := onWire(c.piece); packets != c.packets || bytes != c.bytes {
			t.Errorf("%s: %d packets, %d bytes; want %d, %d", c.name, packets, bytes, c.packets, c.bytes)
		}
	}
}

// joined returns two new hosts and a link between them that carries joined packets.
func joined(t *testing.T) (a, b *Host, l *Link) {
	t.Helper()
	n := Test(t)
	a, b = n.Host("a"), n.Host("b")
	l, err := n.ConnectJoined(a, b, DefaultMTU, Conditions{})
	if err != nil {
		t.Fatal(err)
	}
	return a, b, l
}

// TestJoined sends megabytes over TCP through a link that carries joined packets.
func TestJoined(t *testing.T) {
	a, b, l := joined(t)
	ln, err := b.Listen("tcp", netip.AddrPortFrom(l.Addr(b), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var pieces atomic.Uint64
	l.Tap(func(p Packet) {
		if p.Toward == b {
			pieces.Add(1)
		}
		if p.Data[0]>>4 != 4 {
			t.Errorf("a piece that begins with %x, which is no IPv4", p.Data[:min(len(p.Data), 20)])
		}
	})
	want := bytes.Repeat([]byte("what is joined comes apart only where it must. "), 200_000)
	var wg sync.WaitGroup
	wg.Go(func() {
		c, err := ln.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := a.Dial(ctx, "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(want); err != nil {
		t.Error(err)
	}
	c.Close()
	wg.Wait()
	s := l.Stats(b)
	if least := uint64(len(want) / (DefaultMTU - 40)); s.Packets < least || s.Packets < 2*pieces.Load() {
		t.Errorf("%d packets in %d pieces, where %d bytes take %d at least", s.Packets, pieces.Load(), len(want), least)
	}
	if s.Bytes < uint64(len(want))+40*(s.Packets-3) || s.Bytes > DefaultMTU*s.Packets {
		t.Errorf("%d bytes in %d packets, for %d bytes of data", s.Bytes, s.Packets, len(want))
	}
}

// TestJoinedDatagrams sends a segmented datagram through a link that carries joined packets. The link is its own: TCP may
// send the end of a connection once more at any later time (RFC 8985, section 7), and all that passes is counted here.
func TestJoinedDatagrams(t *testing.T) {
	a, b, l := joined(t)
	want := bytes.Repeat([]byte("a datagram, and the next. "), 400)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()

	pc, err := b.ListenPacket("udp", netip.AddrPortFrom(l.Addr(b), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	u, err := a.Dial(ctx, "udp", pc.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	raw, err := u.(*net.UDPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var refused error
	if err := raw.Control(func(fd uintptr) { refused = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, 1000) }); err != nil || refused != nil {
		t.Skipf("this kernel has no UDP_SEGMENT: %v, %v", err, refused)
	}
	before := l.Stats(b)
	if _, err := u.Write(want[:9500]); err != nil {
		t.Fatal(err)
	}
	pc.SetDeadline(time.Now().Add(patience))
	buf := make([]byte, 2048)
	for at := 0; at < 9500; {
		k, _, err := pc.ReadFrom(buf)
		if err != nil || k != min(1000, 9500-at) || !bytes.Equal(buf[:k], want[at:at+k]) {
			t.Fatalf("after %d bytes a datagram of %d: %v", at, k, err)
		}
		at += k
	}
	if s := l.Stats(b); s.Packets != before.Packets+10 || s.Bytes != before.Bytes+9500+10*28 || s.Delivered != before.Delivered+10 {
		t.Errorf("%+v, before %+v", s, before)
	}
}
