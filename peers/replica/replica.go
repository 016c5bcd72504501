package replica

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/index"
	"sharefs/peers/record"
)

// Config is what a replica is opened with.
type Config struct {
	Tree  Tree
	Store Store
	Self  sharefs.PeerID
	Key   ed25519.PrivateKey
	Keys  Keys
	Now   func() time.Time // nil: time.Now
	Rand  io.Reader        // of what has to be unlike anything else; nil: crypto/rand.Reader
	Log   *slog.Logger     // nil: nowhere
	// Ending is closed when the host is to end: a Take that rests then gives up, and what it has not taken comes again. Nil: it never is.
	Ending <-chan struct{}
	// Counts reports whether anything of an author other than this host counts. Of whom nothing does nothing is kept: it is counted ([Replica.PassedOver]).
	Counts func(author sharefs.PeerID) bool
	// Wrote is called, without locks but that of Author, when that has written a part; nil: nobody wants to know.
	Wrote func()
	// Most returns how many records of an author may be here, 0: as many as come; nil: so it is for all. It is called with a lock of the replica held.
	Most func(author sharefs.PeerID) uint64
	// Standing tells what a record of an author who counts is to count.
	Standing func(rec *record.Record) Standing
	// Where tells what an author may do whose records do not count the same everywhere; then Standing is not asked for them. Nil: there are no such authors.
	Where func(author sharefs.PeerID) (Where, bool)
	// Bulk bounds the removals and renames of an author that count without the owner's yes. Nil: nothing does. It, Counts, Standing and Where are called with a lock of the replica held.
	Bulk func(author sharefs.PeerID) Bulk
	// Revoked reports whether the owner has revoked an author, and how much past a cut of that one ([Replica.TakeBack]) this host takes back by itself. Nil: no cut is heeded. It is called as Counts is.
	Revoked func(author sharefs.PeerID) (limit Bulk, revoked bool)
	// Scope tells what a peer may read, by the rules of the moment; false: nothing, or all of the tree. What it was told is remembered then over a restart, for a rule that returns, only if Reads is
	// there. Nil: there are no such peers. It is called with a lock of the replica held.
	Scope func(peer sharefs.PeerID) (Scope, bool)
}

// Keys are the share keys of this host, as of now. They are called with a lock of the replica held.
type Keys interface {
	// Share returns the share in use for what is new.
	Share() record.ShareID
	// Takes reports whether there is a key of a share. Records of others are refused.
	Takes(share record.ShareID) bool
	// Has reports whether a key is here. Content under others waits for it.
	Has(key sharefs.KeyID) bool
}

// Replica keeps a tree and the records about it the same. Its methods may be called from several goroutines, and are carried out one after the other. None waits for the
// network.
//
// After a failure of the database what is in memory is made anew from it by the next call.
type Replica struct {
	cfg      Config
	followed bool // the tree was, before this began

	authoring sync.Mutex // held while what changed is written down; before mu
	applying  sync.Mutex // held while the tree is led to what the records say; before mu
	rest      func(time.Duration)
	promised  promises
	decisions atomic.Uint64 // that were begun

	mu       sync.Mutex              // guards all below
	deciding *Decision               // what is being written down is of it
	decided  map[record.ID]*Decision // records that are of one, while something is left to be done
	skipped  map[converge.Key]bool   // names that Apply did not come to, the last time
	warned   map[sharefs.Ino]bool    // inodes of which the log says that they cannot be read
	gen      uint64                  // counts the times that something was done, or memory was made anew
	state
}

