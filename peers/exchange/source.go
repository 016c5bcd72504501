package exchange

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sharefs"
	"sharefs/peers/exchange/wire"
	"sharefs/peers/pace"
	"sharefs/peers/record"
)

// source is a peer that is asked for content. Guarded by the fetcher's lock.
type source struct {
	p *peer
	f *fetcher

	pending  []*ask // that no stream has taken yet
	tail     []*ask // not answered, and nobody else is asked instead: the first were asked first
	own      int    // bytes of these
	inFlight int    // bytes of all that are not answered, pending ones too
	asks     int
	streams  []*stream
	opening  bool
	failures int // streams that ended
	tries    int // how often in a row it was given up
	turn     int // counts how often the source was added

	stalled bool         // it has not answered for Limits.Stall
	silent  bool         // nor for Limits.Silence: it is asked for nothing until it answers
	last    time.Time    // of an answer, or when there was nothing to answer before
	moved   atomic.Int64 // when something of an answer came last, or was waited for to hold to the rate of the peer: nanoseconds since 1970; of no lock
	watch   *time.Timer  // while something is not answered
	bytes   float64      // that came lately, while more was waited for
	seconds float64      // in which they came
	fresh   time.Time    // of the last message, while more was waited for
	rttIs   time.Duration
	rttAt   time.Time
}

// ask is a want that a source was asked for.
type ask struct {
	w        *want
	version  record.ID
	size     int // that was assumed
	since    time.Time
	answered bool // or nobody waits for the answer
	doubled  bool // somebody else is asked too
}

// stream is one of those over which a source is asked. Guarded by the fetcher's lock but for what does not change.
type stream struct {
	s    *source
	turn int // of the source, in which it was opened
	c    net.Conn
	poke chan struct{}

	sent     []*ask // and not answered, in order
	inFlight int    // bytes of these
	answers  uint64
	stuck    bool         // it is being closed, for it does not answer while others of the source do
	last     time.Time    // of an answer, or when there was nothing to answer before
	moved    atomic.Int64 // as that of the source
}

// quiet returns for how long nothing came, of what was waited for since some time.
func quiet(since time.Time, moved *atomic.Int64) time.Duration {
	return min(time.Since(since), time.Since(time.Unix(0, moved.Load())))
}

// Bounds of streams.
const (
	streamsMost = 4        // to one peer
	streamFull  = 64 << 10 // bytes that a stream waits for before another one is opened
	pullMost    = 256      // ids in one message

	windowLimited = 64 << 10 // bytes that a peer of which little is taken is asked for at least
	slowRate      = 1 << 20  // bytes/s that are little
)

func newSource(p *peer) *source { return &source{p: p, f: p.x.fetch} }

// add begins to ask a peer.
func (f *fetcher) add(s *source) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.sources[s]; ok || f.closed || s.p.ctx.Err() != nil {
		return
	}
	f.sources[s] = struct{}{}
	s.failures, s.stalled, s.silent = 0, false, false
	s.turn++
	for o := range f.sources {
		f.rescue(o)
	}
	s.open()
	f.dispatch()
}

// remove asks a peer for nothing more. What it was asked for is wanted of others.
func (f *fetcher) remove(s *source) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.giveUp(s)
	f.dispatch()
}

// giveUp takes a source out. f.mu is held.
func (f *fetcher) giveUp(s *source) {
	if _, ok := f.sources[s]; !ok {
		return
	}
	delete(f.sources, s)
	for _, st := range s.streams {
		_ = st.c.Close() // its reader puts back what is not answered
	}
	for _, a := range slices.Backward(s.pending) {
		s.finish(a)
		f.requeue(a.w)
	}
	s.pending = nil
	if s.watch != nil {
		s.watch.Stop()
		s.watch = nil
	}
}

// rate returns the rate at which a source answers, in bytes/s; 0: nothing came of it lately.
func (f *fetcher) rate(s *source) float64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.bytes == 0 || time.Since(time.Unix(0, s.moved.Load())) > comingIdle {
		return 0
	}
	return s.speed()
}

