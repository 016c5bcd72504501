package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// shares is what of the records of a host is by the one who is revoked, past the lowest cut of it, and what by others.
type shares struct {
	h        *host
	in       []converge.Input // all that it has, with what is told
	byID     map[record.ID]*record.Record
	past     map[record.ID]bool                  // by the one who is revoked, past the cut, on whichever host
	by       map[sharefs.FileID]bool             // files of which that one has said something
	own      map[sharefs.FileID][]*record.Record // what counts by file, but for what is past and what takes something back
	lastWord map[sharefs.FileID]map[string]bool  // what only records past the cut say of a file
}

// sharesOf looks through what a host has; end: the lowest cut.
func (w *world) sharesOf(h *host, end *record.Cut) *shares {
	s := &shares{h: h, in: h.inputs(), byID: map[record.ID]*record.Record{}, past: map[record.ID]bool{}, by: map[sharefs.FileID]bool{}, own: map[sharefs.FileID][]*record.Record{},
		lastWord: map[sharefs.FileID]map[string]bool{}}
	within := map[record.ID]bool{}
	for _, o := range w.hosts {
		o.batches(w.revoked.self, func(b *record.Batch) {
			for _, id := range b.Records {
				if end.Allows(b.Incarnation, b.Number) {
					within[id] = true
				} else {
					s.past[id] = true
				}
			}
		})
	}
	for id := range within {
		delete(s.past, id)
	}
	for _, i := range s.in {
		rec := i.Record
		s.byID[rec.ID()] = rec
		if rec.Author == w.revoked.self {
			s.by[rec.File()] = true
		}
		if s.past[rec.ID()] {
			if s.lastWord[rec.File()] == nil {
				s.lastWord[rec.File()] = map[string]bool{}
			}
			s.lastWord[rec.File()][said(rec)] = true
		}
	}
	for _, i := range s.in {
		rec := i.Record
		if i.Standing != converge.Merged || s.past[rec.ID()] || w.backs[rec.ID()] {
			continue
		}
		s.own[rec.File()] = append(s.own[rec.File()], rec)
		delete(s.lastWord[rec.File()], said(rec))
	}
	return s
}

// batches calls fn for all batches of an author that a host has.
func (h *host) batches(author sharefs.PeerID, fn func(*record.Batch)) {
	_ = h.disk.Scan(spaceBatch, author[:], append(author[:], 0xff), func(_, v []byte) bool {
		b, err := record.DecodeBatch(v)
		if err != nil {
			h.w.fail("%s: a batch on disk: %v", h, err)
		}
		if b.Author == author {
			fn(b)
		}
		return true
	})
}

// said is what a record says of its file, whoever says it and whatever it replaces.
func said(rec *record.Record) string {
	switch b := rec.Body.(type) {
	case *record.Place:
		return fmt.Sprint("place ", b.Link, b.Parent, b.Name)
	case *record.Version:
		return "content " + b.Content()
	case *record.Attr:
		return fmt.Sprint("attributes ", b.Mode, b.Xattrs)
	}
	return ""
}

// isPast reports whether what a record says was said past the cut alone, be it that somebody said it again to take something else back.
func (s *shares) isPast(id record.ID) bool {
	rec := s.byID[id]
	return s.past[id] || rec != nil && s.h.w.backs[id] && s.lastWord[rec.File()][said(rec)]
}

// goneOn reports whether others went on from a name: it is of a file that somebody else wrote to, or of a directory with something that others have said something of.
func (s *shares) goneOn(path string, n converge.Node, all converge.Result) bool {
	if n.Type != record.Directory {
		return slices.ContainsFunc(s.own[n.Key.File], func(r *record.Record) bool { return r.Body.Kind() == record.KindVersion })
	}
	for other, o := range all {
		if other != path && !strings.HasPrefix(other, path+"/") {
			continue
		}
		for _, id := range append([]sharefs.FileID{o.Key.File}, o.Merged...) {
			if len(s.own[id]) > 0 {
				return true
			}
		}
	}
	return false
}

// hold holds that nothing of what is shown is past the cut, but for what others went on from: no content, be it one that waits for a choice, no attributes, and no name.
func (s *shares) hold() {
	fail := s.h.w.fail
	all, _ := converge.Whole(s.in)
	shown := map[sharefs.FileID]sharefs.FileID{} // directories, as what they are shown
	for _, n := range all {
		for _, id := range append([]sharefs.FileID{n.Key.File}, n.Merged...) {
			shown[id] = n.Key.File
		}
	}
	for path, n := range all {
		if path == "" {
			continue
		}
		if n.Type == record.Regular && s.isPast(n.Live) {
			fail("%s: the content of %s was written past the cut", s.h, path)
		}
		for _, c := range n.Conflicts {
			if s.isPast(c.Version) && s.byID[c.Version].Body.(*record.Version).Target == "" {
				fail("%s: content that waits at %s was written past the cut", s.h, path)
			}
		}
		others := slices.ContainsFunc(s.own[n.Key.File], func(r *record.Record) bool { return r.Body.Kind() == record.KindAttr })
		if s.isPast(n.Attr) && others && n.Type != record.Directory {
			fail("%s: the attributes of %s were set past the cut", s.h, path)
		}
		named := slices.ContainsFunc(s.in, func(i converge.Input) bool {
			p, ok := i.Record.Body.(*record.Place)
			return ok && i.Standing == converge.Merged && p.File == n.Key.File && p.Link == n.Key.Link && shown[p.Parent] == shown[n.Parent] && p.Name == n.Name && !s.isPast(i.Record.ID())
		})
		if !named && !s.goneOn(path, n, all) {
			fail("%s: the name %s was given past the cut", s.h, path)
		}
	}
	s.keep(all)
}

