package near

import (
	"io"
	iofs "io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"sharefs"
	"sharefs/versions/pack"
)

// sealedID returns the pack whose lasting place a name is.
func sealedID(name string) (pack.ID, bool) {
	id, ok := pack.ParseID(name[strings.LastIndexByte(name, '/')+1:])
	return id, ok && name == pack.PathOf(id)
}

// Create implements [pack.FS].
func (f *FS) Create(name string) (pack.File, error) {
	base, err := f.cfg.Packs.Create(name)
	if err != nil {
		return nil, err
	}
	return f.grows(name, base), nil
}

// grows wraps a file that is not, or not yet, in its lasting place.
func (f *FS) grows(name string, base pack.File) pack.File {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.growing[name]
	if n == nil {
		n = &node{local: true}
		f.growing[name] = n
	}
	return f.wrap(n, base, false)
}

// wrap returns an open file of a node; f.mu is held.
func (f *FS) wrap(n *node, base pack.File, write bool) *file {
	w := &file{fs: f, n: n, base: base, write: write}
	if n.open == nil {
		n.open = map[*file]struct{}{}
	}
	n.open[w] = struct{}{}
	return w
}

// Open implements [pack.FS]. A remote pack cannot be written (KindNotSupported).
func (f *FS) Open(name string, write bool) (pack.File, error) {
	id, sealed := sealedID(name)
	if !sealed {
		base, err := f.cfg.Packs.Open(name, write)
		if err != nil {
			return nil, err
		}
		return f.grows(name, base), nil
	}
	f.mu.Lock()
	n := f.nodes[id]
	if n != nil && !n.local {
		defer f.mu.Unlock()
		if write {
			return nil, unwritable(id)
		}
		return f.wrap(n, nil, false), nil
	}
	f.mu.Unlock()
	base, err := f.cfg.Packs.Open(name, write)
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.nodes[id]
	switch {
	case now != nil && !now.local && !write: // it became remote between the two looks
		if err == nil {
			base.Close()
		}
		return f.wrap(now, nil, false), nil
	case now != nil && !now.local:
		if err == nil {
			base.Close()
		}
		return nil, unwritable(id)
	case err != nil:
		return nil, err
	case now == nil:
		now = &node{id: id, local: true}
		now.size, _ = base.Size() // what does not tell its length fails when it is read
		now.held, _ = heldBy(base)
		now.used.Store(modified(base))
		f.enter(now)
	}
	if write {
		now.changes++
	}
	return f.wrap(now, base, write), nil
}

// Rename implements [pack.FS]: a pack is sealed.
func (f *FS) Rename(from, to string) error {
	if err := f.cfg.Packs.Rename(from, to); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.growing[from]
	delete(f.growing, from)
	id, ok := sealedID(to)
	if !ok {
		return nil
	}
	if n == nil {
		n = &node{local: true}
	}
	n.id = id
	n.used.Store(time.Now().UnixNano())
	if err := f.measure(n); err != nil {
		f.log.Warn("a pack cannot be measured: it stays on the disk", "pack", id.String(), "err", err)
	}
	f.enter(n)
	return nil
}

// Remove implements [pack.FS]. Of a remote pack the note goes, durably; the bucket is the business of whoever keeps its root.
func (f *FS) Remove(name string) error {
	id, sealed := sealedID(name)
	if !sealed {
		f.mu.Lock()
		delete(f.growing, name)
		f.mu.Unlock()
		return f.cfg.Packs.Remove(name)
	}
	f.change.Lock()
	defer f.change.Unlock()
	f.mu.Lock()
	n := f.nodes[id]
	away := n != nil && !n.local
	f.mu.Unlock()
	var err error
	if away {
		if err = f.cfg.Files.Remove(name); err == nil {
			err = f.cfg.Files.SyncDir(id.String()[:2])
		}
	} else {
		err = f.cfg.Packs.Remove(name)
	}
	if err == nil && n != nil {
		f.mu.Lock()
		f.leave(n)
		f.mu.Unlock()
	}
	return err
}

// List implements [pack.FS].
func (f *FS) List(dir string) ([]string, error) {
	names, err := f.cfg.Packs.List(dir)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if dir == "." {
		for d, list := range f.dirs {
			if len(list) > 0 && !slices.Contains(names, d) {
				names = append(names, d)
			}
		}
		return names, nil
	}
	for id, n := range f.dirs[dir] {
		if !n.local {
			names = append(names, id.String())
		}
	}
	return names, nil
}

// SyncDir implements [pack.FS].
func (f *FS) SyncDir(dir string) error { return f.cfg.Packs.SyncDir(dir) }

// file is an open pack. It stays the same when the pack leaves the disk.
type file struct {
	fs    *FS
	n     *node
	write bool

	mu     sync.RWMutex // guards what follows
	base   pack.File    // nil: the pack is remote
	closed bool
	walk   walk // where a reader of a remote pack is
}

