package writers

import (
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// Stamp tells states of a file's content apart. The zero Stamp is that of no state.
type Stamp struct {
	Size  int64 // bytes
	Mtime sharefs.Time
	Ctime sharefs.Time
}

// StampOf reads the stamp out of what fstat(2) says of a backing file.
func StampOf(st *unix.Stat_t) Stamp {
	return Stamp{
		Size:  st.Size,
		Mtime: sharefs.MakeTime(st.Mtim.Sec, uint32(st.Mtim.Nsec)),
		Ctime: sharefs.MakeTime(st.Ctim.Sec, uint32(st.Ctim.Nsec)),
	}
}

// stampGrain bounds how long two changes may share a timestamp on a kernel without multigrain timestamps (before Linux 6.13):
// one tick, at most 10 ms with HZ=100, and as much again for a clock that is being slewed.
const stampGrain = 20 * time.Millisecond

// moved reports whether the content may differ between base, taken at the instant taken, and now. With coarse timestamps a base whose
// last change was no older than the grain proves nothing (the "racily clean" entries of git's index).
func moved(base, now Stamp, taken time.Time, coarse bool) bool {
	if base != now || base == (Stamp{}) {
		return true
	}
	return coarse && taken.UnixNano()-int64(base.Ctime) < int64(stampGrain)
}
