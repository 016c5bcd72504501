package pack

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// FS is what the store asks of the disk. Names are relative to the store's directory.
type FS interface {
	// Create makes a file that must not exist, together with its directory.
	Create(name string) (File, error)
	// Open opens an existing file; to write as well where write is set.
	Open(name string, write bool) (File, error)
	Rename(from, to string) error
	Remove(name string) error
	// List returns the names in a directory; one that does not exist is empty.
	List(dir string) ([]string, error)
	// SyncDir makes the names in a directory, and its own, survive power loss.
	SyncDir(dir string) error
}

// File is an open pack. ReadAt may be called by several goroutines. (An alias, so that a package which this one's tests import can have it.)
type File = interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
	// Sync makes content and size survive power loss (fdatasync(2)).
	Sync() error
}

// Dir is the FS of a directory on this machine's disk.
type Dir string

func (d Dir) path(name string) string { return filepath.Join(string(d), name) }

// Create implements FS.
func (d Dir) Create(name string) (File, error) {
	const flags = os.O_RDWR | os.O_CREATE | os.O_EXCL
	f, err := os.OpenFile(d.path(name), flags, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		dir := filepath.Dir(d.path(name))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		if err := d.SyncDir(filepath.Join(filepath.Dir(name), "..")); err != nil {
			return nil, err
		}
		f, err = os.OpenFile(d.path(name), flags, 0o600)
	}
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// Open implements FS.
func (d Dir) Open(name string, write bool) (File, error) {
	flags := os.O_RDONLY
	if write {
		flags = os.O_RDWR
	}
	f, err := os.OpenFile(d.path(name), flags, 0)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// Rename implements FS; the directory of the new name is made where it is missing.
func (d Dir) Rename(from, to string) error {
	err := os.Rename(d.path(from), d.path(to))
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(d.path(to)), 0o700); err != nil {
			return err
		}
		if err := d.SyncDir(filepath.Join(filepath.Dir(to), "..")); err != nil {
			return err
		}
		err = os.Rename(d.path(from), d.path(to))
	}
	return err
}

// Remove implements FS.
func (d Dir) Remove(name string) error { return os.Remove(d.path(name)) }

// List implements FS.
func (d Dir) List(dir string) ([]string, error) {
	f, err := os.Open(d.path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// SyncDir implements FS.
func (d Dir) SyncDir(dir string) error {
	f, err := os.Open(d.path(dir))
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, &os.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	return st.Size, nil
}

// WriteAt has the disk begin to write what is long, so that a sync that follows has less to wait for.
func (f osFile) WriteAt(b []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(b, off)
	if err == nil && n >= flushLen {
		_ = unix.SyncFileRange(int(f.Fd()), off, int64(n), unix.SYNC_FILE_RANGE_WRITE) // a hint
	}
	return n, err
}

func (f osFile) Sync() error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
	}
}
