package daemon

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"sharefs"
	"sharefs/fs"
	"sharefs/peers/exchange"
	"sharefs/peers/exchange/wire"
	"sharefs/peers/pace"
	"sharefs/peers/record"
	"sharefs/peers/trust"
)

// releases is what goes on about promises that are given back: a host asks those who rely on its copy whether they still do, before it frees the copy, and now and then of all that it promised.
type releases struct {
	look    chan struct{} // it may be time to ask somebody
	instead pace.Bucket   // of questions to others on behalf of who asks

	mu   sync.Mutex                   // guards deaf
	deaf map[sharefs.PeerID]time.Time // until then who did not answer is not asked

	asked map[sharefs.PeerID]time.Time // when a peer was asked for all; of the one goroutine that does so
}

const (
	releaseTime  = keepTime + 5*time.Second // how long a peer may take to answer, who may ask others
	deafTime     = 30 * time.Second         // for which a peer is not asked that did not answer
	insteadRate  = 5                        // questions in a second to others, on behalf of who asks
	insteadBurst = 500
	askAllEvery  = 6 * time.Hour // how often a peer is asked for all that it was promised
	askAllLook   = time.Hour
)

// relying lists the peers whose promises count: a peer that was blocked, revoked or forgotten relies on nothing here.
func (s *space) relying() (peers []sharefs.PeerID) {
	policy := s.d.peers.book.Policy()
	return slices.DeleteFunc(policy.Peers(), func(id sharefs.PeerID) bool { return policy.Most(id) == trust.Blocked })
}

// reclaim asks those who rely on versions here whether they still do; but may leave some out. Instead: they are to ask others to promise the same. It returns who did not answer.
func (s *space) reclaim(ids []record.ID, instead bool, but func(sharefs.PeerID) bool) (silent []sharefs.PeerID, err error) {
	r, ex := s.d.travel.records(), s.d.travel.exchange()
	if r == nil || len(ids) == 0 {
		return nil, nil
	}
	left, err := r.Settle(ids, s.relying)
	if err != nil || ex == nil {
		return nil, err
	}
	by := map[sharefs.PeerID][]record.ID{}
	for _, p := range left {
		for _, to := range p.To {
			if but == nil || !but(to) {
				by[to] = append(by[to], p.ID)
			}
		}
	}
	ctx, cancel := context.WithTimeout(s.ctx, releaseTime)
	defer cancel()
	var mu sync.Mutex
	var hands sync.WaitGroup
	for to, of := range by {
		hands.Go(func() {
			for part := range slices.Chunk(of, wire.MaxKeep) {
				e := s.askBack(ctx, ex, to, part, instead)
				if e == nil {
					continue
				}
				mu.Lock()
				silent = append(silent, to)
				switch sharefs.KindOf(e) {
				case sharefs.KindUnreachable, sharefs.KindNotSupported, sharefs.KindPermission: // it is not to be asked at present
				default:
					err = errors.Join(err, e)
				}
				mu.Unlock()
				return
			}
		})
	}
	hands.Wait()
	return silent, err
}

// askBack asks one of them.
func (s *space) askBack(ctx context.Context, ex *exchange.Exchange, to sharefs.PeerID, ids []record.ID, instead bool) error {
	l := &s.releases
	l.mu.Lock()
	deaf := time.Now().Before(l.deaf[to])
	l.mu.Unlock()
	if deaf {
		return errDeaf
	}
	r := s.d.travel.records()
	if r == nil {
		return errDeaf
	}
	ask := r.Ask(to, ids) // before it is asked
	defer ask.End()
	yes, err := ex.Release(ctx, to, ids, instead)
	if err != nil {
		if ctx.Err() != nil && s.ctx.Err() == nil {
			l.mu.Lock()
			l.deaf[to] = time.Now().Add(deafTime)
			l.mu.Unlock()
		}
		return err
	}
	return ask.Released(yes)
}

var errDeaf = &sharefs.Error{Op: "ask for a promise back", Kind: sharefs.KindUnreachable, Detail: "it is connected, and does not answer"}

// giveBack is what a peer asks for that promised this host to keep something: what this host does not rely on any more, because its tree shows something else, because it holds all of it itself
// again, or, if others may be asked instead, because enough of them promise the same.
func (s *space) giveBack(to sharefs.PeerID, ids []record.ID, instead bool) []record.ID {
	r, ex := s.d.travel.records(), s.d.travel.exchange()
	if r == nil || ex == nil || s.ctx.Err() != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, keepTime)
	defer cancel()
	spare, needed, err := r.Needs(ids, func(rec *record.Record, ino sharefs.Ino) bool { return s.holds(ctx, rec, ino) })
	if err != nil {
		s.d.log.Warn("what others promised to keep is not given back", "error", err)
		return nil
	}
	if !instead || len(needed) == 0 || !s.d.peers.book.Policy().MergesAll(to) || !s.releases.instead.Take(time.Now(), 1, insteadRate, insteadBurst) {
		return spare
	}
	least := s.d.store.Config.Space.Min
	kept := ex.Keep(ctx, needed, least, to)
	for _, id := range needed {
		if len(kept.By[id]) >= least {
			spare = append(spare, id)
		}
	}
	return spare
}

// holds reports whether all of a version is in packs here, and goes only if others promise to keep it. What went and was read again is kept again for that, if it is to stay.
func (s *space) holds(ctx context.Context, rec *record.Record, ino sharefs.Ino) bool {
	return s.hold(ctx, rec, ino) == nil
}

