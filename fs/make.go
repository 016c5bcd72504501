package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"sharefs"
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
func reserved(parent uint64, name string) bool {
	return parent == uint64(sharefs.RootIno) && name == shareName
}

// Mknod implements [fuse.RawFileSystem].
func (e *edge) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	if virtual(in.NodeId) {
		return frozen
	}
	if reserved(in.NodeId, name) {
		return fuse.Status(unix.EEXIST)
	}
	who := caller(&in.InHeader)
	who.Umask = in.Umask
	a, err := e.tree.Mknod(ino(in.NodeId), name, in.Mode, in.Rdev, who)
	return made(a, err, out)
}

// Mkdir implements [fuse.RawFileSystem].
func (e *edge) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	if virtual(in.NodeId) {
		return frozen
	}
	if reserved(in.NodeId, name) {
		return fuse.Status(unix.EEXIST)
	}
	who := caller(&in.InHeader)
	who.Umask = in.Umask
	a, err := e.tree.Mkdir(ino(in.NodeId), name, in.Mode, who)
	return made(a, err, out)
}

// Symlink implements [fuse.RawFileSystem].
func (e *edge) Symlink(_ <-chan struct{}, h *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	if virtual(h.NodeId) {
		return frozen
	}
	if reserved(h.NodeId, name) {
		return fuse.Status(unix.EEXIST)
	}
	a, err := e.tree.Symlink(ino(h.NodeId), name, target, caller(h))
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
	if reserved(in.NodeId, name) {
		return fuse.Status(unix.EEXIST)
	}
	a, err := e.tree.Link(ino(in.Oldnodeid), ino(in.NodeId), name)
	return made(a, err, out)
}

// Unlink implements [fuse.RawFileSystem].
func (e *edge) Unlink(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	if virtual(h.NodeId) {
		return frozen
	}
	err := e.tree.Unlink(ino(h.NodeId), name)
	return e.gone(err, h.NodeId, name)
}

// Rmdir implements [fuse.RawFileSystem].
func (e *edge) Rmdir(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	if virtual(h.NodeId) {
		return frozen
	}
	err := e.tree.Rmdir(ino(h.NodeId), name)
	return e.gone(err, h.NodeId, name)
}

// gone answers a removal. A name that is missing in the tree, yet that the kernel knows, is a virtual one, and those
// cannot be removed.
func (e *edge) gone(err error, parent uint64, name string) fuse.Status {
	if err != nil && missing(err) && (reserved(parent, name) || isPast(name)) {
		return frozen
	}
	return status(err)
}

// Rename implements [fuse.RawFileSystem].
func (e *edge) Rename(_ <-chan struct{}, in *fuse.RenameIn, from, to string) fuse.Status {
	if virtual(in.NodeId) || virtual(in.Newdir) {
		return frozen
	}
	if reserved(in.NodeId, from) || reserved(in.Newdir, to) {
		return fuse.EBUSY
	}
	if in.Flags&^(unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE) != 0 {
		return fuse.EINVAL
	}
	err := e.tree.Rename(ino(in.NodeId), from, ino(in.Newdir), to, in.Flags)
	return e.gone(err, in.NodeId, from)
}
