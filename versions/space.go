package versions

import (
	"errors"
	"sync"
	"time"

	"sharefs"
	"sharefs/versions/pack"
)

// Here is a file some of whose content is here.
type Here struct {
	Ino   sharefs.Ino
	Bytes uint64       // that its backing file takes on the disk
	Used  sharefs.Time // when it was opened last, as far as that is known
	// Kept: its newest version is in packs as well; otherwise it is away, and what is here is a cache.
	Kept bool
	Part bool // not all of it is here, or it is not known that all is
}

// EachHere calls fn for each file of the tree that takes room, until it returns false. It looks at every backing file, some 1 µs for each.
func (t *Tree) EachHere(fn func(Here) bool) error {
	err := t.live.each(func(ino sharefs.Ino) error {
		st, err := t.live.stat(ino)
		if err != nil || st.Blocks == 0 {
			return nil // removed meanwhile
		}
		r, err := t.row(ino)
		if err != nil || !r.isRegular() || r.nlink == 0 {
			return nil
		}
		h := Here{Ino: ino, Bytes: uint64(st.Blocks) * 512, Part: r.isAbsent()}
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

// opens remembers when files were opened last, of those that were since the tree was opened.
type opens struct {
	mu sync.Mutex // guards at; the last lock to be taken
	at map[sharefs.Ino]sharefs.Time
}

// mostOpens bounds what is remembered, 32 MB or so; beyond it all is forgotten, and what backing files tell counts.
const mostOpens = 1 << 20

func (o *opens) note(ino sharefs.Ino) {
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
	return Presence{Size: a.Size, Here: a.Blocks * 512, Absent: r.isAbsent(), Pinned: t.pinned(r)}, nil
}

// SetAdmit says who decides whether there is room to keep what is read from elsewhere; nil: there is.
func (t *Tree) SetAdmit(admit func(bytes uint64) bool) {
	if admit == nil {
		t.admit.Store(nil)
		return
	}
	t.admit.Store(&admit)
}

// XattrPin is the extended attribute by which all of a file is to be here always. Its value is PinHere. What is made in a directory that has it gets it too.
const XattrPin = "user.sharefs.pin"

// PinHere is the only value of XattrPin.
const PinHere = "here"

// CheckPin returns what is wrong with a value of XattrPin, an error of KindInvalid.
func CheckPin(value []byte) error {
	if string(value) == PinHere {
		return nil
	}
	return &sharefs.Error{Op: "set " + XattrPin, Kind: sharefs.KindInvalid, Detail: "the value is \"" + PinHere + "\"; remove the attribute to have the file be freed when room is wanted"}
}

// pinned reports whether an inode has XattrPin.
func (t *Tree) pinned(r *row) bool {
	if !t.tracks.Load() || r.xattrs == 0 {
		return false
	}
	_, err := getXattr(t.db, r, XattrPin)
	return err == nil
}

// Pinned reports whether an inode has XattrPin.
func (t *Tree) Pinned(ino sharefs.Ino) bool {
	r, err := t.row(ino)
	return err == nil && t.pinned(r)
}
