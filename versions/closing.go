package versions

import (
	"cmp"
	"time"
)

// Without a settle time each close counts. close(2) returns before its RELEASE is dealt with, so that the next open of the same program may
// come first, as in two "echo x > file" in a row. Its FLUSH is dealt with before it returns. But a FLUSH comes with each descriptor that is closed, also
// of a handle that others have open still (dup, fork): it says no more than that a RELEASE may be near. So whoever opens a file for writing waits
// for the RELEASE if all writers that the file has were flushed.
type closing struct {
	round   uint64        // of the flushes that count; the first one is 1, and each that was waited for in vain begins another
	flushed int           // writers that were flushed in this round
	leaving int           // writers that are closed, and the tracker has yet to hear of it
	wake    chan struct{} // closed when one has left; nil: nobody waits
}

// closingWait is how long somebody waits who opens a file of which all writers were flushed. A handle that is not closed then is shared by
// several descriptors, and never waited for again.
const closingWait = 5 * time.Second

// CountsCloses reports whether Flushed is to be called.
func (h *Handle) CountsCloses() bool { return h.t.cfg.Settle == 0 && h.CanWrite() }

// Flushed tells that a descriptor of the handle is being closed, which may be the last one. It is the FLUSH of FUSE.
func (h *Handle) Flushed() {
	f := h.f
	f.mu.Lock()
	defer f.mu.Unlock()
	c := &f.closing
	if c.round == 0 {
		c.round = 1
	}
	if h.flushed == 0 { // otherwise it counts, or was waited for in vain
		h.flushed = c.round
		c.flushed++
	}
}

// leave tells that a writer is closed; file.mu is held.
func (c *closing) leave(h *Handle) {
	c.leaving++
	if h.flushed == c.round && c.round > 0 {
		c.flushed--
	}
}

// left tells that the tracker has heard of a closed writer; file.mu is held.
func (c *closing) left() {
	c.leaving--
	if c.wake != nil {
		close(c.wake)
		c.wake = nil
	}
}

// awaitClosing waits for the writers of a file that seem to be closed. file.content is held.
func (t *Tree) awaitClosing(f *file) {
	var timer *time.Timer
	late := false
	for {
		f.mu.Lock()
		c := &f.closing
		if c.leaving == 0 && (f.writers == 0 || c.flushed < f.writers) {
			f.mu.Unlock()
			return
		}
		if late {
			c.round, c.flushed = c.round+1, 0
			f.mu.Unlock()
			return
		}
		if c.wake == nil {
			c.wake = make(chan struct{})
		}
		wake := c.wake
		f.mu.Unlock()
		if timer == nil {
			timer = time.NewTimer(cmp.Or(t.cfg.closingWait, closingWait))
			defer timer.Stop()
		}
		select {
		case <-wake:
		case <-timer.C:
			late = true
		}
	}
}
