package fs

import (
	"hash/fnv"
	"math/bits"
	"sync"

	"sharefs"
)

// nodeKind tells the virtual nodes apart.
type nodeKind uint8

const (
	shareDir nodeKind = iota + 1 // .share
	ctlDir                       // .share/ctl
	ctlFile                      // .share/ctl/NAME; num is its place in Config.Ctl
	pastDir                      // FILE@@
	pastFile                     // FILE@@N; num is N, at its time
	pastLog                      // FILE@@/log
	pastMeta                     // FILE@@/meta
	pastLink                     // LINK@@…, which leads to TARGET@@…; text is what stands behind the mark
)

// nodeKey is what a virtual node stands for.
type nodeKey struct {
	kind nodeKind
	ino  sharefs.Ino // of the file whose past it is, or of the symbolic link
	num  uint64
	// at is the time of the version. A file that comes to another name may come to another history, in which the same
	// number is another version: that must be another node, for the kernel keeps the pages of each.
	at   sharefs.HLC
	text string
}

// versionKey is the node of a version in the history of an inode.
func versionKey(ino sharefs.Ino, v *sharefs.Version) nodeKey {
	return nodeKey{kind: pastFile, ino: ino, num: v.Number, at: v.At}
}

func (k nodeKey) isDir() bool { return k.kind == shareDir || k.kind == ctlDir || k.kind == pastDir }

// nodes knows the virtual nodes that the kernel knows. Their numbers are made from what they stand for, so that they
// are the same in each listing and after a remount; they have the top bit set, which no inode of the tree has.
type nodes struct {
	mu    sync.Mutex // guards what follows
	byID  map[uint64]*node
	byKey map[nodeKey]*node
}

type node struct {
	nodeKey
	id   uint64
	refs uint64 // lookups that the kernel has not forgotten
}

func (t *nodes) init() {
	t.byID = make(map[uint64]*node)
	t.byKey = make(map[nodeKey]*node)
}

// number scatters a key over the 63-bit numbers (the finalizer of splitmix64, Steele et al., "Fast splittable
// pseudorandom number generators", 2014).
func (k nodeKey) number() uint64 {
	x := uint64(k.ino)*0x9e3779b97f4a7c15 + bits.RotateLeft64(k.num, 32)*0xd1342543de82ef95 + uint64(k.kind)
	x ^= uint64(k.at) * 0xda942042e4dd58b5
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

// enter counts a lookup of the node and returns its number.
func (t *nodes) enter(k nodeKey) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byKey[k]
	if n == nil {
		n = &node{nodeKey: k, id: k.number()}
		for t.byID[n.id] != nil { // two keys in one place
			n.id = virtualBit | (n.id+2)&^1
		}
		t.byID[n.id], t.byKey[k] = n, n
	}
	n.refs++
	return n.id
}

// get returns what a number stands for, if the kernel knows it.
func (t *nodes) get(id uint64) (nodeKey, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byID[id]
	if n == nil {
		return nodeKey{}, false
	}
	return n.nodeKey, true
}

// find returns the number of a node for a listing, without counting a lookup.
func (t *nodes) find(k nodeKey) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.byKey[k]; n != nil {
		return n.id
	}
	return k.number()
}

// forget takes lookups back.
func (t *nodes) forget(id, count uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byID[id]
	if n == nil {
		return
	}
	if n.refs > count {
		n.refs -= count
		return
	}
	delete(t.byID, id)
	delete(t.byKey, n.nodeKey)
}

func (t *nodes) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byID)
}
