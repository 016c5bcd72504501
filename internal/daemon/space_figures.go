package daemon

import (
	"time"

	"sharefs"
	"sharefs/internal/status"
)

// sight is what tells whether something has changed of what is here.
type sight struct {
	activity uint64
	asked    uint64 // changes that somebody asked for, or was promised, and knows to be done
	receives bool   // content comes, which changes it all the time
}

func (s *space) sight() sight {
	return sight{s.d.tree.Activity(), s.ended.Load() + s.d.tree.Pins(), s.d.travel.receives()}
}

// findMost is how long who asks for figures waits for the first look at what is absent.
const findMost = time.Second

// surveyAbsent looks at what is absent and not pinned, where there is no budget: what was freed here, or came absent when there was one.
func (s *space) surveyAbsent(r *status.Room, pinned map[sharefs.Ino]bool) {
	s.find.Do(func() {
		if s.ctx.Err() != nil {
			return
		}
		found := make(chan struct{})
		s.hands.Go(func() {
			defer close(found)
			if err := s.d.tree.FindAbsent(s.ctx.Done()); err != nil && s.ctx.Err() == nil {
				s.d.log.Warn("what is absent cannot be told", "error", err)
			}
			s.ended.Add(1)
		})
		select {
		case <-found:
		case <-s.ctx.Done():
		case <-time.After(findMost):
		}
	})
	s.d.tree.EachAbsent(func(ino sharefs.Ino, size, here uint64) bool {
		if !pinned[ino] {
			r.Lack(size, here)
		}
		return s.ctx.Err() == nil
	})
}

// surveyPins looks at all that is pinned.
func (s *space) surveyPins(r *status.Room) (pinned map[sharefs.Ino]bool, err error) {
	pinned = map[sharefs.Ino]bool{}
	err = s.d.tree.EachPinned(func(ino sharefs.Ino, size uint64, absent bool) bool {
		pinned[ino] = true
		r.PinnedFiles++
		r.Pinned += size
		if absent {
			r.LackingFiles++
			r.Lacking += size
			if p, err := s.d.tree.Presence(ino); err == nil {
				r.Lacking -= min(p.Here, size)
			}
		}
		return s.ctx.Err() == nil
	})
	return pinned, err
}

// figures tells how the room is used, as of a moment ago.
func (s *space) figures() *status.Room {
	if s.stop == nil || s.d.store.ReadOnly {
		return nil
	}
	at := s.sight()
	s.mu.Lock()
	r, seen := s.last, s.seen
	// While something comes, or files change, a look takes at most a twentieth of the time; what was asked for and is done shows at once.
	stale := s.looked.IsZero() || seen.asked != at.asked || (seen != at || at.receives) && time.Since(s.looked) > 20*s.took
	s.mu.Unlock()
	if stale {
		if now, _, err := s.survey(); err == nil {
			r = now
		}
	}
	if s.budget == 0 && r.PinnedFiles == 0 && r.AbsentFiles == 0 {
		return nil
	}
	r.Nobody = !s.d.travel.anybody()
	r.Vain = s.d.travel.missed.count()
	if r.LackingFiles > 0 {
		r.Why = s.pins.waiting()
	}
	return &r
}
