package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sharefs"
	"sharefs/internal/store"
	"sharefs/peers/engine"
	"sharefs/peers/exchange"
	"sharefs/peers/record"
	"sharefs/peers/replica"
	"sharefs/peers/replica/host"
	"sharefs/peers/trust"
	"sharefs/versions"
)

// travel has files travel between this host and its peers. It begins with the first grant by which a peer may read something of the share, and then lasts as long as the mount.
// Until then nothing is written down, and nothing of it costs anything.
type travel struct {
	d *Daemon

	mu     sync.Mutex // guards what follows, which stays as it is once it has begun
	ended  bool
	begun  bool
	err    error         // why it did not begin although it should
	pause  time.Duration // before it is tried again
	again  *time.Timer   // then; nil: it did not have to be
	log    *engine.Log
	ex     *exchange.Exchange
	engine *engine.Engine
	stop   chan struct{}  // closed at the end
	beside chan struct{}  // capacity 1: there may be other conflicts
	hands  sync.WaitGroup // who follow the keys, and do beside the loop what may have to wait for the hub

	fills      fills
	ends       ends
	decisions  decisions
	compared   compared     // of whoever enters conflicts into histories alone
	nobody     atomic.Bool  // somebody waited in vain for content that is elsewhere, and no peer has come or got anything since
	missed     missed       // files that were read in vain since then
	conflicted atomic.Int64 // names that were in conflict when they were looked for last

	dbMu    sync.Mutex // guards what follows; nothing else is taken under it
	db      *host.Store
	replica *replica.Replica // nil until it is open
}

// Pauses before what did not begin is tried again: there may be room on the disk by then.
const (
	beginPause   = 2 * time.Second
	beginLongest = 5 * time.Minute
)

// rulesChanged has the rules of the moment count: it begins if there is anybody with whom, and ends nothing but what goes out and comes in.
func (t *travel) rulesChanged() {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.ended || t.d.peers.hub == nil:
	case t.begun:
		t.d.space.askSoon()
		t.ex.Refresh()
		t.engine.Wake()
		t.lookForCuts()
	case t.anybody():
		if t.err = t.begin(); t.err != nil {
			t.d.log.Error("files do not travel", "error", t.err)
			if t.again != nil {
				t.again.Stop()
			}
			if !errors.Is(t.err, sharefs.KindReadOnly) {
				t.pause = min(max(2*t.pause, beginPause), beginLongest)
				t.again = time.AfterFunc(t.pause, t.rulesChanged)
			}
		}
	}
}

// anybody reports whether there is a peer that may read something of the share. From such a one alone content comes.
func (t *travel) anybody() bool {
	if t.d.peers.book == nil {
		return false
	}
	policy := t.d.peers.book.Policy()
	for _, id := range policy.Peers() {
		if policy.Most(id).Rights().Out >= trust.OutPlain {
			return true
		}
	}
	return false
}

// begin joins the parts. t.mu is held.
func (t *travel) begin() error {
	d := t.d
	fail := func(kind sharefs.Kind, detail string, err error) error {
		return &sharefs.Error{Op: "exchange files with peers", Path: t.dir(), Kind: kind, Detail: detail, Err: err}
	}
	if d.store.ReadOnly {
		return fail(sharefs.KindReadOnly, "the disk below the store is read-only", nil)
	}
	if err := os.Mkdir(t.dir(), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fail(sharefs.KindOf(err), "", err)
	}
	log := d.log.With("part", "travel")
	t.log = &engine.Log{
		Self: d.store.Keys.Peer(), Policy: d.peers.book.Policy, Most: d.peers.book.Records, Took: t.wake, Passed: t.askWho, Anew: t.anew, Stop: t.takesNothing,
	}
	t.ex = exchange.New(exchange.Config{
		Self: d.store.Keys.Peer(), Policy: d.peers.book.Policy, Log: t.log, Chunks: &chunks{t: t}, Rings: &rings{tree: d.tree, book: d.peers.book}, Pace: d.peers.pace, Logger: log,
		Changed: func(sharefs.PeerID) { t.retry() },
		Here:    func(_ sharefs.PeerID, versions []record.ID) { t.retry(versions...) },
		Keep:    d.space.promise,
		Release: d.space.giveBack,
		Silent:  func(id sharefs.PeerID) bool { return d.peers.hub.Silent(id) },
	})
	t.stop, t.beside, t.ends.soon, t.fills.wake = make(chan struct{}), make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	d.tree.SetFilled(t.fills.filled)
	t.engine = engine.Start(engine.Config{Open: t.open, Changed: d.tree.Changed(), Gather: t.gather, Exchange: t.ex, Log: log})
	t.begun = true
	t.hands.Go(t.followKeys)
	t.hands.Go(t.followFills)
	t.hands.Go(t.keepConflictsReadable)
	t.hands.Go(t.followCuts)
	return nil
}