// speed returns the rate at which the source answers, in bytes/s.
func (s *source) speed() float64 {
	if s.bytes == 0 || s.seconds == 0 {
		return rateFirst
	}
	return max(s.bytes/s.seconds, rateLeast)
}

func (s *source) rtt() time.Duration {
	if now := time.Now(); now.Sub(s.rttAt) > time.Second {
		s.rttIs, s.rttAt = s.p.s.rtt(), now
	}
	return s.rttIs
}

// window returns how many bytes the source may be asked for and not have answered.
func (s *source) window() int {
	most := s.f.x.cfg.Limits.PeerBytes
	if rate := s.f.x.cfg.Pace.Down(s.p.id); rate > 0 { // what others may give meanwhile is not to wait for it
		most = int(min(uint64(most), max(rate/2, windowLimited)))
	}
	if s.bytes == 0 {
		return min(windowFirst, most)
	}
	return min(max(int(min(s.speed()*(2*s.rtt()+windowTime).Seconds(), math.MaxInt32)), windowLeast), most)
}

func (s *source) room() bool { return s.inFlight < s.window() && s.asks < asksMost }

// eta returns in what time so many more bytes would have come.
func (s *source) eta(size int) time.Duration {
	if s.stalled {
		return math.MaxInt64 / 4
	}
	return s.rtt() + time.Duration(float64(s.inFlight+size)/s.speed()*float64(time.Second))
}

// left returns how long the source takes for what it alone is asked for.
func (s *source) left() time.Duration {
	if s.stalled {
		return math.MaxInt64 / 2
	}
	return time.Duration(float64(s.own) / s.speed() * float64(time.Second))
}

// ask asks the source for a want.
func (s *source) ask(w *want) {
	a := &ask{w: w, version: w.versions[0].ID(), size: w.size, since: time.Now()}
	if s.asks == 0 {
		s.last = a.since
		if s.watch == nil {
			s.watch = time.AfterFunc(s.f.x.cfg.Limits.Stall, s.look)
		} else {
			s.watch.Reset(s.f.x.cfg.Limits.Stall)
		}
	}
	w.at = append(w.at, s)
	s.pending, s.tail = append(s.pending, a), append(s.tail, a)
	s.inFlight, s.own, s.asks = s.inFlight+a.size, s.own+a.size, s.asks+1
	s.f.inFlight += a.size
}

// double says that somebody else is asked for it too.
func (s *source) double(a *ask) {
	if !a.doubled && !a.answered {
		a.doubled = true
		s.own -= a.size
	}
	if n := len(s.tail); n > 0 && s.tail[n-1] == a {
		s.tail = s.tail[:n-1]
	}
}

// finish says that an ask is answered, or never will be.
func (s *source) finish(a *ask) {
	if a.answered {
		return
	}
	a.answered = true
	if !a.doubled {
		s.own -= a.size
	}
	s.inFlight, s.asks = s.inFlight-a.size, s.asks-1
	s.f.inFlight -= a.size
	if i := slices.Index(a.w.at, s); i >= 0 {
		a.w.at = slices.Delete(a.w.at, i, i+1)
	}
	for len(s.tail) > 0 && s.tail[0].answered {
		s.tail = s.tail[1:]
	}
	for n := len(s.tail); n > 0 && s.tail[n-1].answered; n-- {
		s.tail = s.tail[:n-1]
	}
}

// look is called when something may not have been answered for long.
func (s *source) look() {
	f, l := s.f, &s.f.x.cfg.Limits
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.sources[s]; !ok || s.watch == nil || s.asks == 0 && !s.silent {
		return
	}
	quiet := quiet(s.last, &s.moved)
	switch {
	case quiet >= l.GiveUp:
		s.fail()
		f.giveUp(s)
		s.comeBack()
	case quiet >= l.Silence:
		s.watch.Reset(l.GiveUp - quiet)
		s.silence()
	case quiet >= l.Stall:
		s.watch.Reset(l.Silence - quiet)
		s.stalled = true
	default:
		s.watch.Reset(l.Stall - quiet)
	}
	f.rescue(s)
	s.unstick()
	f.dispatch()
}

