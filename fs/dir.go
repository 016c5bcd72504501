package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"sharefs"
)

// Offsets of the two entries that each listing begins with; those of the tree follow them (see [Tree.ReadDir]).
const (
	offDot    = 1
	offDotDot = 2
)

// OpenDir implements [fuse.RawFileSystem]. ENOSYS tells the kernel not to ask again (CAP_NO_OPENDIR_SUPPORT):
// listings need no state here, for the offset says it all, and it keeps them in its page cache until something in the
// directory changes.
func (e *edge) OpenDir(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status { return fuse.ENOSYS }

// ReleaseDir implements [fuse.RawFileSystem].
func (e *edge) ReleaseDir(*fuse.ReleaseIn) {}

// FsyncDir implements [fuse.RawFileSystem].
func (e *edge) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	if virtual(in.NodeId) {
		return fuse.OK
	}
	return status(e.tree.SyncInode(ino(in.NodeId)))
}

// ReadDir implements [fuse.RawFileSystem].
func (e *edge) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return e.list(in, out, false)
}

// ReadDirPlus implements [fuse.RawFileSystem].
func (e *edge) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return e.list(in, out, true)
}

func (e *edge) list(in *fuse.ReadIn, out *fuse.DirEntryList, plus bool) fuse.Status {
	if virtual(in.NodeId) {
		return e.listVirtual(in, out, plus)
	}
	dir := ino(in.NodeId)
	full, err := dots(in, out, plus, func() (uint64, error) {
		p, err := e.tree.Parent(dir)
		return uint64(p), err
	})
	if full || err != nil {
		return status(err)
	}
	from := in.Offset
	if from <= offDotDot {
		from = 0
	}
	listed := false
	err = e.tree.ReadDir(dir, from, plus, func(d sharefs.Dentry, a *sharefs.Attr) bool {
		entry := fuse.DirEntry{Name: d.Name, Ino: uint64(d.Ino), Mode: d.Type, Off: d.Cookie}
		if !plus {
			full = !out.AddDirEntry(entry)
			listed = listed || !full
			return !full
		}
		slot := out.AddDirLookupEntry(entry)
		if slot == nil {
			full = true
			return false
		}
		if a != nil {
			fillEntry(slot, a)
		}
		listed = true
		return true
	})
	if err == nil && !full && e.all && dir == sharefs.RootIno {
		e.listHierarchies(in, out, plus)
	}
	if listed {
		// References were taken on what is listed, so that the kernel must learn of it. It comes back, and gets the error.
		return fuse.OK
	}
	return status(err)
}

// addEntry lists a name without its attributes. It reports false where the buffer is full.
func addEntry(out *fuse.DirEntryList, plus bool, d fuse.DirEntry) bool {
	if plus {
		return out.AddDirLookupEntry(d) != nil
	}
	return out.AddDirEntry(d)
}

// dots lists "." and ".." and reports whether the buffer is full. The kernel takes no reference on them.
func dots(in *fuse.ReadIn, out *fuse.DirEntryList, plus bool, parent func() (uint64, error)) (full bool, err error) {
	if in.Offset < offDot && !addEntry(out, plus, fuse.DirEntry{Name: ".", Ino: in.NodeId, Mode: unix.S_IFDIR, Off: offDot}) {
		return true, nil
	}
	if in.Offset < offDotDot {
		p, err := parent()
		if err != nil {
			return false, err
		}
		if !addEntry(out, plus, fuse.DirEntry{Name: "..", Ino: p, Mode: unix.S_IFDIR, Off: offDotDot}) {
			return true, nil
		}
	}
	return false, nil
}
