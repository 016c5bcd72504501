package writers

import (
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// Abilities is what the disk below and this process's limits offer.
type Abilities struct {
	Leases       bool `json:"leases"`        // writers and mappings can be asked for
	Inotify      bool `json:"inotify"`       // hints come; otherwise probes with back-off find the same, later
	FineStamps   bool `json:"fine_stamps"`   // two changes never share a stamp that was read between them (multigrain timestamps)
	MappedStamps bool `json:"mapped_stamps"` // the first store to a clean mapped page moves the stamp
}

// examine finds out about the disk that holds dir, with a file that has no name; Inotify is left to the caller.
func examine(dir string) (Abilities, error) {
	var can Abilities
	fd, name, err := scratch(dir)
	if err != nil {
		return can, err
	}
	// The descriptor that can write is in the way of the lease: it goes first.
	path := "/proc/self/fd/" + strconv.Itoa(fd)
	ro, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if name != "" {
		os.Remove(name)
	}
	if err != nil {
		unix.Close(fd)
		return can, err
	}
	defer unix.Close(ro)
	can.FineStamps = fineStamps(fd)
	can.MappedStamps = mappedStamps(fd)
	unix.Close(fd)
	// The kernel may close a moment after close(2) returned to us.
	for range 100 {
		if can.Leases = lease(ro) == nobody; can.Leases {
			break
		}
		time.Sleep(100 * time.Microsecond)
	}
	return can, nil
}

// scratch opens a file that has no name, or, where that cannot be had, one whose name it returns.
func scratch(dir string) (fd int, name string, err error) {
	fd, err = unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return fd, "", nil
	}
	f, err := os.CreateTemp(dir, ".writers-*")
	if err != nil {
		return -1, "", err
	}
	defer f.Close()
	fd, err = unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	return fd, f.Name(), err
}

// fineStamps reports whether two changes were seen apart by less than the smallest tick (HZ=1000), and none that were not.
func fineStamps(fd int) bool {
	const tick = 900 * time.Microsecond
	fine := false
	var last Stamp
	for i := range 64 {
		if _, err := unix.Pwrite(fd, []byte{byte(i)}, 0); err != nil {
			return false
		}
		var st unix.Stat_t
		if err := fstat(fd, &st); err != nil {
			return false
		}
		s := StampOf(&st)
		if s == last {
			return false
		}
		fine = fine || i > 0 && s.Ctime-last.Ctime < sharefs.Time(tick)
		last = s
	}
	return fine
}

// mappedStamps reports whether a store through a mapping moves the stamp.
func mappedStamps(fd int) bool {
	if err := unix.Ftruncate(fd, 4096); err != nil {
		return false
	}
	// On a full disk the store would end in SIGBUS, for want of a block.
	if err := unix.Fallocate(fd, 0, 0, 4096); err != nil {
		return false
	}
	// Of a page that is clean: what fineStamps wrote is written back first.
	if err := unix.Fdatasync(fd); err != nil {
		return false
	}
	m, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return false
	}
	defer unix.Munmap(m)
	var before, after unix.Stat_t
	if fstat(fd, &before) != nil {
		return false
	}
	// A coarse clock must have ticked before the store for the stamp to tell.
	time.Sleep(stampGrain)
	m[0]++
	if fstat(fd, &after) != nil {
		return false
	}
	return StampOf(&before) != StampOf(&after)
}