// state is what is in memory, and follows from the database.
type state struct {
	account
	tree     *converge.Tree
	last     index.Index[converge.Key, record.Record] // the last placement
	said     map[record.ID]bool                       // records of others of which this host has told
	unsigned map[record.ID]bool                       // records of which the signature is not their author's
	vouched  map[record.ID]*record.Record             // records that are here by one who told of them alone: by which of his
	attrs    map[sharefs.FileID]sharefs.HLC           // the time of the last attributes
	removals map[sharefs.FileID][]*record.Record
	due      map[converge.Key]bool   // names of which account and records may say different things
	placed   map[sharefs.FileID]bool // files that have a record of a place
	early    map[slot]bool           // names of which the author says nothing yet, of the marks that it deals with
	later    map[sharefs.Ino]bool    // inodes to be looked at again without a mark
	blind    blind                   // what cannot be read, of the marks that the author deals with
	unread   map[sharefs.Ino]error   // the same, since it began with them
	hidden   bool                    // names are among it: what seems to be gone may have another one
	told     map[record.ID]bool      // versions that whoever is here can see, or could
	untold   map[converge.Key]bool   // names whose conflicts cannot be seen by those who made what is still to be written down
	aside    asides                  // records that are neither known nor merged
	contest  map[converge.Key]bool   // names in conflict
	refused  refusals                // records that somebody decided against
	outlooks map[sharefs.PeerID]*outlook

	heldAt  map[converge.Key]map[record.ID]*record.Record // placements
	holding map[sharefs.PeerID]int                        // how many of an author
	bulks   map[sharefs.PeerID]*bulk
	moot    []record.ID // what is held for nothing
	young   young[sharefs.FileID]
	saving

	written       map[sharefs.PeerID]uint64  // how many records of each author are here
	beyond        map[sharefs.PeerID]beyond  // what went beyond what an author may have here
	passed        map[sharefs.PeerID]*passed // records that were passed over
	passedChains  int                        // of all authors
	passedSingles int
	cuts          cuts
	backs         backs

	outside outside
	looked  uint64 // names below directories that were moved
	scopes  map[sharefs.PeerID]*scope
	about   map[sharefs.FileID][]*record.Record // all records by file; nil while nobody needs it

	log      LogID
	arrived  uint64 // the last number of arrival
	floor    uint64 // a number that no other was given before goes beyond: a time
	writer   record.Writer
	chains   map[chainID]*record.Chain
	fresh    []*record.Record // authored, and in no batch yet
	anew     []record.ID      // of this host, in batches that do not count any more: to be in new ones
	lost     bool             // the database took the place of one that was lost, and the tree has not been looked at since
	heard    bool             // and peers have told since what they know
	once     *once            // and what they told; nil: not looked through yet
	asOf     sharefs.HLC      // what is written down was done then; 0: now
	walked   bool             // all of the tree has been looked at
	walk     Mark             // and otherwise what up to
	unsynced bool             // something was committed since the last sync
	broken   error            // the database failed: memory says more than is on disk
	unseen   bool             // memory was read anew, and the tree may go beyond the account: nobody has looked at what changed there since
}

// LogID names the log of a database: 128 random bits, made with it. A number of arrival means something within one log only.
type LogID [16]byte

// Open opens a replica, and has the tree mark what changes from then on. Errors are those of the store, and KindCorrupt for what it does not understand.
func Open(cfg Config) (*Replica, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Tree = telling{cfg.Tree}
	r := &Replica{cfg: cfg, decided: map[record.ID]*Decision{}}
	r.rest = r.sleep
	// Before anything is done here, and so put into the account, that somebody may undo.
	var err error
	if r.followed, err = cfg.Tree.Follow(); err != nil {
		return nil, err
	}
	if err := r.load(); err != nil {
		return nil, err
	}
	return r, nil
}

// enter begins a method, whose end has to unlock r.mu unless there is an error.
func (r *Replica) enter() error {
	r.mu.Lock()
	if r.broken == nil {
		return nil
	}
	if err := r.load(); err != nil {
		r.broken = err
		r.mu.Unlock()
		return err
	}
	return nil
}

// load makes memory anew from the database.
func (r *Replica) load() error {
	r.gen++
	r.state = state{account: newAccount(), tree: converge.New(), last: index.New(keyOf), said: map[record.ID]bool{}, unsigned: map[record.ID]bool{}, vouched: map[record.ID]*record.Record{},
		attrs: map[sharefs.FileID]sharefs.HLC{}, removals: map[sharefs.FileID][]*record.Record{}, due: map[converge.Key]bool{}, told: map[record.ID]bool{}, untold: map[converge.Key]bool{},
		placed: map[sharefs.FileID]bool{}, later: map[sharefs.Ino]bool{}, early: map[slot]bool{}, chains: map[chainID]*record.Chain{},
		aside: asides{}, contest: map[converge.Key]bool{}, refused: refusals{}, outlooks: map[sharefs.PeerID]*outlook{}, passed: map[sharefs.PeerID]*passed{}, cuts: cuts{}, backs: backs{}, written: map[sharefs.PeerID]uint64{}, beyond: map[sharefs.PeerID]beyond{},
		scopes: map[sharefs.PeerID]*scope{}, outside: outside{},
		heldAt: map[converge.Key]map[record.ID]*record.Record{}, holding: map[sharefs.PeerID]int{}, bulks: map[sharefs.PeerID]*bulk{},
		young: newYoung[sharefs.FileID](), saving: newSaving(),
		unsynced: true} // a process before may not have come to it
	r.unseen = true
	r.world.Like(r.tree)
	if err := r.account.load(r.cfg.Store); err != nil {
		return err
	}
	if err := r.loadSelf(); err != nil {
		return err
	}
	if err := r.loadChains(); err != nil {
		return err
	}
	if err := r.loadPassed(); err != nil {
		return err
	}
	if err := r.loadBulks(); err != nil {
		return err
	}
	if err := r.loadUnsigned(); err != nil {
		return err
	}
	if err := r.loadRecords(); err != nil {
		return err
	}
	if err := r.loadBacks(); err != nil {
		return err
	}
	if err := r.loadScopes(); err != nil {
		return err
	}
	return r.sync() // before a peer is given anything
}

