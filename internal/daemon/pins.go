package daemon

import (
	"context"
	"errors"
	"sync"
	"time"

	"sharefs"
	"sharefs/peers/pace"
	"sharefs/peers/record"
	"sharefs/versions"
)

// hydrator brings pinned files here that are absent. It asks for each as soon as it is known that it lacks; what nobody has waits without being asked for again until a peer comes, or says that it has just that;
// what there is no room for waits until there is some. Which files lack is kept by the tree ([versions.Tree.PinLacking]), across restarts.
type hydrator struct {
	s       *space
	wake    chan struct{}
	lacking func(from sharefs.Ino, most int) ([]sharefs.Ino, error)     // as [versions.Tree.PinLacking]
	fetch   func(ino sharefs.Ino) (of record.ID, need int64, err error) // has a file come
	pass    pass                                                        // only run uses it

	mu     sync.Mutex           // guards what follows
	anew   bool                 // a pass is to begin: more may be to be tried than what the one under way has not come to
	soon   time.Time            // when a file is to be tried again; zero: none is
	at     map[sharefs.Ino]bool // being brought; true: a pass came to it meanwhile
	waits  map[sharefs.Ino]wait
	asked  map[record.ID]sharefs.Ino // of those that wait for a peer, by what they wait for
	events uint64                    // peers that came, or had something new
}

// pass is how far it has come through all that lacks.
type pass struct {
	list  []sharefs.Ino        // that is to be come to next
	from  sharefs.Ino          // behind that
	over  bool                 // there is none behind it
	lacks map[sharefs.Ino]bool // all that was come to
}

// wait is why a file is not tried at present. Where there is no time it waits for a peer, or for room.
type wait struct {
	err   error
	of    record.ID // the version; zero: none is known
	need  int64     // bytes that there was no room for
	until time.Time
	pause time.Duration
}

func (w *wait) forRoom() bool { return errors.Is(w.err, errNoRoom) }
func (w *wait) forPeer() bool { return w.until.IsZero() && !w.forRoom() }

const (
	hydrators    = 4 // files that are brought here at once
	hydrateList  = 1024
	hydratePause = 2 * time.Second // before a file is tried again for which there was no room, or that failed; it doubles
	hydrateMost  = 5 * time.Minute
)

// errNoRoom is why a pinned file is not brought here.
var errNoRoom = &sharefs.Error{Op: "bring here", Kind: sharefs.KindNoSpace, Detail: "space.budget has no room for it"}

func (h *hydrator) start(s *space) {
	h.begin(s)
	s.hands.Go(h.run)
}

func (h *hydrator) begin(s *space) {
	h.s, h.wake = s, make(chan struct{}, 1)
	h.lacking, h.fetch = s.d.tree.PinLacking, s.fetch
	h.anew = true
	h.at, h.waits, h.asked = map[sharefs.Ino]bool{}, map[sharefs.Ino]wait{}, map[record.ID]sharefs.Ino{}
}

// wakeUp has it looked what can be brought.
func (h *hydrator) wakeUp() {
	poke(h.wake)
}

// retry says that a peer may have what was not to be had: those versions, or anything.
func (h *hydrator) retry(versions ...record.ID) {
	h.mu.Lock()
	h.events++
	some := len(versions) == 0
	if some {
		h.goOn((*wait).forPeer)
	}
	for _, id := range versions {
		if ino, ok := h.asked[id]; ok {
			delete(h.asked, id)
			delete(h.waits, ino)
			some = true
		}
	}
	h.anew = h.anew || some
	h.mu.Unlock()
	if some {
		h.wakeUp()
	}
}

// goOn ends the waiting of some files. h.mu is held.
func (h *hydrator) goOn(which func(*wait) bool) {
	for ino, w := range h.waits {
		if which(&w) {
			delete(h.waits, ino)
			delete(h.asked, w.of)
		}
	}
}

