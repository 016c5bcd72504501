package versions

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"sharefs"
	"sharefs/internal/keyring"
	"sharefs/internal/retain"
	"sharefs/versions/kv"
	"sharefs/versions/kv/journal"
	"sharefs/versions/pack"
	"sharefs/versions/writers"
)

// Atime says when reading moves the access time of what is read.
type Atime uint8

const (
	// Relatime moves it when it is not after the last change, or a day old (the kernel's default since Linux 2.6.30).
	Relatime Atime = iota
	// Noatime never moves it.
	Noatime
	// Strictatime moves it at each read of a directory or symlink. Of regular files it moves as the disk under the store has it.
	Strictatime
)

// Config is what a tree is opened with.
type Config struct {
	Dir      string       // of the store; live/ and the key-value store lie in it
	Keys     keyring.Ring // share keys; the zero value stands for a key of zeros, which tests have
	Peer     sharefs.PeerID
	Settle   time.Duration // how long nobody may have had a file open for writing before it counts as closed
	Pause    time.Duration // without a change, after which the next one is of another operation; 0: opPause
	Timed    time.Duration // how long a file may stay open before its changes make a version nevertheless; 0: for ever
	Scrub    time.Duration // in which time all packs are read back in the background; 0: never
	Atime    Atime
	ReadOnly bool
	Log      *slog.Logger   // nil: nowhere
	Clock    *sharefs.Clock // nil: one of its own
	MaxDelay time.Duration  // how long what was acknowledged may stay unsynced; 0: 5 s
	Journal  journal.FS     // nil: the operating system
	Packs    pack.FS        // nil: the directory packs/ of the store, as [OpenCache] has it without a bucket
	// Checkpoints returns the disk of a part of the checkpoints, "rows" or "changes"; nil: a directory in checkpoints/ of the store.
	Checkpoints  func(part string) (pack.FS, error)
	ArchiveDelay time.Duration // how long what is synced may be missing in checkpoints/; 0: 5 s
	// Retention says how long history is kept; nil: as by default. RetainEvery is how often it is thinned in the background; 0: never.
	Retention   *retain.Policy
	RetainEvery time.Duration
	Reserve     int64 // bytes of the disk that are kept back for making room on a full one, and not much of a small one; 0: none
	// Hold has a program of its own keep everybody from changing the SQLite database at a path below the root (sqlite.go); nil: nobody does.
	Hold func(path string) (Hold, error)
	// KeepKeys makes a ring of more keys survive the loss of power before any is used; nil: further keys are refused.
	KeepKeys func(keyring.Ring) error
	// Random fills bytes that nobody else is to have: ids of files, and the key by which the names of directories are in order; nil: crypto/rand. It is never called twice at once.
	Random    func([]byte)
	byHand    bool  // nothing is captured in the background: a test does it
	packSize  int64 // at which packs are sealed; 0: as package pack has it
	partSize  int64 // in tests: in place of the constant, as the next one
	patchSize int64
	// tell is told what a start behind a rebuild does, and ends that by an error; nil: nobody.
	tell func(Progress) error

	keyPlace       func(name string) error  // in tests: what interrupts AdoptKeys
	hash           func(name string) uint64 // in tests: in place of the keyed one
	descriptors    int64                    // in tests: that are kept open; 0: as many as the process's limit allows
	unmarkDelay    time.Duration            // in tests: in place of the constant
	closingWait    time.Duration            // in tests: in place of the constants, as the next three
	holdFor        time.Duration
	within         time.Duration // snapshotWithin
	closesWithin   time.Duration
	adopts         func(place string) error // is called at places of an adoption in place, and may end it
	adoptionStalls time.Duration            // as the constant; 0 stands for that
}

// Sizes of what is kept in memory; each cached inode or name is about 200 bytes.
const (
	cachedRows  = 1 << 16
	cachedDents = 1 << 16
)

