package versions

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions/writers"
)

// liveDir is the directory of the backing files, live/HH/INO: INO is the inode number in hexadecimal, HH its bits 8 to 15, so that
// files which are made one after the other lie in one directory, which is what a disk does best, and none grows without bound.
// All paths are resolved from a descriptor and have three parts at most.
type liveDir struct {
	path string
	fd   int // O_PATH
}

const liveSubdirs = 256

// openLive opens the directory and makes what is missing of it.
func openLive(store string, readOnly bool) (*liveDir, error) {
	path := filepath.Join(store, "live")
	if !readOnly {
		if err := makeLive(path); err != nil {
			return nil, &sharefs.Error{Op: "make", Path: path, Kind: sharefs.KindOf(err), Err: err}
		}
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &sharefs.Error{Op: "open", Path: path, Kind: sharefs.KindOf(err), Err: err}
	}
	return &liveDir{path: path, fd: fd}, nil
}

// makeLive makes the directory and its parts. The last part is made last: where it is there all are.
func makeLive(path string) error {
	if _, err := os.Lstat(filepath.Join(path, "ff")); err == nil {
		return nil
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	for i := range liveSubdirs {
		if err := os.Mkdir(filepath.Join(path, string(appendHex2(nil, uint8(i)))), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// holdsContent reports whether there is a backing file.
func (l *liveDir) holdsContent() (bool, error) {
	for i := range liveSubdirs {
		entries, err := os.ReadDir(filepath.Join(l.path, string(appendHex2(nil, uint8(i)))))
		if err != nil || len(entries) > 0 {
			return true, err
		}
	}
	return false, nil
}

func appendHex2(b []byte, v uint8) []byte {
	const digits = "0123456789abcdef"
	return append(b, digits[v>>4], digits[v&15])
}

// name returns the path of a backing file below live/.
func (l *liveDir) name(ino sharefs.Ino) string {
	b := make([]byte, 0, 20)
	b = append(appendHex2(b, uint8(ino>>8)), '/')
	return string(strconv.AppendUint(b, uint64(ino), 16))
}

// open opens a backing file; flags are those of open(2) and must not create.
func (l *liveDir) open(ino sharefs.Ino, flags int) (int, error) {
	return ignoringEINTR(func() (int, error) {
		return unix.Openat(l.fd, l.name(ino), flags|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_LARGEFILE, 0)
	})
}

// create makes and opens an empty backing file that must not exist. The descriptor is read-only, so that it never counts as a
// writer, whoever holds on to it.
func (l *liveDir) create(ino sharefs.Ino) (int, error) {
	return ignoringEINTR(func() (int, error) {
		return unix.Openat(l.fd, l.name(ino), unix.O_CREAT|unix.O_EXCL|unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_LARGEFILE, 0o600)
	})
}

// openProbe opens a backing file for [writers.Tracker].
func (l *liveDir) openProbe(ino sharefs.Ino) (int, error) {
	fd, err := l.open(ino, unix.O_RDONLY|unix.O_NOATIME)
	if errors.Is(err, unix.EPERM) {
		fd, err = l.open(ino, unix.O_RDONLY)
	}
	return fd, err
}

func (l *liveDir) stat(ino sharefs.Ino) (st unix.Stat_t, err error) {
	_, err = ignoringEINTR(func() (int, error) {
		return 0, unix.Fstatat(l.fd, l.name(ino), &st, unix.AT_SYMLINK_NOFOLLOW)
	})
	return st, err
}

// setTimes sets access and modification time of a backing file.
func (l *liveDir) setTimes(ino sharefs.Ino, atime, mtime sharefs.Time) error {
	return l.setTimesOf(l.name(ino), atime, mtime)
}

func (l *liveDir) setTimesOf(name string, atime, mtime sharefs.Time) error {
	ts := []unix.Timespec{timespec(atime), timespec(mtime)}
	_, err := ignoringEINTR(func() (int, error) {
		return 0, unix.UtimesNanoAt(l.fd, name, ts, unix.AT_SYMLINK_NOFOLLOW)
	})
	return err
}

// preparing ends the name of a backing file that is being made anew; finish takes it off.
const preparing = ".new"

// prepare makes and opens the file that is to be a backing file, in the place of one that was begun before.
func (l *liveDir) prepare(ino sharefs.Ino) (int, error) {
	return ignoringEINTR(func() (int, error) {
		return unix.Openat(l.fd, l.name(ino)+preparing, unix.O_CREAT|unix.O_TRUNC|unix.O_WRONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_LARGEFILE, 0o600)
	})
}

// finish gives a file that was prepared its name.
func (l *liveDir) finish(ino sharefs.Ino) error {
	name := l.name(ino)
	return unix.Renameat(l.fd, name+preparing, l.fd, name)
}

// remove unlinks a backing file; one that is not there is no error.
func (l *liveDir) remove(ino sharefs.Ino) error {
	err := unix.Unlinkat(l.fd, l.name(ino), 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// syncName makes it survive power loss which file a name leads to.
func (l *liveDir) syncName(ino sharefs.Ino) error {
	return l.syncPath(filepath.Dir(l.name(ino)), unix.O_DIRECTORY)
}

// syncFile makes what a backing file holds, and what it is like, survive power loss.
func (l *liveDir) syncFile(ino sharefs.Ino) error {
	return l.syncPath(l.name(ino), unix.O_NOFOLLOW|unix.O_LARGEFILE)
}

func (l *liveDir) syncPath(path string, flags int) error {
	fd, err := unix.Openat(l.fd, path, unix.O_RDONLY|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = ignoringEINTR(func() (int, error) { return 0, unix.Fsync(fd) })
	return err
}

// sync makes the content and names of all backing files survive power loss.
func (l *liveDir) sync() error {
	fd, err := unix.Open(l.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = ignoringEINTR(func() (int, error) { return 0, unix.Syncfs(fd) })
	return err
}

func (l *liveDir) close() { unix.Close(l.fd) }

// stampOf and timesOf read what fstat says of a backing file.
func stampOf(st *unix.Stat_t) writers.Stamp { return writers.StampOf(st) }

func timesOf(st *unix.Stat_t) (atime, mtime, ctime sharefs.Time) {
	return sharefs.MakeTime(st.Atim.Sec, uint32(st.Atim.Nsec)),
		sharefs.MakeTime(st.Mtim.Sec, uint32(st.Mtim.Nsec)),
		sharefs.MakeTime(st.Ctim.Sec, uint32(st.Ctim.Nsec))
}

func timespec(t sharefs.Time) unix.Timespec {
	return unix.Timespec{Sec: t.Sec(), Nsec: int64(t.Nsec())}
}

// statfs tells of the disk that a path is on.
func statfs(path string) (s unix.Statfs_t, err error) {
	_, err = ignoringEINTR(func() (int, error) { return 0, unix.Statfs(path, &s) })
	return s, err
}

// ignoringEINTR repeats a system call that a signal ended (Go's own preemption signals do).
func ignoringEINTR(fn func() (int, error)) (int, error) {
	for {
		n, err := fn()
		if err != unix.EINTR {
			return n, err
		}
	}
}

// preadFull reads until b is full or the file ends (n < len(b)).
func preadFull(fd int, b []byte, off int64) (n int, err error) {
	for n < len(b) {
		m, err := ignoringEINTR(func() (int, error) { return unix.Pread(fd, b[n:], off+int64(n)) })
		if err != nil || m == 0 {
			return n, err
		}
		n += m
	}
	return n, nil
}
