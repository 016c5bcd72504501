package udpio

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// conn is a UDP socket of Linux with segmentation offload where the kernel has it.
type conn struct {
	*net.UDPConn
	counters
	raw   syscall.RawConn
	local netip.AddrPort
	bound netip.Addr // the one address of the socket; invalid where it has all
	is6   bool       // an AF_INET6 socket; it may carry IPv4 too
	gso   bool

	write func(b, oob []byte, to netip.AddrPort) (n, oobn int, err error) // replaced in tests

	oob atomic.Pointer[sendControl] // of the last Send: the next mostly wants the same

	offAny atomic.Bool
	offMu  sync.Mutex
	off    map[netip.Addr]struct{} // guarded by offMu: destinations without segmentation

	recv receiver // of the one goroutine that receives
}

// maxOff bounds the memory of destinations that refuse segmentation. They share a device, so few are the usual case.
const maxOff = 1024

func newConn(u *net.UDPConn, opt Options) (Conn, error) {
	raw, err := u.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &conn{UDPConn: u, raw: raw, local: addrPort(u.LocalAddr())}
	c.write = func(b, oob []byte, to netip.AddrPort) (n, oobn int, err error) {
		if len(oob) == 0 { // sendto(2) is a little cheaper than sendmsg(2)
			n, err = u.WriteToUDPAddrPort(b, to)
			return n, 0, err
		}
		return u.WriteMsgUDPAddrPort(b, oob, to)
	}
	if a := c.local.Addr(); !a.IsUnspecified() {
		c.bound = a
	}
	c.recv.init()
	err = raw.Control(func(fd uintptr) { c.setOptions(int(fd), opt) })
	return c, err
}

// setOptions asks for all that makes the socket fast. What the kernel refuses it does without.
func (c *conn) setOptions(fd int, opt Options) {
	if domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err == nil {
		c.is6 = domain == unix.AF_INET6
	}
	// The forcing kind passes net.core.rmem_max, and needs CAP_NET_ADMIN.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, opt.RecvBuffer) != nil {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, opt.RecvBuffer)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, opt.SendBuffer) != nil {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, opt.SendBuffer)
	}
	// PROBE sets DF and ignores the kernel's own idea of the path MTU: discovery is done above (RFC 8899, section 4.5).
	df4, df6 := unix.IP_PMTUDISC_PROBE, unix.IPV6_PMTUDISC_PROBE
	if opt.Fragment {
		df4, df6 = unix.IP_PMTUDISC_DONT, unix.IPV6_PMTUDISC_DONT
	}
	unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, df4) // counts for IPv4 over an AF_INET6 socket too
	if c.is6 {
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, df6)
	}
	switch {
	case c.bound.IsValid(): // it is known what address a datagram was sent to
	case c.is6:
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	default:
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	}
	_, err := unix.GetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT)
	c.gso = err == nil
	unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1)
}

func (c *conn) LocalAddr() netip.AddrPort { return c.local }

func (c *conn) MaxSegments(to netip.AddrPort, seg int) int {
	if seg <= 0 || !c.gso || c.isOff(to.Addr()) {
		return 1
	}
	return max(1, min(maxSegments, MaxDatagram/seg))
}

func (c *conn) isOff(to netip.Addr) bool {
	if !c.offAny.Load() {
		return false
	}
	c.offMu.Lock()
	_, off := c.off[to]
	c.offMu.Unlock()
	return off
}

func (c *conn) setOff(to netip.Addr) {
	c.offMu.Lock()
	defer c.offMu.Unlock()
	if c.off == nil || len(c.off) >= maxOff {
		c.off = make(map[netip.Addr]struct{})
	}
	c.off[to] = struct{}{}
	c.offAny.Store(true)
}

// Send: see [Conn].
func (c *conn) Send(to netip.AddrPort, from netip.Addr, buf []byte, seg int) error {
	switch {
	case len(buf) <= seg:
		return c.sendOne(to, from, buf, 0)
	case seg <= 0 || seg > MaxDatagram:
		return c.failed(to, syscall.EINVAL)
	case !c.gso || c.isOff(to.Addr()):
		return c.sendEach(to, from, buf, seg)
	}
	err := c.sendOne(to, from, buf, seg)
	if !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.EINVAL) {
		return err
	}
	// EIO: the device cannot do it. EINVAL: the same, or seg passes the MTU, or there are too many segments. If the
	// datagrams go one by one, segmentation was what was wrong.
	c.fallbacks.Add(1)
	if err := c.sendEach(to, from, buf, seg); err != nil {
		return err
	}
	c.setOff(to.Addr())
	return nil
}

func (c *conn) sendEach(to netip.AddrPort, from netip.Addr, buf []byte, seg int) error {
	for len(buf) > 0 {
		n := min(seg, len(buf))
		if err := c.sendOne(to, from, buf[:n], 0); err != nil {
			return err
		}
		buf = buf[n:]
	}
	return nil
}

// sendOne makes one system call; seg is 0 for a single datagram.
func (c *conn) sendOne(to netip.AddrPort, from netip.Addr, buf []byte, seg int) error {
	var oob []byte
	if from == c.bound {
		from = netip.Addr{} // it has no other one
	}
	if seg > 0 || from.IsValid() {
		ctl := c.oob.Load()
		if ctl == nil || ctl.seg != seg || ctl.from != from {
			ctl = newSendControl(from, seg, c.is6)
			c.oob.Store(ctl)
		}
		oob = ctl.oob
	}
	c.sendCalls.Add(1)
	if _, _, err := c.write(buf, oob, to); err != nil {
		c.sendErrors.Add(1)
		return err
	}
	if seg == 0 {
		c.sent.Add(1)
	} else {
		c.sent.Add(uint64((len(buf) + seg - 1) / seg))
	}
	return nil
}

func (c *conn) failed(to netip.AddrPort, err error) error {
	c.sendErrors.Add(1)
	return &net.OpError{Op: "write", Net: "udp", Source: c.UDPConn.LocalAddr(), Addr: net.UDPAddrFromAddrPort(to), Err: err}
}
