package versions

import (
	"bytes"
	"maps"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// edge is how versions come to be while somebody follows the feed, as other hosts do that are to have what was saved within milliseconds: the first close of a file after a
// quiet time makes its version at once and has it captured before all that waits. Closes within the settle time after a version join one more, at its end. So a file has two
// versions at most in any settle time, however often it is written, and the second one comes while a program goes on and not only when it rests.
//
// Who saves by renaming, or writes files for a moment, makes another inode each time, of which each close would be a first one. That shows when a name goes away that led to
// a version younger than the settle time: new files of the directories it was in settle as they do when nobody follows for one settle time from then on, and
// those that are gone by then leave no version. What many files at once would cost is bounded as well: beyond maxEarly of them in a settle time the others settle as usual.
//
// Empty files settle as usual, which are locks, or what an editor finds out by whether it may make files. A large one that is opened again a moment after its version began has
// to be copied before it may change (aside.go). So its first close waits for some of the time that would take, which is when most of those that open it again have done so, and is not captured
// before what waits.
type edge struct {
	h *history

	mu           sync.Mutex                // guards what follows; the last lock to be taken
	made         map[sharefs.Ino]time.Time // when an inode's newest version began, as far as that is less than the span ago
	calm         map[sharefs.Ino]time.Time // directories: until when their new files settle as usual
	foreign      map[sharefs.Ino]bool      // whose next version is that of another host
	from         time.Time                 // when what is spent was counted from
	early, quick int                       // versions begun before their time, and captured before their turn, since then
}

const (
	edgeSize     = 8 << 20     // bytes of the largest file whose version comes at once, and which is captured before its turn
	edgeRate     = 4 << 30     // bytes for each second that the first close of a larger one waits
	maxEarly     = 64          // versions in a span that come at once, and as many that are captured at once
	maxEdges     = 4096        // remembered, of each kind
	shortestEdge = time.Second // stands for the settle time where there is none
)

// span is the time in which a file has two versions at most.
func (e *edge) span() time.Duration {
	if settle := e.h.t.cfg.Settle; settle > 0 {
		return settle
	}
	return shortestEdge
}

// due returns by when a file may come to rest whose last writer is being closed, the zero time when its settle time is over.
func (e *edge) due(f *file) time.Time {
	t := e.h.t
	if !t.feed.on.Load() || t.cfg.Settle == 0 {
		return time.Time{}
	}
	ino := f.ino
	var st unix.Stat_t
	r, err := t.row(ino)
	if err == nil {
		st, err = t.live.stat(ino)
	}
	if err != nil || r.nlink == 0 || st.Size == 0 {
		return time.Time{}
	}
	if b := e.h.beginning(ino); bytes.HasPrefix(b, []byte(journalMagic)) || bytes.HasPrefix(b, []byte(walMagic)) {
		return time.Time{} // the next thing is that its database has what is in it
	}
	f.mu.Lock()
	dir := f.born
	f.mu.Unlock()
	return e.when(ino, dir, edgePause(st.Size), time.Now())
}

// edgePause returns how long the first close of a file of some bytes waits.
func edgePause(size int64) time.Duration {
	if size <= edgeSize {
		return 0
	}
	return time.Duration(float64(size) / edgeRate * float64(time.Second))
}

// when is due for a file that is closed at an instant and waits for a while if that is its first close.
func (e *edge) when(ino, dir sharefs.Ino, pause time.Duration, now time.Time) time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	if at, ok := e.made[ino]; ok && now.Sub(at) < e.span() {
		return at.Add(e.span())
	}
	if pause >= e.span() || dir != 0 && now.Before(e.calm[dir]) || !e.spend(&e.early, now) {
		return time.Time{}
	}
	return now.Add(pause)
}

// spend takes one of those that there are in a span, if one is left. e.mu is held.
func (e *edge) spend(n *int, now time.Time) bool {
	if now.Sub(e.from) >= e.span() {
		e.from, e.early, e.quick = now, 0, 0
	}
	*n++
	return *n <= maxEarly
}

// began notes that a version has begun, and reports whether it is to be captured before all that waits.
func (e *edge) began(ino sharefs.Ino, size uint64, now time.Time) bool {
	if !e.h.t.feed.on.Load() {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.foreign[ino] {
		return false
	}
	e.made = keepTime(e.made, ino, now, now.Add(-e.span()))
	return size <= edgeSize && e.spend(&e.quick, now)
}

// adopting tells that the next version of an inode comes from another host, or that it has come: it counts for nothing here.
func (e *edge) adopting(ino sharefs.Ino, yes bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.foreign == nil {
		e.foreign = map[sharefs.Ino]bool{}
	}
	if e.foreign[ino] = yes; !yes {
		delete(e.foreign, ino)
	}
}

// gone notes that an inode loses its last name, in a change that takes names out of some directories: if it has a young version, new files in them settle as usual.
func (e *edge) gone(ino sharefs.Ino, slots []slotChange, now time.Time) {
	if !e.h.t.feed.on.Load() {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	at, ok := e.made[ino]
	delete(e.made, ino)
	if !ok || now.Sub(at) >= e.span() {
		return
	}
	for i := range slots {
		e.calm = keepTime(e.calm, slots[i].id.parent, now.Add(e.span()), now)
	}
}

// keepTime puts a time into a map of at most maxEdges, out of which those go first that lie before old.
func keepTime(m map[sharefs.Ino]time.Time, ino sharefs.Ino, at, old time.Time) map[sharefs.Ino]time.Time {
	if m == nil {
		m = map[sharefs.Ino]time.Time{}
	}
	if _, there := m[ino]; !there && len(m) >= maxEdges {
		maps.DeleteFunc(m, func(_ sharefs.Ino, at time.Time) bool { return at.Before(old) })
		if len(m) >= maxEdges/2 { // so that it is not looked through each time
			clear(m)
		}
	}
	m[ino] = at
	return m
}