// standing is what records of a host count here from now on.
func (t *travel) standing(author sharefs.PeerID) replica.Standing {
	return engine.Standing(t.d.peers.book.Policy(), author)
}

func (t *travel) dir() string { return filepath.Join(t.d.store.Dir, store.TravelDir) }

// open opens the records, and begins to talk to peers.
func (t *travel) open() (engine.Replica, error) {
	t.mu.Lock() // begin has put down by then what peers, and who resolves conflicts, ask for as soon as this is open
	ended := t.ended
	t.mu.Unlock()
	if ended {
		return nil, sharefs.KindAgain
	}
	r, err := t.openReplica()
	if err != nil {
		return nil, err
	}
	t.log.Use(r)
	t.hands.Go(func() { t.ex.Over(t.d.peers.hub) }) // beside the loop, for peers may ask that for something at once
	t.hands.Go(t.askWho)
	t.lookForConflicts()
	t.lookForCuts()
	return oneWay{r, t}, nil
}

func (t *travel) openReplica() (r *replica.Replica, err error) {
	d := t.d
	root, err := d.tree.Getattr(sharefs.RootIno)
	if err != nil {
		return nil, err
	}
	t.dbMu.Lock()
	defer t.dbMu.Unlock()
	db, err := host.OpenStore(t.dir())
	if err == nil {
		r, err = replica.Open(replica.Config{
			Tree: host.Tree{Tree: d.tree, Owner: versions.Caller{UID: root.UID, GID: root.GID}, Cause: new(versions.Cause), Absence: d.space.absence}, Store: db, Self: d.store.Keys.Peer(), Key: d.store.Keys.Identity.Private(),
			Keys: host.Keys{Tree: d.tree}, Log: d.log.With("part", "travel"),
			Ending:   t.stop,
			Most:     d.peers.book.Records,
			Wrote:    t.wrote,
			Counts:   func(author sharefs.PeerID) bool { return t.standing(author) != replica.PassedOver },
			Standing: func(rec *record.Record) replica.Standing { return t.standing(rec.Author) },
			Where:    func(author sharefs.PeerID) (replica.Where, bool) { return engine.Where(d.peers.book.Policy(), author) },
			Bulk:     func(author sharefs.PeerID) replica.Bulk { return engine.Bulk(d.peers.book.Policy(), author) },
			Revoked:  t.revoked,
			Scope:    func(peer sharefs.PeerID) (replica.Scope, bool) { return engine.Scope(d.peers.book.Policy(), peer) },
		})
		if err != nil {
			_ = db.Close()
		}
	}
	if err != nil {
		return nil, err
	}
	t.db, t.replica = &db, r
	return r, nil
}

// close closes the records.
func (t *travel) close() {
	t.log.Use(nil)
	t.dbMu.Lock()
	defer t.dbMu.Unlock()
	if t.db == nil {
		return
	}
	if err := t.db.Close(); err != nil {
		t.d.log.Error("the records of peers could not all be saved", "error", err)
	}
	t.db, t.replica = nil, nil
}

// exchange returns that with peers; nil: there is none, or none any more.
func (t *travel) exchange() *exchange.Exchange {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.begun || t.ended {
		return nil
	}
	return t.ex
}

// oneWay is a replica that changes nothing in a tree that is mounted read-only.
type oneWay struct {
	*replica.Replica
	t *travel
}

func (o oneWay) Wanted(most int, skip func(*record.Record) bool) ([]*record.Record, error) {
	if o.t.takesNothing() != nil {
		return nil, nil
	}
	return o.Replica.Wanted(most, skip)
}

