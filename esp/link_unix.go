//go:build unix

package esp

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// nowWriter writes what the kernel takes without waiting. One goroutine at a time uses it.
type nowWriter struct {
	raw syscall.RawConn
	fn  func(fd uintptr) bool // w.try, kept so that a write allocates nothing
	b   []byte
	n   int
	err error
}

func newNowWriter(raw syscall.RawConn) *nowWriter {
	w := &nowWriter{raw: raw}
	w.fn = w.try
	return w
}

// write returns how many bytes of b the kernel took.
func (w *nowWriter) write(b []byte) (n int, err error) {
	w.b, w.n, w.err = b, 0, nil
	if err := w.raw.Write(w.fn); err != nil {
		return w.n, err
	}
	w.b = nil
	return w.n, w.err
}

// try always returns true, so that the runtime does not wait for the descriptor.
func (w *nowWriter) try(fd uintptr) bool {
	for w.n < len(w.b) {
		m, err := unix.Write(int(fd), w.b[w.n:])
		if m > 0 {
			w.n += m
		}
		switch err {
		case nil:
			if m == 0 {
				return true
			}
		case unix.EINTR:
		case unix.EAGAIN:
			return true
		default:
			w.err = err
			return true
		}
	}
	return true
}
