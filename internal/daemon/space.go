package daemon

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sharefs"
	"sharefs/fs"
	"sharefs/internal/status"
	"sharefs/peers/record"
	"sharefs/peers/replica/host"
	"sharefs/versions"
)

// space keeps what content takes here within the budget of share.toml: what comes from peers is absent but for small files, and what was used longest ago goes when
// there is no room. What this host alone has, or what others rely on, stays in any case; what is pinned, open or being written to does, too. So the budget bounds what can be
// had again, and not what cannot. What is pinned comes by itself (pins.go), within the budget.
type space struct {
	d        *Daemon
	budget   uint64 // bytes; 0: everything stays
	absence  *host.Absence
	wake     chan struct{}
	ctx      context.Context
	stop     context.CancelFunc
	hands    sync.WaitGroup
	pins     hydrator
	releases releases

	mu      sync.Mutex // guards what follows
	used    int64      // bytes, as of the last look, with what came since
	taken   int64      // of the budget, by what is pinned and about to come
	takes   map[sharefs.Ino]*reservation
	wanted  int64                         // bytes of room that somebody waits for
	passed  chan struct{}                 // closed, and replaced, when it was tried to make room
	full    time.Time                     // until then nobody waits for room, for there was none to be had
	loose   bool                          // more can go than the last look at what is too much knew of
	last    status.Room                   // of the last look
	refused map[sharefs.Ino][]fs.Promised // why others did not promise to keep what a user wanted to free
	seen    sight                         // of what can change it, as of then
	looked  time.Time
	took    time.Duration
	over    time.Time // since when more is here than the budget; zero: there is not

	ended atomic.Uint64 // how many files were brought, freed, or put into packs for a promise, to the end
	find  sync.Once     // looks for what is absent, where there is no budget
}

const (
	smallFile    = 64 << 10         // bytes of the largest content that comes whole, as long as there is room
	freeTo       = 80               // percent of the budget that are left when something is freed
	freeFrom     = 95               // percent of the budget from which on something is freed though nobody waits for room
	smallTo      = 50               // percent of the budget up to which small files come whole
	freeBatch    = 32               // files that are freed at once
	spaceLook    = 30 * time.Second // how often it is looked whether there is too much here, beside when something comes, while files change
	spacePause   = 2 * time.Second  // before it is tried again to make room where there was none to be had
	roomPatience = 2 * time.Second  // how long who reads waits for room for what he reads; then it is not kept
	fewestBytes  = 1 << 20          // that a collection of garbage is worth
)

// startSpace begins, before the mount is used.
func (d *Daemon) startSpace() {
	s := &d.space
	s.d, s.budget = d, uint64(d.store.Config.Space.Budget)
	s.wake, s.passed, s.takes = make(chan struct{}, 1), make(chan struct{}), map[sharefs.Ino]*reservation{}
	s.ctx, s.stop = context.WithCancel(context.Background())
	d.tree.SetElsewhere(&d.travel)
	if d.store.ReadOnly {
		return
	}
	s.pins.start(s)
	s.startReleases()
	if s.budget == 0 {
		return
	}
	s.absence = &host.Absence{Of: func(v *record.Version) bool {
		return v.Size > smallFile || v.Size > 0 && s.usage() > s.budget*smallTo/100
	}}
	d.tree.SetAdmit(s.admit)
	s.hands.Go(s.run)
}

// end ends it.
func (s *space) end() {
	if s.stop == nil {
		return
	}
	s.stop()
	s.hands.Wait()
	if s.d.tree != nil {
		s.d.tree.SetAdmit(nil)
	}
}

// usage is how many bytes are here.
func (s *space) usage() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(max(s.used, 0))
}

// admit takes room for something that is read, if there is any, or can be made within a moment: what is read now is to stay, and what was read longest ago is to go. For what is kept anyway there is.
func (s *space) admit(bytes uint64, keep bool) bool {
	s.mu.Lock()
	if keep {
		s.used += int64(bytes)
	}
	if keep || s.take(int64(bytes)) {
		s.mu.Unlock()
		return true
	}
	full := time.Now().Before(s.full)
	s.mu.Unlock()
	if full {
		return false
	}
	ctx, end := context.WithTimeout(s.ctx, roomPatience)
	defer end()
	s.room(ctx, int64(bytes))
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.take(int64(bytes))
}

// short is how many bytes of room are missing for some, as long as nothing goes.
func (s *space) short(bytes uint64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(max(s.used+s.taken+int64(bytes)-int64(s.budget), 1))
}

