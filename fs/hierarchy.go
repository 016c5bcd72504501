package fs

import (
	"strings"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions"
)

// Hierarchy is a directory of .share with all that is below it, read-only, that somebody else than the tree fills: what peers say beside the live tree. What is in it is known by
// paths from its top, without a slash before them; "" is the top. Its functions may be called from several goroutines at once. An error of KindNotExist says that
// there is nothing of that path.
type Hierarchy struct {
	Name  string
	Shown func() bool // whether it is there at present
	Find  func(path string) (Entry, error)
	List  func(path string) ([]Entry, error) // of a directory, each name once; of Attr the type is enough
}

// Entry is what has a name in a [Hierarchy].
type Entry struct {
	Name string // the last part of its path
	// Attr has mode, owner, size and times; those of a directory are always now, for what it lists comes and goes. Everything else is filled in.
	Attr   sharefs.Attr
	Target string // of a symbolic link
	ID     uint64 // tells apart what one path holds one after the other: pages of the same are kept
	// Open opens a regular file for reading.
	Open func() (versions.VersionReader, error)

	// Past and Number, if these are set, say that it is a version in the history of a file here, and all else is as with that.
	Past   sharefs.Ino
	Number uint64
}

// enterOther answers a lookup with an entry, which is looked up anew each time.
func (e *edge) enterOther(k nodeKey, o *Entry, out *fuse.EntryOut) fuse.Status {
	if o.Number > 0 {
		return e.enterVersion(o.Past, o.Number, 0, out)
	}
	k.num = o.ID
	out.NodeId = e.nodes.enter(k)
	a := e.fillOther(out.NodeId, o)
	fill(&out.Attr, &a)
	out.EntryValid, out.AttrValid = 0, changingSeconds
	return fuse.OK
}

// fillOther completes the attributes of an entry.
func (e *edge) fillOther(id uint64, o *Entry) sharefs.Attr {
	a := o.Attr
	a.Ino, a.Nlink, a.Blocks = sharefs.Ino(id), 1, (a.Size+511)/512
	switch a.Mode & sharefs.ModeType {
	case sharefs.ModeDir:
		a.Nlink = 2
		a.Atime = sharefs.Time(time.Now().UnixNano())
		a.Mtime, a.Ctime, a.Btime = a.Atime, a.Atime, a.Atime
	case sharefs.ModeSymlink:
		a.Size, a.Blocks = uint64(len(o.Target)), 0
	}
	return a
}

// lookupOther finds a name in a directory of a hierarchy.
func (e *edge) lookupOther(k nodeKey, name string, out *fuse.EntryOut) fuse.Status {
	k.text = strings.TrimPrefix(k.text+"/"+name, "/")
	o, err := e.others[k.ino].Find(k.text)
	if err != nil {
		return status(err)
	}
	return e.enterOther(k, &o, out)
}

// lookupSide finds FILE@@SUFFIX where the past of the file knows no such suffix. What stands for a number or a time is that alone, whether the file had a version then or not.
func (e *edge) lookupSide(parent sharefs.Ino, file, suffix string, out *fuse.EntryOut) fuse.Status {
	if _, number := versionNumber(suffix); e.side == nil || e.isSuffix(suffix, number) {
		return fuse.ENOENT
	}
	o, err := e.side(parent, file, suffix)
	if err != nil {
		return status(err)
	}
	return e.enterOther(nodeKey{kind: sideNode, ino: parent, text: file + pastMark + suffix}, &o, out)
}

// other returns what a node stands for. KindStale: its path leads to something else by now.
func (e *edge) other(k nodeKey) (o Entry, err error) {
	if k.kind == sideNode {
		file, suffix, _ := splitPast(k.text)
		o, err = e.side(k.ino, file, suffix)
	} else {
		o, err = e.others[k.ino].Find(k.text)
	}
	if err != nil && missing(err) || err == nil && (o.Number > 0 || o.ID != k.num) {
		err = sharefs.KindStale
	}
	return o, err
}

// attrOther returns the attributes of a node, and for how many seconds they hold.
func (e *edge) attrOther(k nodeKey, a *sharefs.Attr) (uint64, error) {
	o, err := e.other(k)
	if err == nil {
		*a = e.fillOther(uint64(a.Ino), &o)
	}
	return changingSeconds, err
}

// openOther opens a regular file.
func (e *edge) openOther(k nodeKey) (versions.VersionReader, error) {
	o, err := e.other(k)
	switch {
	case err != nil:
		return nil, err
	case o.Attr.Mode&sharefs.ModeType == sharefs.ModeDir:
		return nil, sharefs.KindIsDir
	case o.Open == nil:
		return nil, unix.ELOOP // a symbolic link that is not followed
	}
	return o.Open()
}

// listOther lists a directory of a hierarchy.
func (e *edge) listOther(k nodeKey, in *fuse.ReadIn, out *fuse.DirEntryList, plus bool) fuse.Status {
	return e.listFound(in, out, plus, k, func() ([]listed, error) {
		all, err := e.others[k.ino].List(k.text)
		list := make([]listed, 0, len(all))
		for i := range all {
			o := &all[i]
			child := nodeKey{kind: otherNode, ino: k.ino, num: o.ID, text: strings.TrimPrefix(k.text+"/"+o.Name, "/")}
			list = append(list, listed{o.Name, e.nodes.find(child), o.Attr.Mode & sharefs.ModeType})
		}
		return list, err
	})
}
