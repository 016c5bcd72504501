// Package memdisk is a disk in memory for the tests of whatever keeps packs: it fails when it is told to, and loses power.
//
// Content survives a power loss as far as it was synced, names as far as a directory was synced after them; later names are lost from the
// newest on, as a journaling file system loses them, later writes in any combination and torn.
package memdisk

import (
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// File is an open file. It is the File of package pack, whose tests import this package.
type File = interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
	Sync() error
}

// Disk is the FS of package pack. Its methods may be called from several goroutines.
type Disk struct {
	// Before, where not nil, is called before each operation that changes something, without a lock: a moment to lose power at. Set it
	// before use.
	Before func()

	mu      sync.Mutex
	names   map[string]*node
	durable map[string]*node
	pending []nameOp // not yet durable, oldest first

	failIn int   // how many operations until one fails; 0: none does
	fail   error // with this
	ops    int
}

type nameOp struct {
	apply func(map[string]*node)
	dirs  []string
}

type node struct {
	data, synced []byte
	writes       []pendingWrite // since the last sync, oldest first
}

type pendingWrite struct {
	off      int64
	data     []byte // nil: a truncation to off
	truncate bool
}

// New returns an empty disk.
func New() *Disk {
	return &Disk{names: map[string]*node{}, durable: map[string]*node{}}
}

func (m *Disk) before() {
	if m.Before != nil {
		m.Before()
	}
}

// Fail has the n-th operation from now that changes something fail, with err; n 0: none does.
func (m *Disk) Fail(n int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failIn, m.fail = n, err
}

// Ops returns how many operations changed something so far.
func (m *Disk) Ops() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ops
}

// Data returns the content of a file, nil where there is none: to be changed by a test as a fault of the disk would.
func (m *Disk) Data(name string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := m.names[name]; n != nil {
		return n.data
	}
	return nil
}

// Put makes a file with a content that survives power loss.
func (m *Disk) Put(name string, data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := &node{data: append([]byte(nil), data...), synced: append([]byte(nil), data...)}
	m.names[name], m.durable[name] = n, n
}

// Names lists all files.
func (m *Disk) Names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.names))
}

// step counts an operation and says whether it fails.
func (m *Disk) step() error {
	m.ops++
	if m.failIn > 0 {
		if m.failIn--; m.failIn == 0 {
			return m.fail
		}
	}
	return nil
}

func (m *Disk) change(op nameOp) {
	op.apply(m.names)
	m.pending = append(m.pending, op)
}

// Create implements the FS of package pack.
func (m *Disk) Create(name string) (File, error) {
	m.before()
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.step(); err != nil {
		return nil, err
	}
	if m.names[name] != nil {
		return nil, fs.ErrExist
	}
	n := &node{}
	m.change(nameOp{func(names map[string]*node) { names[name] = n }, []string{path.Dir(name)}})
	return &memFile{m, n, true}, nil
}

// Open implements the FS of package pack.
func (m *Disk) Open(name string, write bool) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := m.names[name]; n != nil {
		return &memFile{m, n, write}, nil
	}
	return nil, fs.ErrNotExist
}

// Rename implements the FS of package pack.
func (m *Disk) Rename(from, to string) error {
	m.before()
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.step(); err != nil {
		return err
	}
	n := m.names[from]
	if n == nil {
		return fs.ErrNotExist
	}
	m.change(nameOp{func(names map[string]*node) { delete(names, from); names[to] = n }, []string{path.Dir(from), path.Dir(to)}})
	return nil
}

// Remove implements the FS of package pack.
func (m *Disk) Remove(name string) error {
	m.before()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.names[name] == nil {
		return fs.ErrNotExist
	}
	m.change(nameOp{func(names map[string]*node) { delete(names, name) }, []string{path.Dir(name)}})
	return nil
}

// List implements the FS of package pack.
func (m *Disk) List(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	seen := map[string]bool{}
	for name := range m.names {
		if dir == "." {
			seen[strings.SplitN(name, "/", 2)[0]] = true
		} else if rest, ok := strings.CutPrefix(name, dir+"/"); ok {
			seen[rest] = true
		}
	}
	return slices.Sorted(maps.Keys(seen)), nil
}

