package near

import (
	"context"
	"errors"
	"io"
	iofs "io/fs"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sharefs"
	"sharefs/versions/pack"
	"sharefs/versions/tier"
)

// Config says what is kept where.
type Config struct {
	Packs pack.FS // the directory of the packs
	Files pack.FS // the directory of the notes
	// Bucket has the remote packs, under "packs/HH/ID"; nil: it is not to be had, for the reason in Missing.
	Bucket  tier.Bucket
	Missing error
	URL     string // of the bucket, for people
	// Budget bounds what local packs and the kept parts of remote ones take on the disk, bytes; 0: it is not bounded, and no pack leaves the disk.
	Budget int64
	// May, where not nil, says whether a pack that the bucket has may leave the disk. It is called with a lock held, and must not wait nor call back.
	May func(id pack.ID, size int64) bool
	// Patience is how long a read waits for the bucket; 0: 30 s.
	Patience time.Duration
	ReadOnly bool // nothing is written: what is fetched is not kept
	Log      *slog.Logger
}

const defaultPatience = 30 * time.Second

// FS is the directory of packs, as package pack uses it. It may be used by several goroutines.
//
// Locks are taken in the order change, mu, then that of an open file or a remote pack.
type FS struct {
	cfg    Config
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	ended  sync.WaitGroup
	wake   chan struct{} // the budget is to be looked at
	slots  chan struct{} // one for each fetch under way

	shrinking sync.Mutex // held by the one who looks after the budget; comes before all others
	change    sync.Mutex // held while a pack becomes remote, or is removed

	mu      sync.Mutex // guards what follows, and all of nodes but what has locks of its own
	nodes   map[pack.ID]*node
	dirs    map[string]map[pack.ID]*node
	growing map[string]*node // packs that grow, by name
	named   map[pack.ID]tier.Info
	held    int64 // bytes on the disk, of all nodes

	outage outage

	hits, fetched, fetches, left atomic.Uint64 // bytes, bytes, number, number of packs
}

// node is a sealed pack, or one that grows.
type node struct {
	id      pack.ID
	used    atomic.Int64 // when it was read last, nanoseconds since 1970
	local   bool
	gone    bool  // removed: who has it open reads on
	size    int64 // bytes; of a remote one whose note is damaged -1
	held    int64 // bytes on the disk
	least   int64 // that a remote one takes when none of its blocks is here
	changes int   // how often it was opened to be written
	open    map[*file]struct{}

	remote remote // what is known of a remote one
}

// fetchers bounds the fetches under way at a time, and with them the memory that they take: 4 MiB each.
const fetchers = 8

// Open looks at what there is. It errors with what the disk reports; the bucket is not asked.
func Open(cfg Config) (*FS, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Patience <= 0 {
		cfg.Patience = defaultPatience
	}
	f := &FS{
		cfg: cfg, log: cfg.Log, wake: make(chan struct{}, 1), slots: make(chan struct{}, fetchers),
		nodes: map[pack.ID]*node{}, dirs: map[string]map[pack.ID]*node{}, growing: map[string]*node{},
	}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	if cfg.Budget > 0 && !cfg.ReadOnly {
		if err := f.lookAtPacks(); err != nil {
			return nil, err
		}
	}
	if err := f.lookAtNotes(); err != nil {
		return nil, err
	}
	if cfg.Budget > 0 && !cfg.ReadOnly {
		f.ended.Go(f.keep)
	}
	return f, nil
}

// Close ends what is under way. Files that are open can be read on as far as they are here.
func (f *FS) Close() {
	f.mu.Lock() // behind it nothing is begun any more
	f.cancel()
	f.mu.Unlock()
	f.ended.Wait()
}

// each calls fn for the files HH/ID of a directory.
func each(dir pack.FS, fn func(id pack.ID, name string) error) error {
	dirs, err := dir.List(".")
	if err != nil {
		return err
	}
	for _, d := range dirs {
		if len(d) != 2 {
			continue
		}
		names, err := dir.List(d)
		if err != nil {
			return err
		}
		for _, name := range names {
			id, ok := pack.ParseID(strings.TrimSuffix(name, newSuffix))
			if !ok || !strings.HasPrefix(name, d) {
				continue
			}
			if err := fn(id, d+"/"+name); err != nil {
				return err
			}
		}
	}
	return nil
}

// newSuffix is that of a note which is being written.
const newSuffix = ".new"