// take takes room if there is any. s.mu is held.
func (s *space) take(bytes int64) bool {
	if s.used+s.taken+bytes > int64(s.budget) {
		return false
	}
	s.used += bytes
	return true
}

// room has room made, and waits until that was tried.
func (s *space) room(ctx context.Context, bytes int64) {
	s.mu.Lock()
	if time.Now().Before(s.full) {
		s.mu.Unlock()
		return
	}
	s.wanted = max(s.wanted, bytes)
	passed := s.passed
	s.mu.Unlock()
	s.look()
	select {
	case <-passed:
	case <-ctx.Done():
	}
}

// came notes what came whole.
func (s *space) came(bytes uint64) {
	if s.budget == 0 {
		return
	}
	s.mu.Lock()
	s.used += int64(bytes)
	over := s.used > int64(s.budget)
	s.mu.Unlock()
	if over {
		s.look()
	}
}

// look has it looked whether there is too much here.
func (s *space) look() {
	poke(s.wake)
}

// loosened says that more can go than could: what was found to be full may not be so any more. It is tried again as soon as a look at all that is here is no burden.
func (s *space) loosened() {
	s.mu.Lock()
	s.loose = true
	if soon := s.looked.Add(10 * s.took); soon.Before(s.full) {
		s.full = soon
	}
	s.mu.Unlock()
	s.look()
}

// giveBackRoom takes room back that was taken for what does not come.
func (s *space) giveBackRoom(bytes uint64) {
	s.mu.Lock()
	s.used -= int64(bytes)
	s.mu.Unlock()
}

// run makes room whenever somebody waits for some, and looks now and then whether there is too much here while files change.
func (s *space) run() {
	var seen uint64
	var next time.Time  // when it is looked though nobody waits
	var again time.Time // when it is tried again to free what did not go, for others may keep it by then; zero: nothing is too much
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := time.Now()
		s.mu.Lock()
		if s.loose { // however long it took to free what was freed
			s.loose, seen = false, s.d.tree.Activity()-1
			if soon := now.Add(min(10*s.took, spaceLook)); soon.Before(next) {
				next = soon
			}
		}
		more, full := s.wanted, s.full
		s.mu.Unlock()
		if due := !now.Before(next); !now.Before(full) && (more > 0 || due && s.d.tree.Activity() != seen || !again.IsZero() && !now.Before(again)) {
			seen = s.d.tree.Activity()
			fits, could, err := s.fit(more)
			if err != nil && s.ctx.Err() == nil {
				s.d.log.Warn("what is here cannot be brought into space.budget", "error", err)
			}
			took := time.Since(now)
			next = time.Now().Add(min(10*took, spaceLook))
			s.mu.Lock()
			if again = (time.Time{}); !s.over.IsZero() {
				again = time.Now().Add(max(spaceLook, 10*took))
			}
			if s.wanted, s.full = 0, (time.Time{}); !fits && more <= could && !s.loose { // nothing but time, or others, makes room
				s.full = time.Now().Add(max(spacePause, 10*took))
			}
			close(s.passed)
			s.passed = make(chan struct{})
			s.mu.Unlock()
			if fits {
				s.pins.roomMade(could)
			}
		}
		wait := spaceLook
		s.mu.Lock()
		full = s.full
		s.mu.Unlock()
		for _, at := range [...]time.Time{next, full} { // what woke it too early is looked at then
			if left := time.Until(at); left > 0 {
				wait = min(wait, left)
			}
		}
		timer.Reset(wait)
		select {
		case <-s.ctx.Done():
			return
		case <-s.wake:
		case <-s.d.tree.Loosened():
			s.loosened()
		case <-timer.C:
		}
	}
}

// survey looks at all that is here, and at nothing but what is pinned or absent where there is no budget.
func (s *space) survey() (r status.Room, list []versions.Here, err error) {
	tree := s.d.tree
	began, seen := time.Now(), s.sight()
	defer func() {
		if err == nil {
			s.mu.Lock()
			if r.Used <= r.Budget || r.Budget == 0 {
				s.over = time.Time{}
			} else if s.over.IsZero() {
				s.over = began
			}
			r.OverSince = s.over
			s.last, s.seen, s.looked, s.took = r, seen, time.Now(), time.Since(began)
			s.mu.Unlock()
		}
	}()
	r.Budget = s.budget
	pinned, err := s.surveyPins(&r)
	if err != nil {
		return r, nil, err
	}
	if s.budget == 0 {
		s.surveyAbsent(&r, pinned)
		return r, nil, nil
	}
	if r.Packs, err = tree.PackBytes(); err != nil {
		return r, nil, err
	}
	r.Used = r.Packs
	err = tree.EachHere(func(h versions.Here) bool {
		r.Used += h.Bytes
		if pinned[h.Ino] {
			return s.ctx.Err() == nil
		}
		if h.Part {
			r.Lack(h.Size, h.Bytes)
		}
		if h.Bytes > 0 {
			if list = append(list, h); h.Rests {
				r.Freeable += h.Bytes
			}
		}
		return s.ctx.Err() == nil
	})
	return r, list, err
}