// roomMade says that there may be room for so many bytes.
func (h *hydrator) roomMade(bytes int64) {
	h.mu.Lock()
	before := len(h.waits)
	h.goOn(func(w *wait) bool { return w.forRoom() && w.need <= bytes })
	some := len(h.waits) < before
	h.anew = h.anew || some
	h.mu.Unlock()
	if some {
		h.wakeUp()
	}
}

// again has all be looked at that lacks.
func (h *hydrator) again() {
	h.mu.Lock()
	h.anew = true
	h.mu.Unlock()
}

func (h *hydrator) run() {
	ctx, tree := h.s.ctx, h.s.d.tree
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.wake:
		case <-tree.PinLacks():
			h.again()
		case <-retry.C:
			h.again()
		}
		next, err := h.round()
		if err != nil && ctx.Err() == nil {
			h.s.d.log.Warn("what is pinned and lacks cannot be listed", "error", err)
			next = hydratePause
		}
		if retry.Stop(); next > 0 {
			retry.Reset(next)
		}
	}
}

// round begins with what can be brought, and returns after what time there is more to try; 0: when something happens. It goes on where the one before ended, so that what waits is not looked at
// again for each that comes.
func (h *hydrator) round() (next time.Duration, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.anew {
		h.anew, h.pass, h.soon = false, pass{lacks: map[sharefs.Ino]bool{}}, time.Time{}
	}
	for p := &h.pass; ; {
		for ; len(p.list) > 0; p.list = p.list[1:] {
			ino := p.list[0]
			w, waits := h.waits[ino]
			switch _, at := h.at[ino]; {
			case at:
				h.at[ino] = true
			case waits && w.until.IsZero():
			case waits && w.until.After(time.Now()):
				h.tryAt(w.until)
			case len(h.at) < hydrators:
				h.at[ino] = false
				h.s.hands.Go(func() { h.bring(ino) })
			default: // whoever ends wakes the loop
				return h.next(), nil
			}
			p.lacks[ino] = true
		}
		if p.over {
			return h.next(), nil
		}
		h.mu.Unlock()
		p.list, err = h.lacking(p.from, hydrateList)
		h.mu.Lock()
		if err != nil {
			return 0, err
		}
		if p.over = len(p.list) < hydrateList; !p.over {
			p.from = p.list[len(p.list)-1] + 1
			continue
		}
		for _, ino := range p.list {
			p.lacks[ino] = true
		}
		for ino, w := range h.waits { // what does not lack any more
			if _, at := h.at[ino]; !at && !p.lacks[ino] {
				delete(h.waits, ino)
				delete(h.asked, w.of)
			}
		}
	}
}

// tryAt has it looked at what lacks at a time. h.mu is held.
func (h *hydrator) tryAt(at time.Time) {
	if h.soon.IsZero() || at.Before(h.soon) {
		h.soon = at
	}
}

// next is how long it is up to then, 0 if there is no such time. h.mu is held.
func (h *hydrator) next() time.Duration {
	if h.soon.IsZero() {
		return 0
	}
	return max(time.Until(h.soon), time.Millisecond)
}

// bring brings one file here.
func (h *hydrator) bring(ino sharefs.Ino) {
	h.mu.Lock()
	events := h.events
	h.mu.Unlock()
	of, need, err := h.fetch(ino)
	h.mu.Lock()
	h.anew = h.anew || h.at[ino] && err == nil // it may lack something else by now
	delete(h.at, ino)
	was := h.waits[ino]
	delete(h.waits, ino)
	delete(h.asked, was.of)
	switch {
	case err == nil, h.s.ctx.Err() != nil:
	case errors.Is(err, errNoRoom):
		h.waits[ino] = wait{err: err, of: of, need: need}
	case errors.Is(err, sharefs.KindUnreachable):
		if h.anew = h.anew || h.events != events; h.events == events { // else somebody may have it who came meanwhile
			h.waits[ino] = wait{err: err, of: of}
			if of != (record.ID{}) {
				h.asked[of] = ino
			}
		}
	default:
		pause := min(max(2*was.pause, hydratePause), hydrateMost)
		w := wait{err: err, until: time.Now().Add(pause), pause: pause}
		h.waits[ino] = w
		h.tryAt(w.until)
	}
	h.mu.Unlock()
	h.wakeUp()
}

