package udpio

import (
	"encoding/binary"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// recvControl is the room for control data: UDP_GRO (an int) and IPV6_PKTINFO (20 bytes), each with its header.
const recvControl = 128

// sysBatch holds the headers of a recvmsg(2) or recvmmsg(2), pointing into the batch's own buffers.
type sysBatch struct {
	hdrs  []mmsghdr
	iovs  []unix.Iovec
	names []unix.RawSockaddrInet6 // the larger of the two
	ctls  [][recvControl]byte
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

func (s *sysBatch) init(n int, buf []byte) {
	s.hdrs = make([]mmsghdr, n)
	s.iovs = make([]unix.Iovec, n)
	s.names = make([]unix.RawSockaddrInet6, n)
	s.ctls = make([][recvControl]byte, n)
	for i := range n {
		s.iovs[i].Base = &buf[i*slot]
		s.iovs[i].SetLen(slot)
		h := &s.hdrs[i].hdr
		h.Iov = &s.iovs[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&s.names[i]))
		h.Control = &s.ctls[i][0]
	}
}

// reset restores what the kernel changes in the headers.
func (s *sysBatch) reset() {
	for i := range s.hdrs {
		h := &s.hdrs[i].hdr
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(recvControl)
		h.Flags = 0
	}
}

// receive makes the system call, without waiting, and returns how many messages it filled: recvmsg(2) where there is
// room for one, which is a little cheaper, else recvmmsg(2).
func (s *sysBatch) receive(fd uintptr) (n int, errno syscall.Errno) {
	if len(s.hdrs) > 1 {
		m, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&s.hdrs[0])), uintptr(len(s.hdrs)),
			unix.MSG_DONTWAIT, 0, 0)
		return int(m), errno
	}
	h := &s.hdrs[0]
	m, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&h.hdr)), unix.MSG_DONTWAIT)
	if errno != 0 {
		return 0, errno
	}
	h.len = uint32(m)
	return 1, 0
}

// receiver holds the state of the system call, so that calling it makes no closure each time.
type receiver struct {
	mu    sync.Mutex // a second receiver waits, instead of spoiling the first
	batch *Batch
	n     int
	errno syscall.Errno
	wait  func(fd uintptr) bool // for RawConn.Read
	try   func(fd uintptr)      // for RawConn.Control
}

func (r *receiver) init() {
	r.wait = func(fd uintptr) bool {
		r.try(fd)
		return r.errno != unix.EAGAIN // else the runtime waits until the socket is readable, and calls again
	}
	r.try = func(fd uintptr) {
		for {
			if r.n, r.errno = r.batch.sys.receive(fd); r.errno != unix.EINTR {
				return
			}
		}
	}
}

// Recv: see [Conn].
func (c *conn) Recv(b *Batch) error {
	_, err := c.receive(b, func() error { return c.raw.Read(c.recv.wait) })
	return err
}

// TryRecv: see [Conn].
func (c *conn) TryRecv(b *Batch) (bool, error) {
	return c.receive(b, func() error { return c.raw.Control(c.recv.try) })
}

func (c *conn) receive(b *Batch, call func() error) (bool, error) {
	r := &c.recv
	r.mu.Lock()
	defer r.mu.Unlock()
	b.Datagrams = b.Datagrams[:0]
	for len(b.Datagrams) == 0 {
		b.sys.reset()
		r.batch, r.n, r.errno = b, 0, 0
		err := call()
		r.batch = nil
		c.recvCalls.Add(1)
		if err != nil {
			return false, err
		}
		switch r.errno {
		case 0:
			c.collect(b, r.n)
		case unix.EAGAIN:
			return false, nil
		case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH:
			// An ICMP message about what was sent earlier, which anyone can forge.
		default:
			return false, os.NewSyscallError("recvmsg", r.errno)
		}
	}
	c.received.Add(uint64(len(b.Datagrams)))
	return true, nil
}

// collect notes the datagrams of the first n messages.
func (c *conn) collect(b *Batch, n int) {
	s := &b.sys
	for i := range n {
		h := &s.hdrs[i]
		if h.hdr.Flags&unix.MSG_TRUNC != 0 {
			c.truncated.Add(1)
			continue
		}
		if h.len == 0 {
			continue // an empty datagram means nothing to anyone here
		}
		seg, to := parseControl(s.ctls[i][:min(uint64(h.hdr.Controllen), recvControl)])
		if c.bound.IsValid() {
			to = c.bound
		}
		b.add(b.buf[i*slot:i*slot+int(h.len)], seg, sockaddr(&s.names[i]), to)
	}
}

// sockaddr reads an address that the kernel wrote.
func sockaddr(sa *unix.RawSockaddrInet6) netip.AddrPort {
	switch sa.Family {
	case unix.AF_INET:
		sa4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(sa4.Addr), bigEndian(sa4.Port))
	case unix.AF_INET6:
		a := netip.AddrFrom16(sa.Addr).Unmap()
		if sa.Scope_id != 0 && a.Is6() { // of a link-local address
			a = a.WithZone(strconv.Itoa(int(sa.Scope_id)))
		}
		return netip.AddrPortFrom(a, bigEndian(sa.Port))
	}
	return netip.AddrPort{}
}

// bigEndian reads a port as it stands in a sockaddr.
func bigEndian(port uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], port)
	return binary.BigEndian.Uint16(b[:])
}
