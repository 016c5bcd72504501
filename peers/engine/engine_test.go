package engine

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"sharefs"
	"sharefs/peers/record"
)

// patience only ends a hang.
const patience = 90 * time.Second

// world is a replica, the packs and an exchange, in memory.
type world struct {
	t       *testing.T
	changed chan struct{}

	mu        sync.Mutex
	changes   int // not written down yet
	log       int // records that are
	told      int // how long the log was when the exchange was told of it
	wanted    []*record.Record
	packs     map[record.ID]bool // contents that are here
	applied   map[record.ID]bool
	elsewhere map[record.ID]bool // contents that a connected peer has
	hangs     map[record.ID]bool
	broken    error // of the replica
	packsErr  error
	opened    int
	leases    int
	complete  map[record.ID]bool
}

func newWorld(t *testing.T) *world {
	return &world{t: t, changed: make(chan struct{}, 1), packs: map[record.ID]bool{}, applied: map[record.ID]bool{}, elsewhere: map[record.ID]bool{}, hangs: map[record.ID]bool{}, complete: map[record.ID]bool{}}
}

func (w *world) start() *Engine {
	e := Start(Config{Open: w.open, Changed: w.changed, Gather: w.gather, Exchange: w, Log: slog.New(slog.DiscardHandler)})
	w.t.Cleanup(e.Close)
	return e
}

func (w *world) open() (Replica, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken != nil {
		return nil, w.broken
	}
	w.opened++
	return w, nil
}

func (w *world) Author() (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken != nil {
		return 0, w.broken
	}
	n := w.changes
	w.log += n
	w.changes = 0
	return n, nil
}

func (w *world) Wanted(most int, skip func(*record.Record) bool) (list []*record.Record, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, v := range w.wanted {
		if !w.packs[v.ID()] && len(list) < most && !skip(v) {
			list = append(list, v)
		}
	}
	return list, w.broken
}

func (w *world) Apply() (waiting int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, v := range w.wanted {
		switch {
		case w.packs[v.ID()]:
			w.applied[v.ID()] = true
		default:
			waiting++
		}
	}
	if w.broken != nil {
		return 0, w.broken
	}
	return waiting, err
}

func (w *world) Grown() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = w.log
}

func (w *world) Complete(versions ...record.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range versions {
		w.complete[id] = true
	}
}

func (w *world) Want(*record.Record, ...sharefs.ChunkID) {}
func (w *world) Drop(record.ID)                          {}

func (w *world) Get(ctx context.Context, v *record.Record, _ sharefs.ChunkID) ([]byte, error) {
	w.mu.Lock()
	there, hangs := w.elsewhere[v.ID()], w.hangs[v.ID()]
	w.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if !there {
		return nil, sharefs.KindUnreachable
	}
	return []byte("x"), nil
}