// fetch has all of a pinned file come, within the budget, and returns the version that was asked for, and how much of it there was to come.
func (s *space) fetch(ino sharefs.Ino) (of record.ID, need int64, err error) {
	p, err := s.d.tree.Presence(ino)
	if err != nil || !p.Absent {
		return of, 0, nil // it is gone, or was brought by others
	}
	of, err = s.d.travel.wantedOf(ino)
	if err != nil {
		return of, 0, err
	}
	return of, toCome(&p), s.bring(s.ctx.Done(), ino, &p, false)
}

// toCome is how many bytes of a file are not here.
func toCome(p *versions.Presence) int64 { return int64(p.Size - min(p.Here, p.Size)) }

// bringOne is what a user asks for who wants a file here.
func (s *space) bringOne(cancel <-chan struct{}, ino sharefs.Ino) error {
	p, err := s.d.tree.Presence(ino)
	if err != nil || !p.Absent {
		return err
	}
	return s.bring(cancel, ino, &p, true)
}

// bring has all of an absent file come, if the budget has room for it.
func (s *space) bring(cancel <-chan struct{}, ino sharefs.Ino, p *versions.Presence, patient bool) error {
	defer s.ended.Add(1)
	if s.budget == 0 {
		return s.d.tree.Bring(cancel, ino, patient, nil)
	}
	r, err := s.reserve(ino, toCome(p), patient)
	if err != nil {
		return err
	}
	defer s.release(ino, r)
	return s.d.tree.Bring(cancel, ino, patient, func(here uint64) { s.give(r, int64(p.Size-min(here, p.Size))) })
}

// reservation is the room for what of a file is still to come, be it for several who want it. Guarded by space.mu.
type reservation struct {
	left int64
	of   int
}

// reserve takes room for what is about to come of a file, making some if need be. Patient is who waits out the moment in which nobody waits for room, for there was none to be had: more may go
// by now, as what was unpinned right before.
func (s *space) reserve(ino sharefs.Ino, bytes int64, patient bool) (r *reservation, err error) {
	take := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		if r = s.takes[ino]; r == nil {
			if s.used+s.taken+bytes > int64(s.budget) {
				return false
			}
			r = &reservation{left: bytes}
			s.takes[ino] = r
			s.taken += bytes
		}
		r.of++
		return true
	}
	if take() {
		return r, nil
	}
	ctx, end := context.WithTimeout(s.ctx, spaceLook)
	defer end()
	s.mu.Lock()
	rest := time.Until(s.full)
	s.mu.Unlock()
	s.room(ctx, bytes)
	if take() {
		return r, nil
	}
	if patient && rest > 0 && rest <= spacePause && pace.Sleep(ctx, rest) == nil {
		s.room(ctx, bytes)
		if take() {
			return r, nil
		}
	}
	return nil, errNoRoom
}

// give says how much is still to come.
func (s *space) give(r *reservation, left int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if left < r.left {
		s.taken -= r.left - left
		r.left = left
	}
}

// release ends a reservation.
func (s *space) release(ino sharefs.Ino, r *reservation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.of--; r.of == 0 {
		s.taken -= r.left
		delete(s.takes, ino)
	}
}

// waiting counts why pinned files do not come, and how many there are of each.
func (h *hydrator) waiting() map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	why := map[string]int{}
	for _, w := range h.waits {
		switch {
		case w.forRoom():
			why[whyNoRoom]++
		case w.forPeer():
			why[whyNobody]++
		case errors.Is(w.err, sharefs.KindNoSpace):
			why[whyFull]++
		default:
			why[w.err.Error()]++
		}
	}
	return why
}

// Reasons for which pinned files are not here.
const (
	whyNobody = "no connected host has it"
	whyNoRoom = "the budget has no room: raise [space] budget in share.toml, or unpin something"
	whyFull   = "the disk below the store is full; it comes when there is room"
)
