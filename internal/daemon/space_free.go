package daemon

import (
	"context"
	"slices"
	"time"

	"sharefs"
	"sharefs/fs"
	"sharefs/internal/term"
	"sharefs/peers/exchange"
	"sharefs/peers/exchange/wire"
	"sharefs/peers/record"
	"sharefs/peers/replica"
	"sharefs/versions"
)

// keepTime is how long peers may take to promise something.
const keepTime = 10 * time.Second

// free makes files absent whose content at least so many others promise to keep, or which are here as a copy that may go.
// Told hears of each that stays because too few promised it, who did not, and why; nil: nobody wants to know.
func (s *space) free(inos []sharefs.Ino, least int, told func(sharefs.Ino, []fs.Promised)) (bytes uint64, errs []error) {
	r := s.d.travel.records()
	letting := map[sharefs.Ino]*record.Record{}
	var ids []record.ID
	var ends []func()
	defer func() {
		for _, end := range ends {
			end()
		}
	}()
	why := map[sharefs.Ino]error{}
	of := map[sharefs.Ino]*record.Record{}
	for _, ino := range inos {
		c, err := s.d.tree.Sole(ino)
		if err != nil || c == nil || r == nil {
			continue // Free says what is wrong, or it goes without asking
		}
		rec, err := s.d.travel.recordOf(ino, c)
		if err == nil && rec != nil {
			of[ino], ids = rec, append(ids, rec.ID())
		}
		why[ino] = err
	}
	if _, err := s.reclaim(ids, true, nil); err != nil && s.ctx.Err() == nil {
		s.d.log.Warn("what was promised to peers is not asked back", "error", err)
	}
	ids = nil
	for ino, rec := range of {
		end, err := r.LetGo(rec.ID())
		if err == nil {
			ends = append(ends, end)
			letting[ino] = rec
			ids = append(ids, rec.ID())
		}
		why[ino] = err
	}
	kept := s.keep(ids, least)
	return s.d.tree.Free(inos, func(ino sharefs.Ino, c *versions.Content) error {
		rec := letting[ino]
		if rec == nil {
			if err := why[ino]; err != nil {
				return err
			}
			return &sharefs.Error{Op: "free", Kind: sharefs.KindUnreachable, Detail: "no other host has it"}
		}
		if now, err := s.d.travel.recordOf(ino, c); err != nil || now != rec {
			return &sharefs.Error{Op: "free", Kind: sharefs.KindBusy, Err: err, Detail: "it has another content by now"}
		}
		if by := kept.By[rec.ID()]; len(by) < least {
			if told != nil {
				told(ino, s.unpromised(&kept, rec.ID()))
			}
			return &sharefs.Error{Op: "free", Kind: sharefs.KindUnreachable, Detail: tooFew(len(by))}
		}
		return nil
	})
}

func tooFew(n int) string {
	if n == 0 {
		return "no other host that is connected, and trusted with write, promises to keep its copy"
	}
	return "too few other hosts promise to keep their copies"
}

// keep asks peers to promise to keep versions.
func (s *space) keep(ids []record.ID, least int) (none exchange.Kept) {
	ex := s.d.travel.exchange()
	if ex == nil || len(ids) == 0 {
		return none
	}
	ctx, cancel := context.WithTimeout(s.ctx, keepTime)
	defer cancel()
	return ex.Keep(ctx, ids, least)
}

// unpromised names the peers that could promise to keep a version and did not, with the reason.
func (s *space) unpromised(k *exchange.Kept, version record.ID) (list []fs.Promised) {
	policy := s.d.peers.book.Policy()
	for _, id := range policy.Peers() {
		r, said := k.No[id][version]
		why := s.refusal(r, said)
		switch {
		case !exchange.MayKeep(policy, id) || slices.Contains(k.By[version], id):
			continue
		case slices.Contains(k.Silent, id):
			why = errDeaf.Detail
		case !slices.Contains(k.Asked, id):
			why = "it is not connected"
		}
		list = append(list, fs.Promised{To: id, Why: why})
	}
	return list
}

// freeOne is what a user asks for who frees a file.
func (s *space) freeOne(ino sharefs.Ino) error {
	if s.d.tree.Pinned(ino) {
		return &sharefs.Error{Op: "free", Kind: sharefs.KindPermission, Detail: "it is pinned: sharefs unpin it first"}
	}
	var why []fs.Promised
	_, errs := s.free([]sharefs.Ino{ino}, s.d.store.Config.Space.Min, func(_ sharefs.Ino, list []fs.Promised) { why = list })
	s.tellUnpromised(ino, why)
	s.ended.Add(1)
	if errs[0] == nil && s.budget > 0 {
		s.loosened()
	}
	return errs[0]
}

