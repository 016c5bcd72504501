package exchange

import (
	"context"
	"net"
	"sync"

	"sharefs"
	"sharefs/peers/record"
)

// fetcher has what is wanted of peers, and who is asked for it.
type fetcher struct {
	x *Exchange

	mu       sync.Mutex // guards what follows, and what of want, ask, source and stream says so
	closed   bool
	wants    map[sharefs.ChunkID]*want
	of       map[record.ID]map[*want]struct{} // by version
	urgent   queue                            // somebody waits for them
	ahead    queue
	sources  map[*source]struct{}
	inFlight int // bytes asked for and not answered
	held     int // bytes that came and were not got
	coming   map[record.ID]*comes
}

// want is a chunk, or a node of a manifest, that is wanted. Guarded by the fetcher.
type want struct {
	id       sharefs.ChunkID
	versions []*record.Record // of which it is a part; the first is the one that it is asked for as a part of
	size     int              // in bytes, as far as known
	waiters  int
	urgent   bool
	queued   bool
	at       []*source            // who is asked and has not answered
	missing  map[*source]struct{} // who does not have it
	data     []byte
	under    sharefs.KeyID // the share key that data was checked under
	err      error
	done     chan struct{} // closed with data or err
}

// settled reports whether there is an answer.
func (w *want) settled() bool { return w.data != nil || w.err != nil }

// queue holds wants in order. Those that are not queued any more, or in the other queue now, are passed over.
type queue struct {
	first []*want // before the others, the last one first
	list  []*want
}

func (q *queue) add(w *want)      { q.list = append(q.list, w) }
func (q *queue) addFirst(w *want) { q.first = append(q.first, w) }
func (q *queue) len() int         { return len(q.first) + len(q.list) }

// next takes the next one out; nil: there is none.
func (q *queue) next() (w *want) {
	if n := len(q.first); n > 0 {
		w, q.first = q.first[n-1], q.first[:n-1]
		return w
	}
	if len(q.list) == 0 {
		q.list = nil
		return nil
	}
	w, q.list[0], q.list = q.list[0], nil, q.list[1:]
	return w
}

func newFetcher(x *Exchange) *fetcher {
	return &fetcher{x: x, wants: map[sharefs.ChunkID]*want{}, of: map[record.ID]map[*want]struct{}{}, sources: map[*source]struct{}{}, coming: map[record.ID]*comes{}}
}

// Sizes that are assumed where they are not known, in bytes: the averages of the two classes of chunks.
const (
	sizeSmall = 16 << 10
	sizeLarge = 64 << 10
	largeFrom = 8 << 20 // size of a file
)

// sizeOf returns how long a part of a version is about.
func sizeOf(v *record.Version, id sharefs.ChunkID) int {
	size := sizeSmall
	if v.Size >= largeFrom {
		size = sizeLarge
	}
	if v.Level == 0 {
		for i := range v.Spans {
			if v.Spans[i].ID == id {
				return int(min(v.Spans[i].Len, largeFrom))
			}
		}
	}
	return int(min(uint64(size), max(v.Size, 1)))
}

// enter returns the want for a chunk of a version, which is made if there is none. f.mu is held.
func (f *fetcher) enter(v *record.Record, body *record.Version, id sharefs.ChunkID) *want {
	w := f.wants[id]
	if w == nil {
		w = &want{id: id, size: sizeOf(body, id), done: make(chan struct{})}
		f.wants[id] = w
	}
	set := f.of[v.ID()]
	if set == nil {
		set = map[*want]struct{}{}
		f.of[v.ID()] = set
	}
	if _, ok := set[w]; !ok {
		set[w] = struct{}{}
		w.versions = append(w.versions, v)
	}
	return w
}

// leave takes a want out. f.mu is held.
func (f *fetcher) leave(w *want) {
	if f.wants[w.id] != w {
		return
	}
	delete(f.wants, w.id)
	for _, v := range w.versions {
		f.unlist(v.ID(), w)
	}
	w.queued = false
	f.held -= len(w.data)
}

func (f *fetcher) unlist(v record.ID, w *want) {
	if set := f.of[v]; set != nil {
		if delete(set, w); len(set) == 0 {
			delete(f.of, v)
		}
	}
}

