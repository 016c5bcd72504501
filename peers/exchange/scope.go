package exchange

import (
	"bytes"
	"container/list"
	"slices"
	"sync"
	"time"

	"sharefs"
	"sharefs/peers/record"
)

// scopes knows which chunks and nodes belong to which version. What leads to them is read once, and remembered for the versions that were asked for last.
type scopes struct {
	chunks Chunks
	most   int // ids in all

	mu    sync.Mutex // guards what follows
	known map[record.ID]*scope
	order *list.List // of *scope, the last one asked for first
	total int
}

// scope is what belongs to one version.
type scope struct {
	of   record.ID
	at   *list.Element
	walk sync.Mutex // held while the version is looked through; before mu

	// Guarded by the lock of all.
	ids   [][16]byte // rising beginnings of the names of all chunks and nodes
	whole bool       // nothing was missing
	read  time.Time  // zero: not yet
}

// staleAfter is for how long the scope of a version counts of which something was missing here.
const staleAfter = time.Second

func newScopes(chunks Chunks, most int) *scopes {
	return &scopes{chunks: chunks, most: most, known: map[record.ID]*scope{}, order: list.New()}
}

// belong reports which of the ids belong to a version.
func (s *scopes) belong(v *record.Record, ids []sharefs.ChunkID) []bool {
	out := make([]bool, len(ids))
	body, ok := v.Body.(*record.Version)
	if !ok {
		return out
	}
	all := true
	for i := range ids {
		out[i] = slices.ContainsFunc(body.Spans, func(s record.Span) bool { return !s.Hole && s.ID == ids[i] })
		all = all && out[i]
	}
	if all || body.Level == 0 {
		return out
	}
	sc := s.get(v.ID())
	sc.walk.Lock()
	defer sc.walk.Unlock()
	s.mu.Lock()
	known, fresh := sc.ids, !sc.read.IsZero() && (sc.whole || time.Since(sc.read) < staleAfter)
	s.mu.Unlock()
	if !fresh {
		w := walk{chunks: s.chunks, v: v, most: s.most, asked: map[sharefs.ChunkID]bool{}}
		for _, id := range ids {
			w.asked[id] = false
		}
		w.list(body.Spans, int(body.Level))
		if w.ids == nil { // too many to be remembered
			for i, id := range ids {
				out[i] = w.asked[id]
			}
			s.forget(v.ID())
			return out
		}
		known = w.sorted()
		s.keep(sc, known, !w.missing)
	}
	for i := range ids {
		_, found := slices.BinarySearchFunc(known, [16]byte(ids[i][:16]), compare16)
		out[i] = out[i] || found
	}
	return out
}

func compare16(a, b [16]byte) int { return bytes.Compare(a[:], b[:]) }

// get returns the scope of a version, which is the last one asked for now.
func (s *scopes) get(id record.ID) *scope {
	s.mu.Lock()
	defer s.mu.Unlock()
	sc := s.known[id]
	if sc == nil {
		sc = &scope{of: id}
		sc.at = s.order.PushFront(sc)
		s.known[id] = sc
		return sc
	}
	s.order.MoveToFront(sc.at)
	return sc
}

// scopeCost is what a scope takes beside its ids, in ids.
const scopeCost = 16

// keep remembers a scope, and forgets those that were not asked for for the longest time.
func (s *scopes) keep(sc *scope, ids [][16]byte, whole bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known[sc.of] != sc {
		return
	}
	s.total += len(ids) - len(sc.ids)
	sc.ids, sc.whole, sc.read = ids, whole, time.Now()
	for e := s.order.Back(); e != nil && s.total+scopeCost*s.order.Len() > s.most; e = s.order.Back() {
		old := e.Value.(*scope)
		if old == sc {
			break
		}
		s.drop(old)
	}
}

// drop forgets a scope. s.mu is held.
func (s *scopes) drop(sc *scope) {
	s.order.Remove(sc.at)
	delete(s.known, sc.of)
	s.total -= len(sc.ids)
}

// forget has a version looked through anew when it is asked for.
func (s *scopes) forget(id record.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sc := s.known[id]; sc != nil {
		s.drop(sc)
	}
}

// walk goes through what belongs to a version.
type walk struct {
	chunks  Chunks
	v       *record.Record
	most    int
	ids     [][16]byte // nil: there are too many
	count   int
	asked   map[sharefs.ChunkID]bool // whether it was seen
	seen    map[sharefs.ChunkID]struct{}
	missing bool
}

// list goes through a list of spans, which are chunks on level 0.
func (w *walk) list(spans []record.Span, level int) {
	if w.seen == nil {
		w.seen, w.ids = map[sharefs.ChunkID]struct{}{}, [][16]byte{}
	}
	for i := range spans {
		s := &spans[i]
		if s.Hole {
			continue
		}
		if _, ok := w.asked[s.ID]; ok {
			w.asked[s.ID] = true
		}
		if w.count++; w.count > w.most {
			w.ids = nil
		} else {
			w.ids = append(w.ids, [16]byte(s.ID[:16]))
		}
		if level == 0 {
			continue
		}
		if _, again := w.seen[s.ID]; again {
			continue
		}
		w.seen[s.ID] = struct{}{}
		node, err := w.chunks.Chunk(w.v, s.ID, nil)
		if err != nil {
			w.missing = true
			continue
		}
		below, err := record.DecodeNode(node, s.Len)
		if err != nil {
			w.missing = true
			continue
		}
		w.list(below, level-1)
	}
}

// sorted returns what was found.
func (w *walk) sorted() [][16]byte {
	slices.SortFunc(w.ids, compare16)
	return slices.Clip(slices.Compact(w.ids))
}
