package fs

import (
	"math"
	"strconv"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"sharefs"
)

// stale answers for a virtual node that the kernel should have forgotten.
const stale = fuse.Status(unix.ESTALE)

// enter answers a lookup with a virtual node. What hangs on the name of a file is looked up anew each time, for the
// name may have gone to another file meanwhile.
func (e *edge) enter(k nodeKey, out *fuse.EntryOut) fuse.Status {
	return e.enterFor(k, 0, out)
}

func (e *edge) enterFor(k nodeKey, seconds uint64, out *fuse.EntryOut) fuse.Status {
	a, valid, err := e.attrVirtual(k)
	if err != nil {
		return status(err)
	}
	fill(&out.Attr, &a)
	out.NodeId = e.nodes.enter(k)
	out.Ino = out.NodeId
	out.EntryValid, out.AttrValid = seconds, valid
	return fuse.OK
}

// hierarchies are the directories of .share, in the order of its listing.
var hierarchies = [...]struct {
	name string
	key  nodeKey
}{
	{atName, nodeKey{kind: atDir}},
	{ctlName, nodeKey{kind: ctlDir}},
	{opsName, nodeKey{kind: opsDir}},
	{trashName, nodeKey{kind: trashDir}},
	{everName, nodeKey{kind: everDir, ino: sharefs.RootIno}},
}

// hierarchies calls fn for the directories of .share, with their places in its listing, until it returns false.
func (e *edge) hierarchies(fn func(place uint64, name string, k nodeKey) bool) {
	for i := range hierarchies {
		if !fn(uint64(i), hierarchies[i].name, hierarchies[i].key) {
			return
		}
	}
	for i := range e.others {
		o := &e.others[i]
		if o.Shown() && !fn(uint64(len(hierarchies)+i), o.Name, nodeKey{kind: otherNode, ino: sharefs.Ino(i)}) {
			return
		}
	}
}

// hierarchy finds a directory of .share.
func (e *edge) hierarchy(name string) (found nodeKey, ok bool) {
	e.hierarchies(func(_ uint64, n string, k nodeKey) bool {
		if ok = n == name; ok {
			found = k
		}
		return !ok
	})
	return found, ok
}

// atRoot finds a hierarchy that is shown in the root as well (view=all). An ordinary name wins.
func (e *edge) atRoot(parent uint64, name string) (nodeKey, bool) {
	if !e.all || parent != uint64(sharefs.RootIno) {
		return nodeKey{}, false
	}
	k, ok := e.hierarchy(name)
	return k, ok && !e.bears(sharefs.RootIno, name)
}

// bears reports whether something bears a name in a directory of the live tree.
func (e *edge) bears(dir sharefs.Ino, name string) bool {
	a, err := e.tree.Lookup(dir, name)
	if err != nil {
		return false
	}
	e.tree.Forget(a.Ino, 1)
	return true
}

// listHierarchies lists the hierarchies that are shown in the root as well, behind all cookies of the tree.
func (e *edge) listHierarchies(in *fuse.ReadIn, out *fuse.DirEntryList, plus bool) {
	first := math.MaxInt64 - uint64(len(hierarchies)+len(e.others))
	e.hierarchies(func(place uint64, name string, k nodeKey) bool {
		off := first + place
		return off <= in.Offset || e.bears(sharefs.RootIno, name) || e.list1(name, off, k, out, plus)
	})
}

// list1 lists a virtual node without its attributes. It reports false where the buffer is full.
func (e *edge) list1(name string, off uint64, k nodeKey, out *fuse.DirEntryList, plus bool) bool {
	return addEntry(out, plus, fuse.DirEntry{Name: name, Ino: e.nodes.find(k), Mode: k.typ(), Off: off})
}

