// Package dbhold keeps everybody from changing an SQLite database for a moment, by SQLite's own locks, so that its files can be read as they belong
// together. The locks are read locks of fcntl(2): whoever reads the database goes on, whoever is about to change it waits as for a reader (or gets SQLITE_BUSY).
//
//	rollback journal  SHARED (https://www.sqlite.org/lockingv3.html): nobody writes to the database file, whose journal then is not needed
//	write-ahead log   SHARED, and of FILE-shm the bytes of WAL_CKPT_LOCK and WAL_WRITE_LOCK (https://www.sqlite.org/walformat.html, 2.3.1): nobody
//	                  writes to the log, nor from there to the database file
//
// A read lock keeps a writer's exclusive one away as well as an exclusive one would, and takes no right to write.
package dbhold

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Bytes that SQLite locks.
const (
	reservedByte = 0x40000001
	sharedFirst  = 0x40000002
	sharedSize   = 510
	walWriteByte = 120 // of FILE-shm, as all below
	walCkptByte  = 121
)

const (
	// Patience is how long a lock is tried for.
	Patience = 2 * time.Second
	// Limit is how long a database is held at the most: less than the 5 s for which many programs wait for a lock.
	Limit = 2 * time.Second
)

// Magic is what an SQLite database begins with.
const Magic = "SQLite format 3\x00"

// ErrBusy says that a lock could not be had in time.
var ErrBusy = errors.New("the database is being written to")

// Database is one that is held. The locks are the process's: they go as soon as it closes any descriptor of these files.
type Database struct {
	// Ino is the inode of the database file, Log that of FILE-wal, 0 where there is none.
	Ino, Log uint64

	dir     int // -1: none
	name    string
	mu      sync.Mutex // guards fds and dir while it is closed
	fds     []int
	without bool // in WAL mode, though there is no log: nobody has it open
}

// Place is where a database is.
type Place struct {
	Root string // a directory
	Dev  uint64 // device number of what is mounted there; 0: whatever it is
	Rel  string // path below it
}

// Take holds a database. No symbolic link is followed below the root, nothing that is mounted there entered, and nothing opened that is no regular file with one
// name, whatever is in the database's place or in that of the files beside it. It tries for at most patience. Errors: ErrBusy, and others where the file is no
// database or its files do not tell what state it is in.
func Take(p Place, patience time.Duration) (_ *Database, err error) {
	at, err := unix.Open(p.Root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(at)
	d := &Database{dir: -1, name: filepath.Base(p.Rel)}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil {
		return nil, err
	}
	if p.Dev != 0 && uint64(st.Dev) != p.Dev {
		return nil, errors.New("another filesystem is in the place of the mount")
	}
	if d.dir, err = below(at, filepath.Dir(p.Rel), unix.O_PATH|unix.O_DIRECTORY); err != nil {
		d.dir = -1
		return nil, err
	}
	file, ino, err := d.open("")
	if err != nil {
		return nil, err
	}
	d.Ino = ino
	deadline := time.Now().Add(patience)
	if err := lock(file, sharedFirst, sharedSize, deadline); err != nil {
		return nil, err
	}
	// From here on nobody changes the mode of the database either.
	head := make([]byte, 100)
	if _, err := unix.Pread(file, head, 0); err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(head, []byte(Magic)) {
		return nil, errors.New("it is no database")
	}
	if err := d.noHotJournal(file); err != nil {
		return nil, err
	}
	if head[18] == 2 || head[19] == 2 {
		err = d.holdLog(deadline)
	}
	return d, err
}

// holdLog keeps the write-ahead log from being written to and from being copied into the database.
func (d *Database) holdLog(deadline time.Time) error {
	_, log, err := d.open("-wal")
	if err == unix.ENOENT {
		if d.has("-shm") {
			return errors.New("there is an index of a write-ahead log that is not there")
		}
		d.without = true
		return nil
	}
	if err != nil {
		return err
	}
	d.Log = log
	index, _, err := d.open("-shm")
	if err != nil {
		return err
	}
	// In the order in which a checkpoint takes them. While the first one is waited for, writers go on.
	if err := lock(index, walCkptByte, 1, deadline); err != nil {
		return err
	}
	if err := lock(index, walWriteByte, 1, deadline); err != nil {
		return err
	}
	// Names last: a log that was replaced before it was locked is not what was opened.
	var st unix.Stat_t
	if err := unix.Fstatat(d.dir, d.name+"-wal", &st, unix.AT_SYMLINK_NOFOLLOW); err != nil || st.Ino != log {
		return errors.New("the write-ahead log was replaced")
	}
	return nil
}

// noHotJournal fails where a transaction was interrupted in the middle: what the file holds is made whole by whoever opens the database next.
func (d *Database) noHotJournal(file int) error {
	journal, _, err := d.open("-journal")
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	first := make([]byte, 8)
	n, err := unix.Pread(journal, first, 0)
	if err != nil || n == 0 || binary.BigEndian.Uint64(first) == 0 {
		return err
	}
	l := unix.Flock_t{Type: unix.F_RDLCK, Whence: unix.SEEK_SET, Start: reservedByte, Len: 1}
	if err := unix.FcntlFlock(uintptr(file), unix.F_GETLK, &l); err != nil {
		return err
	}
	if l.Type == unix.F_UNLCK {
		return errors.New("a transaction was interrupted")
	}
	return nil // a transaction begins, and cannot write to the database while it is held
}

// Still reports whether what was found when the database was taken holds still.
func (d *Database) Still() bool { return !d.without || !d.has("-wal") && !d.has("-shm") }

// Close lets the database go. It may be called again, and beside another call.
func (d *Database) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, fd := range d.fds {
		unix.Close(fd)
	}
	d.fds = nil
	if d.dir >= 0 {
		unix.Close(d.dir)
	}
	d.dir = -1
}

// has reports whether there is a file of the database with a suffix.
func (d *Database) has(suffix string) bool {
	var st unix.Stat_t
	return unix.Fstatat(d.dir, d.name+suffix, &st, unix.AT_SYMLINK_NOFOLLOW) == nil
}

// open opens a file of the database, which stays open until Close. What it is is seen before it is opened: to open a pipe or a device has effects.
func (d *Database) open(suffix string) (fd int, ino uint64, err error) {
	at, err := below(d.dir, d.name+suffix, unix.O_PATH)
	if err != nil {
		return -1, 0, err
	}
	defer unix.Close(at)
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil {
		return -1, 0, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 {
		return -1, 0, fmt.Errorf("%q is no regular file with one name", d.name+suffix)
	}
	fd, err = unix.Open(fmt.Sprintf("/proc/self/fd/%d", at), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, 0, err
	}
	d.fds = append(d.fds, fd)
	return fd, st.Ino, nil
}

// below opens what is below a directory and on the same mount.
func below(dir int, path string, flags uint64) (int, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV}
	for {
		fd, err := unix.Openat2(dir, path, &how)
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

// lock takes a read lock. It does not wait in the kernel, where nothing ends that but a signal.
func lock(fd int, start, size int64, deadline time.Time) error {
	for {
		l := unix.Flock_t{Type: unix.F_RDLCK, Whence: unix.SEEK_SET, Start: start, Len: size}
		err := unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &l)
		switch {
		case err == nil:
			return nil
		case err == unix.EINTR:
		case err != unix.EAGAIN && err != unix.EACCES:
			return err
		case time.Now().After(deadline):
			return ErrBusy
		}
		time.Sleep(100*time.Microsecond + rand.N(time.Millisecond)) // not in step with whoever writes in a loop
	}
}
