package device

import (
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Bounds of the loop. The doc comment of the package tells what they are for.
const (
	maxPolling  = 50 * time.Microsecond // the longest a reader polls before it sleeps
	minPolling  = 6 * time.Microsecond  // below this it sleeps at once
	lostCPU     = 20 * time.Microsecond // a yield that took this long gave the CPU to somebody who needs it
	coolDown    = 4 * time.Millisecond  // no polling for that long then
	shareEvery  = time.Millisecond      // how long a polling goroutine keeps its processor from others
	pileUp      = 4                     // requests found waiting in a row before another reader is woken
	maxWorkers  = 256                   // requests under way at once
	keepParked  = 6                     // workers that are kept for later
	smallBuffer = 64 << 10              // reply buffers above this are given back when their worker parks
)

// worker is one goroutine that reads requests, handles them and replies.
type worker struct {
	c      *Conn
	in     []byte         // a request is read into it
	out    []byte         // the reply: header, structure, payload
	wake   chan bool      // parked here; false: end
	line   int            // requests found waiting in a row
	poll   [2]unix.PollFd // the device; what Abort makes readable
	shared time.Time      // when the goroutine last gave up its processor
}

// newWorker makes a worker, or takes one that has ended, for its buffers are large.
func newWorker(c *Conn) *worker {
	if w, ok := c.ended.Get().(*worker); ok {
		w.line = 0
		return w
	}
	return &worker{c: c, in: make([]byte, c.readSize()), out: make([]byte, 8<<10), wake: make(chan bool, 1)}
}

// work runs until the mount is gone.
func (c *Conn) work(w *worker) {
	defer c.workers.Done()
	defer c.ended.Put(w)
	for {
		n, waited, ok := w.next()
		if !ok {
			return
		}
		in := w.in[:n]
		left := c.readers.Add(-1)
		c.seq.Add(1)
		if !c.watching.Load() && c.watching.CompareAndSwap(false, true) {
			c.kick <- struct{}{}
		}
		op := opcodeOf(in)
		if w.line++; waited || handlers[op].async {
			w.line = 0
		}
		if left == 0 && (handlers[op].slow || w.line >= pileUp) {
			w.line = 0
			c.wakeOne()
		}
		w.handle(op, in)
		c.readers.Add(1)
	}
}

// next reads one request. waited is false where it was there already.
func (w *worker) next() (n int, waited, ok bool) {
	c := w.c
	var began time.Time // when the polling began
	for {
		// Not through the scheduler's bookkeeping (syscall.Syscall): the call never sleeps.
		r, _, errno := syscall.RawSyscall(unix.SYS_READ, uintptr(c.fd), uintptr(unsafe.Pointer(&w.in[0])), uintptr(len(w.in)))
		if c.aborted.Load() {
			errno = unix.ECONNABORTED
		}
		switch errno {
		case 0:
			return int(r), waited, true
		case unix.EAGAIN:
		case unix.EINTR, unix.ENOENT: // ENOENT: the request was withdrawn while it was read
			continue
		case unix.ENOMEM: // the kernel has failed that one request
			time.Sleep(time.Millisecond)
			continue
		default:
			if errno != unix.ENODEV && errno != unix.ECONNABORTED {
				c.cfg.Log.Error("reading from /dev/fuse failed; the mount ends", "error", errno)
			}
			c.leaveAll()
			return 0, waited, false
		}
		waited = true
		if c.leave() {
			if !w.park() {
				return 0, waited, false
			}
			began = time.Time{}
			continue
		}
		now := time.Now()
		if began.IsZero() {
			began = now
		}
		if limit := c.patience.limit(); limit > 0 && now.Sub(began) < limit {
			syscall.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
			if lost := time.Since(now); lost > lostCPU {
				c.patience.lost()
			}
			if now.Sub(w.shared) > shareEvery {
				runtime.Gosched()
				w.shared = now
			}
			continue
		}
		w.poll[0] = unix.PollFd{Fd: int32(c.fd), Events: unix.POLLIN}
		w.poll[1] = unix.PollFd{Fd: int32(c.abortFD), Events: unix.POLLIN}
		if n, _ := unix.Poll(w.poll[:], -1); n > 0 {
			c.patience.slept(time.Since(now))
		}
		began = time.Time{}
	}
}

// leave takes the caller out of the readers if another is among them.
func (c *Conn) leave() bool {
	for {
		n := c.readers.Load()
		if n <= 1 {
			return false
		}
		if c.readers.CompareAndSwap(n, n-1) {
			return true
		}
	}
}

// park waits until the worker is needed again and reports whether it is: false ends it.
func (w *worker) park() bool {
	c := w.c
	if cap(w.out) > smallBuffer {
		w.out = make([]byte, 8<<10)
	}
	c.mu.Lock()
	if c.gone.Load() || len(c.idle) >= keepParked {
		c.all--
		c.mu.Unlock()
		return false
	}
	c.idle = append(c.idle, w)
	c.mu.Unlock()
	return <-w.wake
}

// wakeOne adds a reader: a parked worker or a new one.
func (c *Conn) wakeOne() {
	c.mu.Lock()
	var w *worker
	if n := len(c.idle); n > 0 {
		w, c.idle = c.idle[n-1], c.idle[:n-1]
	} else if c.gone.Load() || c.all >= maxWorkers {
		c.mu.Unlock()
		return
	} else {
		c.all++
		c.workers.Add(1)
	}
	c.readers.Add(1)
	c.mu.Unlock()
	if w != nil {
		w.wake <- true
		return
	}
	go c.work(newWorker(c))
}

// leaveAll ends the workers that are parked; those at work find out by themselves.
func (c *Conn) leaveAll() {
	c.mu.Lock()
	c.gone.Store(true)
	idle := c.idle
	c.idle = nil
	c.mu.Unlock()
	for _, w := range idle {
		w.wake <- false
	}
	// The watchdog ends too.
	if c.watching.CompareAndSwap(false, true) {
		c.kick <- struct{}{}
	}
}

// watch is the watchdog: while requests come it looks every millisecond whether one is being handled with nobody
// reading.
func (c *Conn) watch() {
	const tick, calm = time.Millisecond, 20
	for range c.kick {
		last, quiet := c.seq.Load(), 0
		for {
			time.Sleep(tick)
			if c.gone.Load() {
				return
			}
			now := c.seq.Load()
			if now != last {
				last, quiet = now, 0
				continue
			}
			stuck := c.readers.Load() == 0
			if stuck {
				c.wakeOne()
			}
			if quiet++; quiet < calm || stuck {
				continue
			}
			c.watching.Store(false)
			// A request that came before this line may have seen that somebody watches.
			if c.seq.Load() == last || !c.watching.CompareAndSwap(false, true) {
				break
			}
		}
	}
}

// patience decides for how long to poll. Readers share it without a lock; a lost update only costs one decision.
type patience struct {
	polling atomic.Int64 // nanoseconds; 0: sleep at once
	cool    atomic.Int64 // no polling before this time, nanoseconds since start
}

var start = time.Now()

func (p *patience) limit() time.Duration { return time.Duration(p.polling.Load()) }

// slept tells how long a reader slept until a request came.
func (p *patience) slept(d time.Duration) {
	switch {
	case d < maxPolling:
		if int64(time.Since(start)) >= p.cool.Load() {
			p.polling.Store(int64(maxPolling))
		}
	default:
		n := p.polling.Load() / 2
		if n < int64(minPolling) {
			n = 0
		}
		p.polling.Store(n)
	}
}

// lost tells that somebody else took the CPU in a yield.
func (p *patience) lost() {
	p.polling.Store(0)
	p.cool.Store(int64(time.Since(start) + coolDown))
}