// lookupVirtual finds a name in a virtual directory. The kernel asks for "." and ".." too when a file handle is opened.
func (e *edge) lookupVirtual(h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	k, ok := e.nodes.get(h.NodeId)
	if !ok {
		return stale
	}
	if name == "." {
		return e.enter(k, out)
	}
	switch k.kind {
	case shareDir:
		k, ok := e.hierarchy(name)
		if ok && k.kind == ctlDir {
			return e.enterFor(k, cacheSeconds, out)
		} else if ok { // what it lists changes
			return e.enter(k, out)
		}
	case ctlDir, ctlGroup, ctlItem:
		return e.lookupCtl(k, name, out)
	case pastDir:
		return e.lookupInPast(k.ino, name, out)
	case atDir:
		return e.lookupTime(h, name, out)
	case pastTimes:
		return e.lookupInTimes(h, k, name, out)
	case atNode:
		return e.lookupAt(k, name, out)
	case everDir:
		return e.lookupEver(k.ino, name, out)
	case opsDir:
		return e.lookupOps(h, name, out)
	case trashDir:
		return e.lookupTrash(h, name, out)
	case otherNode:
		return e.lookupOther(k, name, out)
	default:
		return fuse.ENOTDIR
	}
	return fuse.ENOENT
}

// attrVirtual returns the attributes of a virtual node and for how many seconds they hold.
func (e *edge) attrVirtual(k nodeKey) (sharefs.Attr, uint64, error) {
	now := sharefs.Time(time.Now().UnixNano())
	a := sharefs.Attr{
		Ino: sharefs.Ino(e.nodes.find(k)), Nlink: 1, UID: e.owner.Uid, GID: e.owner.Gid,
		Atime: now, Mtime: now, Ctime: now, Btime: now,
	}
	switch k.kind {
	case shareDir, ctlDir:
		a.Mode, a.Nlink = unix.S_IFDIR|0o555, 2
		if k.kind == shareDir && len(e.others) > 0 { // which of them are there changes
			return a, changingSeconds, nil
		}
		return a, cacheSeconds, nil
	case atDir:
		a.Mode, a.Nlink = unix.S_IFDIR|0o555, 2
		return a, changingSeconds, nil
	case opsDir, opsLog, opsLogJSON, opsBegin, opsFile:
		attrOps(k, &a)
		return a, changingSeconds, nil
	case trashDir:
		a.Mode, a.Nlink = unix.S_IFDIR|sharefs.ModeSticky|0o777, 2
		return a, changingSeconds, nil
	case atNode:
		valid, err := e.attrAt(k, &a)
		return a, valid, err
	case everLink:
		id := a.Ino
		a, _, err := e.tree.AttrEver(k.ino)
		a.Ino = id
		return a, changingSeconds, err
	case pastTimes, everDir:
		err := e.attrDir(k, &a)
		return a, changingSeconds, err
	case ctlFile:
		a.Mode = unix.S_IFREG | e.ctl[k.num].Mode&0o777
		return a, cacheSeconds, nil
	case ctlGroup, ctlItem:
		a.Mode, a.Nlink = unix.S_IFDIR|0o500, 2
		return a, cacheSeconds, nil
	case ctlItemFile:
		a.Mode = unix.S_IFREG | e.ctlEntry(k).Mode&0o777
		return a, cacheSeconds, nil
	case otherNode, sideNode:
		valid, err := e.attrOther(k, &a)
		return a, valid, err
	case pastLink:
		link, err := e.tree.Getattr(k.ino)
		if err != nil {
			return a, 0, err
		}
		target, err := e.linkTarget(k)
		a.Mode, a.Size, a.UID, a.GID = link.Mode, uint64(len(target)), link.UID, link.GID
		return a, changingSeconds, err
	}
	err := e.attrPast(k, &a)
	return a, changingSeconds, err
}

func (e *edge) getattrVirtual(id uint64, out *fuse.AttrOut) fuse.Status {
	k, ok := e.nodes.get(id)
	if !ok {
		return stale
	}
	a, valid, err := e.attrVirtual(k)
	if err != nil {
		return status(err)
	}
	fill(&out.Attr, &a)
	out.AttrValid = valid
	return fuse.OK
}

// setattrVirtual lets a shell truncate a control file that it is about to write to, and nothing else.
func (e *edge) setattrVirtual(in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	k, ok := e.nodes.get(in.NodeId)
	if !ok {
		return stale
	}
	if k.kind != ctlFile && k.kind != ctlItemFile && k.kind != opsBegin || in.Valid&^(fuse.FATTR_SIZE|fuse.FATTR_FH|fuse.FATTR_LOCKOWNER|fuse.FATTR_KILL_SUIDGID) != 0 {
		return frozen
	}
	return e.getattrVirtual(in.NodeId, out)
}

