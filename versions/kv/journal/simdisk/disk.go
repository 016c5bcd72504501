// Package simdisk is a directory in memory that remembers every write and sync, so that a test can look at the disk as
// it is after a crash at any moment.
//
// A [Disk] is an operation log. After the death of the process the disk is as the first n operations left it
// ([Disk.Killed]). After the loss of power ([Disk.PowerLoss]) only what was synced is certain: content by
// [journal.File.Datasync], names by [journal.FS.SyncDir]. Of every other operation a [Fate] decides how much of it
// landed: none, all, the first bytes, or some sectors without others. Contents that grew beyond what landed read as
// zeros there. This is weaker than what ext4 gives, so what holds here holds there.
package simdisk

import (
	"io"
	"os"
	"slices"
	"sync"

	"sharefs/versions/kv/journal"
)

// Kind is what an operation does.
type Kind int

// The operations.
const (
	Create Kind = iota
	Remove
	SyncDir
	Write
	Truncate
	Datasync
)

// Op is one operation in the log.
type Op struct {
	Index int // in the log
	Kind  Kind
	Name  string // of the file; empty for SyncDir
	Off   int64  // where Write begins; the size that Truncate sets
	Data  []byte // of Write

	file int // which file of that name
}

// Disk is the directory. Its methods may be called by several goroutines.
type Disk struct {
	// Fault, where not nil, is asked before each operation. If it returns an error the operation fails with it; of a
	// failed Write the first n bytes land nevertheless. Set it before use; it is called with the disk locked.
	Fault func(op Op) (n int, err error)

	mu    sync.Mutex
	log   []Op
	names map[string]int // the files there are
	files []*content     // by number
}

type content struct{ data []byte }

var _ journal.FS = (*Disk)(nil)

// New returns an empty disk.
func New() *Disk { return &Disk{names: map[string]int{}} }

// Len returns the number of operations so far: a moment to crash at.
func (d *Disk) Len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.log)
}

// Log returns the operations so far.
func (d *Disk) Log() []Op {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.log)
}

// do asks for a fault, carries the operation out and logs it. Called with mu held.
func (d *Disk) do(op Op) error {
	op.Index = len(d.log)
	if d.Fault != nil {
		if n, err := d.Fault(op); err != nil {
			if op.Kind == Write && n > 0 {
				op.Data = op.Data[:min(n, len(op.Data))]
				d.carryOut(op)
			}
			return &os.PathError{Op: "simulated", Path: op.Name, Err: err}
		}
	}
	d.carryOut(op)
	return nil
}

func (d *Disk) carryOut(op Op) {
	d.log = append(d.log, op)
	switch op.Kind {
	case Create:
		d.files = append(d.files, &content{})
		d.names[op.Name] = op.file
	case Remove:
		delete(d.names, op.Name)
	case Write:
		d.files[op.file].write(op.Data, op.Off)
	case Truncate:
		d.files[op.file].truncate(op.Off)
	}
}

func (c *content) write(p []byte, off int64) {
	if end := off + int64(len(p)); end > int64(len(c.data)) {
		c.truncate(end)
	}
	copy(c.data[off:], p)
}

func (c *content) truncate(size int64) {
	if size <= int64(len(c.data)) {
		c.data = c.data[:size]
		return
	}
	c.data = append(c.data, make([]byte, size-int64(len(c.data)))...)
}

// Create makes a file.
func (d *Disk) Create(name string) (journal.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.names[name]; ok {
		return nil, &os.PathError{Op: "create", Path: name, Err: os.ErrExist}
	}
	n := len(d.files)
	if err := d.do(Op{Kind: Create, Name: name, file: n}); err != nil {
		return nil, err
	}
	return &file{d, name, n}, nil
}

// Open opens a file.
func (d *Disk) Open(name string) (journal.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, ok := d.names[name]
	if !ok {
		return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
	}
	return &file{d, name, n}, nil
}

// ReadFile returns a file's content.
func (d *Disk) ReadFile(name string) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, ok := d.names[name]
	if !ok {
		return nil, &os.PathError{Op: "read", Path: name, Err: os.ErrNotExist}
	}
	return slices.Clone(d.files[n].data), nil
}

// List returns the names of the files.
func (d *Disk) List() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for name := range d.names {
		names = append(names, name)
	}
	return names, nil
}

// Remove removes a name.
func (d *Disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, ok := d.names[name]
	if !ok {
		return &os.PathError{Op: "remove", Path: name, Err: os.ErrNotExist}
	}
	return d.do(Op{Kind: Remove, Name: name, file: n})
}

// SyncDir makes the names survive.
func (d *Disk) SyncDir() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.do(Op{Kind: SyncDir})
}

type file struct {
	disk *Disk
	name string
	n    int
}

func (f *file) op(op Op) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	op.Name, op.file = f.name, f.n
	return f.disk.do(op)
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	if err := f.op(Op{Kind: Write, Off: off, Data: slices.Clone(p)}); err != nil {
		return 0, err
	}
	return len(p), nil
}

// ReadAt reads what the file holds now.
func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	data := f.disk.files[f.n].data
	n := copy(p, data[min(off, int64(len(data))):])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) Truncate(size int64) error { return f.op(Op{Kind: Truncate, Off: size}) }
func (f *file) Datasync() error           { return f.op(Op{Kind: Datasync}) }
func (f *file) Close() error              { return nil }
