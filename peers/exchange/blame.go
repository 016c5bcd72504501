package exchange

import (
	"fmt"
	"time"

	"sharefs"
)

// Bounds of how long a peer is left out that misbehaved. A wrong chunk may be the fault of a disk or of memory, and of a version of this program that is updated by then; whoever means
// harm gains nothing by being asked again ever more seldom. A peer that behaved for as long as the longest begins anew.
const longestBlame = 24 * time.Hour

// blame is for what a peer is left out.
type blame struct {
	err   error
	pause time.Duration
	until time.Time
	ended chan struct{} // closed when it is not left out any more
	over  bool
}

// blame leaves a peer out for what it did, for a time that doubles whenever it does so again.
func (x *Exchange) blame(id sharefs.PeerID, err error) {
	x.mu.Lock()
	old := x.bad[id]
	if old != nil && !old.over { // of several streams each may notice it
		x.mu.Unlock()
		return
	}
	now := time.Now()
	b := &blame{err: err, pause: x.cfg.Limits.Blame, ended: make(chan struct{})}
	if old != nil && now.Sub(old.until) < longestBlame {
		b.pause = min(2*old.pause, max(longestBlame, x.cfg.Limits.Blame))
	}
	b.until = now.Add(b.pause)
	x.bad[id] = b
	x.mu.Unlock()
	x.log.Warn("a peer is left out", "peer", id.Short(), "until", b.until, "error", err)
	for _, p := range x.all() {
		if p.id == id {
			x.fetch.remove(p.source)
			poke(p.poke)
		}
	}
	time.AfterFunc(b.pause, func() { x.forgive(id, b) })
	if x.cfg.Misbehaved != nil {
		x.cfg.Misbehaved(id, err)
	}
}

// forgive has a peer be asked again that was left out for long enough.
func (x *Exchange) forgive(id sharefs.PeerID, b *blame) {
	x.mu.Lock()
	b.over = true
	close(b.ended)
	closed := x.closed
	x.mu.Unlock()
	if closed {
		return
	}
	x.log.Info("a peer is asked again that was left out", "peer", id.Short())
	for _, p := range x.all() {
		if p.id == id {
			p.mu.Lock()
			p.asking = false // its source is gone
			p.mu.Unlock()
			poke(p.poke)
		}
	}
	x.changed(id)
}

// blamed returns for what a peer is left out; nil: it is not.
func (x *Exchange) blamed(id sharefs.PeerID) *blame {
	x.mu.Lock()
	defer x.mu.Unlock()
	if b := x.bad[id]; b != nil && !b.over {
		return b
	}
	return nil
}

func (b *blame) String() string {
	return fmt.Sprintf("nothing is taken of it until %s: %v", b.until.Local().Format("2006-01-02 15:04:05"), b.err)
}
