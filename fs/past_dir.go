package fs

import (
	"math"
	"slices"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions"
	"sharefs/versions/when"
)

// DIR@@ lists the moments of a directory: its tags and branches by name, and when it last changed. DIR@@/TIME and DIR@@TIME are the directory that bore the
// name at that time or, where none did, the one that bears it now or bore it last, as it was then.

// lookupTime finds .share/at/TIME.
func (e *edge) lookupTime(h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	v, seconds, err := e.viewOf(sharefs.RootIno, name)
	if err != nil {
		return noTime(err)
	}
	return e.enterView(h, v, sharefs.RootIno, branch(atDir, 0, name), seconds, out)
}

// noTime is the status of a name that should stand for a moment.
func noTime(err error) fuse.Status {
	if sharefs.KindOf(err) == sharefs.KindInvalid {
		return fuse.ENOENT
	}
	return status(err)
}

// bearer is what bears a name in a directory, or bore it last.
type bearer struct {
	ino sharefs.Ino
	typ uint32 // ModeType bits; 0: nothing ever did
}

// bearerOf finds what bears a name. "." and ".." stand for the directory itself and the one that it lies in, so that .@@TIME is the working directory.
func (e *edge) bearerOf(parent sharefs.Ino, name string) (bearer, error) {
	switch name {
	case ".":
		return bearer{parent, sharefs.ModeDir}, nil
	case "..":
		up, err := e.tree.Parent(parent)
		return bearer{up, sharefs.ModeDir}, err
	}
	if a, err := e.tree.Lookup(parent, name); err == nil {
		e.tree.Forget(a.Ino, 1)
		return bearer{a.Ino, a.Mode & sharefs.ModeType}, nil
	}
	ever, err := e.tree.NameEver(parent, name)
	if err != nil && missing(err) {
		err = nil
	}
	return bearer{ever.Ino, ever.Type}, err
}

// dirAt finds the directory that bore a name at a moment.
func dirAt(v *versions.View, parent sharefs.Ino, name string, now bearer) (sharefs.Ino, error) {
	if name != "." && name != ".." {
		a, err := v.Lookup(parent, name)
		switch k := sharefs.KindOf(err); {
		case err == nil && a.IsDir():
			return a.Ino, nil
		case err != nil && k != sharefs.KindNotExist && k != sharefs.KindStale && k != sharefs.KindNotDir:
			return 0, err
		}
	}
	if now.typ != sharefs.ModeDir {
		return 0, sharefs.KindNotExist
	}
	return now.ino, nil
}

// lookupDirAt finds DIR@@TIME.
func (e *edge) lookupDirAt(h *fuse.InHeader, parent sharefs.Ino, name, time string, now bearer, num uint64, out *fuse.EntryOut) fuse.Status {
	of := now.ino
	if now.typ != sharefs.ModeDir {
		of = sharefs.RootIno // whose names of moments go for all
	}
	v, _, err := e.viewOf(of, time)
	if err != nil {
		return noTime(err)
	}
	ino, err := dirAt(v, parent, name, now)
	if err != nil {
		return status(err)
	}
	return e.enterView(h, v, ino, num, 0, out)
}

// timesKey is the node of DIR@@. It keeps the name, for another directory may have had it.
func timesKey(parent sharefs.Ino, name string, dir sharefs.Ino) nodeKey {
	return nodeKey{kind: pastTimes, ino: dir, num: uint64(parent), text: name}
}

// lookupInTimes finds a time in DIR@@.
func (e *edge) lookupInTimes(h *fuse.InHeader, k nodeKey, time string, out *fuse.EntryOut) fuse.Status {
	if time == metaName {
		return e.enterFor(nodeKey{kind: pastMeta, ino: k.ino}, cacheSeconds, out)
	}
	return e.lookupDirAt(h, sharefs.Ino(k.num), k.text, time, bearer{k.ino, sharefs.ModeDir}, branch(pastTimes, sharefs.Ino(k.number()), time), out)
}

// recentPoints is how many change points a listing of times shows.
const recentPoints = 100

// offPoints is where change points stand in a listing of times, in order of their milliseconds, behind the names, which are in order of when they were set. So
// each is found again at its place whatever comes and goes.
const offPoints = 1 << 60

// moment1 is a name in a listing of times.
type moment1 struct {
	name string
	at   sharefs.HLC
	off  uint64
}

// momentsOf lists the names of moments of a directory, and as times its last change points.
func (e *edge) momentsOf(dir sharefs.Ino) ([]moment1, error) {
	named, err := e.tree.Tags(dir)
	if err != nil {
		return nil, err
	}
	branches, err := e.tree.Branches(dir)
	if err != nil {
		return nil, err
	}
	var list []moment1
	for _, m := range append(named, branches...) {
		list = append(list, moment1{m.Name, m.At, offDotDot + 1 + uint64(m.Created)%offPoints})
	}
	each := func(fn func(sharefs.HLC) bool) error { return e.tree.ChangePoints(dir, fn) }
	if dir == sharefs.RootIno {
		each = e.tree.Instants
	}
	last, points := sharefs.HLC(math.MaxUint64), 0
	err = each(func(at sharefs.HLC) bool {
		if at>>16 == last>>16 {
			return true // a time to the millisecond means the last state within it
		}
		last = at
		list = append(list, moment1{when.Format(at), at | 0xffff, offPoints + uint64(at>>16)})
		points++
		return points < recentPoints
	})
	slices.SortFunc(list, func(a, b moment1) int {
		if a.off < b.off {
			return -1
		}
		return 1
	})
	return list, err
}

// listTimes lists .share/at or DIR@@.
func (e *edge) listTimes(k nodeKey, add func(name string, off uint64, k nodeKey) bool) fuse.Status {
	list, err := e.momentsOf(k.ino)
	if err != nil {
		return status(err)
	}
	for _, m := range list {
		// Which number it has depends on who looks it up; this one is only to tell it from others.
		if !add(m.name, m.off, nodeKey{kind: pastTimes, ino: k.ino, num: k.num, text: m.name, at: m.at}) {
			break
		}
	}
	return fuse.OK
}

// attrDir completes the attributes of DIR@@ and of a directory of .share/versions: whoever may list the directory may list its past; of one that is no more
// only its owner.
func (e *edge) attrDir(k nodeKey, a *sharefs.Attr) error {
	dir, gone, err := e.tree.AttrEver(k.ino)
	if err != nil {
		return err
	}
	if gone != 0 {
		dir.Mode &= 0o700
	}
	a.Mode, a.Nlink, a.UID, a.GID = unix.S_IFDIR|dir.Mode&0o555, 2, dir.UID, dir.GID
	return nil
}
