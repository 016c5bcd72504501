package versions

import (
	"errors"
	"sync"
	"time"

	"sharefs"
	"sharefs/versions/writers"
)

// settler takes the verdicts of the tracker of writers, and brings rows up to date once nobody writes: many in one commit, for nobody
// waits for it.
type settler struct {
	wake chan struct{} // 1 deep: there are events

	mu     sync.Mutex // guards all below; taken after Tree.mu
	events []writers.Event
	busy   []writers.Event // of files whose content somebody held
	cool   []cooled
	atWork int // events that work has taken and not yet dealt with
}

// cooled is a file whose row is up to date and whose mark may go unless the file was opened for writing since.
type cooled struct {
	f   *file
	gen uint64
}

// settleBatch is how many rows are brought up to date in one commit: others wait for Tree.mu meanwhile, some 2 µs for each.
const settleBatch = 16

// busyDelay is how long the settler leaves a file alone whose content somebody held.
const busyDelay = 20 * time.Millisecond

// notify receives an event from the tracker.
func (s *settler) notify(ev writers.Event) {
	s.mu.Lock()
	s.events = append(s.events, ev)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// loop works on events as they come, and sees to access times from time to time.
func (s *settler) loop(t *Tree) func() {
	return func() {
		tick, at := time.NewTimer(learnDelay), time.Now().Add(learnDelay)
		defer tick.Stop()
		for {
			select {
			case <-t.stop:
				return
			case <-s.wake:
				pause := busyDelay
				err := s.work(t)
				if err != nil {
					t.log.Warn("attributes of closed files wait to be written", "err", err)
					pause = time.Second
				}
				if !s.again() && err == nil {
					continue
				}
				if !t.sleep(pause) {
					return
				}
				s.retry()
			case <-t.atimes.wake:
				if then := t.atimes.next(time.Now()); sooner(then, at) {
					at = then
					tick.Reset(time.Until(at))
				}
			case <-tick.C:
				t.learnAtimes()
				if t.atimes.due() {
					if err := t.writeAtimes(); err != nil {
						t.log.Warn("access times wait to be written", "err", err)
					}
				}
				if at = t.atimes.next(time.Now()); !at.IsZero() {
					tick.Reset(time.Until(at))
				}
			}
		}
	}
}

// sooner reports whether a time comes before another one; zero: never.
func sooner(a, b time.Time) bool { return !a.IsZero() && (b.IsZero() || a.Before(b)) }

// cools reports whether marks of files wait to be removed.
func (s *settler) cools() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.cool) > 0
}

func (s *settler) retry() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// later puts an event back whose file is being worked on.
func (s *settler) later(ev writers.Event) {
	s.mu.Lock()
	s.busy = append(s.busy, ev)
	s.mu.Unlock()
}

// again takes up the events of files that were busy, and reports whether there were any.
func (s *settler) again() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.busy)
	s.events = append(s.events, s.busy...)
	s.busy = nil
	return n > 0
}

