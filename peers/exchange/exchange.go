package exchange

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"sharefs"
	"sharefs/peers/exchange/wire"
	"sharefs/peers/pace"
	"sharefs/peers/record"
	"sharefs/peers/trust"
)

// LogID names a log: random bytes, made with it.
type LogID = wire.LogID

// Item is what stands in a log: a batch with its records, or a record without its batch.
type Item = wire.Item

// Log is the log of records of this host, or the part of it that a peer may have. Its methods are called by several goroutines at once.
type Log interface {
	// ID names the log that a peer is told: the one of this host if it may read all of the share, or one of its own, of single records, if it may read a part. The zero value: there is none
	// at present.
	ID(peer sharefs.PeerID) LogID
	// Last returns the last number of arrival in that log that is on disk; 0: nothing is.
	Last(peer sharefs.PeerID) uint64
	// Since lists in their order items of a peer's log that arrived after a number and are on disk: about so many records, and one item at least if there is one. An item without records
	// has the number alone. If that log is not the peer's any more there is nothing.
	Since(peer sharefs.PeerID, log LogID, after uint64, most int) ([]Item, error)
	// Gave reports whether a number of arrival was given in a peer's log. After an error that is not known.
	Gave(peer sharefs.PeerID, log LogID, number uint64) (bool, error)
	// Have returns up to which number of arrival a peer's log was taken: 0 where none of it was, or where it is to be taken from its beginning again.
	Have(peer sharefs.PeerID, log LogID) (uint64, error)
	// Take takes items of a peer's log and notes up to which number of arrival they go; when it returns all of that is on disk. Calls for one peer come one after the other.
	// A record of a batch is named by it, but no signature has been checked. Batches of which records are missing had them sent before, without a batch. What does not count here is passed over without an error.
	// KindInvalid, KindCorrupt: the peer's fault. Other errors are this host's own; it is asked for again after a while, and after Refresh.
	Take(peer sharefs.PeerID, log LogID, items []Item, upTo uint64) error
	// Seen returns the last batch here of an author's own chain, nil where there is none.
	Seen(author sharefs.PeerID) (*record.Batch, error)
	// Saw tells of a batch that a peer holds as one of this host's own, of which it makes sure. KindInvalid, KindCorrupt: the peer's fault.
	Saw(b *record.Batch) error
	// Version returns the record of a version that a peer may have; nil: there is none, or none for that peer.
	Version(peer sharefs.PeerID, id record.ID) (*record.Record, error)
}

// Chunks has the content of this host. Its methods are called by several goroutines at once.
type Chunks interface {
	// Chunk reads a chunk, or a node of a manifest, that belongs to a version, in the memory of dst where that is large enough. Any error: it is not here.
	Chunk(v *record.Record, id sharefs.ChunkID, dst []byte) ([]byte, error)
	// Check makes sure that data is what an id names in a version. KindCorrupt: it is something else; any other error says why that cannot be told, and is nobody's fault.
	Check(v *record.Record, id sharefs.ChunkID, data []byte) error
}

// Rings has the share keys.
type Rings interface {
	// Ring returns the encoding of this host's keys.
	Ring() []byte
	// TakeRing takes the keys of a peer whose versions are kept here. KindInvalid: the peer's fault.
	TakeRing(from sharefs.PeerID, ring []byte) error
}

// Config is what an exchange is made with.
type Config struct {
	Self   sharefs.PeerID
	Policy func() trust.Policy // the rules of the moment
	Log    Log
	Chunks Chunks
	Rings  Rings // nil: no keys travel
	Limits Limits
	Pace   *pace.Pacer  // how fast content goes to peers and comes from them; nil: as fast as it can
	Logger *slog.Logger // nil: nowhere

	// What follows is called without locks held, must not block for long, and may be nil.

	// Changed says that a peer can be asked for content from now on, or not any more.
	Changed func(peer sharefs.PeerID)
	// Here says that a peer has the content of versions that it did not have when it was asked.
	Here func(peer sharefs.PeerID, versions []record.ID)
	// Keep promises a peer that may read all of the share to keep the content of versions, and returns those for which it does, and why it does not for others; nil: nothing is promised. It may take
	// as long as the disk.
	Keep func(peer sharefs.PeerID, versions []record.ID) (yes []record.ID, no []wire.Refusal)
	// Release returns those of some versions that this host does not rely on any more, though a peer that may read all of the share promised to keep them. Instead: others may be asked to promise the
	// same. Nil: none. It may take as long as others take to answer.
	Release func(peer sharefs.PeerID, versions []record.ID, instead bool) []record.ID
	// Silent asks a connected peer for a sign of life if none has come for a moment, and reports whether none did; nil: each is there as long as it is connected.
	Silent func(peer sharefs.PeerID) bool
	// Misbehaved says that a peer sent what cannot be, or is not what it said. Nothing more is taken of it for a while.
	Misbehaved func(peer sharefs.PeerID, err error)
}

