package writers

import (
	"golang.org/x/sys/unix"

	"sharefs"
)

// presence is what a probe says about writers.
type presence uint8

const (
	nobody  presence = iota // no description or mapping that may write
	present                 // at least one
	unknown                 // leases are not to be had here
)

// hint says that something happened to a watched file, or with lost set that hints about any file may be missing.
type hint struct {
	id    sharefs.Ino
	write bool // content was written; otherwise a description was closed
	lost  bool
}

// kernel is what a tracker asks of the system; [linux] is the real one, and the tests have one whose truth they know.
type kernel interface {
	// probe asks for the stamp of a backing file and, with ask, who may write to it.
	probe(id sharefs.Ino, ask bool) (presence, Stamp, error)
	// watch wants hints when a description that may write is closed and, with writes, when the content is written to. A second watch
	// on the same file replaces the first.
	watch(id sharefs.Ino, writes bool) error
	unwatch(id sharefs.Ino)
	hints() <-chan hint
	close()
}

// linux is the system below: leases, fstat and one inotify descriptor for all files.
type linux struct {
	open func(sharefs.Ino) (int, error)
	*watches
}

func (k *linux) probe(id sharefs.Ino, ask bool) (presence, Stamp, error) {
	fd, err := k.open(id)
	if err != nil {
		return unknown, Stamp{}, err
	}
	defer unix.Close(fd)
	who := unknown
	if ask {
		who = lease(fd)
	}
	// The stamp comes after the lease: whatever the writers that it found gone did is in it.
	var st unix.Stat_t
	if err := fstat(fd, &st); err != nil {
		return unknown, Stamp{}, err
	}
	return who, StampOf(&st), nil
}

func fstat(fd int, st *unix.Stat_t) error {
	for {
		if err := unix.Fstat(fd, st); err != unix.EINTR {
			return err
		}
	}
}

// lease asks through a read-only descriptor whether anybody may write to its file.
func lease(fd int) presence {
	// An open that meets the lease in its microseconds makes the kernel signal its holder. SIGURG is what the Go runtime expects to
	// get for no reason; the default, SIGIO, would reach a program that subscribed to all signals.
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETSIG, int(unix.SIGURG)); err != nil {
		return unknown
	}
	switch _, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK); err {
	case nil:
		// Cannot fail for a lease that is ours; and closing the descriptor would take it back as well.
		unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
		return nobody
	case unix.EAGAIN:
		return present
	}
	return unknown // EINVAL: switched off or not supported here; EACCES: another's file without CAP_LEASE; ENOLCK
}
