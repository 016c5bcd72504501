//go:build unix

package esp

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// writeNow writes as much of b as the kernel takes without waiting.
func writeNow(raw syscall.RawConn, b []byte) (n int, err error) {
	cerr := raw.Write(func(fd uintptr) bool {
		for n < len(b) {
			m, werr := unix.Write(int(fd), b[n:])
			if m > 0 {
				n += m
			}
			switch {
			case werr == unix.EINTR:
			case werr == unix.EAGAIN:
				return true
			case werr != nil:
				err = werr
				return true
			case m == 0:
				return true
			}
		}
		return true
	})
	if cerr != nil {
		err = cerr
	}
	return n, err
}