// Limits bound what is spent. Zero fields take the value in the comment.
type Limits struct {
	PeerBytes  int           // asked of one peer and not answered, as far as sizes are known: 16 MiB
	TotalBytes int           // asked of all peers, or answered and not taken: 64 MiB
	Wanted     int           // chunks that are wanted ahead: 65536; more are left to whoever gets them
	Reads      int           // chunks that are read at once for all peers: 8
	Streams    int           // over which one peer may ask: 8
	ScopeIDs   int           // chunks of versions that are remembered: 1 << 22 (16 bytes each)
	Again      time.Duration // before a log is asked for again that this host could not take; it doubles, up to 5 minutes: 1 s
	Blame      time.Duration // for which a peer is left out that misbehaved; it doubles each time, up to a day: 1 minute
	Stall      time.Duration // without an answer, after which others are asked too: 3 s
	Silence    time.Duration // without a byte of an answer, after which a peer counts as one that has nothing of what it was asked for, until it answers: 10 s
	GiveUp     time.Duration // without a byte of an answer, after which its streams are given up; and without room to write: 60 s
}

func (l *Limits) fill() {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&l.PeerBytes, 16<<20)
	def(&l.TotalBytes, 64<<20)
	def(&l.Wanted, 1<<16)
	def(&l.Reads, 8)
	def(&l.Streams, 8)
	def(&l.ScopeIDs, 1<<22)
	if l.Again <= 0 {
		l.Again = time.Second
	}
	if l.Blame <= 0 {
		l.Blame = time.Minute
	}
	if l.Stall <= 0 {
		l.Stall = 3 * time.Second
	}
	if l.Silence <= 0 {
		l.Silence = 10 * time.Second
	}
	if l.GiveUp <= 0 {
		l.GiveUp = time.Minute
	}
}

// Exchange is at work from [New] to [Exchange.Close]. Its methods may be called by several goroutines at once.
type Exchange struct {
	cfg    Config
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	fetch  *fetcher
	scopes *scopes
	reads  chan struct{} // one for each chunk that is being read for a peer

	mu     sync.Mutex // guards what follows; nothing is sent or asked under it
	closed bool
	peers  map[session]*peer
	common map[sharefs.PeerID]*common
	bad    map[sharefs.PeerID]*blame // who misbehaved
}

// New makes an exchange without peers.
func New(cfg Config) *Exchange {
	cfg.Limits.fill()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	x := &Exchange{cfg: cfg, log: cfg.Logger, peers: map[session]*peer{}, common: map[sharefs.PeerID]*common{}, bad: map[sharefs.PeerID]*blame{},
		reads: make(chan struct{}, cfg.Limits.Reads)}
	x.ctx, x.cancel = context.WithCancel(context.Background())
	x.fetch = newFetcher(x)
	x.scopes = newScopes(cfg.Chunks, cfg.Limits.ScopeIDs)
	return x
}

// Close ends all streams, and with net.ErrClosed whoever waits for a chunk. When it returns no goroutine of the exchange is left. The sessions stay.
func (x *Exchange) Close() {
	x.mu.Lock()
	x.closed = true
	x.mu.Unlock()
	x.cancel()
	for _, p := range x.all() {
		p.end()
	}
	x.fetch.close()
	x.wg.Wait()
}

// spawn runs fn on a goroutine that Close waits for, and reports whether it does: it does not once the exchange is closed.
func (x *Exchange) spawn(fn func()) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return false
	}
	x.wg.Go(fn)
	return true
}

func (x *Exchange) all() []*peer {
	x.mu.Lock()
	defer x.mu.Unlock()
	all := make([]*peer, 0, len(x.peers))
	for _, p := range x.peers {
		all = append(all, p)
	}
	return all
}

// Grown says that the log has grown, and is on disk.
func (x *Exchange) Grown() {
	for _, p := range x.all() {
		poke(p.poke)
	}
}

// RingChanged says that there is another ring: it goes to all who may have it.
func (x *Exchange) RingChanged() { x.Grown() }

// Refresh says that rules have changed. Before it returns nothing is served any more to peers that may not have it.
func (x *Exchange) Refresh() {
	policy := x.cfg.Policy()
	for _, p := range x.all() {
		if _, err := policy.Some(p.id); err != nil {
			p.endServing()
		}
		p.refresh()
	}
}

// Complete says that the content of versions is whole here now. Peers that asked for it in vain are told.
func (x *Exchange) Complete(versions ...record.ID) {
	for _, id := range versions {
		x.scopes.forget(id)
	}
	told := map[*common][]record.ID{}
	for _, p := range x.all() {
		list, ok := told[p.common]
		if !ok {
			list = p.common.take(versions)
			told[p.common] = list
		}
		if len(list) > 0 {
			p.mu.Lock()
			p.here = append(p.here, list...)
			p.mu.Unlock()
			poke(p.poke)
		}
	}
}