// openVirtual opens a virtual file. A version is immutable, so the kernel keeps its pages; what is generated is fixed
// at open and read past the page cache, whose size it could not know.
func (e *edge) openVirtual(in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	k, ok := e.nodes.get(in.NodeId)
	if !ok {
		return stale
	}
	reads := in.Flags&unix.O_ACCMODE != unix.O_WRONLY
	writes := in.Flags&unix.O_ACCMODE != unix.O_RDONLY || in.Flags&unix.O_TRUNC != 0
	o := &open{}
	out.OpenFlags = fuse.FOPEN_DIRECT_IO | fuse.FOPEN_NOFLUSH
	if k.kind == ctlFile {
		f := &e.ctl[k.num]
		if reads && f.Read == nil || writes && f.Write == nil {
			return fuse.EACCES
		}
		switch {
		case reads && f.Own != nil && e.seesAll(&in.InHeader):
			o.text = f.Own()
		case reads:
			o.text = f.Read()
		}
		o.ctl = f
		return e.number(o, out)
	}
	if k.kind == ctlItemFile {
		o, err := e.openCtlEntry(k, reads, writes)
		if err != nil {
			return status(err)
		}
		return e.number(o, out)
	}
	if k.isOps() && k.kind != opsDir {
		o, err := e.openOps(k, in, reads, writes)
		if err != nil {
			return status(err)
		}
		return e.number(o, out)
	}
	if writes {
		return frozen
	}
	var err error
	switch k.kind {
	case pastFile:
		o.past, err = e.openVersion(k)
		out.OpenFlags = fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH
	case atNode:
		o.past, err = e.openAt(k)
		out.OpenFlags = fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH
	case otherNode, sideNode:
		o.past, err = e.openOther(k)
		out.OpenFlags = fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH
	case pastLog:
		o.text, err = e.pastLog(k.ino)
	case pastMeta:
		o.text, err = e.pastMeta(k.ino)
	default:
		return fuse.EISDIR
	}
	if err != nil {
		return status(err)
	}
	return e.number(o, out)
}

// listVirtual lists a virtual directory. But for views of the past it hands out no attributes: what is looked at is looked up.
func (e *edge) listVirtual(in *fuse.ReadIn, out *fuse.DirEntryList, plus bool) fuse.Status {
	k, ok := e.nodes.get(in.NodeId)
	if !ok {
		return stale
	}
	if !k.isDir() && k.kind != atNode && k.kind != otherNode {
		return fuse.ENOTDIR
	}
	// The parent of FILE@@ depends on the name it was reached by; the kernel knows it.
	if full, _ := dots(in, out, plus, func() (uint64, error) { return in.NodeId, nil }); full {
		return fuse.OK
	}
	add := func(name string, off uint64, k nodeKey) bool {
		return off <= in.Offset || e.list1(name, off, k, out, plus)
	}
	const first = offDotDot + 1
	switch k.kind {
	case shareDir:
		e.hierarchies(func(place uint64, name string, k nodeKey) bool { return add(name, first+place, k) })
	case ctlDir, ctlGroup, ctlItem:
		e.listCtl(k, add)
	case pastDir:
		return e.listPast(k, add)
	case atDir:
		return e.listTimes(nodeKey{kind: atDir, ino: sharefs.RootIno}, add)
	case pastTimes:
		return e.listTimes(k, add)
	case everDir:
		return e.listEver(k, in, add)
	case opsDir:
		return e.listOps(&in.InHeader, add)
	case trashDir:
		return e.listTrash(in, out, plus)
	case atNode:
		return e.listAt(k, in, out, plus, plus)
	case otherNode:
		return e.listOther(k, in, out, plus)
	}
	return fuse.OK
}

// listPast lists FILE@@.
func (e *edge) listPast(k nodeKey, add func(name string, off uint64, k nodeKey) bool) fuse.Status {
	all, err := e.tree.Versions(k.ino)
	if err != nil {
		return status(err)
	}
	const first = offDotDot + 1
	if !add(logName, first, nodeKey{kind: pastLog, ino: k.ino}) || !add(metaName, first+1, nodeKey{kind: pastMeta, ino: k.ino}) {
		return fuse.OK
	}
	for i := range all {
		n := all[i].Number
		if !add(strconv.FormatUint(n, 10), first+1+n, versionKey(k.ino, &all[i])) {
			break
		}
	}
	return fuse.OK
}
