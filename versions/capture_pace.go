package versions

import (
	"time"
)

// pacer keeps the capture out of the way of whoever uses the mount: it waits until the tree has not changed for a moment, though not for
// ever, and while the tree changes it works only a part of the time. (A low priority of its thread would do harm: a Go process stops as a whole
// for its garbage collector, and would wait for the one thread that gets no processor.)
type pacer struct {
	t    *Tree
	seq  uint64    // the last commit that was seen
	work time.Time // when the piece of work at hand began
	wait func(time.Duration) bool
}

func (p *pacer) begin(t *Tree) {}