func (w *world) gather(list []*record.Record, src Source, _ bool) (Lease, []error, error) {
	errs := make([]error, len(list))
	for i := range list {
		src.Want(i, sharefs.ChunkID{})
		_, errs[i] = src.Get(i, sharefs.ChunkID{}, func([]byte) bool { return true })
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.packsErr != nil {
		return nil, nil, w.packsErr
	}
	for i, v := range list {
		if errs[i] == nil {
			w.packs[v.ID()] = true
		}
	}
	w.leases++
	return lease{w}, errs, nil
}

type lease struct{ w *world }

func (l lease) End() {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	l.w.leases--
}

// change is what a program does.
func (w *world) change() {
	w.mu.Lock()
	w.changes++
	w.mu.Unlock()
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// arrive is a version whose content is needed, and at a peer or not.
func (w *world) arrive(i byte, size uint64, there bool) record.ID {
	w.t.Helper()
	v := &record.Version{File: sharefs.FileID{i, 1}, Size: size}
	if size > 0 {
		v.Spans, v.Key = []record.Span{{Len: size, ID: sharefs.ChunkID{i}}}, sharefs.KeyID{1}
	}
	r, err := record.New(record.ShareID{1}, sharefs.PeerID{2}, 7, v)
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wanted = append(w.wanted, r)
	w.elsewhere[r.ID()] = there
	return r.ID()
}

func (w *world) wait(what string, done func() bool) {
	w.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		w.mu.Lock()
		ok := done()
		w.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

func TestChangesAreWrittenDownAndTold(t *testing.T) {
	w := newWorld(t)
	w.changes = 1 // before it began
	e := w.start()
	w.wait("what was there", func() bool { return w.told == 1 })
	for range 100 {
		w.change()
	}
	w.wait("all changes", func() bool { return w.told == 101 })
	w.mu.Lock()
	w.changes++ // and nobody says so
	w.mu.Unlock()
	e.Close()
	e.Close()
	if w.told != 102 {
		t.Errorf("told of %d changes at the end", w.told)
	}
}

// A content that cannot be had, and one for which a peer never answers, hold up no other.
func TestOneContentHoldsUpNoOther(t *testing.T) {
	w := newWorld(t)
	lost := w.arrive(0, 10, false)
	hangs := w.arrive(1, largeBytes+1, true)
	w.hangs[hangs] = true
	e := w.start()
	var good []record.ID
	for i := range byte(50) {
		good = append(good, w.arrive(2+i, uint64(i)<<17, true))
		e.Wake()
	}
	w.wait("all that can be had", func() bool {
		for _, id := range good {
			if !w.applied[id] || !w.complete[id] {
				return false
			}
		}
		return true
	})
	var s Status
	w.wait("word of it", func() bool { s = e.Status(); return s.Names == 2 && s.Missing == 2 && len(s.Waits) == 1 })
	if !strings.Contains(s.Waits[0], "no connected peer") || s.Bytes != 11+largeBytes || s.Fetching == 0 {
		t.Errorf("%+v", s)
	}
	w.mu.Lock()
	w.elsewhere[lost] = true
	w.mu.Unlock()
	e.Retry(lost)
	w.wait("what came at last", func() bool { return w.applied[lost] })
	e.Close() // and it ends although one hangs
	if w.leases != 0 {
		t.Errorf("%d leases are left", w.leases)
	}
}

// After a long Apply what comes is put into the tree together, and at once when nothing more is on its way or its time has come.
func TestWhatComesIsAppliedTogether(t *testing.T) {
	w := newWorld(t)
	e := &Engine{cfg: Config{Open: w.open, Gather: w.gather, Exchange: w, Log: slog.New(slog.DiscardHandler)}, wake: make(chan struct{}, 1), running: map[record.ID]bool{}, failed: map[record.ID]failure{}, troubles: map[string]error{}}
	e.ctx, e.cancel = context.WithCancel(t.Context())
	w.hangs[w.arrive(1, 1, true)] = true
	if e.turn(); e.took >= applyLong {
		e.took = 0
	}
	next := func() record.ID {
		id := w.arrive(byte(len(w.wanted)+1), 1, true)
		w.packs[id] = true
		return id
	}
	if id := next(); e.turn() || !w.applied[id] {
		t.Error("after a short one that came waits")
	}
	e.took, e.applied = time.Hour, time.Now()
	id := next()
	if e.turn() || w.applied[id] {
		t.Error("after a long one that came does not wait")
	}
	e.applied = e.applied.Add(-applyShare * time.Hour)
	if e.turn() || !w.applied[id] {
		t.Error("what came waits for ever")
	}
	e.took, e.applied = applyLong-1, time.Now().Add(-applyLong)
	if id := next(); e.turn() || !w.applied[id] {
		t.Error("after one that was not long what came waits for longer than that took")
	}
	e.took, e.applied = time.Hour, time.Now()
	e.cancel() // the one that hangs fails
	e.wg.Wait()
	if id := next(); e.turn() || !w.applied[id] {
		t.Error("what came waits though nothing is on its way")
	}
}

// While a turn is busy applying, whoever ends takes what was listed for him next.
func TestFetchingGoesOnWhileATurnIsBusy(t *testing.T) {
	w := newWorld(t)
	e := &Engine{cfg: Config{Gather: w.gather, Exchange: w, Log: slog.New(slog.DiscardHandler)}, wake: make(chan struct{}, 1), replica: w, running: map[record.ID]bool{}, failed: map[record.ID]failure{}, troubles: map[string]error{}}
	e.ctx, e.cancel = context.WithCancel(t.Context())
	defer e.cancel()
	const all = (mostSmall+2)*batchFiles + 1
	for i := range all {
		r, err := record.New(record.ShareID{1}, sharefs.PeerID{2}, 7, &record.Version{File: sharefs.FileID{byte(i), byte(i >> 8), 1}})
		if err != nil {
			t.Fatal(err)
		}
		w.wanted = append(w.wanted, r)
		w.elsewhere[r.ID()] = true
	}
	if err := e.fetch(); err != nil { // once
		t.Fatal(err)
	}
	e.wg.Wait()
	if n := len(w.packs); n != all || w.leases != mostSmall+3 {
		t.Errorf("%d of %d contents are here, in %d batches", n, all, w.leases)
	}
}

// What records need that come while a turn is busy applying is looked for meanwhile, and the turn that they asked for comes behind it.
func TestRecordsThatComeWhileATurnIsBusy(t *testing.T) {
	w := newWorld(t)
	e := &Engine{cfg: Config{Gather: w.gather, Exchange: w, Log: slog.New(slog.DiscardHandler)}, wake: make(chan struct{}, 1), running: map[record.ID]bool{}, failed: map[record.ID]failure{}, troubles: map[string]error{}}
	e.ctx, e.cancel = context.WithCancel(t.Context())
	defer e.cancel()
	e.replica = busy{w, func() {
		for i := range byte(3) {
			id := w.arrive(i, 1, true)
			e.Wake()
			w.wait("what came meanwhile", func() bool { return w.packs[id] })
		}
	}}
	e.turn()
	e.wg.Wait()
	select {
	case <-e.wake:
	default:
		t.Error("no turn is asked for any more")
	}
}

// busy is a world of which Apply takes as long as something else.
type busy struct {
	*world
	as func()
}

func (b busy) Apply() (int, error) {
	b.as()
	return b.world.Apply()
}

// What is due while all are at work is no reason to look again and again: the end of one of them is.
func TestWhatIsDueWaitsForWhoIsAtWork(t *testing.T) {
	w := newWorld(t)
	id := w.arrive(1, largeBytes+1, false)
	e := &Engine{cfg: Config{Exchange: w}, replica: w, running: map[record.ID]bool{}, large: mostLarge,
		failed: map[record.ID]failure{id: {err: sharefs.KindUnreachable, next: time.Now().Add(-time.Hour)}}}
	if err := e.fetch(); err != nil || !e.next.IsZero() || len(e.failed) != 1 || e.missing.contents != 1 {
		t.Errorf("%v: it is looked for at %v; %d failed", err, e.next, len(e.failed))
	}
	soon := time.Now().Add(time.Hour)
	e.failed[id] = failure{err: sharefs.KindUnreachable, next: soon}
	if err := e.fetch(); err != nil || !e.next.Equal(soon) {
		t.Errorf("%v: it is looked for at %v and not at %v", err, e.next, soon)
	}
}

// What cannot be had now is tried again without anybody's word.
func TestTriedAgain(t *testing.T) {
	w := newWorld(t)
	id := w.arrive(1, 1, false)
	e := w.start()
	w.wait("a failure", func() bool { return len(e.Status().Waits) == 1 })
	w.mu.Lock()
	w.elsewhere[id] = true
	w.mu.Unlock()
	w.wait("it all the same", func() bool { return w.applied[id] })
	w.wait("nothing to be said", func() bool { s := e.Status(); return len(s.Waits) == 0 && s.Names == 0 && s.Missing == 0 })
}

// A full disk is told, and left as soon as there is room, wherever it was met.
func TestFullDisk(t *testing.T) {
	w := newWorld(t)
	full := &sharefs.Error{Op: "write", Kind: sharefs.KindNoSpace}
	w.broken = full
	e := w.start()
	for _, what := range []string{opening, authoring} {
		w.wait("word of it", func() bool {
			all := w.waits(e)
			return len(all) == 1 && strings.Contains(all[0], what) && strings.Contains(all[0], "full") // said once, wherever it is met
		})
		w.mu.Lock()
		w.broken = nil
		w.mu.Unlock()
		w.wait("nothing to be said", func() bool { return len(w.waits(e)) == 0 })
		w.mu.Lock()
		w.broken = full
		w.mu.Unlock()
		w.change()
	}
	w.mu.Lock()
	w.broken, w.packsErr = nil, full
	w.mu.Unlock()
	id := w.arrive(1, 1, true)
	e.Wake()
	w.wait("word of it", func() bool { return len(w.waits(e)) > 0 })
	w.mu.Lock()
	w.packsErr = nil
	w.mu.Unlock()
	w.wait("the content", func() bool { return w.applied[id] && w.told == 2 && len(w.waits(e)) == 0 })
	if w.opened != 1 {
		t.Error("it was opened anew")
	}
}

func (w *world) waits(e *Engine) []string {
	s := e.Status()
	return append(s.Troubles, s.Waits...)
}

// Many contents at once, while the tree changes.
func TestManyAtOnce(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	for i := range 3 * batchFiles {
		v := &record.Version{File: sharefs.FileID{byte(i), byte(i >> 8), 1}}
		r, err := record.New(record.ShareID{1}, sharefs.PeerID{2}, 7, v)
		if err != nil {
			t.Fatal(err)
		}
		w.mu.Lock()
		w.wanted = append(w.wanted, r)
		w.elsewhere[r.ID()] = true
		w.mu.Unlock()
		w.change()
		if i%7 == 0 {
			e.Wake()
		}
	}
	w.wait("all of it", func() bool { return len(w.applied) == 3*batchFiles && w.told == 3*batchFiles })
	w.wait("no lease", func() bool { return w.leases == 0 })
}

// What waits is looked at every two seconds, and more rarely the longer nobody asked for it, or the more that costs.
func TestPauses(t *testing.T) {
	for _, c := range []struct{ took, since, want time.Duration }{
		{0, 0, 2 * time.Second},
		{time.Millisecond, 30 * time.Second, 2 * time.Second},
		{time.Millisecond, 8 * time.Minute, 30 * time.Second},
		{time.Millisecond, 48 * time.Hour, time.Minute},
		{time.Second, 0, 50 * time.Second},
		{time.Second, 48 * time.Hour, time.Minute},
		{time.Minute, 0, 5 * time.Minute},
	} {
		if got := longest(c.took, c.since); got != c.want {
			t.Errorf("after a turn of %v, and %v: %v, not %v", c.took, c.since, got, c.want)
		}
	}
}

// Who waits for a turn waits for one that began after that, and in which the replica applied.
func TestTurned(t *testing.T) {
	w := newWorld(t)
	began, on := make(chan struct{}), make(chan struct{})
	e := Start(Config{Open: func() (Replica, error) { return busy{w, func() { began <- struct{}{}; <-on }}, nil }, Changed: w.changed, Gather: w.gather, Exchange: w, Log: slog.New(slog.DiscardHandler)})
	over := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	<-began
	first := e.Turned()
	e.Wake()
	on <- struct{}{} // the end of a turn that had begun before
	<-began
	if over(first) {
		t.Error("a turn that began before")
	}
	second := e.Turned()
	e.Wake()
	on <- struct{}{}
	<-began
	if !over(first) || over(second) {
		t.Errorf("after the first turn: %v, %v", over(first), over(second))
	}
	close(on)
	go func() {
		for range began {
		}
	}()
	e.Wake()
	<-second
	e.Close()
	close(began)

	// A turn that does nothing but fetch is none.
	e = &Engine{cfg: Config{Exchange: w}, replica: w, running: map[record.ID]bool{{1}: true}, names: 1, applied: time.Now(), took: time.Hour, failed: map[record.ID]failure{}, troubles: map[string]error{}}
	third := e.Turned()
	e.turn()
	if over(third) {
		t.Error("a turn in which nothing was applied")
	}
	e.running = nil
	e.turn()
	if !over(third) {
		t.Error("the turn in which all was applied is not told of")
	}
}
