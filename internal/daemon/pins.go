package daemon

import (
	"context"
	"errors"
	"sync"
	"time"

	"sharefs"
	"sharefs/peers/record"
	"sharefs/versions"
)

// hydrator brings pinned files here that are absent. It asks for each as soon as it is known that it lacks; what nobody has waits without being asked for again until a peer comes, or says that it has just that;
// what there is no room for waits until there is some. Which files lack is kept by the tree ([versions.Tree.PinLacking]), across restarts.
type hydrator struct {
	s    *space
	wake chan struct{}

	mu     sync.Mutex           // guards what follows
	at     map[sharefs.Ino]bool // being brought
	waits  map[sharefs.Ino]wait
	asked  map[record.ID]sharefs.Ino // of those that wait for a peer, by what they wait for
	events uint64                    // peers that came, or had something new
}

// wait is why a file is not tried at present. Where there is no time it waits for a peer, or for room.
type wait struct {
	err   error
	of    record.ID // the version; zero: none is known
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
	h.s, h.wake = s, make(chan struct{}, 1)
	h.at, h.waits, h.asked = map[sharefs.Ino]bool{}, map[sharefs.Ino]wait{}, map[record.ID]sharefs.Ino{}
	s.hands.Go(h.run)
}

// wakeUp has it looked what can be brought.
func (h *hydrator) wakeUp() {
	if h.wake == nil {
		return
	}
	select {
	case h.wake <- struct{}{}:
	default:
	}
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

// roomMade says that there may be room for what there was none.
func (h *hydrator) roomMade() {
	h.mu.Lock()
	h.goOn((*wait).forRoom)
	h.mu.Unlock()
	h.wakeUp()
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
		case <-retry.C:
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

// round begins with what can be brought, and returns after what time there is more to try; 0: when something happens.
func (h *hydrator) round() (next time.Duration, err error) {
	now := time.Now()
	lacks := map[sharefs.Ino]bool{}
	for from := sharefs.Ino(0); ; {
		list, err := h.s.d.tree.PinLacking(from, hydrateList)
		if err != nil {
			return 0, err
		}
		h.mu.Lock()
		for _, ino := range list {
			lacks[ino] = true
			w, waits := h.waits[ino]
			switch {
			case h.at[ino] || waits && w.until.IsZero():
			case waits && w.until.After(now):
				if left := w.until.Sub(now); next == 0 || left < next {
					next = left
				}
			case len(h.at) < hydrators:
				h.at[ino] = true
				h.s.hands.Go(func() { h.bring(ino) })
			default: // whoever ends wakes the loop
				h.mu.Unlock()
				return next, nil
			}
		}
		h.mu.Unlock()
		if len(list) < hydrateList {
			break
		}
		from = list[len(list)-1] + 1
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for ino, w := range h.waits { // what does not lack any more
		if !lacks[ino] && !h.at[ino] {
			delete(h.waits, ino)
			delete(h.asked, w.of)
		}
	}
	return next, nil
}

// bring brings one file here.
func (h *hydrator) bring(ino sharefs.Ino) {
	h.mu.Lock()
	events := h.events
	h.mu.Unlock()
	of, err := h.fetch(ino)
	h.mu.Lock()
	delete(h.at, ino)
	was := h.waits[ino]
	delete(h.waits, ino)
	delete(h.asked, was.of)
	switch {
	case err == nil, h.s.ctx.Err() != nil:
	case errors.Is(err, errNoRoom):
		h.waits[ino] = wait{err: err, of: of}
	case errors.Is(err, sharefs.KindUnreachable):
		if h.events == events { // else somebody may have it who came meanwhile
			h.waits[ino] = wait{err: err, of: of}
			if of != (record.ID{}) {
				h.asked[of] = ino
			}
		}
	default:
		pause := min(max(2*was.pause, hydratePause), hydrateMost)
		h.waits[ino] = wait{err: err, until: time.Now().Add(pause), pause: pause}
	}
	h.mu.Unlock()
	h.wakeUp()
}

// fetch has all of a file come, within the budget, and returns the version that was asked for.
func (h *hydrator) fetch(ino sharefs.Ino) (of record.ID, err error) {
	s := h.s
	tree := s.d.tree
	p, err := tree.Presence(ino)
	if err != nil || !p.Absent {
		return of, nil // it is gone, or was brought by others
	}
	of, err = s.d.travel.wantedOf(ino)
	if err != nil {
		return of, err
	}
	return of, s.bring(s.ctx.Done(), ino, &p, false)
}

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
	if s.budget == 0 {
		return s.d.tree.Bring(cancel, ino, patient, nil)
	}
	r, err := s.reserve(ino, int64(p.Size-min(p.Here, p.Size)))
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

// reserve takes room for what is about to come of a file, making some if need be.
func (s *space) reserve(ino sharefs.Ino, bytes int64) (r *reservation, err error) {
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
	s.room(ctx, bytes)
	if take() {
		return r, nil
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
