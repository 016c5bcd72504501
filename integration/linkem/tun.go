//go:build linux

package linkem

import (
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// openTUN makes a TUN device in the namespace of the calling thread, with an address, and sets it up. One that takes joined packets has them begin with a header (offload.go).
func openTUN(name string, prefix netip.Prefix, mtu int, joined bool) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("open /dev/net/tun", err)
	}
	fail := func(what string, err error) (*os.File, error) {
		unix.Close(fd)
		return nil, fmt.Errorf("%s of %s: %w", what, name, err)
	}
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return fail("name", err)
	}
	flags := uint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if joined {
		flags |= unix.IFF_VNET_HDR
	}
	ifr.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return fail("TUNSETIFF", err)
	}
	if joined {
		if err := takeJoined(fd); err != nil {
			return fail("TUNSETOFFLOAD", err)
		}
	}
	if err := configure(name, prefix, mtu); err != nil {
		return fail("configuration", err)
	}
	return os.NewFile(uintptr(fd), name), nil // it is non-blocking: reads wait in the runtime's poller
}

// queuePackets is how many packets may wait in a device for the forwarder to read them; the queue that matters is the
// shaper's.
const queuePackets = 10000

// configure sets address, netmask, MTU and queue of a device, and then the device up.
func configure(name string, prefix netip.Prefix, mtu int) error {
	steps := []struct {
		what string
		req  uint
		set  func(*unix.Ifreq) error
	}{
		{"address", unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(prefix.Addr().AsSlice()) }},
		{"netmask", unix.SIOCSIFNETMASK, func(r *unix.Ifreq) error {
			m := ^uint32(0) << (32 - prefix.Bits())
			return r.SetInet4Addr([]byte{byte(m >> 24), byte(m >> 16), byte(m >> 8), byte(m)})
		}},
		{"MTU", unix.SIOCSIFMTU, func(r *unix.Ifreq) error { r.SetUint32(uint32(mtu)); return nil }},
		{"queue", unix.SIOCSIFTXQLEN, func(r *unix.Ifreq) error { r.SetUint32(queuePackets); return nil }},
	}
	for _, s := range steps {
		if err := ioctl(name, s.req, s.set); err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
	}
	return setUp(name)
}

// setUp sets a device up.
func setUp(name string) error {
	return ioctl(name, unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error {
		r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		return nil
	})
}

// ioctl makes one request about a device of the calling thread's namespace (netdevice(7)).
func ioctl(name string, req uint, set func(*unix.Ifreq) error) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := set(ifr); err != nil {
		return err
	}
	return unix.IoctlIfreq(fd, req, ifr)
}
