package fs

import (
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"

	"sharefs"
)

// Lookup implements [fuse.RawFileSystem]. An ordinary name wins over a virtual one; a name that is missing is
// remembered by the kernel, but not one that a new version could bring to life.
func (e *edge) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if virtual(h.NodeId) {
		return e.lookupVirtual(h, name, out)
	}
	if h.NodeId == uint64(sharefs.RootIno) && name == shareName {
		return e.enterFor(nodeKey{kind: shareDir}, cacheSeconds, out)
	}
	a, err := e.tree.Lookup(ino(h.NodeId), name)
	if err == nil {
		fillEntry(out, &a)
		return fuse.OK
	}
	if !missing(err) {
		return status(err)
	}
	if strings.Contains(name, pastMark) {
		return e.lookupPast(h, name, out)
	}
	if k, ok := e.atRoot(h.NodeId, name); ok {
		return e.enter(k, out)
	}
	out.NodeId, out.EntryValid = 0, cacheSeconds
	return fuse.OK
}

// Forget implements [fuse.RawFileSystem].
func (e *edge) Forget(node, n uint64) {
	if virtual(node) {
		e.nodes.forget(node, n)
		return
	}
	e.backings.drop(ino(node))
	e.tree.Forget(ino(node), n)
}
