package versions

import (
	"sync"
	"time"
)

// Changes within an instant leave one row in the past. An instant ends when nothing has changed for quietInstant, or longInstant after
// its first change.
const (
	quietInstant = 50 * time.Millisecond
	longInstant  = time.Second
)

// instant knows when the open instant is to end.
type instant struct {
	wake chan struct{} // 1 deep: an instant has begun

	mu          sync.Mutex // guards all below; taken after Tree.mu
	first, last time.Time  // changes in the open instant; zero: there is none
}

// changed tells of a commit.
func (i *instant) changed() {
	now := time.Now()
	i.mu.Lock()
	begun := i.first.IsZero()
	if begun {
		i.first = now
	}
	i.last = now
	i.mu.Unlock()
	if begun {
		select {
		case i.wake <- struct{}{}:
		default:
		}
	}
}

// due returns how long until the open instant ends; ok is false if there is none. Quiet tells that it ends because nothing has changed.
func (i *instant) due() (d time.Duration, quiet, ok bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.first.IsZero() {
		return 0, false, false
	}
	end, quiet := i.last.Add(quietInstant), true
	if long := i.first.Add(longInstant); long.Before(end) {
		end, quiet = long, false
	}
	return max(0, time.Until(end)), quiet, true
}

// instants ends instants until the tree is closed.
func (t *Tree) instants() {
	for {
		select {
		case <-t.stop:
			return
		case <-t.instant.wake:
		}
		for {
			d, quiet, ok := t.instant.due()
			if !ok {
				break
			}
			if d > 0 {
				if !t.sleep(d) {
					return
				}
				continue
			}
			if err := t.closeEpoch(); err != nil {
				t.log.Warn("an instant could not be ended", "err", err)
				if !t.sleep(time.Second) {
					return
				}
			}
			if quiet {
				t.db.Idle()
			}
		}
	}
}

// closeEpoch ends the open instant: what was changed up to now is one state of the past.
func (t *Tree) closeEpoch() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.endInstant()
}

// endInstant is closeEpoch with Tree.mu held. A change that is under way comes after it.
func (t *Tree) endInstant() error {
	at := t.clock.Next()
	if err := t.ops.flush(at); err != nil {
		t.log.Warn("the operations at work could not be noted", "err", err)
	}
	if err := t.db.Boundary(at); err != nil {
		return failed("end an instant", err)
	}
	t.instant.mu.Lock()
	t.instant.first = time.Time{}
	t.instant.mu.Unlock()
	return nil
}
