package daemon

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sharefs"
	"sharefs/peers/record"
	"sharefs/peers/replica/host"
	"sharefs/versions"
)

// space keeps what content takes here within the budget of share.toml: what comes from peers is absent but for small files, and what was used longest ago goes when
// there is no room. What this host alone has, or what others rely on, stays in any case; what is pinned, open or being written to does, too. So the budget bounds what can be
// had again, and not what cannot.
type space struct {
	d       *Daemon
	budget  uint64 // bytes; 0: everything stays
	absence *host.Absence
	used    atomic.Int64 // bytes, as of the last look, with what came since
	wake    chan struct{}
	ctx     context.Context
	stop    context.CancelFunc
	hands   sync.WaitGroup
}

const (
	smallFile   = 64 << 10         // bytes of the largest content that comes whole, as long as there is room
	freeTo      = 80               // percent of the budget that are left when something is freed
	smallTo     = 50               // percent of the budget up to which small files come whole
	freeBatch   = 32               // files that are freed at once
	spaceLook   = 30 * time.Second // how often it is looked whether there is too much here, beside when something comes
	spacePause  = 2 * time.Second  // before it is tried again to make room where there was none to be had
	keepTime    = 10 * time.Second // for peers to promise something
	fewestBytes = 1 << 20          // that a collection of garbage is worth
)

// startSpace begins, before the mount is used.
func (d *Daemon) startSpace() {
	s := &d.space
	s.d, s.budget = d, uint64(d.store.Config.Space.Budget)
	s.wake = make(chan struct{}, 1)
	s.ctx, s.stop = context.WithCancel(context.Background())
	d.tree.SetElsewhere(&d.travel)
	if s.budget == 0 || d.store.ReadOnly {
		return
	}
	s.absence = &host.Absence{Of: func(v *record.Version) bool {
		return v.Size > smallFile || v.Size > 0 && uint64(s.used.Load()) > s.budget*smallTo/100
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

// admit takes room for something that comes, if there is any.
func (s *space) admit(bytes uint64) bool {
	used := uint64(s.used.Add(int64(bytes)))
	if used <= s.budget {
		return true
	}
	s.used.Add(-int64(bytes))
	s.look()
	return false
}

// came notes what came whole.
func (s *space) came(bytes uint64) {
	if s.budget > 0 && uint64(s.used.Add(int64(bytes))) > s.budget {
		s.look()
	}
}

// look has it looked whether there is too much here.
func (s *space) look() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *space) run() {
	for {
		began := time.Now()
		fits, err := s.fit()
		if err != nil && s.ctx.Err() == nil {
			s.d.log.Warn("what is here cannot be brought into space.budget", "error", err)
		}
		pause := 10 * time.Since(began)
		if !fits { // nothing but time, or others, makes room
			pause = max(pause, spacePause)
		}
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(min(pause, spaceLook)):
		}
		select {
		case <-s.ctx.Done():
			return
		case <-s.wake:
		case <-time.After(spaceLook):
		}
	}
}

// taken returns how many bytes are here, and what is in live files.
func (s *space) taken() (used uint64, list []versions.Here, err error) {
	if used, err = s.d.tree.PackBytes(); err != nil {
		return 0, nil, err
	}
	err = s.d.tree.EachHere(func(h versions.Here) bool {
		used += h.Bytes
		list = append(list, h)
		return s.ctx.Err() == nil
	})
	return used, list, err
}

// fit frees what was used longest ago until there is room, and reports whether there is: what others have in several copies goes first.
func (s *space) fit() (fits bool, err error) {
	before := s.used.Load()
	used, list, err := s.taken()
	if err != nil {
		return false, err
	}
	s.used.Add(int64(used) - before)
	if used <= s.budget*95/100 {
		return true, nil
	}
	slices.SortFunc(list, func(a, b versions.Here) int {
		switch {
		case a.Used < b.Used:
			return -1
		case a.Used > b.Used:
			return 1
		}
		return 0
	})
	goal := s.budget * freeTo / 100
	c := &s.d.store.Config.Space
	var inPacks uint64
	copies := []int{c.Copies, c.Min}
	for _, least := range slices.Compact(copies) {
		for from := 0; from < len(list) && used > goal && s.ctx.Err() == nil; from += freeBatch {
			batch := list[from:min(from+freeBatch, len(list))]
			var inos []sharefs.Ino
			var of []int
			for i := range batch {
				if left := used - min(used, batchBytes(batch[:i])); left <= goal {
					break
				}
				if batch[i].Bytes > 0 && !s.d.tree.Pinned(batch[i].Ino) {
					inos, of = append(inos, batch[i].Ino), append(of, i)
				}
			}
			gone, errs := s.free(inos, least)
			used -= min(used, gone)
			for n, i := range of {
				if errs[n] == nil {
					if batch[i].Kept {
						inPacks += batch[i].Bytes
					}
					batch[i].Bytes = 0
				}
			}
		}
	}
	if inPacks > fewestBytes || used > goal && inPacks > 0 {
		if _, err := s.d.tree.GC(s.ctx, versions.GCOptions{Hurry: true}, nil); err != nil && !errors.Is(err, sharefs.KindBusy) {
			return false, err
		}
	}
	before = s.used.Load()
	used, _, err = s.taken()
	s.used.Add(int64(used) - before)
	return used <= s.budget, err
}

func batchBytes(list []versions.Here) (n uint64) {
	for i := range list {
		n += list[i].Bytes
	}
	return n
}

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
	for _, ino := range inos {
		c, err := s.d.tree.Sole(ino)
		if err != nil || c == nil || r == nil {
			continue // Free says what is wrong, or it goes without asking
		}
		rec, err := s.d.travel.recordOf(ino, c)
		if err == nil && rec != nil {
			var end func()
			if end, err = r.LetGo(rec.ID()); err == nil {
				ends = append(ends, end)
				letting[ino] = rec
				ids = append(ids, rec.ID())
			}
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
	t := &s.d.travel
	t.mu.Lock()
	ex, on := t.ex, t.begun && !t.ended
	t.mu.Unlock()
	if !on || len(ids) == 0 {
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
	return errs[0]
}

// promise is what a peer asks for who wants to free what is here, too: what is to stay here anyway is promised.
func (s *space) promise(_ sharefs.PeerID, ids []record.ID) []record.ID {
	r := s.d.travel.records()
	if r == nil || s.ctx.Err() != nil {
		return nil
	}
	yes, err := r.Promise(ids, s.stays)
	if err != nil {
		s.d.log.Warn("what a peer asks to be kept is not promised", "error", err)
	}
	return yes
}

// stays reports whether the content of a version is whole here, in packs, and stays.
func (s *space) stays(rec *record.Record, ino sharefs.Ino) bool {
	if s.budget > 0 && !s.d.tree.Pinned(ino) {
		return false
	}
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
