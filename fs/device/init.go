package device

import (
	"fmt"
	"time"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"sharefs"
)

// Versions of the protocol (linux/fuse.h, FUSE_KERNEL_VERSION). The oldest one that is spoken came with Linux 5.4 and
// has all structures in the size that is used here.
const (
	protocolMajor    = 7
	protocolMinor    = 45
	minProtocolMinor = 31
)

// Requests that the kernel makes on its own account (readahead, RELEASE) and may have under way at once before it
// queues them by itself.
const (
	maxBackground       = 128
	congestionThreshold = 96
)

// initTimeout bounds the wait for the first request, which the kernel queues while it mounts.
const initTimeout = 30 * time.Second

// handshake reads INIT and answers it: version, sizes and the capabilities that both sides have.
func (c *Conn) handshake() error {
	fail := func(detail string, err error) error {
		return &sharefs.Error{Op: "mount", Path: c.cfg.Mountpoint, Detail: detail, Err: err}
	}
	buf := make([]byte, c.readSize())
	n, err := c.readInit(buf)
	if err != nil {
		return fail("no INIT from the kernel", err)
	}
	in := (*fuse.InitIn)(unsafe.Pointer(&buf[0]))
	if n < int(unsafe.Offsetof(in.Unused)) || in.Opcode != opInit {
		return fail(fmt.Sprintf("the first request is opcode %d of %d bytes, not INIT", in.Opcode, n), nil)
	}
	if in.Major != protocolMajor || in.Minor < minProtocolMinor {
		c.reply(&in.InHeader, fuse.EIO, nil)
		return fail(fmt.Sprintf("the kernel speaks FUSE %d.%d, this program 7.%d to 7.%d (Linux 5.4 or later)",
			in.Major, in.Minor, minProtocolMinor, protocolMinor), nil)
	}
	c.minor = min(in.Minor, protocolMinor)
	c.caps = in.Flags64() & c.cfg.Capabilities
	flags := c.caps
	if in.Flags&uint32(fuse.CAP_INIT_EXT&0xffffffff) != 0 {
		flags |= fuse.CAP_INIT_EXT
	} else {
		c.caps &= 0xffffffff
		flags = c.caps
	}
	out := fuse.InitOut{
		Major: protocolMajor, Minor: protocolMinor,
		MaxReadAhead: in.MaxReadAhead,
		Flags:        uint32(flags), Flags2: uint32(flags >> 32),
		MaxBackground: maxBackground, CongestionThreshold: congestionThreshold,
		MaxWrite: uint32(c.cfg.MaxWrite), MaxPages: uint16((c.cfg.MaxWrite-1)/unix.Getpagesize() + 1),
		TimeGran: 1,
	}
	if c.caps&fuse.CAP_PASSTHROUGH != 0 {
		out.MaxStackDepth = c.cfg.StackDepth
	}
	if st := c.reply(&in.InHeader, fuse.OK, unsafe.Slice((*byte)(unsafe.Pointer(&out)), unsafe.Sizeof(out))); st != 0 {
		return fail("the kernel refuses the answer to INIT", st)
	}
	return nil
}

func (c *Conn) readInit(buf []byte) (int, error) {
	deadline := time.Now().Add(initTimeout)
	for {
		n, err := unix.Read(c.fd, buf)
		switch err {
		case nil:
			return n, nil
		case unix.EINTR:
			continue
		case unix.EAGAIN:
		default:
			return 0, err
		}
		left := time.Until(deadline)
		if left <= 0 {
			return 0, unix.ETIMEDOUT
		}
		unix.Poll([]unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
	}
}
