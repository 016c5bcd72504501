package esp

import (
	"sync/atomic"
	"time"
)

// Who receives. At any time one goroutine at most has the reader role of a socket or link, and there are two kinds
// that take it:
//
//	the background reader    one for each socket and link. It has the role at the beginning, and gets it back whenever nobody else wants it
//	a leader                 a Read or Write that would have to wait anyway: it receives by itself until what it waits for has come, serving
//	                         all other sessions and streams on the way
//
// With a leader, a packet for a waiting Read costs no wake-up of another goroutine, as with a kernel socket. The
// background reader hands the role on when a batch has woken the only goroutine that waits on its socket: that one
// will be back soon. A leader that has what it wants leaves the role free for its next call; when it does not come
// back for a tick or two, a watchdog gives the role to the background reader again, so packets never wait longer than
// that. With several waiting goroutines the background reader keeps the role.
type role struct {
	r receiver

	state   atomic.Int32 // roleBackground, roleFree or roleLed
	inRecv  atomic.Bool  // the holder waits in recv, or is about to
	waiters atomic.Int32 // goroutines that wait for packets of this socket without receiving
	woken   atomic.Int32 // of those, how many were poked since the background reader looked
	leads   atomic.Uint32
	armed   atomic.Bool   // the watchdog is set
	bg      chan struct{} // wakes the background reader, which finds itself in the role; capacity 1

	timer *time.Timer // the watchdog's
	seen  uint32      // owned by the watchdog

	// Owned by who holds the role.
	fatal error // receiving is over
}

// receiver is a socket or link as its role sees it.
type receiver interface {
	recv() error // waits for packets and keeps them; a timeout means that it was kicked, any other error is final
	handle()     // hands on what recv has kept
	kick()       // makes recv return with a timeout, now or when it is called next
	unkick()     // makes recv wait again
}

const (
	roleBackground = iota
	roleFree
	roleLed

	watchTick  = time.Millisecond
	maxPenalty = 1024 // batches for which a role that was handed over in vain is kept
)

func newRole(r receiver) *role {
	ro := &role{r: r, bg: make(chan struct{}, 1)}
	ro.timer = time.AfterFunc(time.Hour, ro.tick)
	ro.timer.Stop()
	return ro
}

// background receives until an error is final. It returns that error.
func (ro *role) background() error {
	penalty, keep := 0, 0
	for {
		ro.inRecv.Store(true)
		err := ro.r.recv()
		ro.inRecv.Store(false)
		switch {
		case err == nil:
			ro.r.handle()
		case timedOut(err):
			ro.r.unkick()
			continue
		default:
			return err
		}
		if woken := ro.woken.Swap(0); woken != 1 || ro.waiters.Load() != 1 {
			continue
		}
		if keep > 0 {
			keep--
			continue
		}
		leads := ro.leads.Load()
		ro.state.Store(roleFree)
		ro.watch()
		<-ro.bg
		if ro.fatal != nil {
			return ro.fatal
		}
		ro.woken.Store(0)
		if ro.leads.Load() == leads {
			penalty = min(2*penalty+1, maxPenalty)
		} else {
			penalty = 0
		}
		keep = penalty
	}
}

// takeBack gives the role to the background reader if it is free.
func (ro *role) takeBack() {
	if ro.state.CompareAndSwap(roleFree, roleBackground) {
		ro.bg <- struct{}{}
	}
}

// watch sets the watchdog, after the role became free.
func (ro *role) watch() {
	if ro.armed.CompareAndSwap(false, true) {
		ro.timer.Reset(watchTick)
	}
}

// tick is the watchdog: a role that nobody has taken since the last tick goes back.
func (ro *role) tick() {
	leads := ro.leads.Load()
	idle := leads == ro.seen
	ro.seen = leads
	ro.armed.Store(false)
	if ro.state.Load() != roleFree {
		return // who leads sets the watchdog again
	}
	if idle {
		ro.takeBack()
		return
	}
	ro.watch()
}

// release leaves the role free, or gives it to the background reader where others wait.
func (ro *role) release() {
	if ro.waiters.Load() > 0 {
		ro.state.Store(roleBackground)
		ro.bg <- struct{}{}
		return
	}
	ro.state.Store(roleFree)
	ro.watch()
}

// waker is how a goroutine that waits is told that something has changed.
type waker struct {
	ch    chan struct{} // capacity 1
	leads atomic.Pointer[role]
	waits atomic.Pointer[role]
}

func (w *waker) init() { w.ch = make(chan struct{}, 1) }

// poke wakes who waits, now or when it is about to.
func (w *waker) poke() {
	select {
	case w.ch <- struct{}{}:
	default:
		return // it was told and has not looked yet
	}
	if ro := w.waits.Load(); ro != nil {
		ro.woken.Add(1)
	}
	if ro := w.leads.Load(); ro != nil && ro.inRecv.Load() {
		ro.r.kick()
	}
}

func (w *waker) told() bool {
	select {
	case <-w.ch:
		return true
	default:
		return false
	}
}

// wait blocks until the waker is poked. Where the role of ro is free it leads meanwhile. It may be called by one
// goroutine at a time.
func (w *waker) wait(ro *role) {
	if w.told() {
		return
	}
	if ro == nil {
		<-w.ch
		return
	}
	if ro.state.CompareAndSwap(roleFree, roleLed) {
		ro.leads.Add(1)
		w.leads.Store(ro)
		done := w.lead(ro)
		w.leads.Store(nil)
		if done {
			ro.release()
			return
		}
		ro.state.Store(roleBackground)
		ro.bg <- struct{}{}
	}
	w.waits.Store(ro)
	ro.waiters.Add(1)
	<-w.ch
	ro.waiters.Add(-1)
	w.waits.Store(nil)
}

// lead receives until the waker is poked. It is false when another must receive from now on: because receiving is
// over, or because others wait too.
func (w *waker) lead(ro *role) bool {
	for {
		ro.inRecv.Store(true) // before looking: who pokes later sees it and kicks
		if w.told() {
			ro.inRecv.Store(false)
			return true
		}
		err := ro.r.recv()
		ro.inRecv.Store(false)
		switch {
		case err == nil:
			ro.r.handle()
		case timedOut(err):
			ro.r.unkick()
		default:
			ro.fatal = err
			return false
		}
		if w.told() {
			return true
		}
		if ro.waiters.Load() > 0 {
			return false
		}
	}
}
