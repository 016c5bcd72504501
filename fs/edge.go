package fs

import (
	"log/slog"
	"math"
	"sync/atomic"

	"github.com/hanwen/go-fuse/v2/fuse"

	"sharefs"
	"sharefs/fs/device"
	"sharefs/versions"
)

// edge turns requests of the kernel into operations of the tree. Inodes of the tree have their own number as node id;
// those with the top bit set are virtual and belong to nodes.
type edge struct {
	fuse.RawFileSystem // answers ENOSYS to what the edge leaves to the kernel: locks

	tree       Tree
	log        *slog.Logger
	conn       *device.Conn // set before the first request
	through    bool         // live files are passed through
	checks     bool         // the kernel checks permissions and keeps access control lists
	handles    handles
	closing    atomic.Int64 // handles that are given up at this moment
	backings   backings
	nodes      nodes
	ctl        []CtlFile
	ctlDirs    []CtlDir
	owner      fuse.Owner // of what belongs to the mount itself
	pins       pins
	viewers    viewers
	listings   listings
	all        bool // the hierarchies of .share are shown in the root as well
	others     []Hierarchy
	side       func(dir sharefs.Ino, name, suffix string) (Entry, error)
	peerName   func(name string) bool
	meant      func(name string, branch bool) bool
	free       func(sharefs.Ino) error
	promised   func(sharefs.Ino) ([]Promised, bool, error)
	unpromised func(sharefs.Ino) ([]Promised, bool, error)
	bring      func(<-chan struct{}, sharefs.Ino) error
}

func newEdge(cfg *Config) *edge {
	e := &edge{
		RawFileSystem: fuse.NewDefaultRawFileSystem(), tree: cfg.Tree, log: cfg.Log, ctl: cfg.Ctl, ctlDirs: cfg.CtlDirs, owner: *fuse.CurrentOwner(),
		others: cfg.Hierarchies, side: cfg.Side, peerName: cfg.PeerName, meant: cfg.Reserved, free: cfg.Free, promised: cfg.Promised, unpromised: cfg.Unpromised, bring: cfg.Bring,
	}
	e.nodes.init()
	e.viewers.owner = e.owner.Uid
	return e
}

// start is told how the mount turned out, before the first request.
func (e *edge) start(conn *device.Conn, passthrough bool) {
	e.conn, e.through = conn, passthrough
	if !passthrough {
		e.tree.SetServed()
	}
	e.backings.init(conn)
}

// String implements [fuse.RawFileSystem].
func (e *edge) String() string { return Subtype }

// OnUnmount implements [fuse.RawFileSystem]. The kernel does not send the RELEASE requests that were still to come.
func (e *edge) OnUnmount() {
	for _, o := range e.handles.drain() {
		o.close(e)
	}
}

// cacheSeconds is how long the kernel may trust names and attributes: the daemon is the only one that changes them
// behind its back, and tells it then. changingSeconds holds for files that somebody may be writing, which the daemon does not see; where
// that may be through a mapping the kernel does not see it either, and asks each time.
const (
	cacheSeconds    = 3600
	changingSeconds = 1
)

// virtual reports whether a node is none of the tree's.
func virtual(node uint64) bool { return node&virtualBit != 0 }

const virtualBit = 1 << 63

func ino(node uint64) sharefs.Ino { return sharefs.Ino(node) }

// caller takes the credentials out of a request's header.
func caller(h *fuse.InHeader) versions.Caller {
	return versions.Caller{UID: h.Uid, GID: h.Gid, PID: h.Pid}
}

// status is what the kernel is told of an error. Bare kinds, which the hot paths return, cost nothing.
func status(err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	if k, ok := err.(sharefs.Kind); ok {
		return fuse.Status(k.Errno())
	}
	return fuse.Status(sharefs.Errno(err))
}

// missing reports whether err says that a name does not exist.
func missing(err error) bool {
	if k, ok := err.(sharefs.Kind); ok {
		return k == sharefs.KindNotExist
	}
	return sharefs.KindOf(err) == sharefs.KindNotExist
}

// fill writes attributes as the kernel wants them.
func fill(out *fuse.Attr, a *sharefs.Attr) {
	out.Ino = uint64(a.Ino)
	out.Size, out.Blocks, out.Blksize = a.Size, a.Blocks, 4096
	out.Atime, out.Atimensec = split(a.Atime)
	out.Mtime, out.Mtimensec = split(a.Mtime)
	out.Ctime, out.Ctimensec = split(a.Ctime)
	out.Mode, out.Nlink, out.Rdev = a.Mode, a.Nlink, a.Rdev
	out.Uid, out.Gid = a.UID, a.GID
}

func split(t sharefs.Time) (sec uint64, nsec uint32) {
	s := t.Sec()
	return uint64(s), uint32(int64(t) - s*1e9)
}

func validity(a *sharefs.Attr) uint64 {
	switch {
	case a.Mapped:
		return 0
	case a.Changing:
		return changingSeconds
	}
	return cacheSeconds
}

func fillAttr(out *fuse.AttrOut, a *sharefs.Attr) {
	fill(&out.Attr, a)
	out.AttrValid = validity(a)
}

func fillEntry(out *fuse.EntryOut, a *sharefs.Attr) {
	out.NodeId = uint64(a.Ino)
	out.EntryValid = cacheSeconds
	out.AttrValid = validity(a)
	fill(&out.Attr, a)
}

// signed is an offset or length as the tree takes it; the kernel never sends one beyond.
func signed(n uint64) int64 { return int64(min(n, math.MaxInt64)) }
