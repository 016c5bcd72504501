package versions

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"sharefs"
	"sharefs/versions/pack"
)

// Here is a file some of whose content is here.
type Here struct {
	Ino   sharefs.Ino
	Bytes uint64       // that its backing file takes on the disk
	Used  sharefs.Time // when it was opened or closed last, as far as that is known
	// Kept: its newest version is in packs as well; otherwise it is away, and what is here is a cache.
	Kept bool
	Part bool // not all of it is here, or it is not known that all is
	// Rests: nobody has it open or may write to it, so that it could be freed.
	Rests bool
	Size  uint64 // as stat(2) tells
}

// EachHere calls fn for each file of the tree that takes room, or is absent, until it returns false. It looks at every backing file, some 1 µs for each.
func (t *Tree) EachHere(fn func(Here) bool) error {
	err := t.live.each(func(ino sharefs.Ino) error {
		st, err := t.live.stat(ino)
		if err != nil || st.Size == 0 && st.Blocks == 0 {
			return nil // removed meanwhile, or empty
		}
		r, err := t.row(ino)
		if err != nil || !r.isRegular() || r.nlink == 0 {
			return nil
		}
		if st.Blocks == 0 && !r.isAbsent() {
			return nil
		}
		h := Here{Ino: ino, Bytes: uint64(st.Blocks) * 512, Part: r.isAbsent(), Size: r.size, Rests: t.rests(ino)}
		atime, mtime, _ := timesOf(&st)
		h.Used = max(atime, r.atime, min(mtime, r.mtime))
		if used, ok := t.opens.get(ino); ok {
			h.Used = max(h.Used, used)
		}
		if v, err := newestVersion(t.db, ino, noLimit); err == nil && v != nil {
			h.Kept = !v.away
		}
		if !fn(h) {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return err
}

// rests reports whether nobody has a file open, as far as handles tell, and it has come to rest.
func (t *Tree) rests(ino sharefs.Ino) bool {
	if t.hot(ino) {
		return false
	}
	f := t.files.find(ino)
	if f == nil {
		return true
	}
	defer t.files.unpin(f)
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.handles+f.entering == 0
}

// Activity is a number that is another one whenever a file was changed, or opened or read from elsewhere.
func (t *Tree) Activity() uint64 { return t.lastSeq.Load() + t.opens.n.Load() }

var errEnough = errors.New("enough")

// PackBytes returns how many bytes packs take on the disk, without those that a bucket alone has.
func (t *Tree) PackBytes() (n uint64, err error) {
	err = t.past.packs.Each(func(i pack.Info) bool {
		if !i.Remote {
			n += uint64(i.Held)
		}
		return true
	})
	return n, failed("look at the packs", err)
}

// opens remembers when files were opened or closed last, of those that were since the tree was opened.
type opens struct {
	n  atomic.Uint64 // how often
	mu sync.Mutex    // guards at; the last lock to be taken
	at map[sharefs.Ino]sharefs.Time
}

// mostOpens bounds what is remembered, 32 MB or so; beyond it all is forgotten, and what backing files tell counts.
const mostOpens = 1 << 20

func (o *opens) note(ino sharefs.Ino) {
	o.n.Add(1)
	now := sharefs.Time(time.Now().UnixNano())
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.at == nil || len(o.at) >= mostOpens {
		o.at = map[sharefs.Ino]sharefs.Time{}
	}
	o.at[ino] = now
}

func (o *opens) get(ino sharefs.Ino) (sharefs.Time, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	at, ok := o.at[ino]
	return at, ok
}

// Sole returns the content of the newest version of a file that this host keeps, so that it would have to be promised by others before it is freed; nil: it is away already, or there is none.
func (t *Tree) Sole(ino sharefs.Ino) (*Content, error) {
	v, err := newestVersion(t.db, ino, noLimit)
	if err != nil || v == nil || v.away || v.place != placeKept || v.damaged || v.timed {
		return nil, err
	}
	return t.contentOf(v)
}

// Presence is how much of a file is here.
type Presence struct {
	Size   uint64 // bytes, as stat(2) tells
	Here   uint64 // bytes that its backing file takes on the disk
	Absent bool   // not all of it is here, or it is not known that all is
	Pinned bool
}

// Presence returns how much of a regular file is here. It asks nobody.
func (t *Tree) Presence(ino sharefs.Ino) (Presence, error) {
	r, err := t.row(ino)
	if err != nil {
		return Presence{}, err
	}
	if !r.isRegular() {
		return Presence{}, fail("look where a file is", sharefs.KindInvalid)
	}
	a, err := t.Getattr(ino)
	if err != nil {
		return Presence{}, err
	}
	return Presence{Size: a.Size, Here: a.Blocks * 512, Absent: r.isAbsent(), Pinned: t.Pinned(ino)}, nil
}

// SetAdmit says who decides whether there is room to keep what comes from elsewhere, which may wait for some; nil: there is. What is said to be kept is so whatever that says.
func (t *Tree) SetAdmit(admit func(bytes uint64, keep bool) bool) {
	if admit == nil {
		t.admit.Store(nil)
		return
	}
	t.admit.Store(&admit)
}

// SetFilled says who is told of absent files that became full, which must not wait for anything; nil: nobody.
func (t *Tree) SetFilled(filled func(ino sharefs.Ino)) {
	if filled == nil {
		t.filled.Store(nil)
		return
	}
	t.filled.Store(&filled)
}
