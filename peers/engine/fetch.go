package engine

import (
	"context"
	"errors"
	"slices"
	"time"

	"sharefs"
	"sharefs/peers/record"
)

// Bounds of what is fetched at a time: who fetch, and what each takes on. Small contents go together, for a sync of the packs serves all of them; a large one goes by itself,
// and two at most at a time, so that they hold up neither small ones nor the turn in which these become visible. Of the small ones a turn lists more than are begun: whoever
// ends takes the next of them at once, for the turn may be busy applying, and peers would have nothing to send meanwhile.
const (
	mostSmall    = 10
	mostLarge    = 2
	largeBytes   = 4 << 20
	batchFiles   = 256
	batchBytes   = 32 << 20
	mostWanted   = 16 * batchFiles
	mostLeases   = 256
	failurePause = time.Second // before a content is tried again that could not be had; it doubles, up to longestPause
	fewFailures  = 100         // below so many, up to fewPause, for they cost little
	fewPause     = 10 * time.Second
)

// failure is why a content could not be had.
type failure struct {
	err   error
	pause time.Duration
	since time.Time
	next  time.Time
}

// fresh reports whether it came after a moment.
func (f *failure) fresh(t time.Time) bool { return f.since.After(t) }

// missing is what is known to be elsewhere still.
type missing struct {
	contents int
	bytes    uint64
}

func (m *missing) add(v *record.Record) {
	m.contents++
	m.bytes += v.Body.(*record.Version).Size
}

// fetch has somebody fetch what is wanted and nobody is at.
func (e *Engine) fetch() error {
	now := time.Now()
	var all missing
	left := map[record.ID]bool{} // what failed and is still wanted
	list, err := e.replica.Wanted(mostWanted, func(v *record.Record) bool {
		id := v.ID()
		e.mu.Lock()
		defer e.mu.Unlock()
		f, bad := e.failed[id]
		if bad {
			left[id] = true
		}
		skip := e.running[id] || bad && now.Before(f.next)
		if skip {
			all.add(v)
		}
		return skip
	})
	e.mu.Lock()
	defer e.mu.Unlock()
	e.listed = nil
	var batch []*record.Record
	var bytes uint64
	for _, v := range list {
		all.add(v)
		size := v.Body.(*record.Version).Size
		if size > largeBytes {
			e.begin(&e.large, mostLarge, []*record.Record{v})
			continue
		}
		if len(batch) == batchFiles || bytes+size > batchBytes {
			e.beginSmall(batch)
			batch, bytes = nil, 0
		}
		batch, bytes = append(batch, v), bytes+size
	}
	e.beginSmall(batch)
	e.missing = all
	e.next = time.Time{}
	for id, f := range e.failed {
		if !left[id] && len(list) < mostWanted && !f.fresh(now) {
			delete(e.failed, id)
		} else if !e.running[id] && f.next.After(now) && (e.next.IsZero() || f.next.Before(e.next)) {
			e.next = f.next // what is due already waits for somebody who is at work, and whose end wakes the loop
		}
	}
	return err
}

// beginSmall has somebody fetch small contents, now or when there is one to spare. e.mu is held.
func (e *Engine) beginSmall(list []*record.Record) {
	if e.small >= mostSmall {
		e.listed = append(e.listed, list)
		return
	}
	e.begin(&e.small, mostSmall, list)
}

// begin has somebody fetch those of some contents that nobody is at, if there is one to spare of most; at is how many are at work. e.mu is held.
func (e *Engine) begin(at *int, most int, list []*record.Record) {
	list = slices.DeleteFunc(list, func(v *record.Record) bool { return e.running[v.ID()] })
	if e.closed || len(list) == 0 || *at >= most {
		return
	}
	*at++
	for _, v := range list {
		e.running[v.ID()] = true
	}
	e.wg.Go(func() { e.gather(at, list) })
}

// gather fetches some contents, and has the next turn apply them.
func (e *Engine) gather(at *int, list []*record.Record) {
	lease, errs, err := e.cfg.Gather(list, source{e, list}, true)
	var whole []record.ID
	e.mu.Lock()
	for i, v := range list {
		id := v.ID()
		delete(e.running, id)
		delete(e.reached, id)
		why := err
		if why == nil {
			why = errs[i]
		}
		if why == nil {
			delete(e.failed, id)
			whole = append(whole, id)
			continue
		}
		f := e.failed[id]
		most := longestPause
		if len(e.failed) < fewFailures {
			most = fewPause
		}
		f.err, f.pause = why, min(max(2*f.pause, failurePause), most)
		if errors.Is(why, sharefs.KindNoSpace) {
			f.pause = min(f.pause, 2*failurePause)
		}
		f.since = time.Now()
		f.next = f.since.Add(f.pause)
		e.failed[id] = f
	}
	*at--
	for len(e.listed) > 0 && e.small < mostSmall {
		next := e.listed[0]
		e.listed = e.listed[1:]
		e.beginSmall(next)
	}
	var old Lease
	if lease != nil {
		e.leases = append(e.leases, lease)
		if len(e.leases) > mostLeases { // what then goes for want of a lease is fetched again
			old, e.leases = e.leases[0], e.leases[1:]
		}
	}
	closed := e.closed
	e.mu.Unlock()
	if old != nil {
		old.End()
	}
	for _, v := range list {
		e.cfg.Exchange.Drop(v.ID())
	}
	if len(whole) > 0 {
		e.cfg.Exchange.Complete(whole...)
	}
	if !closed {
		e.note(fetching, err)
		e.Wake()
	}
}

// Retry has contents tried again at once that could not be had: those of some versions, or all.
func (e *Engine) Retry(versions ...record.ID) {
	e.mu.Lock()
	if len(versions) == 0 {
		for id, f := range e.failed {
			f.next = time.Time{}
			e.failed[id] = f
		}
	}
	some := len(versions) == 0
	for _, id := range versions {
		if f, ok := e.failed[id]; ok {
			f.next, some = time.Time{}, true
			e.failed[id] = f
		}
	}
	e.mu.Unlock()
	if some {
		e.Wake()
	}
}

// Fetch brings contents here that no turn asks for, and waits for that. They stay as long as the lease lasts. Errs tells of each; err: none is here.
func (e *Engine) Fetch(list []*record.Record) (lease Lease, errs []error, err error) {
	lease, errs, err = e.cfg.Gather(list, source{e, list}, false)
	for i, v := range list {
		e.cfg.Exchange.Drop(v.ID())
		if err == nil && errs[i] == nil {
			e.cfg.Exchange.Complete(v.ID())
		}
	}
	return lease, errs, err
}

// source is the exchange as those see it who put chunks into packs.
type source struct {
	e    *Engine
	list []*record.Record
}

func (s source) Want(of int, ids ...sharefs.ChunkID) { s.e.cfg.Exchange.Want(s.list[of], ids...) }

// Reached notes how far a content is (versions.Watcher).
func (s source) Reached(of int, upTo uint64) {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	if id := s.list[of].ID(); s.e.running[id] {
		s.e.reached[id] = upTo
	}
}

// Checked says that the exchange hashes what comes, by what checks its chunks (versions.Checked).
func (s source) Checked() {}

// Get takes what the exchange has checked already.
func (s source) Get(of int, id sharefs.ChunkID, _ func([]byte) bool) ([]byte, error) {
	data, err := s.e.cfg.Exchange.Get(s.e.ctx, s.list[of], id)
	if errors.Is(err, context.Canceled) {
		err = sharefs.KindStale
	}
	return data, err
}