// Tree is the live tree with its past. All methods may be called from several goroutines.
//
// Changes are made one at a time under mu and are one commit each; what readers see is replaced after the commit, so that they take no
// lock but that of a cache shard. Locks are taken in the order file.content, Tree.mu, then file.mu or a shard's.
type Tree struct {
	cfg   Config
	db    *kv.DB
	live  *liveDir
	keys  *sharedKeys
	clock *sharefs.Clock
	hash  func(name string) uint64
	log   *slog.Logger
	atime atomic.Uint32 // an Atime

	mu        sync.Mutex // held by whoever changes names or inodes, across the commit
	tx        tx         // the one at work; guarded by mu
	lastSeq   atomic.Uint64
	changes   atomic.Uint64 // commits but those that nobody asked for: of captures
	marked    atomic.Int64  // mark rows
	seen      atomic.Uint64 // the latest moment that somebody looked at, an HLC: nothing of it changes any more; raised with mu held
	watermark sharefs.HLC   // that a start finds; guarded by mu
	frozen    sharefs.HLC   // what had happened when the tree was opened was before; of one that is read only that is all

	rows      *cache[sharefs.Ino, *row]
	dents     *cache[dentID, dent]
	refs      *refs
	files     *files
	orphans   orphans
	stock     *stock
	track     *writers.Tracker // nil in a tree that is read only
	settler   settler
	unmarks   chan struct{} // 1 deep: unmarker has something to do
	unmarked  atomic.Uint64 // how often it has looked, for tests
	atimes    atimes
	instant   instant
	feed      feed
	pins      pins
	kernel    atomic.Pointer[Kernel]
	tracks    atomic.Bool // there may be files with XattrTrack
	elsewhere atomic.Pointer[Elsewhere]
	opens     opens
	absents   absents
	offers    offers
	admit     atomic.Pointer[func(bytes uint64, keep bool) bool] // whether there is room to keep what was read from elsewhere; nil: there is
	filled    atomic.Pointer[func(ino sharefs.Ino)]              // is told of absent files that became full; nil: nobody is
	served    atomic.Bool                                        // all reads and writes of live files come through handles
	ids       fileIDs
	hooks     hooks
	past      history
	// chunkSources may have chunks that packs have lost; what they give is checked. Set before the tree is used.
	chunkSources []func(id sharefs.ChunkID) ([]byte, error)
	views        views
	ops          operations
	whereabouts  whereabouts

	retained   retention
	checkpoint checkpoints
	reserve    reserve

	adopting sync.Mutex // held by whoever takes up keys; before history.capturing

	stop   chan struct{}
	ended  sync.WaitGroup
	closed atomic.Bool

	// beforeSweep, where not nil, is called by a garbage collection before bytes go that rows led to before: what says so is durable then. Set before use.
	beforeSweep func() error
}

// Open opens the tree of a store, whose directory must exist; an empty one gets an empty tree, whose root belongs to the process's user.
// It errors with KindReadOnly if the tree is to be opened read only and there is none, and with what the disk reports.
func Open(cfg Config) (*Tree, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = &sharefs.Clock{}
	}
	if cfg.MaxDelay == 0 {
		cfg.MaxDelay = 5 * time.Second
	}
	if cfg.Random == nil {
		cfg.Random = randomBytes
	}
	t := &Tree{
		cfg: cfg, keys: newKeys(&cfg), clock: cfg.Clock, log: cfg.Log, hash: cfg.hash,
		rows:  newCache[sharefs.Ino, *row](cachedRows, func(i sharefs.Ino) uint64 { return uint64(i) }),
		dents: newCache[dentID, dent](cachedDents, func(d dentID) uint64 { return d.cookie ^ uint64(d.parent) }),
		refs:  newRefs(),
		stop:  make(chan struct{}),
	}
	t.atime.Store(uint32(cfg.Atime))
	t.tx.t = t
	t.ids.random = cfg.Random
	t.orphans.waiting = map[sharefs.Ino]orphan{}
	t.orphans.wake = make(chan struct{}, 1)
	t.settler.wake = make(chan struct{}, 1)
	t.unmarks = make(chan struct{}, 1)
	t.atimes.wake = make(chan struct{}, 1)
	t.instant.wake = make(chan struct{}, 1)
	t.ops.open(t)
	if err := t.open(); err != nil {
		t.shut()
		return nil, err
	}
	if !cfg.ReadOnly {
		t.ended.Go(t.stock.run)
		t.ended.Go(t.settler.loop(t))
		t.ended.Go(t.unmarker)
		t.ended.Go(t.reaper)
		t.ended.Go(t.instants)
		t.ended.Go(t.lookPins)
		t.ended.Go(t.ops.run)
		t.reserve.refuses.Store(true)
		t.ended.Go(t.reserve.run)
		if cfg.byHand {
			t.past.finishAdopting()
		} else {
			t.ended.Go(t.past.finishAdopting)
			t.ended.Go(t.past.run)
			if cfg.Scrub > 0 {
				t.ended.Go(t.scrub)
			}
			t.ended.Go(t.checkpoint.run)
			if cfg.RetainEvery > 0 {
				t.ended.Go(t.retainLoop)
			}
		}
	}
	return t, nil
}

