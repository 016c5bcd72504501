package posix

import (
	"golang.org/x/sys/unix"
)

func init() {
	goCases = append(goCases,
		Case{"lock/flock", false, flocks},
		Case{"lock/flock waits", false, flockWaits},
		Case{"lock/flock goes with the last descriptor", false, flockDup},
		Case{"lock/open file description locks by range", false, ofdLocks},
		Case{"lock/a waiting record lock", false, ofdWaits},
		Case{"lock/process locks", false, processLocks},
		Case{"lock/process locks go with any close", false, processLockClose},
	)
}

// two opens a new file twice.
func (c *C) two() (a, b int, done func()) {
	a = c.openC("f", unix.O_RDWR|unix.O_CREAT, 0o644)
	b = c.openC("f", unix.O_RDWR, 0)
	return a, b, func() { unix.Close(a); unix.Close(b) }
}

func flock(fd, how int) error {
	for {
		if err := unix.Flock(fd, how); err != unix.EINTR {
			return err
		}
	}
}

func flocks(c *C) {
	a, b, done := c.two()
	defer done()
	c.Must(flock(a, unix.LOCK_SH))
	c.Must(flock(b, unix.LOCK_SH|unix.LOCK_NB))
	c.Want("exclusive beside shared", flock(a, unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
	c.Must(flock(b, unix.LOCK_UN))
	c.Must(flock(a, unix.LOCK_EX|unix.LOCK_NB))
	c.Want("shared beside exclusive", flock(b, unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
	c.Must(flock(a, unix.LOCK_UN))
	c.Must(flock(b, unix.LOCK_EX|unix.LOCK_NB))
}

func flockWaits(c *C) {
	a, b, done := c.two()
	defer done()
	c.Must(flock(a, unix.LOCK_EX))
	got := make(chan error, 1)
	go func() { got <- flock(b, unix.LOCK_EX) }()
	select {
	case err := <-got:
		c.Fatalf("did not wait: %v", err)
	default:
	}
	c.Must(flock(a, unix.LOCK_UN))
	c.Must(<-got)
	c.Want("held by the other", flock(a, unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
}

func flockDup(c *C) {
	a, b, done := c.two()
	defer done()
	d, err := unix.FcntlInt(uintptr(a), unix.F_DUPFD_CLOEXEC, 0)
	c.Must(err)
	c.Must(flock(a, unix.LOCK_EX))
	unix.Close(a)
	c.Want("a duplicate still holds it", flock(b, unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
	unix.Close(d)
	c.Must(flock(b, unix.LOCK_EX|unix.LOCK_NB))
}

func record(typ int16, from, n int64) *unix.Flock_t {
	return &unix.Flock_t{Type: typ, Whence: unix.SEEK_SET, Start: from, Len: n}
}

func setlk(fd, cmd int, l *unix.Flock_t) error {
	for {
		if err := unix.FcntlFlock(uintptr(fd), cmd, l); err != unix.EINTR {
			return err
		}
	}
}

func ofdLocks(c *C) {
	a, b, done := c.two()
	defer done()
	set := func(fd int, typ int16, from, n int64) error { return setlk(fd, unix.F_OFD_SETLK, record(typ, from, n)) }
	c.Must(set(a, unix.F_WRLCK, 0, 100))
	c.Must(set(b, unix.F_WRLCK, 100, 100))
	c.Want("overlap", set(b, unix.F_RDLCK, 99, 1), unix.EAGAIN)
	l := record(unix.F_WRLCK, 50, 100)
	c.Must(setlk(b, unix.F_OFD_GETLK, l))
	c.Want("who holds it", [4]int64{int64(l.Type), l.Start, l.Len, int64(l.Pid)}, [4]int64{unix.F_WRLCK, 0, 100, -1})
	// A hole in the middle splits it.
	c.Must(set(a, unix.F_UNLCK, 40, 20))
	c.Must(set(b, unix.F_WRLCK, 40, 20))
	c.Want("left part", set(b, unix.F_WRLCK, 39, 1), unix.EAGAIN)
	c.Want("right part", set(b, unix.F_WRLCK, 60, 1), unix.EAGAIN)
	// Of two readers none is in the way of the other.
	c.Must(set(a, unix.F_RDLCK, 1000, 0))
	c.Must(set(b, unix.F_RDLCK, 2000, 10))
	c.Want("upgrade beside a reader", set(b, unix.F_WRLCK, 2000, 10), unix.EAGAIN)
	l = record(unix.F_WRLCK, 300, 100)
	c.Must(setlk(b, unix.F_OFD_GETLK, l))
	c.Want("nobody", l.Type, unix.F_UNLCK)
	ro := c.openC("f", unix.O_RDONLY, 0)
	defer unix.Close(ro)
	c.Want("a writer's lock by a reader", set(ro, unix.F_WRLCK, 5000, 1), unix.EBADF)
}

func ofdWaits(c *C) {
	a, b, done := c.two()
	defer done()
	c.Must(setlk(a, unix.F_OFD_SETLK, record(unix.F_WRLCK, 0, 10)))
	got := make(chan error, 1)
	go func() { got <- setlk(b, unix.F_OFD_SETLKW, record(unix.F_WRLCK, 5, 10)) }()
	select {
	case err := <-got:
		c.Fatalf("did not wait: %v", err)
	default:
	}
	c.Must(setlk(a, unix.F_OFD_SETLK, record(unix.F_UNLCK, 0, 10)))
	c.Must(<-got)
	c.Want("held by the other", setlk(a, unix.F_OFD_SETLK, record(unix.F_WRLCK, 14, 1)), unix.EAGAIN)
}

func processLocks(c *C) {
	a, b, done := c.two()
	defer done()
	c.Must(setlk(a, unix.F_SETLK, record(unix.F_WRLCK, 10, 20)))
	// The process is never in its own way, but a description's lock is another owner's.
	c.Must(setlk(b, unix.F_SETLK, record(unix.F_WRLCK, 10, 20)))
	c.Want("a description's lock", setlk(b, unix.F_OFD_SETLK, record(unix.F_WRLCK, 15, 1)), unix.EAGAIN)
	l := record(unix.F_RDLCK, 0, 0)
	c.Must(setlk(b, unix.F_OFD_GETLK, l))
	c.Want("who holds it", [4]int64{int64(l.Type), l.Start, l.Len, int64(l.Pid)}, [4]int64{unix.F_WRLCK, 10, 20, int64(unix.Getpid())})
	c.Must(setlk(a, unix.F_SETLK, record(unix.F_UNLCK, 0, 0)))
	c.Must(setlk(b, unix.F_OFD_SETLK, record(unix.F_WRLCK, 15, 1)))
}

func processLockClose(c *C) {
	a, b, done := c.two()
	defer done()
	c.Must(setlk(a, unix.F_SETLK, record(unix.F_WRLCK, 0, 10)))
	other := c.openC("f", unix.O_RDONLY, 0)
	c.Want("before", setlk(b, unix.F_OFD_SETLK, record(unix.F_WRLCK, 0, 1)), unix.EAGAIN)
	unix.Close(other)
	c.Must(setlk(b, unix.F_OFD_SETLK, record(unix.F_WRLCK, 0, 1)))
}
