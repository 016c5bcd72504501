package exchange

import (
	"slices"
	"time"
)

// The scheduler gives each want to the peer that will have answered it first: the round trip, and what it was asked for before at the rate at which it answers. A peer is
// asked for no more than it answers within a short while, so that others have their part, and what is left can still go to whoever is faster. At the end, when nothing
// more is to be given away, what slow peers were asked for last is asked of faster ones too; the first answer counts.

const (
	windowTime   = 400 * time.Millisecond // of work that a peer is given ahead, beside two round trips
	windowFirst  = 4 << 20                // bytes, while its rate is not known
	windowLeast  = 1 << 20
	rateFirst    = 10 << 20 // bytes/s
	rateLeast    = 1 << 10
	scanMost     = 256 // wants that are looked at in a queue, where none of them can be given away
	stealFactor  = 1.5 // a faster peer has to be so much faster
	stealAtLeast = 10 * time.Millisecond
	asksMost     = 8192 // of one peer
)

// dispatch gives away what can be. f.mu is held.
func (f *fetcher) dispatch() {
	if f.closed {
		return
	}
	full := f.deal(&f.urgent, true)
	if f.held+f.inFlight < f.x.cfg.Limits.TotalBytes && !full {
		f.deal(&f.ahead, false)
	}
	if len(f.sources) > 1 && f.urgent.len()+f.ahead.len() == 0 {
		f.steal()
	}
	for s := range f.sources {
		s.kick()
	}
}

// deal gives away the wants of a queue, and reports whether no peer has room any more. f.mu is held.
func (f *fetcher) deal(q *queue, urgent bool) (full bool) {
	var kept []*want
	for full = !f.roomy(); !full && len(kept) < scanMost; full = !f.roomy() {
		if !urgent && f.held+f.inFlight >= f.x.cfg.Limits.TotalBytes {
			break
		}
		w := q.next()
		if w == nil {
			break
		}
		if !w.queued || w.urgent != urgent || w.settled() {
			continue
		}
		switch s, may := f.choose(w); {
		case s != nil:
			w.queued = false
			s.ask(w)
		case may: // whoever may have it is busy
			kept = append(kept, w)
		case len(w.at) > 0: // whoever may have it is asked already
			w.queued = false
		case f.nextVersion(w):
			q.addFirst(w)
		default:
			f.settle(w, nil, f.notHere(w))
		}
	}
	for _, w := range slices.Backward(kept) {
		q.addFirst(w)
	}
	return full
}

// roomy reports whether any peer has room. f.mu is held.
func (f *fetcher) roomy() bool {
	for s := range f.sources {
		if s.room() {
			return true
		}
	}
	return len(f.sources) == 0
}

// choose returns the peer that will have answered first, of those that have room and are not asked; may: there is one that may have it. One that has stopped answering is
// asked only where there is no other, and not at all once it was silent for long. f.mu is held.
func (f *fetcher) choose(w *want) (best *source, may bool) {
	var first time.Duration
	lively := false
	for s := range f.sources {
		if _, no := w.missing[s]; no || s.silent || slices.Contains(w.at, s) {
			continue
		}
		may, lively = true, lively || !s.stalled
		if !s.room() {
			continue
		}
		if eta := s.eta(w.size); best == nil || eta < first {
			best, first = s, eta
		}
	}
	if best != nil && best.stalled && lively {
		best = nil
	}
	return best, may
}

// steal asks idle peers for what others were asked for and will answer later. f.mu is held.
func (f *fetcher) steal() {
	for s := range f.sources {
		for s.room() && !s.stalled {
			var from *source
			for o := range f.sources {
				if o != s && len(o.tail) > 0 && (from == nil || o.left() > from.left()) {
					from = o
				}
			}
			if from == nil {
				break
			}
			a := from.tail[len(from.tail)-1]
			if later := time.Duration(stealFactor*float64(s.eta(a.size))) + stealAtLeast; from.left() < later {
				break
			}
			from.double(a)
			if _, no := a.w.missing[s]; !no && !a.w.settled() && f.wants[a.w.id] == a.w && !slices.Contains(a.w.at, s) {
				s.ask(a.w)
			}
		}
	}
}