// open does what can fail of Open.
func (t *Tree) open() (err error) {
	if t.live, err = openLive(t.cfg.Dir, t.cfg.ReadOnly); err != nil {
		return err
	}
	if err := t.reserve.open(t, t.cfg.Reserve); err != nil {
		return err
	}
	t.files = newFiles(t.live, t.cfg.descriptors, t.absentNow)
	if err := t.checkpoint.open(t); err != nil {
		return err
	}
	if err := t.needsMeta(); err != nil {
		return err
	}
	t.db, err = kv.Open(kv.Config{
		Dir: t.cfg.Dir, Spaces: spaceDefs(), Clock: t.clock, MaxDelay: t.cfg.MaxDelay, FS: t.cfg.Journal, ReadOnly: t.cfg.ReadOnly,
		Archive: !t.cfg.ReadOnly, Copied: t.checkpoint.copied, Applied: t.checkpoint.applied, Synced: t.checkpoint.synced,
		Room: t.reserve.give,
	})
	if err != nil {
		return err
	}
	if !t.cfg.ReadOnly {
		if err := t.checkpoint.start(); err != nil {
			return err
		}
		t.beforeSweep = t.checkpoint.sweep
	}
	// A row that was never committed has number 0, and those that are read before the first commit of this process are none.
	t.lastSeq.Store(t.db.Stats().Seq)
	if err := t.loadGlobals(); err != nil {
		return err
	}
	if err := t.checkKeys(); err != nil {
		return err
	}
	if err := t.loadFeed(); err != nil {
		return err
	}
	if err := t.loadRetain(); err != nil {
		return err
	}
	if err := t.loadTrack(); err != nil {
		return err
	}
	if err := t.loadWatermark(); err != nil {
		return err
	}
	if err := t.past.open(t); err != nil {
		return err
	}
	if err := t.finishRebuild(); err != nil {
		return err
	}
	if err := t.loadPins(); err != nil {
		return err
	}
	if err := t.past.loadAdopting(); err != nil {
		return err
	}
	if t.cfg.ReadOnly {
		t.hooks.defaults()
		return t.loadMarks()
	}
	t.track, err = writers.New(writers.Config{
		Dir: t.live.path, Open: t.live.openProbe, Notify: t.settler.notify, Settle: t.cfg.Settle, Timed: t.cfg.Timed, NotBefore: t.past.costs.rests,
	})
	if err != nil {
		return err
	}
	t.hooks.defaults()
	if err := t.past.findUndone(); err != nil {
		return err
	}
	if err := t.loadMarks(); err != nil {
		return err
	}
	if err := t.loadOrphans(); err != nil {
		return err
	}
	// What a killed daemon had acknowledged may not have reached the disk: from here on it counts as synced.
	return failed("open the store", t.db.Sync())
}

// loadGlobals reads what there is once for each store, and makes it and the root directory in an empty one.
func (t *Tree) loadGlobals() error {
	key, ok, err := t.db.Get(spaceGlobal, globalHashKey)
	if err != nil {
		return failed("open the store", err)
	}
	if !ok {
		if t.cfg.ReadOnly {
			return &sharefs.Error{Op: "open the store", Path: t.cfg.Dir, Kind: sharefs.KindReadOnly, Detail: "there is no tree in it, and none can be made"}
		}
		if err := t.heldWithoutTree(); err != nil {
			return err
		}
		if key, err = t.makeTree(); err != nil {
			return err
		}
	}
	if err := t.setHashKey(key); err != nil {
		return err
	}
	t.stock, err = openStock(t)
	return err
}

