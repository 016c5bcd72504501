// Package engine keeps a tree and what peers say about it together: it has the replica write down what changes here, fetches the contents that
// are missing, and has the replica do to the tree what the records of others say.
//
//	engine.go  what it joins, its beginning and its end
//	turn.go    the loop: author, tell, apply
//	fetch.go   contents that are missing, beside the loop
//	told.go    what is told of it
//
// # The way of a change
//
//	feed of the tree ─▶ turn: Author ─▶ Exchange.Grown ─▶ peers
//	                       │
//	peers ─▶ Take, Wake ─▶ turn: Wanted ─▶ fetch, beside it ─▶ turn: Apply ─▶ tree
//
// A turn is carried out whenever there may be something to do, and asks what that is. So each wake-up says nothing but "look", several are as good as one, and
// whatever was cut off goes on with the next turn, in this life or the next.
//
// Nobody here waits for a peer but those who fetch. A content that cannot be had waits by itself, and is tried again when somebody who may have it comes, or
// after a pause that grows.
package engine

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"sharefs"
	"sharefs/peers/record"
)

// Replica writes down what changes in a tree, and does to it what records say (package replica). Errors of KindAgain are none: something is not at rest.
type Replica interface {
	// Author returns how many records it wrote, which survive power loss.
	Author() (n int, err error)
	// Wanted lists up to most versions whose content is needed and is not all here, but those that skip tells of. An error is of one of them, which is not among them.
	Wanted(most int, skip func(*record.Record) bool) ([]*record.Record, error)
	// Apply returns how many names wait for something; the error tells why one of them does.
	Apply() (waiting int, err error)
}

// Source is where the chunks of some contents come from; of is the place of the content among those that were asked for (versions.Source).
type Source interface {
	Want(of int, ids ...sharefs.ChunkID)
	Get(of int, id sharefs.ChunkID, good func(data []byte) bool) ([]byte, error)
}

// Lease keeps what was fetched until a version leads to it.
type Lease interface{ End() }

// Exchange is how records and chunks go between hosts (package exchange).
type Exchange interface {
	Grown()
	Complete(versions ...record.ID)
	Want(v *record.Record, ids ...sharefs.ChunkID)
	// Get returns nothing but what is the chunk, by the share key of the version.
	Get(ctx context.Context, v *record.Record, id sharefs.ChunkID) ([]byte, error)
	Drop(v record.ID)
}

// Config is what an engine joins.
type Config struct {
	// Open opens the replica. Where it fails it is asked again.
	Open func() (Replica, error)
	// Changed receives when something has changed in the tree.
	Changed <-chan struct{}
	// Gather brings contents here; live: the turn puts them into the tree then.
	Gather   func(list []*record.Record, src Source, live bool) (Lease, []error, error)
	Exchange Exchange
	Log      *slog.Logger
}

// Engine is at work from [Start] to [Engine.Close]. Its methods may be called by several goroutines at once.
type Engine struct {
	cfg    Config
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup // the loop, and those who fetch
	wake   chan struct{}  // capacity 1
	ending chan struct{}  // closed by Close

	// Of the loop alone.
	replica Replica
	retry   *time.Timer
	pause   time.Duration // before the last turn that nobody asked for; 0: somebody did
	applied time.Time     // when Apply ended last, and what it took
	took    time.Duration
	ends    []chan struct{} // to be closed when a turn has applied
	next    time.Time       // when the first content is to be tried again that could not be had; zero: there is none

	mu       sync.Mutex // guards what follows; nothing waits under it
	closed   bool
	running  map[record.ID]bool   // being fetched
	reached  map[record.ID]uint64 // up to which byte all of those is here
	listed   [][]*record.Record   // small contents to be fetched by whoever is free next
	small    int                  // who fetch small contents, and large ones
	large    int
	failed   map[record.ID]failure
	missing  missing
	leases   []Lease // of what was fetched since a turn applied all
	names    int     // that wait
	troubles map[string]error
	turned   chan struct{} // closed when a turn has applied that is still to begin; nil: nobody waits for that
}

// Start begins. The first turn comes at once.
func Start(cfg Config) *Engine {
	e := &Engine{cfg: cfg, wake: make(chan struct{}, 1), ending: make(chan struct{}), running: map[record.ID]bool{}, reached: map[record.ID]uint64{}, failed: map[record.ID]failure{}, troubles: map[string]error{}}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.retry = time.NewTimer(time.Hour)
	e.retry.Stop()
	e.Wake()
	e.wg.Go(e.work)
	return e
}

// Wake says that there may be something to do: records came, or what counts is decided otherwise now.
func (e *Engine) Wake() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Turned returns a channel that is closed when a turn has ended that began after the call and in which the replica applied what it could: what waits then waits for
// something else than a turn. Nobody asks for the turn by that; [Engine.Wake] does.
func (e *Engine) Turned() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.turned == nil {
		e.turned = make(chan struct{})
	}
	return e.turned
}

// Close ends it. What changed in the tree until then is written down and told of first. The replica stays open, for peers may still read of it what that was.
func (e *Engine) Close() {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return
	}
	e.closed = true
	e.mu.Unlock()
	e.cancel() // whoever fetches
	close(e.ending)
	e.wg.Wait()
	e.endLeases()
}

// endLeases gives free what was kept for versions to come.
func (e *Engine) endLeases() {
	e.mu.Lock()
	all := e.leases
	e.leases = nil
	e.mu.Unlock()
	for _, l := range all {
		l.End()
	}
}