// SyncDir implements the FS of package pack.
func (m *Disk) SyncDir(dir string) error {
	m.before()
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.step(); err != nil {
		return err
	}
	last := -1
	for i, op := range m.pending {
		for _, d := range op.dirs {
			if d == dir {
				last = i
			}
		}
	}
	for _, op := range m.pending[:last+1] {
		op.apply(m.durable)
	}
	m.pending = append([]nameOp(nil), m.pending[last+1:]...)
	return nil
}

// PowerLoss returns what a disk holds after the power failed now.
func (m *Disk) PowerLoss(r *rand.Rand) *Disk {
	m.mu.Lock()
	defer m.mu.Unlock()
	after := New()
	names := map[string]*node{}
	for name, n := range m.durable {
		names[name] = n
	}
	for _, op := range m.pending[:r.IntN(len(m.pending)+1)] {
		op.apply(names)
	}
	for name, n := range names {
		data := append([]byte(nil), n.synced...)
		for _, w := range n.writes {
			switch r.IntN(4) {
			case 0:
			case 1:
				if !w.truncate {
					data = put(data, w.data[:r.IntN(len(w.data)+1)], w.off)
				}
			default:
				data = w.apply(data)
			}
		}
		kept := &node{data: data, synced: append([]byte(nil), data...)}
		after.names[name], after.durable[name] = kept, kept
	}
	return after
}

// Killed returns what a disk holds when the process that used it has ended at once: everything.
func (m *Disk) Killed() *Disk {
	m.mu.Lock()
	defer m.mu.Unlock()
	after := New()
	for name, n := range m.names {
		kept := &node{data: append([]byte(nil), n.data...), synced: append([]byte(nil), n.data...)}
		after.names[name], after.durable[name] = kept, kept
	}
	return after
}

func (w *pendingWrite) apply(data []byte) []byte {
	if !w.truncate {
		return put(data, w.data, w.off)
	}
	if w.off <= int64(len(data)) {
		return data[:w.off:w.off]
	}
	return append(data, make([]byte, w.off-int64(len(data)))...)
}

func put(data, b []byte, off int64) []byte {
	if end := off + int64(len(b)); end > int64(len(data)) {
		data = append(data, make([]byte, end-int64(len(data)))...)
	}
	copy(data[off:], b)
	return data
}

type memFile struct {
	fs    *Disk
	n     *node
	write bool
}

func (f *memFile) ReadAt(b []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.n.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(b []byte, off int64) (int, error) {
	f.fs.before()
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if !f.write {
		return 0, syscall.EBADF
	}
	err := f.fs.step()
	if err != nil {
		b = b[:len(b)/2]
	}
	w := pendingWrite{off: off, data: append([]byte(nil), b...)}
	f.n.data = w.apply(f.n.data)
	f.n.writes = append(f.n.writes, w)
	return len(b), err
}

func (f *memFile) Truncate(size int64) error {
	f.fs.before()
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.step(); err != nil {
		return err
	}
	w := pendingWrite{off: size, truncate: true}
	f.n.data = w.apply(f.n.data)
	f.n.writes = append(f.n.writes, w)
	return nil
}

// Punch zeroes a part of the file, which takes no room then.
func (f *memFile) Punch(off, n int64) error {
	f.fs.before()
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.step(); err != nil {
		return err
	}
	if n = min(n, int64(len(f.n.data))-off); n <= 0 {
		return nil
	}
	w := pendingWrite{off: off, data: make([]byte, n)}
	f.n.data = w.apply(f.n.data)
	f.n.writes = append(f.n.writes, w)
	return nil
}

// blockLen is what the disk gives out room in, in bytes.
const blockLen = 4096

// Held returns what the file takes: the blocks in it that are not zero.
func (f *memFile) Held() (held int64, err error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	for block := range slices.Chunk(f.n.data, blockLen) {
		if slices.ContainsFunc(block, func(c byte) bool { return c != 0 }) {
			held += int64(len(block))
		}
	}
	return held, nil
}

func (f *memFile) Sync() error {
	f.fs.before()
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.step(); err != nil {
		// As Linux does it: what could not be written is dropped and never tried again.
		f.n.writes = nil
		return err
	}
	f.n.synced = append([]byte(nil), f.n.data...)
	f.n.writes = nil
	return nil
}

func (f *memFile) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return int64(len(f.n.data)), nil
}

func (f *memFile) Close() error { return nil }
