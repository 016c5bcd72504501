package journal

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// FS is the directory that a journal lives in, so that tests can put a disk beneath it that loses power. Names have no
// slash in them. Errors are those of package os.
type FS interface {
	// Create makes a file that must not exist. Its name survives the loss of power after SyncDir.
	Create(name string) (File, error)
	// Open opens an existing file for writing.
	Open(name string) (File, error)
	ReadFile(name string) ([]byte, error)
	List() ([]string, error)
	Remove(name string) error
	SyncDir() error
}

// File is one file of an [FS], open for reading and writing.
type File interface {
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	Truncate(size int64) error
	// Datasync makes content and size survive the loss of power, as fdatasync(2) does.
	Datasync() error
	Close() error
}

// Dir is the [FS] of the operating system below an existing directory.
type Dir string

// ahead is how much room a new segment reserves, in bytes: with the disk full, that much can still be journaled, enough
// for thousands of removals, which is how a user gets out of it.
const ahead = 2 << 20

type osFile struct{ *os.File }

func (f osFile) Datasync() error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return err
		}
	}
}

// Create makes and opens a file of mode 0600.
func (d Dir) Create(name string) (File, error) {
	f, err := os.OpenFile(filepath.Join(string(d), name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	// Without room, or on a filesystem that cannot reserve it, the writes themselves will tell.
	_ = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, ahead)
	return osFile{f}, nil
}

// Open opens a file for writing.
func (d Dir) Open(name string) (File, error) {
	f, err := os.OpenFile(filepath.Join(string(d), name), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// ReadFile returns a file's content.
func (d Dir) ReadFile(name string) ([]byte, error) {
	return os.ReadFile(filepath.Join(string(d), name))
}

// List returns the names in the directory.
func (d Dir) List() ([]string, error) {
	es, err := os.ReadDir(string(d))
	if err != nil {
		return nil, err
	}
	names := make([]string, len(es))
	for i, e := range es {
		names[i] = e.Name()
	}
	return names, nil
}

// Remove unlinks a file.
func (d Dir) Remove(name string) error { return os.Remove(filepath.Join(string(d), name)) }

// SyncDir makes the names in the directory survive the loss of power.
func (d Dir) SyncDir() error {
	f, err := os.Open(string(d))
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