// silence has nobody wait for a source any more from which nothing has come for long. What it answers yet counts for whoever wants it then.
func (s *source) silence() {
	s.stalled, s.silent = true, true
	for _, a := range s.openAsks() {
		if !a.answered {
			s.lacks(a.w)
			s.finish(a)
			s.f.requeue(a.w)
		}
	}
	s.pending = nil
}

// unstick closes streams that do not answer while others of the source do.
func (s *source) unstick() {
	for _, st := range s.streams {
		if s.silent || st.stuck || len(st.sent) == 0 || quiet(st.last, &st.moved) < s.f.x.cfg.Limits.Silence {
			continue
		}
		st.stuck = true
		for _, a := range st.sent {
			s.lacks(a.w)
		}
		_ = st.c.Close() // its reader puts back what is not answered
	}
}

// openAsks are those that are not answered, the last ones first.
func (s *source) openAsks() (list []*ask) {
	list = slices.Clone(s.pending)
	for _, st := range s.streams {
		list = append(list, st.sent...)
	}
	slices.Reverse(list)
	return list
}

// rescue has others asked for what a source was asked for: all of it, if it has stopped answering, or what somebody has waited for long. f.mu is held.
func (f *fetcher) rescue(s *source) {
	for _, a := range s.openAsks() {
		w := a.w
		if a.answered || !s.stalled && (!w.urgent || time.Since(a.since) < f.x.cfg.Limits.Stall) {
			continue
		}
		if !w.settled() && !w.queued && len(w.at) == 1 && f.wants[w.id] == w {
			f.enqueueFirst(w)
		}
		s.double(a)
	}
	s.tail = slices.DeleteFunc(s.tail, func(a *ask) bool { return a.doubled })
}

// fail says of what the source is asked for that it does not have it.
func (s *source) fail() {
	for _, a := range s.openAsks() {
		s.lacks(a.w)
	}
}

// lacks notes that the source does not have what is wanted.
func (s *source) lacks(w *want) {
	if w.missing == nil {
		w.missing = map[*source]struct{}{}
	}
	w.missing[s] = struct{}{}
}

// kick has the streams take what is pending, and opens another where all are busy.
func (s *source) kick() {
	if len(s.pending) == 0 {
		return
	}
	busy := true
	for _, st := range s.streams {
		poke(st.poke)
		busy = busy && st.inFlight >= streamFull
	}
	if busy && len(s.streams) < s.streamsMost() {
		s.open()
	}
}

// streamsMost is how many streams there are to the peer: one where little is taken of it, so that each moves on before the other end gives it up.
func (s *source) streamsMost() int {
	if rate := s.f.x.cfg.Pace.Down(s.p.id); rate > 0 && rate < slowRate {
		return 1
	}
	return streamsMost
}

// open opens a stream, beside the work.
func (s *source) open() {
	if s.opening {
		return
	}
	s.opening = s.p.x.spawn(func() {
		c, err := s.p.s.open(s.p.ctx, purposeChunks)
		f := s.f
		f.mu.Lock()
		s.opening = false
		_, in := f.sources[s]
		if err == nil && !in {
			c.Close()
		}
		if err != nil || !in {
			if in && len(s.streams) == 0 {
				s.fail()
				f.giveUp(s)
				s.comeBack()
			}
			f.dispatch()
			f.mu.Unlock()
			return
		}
		st := &stream{s: s, turn: s.turn, c: c, poke: make(chan struct{}, 1)}
		s.streams = append(s.streams, st)
		poke(st.poke)
		f.mu.Unlock()
		st.run()
	})
}

