package discover

import (
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Watch tells when addresses or interfaces of this machine come and go, by rtnetlink(7).
type Watch struct {
	f  *os.File
	wg sync.WaitGroup
}

// There must be no further message for quiet before a change is told, but it is told after longest at the latest: some drivers never cease.
const (
	quiet   = 300 * time.Millisecond
	longest = time.Second
)

// WatchNetwork calls changed when addresses or interfaces are others than before, from one goroutine: most messages of rtnetlink, as about the
// lifetime of an address or the signal of a radio, change neither. The caller must Close it.
func WatchNetwork(changed func()) (*Watch, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	groups := uint32(unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return watch(os.NewFile(uintptr(fd), "rtnetlink"), network, changed), nil
}

// watch reads messages from f, and asks network after each whether they mean anything.
func watch(f *os.File, network func() string, changed func()) *Watch {
	w := &Watch{f: f}
	known := network()
	w.wg.Go(func() {
		b := make([]byte, 64<<10)
		for {
			// What changed is looked up anew, so what it says does not matter, nor that some of it was lost (ENOBUFS).
			if _, err := f.Read(b); err != nil && !lost(err) {
				return
			}
			for begun := time.Now(); time.Since(begun) < longest; {
				if err := f.SetReadDeadline(time.Now().Add(quiet)); err != nil {
					return
				}
				if _, err := f.Read(b); err != nil && !lost(err) {
					break
				}
			}
			if err := f.SetReadDeadline(time.Time{}); err != nil {
				return
			}
			if now := network(); now != known {
				known = now
				changed()
			}
		}
	})
	return w
}

// network is the interfaces and addresses of this machine, so that two of them can be compared.
func network() string {
	ifaces, ierr := net.Interfaces()
	addrs, aerr := net.InterfaceAddrs()
	return fmt.Sprint(ifaces, ierr, addrs, aerr)
}

func lost(err error) bool {
	pe, ok := err.(*os.PathError)
	return ok && pe.Err == unix.ENOBUFS
}

// Close ends it. No call of changed is under way when it returns.
func (w *Watch) Close() {
	w.f.Close()
	w.wg.Wait()
}
