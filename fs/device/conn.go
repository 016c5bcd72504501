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
	gone     atomic.Bool // the mount is no more

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
	return &Conn{
		cfg: cfg, fs: cfg.FS, fd: fd, helper: helper,
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