// lookAtPacks measures the local packs.
func (f *FS) lookAtPacks() error {
	return each(f.cfg.Packs, func(id pack.ID, name string) error {
		if name != pack.PathOf(id) {
			return nil
		}
		n := &node{id: id, local: true}
		if err := f.measure(n); errors.Is(err, iofs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		f.enter(n)
		return nil
	})
}

// lookAtNotes reads the notes. A pack that is here has none.
func (f *FS) lookAtNotes() error {
	return each(f.cfg.Files, func(id pack.ID, name string) error {
		path := pack.PathOf(id)
		whole, err := f.cfg.Packs.Open(path, false)
		if err == nil {
			whole.Close()
		} else if !errors.Is(err, iofs.ErrNotExist) {
			return err
		}
		if name != path || err == nil {
			if f.cfg.ReadOnly {
				return nil
			}
			return f.cfg.Files.Remove(name)
		}
		file, err := f.cfg.Files.Open(name, false)
		if err != nil {
			return err
		}
		defer file.Close()
		n := &node{id: id, size: -1}
		b := make([]byte, noteLen)
		if err := readFull(file, b, 0); err == nil || sharefs.KindOf(err) == sharefs.KindCorrupt {
			known, err := decodeNote(b)
			if err == nil && known.id == id {
				n.size, n.least, n.remote.note = known.size, known.table(), known
				if known.url == f.cfg.URL {
					n.remote.note.url = f.cfg.URL // one string for all of them
				}
			} else {
				f.log.Warn("the note of a pack that lies in the bucket is damaged: it is made anew when the pack is read", "pack", id.String(), "err", err)
			}
		} else {
			return err
		}
		if n.held, err = heldBy(file); err != nil {
			return err
		}
		n.used.Store(modified(file))
		f.enter(n)
		return nil
	})
}

// enter puts a node into the tables. f.mu is held, or nobody else knows f.
func (f *FS) enter(n *node) {
	dir := n.id.String()[:2]
	if f.dirs[dir] == nil {
		f.dirs[dir] = map[pack.ID]*node{}
	}
	f.dirs[dir][n.id], f.nodes[n.id] = n, n
	f.held += n.held
}

// leave takes a node out of the tables; f.mu is held.
func (f *FS) leave(n *node) {
	if f.nodes[n.id] != n {
		return
	}
	delete(f.nodes, n.id)
	delete(f.dirs[n.id.String()[:2]], n.id)
	f.held -= n.held
	n.gone = true
}

// hold sets what a node takes on the disk; f.mu is held.
func (f *FS) hold(n *node, bytes int64) {
	if !n.gone {
		f.held += bytes - n.held
	}
	n.held = bytes
}

// measure looks at the file of a local pack.
func (f *FS) measure(n *node) error {
	file, err := f.cfg.Packs.Open(pack.PathOf(n.id), false)
	if err != nil {
		return err
	}
	defer file.Close()
	size, err := file.Size()
	if err != nil {
		return err
	}
	held, err := heldBy(file)
	if err != nil {
		return err
	}
	n.size, n.held = size, held
	if n.used.Load() == 0 {
		n.used.Store(modified(file))
	}
	return nil
}

// heldBy returns how many bytes a file takes on the disk.
func heldBy(file pack.File) (int64, error) {
	if h, ok := file.(interface{ Held() (int64, error) }); ok {
		return h.Held()
	}
	return file.Size()
}

// modified returns when a file was written last, in nanoseconds since 1970; 0 where its disk does not say.
func modified(file pack.File) int64 {
	if s, ok := file.(interface{ Stat() (iofs.FileInfo, error) }); ok {
		if st, err := s.Stat(); err == nil {
			return st.ModTime().UnixNano()
		}
	}
	return 0
}

// Stats tells of the packs here and there.
type Stats struct {
	Budget      int64     // bytes; 0: not bounded
	Held        int64     // bytes on the disk that count in it
	Local       int       // sealed packs whose files are here, as far as they are known
	Remote      int       // that are not
	RemoteBytes int64     // of those
	CacheBytes  int64     // on the disk, of those
	Hits        uint64    // bytes that were read of remote packs and were here, since the start
	Fetched     uint64    // bytes that were fetched, since the start
	Fetches     uint64    // in so many requests
	Left        uint64    // packs that left the disk, since the start
	Since       time.Time // when the bucket stopped to answer; zero: it answers, as far as is known
	Error       string    // what it did then
}

// Stats returns the present figures.
func (f *FS) Stats() Stats {
	s := Stats{Hits: f.hits.Load(), Fetched: f.fetched.Load(), Fetches: f.fetches.Load(), Left: f.left.Load()}
	since, cause := f.outage.state()
	if s.Since = since; cause != nil {
		s.Error = cause.Error()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s.Budget, s.Held = f.cfg.Budget, f.held
	for _, n := range f.nodes {
		if n.local {
			s.Local++
			continue
		}
		s.Remote++
		s.RemoteBytes += max(0, n.size)
		s.CacheBytes += n.held
	}
	return s
}

// Named is told which objects the bucket has whole for certain, and names in its root. What is not among them stays on the disk.
func (f *FS) Named(list []tier.Info) {
	named := make(map[pack.ID]tier.Info, len(list))
	for _, h := range list {
		if id, ok := IDOf(h.Key); ok {
			named[id] = h
		}
	}
	f.mu.Lock()
	f.named = named
	f.mu.Unlock()
	f.Rouse()
}

// keyOf is the object of a pack.
func keyOf(id pack.ID) string { return "packs/" + pack.PathOf(id) }

// IDOf returns the sealed pack that an object of a bucket is; ok is false where it is none.
func IDOf(key string) (pack.ID, bool) {
	name, below := strings.CutPrefix(key, "packs/")
	id, ok := sealedID(name)
	return id, ok && below
}

// Rouse has the budget looked at.
func (f *FS) Rouse() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// reader is what reads a range of a pack.
type reader func(b []byte, off int64) (int, error)

func (r reader) ReadAt(b []byte, off int64) (int, error) { return r(b, off) }

var _ io.ReaderAt = reader(nil)