// away takes the file off the disk, which gives its room back once nobody has it open.
func (w *file) away() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.base != nil {
		w.base.Close()
		w.base = nil
	}
}

// here calls fn with the file of a local pack and reports whether it is one.
func (w *file) here(fn func(pack.File) error) (bool, error) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	switch {
	case w.closed:
		return true, iofs.ErrClosed
	case w.base == nil:
		return false, nil
	}
	return true, fn(w.base)
}

// ReadAt implements io.ReaderAt.
func (w *file) ReadAt(b []byte, off int64) (n int, err error) {
	w.n.used.Store(time.Now().UnixNano())
	here, err := w.here(func(f pack.File) (err error) {
		n, err = f.ReadAt(b, off)
		return err
	})
	if here {
		return n, err
	}
	return w.fs.readRemote(w.n, &w.walk, b, off)
}

// WriteAt implements io.WriterAt, of a local pack.
func (w *file) WriteAt(b []byte, off int64) (int, error) { return w.put(pack.File.WriteAt, b, off) }

// WriteUnread is what [pack.WriteUnread] asks for, of a local pack.
func (w *file) WriteUnread(b []byte, off int64) (int, error) {
	return w.put(pack.WriteUnread, b, off)
}

func (w *file) put(how func(pack.File, []byte, int64) (int, error), b []byte, off int64) (n int, err error) {
	here, err := w.here(func(f pack.File) (err error) {
		n, err = how(f, b, off)
		return err
	})
	if !here {
		return 0, unwritable(w.n.id)
	}
	return n, err
}

func unwritable(id pack.ID) error {
	return &sharefs.Error{Op: "write to pack", Path: id.String(), Kind: sharefs.KindNotSupported, Detail: "it lies in the bucket alone"}
}

// Size returns the length of the pack.
func (w *file) Size() (n int64, err error) {
	here, err := w.here(func(f pack.File) (err error) {
		n, err = f.Size()
		return err
	})
	if here {
		return n, err
	}
	return w.fs.sizeOf(w.n)
}

// Truncate cuts a local pack.
func (w *file) Truncate(size int64) error {
	here, err := w.here(func(f pack.File) error { return f.Truncate(size) })
	if !here {
		return unwritable(w.n.id)
	}
	return err
}

// Sync makes what was written survive power loss.
func (w *file) Sync() error {
	_, err := w.here(pack.File.Sync)
	return err
}

// Punch gives blocks of a local pack back to the disk.
func (w *file) Punch(off, n int64) error {
	here, err := w.here(func(f pack.File) error {
		if p, ok := f.(interface{ Punch(off, n int64) error }); ok {
			return p.Punch(off, n)
		}
		return &sharefs.Error{Op: "punch pack", Path: w.n.id.String(), Kind: sharefs.KindNotSupported}
	})
	if !here {
		return unwritable(w.n.id)
	}
	return err
}

// Held returns how many bytes the pack takes on the disk.
func (w *file) Held() (n int64, err error) {
	here, err := w.here(func(f pack.File) (err error) {
		n, err = heldBy(f)
		return err
	})
	if here {
		return n, err
	}
	w.fs.mu.Lock()
	defer w.fs.mu.Unlock()
	return w.n.held, nil
}

// Remote implements [pack.Remote].
func (w *file) Remote() bool {
	here, _ := w.here(func(pack.File) error { return nil })
	return !here
}

// Distrust implements [pack.Remote].
func (w *file) Distrust(off, n int64) bool {
	return w.Remote() && w.fs.distrust(w.n, off, n)
}

// Direct implements [pack.Remote].
func (w *file) Direct() io.ReaderAt { return w.fs.direct(w.n) }

// Close implements io.Closer.
func (w *file) Close() (err error) {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return iofs.ErrClosed
	}
	w.closed = true
	base := w.base
	w.base = nil
	w.mu.Unlock()
	if base != nil {
		if w.write {
			if held, err := heldBy(base); err == nil {
				w.fs.mu.Lock()
				w.fs.hold(w.n, held)
				w.fs.mu.Unlock()
			}
			if size, err := base.Size(); err == nil {
				w.fs.mu.Lock()
				w.n.size = size
				w.fs.mu.Unlock()
			}
		}
		err = base.Close()
	}
	w.fs.mu.Lock()
	delete(w.n.open, w)
	last := len(w.n.open) == 0
	if last && w.n.local && w.fs.cfg.Budget == 0 && w.fs.nodes[w.n.id] == w.n {
		w.fs.leave(w.n) // nothing is to be known of packs that stay here
	}
	w.fs.mu.Unlock()
	if last {
		w.fs.unload(w.n)
	}
	return err
}
