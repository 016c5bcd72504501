package fs

import (
	"hash/fnv"
	"math/bits"
	"sync"

	"golang.org/x/sys/unix"

	"sharefs"
)

// nodeKind tells the virtual nodes apart.
type nodeKind uint8

const (
	shareDir    nodeKind = iota + 1 // .share
	ctlDir                          // .share/ctl
	ctlFile                         // .share/ctl/NAME; num is its place in Config.Ctl
	atDir                           // .share/at
	pastDir                         // FILE@@
	pastFile                        // FILE@@N; num is N, at its time
	pastLog                         // FILE@@/log
	pastMeta                        // FILE@@/meta
	pastLink                        // LINK@@…, which leads to TARGET@@…; text is what stands behind the mark
	atNode                          // what is in .share/at/TIME and DIR@@TIME; at is the moment, num the hierarchy (see branch)
	pastTimes                       // DIR@@; ino is the directory
	everDir                         // .share/versions and the directories below it; ino is the directory
	everLink                        // a symbolic link there; at is 0 or a moment at which it was
	opsDir                          // .share/ops
	opsLog                          // .share/ops/log
	opsLogJSON                      // .share/ops/log.json
	opsBegin                        // .share/ops/begin
	opsFile                         // .share/ops/ID; at is the moment before the operation
	trashDir                        // .share/trash
	ctlGroup                        // .share/ctl/GROUP; num is its place in Config.CtlDirs
	ctlItem                         // .share/ctl/GROUP/NAME; text is the name
	ctlItemFile                     // .share/ctl/GROUP/NAME/FILE; num is the group's and the file's
	otherNode                       // in a directory of Config.Hierarchies; ino is its place there, num the entry's ID, text the path
	sideNode                        // FILE@@SUFFIX that Config.Side finds; ino is the directory, num the entry's ID, text the name
)

// nodeKey is what a virtual node stands for.
type nodeKey struct {
	kind nodeKind
	who  viewer      // of an atNode: who it shows itself to; the same for all that hangs on it
	ino  sharefs.Ino // of the file whose past it is, of the directory, or of the symbolic link
	num  uint64
	// at is the time of the version. A file that comes to another name may come to another history, in which the same
	// number is another version: that must be another node, for the kernel keeps the pages of each. Of what is removed in .share/versions, when it went.
	at sharefs.HLC
	// heir is, of an atNode for a viewer, the file that has taken the place of one that is no more, 0 for none: see rights.go.
	heir sharefs.Ino
	text string
}

// versionKey is the node of a version in the history of an inode.
func versionKey(ino sharefs.Ino, v *sharefs.Version) nodeKey {
	return nodeKey{kind: pastFile, ino: ino, num: v.Number, at: v.At}
}

func (k nodeKey) isDir() bool { return k.typ() == unix.S_IFDIR }

// typ is the type of a node, as far as its kind says it: not of an atNode, nor below the top of a hierarchy that others fill.
func (k nodeKey) typ() uint32 {
	if k.kind == otherNode && k.text == "" {
		return unix.S_IFDIR
	}
	switch k.kind {
	case shareDir, ctlDir, atDir, pastDir, pastTimes, everDir, opsDir, trashDir, ctlGroup, ctlItem:
		return unix.S_IFDIR
	case pastLink, everLink:
		return unix.S_IFLNK
	}
	return unix.S_IFREG
}

// nodes knows the virtual nodes that the kernel knows. Their numbers are made from what they stand for, so that they
// are the same in each listing and after a remount; they have the top bit set, which no inode of the tree has.
//
// Who walks a view of the past makes a node for each file, and the kernel forgets them when it is short of memory: a million may be
// known at a time, so that a node is one entry of one map.
type nodes struct {
	shards [nodeShards]nodeShard
}

const nodeShards = 64

type nodeShard struct {
	mu   sync.Mutex // guards what follows
	byID map[uint64]node
	_    [48]byte // a cache line of its own
}

type node struct {
	nodeKey
	refs uint64 // lookups that the kernel has not forgotten
}

func (t *nodes) init() {
	for i := range t.shards {
		t.shards[i].byID = make(map[uint64]node)
	}
}

// shard finds the shard of a number; the lowest bit of numbers is always zero.
func (t *nodes) shard(id uint64) *nodeShard { return &t.shards[id>>1%nodeShards] }

// number scatters a key over the 63-bit numbers (the finalizer of splitmix64, Steele et al., "Fast splittable
// pseudorandom number generators", 2014).
func (k *nodeKey) number() uint64 {
	x := uint64(k.ino)*0x9e3779b97f4a7c15 + bits.RotateLeft64(k.num, 32)*0xd1342543de82ef95 + uint64(k.kind)
	x ^= uint64(k.at) * 0xda942042e4dd58b5
	x += uint64(k.heir) * 0xf1357aea2e62a9c5
	if k.text != "" {
		h := fnv.New64a()
		h.Write([]byte(k.text))
		x ^= h.Sum64()
	}
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	x ^= x >> 31
	// The number with all bits set would be an error of the kernel's.
	return virtualBit | x&^1
}

// nodeTries is how many numbers a key may have: its own and, where that is another one's, those that follow in the same shard.
const nodeTries = 4

// next returns the number that is tried after id.
func (t *nodes) next(id uint64) uint64 { return virtualBit | (id + 2*nodeShards) }

// enter counts a lookup of the node and returns its number.
func (t *nodes) enter(k nodeKey) uint64 {
	id := k.number()
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	free := uint64(0)
	for try := 0; try < nodeTries || free == 0; try++ {
		n, used := s.byID[id]
		switch {
		case used && n.nodeKey == k:
			n.refs++
			s.byID[id] = n
			return id
		case !used && free == 0:
			free = id
		}
		id = t.next(id)
	}
	s.byID[free] = node{nodeKey: k, refs: 1}
	return free
}

// get returns what a number stands for, if the kernel knows it.
func (t *nodes) get(id uint64) (nodeKey, bool) {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.byID[id]
	return n.nodeKey, ok
}

// find returns the number of a node for a listing, without counting a lookup.
func (t *nodes) find(k nodeKey) uint64 {
	own := k.number()
	s := t.shard(own)
	s.mu.Lock()
	defer s.mu.Unlock()
	id := own
	for range nodeTries {
		if n, used := s.byID[id]; used && n.nodeKey == k {
			return id
		}
		id = t.next(id)
	}
	return own
}

// forget takes lookups back.
func (t *nodes) forget(id, count uint64) {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.byID[id]
	switch {
	case !ok:
	case n.refs > count:
		n.refs -= count
		s.byID[id] = n
	default:
		delete(s.byID, id)
	}
}

func (t *nodes) count() (sum int) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		sum += len(s.byID)
		s.mu.Unlock()
	}
	return sum
}