// measure sets what is taken, and returns it with the files that are not pinned, and for how many bytes there could be room at most if all of them went that can.
func (s *space) measure() (used uint64, could int64, list []versions.Here, err error) {
	s.mu.Lock()
	before := s.used
	s.mu.Unlock()
	r, list, err := s.survey()
	if err != nil {
		return 0, 0, nil, err
	}
	s.mu.Lock()
	s.used += int64(r.Used) - before
	taken := s.taken
	s.mu.Unlock()
	return r.Used, int64(s.budget) - int64(r.Used) - taken + mostGone(list, r.Packs), list, nil
}

// fit frees what was used longest ago until there is room for so many bytes more, and reports whether there is, and for how many there could be at most: what others have in several copies goes first.
// For what there is no room in any case nothing goes.
func (s *space) fit(more int64) (fits bool, could int64, err error) {
	used, could, list, err := s.measure()
	if err != nil {
		return false, 0, err
	}
	s.mu.Lock()
	taken := uint64(s.taken)
	s.mu.Unlock()
	need := more
	if more > could {
		need = 0
	}
	if free := s.budget - min(used+taken, s.budget); used+taken <= s.budget*freeFrom/100 && uint64(need) <= free {
		return need == more, could, nil
	}
	goal := min(s.budget*freeTo/100, s.budget-min(uint64(need)+taken, s.budget))
	slices.SortStableFunc(list, func(a, b versions.Here) int { return cmp.Compare(a.Used, b.Used) })
	c := &s.d.store.Config.Space
	var inPacks uint64
	copies := []int{c.Copies, c.Min}
	for _, least := range slices.Compact(copies) {
		used -= evict(list, used-min(used, goal), func(batch []versions.Here) (uint64, []error) {
			if s.ctx.Err() != nil {
				return 0, slices.Repeat([]error{s.ctx.Err()}, len(batch))
			}
			inos := make([]sharefs.Ino, len(batch))
			for i := range batch {
				inos[i] = batch[i].Ino
			}
			gone, errs := s.free(inos, least, nil)
			for i, err := range errs {
				if err == nil && batch[i].Kept {
					inPacks += batch[i].Bytes
				}
			}
			return gone, errs
		})
	}
	if inPacks > fewestBytes || used > goal && inPacks > 0 {
		if _, err := s.d.tree.GC(s.ctx, versions.GCOptions{Hurry: true}, nil); err != nil && !errors.Is(err, sharefs.KindBusy) {
			return false, could, err
		}
	}
	used, could, _, err = s.measure()
	return used+taken+uint64(more) <= s.budget, could, err
}

// mostGone is how many bytes there are fewer if all goes that could, also from packs, which take so many in all.
func mostGone(list []versions.Here, packs uint64) int64 {
	var files, kept uint64
	for i := range list {
		if h := &list[i]; h.Rests {
			files += h.Bytes
			if h.Kept {
				kept += h.Size // packs have no holes, and no blocks: what a small file takes of the disk says nothing of them
			}
		}
	}
	return int64(files + min(kept, packs))
}

// evict frees files in their order until so many bytes have gone, and no more than it takes. What free, which takes several at once, did not err for has no bytes any more. It returns how many went.
func evict(list []versions.Here, bytes uint64, free func(batch []versions.Here) (gone uint64, errs []error)) (all uint64) {
	for next := 0; next < len(list) && all < bytes; {
		var batch []versions.Here
		var at []int
		for sum := all; next < len(list) && sum < bytes && len(batch) < freeBatch; next++ {
			if h := &list[next]; h.Bytes > 0 {
				batch, at, sum = append(batch, *h), append(at, next), sum+h.Bytes
			}
		}
		if len(batch) == 0 {
			continue
		}
		gone, errs := free(batch)
		all += gone
		for i, err := range errs {
			if err == nil {
				list[at[i]].Bytes = 0
			}
		}
	}
	return all
}
