package mountinfo

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// Watch has the table of mounts, which it reads anew when the kernel says that it has changed (poll(2) on /proc/self/mountinfo: POLLPRI, proc_pid_mounts(5)), and once a second at most where
// it says nothing, as of options that were changed on a filesystem and not on a mount of it. The zero value is ready; its methods may be called by several goroutines.
type Watch struct {
	mu    sync.Mutex // guards what follows
	f     *os.File
	table []Mount
	read  time.Time
}

// fresh is for how long a table counts of which the kernel says nothing.
const fresh = time.Second

// Table lists the mounts as they are now. It must not be changed. It errors as Read does.
func (w *Watch) Table() ([]Mount, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.f == nil {
		f, err := os.Open("/proc/self/mountinfo")
		if err != nil {
			return nil, &sharefs.Error{Op: "read the table of mounts", Kind: sharefs.KindOf(err), Err: err}
		}
		w.f, w.table = f, nil
	}
	if !w.changed() && w.table != nil && time.Since(w.read) < fresh {
		return w.table, nil
	}
	now := time.Now()
	// What changes while it is read is said the next time.
	table, err := Read()
	if err != nil {
		return nil, err
	}
	w.table, w.read = table, now
	return table, nil
}

// changed reports whether the table has changed since it was asked last. w.mu is held.
func (w *Watch) changed() bool {
	fds := []unix.PollFd{{Fd: int32(w.f.Fd()), Events: unix.POLLPRI}}
	n, err := unix.Poll(fds, 0)
	return err != nil || n > 0
}

// Close ends it. It may be used again.
func (w *Watch) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.f != nil {
		_ = w.f.Close()
		w.f, w.table = nil, nil
	}
}
