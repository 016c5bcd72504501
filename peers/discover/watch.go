package discover

import (
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

// quiet is how long there must be no further change before one is told.
const quiet = 300 * time.Millisecond

// WatchNetwork calls changed after each change, from one goroutine. The caller must Close it.
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
	w := &Watch{f: os.NewFile(uintptr(fd), "rtnetlink")}
	w.wg.Go(func() {
		b := make([]byte, 64<<10)
		for {
			// What changed is looked up anew, so what it says does not matter, nor that some of it was lost (ENOBUFS).
			if _, err := w.f.Read(b); err != nil && !lost(err) {
				return
			}
			for { // until it is quiet
				if err := w.f.SetReadDeadline(time.Now().Add(quiet)); err != nil {
					return
				}
				if _, err := w.f.Read(b); err != nil && !lost(err) {
					break
				}
			}
			if err := w.f.SetReadDeadline(time.Time{}); err != nil {
				return
			}
			changed()
		}
	})
	return w, nil
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