func (o oneWay) Apply() (waiting int, err error) {
	if o.t.takesNothing() != nil {
		return 0, nil
	}
	waiting, err = o.Replica.Apply()
	if o.t.conflicted.Load() > 0 {
		o.t.lookForConflicts()
	}
	return waiting, err
}

// Author hears peers first where the records were lost.
func (o oneWay) Author() (n int, err error) {
	if o.Lost() && o.t.heard() {
		o.Heard()
	}
	return o.Replica.Author()
}

// heard reports whether all that a peer knows was taken, or whether there is none that could be asked.
func (t *travel) heard() bool {
	if t.takesNothing() != nil {
		return false
	}
	policy := t.d.peers.book.Policy()
	if !slices.ContainsFunc(policy.Peers(), policy.MergesAll) {
		return true
	}
	return slices.ContainsFunc(t.ex.Peers(), func(s exchange.Status) bool { return s.Receives && s.Taken >= s.Known })
}

// takesNothing says why nothing of peers is taken at present; nil: it is.
func (t *travel) takesNothing() error {
	if t.d.readOnly() {
		return &sharefs.Error{Op: "take changes of peers", Kind: sharefs.KindReadOnly, Detail: "this mount is read-only: it sends what it has, and takes nothing"}
	}
	return nil
}

// wrote has peers be told of what changed here.
func (t *travel) wrote() {
	t.log.Look()
	t.ex.Grown()
}

// What the exchange tells of goes to the engine.

func (t *travel) wake() {
	t.engine.Wake()
	t.lookForConflicts()
	t.lookForCuts()
}

func (t *travel) retry(versions ...record.ID) {
	t.nobody.Store(false)
	t.missed.forget()
	t.d.space.askSoon()
	t.engine.Retry(versions...)
	t.d.space.pins.retry(versions...)
	if t.conflicted.Load() > 0 {
		t.lookForConflicts()
	}
}

func (t *travel) lookForConflicts() {
	poke(t.beside)
}

// poke wakes whoever waits.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// anew has logs of peers asked for again from where they were taken to, after a while.
func (t *travel) anew(after time.Duration) { time.AfterFunc(after, t.ex.Refresh) }

// followKeys tells peers, and what waits for keys, that there are others.
func (t *travel) followKeys() {
	for {
		select {
		case <-t.stop:
			return
		case <-t.d.tree.KeysChanged():
			t.ex.RingChanged()
			t.engine.Retry()
		}
	}
}

// gather puts contents into packs, and what is to be live beside that into files.
func (t *travel) gather(list []*record.Record, src engine.Source, live bool) (engine.Lease, []error, error) {
	var lease *versions.Lease
	var errs []error
	var err error
	if all := host.Contents(list); live {
		stays := t.d.space.absence.Stays
		lease, errs, err = t.d.tree.GatherSome(all, func(i int) bool { return stays(list[i].Body.(*record.Version)) }, func(i int) bool {
			r := t.records()
			return r != nil && r.Held(list[i].Body.(*record.Version)) != 0
		}, src)
	} else {
		lease, errs, err = t.d.tree.Gather(all, src)
	}
	if err != nil {
		return nil, nil, err
	}
	for i, rec := range list {
		if v := rec.Body.(*record.Version); live && errs[i] == nil && !t.d.space.absence.Stays(v) {
			t.d.space.came(2 * v.Size) // in packs, and in a live file
		}
	}
	return lease, errs, nil
}

// end ends it: what was changed is written down and, where peers are connected, told for a moment; what they do not have by then they ask for the next time.
func (t *travel) end() {
	t.mu.Lock()
	t.ended = true
	begun := t.begun
	t.mu.Unlock()
	if !begun {
		return
	}
	t.d.tree.SetFilled(nil)
	close(t.stop)
	t.engine.Close()
	t.deliver()
	t.ex.Close()
	t.hands.Wait()
	t.close()
}

// deliverPatience is how long the end of a mount waits for connected peers to have what was written down last.
const deliverPatience = 2 * time.Second

// deliver waits until all who are connected have all, or say nothing for a moment.
func (t *travel) deliver() {
	for end := time.Now().Add(deliverPatience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		behind := func(s exchange.Status) bool { return s.Sends && s.Acked < s.Last }
		if !slices.ContainsFunc(t.ex.Peers(), behind) {
			return
		}
	}
}