// Rows of the space global.
var (
	globalLog    = []byte("log")
	globalSelf   = []byte("self")
	globalWalked = []byte("walked")
	globalWalk   = []byte("walk")
	globalLost   = []byte("lost")
)

// loadSelf reads what there is once.
func (r *Replica) loadSelf() error {
	b, ok, err := r.cfg.Store.Get(spaceGlobal, globalLog)
	switch {
	case err != nil:
		return err
	case !ok:
		if err := r.newLog(); err != nil {
			return err
		}
		if r.followed {
			r.put(spaceGlobal, globalLost, nil)
			r.lost = true
		}
	case len(b) != len(r.log):
		return damaged("log")
	default:
		copy(r.log[:], b)
	}
	b, ok, err = r.cfg.Store.Get(spaceGlobal, globalSelf)
	switch {
	case err != nil:
		return err
	case !ok:
		// A time, so that a database that takes the place of a lost one does not go on with a chain that others have.
		r.writer = record.Writer{Share: r.cfg.Keys.Share(), Head: record.Head{Author: r.cfg.Self, Incarnation: r.incarnation(0)}}
		r.saveHead()
	case len(b) != 64:
		return damaged("chain of this host")
	default:
		h := record.Head{Author: r.cfg.Self, Incarnation: binary.BigEndian.Uint64(b[16:]), Number: binary.BigEndian.Uint64(b[24:]), Hash: record.Hash(b[32:])}
		r.writer = record.Writer{Share: record.ShareID(b[:16]), Head: h}
	}
	if _, r.walked, err = r.cfg.Store.Get(spaceGlobal, globalWalked); err != nil {
		return err
	}
	if _, lost, err := r.cfg.Store.Get(spaceGlobal, globalLost); err != nil {
		return err
	} else if lost {
		r.lost = true
	}
	b, ok, err = r.cfg.Store.Get(spaceGlobal, globalWalk)
	if err == nil && ok {
		if len(b) != 16 {
			return damaged("walk")
		}
		r.walk = Mark{Ino: sharefs.Ino(binary.BigEndian.Uint64(b)), Cookie: binary.BigEndian.Uint64(b[8:])}
	}
	return err
}

// arrive returns the number of what arrives now.
func (r *Replica) arrive() []byte {
	r.arrived = max(r.arrived, r.floor) + 1
	return u64(r.arrived)
}

// newLog begins a log anew: whoever has something of it has nothing.
func (r *Replica) newLog() error {
	if err := r.random(r.log[:]); err != nil {
		return err
	}
	r.put(spaceGlobal, globalLog, r.log[:])
	return r.renew()
}

// random fills b with bits that nobody else has.
func (r *Replica) random(b []byte) error {
	_, err := io.ReadFull(r.cfg.Rand, b)
	return err
}