// mostRefused is of how many files it is remembered why they were not freed.
const mostRefused = 1024

// tellUnpromised remembers who did not promise to keep a file that a user wanted to free, until he tries again.
func (s *space) tellUnpromised(ino sharefs.Ino, why []fs.Promised) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.refused, ino)
	if len(why) == 0 {
		return
	}
	if s.refused == nil || len(s.refused) >= mostRefused {
		s.refused = map[sharefs.Ino][]fs.Promised{}
	}
	s.refused[ino] = why
}

// refusedBy is what was remembered.
func (s *space) refusedBy(ino sharefs.Ino) ([]fs.Promised, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	why, ok := s.refused[ino]
	return why, ok, nil
}

// promise is what a peer asks for who wants to free what is here, too: what is to stay here anyway is promised, and of the rest it is told why it is not.
func (s *space) promise(to sharefs.PeerID, ids []record.ID) (yes []record.ID, no []wire.Refusal) {
	r := s.d.travel.records()
	if r == nil || s.ctx.Err() != nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, keepTime/2)
	defer cancel()
	why := map[record.ID]*wire.Refusal{}
	for _, id := range ids { // what has to be put into packs before, without the lock that is held while it is promised
		why[id] = s.prepare(ctx, r, to, id)
	}
	yes, err := r.Promise(to, ids, s.stays)
	if err != nil {
		s.d.log.Warn("what a peer asks to be kept is not promised", "error", err)
	}
	for _, id := range ids {
		switch {
		case slices.Contains(yes, id):
		case why[id] != nil:
			no = append(no, *why[id])
		case err != nil:
			no = append(no, wire.Refusal{Version: id, Reason: wire.RefusedOther})
		default: // nothing else was in its way
			no = append(no, wire.Refusal{Version: id, Reason: wire.RefusedLetting})
		}
	}
	return yes, no
}

// prepare has all of a version be in packs that is to stay here, and says why it cannot be promised; nil: nothing is in its way.
func (s *space) prepare(ctx context.Context, r *replica.Replica, to sharefs.PeerID, id record.ID) *wire.Refusal {
	rec, ino, err := r.Live(id)
	switch {
	case err != nil:
		return &wire.Refusal{Version: id, Reason: wire.RefusedOther}
	case rec == nil && !s.d.peers.book.Policy().MergesAll(to):
		return &wire.Refusal{Version: id, Reason: wire.RefusedLevel}
	case rec == nil:
		return &wire.Refusal{Version: id, Reason: wire.RefusedVersion}
	case !s.isToStay(ino):
		why := &wire.Refusal{Version: id, Reason: wire.RefusedCache}
		if p, err := s.d.tree.Presence(ino); err == nil && p.Absent {
			why.Reason = wire.RefusedMissing
		}
		return why
	}
	return s.hold(ctx, rec, ino)
}

// refusal is why a peer does not promise to keep something, in words.
func (s *space) refusal(r wire.Refusal, said bool) string {
	if !said {
		return "it has not all of it, has a budget and has not pinned it or has no room for it a second time, or is to free it, too"
	}
	switch r.Reason {
	case wire.RefusedVersion:
		return "another content of it counts there, or it has not heard of this one yet: try again when sharefs peers says that it lacks nothing"
	case wire.RefusedLevel:
		return "what this host writes does not count there: sharefs grant " + hostName(&s.d.store.Config.Peers) + " write, there"
	case wire.RefusedMissing:
		return "it has not all of it: sharefs pin it there"
	case wire.RefusedCache:
		return "it has a budget and does not keep it for good: sharefs pin it there"
	case wire.RefusedBudget:
		return "a promise takes a copy beside the file, for which its budget lacks up to " + term.SizeUp(r.Missing) + ": raise [space] budget there, or free or unpin something else there"
	case wire.RefusedDisk:
		return "its disk is full"
	case wire.RefusedLetting:
		return "it is freeing it, too: one of both has to keep it"
	case wire.RefusedBusy:
		return "it is being changed or captured there: try again in a moment"
	}
	return "it cannot, and gives no reason that this version of ShareFS knows: its log may tell"
}

// stays reports whether the content of a version is whole here, in packs, and stays.
func (s *space) stays(rec *record.Record, ino sharefs.Ino) bool {
	return s.isToStay(ino) && s.isSole(rec, ino)
}
