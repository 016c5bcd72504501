package writers

import (
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// simKernel is a kernel whose truth the test knows. Its time is that of the synctest bubble.
type simKernel struct {
	mu      chan struct{} // a lock that synctest can see through
	files   map[sharefs.Ino]*simFile
	queue   chan hint
	blind   bool    // no leases
	limit   int     // of watches
	dropped float64 // share of hints that are lost, with a report of it later
	rng     *rand.Rand
	probed  int
}

type simFile struct {
	stamp   Stamp
	dirty   bool // a mapped page that is dirty: another store does not move the stamp
	writers int  // descriptions and mappings that may write
	watched watching
	gone    bool
	broken  int // probes that will fail
}

func newSimKernel(rng *rand.Rand) *simKernel {
	k := &simKernel{mu: make(chan struct{}, 1), files: map[sharefs.Ino]*simFile{}, queue: make(chan hint, 1024), limit: 1 << 30, rng: rng}
	k.mu <- struct{}{}
	return k
}

func (k *simKernel) lock()   { <-k.mu }
func (k *simKernel) unlock() { k.mu <- struct{}{} }

func (k *simKernel) probe(id sharefs.Ino, ask bool) (presence, Stamp, error) {
	k.lock()
	defer k.unlock()
	k.probed++
	f := k.files[id]
	switch {
	case f == nil || f.gone:
		return unknown, Stamp{}, unix.ENOENT
	case f.broken > 0:
		f.broken--
		return unknown, Stamp{}, unix.EMFILE
	case !ask || k.blind:
		return unknown, f.stamp, nil
	case f.writers > 0:
		return present, f.stamp, nil
	}
	return nobody, f.stamp, nil
}

func (k *simKernel) watch(id sharefs.Ino, writes bool) error {
	k.lock()
	defer k.unlock()
	f := k.files[id]
	if f == nil || f.gone {
		return unix.ENOENT
	}
	if f.watched == unwatched {
		if k.limit == 0 {
			return unix.ENOSPC
		}
		k.limit--
	}
	f.watched = watchCloses
	if writes {
		f.watched = watchWrites
	}
	return nil
}

func (k *simKernel) unwatch(id sharefs.Ino) {
	k.lock()
	defer k.unlock()
	k.files[id].watched = unwatched
	k.limit++
}

func (k *simKernel) hints() <-chan hint { return k.queue }
func (k *simKernel) close()             {}

func (k *simKernel) writers(id sharefs.Ino) int {
	k.lock()
	defer k.unlock()
	return k.files[id].writers
}

func (k *simKernel) isGone(id sharefs.Ino) bool {
	k.lock()
	defer k.unlock()
	return k.files[id].gone
}

func (k *simKernel) add(id sharefs.Ino, n int) {
	k.lock()
	defer k.unlock()
	k.files[id].writers += n
}

func (k *simKernel) stamp(id sharefs.Ino) Stamp {
	k.lock()
	defer k.unlock()
	return k.files[id].stamp
}

func (k *simKernel) probes() int {
	k.lock()
	defer k.unlock()
	return k.probed
}

// hint is called with the lock held.
func (k *simKernel) hint(h hint) {
	f := k.files[h.id]
	if f.watched == unwatched || h.write && f.watched != watchWrites {
		return
	}
	if k.rng.Float64() < k.dropped {
		h = hint{lost: true}
	}
	k.queue <- h
}

// change moves the stamp.
func (k *simKernel) change(id sharefs.Ino, mapped bool) {
	k.lock()
	defer k.unlock()
	f := k.files[id]
	if mapped && f.dirty {
		return
	}
	f.dirty = f.dirty || mapped
	f.stamp.Mtime++
	f.stamp.Ctime++
	if !mapped {
		k.hint(hint{id: id, write: true})
	}
}

// leave ends a description or mapping: the event comes before the count falls, as in __fput.
func (k *simKernel) leave(id sharefs.Ino, last bool) {
	k.lock()
	defer k.unlock()
	if !last {
		return
	}
	k.hint(hint{id: id})
	f := k.files[id]
	lag := time.Duration(k.rng.IntN(5)) * 300 * time.Microsecond
	go func() {
		time.Sleep(lag)
		k.lock()
		defer k.unlock()
		f.writers--
		f.dirty = false
	}()
}

// description is an open file description of the model: it lives while it has a descriptor or a mapping.
type description struct {
	open    bool // has descriptors
	maps    int
	foreign bool // of an earlier life: no Hold and no Release for it
	rw      bool
}

type modelFile struct {
	id      sharefs.Ino
	tracked bool // entered, and no Quiet or Gone yet
	descs   []*description
	content int   // changes with every write and store
	base    int   // content at the last Quiet
	sure    bool  // no StillHeld with Changed since
	stamp   Stamp // of the last Quiet
	held    time.Time
	quiets  int
}

func (f *modelFile) writers() (n int) {
	for _, d := range f.descs {
		if d.open || d.maps > 0 {
			n++
		}
	}
	return n
}

// TestModel lets random writers come, go and linger in a kernel whose truth is known. Safety: never Quiet while somebody may write (as far as
// leases tell) and never "unchanged" after a change. Liveness: Quiet once all are gone. Precision: "unchanged" where nothing happened.
func TestModel(t *testing.T) {
	runs := 400
	if testing.Short() {
		runs = 50
	}
	for seed := range uint64(runs) {
		synctest.Test(t, func(t *testing.T) { simulate(t, seed) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func simulate(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	k := newSimKernel(rng)
	k.blind = rng.IntN(5) == 0
	if rng.IntN(3) == 0 {
		k.limit = rng.IntN(3)
	}
	if rng.IntN(3) == 0 {
		k.dropped = rng.Float64()
	}
	can := Abilities{Leases: !k.blind, Inotify: rng.IntN(5) != 0, FineStamps: true, MappedStamps: true}
	files := map[sharefs.Ino]*modelFile{}
	for id := sharefs.Ino(2); id < 7; id++ {
		k.files[id] = &simFile{stamp: Stamp{Size: 1, Mtime: sharefs.Time(time.Now().UnixNano()), Ctime: 1}}
		files[id] = &modelFile{id: id, sure: true, stamp: k.files[id].stamp}
	}
	cfg := Config{Settle: time.Duration(rng.IntN(3)) * time.Second}
	if rng.IntN(3) == 0 {
		cfg.Timed = 20 * time.Second
	}
	// The test goroutine waits for the tracker to be idle after each step, so an event comes after the step that led to it, or while time
	// passes.
	var mu sync.Mutex // guards the model
	judge := func(ev Event) {
		f := files[ev.ID]
		if ev.Kind == Quiet || ev.Kind == Gone {
			if !f.tracked {
				t.Errorf("file %d: %v, and it was not tracked", ev.ID, ev.Kind)
			}
			f.tracked = false
			f.quiets++
		}
		switch ev.Kind {
		case Quiet:
			if n := f.writers(); n > 0 && !k.blind {
				t.Errorf("file %d: quiet with %d writers", ev.ID, n)
			}
			if f.content != f.base && !ev.Changed && !k.blind {
				t.Errorf("file %d: change lost", ev.ID)
			}
			if f.content == f.base && f.sure && ev.Changed {
				t.Errorf("file %d: unchanged, and reported as changed", ev.ID)
			}
			if ev.At.After(time.Now()) || !k.blind && ev.At.Before(f.held) {
				t.Errorf("file %d: quiet at %v, now is %v", ev.ID, ev.At, time.Now())
			}
			f.base, f.sure, f.stamp = f.content, true, ev.Stamp
		case StillHeld:
			if ev.Changed {
				f.sure = false
			}
		case Gone:
			if !k.isGone(ev.ID) {
				t.Errorf("file %d is not gone", ev.ID)
			}
		}
	}
	cfg.Notify = func(ev Event) {
		mu.Lock()
		defer mu.Unlock()
		judge(ev)
	}
	// Writers of an earlier life come before the tracker.
	for _, f := range files {
		for range rng.IntN(3) {
			d := &description{open: true, foreign: true, rw: rng.IntN(2) == 0}
			if d.rw {
				d.maps = rng.IntN(2)
			}
			f.descs = append(f.descs, d)
			k.files[f.id].writers++
			if rng.IntN(2) == 0 {
				f.content++
				k.change(f.id, false)
			}
		}
	}
	mu.Lock()
	tr := start(cfg, k, can)
	for _, f := range files {
		if f.writers() > 0 || rng.IntN(2) == 0 {
			f.tracked = true
			tr.Adopt(f.id, f.stamp)
		}
	}
	mu.Unlock()
	synctest.Wait()
	for range 60 {
		f := files[sharefs.Ino(2+rng.IntN(5))]
		if k.isGone(f.id) {
			continue
		}
		mu.Lock()
		step(t, rng, k, tr, f, judge)
		mu.Unlock()
		synctest.Wait()
		if rng.IntN(3) == 0 {
			time.Sleep(time.Duration(rng.Int64N(int64(4 * time.Second))))
		}
		synctest.Wait()
	}
	// All go; the last of them may be found by back-off alone.
	mu.Lock()
	for _, f := range files {
		for _, d := range f.descs {
			for d.maps > 0 {
				unmap(k, f, d)
			}
			if d.open {
				closeDesc(k, tr, f, d)
			}
		}
	}
	mu.Unlock()
	time.Sleep(cfg.Settle + BlindSteady + 2*slowestProbe)
	synctest.Wait()
	for _, f := range files {
		if f.tracked {
			t.Errorf("file %d never came to rest", f.id)
		}
	}
	if s := tr.Stats(); s.Held+s.Settling+s.Lingering+s.Watches != 0 {
		t.Errorf("left over: %+v", s)
	}
	// A tracker at rest asks nobody anything.
	before := k.probes()
	time.Sleep(time.Hour)
	if n := k.probes(); n != before {
		t.Errorf("%d probes with nothing to track", n-before)
	}
	tr.Close()
	time.Sleep(time.Second)
}

// step does one random thing to a file and its writers.
func step(t *testing.T, rng *rand.Rand, k *simKernel, tr *Tracker, f *modelFile, judge func(Event)) {
	var d *description
	if len(f.descs) > 0 {
		d = f.descs[rng.IntN(len(f.descs))]
	}
	switch op := rng.IntN(14); {
	case op < 4 || d == nil:
		d = &description{open: true, rw: rng.IntN(2) == 0}
		f.held = time.Now()
		f.tracked = true
		tr.Hold(f.id, f.stamp, d.rw)
		k.add(f.id, 1)
		f.descs = append(f.descs, d)
	case op < 6 && d.open:
		f.content++
		k.change(f.id, false)
	case op == 6 && d.open && d.rw:
		d.maps++
	case op == 7 && d.maps > 0:
		f.content++
		k.change(f.id, true)
	case op == 8 && d.maps > 0:
		unmap(k, f, d)
	case op < 11 && d.open:
		closeDesc(k, tr, f, d)
	case op == 11:
		k.lock()
		k.files[f.id].broken = rng.IntN(3)
		k.unlock()
	case op == 12:
		s, err := tr.Check(f.id)
		// Between the two, a description is closed and not yet out of the kernel's count.
		if err == nil && !k.blind && (f.writers() > 0 && !s.Held || k.writers(f.id) == 0 && s.Held) {
			t.Errorf("file %d: Check says held %v of %d writers", f.id, s.Held, f.writers())
		}
	case op == 13 && rng.IntN(4) == 0:
		k.lock()
		k.files[f.id].gone = true
		k.unlock()
	case op == 13:
		ev, err := tr.Take(f.id)
		switch {
		case err != nil:
		case ev.Kind == Quiet && f.tracked:
			judge(ev)
		case ev.Kind == StillHeld:
			judge(ev)
		}
	}
}

func unmap(k *simKernel, f *modelFile, d *description) {
	d.maps--
	k.leave(f.id, d.maps == 0 && !d.open)
}

func closeDesc(k *simKernel, tr *Tracker, f *modelFile, d *description) {
	d.open = false
	k.leave(f.id, d.maps == 0)
	if !d.foreign {
		tr.Release(f.id)
	}
}
