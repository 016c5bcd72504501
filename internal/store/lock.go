package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// Holder says who has a store. It is the text of the lock file, a line "key value" each, written by the one that holds the lock:
//
//	pid 1234
//	pidns 4026531836
//	state mounted
//	mount /home/alice/Share
type Holder struct {
	PID   int
	Space uint64 // the pid namespace (pid_namespaces(7)) in which PID counts; 0: it is not known
	State State
	Mount string // the mount point; empty before it is known
}

// here reports whether the holder's pid is one of those that /proc shows.
func (h Holder) here() bool { return h.PID > 0 && h.Space != 0 && h.Space == pidSpace() }

// pidSpace returns the inode of the pid namespace of this process, 0 where there is no /proc that shows the processes of it.
func pidSpace() uint64 {
	if self, err := os.Readlink("/proc/self"); err != nil || self != strconv.Itoa(os.Getpid()) {
		return 0
	}
	var st unix.Stat_t
	if unix.Stat("/proc/self/ns/pid", &st) != nil {
		return 0
	}
	return st.Ino
}

// self is this process as a holder.
func self(state State, mount string) Holder {
	return Holder{PID: os.Getpid(), Space: pidSpace(), State: state, Mount: mount}
}

// State is where a daemon is in its life.
type State string

// The states of a holder.
const (
	Starting State = "starting"
	Mounted  State = "mounted"
	Ending   State = "ending" // unmounted; what is not saved yet is being saved
	// Detached is never written: the mount is no longer in the table of mounts, but files in it are open (umount -l).
	Detached State = "detached"
)

// LockedError says that another daemon has the store.
type LockedError struct {
	Dir    string
	Holder Holder
}

func (e *LockedError) Error() string {
	who := "another process"
	if e.Holder.PID > 0 {
		who = fmt.Sprintf("process %d", e.Holder.PID)
		if e.Holder.Space != 0 && !e.Holder.here() {
			who += " of another pid namespace, such as a container's"
		}
	}
	var more string
	switch {
	case e.Holder.State == Ending:
		more = ", which is still saving after its unmount: wait and try again"
	case e.Holder.State == Detached:
		more = fmt.Sprintf(", whose mount at %s was taken away while something in it is in use: end what uses it, and try again", quoteName(e.Holder.Mount))
	case e.Holder.Mount != "":
		more = fmt.Sprintf(", mounted at %s: unmount that first, or name another store", quoteName(e.Holder.Mount))
	default:
		more = ": end it first, or name another store"
	}
	return fmt.Sprintf("store %s is in use by %s%s", e.Dir, who, more)
}

// Is lets errors.Is(err, sharefs.KindBusy) ask for the kind.
func (e *LockedError) Is(target error) bool { return target == error(sharefs.KindBusy) }

type lock struct {
	f        *os.File
	readOnly bool
}

// takeLock opens and locks the file, and writes who has it. The kernel gives the lock back when the process ends, however it does.
func takeLock(path string) (l *lock, readOnly bool, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if errors.Is(err, unix.EROFS) {
		if existing, openErr := os.Open(path); openErr == nil {
			f, err, readOnly = existing, nil, true
		}
	}
	if err != nil {
		return nil, false, (&Store{Dir: dirOf(path)}).fail("lock", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			holder, _ := readHolder(f)
			return nil, false, &LockedError{Dir: dirOf(path), Holder: holder}
		}
		return nil, false, (&Store{Dir: dirOf(path)}).fail("lock", err)
	}
	l = &lock{f: f, readOnly: readOnly}
	l.write(self(Starting, ""))
	return l, readOnly, nil
}

func dirOf(path string) string { return strings.TrimSuffix(path, "/"+lockFile) }

// write tells who holds the lock. It is for people and messages, so a disk too full to take it changes nothing.
func (l *lock) write(h Holder) {
	if l.readOnly {
		return
	}
	text := fmt.Sprintf("pid %d\npidns %d\nstate %s\n", h.PID, h.Space, h.State)
	if h.Mount != "" && !strings.Contains(h.Mount, "\n") {
		text += "mount " + h.Mount + "\n"
	}
	if l.f.Truncate(0) == nil {
		_, _ = l.f.WriteAt([]byte(text), 0)
	}
}

func (l *lock) release() error {
	if l.f == nil {
		return nil
	}
	if !l.readOnly {
		_ = l.f.Truncate(0)
	}
	err := l.f.Close() // which gives the flock back: no other process has a descriptor of this open file
	l.f = nil
	return err
}

// Say records where the daemon is in its life, for whoever finds the store locked.
func (s *Store) Say(state State, mount string) {
	s.lock.write(self(state, mount))
}

// HolderOf returns who has the store in dir. Held tells whether the lock is really taken: the text alone may be left over.
func HolderOf(dir string) (h Holder, held bool, err error) {
	f, err := os.Open(dir + "/" + lockFile)
	if errors.Is(err, os.ErrNotExist) {
		return h, false, nil
	}
	if err != nil {
		return h, false, &sharefs.Error{Op: "read lock of store", Path: dir, Kind: sharefs.KindOf(err), Err: err}
	}
	defer f.Close()
	// A shared lock that is at once given back with the descriptor: a daemon that starts in this very moment may be refused, so
	// nobody asks but to explain a failure.
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err == nil {
		return h, false, nil
	}
	h, err = readHolder(f)
	return h, true, err
}

func readHolder(f *os.File) (Holder, error) {
	buf := make([]byte, 8<<10)
	n, err := f.ReadAt(buf, 0)
	if n == 0 && err != nil {
		return Holder{}, err
	}
	return parseHolder(string(buf[:n])), nil
}

// parseHolder reads what there is: a holder may be writing just now.
func parseHolder(text string) (h Holder) {
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch key {
		case "pid":
			if pid, err := strconv.ParseUint(value, 10, 31); err == nil {
				h.PID = int(pid)
			}
		case "pidns":
			if space, err := strconv.ParseUint(value, 10, 64); err == nil {
				h.Space = space
			}
		case "state":
			h.State = State(value)
		case "mount":
			h.Mount = value
		}
	}
	return h
}

// OpenWait is Open, but where the holder is about to end (it says so, or gone reports that its mount is no more) it waits for
// that, at most until the context ends. After a while it tells of it, if tell is not nil.
func OpenWait(ctx context.Context, dir string, gone func(Holder) bool, tell func(*LockedError)) (*Store, error) {
	const silence = 2 * time.Second // longer than saving mostly takes
	began := time.Now()
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		s, err := Open(dir)
		var locked *LockedError
		if !errors.As(err, &locked) {
			return s, err
		}
		h := &locked.Holder
		if h.State == Mounted && gone != nil && gone(*h) {
			h.State = Detached
		}
		if h.PID != 0 && h.State != Ending && h.State != Detached {
			return nil, err
		}
		if tell != nil && time.Since(began) > silence {
			tell(locked)
			tell = nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(pause):
		}
	}
}