// work deals with all events there are. What fails stays.
func (s *settler) work(t *Tree) error {
	for {
		s.mu.Lock()
		n := min(settleBatch, len(s.events))
		batch := s.events[:n:n]
		s.events = s.events[n:]
		s.atWork += n
		s.mu.Unlock()
		if n == 0 {
			return nil
		}
		err := t.settle(batch)
		s.mu.Lock()
		s.atWork -= n
		if err != nil {
			s.events = append(batch, s.events...)
		}
		s.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// settle deals with some events: rows in one commit, then whatever else they tell. After an error nothing was done.
func (t *Tree) settle(events []writers.Event) error {
	var quiet []settling
	defer func() {
		for i := range quiet {
			quiet[i].f.content.Unlock()
			t.files.unpin(quiet[i].f)
		}
	}()
	for _, ev := range events {
		if ev.Kind != writers.Quiet {
			continue
		}
		f := t.files.find(ev.ID)
		if f == nil {
			continue
		}
		// Several files are locked at once here and nowhere else, so that waiting for one could be waiting for ever.
		if !f.content.TryLock() {
			t.files.unpin(f)
			t.settler.later(ev)
			continue
		}
		// A file that was opened for writing since may have been closed again, and be mapped: its own verdict is still to come.
		if t.track.Tracks(ev.ID) {
			f.content.Unlock()
			t.files.unpin(f)
			continue
		}
		quiet = append(quiet, settling{f, ev})
	}
	if err := t.adopt(quiet); err != nil {
		return err
	}
	for _, ev := range events {
		switch ev.Kind {
		case writers.StillHeld:
			t.hooks.stillHeld(ev)
		case writers.Changed:
			if k := t.kernel.Load(); k != nil {
				(*k).ForgetContent(ev.ID, 0, 0)
			}
		case writers.Gone:
			if r, err := t.row(ev.ID); err == nil && r.nlink > 0 {
				t.log.Error("a backing file is missing", "inode", uint64(ev.ID))
			}
		}
	}
	return nil
}

// settleNow brings a file's row up to date without waiting for the settle time to pass. It reports false where somebody can write to the
// file still; a file that was at rest already is fine. f.content is held.
func (t *Tree) settleNow(f *file) (bool, error) {
	f.mu.Lock()
	hot := f.hot
	f.mu.Unlock()
	if !hot {
		return true, nil
	}
	ev, err := t.track.Take(f.ino)
	switch {
	case err != nil:
		return false, failed("settle", err)
	case ev.Kind == writers.Gone:
		if r, err := t.row(f.ino); err != nil || r.nlink == 0 {
			return false, stale(f.ino) // removed meanwhile
		}
		return false, corrupt("the backing file", f.ino)
	case ev.Kind != writers.Quiet:
		return false, nil
	}
	// The tracker may have forgotten the file already, with its verdict on the way here: then it knows of no change.
	f.mu.Lock()
	ev.Changed = ev.Changed || ev.Stamp != f.base
	f.mu.Unlock()
	if err := t.adopt([]settling{{f, ev}}); err != nil {
		t.settler.notify(ev) // the tracker has forgotten the file
		return false, err
	}
	return true, nil
}

// restNow is settleNow that errors with KindAgain where the file does not come to rest.
func (t *Tree) restNow(f *file) error {
	rests, err := t.settleNow(f)
	if err == nil && !rests {
		err = again("somebody may write to it")
	}
	return err
}

// settling is a file at which nobody writes any more, with its content held.
type settling struct {
	f  *file
	ev writers.Event
}

// adopt writes what the backing files tell into the rows, in one commit, and ends the time in which they tell the attributes. Files that
// were opened for writing again are left alone: the next verdict counts from the same base. Content of all is held.
func (t *Tree) adopt(files []settling) error {
	if len(files) == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	done := make([]settling, 0, len(files))
	for _, s := range files {
		s.f.mu.Lock()
		ok := s.f.hot && s.f.writers == 0
		s.f.mu.Unlock()
		if !ok {
			continue
		}
		r, err := t.row(s.f.ino)
		if errors.Is(err, sharefs.KindStale) {
			continue
		}
		if err != nil {
			return err
		}
		c := *r
		st, err := t.fromBacking(s.f, &c)
		if err != nil {
			if c.nlink > 0 { // else the reaper has it
				t.log.Error("a backing file cannot be read", "inode", uint64(s.f.ino), "err", err)
			}
			continue
		}
		// The verdict may be an older one than that which let the file come here: what the file holds now counts.
		if now := stampOf(&st); now != s.ev.Stamp {
			s.ev.Stamp, s.ev.Changed = now, true
		}
		if err := t.hooks.settled(x, s.f, &c, s.ev); err != nil {
			return err
		}
		if c != *r {
			x.rows = append(x.rows, &c)
		} else {
			x.tell(s.f.ino, 0) // somebody may wait for the file to come to rest
		}
		done = append(done, s)
	}
	if len(x.rows) > 0 || x.b.Len() > 0 {
		if err := x.commit(); err != nil {
			return err
		}
	}
	for _, s := range done {
		t.cooled(s.f, s.ev)
	}
	return nil
}

// cooled notes that the row of a file tells its attributes; Tree.mu and the file's content are held.
func (t *Tree) cooled(f *file, ev writers.Event) {
	f.changes.Store(nil)
	f.mu.Lock()
	f.hot, f.fresh, f.mapped, f.adopted, f.base = false, false, false, false, ev.Stamp
	gen := f.gen
	f.mu.Unlock()
	s := &t.settler
	s.mu.Lock()
	s.cool = append(s.cool, cooled{f, gen})
	s.mu.Unlock()
	t.unmarkSoon()
	if t.past.passed.Swap(false) {
		t.past.roused(time.Now())
	}
}