// mostVain bounds the versions that are remembered for a peer.
const mostVain = 1 << 16

// inVain notes that something of a version was not here when the peer asked.
func (c *common) inVain(id record.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.vain) < mostVain {
		c.vain[id] = struct{}{}
	}
}

// take returns those of the versions for which the peer asked in vain, and forgets that it did.
func (c *common) take(versions []record.ID) (list []record.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range versions {
		if _, ok := c.vain[id]; ok {
			delete(c.vain, id)
			list = append(list, id)
		}
	}
	return list
}

// common is what is kept of a peer whatever the session; for a while there may be two with one peer.
type common struct {
	taking sync.Mutex // held while something of its log is taken

	mu      sync.Mutex // guards what follows
	in, out Traffic
	vain    map[record.ID]struct{} // versions of which something was not here when it asked
}

// session is what an exchange needs of the session with a peer. Values are compared: one session, one value.
type session interface {
	open(ctx context.Context, purpose string) (net.Conn, error)
	dialed() bool
	done() <-chan struct{}
	rtt() time.Duration
}

// join returns the peer of a session, which is served until the session is over; nil where it is over, or the exchange is closed.
func (x *Exchange) join(id sharefs.PeerID, s session) *peer {
	select {
	case <-s.done():
		return nil
	default:
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return nil
	}
	if p := x.peers[s]; p != nil && p.ctx.Err() == nil {
		return p
	}
	if x.common[id] == nil {
		x.common[id] = &common{vain: map[record.ID]struct{}{}}
	}
	p := newPeer(x, id, s, x.common[id])
	x.peers[s] = p
	x.wg.Go(func() {
		select {
		case <-s.done():
		case <-p.ctx.Done():
		}
		p.end()
		x.fetch.remove(p.source)
		x.mu.Lock()
		if x.peers[s] == p {
			delete(x.peers, s)
		}
		x.mu.Unlock()
		x.changed(id)
	})
	return p
}

func (x *Exchange) changed(id sharefs.PeerID) {
	if x.cfg.Changed != nil && x.ctx.Err() == nil {
		x.cfg.Changed(id)
	}
}

// Status is how the exchange with a peer stands.
type Status struct {
	Peer     sharefs.PeerID
	Since    time.Time
	Sends    bool // it is offered the log of this host
	Takes    bool // it asked for that
	Receives bool // its log is taken here

	Last, Sent, Acked uint64 // numbers of arrival in the log of this host: the last one, sent, on the peer's disk
	Known, Taken      uint64 // in the log of the peer: the last one that is known of, on this host's disk

	In, Out Traffic
	Rate    float64 // of content that comes, bytes/s; 0: none lately
	RTT     time.Duration
	Error   string    // why something is not exchanged
	Refused bool      // the peer ended the exchange before it said anything: it exchanges nothing with this host
	LeftOut time.Time // until then nothing is taken of it, for it misbehaved; zero: it did not
}

// Traffic counts content.
type Traffic struct {
	Chunks, Bytes uint64
	Missing       uint64 // answers that it is not here
}

func (t *Traffic) count(data []byte) {
	if data == nil {
		t.Missing++
		return
	}
	t.Chunks++
	t.Bytes += uint64(len(data))
}

// Peers tells of all peers that are connected, in the order of their ids.
func (x *Exchange) Peers() []Status {
	by := map[sharefs.PeerID]Status{}
	for _, p := range x.all() {
		p.mu.Lock()
		led := p.led()
		p.mu.Unlock()
		if led {
			continue
		}
		st := p.status()
		if other, ok := by[p.id]; ok && (other.Since.After(st.Since) || other.Sends && !st.Sends) {
			continue
		}
		by[p.id] = st
	}
	return slices.SortedFunc(maps.Values(by), func(a, b Status) int { return bytes.Compare(a.Peer[:], b.Peer[:]) })
}

// Want says that chunks of a version will be got, so that they are fetched ahead. It does not wait.
func (x *Exchange) Want(v *record.Record, ids ...sharefs.ChunkID) { x.fetch.want(v, ids) }

// Get returns a chunk, or a node of a manifest, of a version. What it returns must not be changed. Errors: KindUnreachable: no peer that is connected has it; net.ErrClosed; that of the context;
// and what [Chunks.Check] says that is nobody's fault.
func (x *Exchange) Get(ctx context.Context, v *record.Record, id sharefs.ChunkID) ([]byte, error) {
	return x.fetch.get(ctx, v, id)
}

// Drop says that nothing is wanted of a version any more. What was fetched of it and not got goes.
func (x *Exchange) Drop(v record.ID) { x.fetch.drop(v) }

// poke wakes whoever waits.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