// run serves a stream until it ends.
func (st *stream) run() {
	ctx, cancel := context.WithCancel(st.s.p.ctx)
	defer cancel()
	cut := context.AfterFunc(ctx, func() { st.c.Close() })
	defer cut()
	var hands sync.WaitGroup
	hands.Go(func() {
		st.write(ctx)
		cancel()
	})
	err := st.read(ctx)
	cancel()
	st.c.Close()
	hands.Wait()
	if fault(err) {
		st.s.p.x.blame(st.s.p.id, err)
	}
	st.ended()
}

// ended puts back what the stream has not answered. A source of which streams end, and do not answer before, is asked nothing more for a while.
func (st *stream) ended() {
	s, f := st.s, st.s.f
	f.mu.Lock()
	defer f.mu.Unlock()
	s.streams = slices.DeleteFunc(s.streams, func(o *stream) bool { return o == st })
	for _, a := range slices.Backward(st.sent) {
		s.finish(a)
		f.requeue(a.w)
	}
	st.sent = nil
	if st.turn != s.turn {
		f.dispatch()
		return
	}
	if s.failures++; st.answers > 0 {
		s.failures = 0
	}
	if s.failures > 0 && len(s.streams) == 0 || s.failures >= streamsMost {
		s.fail()
		f.giveUp(s)
		s.comeBack()
	}
	f.dispatch()
}

// comeBack has a source asked again after a while that was given up although its peer is to be asked still: the peer may have closed its streams because its rules changed
// at that moment. f.mu is held.
func (s *source) comeBack() {
	p := s.p
	pause := min(firstPause<<min(s.tries, 16), longestPause)
	s.tries++
	p.x.spawn(func() {
		if pace.Sleep(p.ctx, pause) != nil {
			return
		}
		p.mu.Lock()
		ask := p.asking
		p.mu.Unlock()
		if ask {
			p.x.fetch.add(s)
			p.x.changed(p.id)
		}
	})
}

// write asks over the stream.
func (st *stream) write(ctx context.Context) {
	w := wire.NewWriter(patient{st.c, st.s.f.x.cfg.Limits.GiveUp}, st.s.p.id)
	for {
		m, some := st.pull()
		if !some {
			select {
			case <-st.poke:
				continue
			case <-ctx.Done():
				return
			}
		}
		if err := w.Want(m); err != nil {
			return
		}
	}
}

// pull takes what the stream is to ask for next: its part of what the source may be asked for.
func (st *stream) pull() (m wire.Want, some bool) {
	s, f := st.s, st.s.f
	f.mu.Lock()
	defer f.mu.Unlock()
	most := max(s.window()/max(len(s.streams), 1), streamFull)
	n := 0
	if len(st.sent) == 0 {
		st.last = time.Now()
	}
	for len(s.pending) > 0 && n < pullMost && st.inFlight < most && !st.stuck {
		a := s.pending[0]
		s.pending = s.pending[1:]
		if a.answered {
			continue
		}
		if f.wants[a.w.id] != a.w || a.w.settled() { // nobody wants it any more
			s.finish(a)
			continue
		}
		if i := len(m.Groups) - 1; i < 0 || m.Groups[i].Version != a.version {
			m.Groups = append(m.Groups, wire.Group{Version: a.version})
		}
		g := &m.Groups[len(m.Groups)-1]
		g.IDs = append(g.IDs, a.w.id)
		st.sent = append(st.sent, a)
		st.inFlight += a.size
		n++
	}
	if len(s.pending) == 0 {
		s.pending = nil
	}
	return m, n > 0
}

