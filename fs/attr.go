package fs

import (
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions"
)

// GetAttr implements [fuse.RawFileSystem].
func (e *edge) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	if virtual(in.NodeId) {
		return e.getattrVirtual(in.NodeId, out)
	}
	a, err := e.tree.Getattr(ino(in.NodeId))
	if err != nil {
		return status(err)
	}
	fillAttr(out, &a)
	return fuse.OK
}

// setAttr keeps what the pointers of a [versions.SetAttr] point to beside it: one allocation for all.
type setAttr struct {
	versions.SetAttr
	mode, uid, gid      uint32
	size                uint64
	atime, mtime, ctime sharefs.Time
}

// SetAttr implements [fuse.RawFileSystem].
func (e *edge) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	if virtual(in.NodeId) {
		return e.setattrVirtual(in, out)
	}
	s := new(setAttr)
	valid := in.Valid
	if valid&fuse.FATTR_MODE != 0 {
		s.mode = in.Mode & sharefs.ModePerm
		s.Mode = &s.mode
	}
	if valid&fuse.FATTR_UID != 0 {
		s.uid = in.Uid
		s.UID = &s.uid
	}
	if valid&fuse.FATTR_GID != 0 {
		s.gid = in.Gid
		s.GID = &s.gid
	}
	if valid&fuse.FATTR_SIZE != 0 {
		s.size = in.Size
		s.Size = &s.size
	}
	if valid&(fuse.FATTR_ATIME_NOW|fuse.FATTR_MTIME_NOW) != 0 {
		now := sharefs.Time(time.Now().UnixNano())
		s.atime, s.mtime = now, now
	}
	if valid&fuse.FATTR_ATIME != 0 {
		if valid&fuse.FATTR_ATIME_NOW == 0 {
			s.atime = sharefs.MakeTime(int64(in.Atime), in.Atimensec)
		}
		s.Atime = &s.atime
	}
	if valid&fuse.FATTR_MTIME != 0 {
		if valid&fuse.FATTR_MTIME_NOW == 0 {
			s.mtime = sharefs.MakeTime(int64(in.Mtime), in.Mtimensec)
		}
		s.Mtime = &s.mtime
	}
	if valid&fuse.FATTR_CTIME != 0 {
		s.ctime = sharefs.MakeTime(int64(in.Ctime), in.Ctimensec)
		s.Ctime = &s.ctime
	}
	s.KillPriv = valid&fuse.FATTR_KILL_SUIDGID != 0
	if valid&fuse.FATTR_FH != 0 {
		if o := e.handles.get(in.Fh); o != nil {
			s.Handle = o.live
		}
	}
	verb := versions.OpAttributes
	if s.Size != nil {
		verb = versions.OpWritten
	}
	op := e.tree.Operate(caller(&in.InHeader))
	if s.Size != nil {
		op.Rest(ino(in.NodeId))
	}
	who := caller(&in.InHeader)
	who.Cancel = cancel
	a, err := e.tree.Setattr(ino(in.NodeId), &s.SetAttr, who)
	op.End(err, versions.OpChange{Verb: verb, Ino: ino(in.NodeId)})
	if err != nil {
		return status(err)
	}
	fillAttr(out, &a)
	return fuse.OK
}

// Access implements [fuse.RawFileSystem]. It comes only where the kernel does not check permissions, because root
// alone may enter: who may do everything but execute what nobody may.
func (e *edge) Access(_ <-chan struct{}, in *fuse.AccessIn) fuse.Status {
	var a sharefs.Attr
	var err error
	if virtual(in.NodeId) {
		k, found := e.nodes.get(in.NodeId)
		switch {
		case !found:
			return stale
		case in.Mask&fuse.W_OK != 0 && k.kind != ctlFile && k.kind != ctlItemFile:
			return frozen
		}
		a, _, err = e.attrVirtual(k)
	} else {
		a, err = e.tree.Getattr(ino(in.NodeId))
	}
	if err == nil && in.Mask&fuse.X_OK != 0 && !a.IsDir() && a.Mode&0o111 == 0 {
		return fuse.EACCES
	}
	return status(err)
}

// Statx implements [fuse.RawFileSystem]. The kernel asks so when somebody wants the time of birth, which GETATTR has
// no room for.
func (e *edge) Statx(_ <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	var a sharefs.Attr
	var err error
	if virtual(in.NodeId) {
		n, ok := e.nodes.get(in.NodeId)
		if !ok {
			return fuse.Status(unix.ESTALE)
		}
		var valid uint64
		if a, valid, err = e.attrVirtual(n); err == nil {
			out.AttrValid = valid
		}
	} else if a, err = e.tree.Getattr(ino(in.NodeId)); err == nil {
		out.AttrValid = validity(&a)
	}
	if err != nil {
		return status(err)
	}
	x := &out.Statx
	x.Mask = unix.STATX_BASIC_STATS | unix.STATX_BTIME
	x.Blksize, x.Nlink, x.Uid, x.Gid, x.Mode = 4096, a.Nlink, a.UID, a.GID, uint16(a.Mode)
	x.Ino, x.Size, x.Blocks = uint64(a.Ino), a.Size, a.Blocks
	x.Atime.Sec, x.Atime.Nsec = split(a.Atime)
	x.Btime.Sec, x.Btime.Nsec = split(a.Btime)
	x.Ctime.Sec, x.Ctime.Nsec = split(a.Ctime)
	x.Mtime.Sec, x.Mtime.Nsec = split(a.Mtime)
	// Device numbers come in the kernel's 32-bit form and leave in two halves.
	x.RdevMajor, x.RdevMinor = a.Rdev>>8&0xfff, a.Rdev&0xff|a.Rdev>>12&0xfff00
	return fuse.OK
}

// Readlink implements [fuse.RawFileSystem]. The kernel keeps the answer (CAP_CACHE_SYMLINKS): a target never changes.
func (e *edge) Readlink(_ <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	var target string
	var err error
	if virtual(h.NodeId) {
		k, ok := e.nodes.get(h.NodeId)
		if !ok {
			return nil, stale
		}
		switch k.kind {
		case pastLink:
			target, err = e.linkTarget(k)
		case atNode:
			target, err = e.readlinkAt(k)
		case everLink:
			target, err = e.everLinkTarget(k)
		case otherNode, sideNode:
			var o Entry
			if o, err = e.other(k); err == nil && o.Target == "" {
				err = sharefs.KindInvalid
			}
			target = o.Target
		default:
			return nil, fuse.EINVAL
		}
	} else {
		target, err = e.tree.Readlink(ino(h.NodeId))
	}
	if err != nil {
		return nil, status(err)
	}
	return []byte(target), fuse.OK
}

// StatFs implements [fuse.RawFileSystem].
func (e *edge) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	s, err := e.tree.Statfs()
	if err != nil {
		return status(err)
	}
	unit := uint64(max(s.BlockSize, 512))
	out.Bsize, out.Frsize, out.NameLen = uint32(unit), uint32(unit), sharefs.NameMax
	out.Blocks, out.Bfree, out.Bavail = s.Total/unit, s.Free/unit, s.Available/unit
	out.Files, out.Ffree = s.Inodes, s.InodesFree
	return fuse.OK
}
