package daemon

import (
	"context"
	"time"

	"sharefs"
	"sharefs/peers/record"
	"sharefs/versions"
)

// keepTime is how long peers may take to promise something.
const keepTime = 10 * time.Second

// free makes files absent whose content at least so many others promise to keep, or which are here as a copy that may go.
func (s *space) free(inos []sharefs.Ino, least int) (bytes uint64, errs []error) {
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
	kept := s.keep(ids)
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
		if n := len(kept[rec.ID()]); n < least {
			return &sharefs.Error{Op: "free", Kind: sharefs.KindUnreachable, Detail: tooFew(n)}
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
func (s *space) keep(ids []record.ID) map[record.ID][]sharefs.PeerID {
	ex := s.d.travel.exchange()
	if ex == nil || len(ids) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, keepTime)
	defer cancel()
	return ex.Keep(ctx, ids)
}

// freeOne is what a user asks for who frees a file.
func (s *space) freeOne(ino sharefs.Ino) error {
	if s.d.tree.Pinned(ino) {
		return &sharefs.Error{Op: "free", Kind: sharefs.KindPermission, Detail: "it is pinned: sharefs unpin it first"}
	}
	_, errs := s.free([]sharefs.Ino{ino}, s.d.store.Config.Space.Min)
	s.ended.Add(1)
	if errs[0] == nil && s.budget > 0 {
		s.loosened()
	}
	return errs[0]
}

// promise is what a peer asks for who wants to free what is here, too: what is to stay here anyway is promised.
func (s *space) promise(to sharefs.PeerID, ids []record.ID) []record.ID {
	r := s.d.travel.records()
	if r == nil || s.ctx.Err() != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, keepTime/2)
	defer cancel()
	for _, id := range ids { // what has to be put into packs before, without the lock that is held while it is promised
		if rec, ino, err := r.Live(id); err == nil && rec != nil && s.isToStay(ino) {
			s.holds(ctx, rec, ino)
		}
	}
	yes, err := r.Promise(to, ids, s.stays)
	if err != nil {
		s.d.log.Warn("what a peer asks to be kept is not promised", "error", err)
	}
	return yes
}

// stays reports whether the content of a version is whole here, in packs, and stays.
func (s *space) stays(rec *record.Record, ino sharefs.Ino) bool {
	return s.isToStay(ino) && s.isSole(rec, ino)
}
