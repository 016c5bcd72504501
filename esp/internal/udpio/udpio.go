// Package udpio moves datagrams in batches: one system call sends up to 64 datagrams that lie end to end in one buffer
// (UDP generic segmentation offload, UDP_SEGMENT of udp(7)), and one receives several that the kernel has joined
// (UDP_GRO, recvmmsg(2)). Measured on loopback, 1400 B datagrams, that is ten times the rate of one call for each.
//
//	Listen  several sockets on one port, by default one for each core; the kernel spreads the flows among them
//	        (SO_REUSEPORT), so who reads them must share what it knows about its peers
//	Wrap    the same interface over any net.PacketConn, one datagram for each call: other systems, nets in memory
//
// Where a device refuses segmentation (EIO, or EINVAL on some), Send falls back to one call for each datagram and
// remembers the destination, for which [Conn.MaxSegments] is 1 from then on.
package udpio

import (
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// MaxDatagram is the largest payload of a datagram over IPv4: 65535 − 20 (IP) − 8 (UDP).
	MaxDatagram = 65507

	maxSegments = 64      // UDP_MAX_SEGMENTS of Linux before 6.9, where it became 128
	slot        = 1 << 16 // of a receive buffer: more than the kernel joins into one message
)

// Conn is a UDP socket, or what behaves as one. One goroutine at a time may receive while many send.
type Conn interface {
	// Recv waits for datagrams and puts all that are there, as far as b has room, into b.
	Recv(b *Batch) error

	// TryRecv is Recv without waiting: ok is false where nothing is there, or where the system cannot tell. Deadlines do
	// not concern it.
	TryRecv(b *Batch) (ok bool, err error)

	// Send sends the datagrams that lie end to end in buf, each of seg bytes but for the last, which may be shorter;
	// there may be at most MaxSegments(to, seg). They leave from the local address from where that is valid, else from
	// the one that the kernel chooses. What is returned concerns these datagrams alone, unless it is net.ErrClosed;
	// see also IsTooBig. Some of them may have left before an error.
	Send(to netip.AddrPort, from netip.Addr, buf []byte, seg int) error

	// MaxSegments returns how many datagrams of seg bytes one Send to that destination may hold.
	MaxSegments(to netip.AddrPort, seg int) int

	LocalAddr() netip.AddrPort
	SetReadDeadline(t time.Time) error // for Recv; it fails with os.ErrDeadlineExceeded then
	Close() error                      // wakes Recv with net.ErrClosed
	Stats() Stats
}

// Stats counts what a socket did. Datagrams over Calls tells how well batching works.
type Stats struct {
	SendCalls     uint64
	SentDatagrams uint64
	SendErrors    uint64
	RecvCalls     uint64
	RecvDatagrams uint64
	Truncated     uint64 // datagrams that did not fit and were dropped
	GSOFallbacks  uint64 // sends for which segmentation was refused
}

type counters struct {
	sendCalls, sent, sendErrors, recvCalls, received, truncated, fallbacks atomic.Uint64
}

func (c *counters) Stats() Stats {
	return Stats{
		SendCalls: c.sendCalls.Load(), SentDatagrams: c.sent.Load(), SendErrors: c.sendErrors.Load(),
		RecvCalls: c.recvCalls.Load(), RecvDatagrams: c.received.Load(), Truncated: c.truncated.Load(),
		GSOFallbacks: c.fallbacks.Load(),
	}
}

// Options of [Listen]. The zero value is useful.
type Options struct {
	Sockets    int // on the same port; 0: one for each core (GOMAXPROCS)
	RecvBuffer int // bytes of the kernel's receive buffer for each socket; 0: 8 MiB, or what the system allows
	SendBuffer int // likewise; 0: 4 MiB

	// Fragment lets the network fragment datagrams. Usually they carry DF, and one that is larger than the device's MTU
	// fails with an error for which IsTooBig holds.
	Fragment bool
}

// Datagram is one that was received.
type Datagram struct {
	Data []byte         // may be changed in place; its capacity ends with it
	From netip.AddrPort // an IPv4 address in its 4-byte form
	To   netip.Addr     // the local address it was sent to; invalid where the system does not tell
}

// Batch holds what one Recv has received. Its datagrams are valid until the next Recv with it.
type Batch struct {
	Datagrams []Datagram

	buf []byte // slots of 64 KiB
	sys sysBatch
}

// NewBatch returns a batch with room for n messages of 64 KiB, each of which holds one datagram or many that the kernel
// has joined.
func NewBatch(n int) *Batch {
	n = max(n, 1)
	b := &Batch{buf: make([]byte, n*slot), Datagrams: make([]Datagram, 0, n*maxSegments)}
	b.sys.init(n, b.buf)
	return b
}

// Size returns how many bytes its datagrams have.
func (b *Batch) Size() (n int) {
	for i := range b.Datagrams {
		n += len(b.Datagrams[i].Data)
	}
	return n
}

// add notes the datagrams of seg bytes that lie end to end in data.
func (b *Batch) add(data []byte, seg int, from netip.AddrPort, to netip.Addr) {
	if seg <= 0 {
		seg = len(data)
	}
	for {
		n := min(seg, len(data))
		b.Datagrams = append(b.Datagrams, Datagram{Data: data[:n:n], From: from, To: to})
		data = data[n:]
		if len(data) == 0 {
			return
		}
	}
}

// IsTooBig reports whether a datagram was larger than the device takes (EMSGSIZE).
func IsTooBig(err error) bool { return errors.Is(err, syscall.EMSGSIZE) }

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// addrPort reads the address of a net.Addr that names one.
func addrPort(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case nil:
		return netip.AddrPort{}
	case *net.UDPAddr:
		return unmap(a.AddrPort())
	}
	ap, _ := netip.ParseAddrPort(a.String())
	return unmap(ap)
}