// needsMeta refuses a store whose meta.db is gone: an empty one in its place would take the content of live/ for waste.
func (t *Tree) needsMeta() error {
	path := filepath.Join(t.cfg.Dir, "meta.db")
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) || t.cfg.ReadOnly {
		return nil
	}
	if t.checkpoint.whole.number > 0 {
		return t.lostMeta("meta.db is missing")
	}
	return t.heldWithoutTree()
}

// heldWithoutTree refuses a store whose rows have no tree while there is content of one.
func (t *Tree) heldWithoutTree() error {
	switch held, err := t.live.holdsContent(); {
	case err != nil:
		return failed("open the store", err)
	case held:
		return t.lostMeta("meta.db holds no tree, but live/ holds the content of one")
	}
	return nil
}

func (t *Tree) lostMeta(what string) error {
	return &sharefs.Error{Op: "open the store", Path: t.cfg.Dir, Kind: sharefs.KindCorrupt, Detail: what +
		": put the meta.db and journal/ of this store back in their place, or make them anew with sharefs rebuild --store DIR"}
}

// makeTree writes the first rows of a store in one commit and returns the key of its hash.
func (t *Tree) makeTree() ([]byte, error) {
	key := make([]byte, 16)
	t.cfg.Random(key)
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	x.b.Put(spaceGlobal, globalHashKey, key)
	root := &row{
		ino: sharefs.RootIno, mode: sharefs.ModeDir | 0o755, nlink: 2, uid: uint32(os.Geteuid()), gid: uint32(os.Getegid()),
		atime: x.now, mtime: x.now, ctime: x.now, btime: x.now, parent: sharefs.RootIno,
	}
	x.rows = append(x.rows, root)
	return key, x.commit()
}

// SetKernel names who is told of changes that no request asked for.
func (t *Tree) SetKernel(k Kernel) { t.kernel.Store(&k) }

// SetServed says that no live file is passed through: whatever changes one comes through a handle. It is called before any is opened.
func (t *Tree) SetServed() { t.served.Store(true) }

// SetAtime changes the rule for access times, as a remount does.
func (t *Tree) SetAtime(a Atime) { t.atime.Store(uint32(a)) }

// forgetAttr tells the kernel that the attributes it may hold of an inode are wrong. No lock may be held.
func (t *Tree) forgetAttr(ino sharefs.Ino) {
	if k := t.kernel.Load(); k != nil {
		(*k).ForgetAttr(ino)
	}
}

// Close ends the tree: what is known of open files is written down, files without a name are removed, all is synced. Handles and
// references are void afterwards. It returns the first thing that went wrong.
func (t *Tree) Close() error {
	if t.closed.Swap(true) {
		return nil
	}
	close(t.stop)
	t.ended.Wait()
	var err error
	if !t.cfg.ReadOnly {
		err = t.quiesce()
		t.checkpoint.finish()
	}
	if err2 := t.shut(); err == nil {
		err = err2
	}
	return err
}

// quiesce leaves as little as possible for the next start to look after.
func (t *Tree) quiesce() error {
	var first error
	note := func(err error) {
		if err != nil && first == nil {
			first = err
		}
	}
	t.track.Drain(t.settler.notify)
	note(t.settler.work(t))
	t.learnAtimes()
	note(t.writeAtimes())
	note(t.unmark())
	note(t.reapAll())
	note(t.ops.endNow())
	note(t.stock.discard())
	note(t.closeEpoch())
	return first
}

// shut closes what was opened.
func (t *Tree) shut() error {
	t.retained.run.Lock() // a run at work gives up when it sees that the tree is closed
	defer t.retained.run.Unlock()
	if t.track != nil {
		t.track.Close()
	}
	if t.stock != nil {
		t.stock.close()
	}
	if t.files != nil {
		t.files.close()
	}
	err := t.past.close()
	if t.db != nil {
		if err2 := t.db.Close(); err == nil {
			err = err2
		}
	}
	if err2 := t.checkpoint.close(); err == nil {
		err = err2
	}
	if t.live != nil {
		t.live.close()
	}
	t.reserve.close()
	return failed("close the store", err)
}

// writable refuses changes to a tree that is read only.
func (t *Tree) writable(op string) error {
	if t.cfg.ReadOnly {
		return fail(op, sharefs.KindReadOnly)
	}
	return nil
}