// hold has it so if it can be, and says why it cannot; nil: it is so.
func (s *space) hold(ctx context.Context, rec *record.Record, ino sharefs.Ino) *wire.Refusal {
	no := func(why wire.Reason) *wire.Refusal { return &wire.Refusal{Version: rec.ID(), Reason: why} }
	if s.isSole(rec, ino) {
		return nil
	}
	p, err := s.d.tree.Presence(ino)
	switch {
	case err != nil:
		return no(wire.RefusedOther)
	case p.Absent:
		return no(wire.RefusedMissing)
	case ctx.Err() != nil:
		return no(wire.RefusedBusy)
	case !s.isToStay(ino):
		return no(wire.RefusedCache)
	}
	l, err := s.d.tree.Latest(ino)
	if err != nil || !l.Kept {
		return no(wire.RefusedBusy)
	}
	if now, err := s.d.travel.recordOf(ino, &l.Content); err != nil || now == nil || now.ID() != rec.ID() {
		return no(wire.RefusedBusy)
	}
	if s.budget > 0 && !s.admit(p.Size, false) { // it takes room in packs beside the file
		return &wire.Refusal{Version: rec.ID(), Reason: wire.RefusedBudget, Missing: s.short(p.Size)}
	}
	ok, err := s.d.tree.KeepAgain(ctx.Done(), ino)
	if err != nil {
		s.d.log.Warn("what was read again is not kept", "inode", uint64(ino), "error", err)
	}
	if s.budget > 0 && !ok {
		s.giveBackRoom(p.Size)
	}
	s.ended.Add(1)
	switch {
	case ok && s.isSole(rec, ino):
		return nil
	case errors.Is(err, sharefs.KindNoSpace):
		return no(wire.RefusedDisk)
	}
	return no(wire.RefusedBusy)
}

// isToStay reports whether a file stays here whole, as far as this host decides: all does where there is no budget.
func (s *space) isToStay(ino sharefs.Ino) bool { return s.budget == 0 || s.d.tree.Pinned(ino) }

// isSole reports whether a file holds a version that is whole here, in packs, and is not away.
func (s *space) isSole(rec *record.Record, ino sharefs.Ino) bool {
	c, err := s.d.tree.Sole(ino)
	if err != nil || c == nil {
		return false
	}
	if now, err := s.d.travel.recordOf(ino, c); err != nil || now == nil || now.ID() != rec.ID() {
		return false
	}
	here, err := s.d.tree.Here(c)
	return err == nil && here
}

// startReleases begins to ask, now and then, for all that was promised, so that nothing stays promised that nobody relies on.
func (s *space) startReleases() {
	l := &s.releases
	l.look = make(chan struct{}, 1)
	l.deaf, l.asked = map[sharefs.PeerID]time.Time{}, map[sharefs.PeerID]time.Time{}
	s.hands.Go(func() {
		timer := time.NewTicker(askAllLook)
		defer timer.Stop()
		var before []sharefs.PeerID
		for {
			select {
			case <-s.ctx.Done():
				return
			case <-l.look:
			case <-timer.C:
			}
			before = s.askForAll(before)
		}
	})
}

// askSoon has it looked whom to ask: a peer came, or there are other rules.
func (s *space) askSoon() {
	poke(s.releases.look)
}

// askForAll asks those peers for all that they were promised who can be asked and were not for a while, and ends what was promised to those that are none any more. It returns who there are.
func (s *space) askForAll(before []sharefs.PeerID) []sharefs.PeerID {
	r, ex := s.d.travel.records(), s.d.travel.exchange()
	if r == nil || ex == nil {
		return before
	}
	l := &s.releases
	peers, now := s.relying(), time.Now()
	due := map[sharefs.PeerID]bool{}
	for _, id := range peers {
		if last, ok := l.asked[id]; (!ok || now.Sub(last) >= askAllEvery) && ex.Releases(id) == nil {
			due[id] = true
		}
	}
	gone := slices.ContainsFunc(before, func(id sharefs.PeerID) bool { return !slices.Contains(peers, id) })
	if len(due) == 0 && !gone && before != nil {
		return peers
	}
	var after record.ID
	for s.ctx.Err() == nil {
		ids, err := r.Promises(after, wire.MaxKeep)
		if err == nil && len(ids) == 0 {
			for id := range due {
				l.asked[id] = now
			}
			break
		}
		var silent []sharefs.PeerID
		if err == nil {
			after = ids[len(ids)-1]
			silent, err = s.reclaim(ids, false, func(id sharefs.PeerID) bool { return !due[id] })
		}
		if err != nil {
			if s.ctx.Err() == nil {
				s.d.log.Warn("what was promised to peers is not asked back", "error", err)
			}
			return before
		}
		for _, id := range silent { // the next time it comes
			delete(due, id)
		}
	}
	return peers
}

// promised tells to whom what a file holds is promised, as far as that is known, and why they have not given it back.
func (s *space) promised(ino sharefs.Ino) (to []fs.Promised, ok bool, err error) {
	r, ex := s.d.travel.records(), s.d.travel.exchange()
	c, err := s.d.tree.Sole(ino)
	if err != nil || c == nil || r == nil {
		return nil, false, err
	}
	rec, err := s.d.travel.recordOf(ino, c)
	if err != nil || rec == nil {
		return nil, false, err
	}
	ids, ok, err := r.Promised(rec.ID())
	for _, id := range ids {
		p := fs.Promised{To: id, Why: "it does not hold all of it for good, nor do enough others for it"}
		var e *sharefs.Error
		if ex != nil && errors.As(ex.Releases(id), &e) {
			p.Why = e.Detail
		}
		to = append(to, p)
	}
	return to, ok, err
}