// read takes the answers of the stream.
func (st *stream) read(ctx context.Context) error {
	x, f := st.s.p.x, st.s.f
	moved := func() {
		now := time.Now().UnixNano()
		st.s.moved.Store(now)
		st.moved.Store(now)
	}
	r := wire.NewReader(bufio.NewReaderSize(x.cfg.Pace.Reader(ctx, st.s.p.id, st.c, moved), 64<<10))
	for {
		m, err := r.Next()
		if err != nil {
			return err
		}
		var answers [][]byte
		switch m := m.(type) {
		case *wire.Chunks:
			answers = m.Data
		case *wire.Bye:
			return &sharefs.Error{Op: op, Kind: sharefs.KindOther, Detail: "the peer serves nothing more: " + m.Text}
		default:
			return refuse("a message that does not belong on this stream")
		}
		f.mu.Lock()
		if len(answers) > len(st.sent) {
			f.mu.Unlock()
			return refuse(fmt.Sprintf("%d answers where %d were asked for", len(answers), len(st.sent)))
		}
		asks := st.sent[:len(answers):len(answers)]
		versions := make([]*record.Record, len(asks)) // nil: it is not wanted any more
		for i, a := range asks {
			if w := f.wants[a.w.id]; w != nil && !w.settled() { // be it another one than that for which it was asked, of which nobody waits any more
				versions[i] = w.versionOf(a.version)
			}
		}
		f.mu.Unlock()
		errs := make([]error, len(asks))
		for i, a := range asks {
			if answers[i] == nil || versions[i] == nil {
				continue
			}
			if err := x.cfg.Chunks.Check(versions[i], a.w.id, answers[i]); errors.Is(err, sharefs.KindCorrupt) {
				return &sharefs.Error{Op: "fetch", Path: a.w.id.String(), Kind: sharefs.KindCorrupt, Detail: "the peer sent another chunk than it was asked for", Err: err}
			} else if err != nil {
				errs[i] = err
			}
		}
		f.mu.Lock()
		woke := st.s.silent
		st.take(asks, versions, answers, errs)
		f.dispatch()
		if st.s.asks > 0 {
			poke(st.poke)
		}
		f.mu.Unlock()
		if woke {
			x.changed(st.s.p.id)
		}
	}
}

// versionOf returns the version as a part of which a chunk was asked for; nil: it is not wanted of that any more.
func (w *want) versionOf(id record.ID) *record.Record {
	for _, v := range w.versions {
		if v.ID() == id {
			return v
		}
	}
	return nil
}

// take settles what was answered. The fetcher's lock is held.
func (st *stream) take(asks []*ask, versions []*record.Record, answers [][]byte, errs []error) {
	s, f := st.s, st.s.f
	now := time.Now()
	got, before := 0, s.inFlight
	st.sent = st.sent[len(asks):]
	common := s.p.common
	common.mu.Lock()
	defer common.mu.Unlock()
	for i, a := range asks {
		st.inFlight -= a.size
		s.finish(a)
		data, w := answers[i], f.wants[a.w.id]
		got += len(data)
		common.in.count(data)
		switch {
		case data == nil:
			s.lacks(a.w)
			f.requeue(a.w)
		case versions[i] == nil || w == nil: // nobody looked at it
			f.requeue(a.w)
		case errs[i] != nil:
			f.settle(w, nil, errs[i])
		default:
			f.count(versions[i], s.p.id, len(data))
			w.under = versions[i].Body.(*record.Version).Key
			f.settle(w, data, nil)
		}
	}
	st.answers += uint64(len(asks))
	st.last = now
	s.failures, s.tries, s.stalled, s.silent, s.last = 0, 0, false, false, now
	s.measure(now, got, before)
}

// rateMemory is for how long a rate counts, in seconds of work.
const rateMemory = 1.0

// measure notes bytes that came while so many were asked for. The time before the first message after a pause says nothing of the rate, nor does that in which the peer was
// asked for less than is on the way at its rate: the last chunks of a file would make any peer seem slow.
func (s *source) measure(now time.Time, got, asked int) {
	enough := min(float64(s.window()/2), s.speed()*s.rtt().Seconds()+serveBytes)
	if !s.fresh.IsZero() && got > 0 && float64(asked) >= enough {
		d := max(now.Sub(s.fresh).Seconds(), 1e-6)
		keep := math.Exp(-d / rateMemory)
		s.bytes, s.seconds = s.bytes*keep+float64(got), s.seconds*keep+d
	}
	s.fresh = now
	if s.asks == 0 {
		s.fresh = time.Time{}
		if s.watch != nil {
			s.watch.Stop()
		}
	}
}
