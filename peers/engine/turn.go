package engine

import (
	"errors"
	"sync"
	"time"

	"sharefs"
)

// Pauses before what did not come off is tried again without anybody asking for it, for not everything that is waited for is told of, such as room on a disk, or a file that was closed
// unchanged: the first; the longest soon after somebody asked; then a part of the time since, up to a bound; and the longest ever. A turn that cost something is followed by so many times what
// it took.
const (
	firstPause   = 20 * time.Millisecond
	usualPause   = 2 * time.Second
	quietShare   = 16
	quietPause   = time.Minute
	longestPause = 5 * time.Minute
	turnShare    = 50
)

// longest returns the longest pause after a turn that took some time, a while after somebody asked for one.
func longest(took, since time.Duration) time.Duration {
	return min(max(usualPause, min(since/quietShare, quietPause), turnShare*took), longestPause)
}

// While contents come, what is here is put into the tree no sooner than so long after the last time as that took, and so many times that long if it took very long: each time all names that
// wait are gone through, which for a hundred thousand takes seconds of the processor.
const (
	applyShort = 20 * time.Millisecond // is no matter
	applyLong  = 500 * time.Millisecond
	applyShare = 3
)

// applyPause returns for how long others have the processor after what is here was put into the tree, while contents come.
func applyPause(took time.Duration) time.Duration {
	switch {
	case took < applyShort:
		return 0
	case took < applyLong:
		return took
	}
	return applyShare * took
}

// What a turn does, as it is told where it fails.
const (
	opening   = "open the records of peers"
	authoring = "write down what changed here"
	looking   = "look for what is missing"
	fetching  = "fetch contents"
	applying  = "apply what peers say"
)

// work carries out turns until the end.
func (e *Engine) work() {
	asked := time.Now()
	for {
		select {
		case <-e.ending:
			e.last()
			return
		case <-e.cfg.Changed:
			e.pause, asked = 0, time.Now()
		case <-e.wake:
			e.pause, asked = 0, time.Now()
		case <-e.retry.C:
		}
		e.retry.Stop()
		began := time.Now()
		if e.turn() {
			e.pause = 0
			continue
		}
		e.pause = min(max(2*e.pause, firstPause), longest(time.Since(began), began.Sub(asked)))
		wait := e.pause
		if !e.next.IsZero() {
			wait = min(wait, max(time.Until(e.next), firstPause))
		}
		e.retry.Reset(wait)
	}
}

// turn does what there is to do, and reports whether nothing is left of which nobody but time will tell.
func (e *Engine) turn() bool {
	if e.replica == nil && !e.open() {
		return false
	}
	e.mu.Lock()
	if e.turned != nil {
		e.ends = append(e.ends, e.turned)
		e.turned = nil
	}
	e.mu.Unlock()
	done := e.author()
	done = e.note(looking, e.fetch()) && done
	if e.gathers(time.Now()) {
		return false
	}
	began := time.Now()
	waiting, err := e.apply()
	e.applied = time.Now()
	e.took = e.applied.Sub(began)
	done = e.note(applying, err) && done
	e.mu.Lock()
	e.names = waiting
	e.mu.Unlock()
	for _, end := range e.ends {
		close(end)
	}
	e.ends = nil
	if waiting == 0 {
		e.endLeases()
	}
	return done && waiting == 0
}

// apply has the replica apply what there is, and looks meanwhile for what is missing whenever somebody asks for a turn: records go on coming, and peers would have nothing to send.
func (e *Engine) apply() (waiting int, err error) {
	over := make(chan struct{})
	var beside sync.WaitGroup
	beside.Go(func() {
		for asked := false; ; {
			select {
			case <-e.wake:
				asked = true
				e.note(looking, e.fetch())
			case <-over:
				if asked { // the turn itself is still to come
					e.Wake()
				}
				return
			}
		}
	})
	defer beside.Wait()
	defer close(over)
	return e.replica.Apply()
}

// gathers reports whether this turn is to do no more than fetch, since more comes to be applied together with what is here.
func (e *Engine) gathers(now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.running) > 0 && e.names > 0 && now.Sub(e.applied) < applyPause(e.took)
}

// open opens the replica.
func (e *Engine) open() bool {
	r, err := e.cfg.Open()
	if e.note(opening, err) {
		e.replica = r
	}
	return e.replica != nil
}

// author writes down what changed, and has peers told.
func (e *Engine) author() (done bool) {
	n, err := e.replica.Author()
	if n > 0 {
		e.cfg.Exchange.Grown()
	}
	return e.note(authoring, err)
}

// note keeps why something does not come off, for the status, logs it once, and reports whether it did come off. That something is not at rest is nothing to be told.
func (e *Engine) note(what string, err error) bool {
	if errors.Is(err, sharefs.KindAgain) {
		e.note(what, nil)
		return false
	}
	e.mu.Lock()
	had := e.troubles[what]
	if err == nil {
		delete(e.troubles, what)
	} else {
		e.troubles[what] = err
	}
	e.mu.Unlock()
	switch {
	case err == nil && had != nil:
		e.cfg.Log.Info("this works again: " + what)
	case err != nil && (had == nil || had.Error() != err.Error()):
		e.cfg.Log.Warn("this has to be tried again: "+what, "error", err)
	}
	return err == nil
}

// last is the last turn: what was changed is told.
func (e *Engine) last() {
	if e.replica != nil {
		e.author()
	}
}
