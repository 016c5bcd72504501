package fs

import (
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

// lookupVirtual finds a name in a virtual directory. The kernel asks for "." and ".." too when a file handle is opened.
func (e *edge) lookupVirtual(id uint64, name string, out *fuse.EntryOut) fuse.Status {
	k, ok := e.nodes.get(id)
	if !ok {
		return stale
	}
	if name == "." {
		return e.enter(k, out)
	}
	switch k.kind {
	case shareDir:
		if name == ctlName {
			return e.enterFor(nodeKey{kind: ctlDir}, cacheSeconds, out)
		}
	case ctlDir:
		for i := range e.ctl {
			if e.ctl[i].Name == name {
				return e.enterFor(nodeKey{kind: ctlFile, num: uint64(i)}, cacheSeconds, out)
			}
		}
	case pastDir:
		return e.lookupInPast(k.ino, name, out)
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
		return a, cacheSeconds, nil
	case ctlFile:
		a.Mode = unix.S_IFREG | e.ctl[k.num].Mode&0o777
		return a, cacheSeconds, nil
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
	if k.kind != ctlFile || in.Valid&^(fuse.FATTR_SIZE|fuse.FATTR_FH|fuse.FATTR_LOCKOWNER|fuse.FATTR_KILL_SUIDGID) != 0 {
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
		if reads {
			o.text = f.Read()
		}
		o.ctl = f
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

// listVirtual lists a virtual directory. It hands out no attributes: what is looked at is looked up.
func (e *edge) listVirtual(in *fuse.ReadIn, out *fuse.DirEntryList, plus bool) fuse.Status {
	k, ok := e.nodes.get(in.NodeId)
	if !ok {
		return stale
	}
	if !k.isDir() {
		return fuse.ENOTDIR
	}
	// The parent of FILE@@ depends on the name it was reached by; the kernel knows it.
	if full, _ := dots(in, out, plus, func() (uint64, error) { return in.NodeId, nil }); full {
		return fuse.OK
	}
	add := func(name string, off uint64, k nodeKey) bool {
		if off <= in.Offset {
			return true
		}
		d := fuse.DirEntry{Name: name, Ino: e.nodes.find(k), Mode: unix.S_IFREG, Off: off}
		if k.isDir() {
			d.Mode = unix.S_IFDIR
		}
		if plus {
			return out.AddDirLookupEntry(d) != nil
		}
		return out.AddDirEntry(d)
	}
	const first = offDotDot + 1
	switch k.kind {
	case shareDir:
		add(ctlName, first, nodeKey{kind: ctlDir})
	case ctlDir:
		for i := range e.ctl {
			if !add(e.ctl[i].Name, first+uint64(i), nodeKey{kind: ctlFile, num: uint64(i)}) {
				break
			}
		}
	case pastDir:
		all, err := e.tree.Versions(k.ino)
		if err != nil {
			return status(err)
		}
		if !add(logName, first, nodeKey{kind: pastLog, ino: k.ino}) ||
			!add(metaName, first+1, nodeKey{kind: pastMeta, ino: k.ino}) {
			break
		}
		for i := range all {
			n := all[i].Number
			if !add(strconv.FormatUint(n, 10), first+1+n, versionKey(k.ino, &all[i])) {
				break
			}
		}
	}
	return fuse.OK
}
