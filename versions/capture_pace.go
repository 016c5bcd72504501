package versions

import "time"

// pacer keeps the capture out of the way of whoever uses the mount: it waits until the tree has not changed for a moment, though not for
// ever, and while the tree changes it works only a part of the time. (A low priority of its thread would do harm: a Go process stops as a whole
// for its garbage collector, and would wait for the one thread that gets no processor.) One goroutine uses it.
type pacer struct {
	t     *Tree
	seen  uint64        // how many changes there had been at the last look
	began time.Time     // when the piece of work at hand began
	bytes int64         // of that
	fast  bool          // somebody may soon have to wait for it
	slept time.Duration // in all

	hurried <-chan struct{} // nil: nobody hurries; ends a rest
	waits   func() bool     // whether somebody does; set where hurried is
}

const (
	quietTree   = 100 * time.Millisecond // without a change before a batch begins
	patience    = 3 * time.Second        // until it begins nevertheless
	piece       = 1 << 20                // bytes of work between looks at the tree
	restsBusy   = 3                      // times as long as the work took, while the tree changes
	longestRest = 100 * time.Millisecond
)

func (p *pacer) begin(t *Tree) { p.t, p.seen, p.began = t, t.changes.Load(), time.Now() }

// ready waits until a batch may begin, at most until what waits longest has waited for patience or somebody hurries. It reports false if the tree is being closed.
func (p *pacer) ready(since time.Time) bool {
	for !p.t.cfg.byHand {
		seen := p.t.changes.Load()
		if seen == p.seen {
			break // nothing since the batch before
		}
		if !p.rest(quietTree) {
			return false
		}
		if p.waits != nil && p.waits() {
			p.hurry()
			return true
		}
		if p.t.changes.Load() == seen || since.IsZero() || time.Since(since) > patience {
			break
		}
	}
	p.seen, p.began, p.bytes, p.fast = p.t.changes.Load(), time.Now(), 0, false
	return true
}

// hurry begins a batch at once that is not to rest.
func (p *pacer) hurry() { p.fast = true }

// step is called after some bytes of work, and rests where the tree changed meanwhile.
func (p *pacer) step(bytes int64) {
	if p.bytes += bytes; p.bytes < piece || p.fast || p.t.cfg.byHand {
		return
	}
	seen := p.t.changes.Load()
	if seen != p.seen {
		rest := time.Now()
		p.rest(min(restsBusy*time.Since(p.began), longestRest))
		p.slept += time.Since(rest)
	}
	p.seen, p.began, p.bytes = seen, time.Now(), 0
}

// rest waits for a while, or until somebody hurries. It reports false if the tree is being closed.
func (p *pacer) rest(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.t.stop:
		return false
	case <-p.hurried:
	case <-timer.C:
	}
	return true
}
