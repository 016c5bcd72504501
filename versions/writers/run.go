package writers

import (
	"container/heap"
	"time"

	"sharefs"
)

// run tells events as files come due: after their settle time, by back-off, or hurried by a hint.
func (t *Tracker) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		t.work()
		timer.Reset(t.sleep())
		select {
		case <-timer.C:
		case <-t.wake:
		case h := <-t.kernel.hints():
			t.hint(h)
		case <-t.done:
			return
		}
	}
}

// sleep returns how long nothing is due, and notes it for enqueue.
func (t *Tracker) sleep() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	t.sleeps = now.Add(time.Hour)
	if len(t.due) > 0 && t.due[0].due.Before(t.sleeps) {
		t.sleeps = t.due[0].due
	}
	if t.cfg.Timed > 0 {
		if next := t.swept.Add(t.sweepEvery()); next.Before(t.sleeps) {
			t.sleeps = next
		}
	}
	return max(t.sleeps.Sub(now), 0)
}

// work probes all that is due and tells what comes of it.
func (t *Tracker) work() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sleeps = time.Time{}
	for len(t.due) > 0 && !t.closed {
		f := t.due[0]
		if f.due.After(time.Now()) {
			break
		}
		if f.probing { // by Check or Take, which may take it out of the queue
			t.idle.Wait()
			continue
		}
		heap.Pop(&t.due)
		ev, err := t.judge(f)
		if err != nil {
			continue // counted, and queued again
		}
		t.tell(ev)
	}
	if t.cfg.Timed > 0 && time.Since(t.swept) >= t.sweepEvery() {
		t.sweep()
	}
}

// tell hands an event on without t.mu, which is held.
func (t *Tracker) tell(ev Event) {
	if ev.Kind == 0 || t.closed {
		return
	}
	t.counts.told[ev.Kind]++
	t.counts.telling++
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		t.counts.telling--
	}()
	t.cfg.Notify(ev)
}

// sweepEvery is how often files are looked for that want a timed version: one that lasts is found between one and 1.1 times Timed.
func (t *Tracker) sweepEvery() time.Duration { return max(t.cfg.Timed/10, time.Second) }

// sweep tells of the changes in files that have not come to rest for Timed; t.mu is held. Their writers need not be asked for,
// so an open of them is not in the way.
func (t *Tracker) sweep() {
	now := time.Now()
	t.swept = now
	var ids []sharefs.Ino
	for id, f := range t.files {
		if now.Sub(f.began) >= t.cfg.Timed {
			ids = append(ids, id)
		}
	}
	for _, id := range ids {
		f := t.settled(id)
		if f == nil || t.closed {
			continue
		}
		f.probing = true
		t.counts.probes++
		t.mu.Unlock()
		_, st, err := t.kernel.probe(id, false)
		t.mu.Lock()
		f.probing = false
		t.idle.Broadcast()
		if t.files[id] != f || err != nil {
			continue
		}
		f.began = now
		// A stamp alone: a store to a mapped page that was dirty already moves it after the next writeback.
		if st != f.base || f.base == (Stamp{}) {
			t.tell(t.stillHeld(f, st))
		}
	}
}

// hint brings forward the probe of a lingering file.
func (t *Tracker) hint(h hint) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h.lost {
		t.counts.overflows++
		for _, f := range t.files {
			t.hurry(f)
		}
		return
	}
	f := t.files[h.id]
	if f == nil {
		return
	}
	t.counts.hints++
	if !h.write {
		t.hurry(f)
		return
	}
	// A busy writer shall not keep us busy: no hints about writes until the next probe, which is no sooner than changeGap after the last.
	if f.watch == watchWrites {
		t.kernel.watch(f.id, false)
		f.watch = watchCloses
	}
	if f.lingering && f.index >= 0 {
		if due := f.looked.Add(changeGap); due.Before(f.due) {
			f.delay = changeGap
			t.enqueue(f, due)
		}
	}
}

// hurry has a lingering file probed at once, and soon again.
func (t *Tracker) hurry(f *file) {
	if f.lingering && f.index >= 0 {
		f.delay = hintedProbe / 2
		t.enqueue(f, time.Now())
	}
}

// rewatch asks for hints about a lingering file: about writes only where no handle of ours stands for the writer, for else the kernel above
// knows of them itself. t.mu is held.
func (t *Tracker) rewatch(f *file) {
	want := watchCloses
	if f.foreign {
		want = watchWrites
	}
	if f.watch >= want || !t.can.Inotify {
		return
	}
	if err := t.kernel.watch(f.id, want == watchWrites); err != nil {
		t.counts.watchErrors++
		t.counts.lastWatchError = err.Error()
		return
	}
	if f.watch == unwatched {
		t.counts.watches++
	}
	f.watch = want
}
