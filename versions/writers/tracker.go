package writers

import (
	"container/heap"
	"sync"
	"time"

	"sharefs"
)

// BlindSteady is how long a stamp must stand still before a file that could be mapped counts as quiet where leases are not to be had:
// longer than dirty pages wait for their writeback (vm.dirty_expire_centisecs, 30 s, and a flusher's round of 5 s), after which
// a page that is stored to again moves the stamp.
const BlindSteady = 40 * time.Second

// Back-off of the probes of a file that is held by somebody without a handle of this tracker.
const (
	firstProbe   = 10 * time.Millisecond // after the probe that found it so
	hintedProbe  = time.Millisecond      // after a hint: the description is closed a moment after its event
	slowestProbe = 30 * time.Second      // with a watch on the file
	blindProbe   = 2 * time.Second       // without one
	changeGap    = 50 * time.Millisecond // between probes that writes ask for
)

// Kind says what became known of a file.
type Kind uint8

const (
	// Quiet: nobody can write to the file any more, and no handle was held for Settle. The tracker has forgotten it.
	Quiet Kind = iota + 1
	// StillHeld: no handle is left, and yet somebody may write: told once after each time that the last handle went. Also told for files
	// that have not come to rest for Timed and changed meanwhile.
	StillHeld
	// Changed: the stamp of a file moved that is held by somebody without a handle.
	Changed
	// Gone: the backing file is no more. The tracker has forgotten it.
	Gone
)

func (k Kind) String() string {
	return [...]string{"none", "quiet", "still held", "changed", "gone"}[k]
}

// Event is a verdict about one file.
type Event struct {
	ID    sharefs.Ino
	Kind  Kind
	At    time.Time // Quiet: when the last handle went, or the last other writer was found gone; else when it was found
	Stamp Stamp     // of the backing file after it; zero with Gone
	// Changed reports whether the content may have changed since the base that Hold or Adopt named, or the last StillHeld with
	// Changed. False is certain; true may be a write of the same bytes, or of attributes alone.
	Changed bool
}

// Config is what a Tracker works with.
type Config struct {
	// Dir lies on the disk of the backing files; what that disk can do is found out there with a file that has no name.
	Dir string
	// Open returns a read-only descriptor of a backing file, which the tracker closes.
	Open func(id sharefs.Ino) (fd int, err error)
	// Notify receives the events, in order, from one goroutine. No lock is held: it may call the tracker, and a Hold may
	// have come since the event was decided on. While it runs no other event is worked on.
	Notify func(Event)
	// Settle is how long after its last Release a file is asked about. Holds within it join into one.
	Settle time.Duration
	// NotBefore returns the instant before which a file is not to come to rest by itself though its settle time is over; nil, or zero: none. It is called with a
	// lock held and may not call the tracker. Without a settle time it is not asked.
	NotBefore func(id sharefs.Ino) time.Time
	// Timed is how long a file may go without coming to rest before StillHeld is told of its changes; 0: never.
	Timed time.Duration
}

// Tracker knows for each backing file whether somebody can write to it. Its methods may be called from several goroutines.
type Tracker struct {
	cfg    Config
	kernel kernel
	can    Abilities

	mu     sync.Mutex // guards all below and the fields of every file
	idle   sync.Cond  // on mu: a probe has ended
	files  map[sharefs.Ino]*file
	due    queue
	sleeps time.Time // until when run sleeps; zero while it works
	swept  time.Time // when run last looked for files that want a timed version
	closed bool
	counts counters

	wake  chan struct{} // 1 deep: something is due earlier than run knew
	done  chan struct{}
	ended sync.WaitGroup
}

// file is what the tracker knows of one backing file. It is held while holds > 0, otherwise settling, or lingering once a probe found
// somebody; the latter two have their place in the queue.
type file struct {
	id        sharefs.Ino
	holds     int
	lingering bool
	probing   bool // a probe is under way without mu: Hold waits for its end
	mappable  bool // a handle since the file was entered may have been mapped
	foreign   bool // adopted: a writer may live that no Hold told of

	base  Stamp     // of the content that the next Changed is measured against
	taken time.Time // when base was
	maybe bool      // base was taken while somebody could write, so an equal stamp proves nothing
	began time.Time // when the file was entered, or last got a StillHeld for Timed
	freed time.Time // last Release

	told   bool      // StillHeld was told since the last Release
	seen   Stamp     // when an event was last told, or lingering began
	moved  time.Time // when seen was first met: how long the stamp stands still
	looked time.Time // last probe while lingering
	delay  time.Duration
	watch  watching

	due   time.Time
	index int // in the queue; -1 outside
}

// watching is which hints a file is watched for.
type watching uint8

const (
	unwatched watching = iota
	watchCloses
	watchWrites // and closes
)

// New starts a tracker. That inotify or leases are not to be had is no error; [Tracker.Stats] tells.
func New(cfg Config) (*Tracker, error) {
	w, err := newWatches(cfg.Open)
	can, err2 := examine(cfg.Dir)
	if err2 != nil {
		w.close()
		return nil, &sharefs.Error{Op: "watch for writers", Path: cfg.Dir, Kind: sharefs.KindOf(err2), Err: err2}
	}
	can.Inotify = err == nil
	return start(cfg, &linux{open: cfg.Open, watches: w}, can), nil
}