// loadRecords reads all records and finds out what of them is not done yet.
func (r *Replica) loadRecords() error {
	var bad error
	var in []converge.Input
	var held []*record.Record
	var told []converge.Input
	err := r.cfg.Store.Scan(spaceRecord, nil, nil, func(_, v []byte) bool {
		var j judged
		if j, bad = decodeRow(v); bad != nil {
			return false
		}
		if j.standing == Merged || j.standing == Leading {
			r.note(j.Record)
			r.note(j.Says())
		}
		if inner := j.Says(); inner != j.Record {
			told = append(told, converge.Input{Record: inner, Standing: j.standing.counts()})
			if r.vouched[inner.ID()] == nil {
				r.vouched[inner.ID()] = j.Record
			}
		}
		r.aside.set(j.Record, j.standing)
		r.cuts.note(j.Record)
		if j.standing == PassedOver {
			r.outside.set(j.Record, j.standing)
		}
		if j.standing == Held {
			held = append(held, j.Record)
		}
		r.refused.set(j)
		in = append(in, converge.Input{Record: j.Record, Standing: j.standing.counts()})
		r.written[j.Author]++
		return true
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return err
	}
	err = r.cfg.Store.Scan(spaceLog, nil, nil, func(k, _ []byte) bool {
		if len(k) == 8 {
			r.arrived = binary.BigEndian.Uint64(k)
		}
		return true
	})
	if err != nil {
		return err
	}
	// Numbers that were given in a time that was lost since, with an image of the disk that was put back, are not given again: peers go on from them.
	if now := uint64(max(0, r.cfg.Now().UnixMicro())); now > r.arrived {
		r.floor = now
	} else if err := r.newLog(); err != nil {
		return err
	}
	for _, i := range in {
		delete(r.vouched, i.Record.ID())
	}
	r.tree.Add(append(in, told...)...) // in that order, so that of both the one with a signature is there
	for _, rec := range held {
		r.indexHeld(rec, Held)
	}
	r.tree.Nodes(func(n converge.Node) {
		if have, ok := r.world.Node(n.Key); !ok || !have.Equal(&n) {
			r.due[n.Key] = true
		}
		if len(n.Conflicts) > 0 {
			r.contest[n.Key] = true
			r.toldOf(&n) // whoever is here can see them, or could before
		}
	})
	r.world.Nodes(func(n converge.Node) {
		if _, ok := r.tree.Node(n.Key); !ok {
			r.due[n.Key] = true
		}
	})
	return nil
}

// keyOf returns the name that a placement is of.
func keyOf(place *record.Record) converge.Key {
	p := place.Body.(*record.Place)
	return converge.Key{File: p.File, Link: p.Link}
}

// note keeps of a record what its followers are made from.
func (r *Replica) note(rec *record.Record) {
	switch b := rec.Body.(type) {
	case *record.Place:
		key := converge.Key{File: b.File, Link: b.Link}
		r.placed[b.File] = true
		if was := r.last.Get(key); was == nil || was.Order().Compare(rec.Order()) < 0 {
			r.last.Put(rec)
		}
		r.overtakes(key, rec)
		if b.Removed() && b.Type != record.Directory {
			r.removals[b.File] = append(r.removals[b.File], rec)
		}
	case *record.Told:
		r.said[b.Record.ID()] = r.said[b.Record.ID()] || rec.Author == r.cfg.Self
	case *record.Attr:
		r.attrs[b.File] = max(r.attrs[b.File], rec.HLC)
	}
}

// add takes records into the tree that is to be.
func (r *Replica) add(in ...converge.Input) {
	var news []*record.Record // as far as somebody needs them
	for _, i := range in {
		r.vouch(i)
		if i.Standing >= converge.Leads {
			r.note(i.Record)
		}
		if len(r.scopes) > 0 && r.tree.Record(i.Record.ID()) == nil {
			news = append(news, i.Record)
		}
	}
	r.follow(in...)
	for _, op := range r.tree.Add(in...) {
		r.owe(op.Key)
		if op.Over != nil {
			r.owe(*op.Over)
			delete(r.contest, *op.Over)
		}
		if n, ok := r.tree.Node(op.Key); ok && len(n.Conflicts) > 0 {
			r.contest[op.Key] = true
		} else {
			delete(r.contest, op.Key)
		}
	}
	r.scoped(in, news)
	if moot := r.moot; len(moot) > 0 {
		r.moot = nil
		r.decide(Merged, moot...)
	}
}

// commit brings what memory says to disk.
func (r *Replica) commit() error {
	if r.broken != nil {
		return r.broken
	}
	if r.broken = r.batchUp(); r.broken != nil {
		return r.broken
	}
	r.saveScopes()
	if len(r.rows) == 0 {
		return nil
	}
	// Of what the account says of the tree nothing may be lost there, for nobody would look for it: the marks went with it.
	if r.ahead {
		if r.broken = r.cfg.Tree.Sync(); r.broken != nil {
			return r.broken
		}
		r.ahead = false
	}
	if r.broken = r.cfg.Store.Commit(r.rows); r.broken != nil {
		return r.broken
	}
	r.rows, r.unsynced = nil, true
	r.gen++
	return nil
}

// sync brings what memory says to disk, where it survives power loss.
func (r *Replica) sync() error {
	if err := r.commit(); err != nil || !r.unsynced {
		return err
	}
	if r.broken = r.cfg.Store.Sync(); r.broken != nil {
		return r.broken
	}
	r.unsynced = false
	return nil
}

func (r *Replica) now() sharefs.HLC { return sharefs.HLCAt(r.cfg.Now()) }

// Version returns a version that was taken here; nil if there is none of that id.
func (r *Replica) Version(id record.ID) (*record.Record, error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	rec := r.tree.Record(id)
	if rec == nil {
		return nil, nil
	}
	if _, ok := rec.Body.(*record.Version); !ok {
		return nil, nil
	}
	return rec, nil
}
