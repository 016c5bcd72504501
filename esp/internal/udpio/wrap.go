package udpio

import (
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
)

// Wrap makes a Conn of any net.PacketConn whose addresses are IP addresses with ports. It moves one datagram a call.
func Wrap(c net.PacketConn) Conn { return &wrapped{PacketConn: c, local: addrPort(c.LocalAddr())} }

type wrapped struct {
	net.PacketConn
	counters
	local netip.AddrPort
	last  atomic.Pointer[net.UDPAddr] // of the last Send, to spare making it again
}

// SyscallConn gives access to the socket, where there is one.
func (w *wrapped) SyscallConn() (syscall.RawConn, error) {
	if c, ok := w.PacketConn.(syscall.Conn); ok {
		return c.SyscallConn()
	}
	return nil, syscall.EOPNOTSUPP
}

func (w *wrapped) LocalAddr() netip.AddrPort                  { return w.local }
func (w *wrapped) MaxSegments(to netip.AddrPort, seg int) int { return 1 }

func (w *wrapped) TryRecv(b *Batch) (bool, error) {
	b.Datagrams = b.Datagrams[:0]
	return false, nil
}

func (w *wrapped) Recv(b *Batch) error {
	b.Datagrams = b.Datagrams[:0]
	for len(b.Datagrams) == 0 {
		n, from, err := w.ReadFrom(b.buf[:slot])
		w.recvCalls.Add(1)
		if err != nil {
			return err
		}
		if n > 0 {
			b.add(b.buf[:n], n, addrPort(from), netip.Addr{})
		}
	}
	w.received.Add(1)
	return nil
}

func (w *wrapped) Send(to netip.AddrPort, _ netip.Addr, buf []byte, seg int) error {
	addr := w.last.Load()
	if addr == nil || addr.AddrPort() != to {
		addr = net.UDPAddrFromAddrPort(to)
		w.last.Store(addr)
	}
	for len(buf) > 0 {
		n := min(seg, len(buf))
		w.sendCalls.Add(1)
		if _, err := w.WriteTo(buf[:n], addr); err != nil {
			w.sendErrors.Add(1)
			return err
		}
		w.sent.Add(1)
		buf = buf[n:]
	}
	return nil
}