func start(cfg Config, k kernel, can Abilities) *Tracker {
	t := &Tracker{
		cfg: cfg, kernel: k, can: can,
		files: map[sharefs.Ino]*file{},
		swept: time.Now(),
		wake:  make(chan struct{}, 1), done: make(chan struct{}),
	}
	t.idle.L = &t.mu
	t.ended.Go(t.run)
	return t
}

// Close ends the tracker. No event is told after it returns; it must not be called from Notify.
func (t *Tracker) Close() {
	t.mu.Lock()
	closed := t.closed
	t.closed = true
	for busy := true; busy; {
		busy = false
		for _, f := range t.files {
			busy = busy || f.probing
		}
		if busy {
			t.idle.Wait()
		}
	}
	t.mu.Unlock()
	if closed {
		return
	}
	close(t.done)
	t.ended.Wait()
	t.kernel.close()
}

// Hold tells of a handle that can write, before anybody can use it. Base is the stamp that the caller last dealt with, that of the
// last Quiet (zero where it is not known: everything is a change then), which a file that is tracked already does not need.
// It is not what fstat says now: a Quiet that was decided on before this call may be told after it, and its change must not be lost on a
// caller who then passes it over. Mappable is false for a handle that cannot be mapped for writing, which O_WRONLY ensures. Hold
// waits for a probe of the same file, a few microseconds.
func (t *Tracker) Hold(id sharefs.Ino, base Stamp, mappable bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.settled(id)
	if f == nil {
		f = t.enter(id, base)
	}
	f.holds++
	f.mappable = f.mappable || mappable
	f.lingering = false
	t.unqueue(f)
}

// Release takes back one Hold.
func (t *Tracker) Release(id sharefs.Ino) { t.ReleaseBy(id, time.Time{}) }

// ReleaseBy is [Tracker.Release] for a file that, if this was its last handle, need not wait any longer than until an instant for its settle time to be over; zero:
// it has to. What [Config.NotBefore] says holds all the same.
func (t *Tracker) ReleaseBy(id sharefs.Ino, by time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.files[id]
	if f == nil || f.holds == 0 {
		return // forgotten while it was open
	}
	f.holds--
	if f.holds > 0 {
		return
	}
	f.freed = time.Now()
	f.told = false
	f.moved = time.Time{}
	due := f.freed.Add(t.cfg.Settle)
	if !by.IsZero() && by.Before(due) {
		due = by
	}
	if t.cfg.NotBefore != nil && t.cfg.Settle > 0 {
		if at := t.cfg.NotBefore(id); at.After(due) {
			due = at
		}
	}
	t.enqueue(f, due)
}

// Adopt enters a file that was held when an earlier daemon ended, with the stamp that its content had before.
func (t *Tracker) Adopt(id sharefs.Ino, base Stamp) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.settled(id)
	if f == nil {
		f = t.enter(id, base)
		f.freed = f.taken
		t.enqueue(f, f.taken)
	}
	f.foreign = true
}

// Forget drops a file that nobody wants to know of any more.
func (t *Tracker) Forget(id sharefs.Ino) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.settled(id); f != nil {
		t.remove(f)
	}
}

// enter adds a file; t.mu is held.
func (t *Tracker) enter(id sharefs.Ino, base Stamp) *file {
	now := time.Now()
	f := &file{id: id, base: base, taken: now, began: now, index: -1}
	t.files[id] = f
	return f
}

// settled returns the file, or nil, once no probe of it is under way; t.mu is held and given up meanwhile.
func (t *Tracker) settled(id sharefs.Ino) *file {
	for {
		f := t.files[id]
		if f == nil || !f.probing {
			return f
		}
		t.idle.Wait()
	}
}

// remove forgets a file; t.mu is held.
func (t *Tracker) remove(f *file) {
	t.unqueue(f)
	if f.watch != unwatched {
		t.counts.watches--
		t.kernel.unwatch(f.id)
	}
	delete(t.files, f.id)
}

// enqueue has the file probed at an instant; t.mu is held.
func (t *Tracker) enqueue(f *file, due time.Time) {
	f.due = due
	if f.index < 0 {
		heap.Push(&t.due, f)
	} else {
		heap.Fix(&t.due, f.index)
	}
	if !t.sleeps.IsZero() && due.Before(t.sleeps) {
		t.sleeps = time.Time{}
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
}

func (t *Tracker) unqueue(f *file) {
	if f.index >= 0 {
		heap.Remove(&t.due, f.index)
	}
}

// queue is a heap of files by the instant when they are due.
type queue []*file

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}
func (q *queue) Push(x any) {
	f := x.(*file)
	f.index = len(*q)
	*q = append(*q, f)
}
func (q *queue) Pop() any {
	old := *q
	f := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	f.index = -1
	return f
}