// settle answers a want. f.mu is held.
func (f *fetcher) settle(w *want, data []byte, err error) {
	if w.settled() {
		return
	}
	w.data, w.err, w.queued = data, err, false
	f.held += len(data)
	close(w.done)
	if err != nil { // whoever waits has it; the next one asks anew
		f.leave(w)
	}
}

func (f *fetcher) want(v *record.Record, ids []sharefs.ChunkID) {
	body, ok := v.Body.(*record.Version)
	if !ok {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	for _, id := range ids {
		if f.wants[id] == nil && len(f.wants) >= f.x.cfg.Limits.Wanted {
			break
		}
		w := f.enter(v, body, id)
		if !w.queued && len(w.at) == 0 && !w.settled() {
			w.queued = true
			f.ahead.add(w)
		}
	}
	f.dispatch()
}

// get waits for a chunk of a version. What it returns was checked to be that under the share key of the version.
func (f *fetcher) get(ctx context.Context, v *record.Record, id sharefs.ChunkID) ([]byte, error) {
	body, ok := v.Body.(*record.Version)
	if !ok {
		return nil, refuse("content of what is no version")
	}
	data, under, err := f.await(ctx, v, body, id)
	if err == nil && under != body.Key { // it came for a version of another key, by which the name may be that of other content
		err = f.x.cfg.Chunks.Check(v, id, data)
	}
	if err != nil {
		return nil, err
	}
	return data, nil
}

// await is get for a chunk that may have been checked as part of another version: under says by which share key.
func (f *fetcher) await(ctx context.Context, v *record.Record, body *record.Version, id sharefs.ChunkID) (data []byte, under sharefs.KeyID, err error) {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return nil, under, net.ErrClosed
	}
	w := f.enter(v, body, id)
	w.waiters++
	if !w.settled() && !w.urgent {
		w.urgent = true
		if w.queued || len(w.at) == 0 {
			w.queued = true
			f.urgent.add(w)
			f.dispatch()
		}
	}
	f.mu.Unlock()
	err = ctx.Err()
	if err == nil {
		select {
		case <-w.done:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	w.waiters--
	if err == nil {
		err = w.err
	}
	if w.waiters == 0 && w.settled() {
		f.leave(w)
		f.dispatch() // there is room for more
	}
	if err != nil {
		return nil, under, err
	}
	return w.data, w.under, nil
}

// requeue has a want asked for again, before others, if nobody is asked. f.mu is held.
func (f *fetcher) requeue(w *want) {
	if w.settled() || w.queued || len(w.at) > 0 || f.wants[w.id] != w || f.closed {
		return
	}
	f.enqueueFirst(w)
}

// enqueueFirst has a want asked for before others. f.mu is held.
func (f *fetcher) enqueueFirst(w *want) {
	w.queued = true
	q := &f.ahead
	if w.urgent {
		q = &f.urgent
	}
	q.addFirst(w)
}

// drop forgets what is wanted of a version and nobody waits for.
func (f *fetcher) drop(v record.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.coming, v)
	for w := range f.of[v] {
		if w.waiters > 0 {
			continue
		}
		if len(w.versions) == 1 {
			f.leave(w)
			continue
		}
		for i, other := range w.versions {
			if other.ID() == v {
				w.versions = append(w.versions[:i:i], w.versions[i+1:]...)
				break
			}
		}
		f.unlist(v, w)
	}
	f.dispatch()
}

func (f *fetcher) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for _, w := range f.wants {
		f.settle(w, nil, net.ErrClosed)
	}
	f.urgent, f.ahead = queue{}, queue{}
}

// nextVersion has a chunk asked for as a part of another version, and reports whether there is one. Who lacked it as a part of one may have it, or may give it, as a
// part of the other. f.mu is held.
func (f *fetcher) nextVersion(w *want) bool {
	if len(w.versions) < 2 {
		return false
	}
	f.unlist(w.versions[0].ID(), w)
	w.versions = w.versions[1:]
	w.missing = nil
	return true
}

// notHere is the error for a chunk that no peer has. f.mu is held.
func (f *fetcher) notHere(w *want) error {
	detail := "no peer that is connected has it"
	if len(f.sources) == 0 {
		detail = "no peer is connected that would send it"
	}
	for s := range f.sources {
		if s.silent {
			detail = "a peer that is connected and may have it does not answer"
		}
	}
	return &sharefs.Error{Op: "fetch", Path: w.id.String(), Kind: sharefs.KindUnreachable, Detail: detail}
}