// keep holds that nothing is lost with what is taken back: files that the one who is revoked never touched are there, and what replaces content of others holds the same.
func (s *shares) keep(all converge.Result) {
	there := map[sharefs.FileID]bool{}
	for _, n := range all {
		there[n.Key.File] = true
		for _, c := range n.Conflicts {
			there[c.Key.File] = true
		}
	}
	var without []converge.Input
	for _, i := range s.in {
		if !s.past[i.Record.ID()] && !s.h.w.backs[i.Record.ID()] {
			without = append(without, i)
		}
	}
	want, _ := converge.Whole(without)
	for path, n := range want {
		if id := n.Key.File; path != "" && n.Type == record.Regular && !s.by[id] && !there[id] {
			s.h.w.fail("%s: %s of others went with what was taken back", s.h, path)
		}
	}
	for id := range s.h.w.backs {
		if s.byID[id] == nil {
			continue
		}
		v, ok := s.byID[id].Body.(*record.Version)
		if !ok {
			continue
		}
		for _, parent := range v.Parents {
			rec := s.byID[parent]
			if rec != nil && !s.h.w.backs[parent] && rec.Author != s.h.w.revoked.self && rec.Body.(*record.Version).Content() != v.Content() {
				s.h.w.fail("%s: content by others was replaced by what takes something back", s.h)
			}
		}
	}
}

// taken is how far a host has a chain of the one who is revoked.
func (h *host) taken() map[uint64]uint64 {
	all := map[uint64]uint64{}
	h.batches(h.w.revoked.self, func(b *record.Batch) { all[b.Incarnation] = max(all[b.Incarnation], b.Number) })
	return all
}

// tookNone holds that a host has taken nothing of whom it revoked since.
func (h *host) tookNone() {
	for incarnation, n := range h.taken() {
		if was := h.w.ended[h.index][incarnation]; n > was {
			h.w.fail("%s has taken batch %d of incarnation %d of the one that it revoked when it had %d", h, n, incarnation, was)
		}
	}
}

// takeBack heeds a cut on a host, and notes what it says for that.
func (h *host) takeBack(author sharefs.PeerID) {
	own := func() map[record.ID]bool {
		all := map[record.ID]bool{}
		h.batches(h.self, func(b *record.Batch) {
			for _, id := range b.Records {
				all[id] = true
			}
		})
		return all
	}
	before := own()
	defer func() { // also where it ends meanwhile
		for id := range own() {
			if !before[id] {
				h.w.backs[id] = true
			}
		}
	}()
	t, err := h.rep.TakeBack(nil, author, false, false)
	h.recover("take back", err)
	h.w.log("%s takes back %d changes", h, len(t.Changes))
	h.w.took += len(t.Changes)
}

// cut makes a cut that means nothing, or is a lie: too low, of far more than there is, of whoever signs it, of somebody else who is honest, of nobody who is known, or
// one that takes another one back.
func (i *intruder) cut(w *world, rnd *rand.Rand, now sharefs.HLC) *record.Record {
	self, key := i.self, i.key
	if rnd.IntN(4) == 0 {
		self, key = w.revoked.self, w.revoked.key
	}
	c := &record.Cut{Author: w.revoked.self}
	switch rnd.IntN(8) {
	case 0, 1:
		c.Author = w.hosts[rnd.IntN(len(w.hosts))].self
	case 2:
		c.Author = i.self
	case 3:
		c.Author = sharefs.PeerID{byte(1 + rnd.IntN(200))}
	}
	heads := []record.Head{{}}
	w.hosts[rnd.IntN(len(w.hosts))].batches(c.Author, func(b *record.Batch) {
		heads = append(heads, record.Head{Incarnation: b.Incarnation, Number: b.Number})
	})
	at := heads[rnd.IntN(len(heads))]
	switch c.Incarnation, c.Number = at.Incarnation, at.Number; rnd.IntN(6) {
	case 0:
		c.Incarnation, c.Number = 0, 0
	case 1:
		c.Number += uint64(rnd.IntN(1000))
	case 2:
		c.Incarnation = 1 << 62
	case 3:
		c.Incarnation, c.Number = ^uint64(0), ^uint64(0)
	}
	rec, err := record.New(share, self, now, c)
	if err == nil {
		err = rec.Sign(key)
	}
	if err != nil {
		w.fail("a cut: %v", err)
	}
	return rec
}

// cuts has somebody hostile say cuts to a host, one or many, and others again that he said before.
func (w *world) cuts(i *intruder, h *host, rnd *rand.Rand) {
	var news []*record.Record
	now := sharefs.HLCAt(h.now())
	for n := range 1 + rnd.IntN(4)*rnd.IntN(4) {
		news = append(news, i.cut(w, rnd, now+sharefs.HLC(n)))
	}
	i.said = append(i.said, news...)
	for range rnd.IntN(3) {
		news = append(news, i.said[rnd.IntN(len(i.said))])
	}
	h.take(single(news))
}

// falls has a host trust an intruder no more.
func (w *world) falls(h *host) {
	w.log("%s does not trust the %s any more", h, w.intruder.level)
	w.fallen[h.index] = true
	h.settle()
}
