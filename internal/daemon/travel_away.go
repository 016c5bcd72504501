package daemon

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/peers/exchange"
	"sharefs/peers/pace"
	"sharefs/peers/record"
	"sharefs/versions"
)

// Find implements [versions.Elsewhere]: contents come from peers. Nobody is asked before a chunk is.
func (t *travel) Find(ino sharefs.Ino, c *versions.Content) (versions.Remote, error) {
	return &away{t: t, ino: ino, c: c}, nil
}

// away is a content that peers have.
type away struct {
	t   *travel
	ino sharefs.Ino
	c   *versions.Content
	rec atomic.Pointer[record.Record] // nil: it was not looked for yet
}

// awayPause is between two questions while nobody has a chunk, for a peer may be about to connect.
const awayPause = 100 * time.Millisecond

// sendPatience is how long a peer may take to send a chunk, however slowly. One from which nothing comes is given up by the exchange, long before ([exchange.Limits]).
const sendPatience = 10 * time.Minute

// exchange returns the exchange and the record of the version; nil: nobody can be asked at present.
func (a *away) exchange() (*exchange.Exchange, *record.Record) {
	t := a.t
	t.mu.Lock()
	ex, on := t.ex, t.begun && !t.ended
	t.mu.Unlock()
	if !on {
		return nil, nil
	}
	rec := a.rec.Load()
	if rec == nil {
		var err error
		if rec, err = t.recordOf(a.ino, a.c); err != nil || rec == nil {
			return nil, nil
		}
		a.rec.Store(rec)
	}
	return ex, rec
}

// recordOf returns the version that has a content of a file; nil: none is known.
func (t *travel) recordOf(ino sharefs.Ino, c *versions.Content) (*record.Record, error) {
	r := t.records()
	if r == nil {
		return nil, nil
	}
	return r.Having(ino, func(v *record.Version) bool {
		return v.Size == c.Size && v.Level == c.Level && v.Key == c.Key && slices.EqualFunc(v.Spans, c.Spans, func(a record.Span, b versions.Span) bool { return versions.Span(a) == b })
	})
}

// wantedOf returns the record of the version that an absent file is to hold. Where none is known, nobody could be asked for it.
func (t *travel) wantedOf(ino sharefs.Ino) (id record.ID, err error) {
	l, err := t.d.tree.Latest(ino)
	if err != nil {
		return id, err
	}
	rec, err := t.recordOf(ino, &l.Content)
	if err != nil || rec == nil {
		return id, &sharefs.Error{Op: "bring here", Kind: sharefs.KindUnreachable, Err: err, Detail: "peers have not said yet which version it is"}
	}
	return rec.ID(), nil
}

// Want implements [versions.Remote].
func (a *away) Want(ids ...sharefs.ChunkID) {
	if ex, rec := a.exchange(); ex != nil {
		ex.Want(rec, ids...)
	}
}

// Drop implements [versions.Remote]. It may come while the replica is at work on the tree, and asks nothing of it.
func (a *away) Drop() {
	if a.rec.Load() == nil {
		return // nothing was wanted
	}
	if ex, rec := a.exchange(); ex != nil {
		ex.Drop(rec.ID())
	}
}

var errAwayInterrupted = &sharefs.Error{Op: "read", Kind: sharefs.KindOther, Err: unix.EINTR}

// Get implements [versions.Remote]. It waits for space.wait while nobody has it, or who has it does not answer, and for who sends it beyond that; when that has passed in vain, nobody else
// waits until a peer comes, answers again, or has something new. Where no peer is known that could have it nobody waits.
func (a *away) Get(cancel <-chan struct{}, id sharefs.ChunkID, patient bool) ([]byte, error) {
	wait := time.Duration(a.t.d.store.Config.Space.Wait)
	if !patient {
		wait = 0
	}
	return a.get(cancel, wait, wait+sendPatience, func(ctx context.Context) ([]byte, error) {
		if ex, rec := a.exchange(); ex != nil {
			return ex.Get(ctx, rec, id)
		}
		return nil, &sharefs.Error{Op: "read", Kind: sharefs.KindUnreachable, Detail: "the content is on other hosts, and none is connected"}
	})
}

// missed names files in the log that were read in vain, each once until something new comes, and not very many.
type missed struct {
	mu sync.Mutex
	of map[sharefs.Ino]bool
}

const mostMissed = 20

func (m *missed) tell(a *away, err error) {
	m.mu.Lock()
	if m.of[a.ino] || len(m.of) >= mostMissed {
		m.mu.Unlock()
		return
	}
	if m.of == nil {
		m.of = map[sharefs.Ino]bool{}
	}
	m.of[a.ino] = true
	m.mu.Unlock() // to find the name takes a while
	if a.t.d.tree == nil {
		return
	}
	a.t.d.log.Warn("a file was read in vain: its content is not here", "file", a.t.d.tree.NameOf(a.ino), "size", a.c.Size, "why", err)
}

// count is of how many files that is known; there may be more of mostMissed.
func (m *missed) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.of)
}

func (m *missed) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.of = nil
}

// gaveUp says that somebody who was ready to wait has waited in vain.
func (a *away) gaveUp(wait time.Duration) {
	if wait > 0 {
		a.t.nobody.Store(true)
	}
}

// get asks until there is an answer: again for so long while nobody has it, and not longer than most.
func (a *away) get(cancel <-chan struct{}, wait, most time.Duration, ask func(context.Context) ([]byte, error)) ([]byte, error) {
	ctx, end := context.WithTimeout(context.Background(), most)
	defer end()
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-cancel:
			end()
		case <-done:
		}
	}()
	last := time.Now().Add(wait)
	for {
		data, err := ask(ctx)
		switch {
		case err == nil:
			return data, nil
		case errors.Is(err, context.Canceled):
			return nil, errAwayInterrupted
		case errors.Is(err, context.DeadlineExceeded):
			a.gaveUp(wait) // the kernel asks once more, for the page alone that is read
			return nil, &sharefs.Error{Op: "read", Kind: sharefs.KindUnreachable, Detail: "no peer has sent it in time"}
		case !errors.Is(err, sharefs.KindUnreachable):
			return nil, err
		case wait == 0:
			return nil, err
		case a.t.nobody.Load(), !a.t.anybody():
			a.t.missed.tell(a, err)
			return nil, err
		case time.Now().After(last):
			a.gaveUp(wait)
			a.t.missed.tell(a, err)
			return nil, err
		}
		if pace.Sleep(ctx, awayPause) == context.Canceled {
			return nil, errAwayInterrupted
		}
	}
}
