package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions"
)

// frozen is what everything that would change a virtual directory gets.
const frozen = fuse.EROFS

// made answers with what was made.
func made(a sharefs.Attr, err error, out *fuse.EntryOut) fuse.Status {
	if err != nil {
		return status(err)
	}
	fillEntry(out, &a)
	return fuse.OK
}

// reserved reports whether nothing may be made under the name.
func (e *edge) reserved(parent uint64, name string) bool {
	if parent == uint64(sharefs.RootIno) && name == shareName {
		return true
	}
	_, shown := e.atRoot(parent, name)
	return shown
}

// Mknod implements [fuse.RawFileSystem].
func (e *edge) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	if virtual(in.NodeId) {
		return frozen
	}
	if e.reserved(in.NodeId, name) {
		return fuse.Status(unix.EEXIST)
	}
	who := caller(&in.InHeader)
	who.Umask = in.Umask
	op := e.tree.Operate(who)
	a, err := e.tree.Mknod(ino(in.NodeId), name, in.Mode, in.Rdev, who)
	op.End(err, versions.OpChange{Verb: versions.OpMade, Ino: a.Ino, Parent: ino(in.NodeId), Name: name})
	return made(a, err, out)
}

// Mkdir implements [fuse.RawFileSystem].
func (e *edge) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	if virtual(in.NodeId) {
		return frozen
	}
	if e.reserved(in.NodeId, name) {
		return fuse.Status(unix.EEXIST)
	}
	who := caller(&in.InHeader)
	who.Umask = in.Umask
	op := e.tree.Operate(who)
	a, err := e.tree.Mkdir(ino(in.NodeId), name, in.Mode, who)
	op.End(err, versions.OpChange{Verb: versions.OpMade, Ino: a.Ino, Parent: ino(in.NodeId), Name: name, Dir: true})
	return made(a, err, out)
}

// Symlink implements [fuse.RawFileSystem].
func (e *edge) Symlink(_ <-chan struct{}, h *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	if virtual(h.NodeId) {
		return frozen
	}
	if e.reserved(h.NodeId, name) {
		return fuse.Status(unix.EEXIST)
	}
	op := e.tree.Operate(caller(h))
	a, err := e.tree.Symlink(ino(h.NodeId), name, target, caller(h))
	op.End(err, versions.OpChange{Verb: versions.OpMade, Ino: a.Ino, Parent: ino(h.NodeId), Name: name})
	return made(a, err, out)
}

// Link implements [fuse.RawFileSystem].
func (e *edge) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	if virtual(in.NodeId) {
		return frozen
	}
	if virtual(in.Oldnodeid) {
		return fuse.EXDEV
	}
	if e.reserved(in.NodeId, name) {
		return fuse.Status(unix.EEXIST)
	}
	op := e.tree.Operate(caller(&in.InHeader))
	a, err := e.tree.Link(ino(in.Oldnodeid), ino(in.NodeId), name)
	op.End(err, versions.OpChange{Verb: versions.OpLinked, Ino: a.Ino, Parent: ino(in.NodeId), Name: name})
	return made(a, err, out)
}

// Unlink implements [fuse.RawFileSystem].
func (e *edge) Unlink(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	if virtual(h.NodeId) {
		return e.removeTrashed(h, name)
	}
	op := e.tree.Operate(caller(h))
	op.RestName(ino(h.NodeId), name)
	err := e.tree.Unlink(ino(h.NodeId), name)
	op.End(err, versions.OpChange{Verb: versions.OpRemoved, Parent: ino(h.NodeId), Name: name})
	return e.gone(err, h.NodeId, name)
}

// Rmdir implements [fuse.RawFileSystem].
func (e *edge) Rmdir(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	if virtual(h.NodeId) {
		return e.removeTrashed(h, name)
	}
	op := e.tree.Operate(caller(h))
	err := e.tree.Rmdir(ino(h.NodeId), name)
	op.End(err, versions.OpChange{Verb: versions.OpRemoved, Parent: ino(h.NodeId), Name: name, Dir: true})
	return e.gone(err, h.NodeId, name)
}

// gone answers a removal. A name that is missing in the tree, yet that the kernel knows, is a virtual one, and those
// cannot be removed.
func (e *edge) gone(err error, parent uint64, name string) fuse.Status {
	if err != nil && missing(err) && (e.reserved(parent, name) || isPast(name)) {
		return frozen
	}
	return status(err)
}

// renamed lists the changes of names that a rename makes. What bore the new name before is known by the state before.
func renamed(parent sharefs.Ino, from string, dir sharefs.Ino, to string, flags uint32) []versions.OpChange {
	changes := []versions.OpChange{
		{Verb: versions.OpRenamedFrom, Parent: parent, Name: from}, {Verb: versions.OpRenamedTo, Parent: dir, Name: to},
	}
	if flags&unix.RENAME_EXCHANGE != 0 {
		changes = append(changes, versions.OpChange{Verb: versions.OpRenamedTo, Parent: parent, Name: from})
	}
	return changes
}

// Rename implements [fuse.RawFileSystem].
func (e *edge) Rename(_ <-chan struct{}, in *fuse.RenameIn, from, to string) fuse.Status {
	if virtual(in.NodeId) && !virtual(in.Newdir) {
		if _, ok := e.ofTrash(in.NodeId); ok {
			return fuse.EXDEV
		}
	}
	if virtual(in.NodeId) || virtual(in.Newdir) {
		return frozen
	}
	if e.reserved(in.NodeId, from) || e.reserved(in.Newdir, to) {
		return fuse.EBUSY
	}
	if in.Flags&^(unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE) != 0 {
		return fuse.EINVAL
	}
	op := e.tree.Operate(caller(&in.InHeader))
	op.RestName(ino(in.Newdir), to)
	err := e.tree.Rename(ino(in.NodeId), from, ino(in.Newdir), to, in.Flags)
	op.End(err, renamed(ino(in.NodeId), from, ino(in.Newdir), to, in.Flags)...)
	return e.gone(err, in.NodeId, from)
}
