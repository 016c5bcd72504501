package versions

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// Making room takes room: what is removed or thinned out is written down first, and database and packs that are made shorter are copied in parts. So
// that a full disk can be left from inside, a part of it is kept back in the file reserve of the store, whose blocks are allocated.
//
//   - Where the disk refuses a change of the rows for want of room, a quarter of the reserve is given up and the change is made. Retention and
//     garbage collection are lent all of it when they begin on a disk that is as good as full.
//   - As long as a part of it is missing nobody gets a new name (KindNoSpace): what was given up is for making room. What is open for writing goes
//     past the daemon and may take it all the same, which is why it is given up by parts. To programs the disk is full meanwhile: what is
//     missing is not among what Statfs calls free.
//   - It is filled up again, within a second, as soon as the disk has the room. In the first minute that is a quarter of the reserve more: what was given up for a
//     write is not to be taken from that.
type reserve struct {
	t    *Tree
	want int64 // bytes; 0: there is none
	room func() int64

	spent   atomic.Bool // a part was given up
	refuses atomic.Bool // names, when spent: not while the tree is opened

	mu        sync.Mutex // guards what follows; nobody takes another lock while holding it
	file      *os.File   // nil: there never was one that was whole
	closed    bool
	held      int64     // bytes that are in the file
	borrowers int       // retention and garbage collections at work
	given     time.Time // when a part was given up for a write last

	wake chan struct{} // 1 deep: a part is missing
}

const (
	reserveFile = "reserve"
	// Of the disk a 32nd at most, but on a small one up to reserveLeast, and an eighth.
	reserveShare = 32
	reserveSmall = 8
	reserveLeast = 8 << 20

	reserveParts   = 4
	reserveMissing = time.Second      // how often it is tried to fill up what was given up
	reserveUnmade  = 10 * time.Second // or has not been made yet
	reserveLeft    = time.Minute      // how long the disk is left some room after a part was given up
)

// open looks at what the file holds. Most is how large the reserve may be, in bytes.
func (r *reserve) open(t *Tree, most int64) error {
	r.t, r.wake = t, make(chan struct{}, 1)
	r.room = r.available
	if most <= 0 || t.cfg.ReadOnly {
		return nil
	}
	s, err := statfs(t.cfg.Dir)
	if err != nil {
		return failed("ask for room", err)
	}
	disk := int64(s.Blocks) * s.Bsize
	want := min(most, max(disk/reserveShare, min(disk/reserveSmall, reserveLeast)))
	f, err := os.OpenFile(r.path(), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		r.want = want // nothing is missing of what never was: fill makes it
		return nil
	}
	if err != nil {
		return failed("open the reserve", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return failed("open the reserve", err)
	}
	r.file, r.want = f, want
	r.held = min(st.Size, st.Blocks*512)
	r.spent.Store(r.held < r.want)
	return nil
}

func (r *reserve) path() string { return filepath.Join(r.t.cfg.Dir, reserveFile) }

// available is room in earnest: what an ordinary user has of the disk, in bytes.
func (r *reserve) available() int64 {
	s, err := statfs(r.t.cfg.Dir)
	if err != nil {
		return 0
	}
	return int64(s.Bavail) * s.Bsize
}

// free is how much of the disk nobody uses, what is kept back of it included, in bytes.
func (r *reserve) free() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.room() + r.held
}

// run keeps the reserve filled until the tree is closed.
func (r *reserve) run() {
	if want, _ := r.stats(); want == 0 {
		return
	}
	for {
		for !r.fill() {
			wait := reserveMissing
			if !r.spent.Load() {
				wait = reserveUnmade
			}
			if !r.t.pause(wait, r.wake) {
				return
			}
		}
		select {
		case <-r.t.stop:
			return
		case <-r.wake:
		}
	}
}

// fill makes the reserve whole if the disk has the room, and reports whether it is.
func (r *reserve) fill() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	missing := r.want - r.held
	needs := missing
	if time.Since(r.given) < reserveLeft {
		needs += r.want / reserveParts
	}
	switch {
	case r.closed || missing <= 0:
		if !r.closed && missing < 0 && r.file.Truncate(r.want) == nil {
			r.held = r.want
		}
		r.spent.Store(false)
		return true
	case r.borrowers > 0:
		return false
	case !r.spent.Load():
		needs = 2 * missing // whoever has little room is not to lose all of it to the first reserve
	}
	if r.room() < needs {
		return false
	}
	f := r.file
	if f == nil {
		var err error
		if f, err = os.OpenFile(r.path(), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			return false
		}
	}
	_, err := ignoringEINTR(func() (int, error) { return 0, unix.Fallocate(int(f.Fd()), 0, 0, r.want) })
	if err != nil && r.file == nil {
		f.Close()
		_ = os.Remove(r.path()) // else the next start would take it for one that was given up
	}
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		r.want, r.held = 0, 0 // such a disk cannot keep room back
		r.spent.Store(false)
		return true
	case err != nil:
		if r.file != nil {
			_ = r.file.Truncate(r.held)
		}
		return false
	}
	r.file = f
	if r.spent.Swap(false) {
		r.t.log.Info("the disk has room again: the reserve is whole", "bytes", r.want)
	}
	r.held = r.want
	return true
}

// give gives a part of the reserve up because the disk is full, and reports whether there was any left.
func (r *reserve) give() bool {
	r.mu.Lock()
	r.given = time.Now()
	r.mu.Unlock()
	return r.giveUp(reserveParts)
}

// giveUp gives up one of so many parts of the whole.
func (r *reserve) giveUp(parts int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil || r.want == 0 || r.held == 0 {
		return false
	}
	left := max(0, r.held-(r.want+parts-1)/parts)
	if err := r.file.Truncate(left); err != nil {
		r.t.log.Warn("the reserve cannot be given up", "err", err)
		return false
	}
	r.held = left
	if !r.spent.Swap(true) {
		r.t.log.Warn("the disk is full: what was kept back of it is used to make room, and nobody gets a new name until there is some", "bytes", r.want)
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
	return true
}

// lend gives all of the reserve to whoever makes room, if the disk is low on it, until back is called.
func (r *reserve) lend() (back func(), low bool) {
	r.mu.Lock()
	r.borrowers++
	low = r.want > 0 && r.room() < r.want
	r.mu.Unlock()
	if low {
		r.giveUp(1)
	}
	back = func() {
		r.mu.Lock()
		r.borrowers--
		r.mu.Unlock()
		if r.spent.Load() {
			r.fill()
		}
	}
	return back, low
}

// refuse is the error of whoever wants a new name while the reserve is not whole; nil: it may be had.
func (r *reserve) refuse(op string) error {
	if !r.spent.Load() || !r.refuses.Load() || r.fill() {
		return nil
	}
	want, _ := r.stats()
	return &sharefs.Error{Op: op, Kind: sharefs.KindNoSpace,
		Detail: fmt.Sprintf("the disk below the store is full, and the %d KiB kept back of it are for making room", want>>10)}
}

// Reserve tells how much of the disk is kept back for making room on a full one, and how much of that is missing because the disk is full, in bytes.
func (t *Tree) Reserve() (want, missing uint64) { return t.reserve.stats() }

func (r *reserve) stats() (want, missing uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.spent.Load() {
		missing = uint64(max(0, r.want-r.held))
	}
	return uint64(r.want), missing
}

func (r *reserve) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.file != nil {
		r.file.Close()
		r.file = nil
	}
}
