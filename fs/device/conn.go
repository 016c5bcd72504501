package device

import (
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"sharefs"
)

// Conn is one mount's connection to the kernel.
type Conn struct {
	cfg    Config
	fs     fuse.RawFileSystem
	fd     int // of /dev/fuse, non-blocking
	helper bool
	minor  uint32 // of the protocol in use
	caps   uint64

	counts [opCount]atomic.Uint64
	done   chan struct{} // closed when the last worker has ended

	// Of the reader loop (loop.go, watch.go).
	readers  atomic.Int32 // workers that read, or have been woken to
	seq      atomic.Uint64
	watching atomic.Bool
	kick     chan struct{}
	patience patience
	workers  sync.WaitGroup
	ended    sync.Pool   // of *worker
	gone     atomic.Bool // the mount is no more
	aborted  atomic.Bool // by Abort: nothing is read any more
	abortFD  int         // an eventfd, readable then

	mu   sync.Mutex // guards what follows; held for a few instructions
	idle []*worker  // parked, latest last
	all  int        // workers alive

	interruptMu sync.Mutex
	interrupts  map[uint64]chan struct{} // interruptible requests by their unique id

	closeMu sync.RWMutex // read: fd may be used from outside the workers
	closed  bool
}

func newConn(cfg Config, fd int, helper bool) *Conn {
	unix.SetNonblock(fd, true)
	unix.CloseOnExec(fd)
	abortFD, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		abortFD = -1 // poll(2) passes over it; Abort then takes effect with the next request
	}
	return &Conn{
		cfg: cfg, fs: cfg.FS, fd: fd, helper: helper, abortFD: abortFD,
		done: make(chan struct{}), kick: make(chan struct{}, 1), interrupts: make(map[uint64]chan struct{}),
	}
}

// Serve starts to answer requests and returns at once.
func (c *Conn) Serve() {
	c.workers.Add(1)
	c.readers.Add(1)
	c.all = 1
	go c.work(newWorker(c))
	go c.watch()
	go func() {
		c.workers.Wait()
		c.closeMu.Lock()
		c.closed = true
		c.closeMu.Unlock()
		unix.Close(c.fd)
		unix.Close(c.abortFD)
		c.fs.OnUnmount()
		close(c.done)
	}()
}

// Done is closed when the mount is gone, by whomever, and the last request has been answered.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Unmount detaches the mount; requests under way end first. A mount that is in use gives an [sharefs.Error] of
// [sharefs.KindBusy].
func (c *Conn) Unmount() error {
	select {
	case <-c.done:
		return nil
	default:
	}
	err := unmount(c.cfg.Mountpoint, c.helper)
	if err != nil && c.gone.Load() && !errors.Is(err, sharefs.KindBusy) {
		return nil // somebody else was faster
	}
	return err
}

// Abort ends the connection from this side, whatever programs have open in the mount: from now on they get ENOTCONN. Requests under way
// finish, their replies go nowhere. The mount point stays as a dead mount unless it was detached before.
func (c *Conn) Abort() error {
	return c.use(func(fd int) error {
		null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return &sharefs.Error{Op: "abort", Path: c.cfg.Mountpoint, Kind: sharefs.KindOf(err), Err: err}
		}
		defer unix.Close(null)
		c.aborted.Store(true)
		// The kernel ends the connection with the last reference to the device; a plain close would free the number of a descriptor
		// that workers are using.
		if err := unix.Dup3(null, fd, unix.O_CLOEXEC); err != nil {
			return &sharefs.Error{Op: "abort", Path: c.cfg.Mountpoint, Kind: sharefs.KindOf(err), Err: err}
		}
		_, _ = unix.Write(c.abortFD, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // a sleeping reader holds such a reference
		return nil
	})
}

// Capabilities are those fuse.CAP_* that were asked for and granted.
func (c *Conn) Capabilities() uint64 { return c.caps }

// Minor is the minor version of the protocol in use.
func (c *Conn) Minor() uint32 { return c.minor }

// Counts tells how many requests of each opcode have come, by the opcode's name; those that never came are left out.
func (c *Conn) Counts() map[string]uint64 {
	m := make(map[string]uint64, 32)
	for op := range c.counts {
		if n := c.counts[op].Load(); n > 0 {
			m[opName(uint32(op))] += n
		}
	}
	return m
}

// readSize is what the kernel demands of a buffer for requests: room for the largest WRITE.
func (c *Conn) readSize() int { return c.cfg.MaxWrite + 4096 }

// errGone says that the mount is no more.
var errGone = unix.ENODEV

// use runs fn with the device unless it is closed already.
func (c *Conn) use(fn func(fd int) error) error {
	c.closeMu.RLock()
	defer c.closeMu.RUnlock()
	if c.closed {
		return errGone
	}
	return fn(c.fd)
}

// reply writes an answer outside a worker's buffer.
func (c *Conn) reply(in *fuse.InHeader, st fuse.Status, body []byte) syscall.Errno {
	out := make([]byte, sizeOutHeader, sizeOutHeader+len(body))
	h := (*fuse.OutHeader)(unsafe.Pointer(&out[0]))
	if st == fuse.OK {
		out = append(out, body...)
	}
	h.Unique, h.Status, h.Length = in.Unique, -int32(st), uint32(len(out))
	_, _, errno := syscall.Syscall(unix.SYS_WRITE, uintptr(c.fd), uintptr(unsafe.Pointer(&out[0])), uintptr(len(out)))
	return errno
}

const sizeOutHeader = int(unsafe.Sizeof(fuse.OutHeader{}))
