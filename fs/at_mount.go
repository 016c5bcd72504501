package fs

import (
	"strings"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"

	"sharefs"
)

// Forms of Config.View.
const (
	viewAll = "all"
	viewAt  = "at:"
)

// shown returns what answers the kernel: the edge, or a view of the past before it.
func (e *edge) shown(cfg *Config) (fuse.RawFileSystem, error) {
	when, past := strings.CutPrefix(cfg.View, viewAt)
	switch {
	case cfg.View == viewAll:
		e.all = true
		return e, nil
	case !past:
		return e, nil
	}
	v, _, err := e.viewOf(sharefs.RootIno, when)
	if err == nil {
		_, err = v.Getattr(sharefs.RootIno)
	}
	if err != nil {
		detail := "there is no such time or snapshot; times are written -2h, yesterday or 2026-11-20T10:00"
		if sharefs.KindOf(err) == sharefs.KindStale {
			detail = "the store is younger"
		}
		return nil, &sharefs.Error{Op: "view", Path: when, Kind: sharefs.KindInvalid, Detail: detail}
	}
	cfg.ReadOnly = true
	return &viewMount{
		edge: e, top: nodeKey{kind: atNode, ino: sharefs.RootIno, num: branch(atDir, 0, cfg.View), at: v.At()}, tops: map[viewer]uint64{},
	}, nil
}

// viewMount shows the tree as it was as a mount of its own. The kernel calls the root of a mount 1: requests that name it are handed on with the number of
// the view's top instead. Where several users come in each has a top of their own (at_rights.go), so that nothing that hangs on the root is remembered by the
// kernel beyond the request.
type viewMount struct {
	*edge
	top nodeKey

	mu   sync.Mutex // guards tops
	tops map[viewer]uint64
}

// resolve puts the number of the view's top in the place of the root's, and reports whether the request was about the root.
func (m *viewMount) resolve(h *fuse.InHeader) (root bool, st fuse.Status) {
	if h.NodeId != uint64(sharefs.RootIno) {
		return false, fuse.OK
	}
	who, err := m.viewers.of(h)
	if err != nil {
		return true, status(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	id, ok := m.tops[who]
	if !ok {
		k := m.top
		k.who = who
		k.num ^= m.viewers.hash(who)
		id = m.nodes.enter(k) // for as long as the mount lives
		m.tops[who] = id
	}
	h.NodeId = id
	return true, fuse.OK
}

// Lookup implements [fuse.RawFileSystem].
func (m *viewMount) Lookup(cancel <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if h.NodeId == uint64(sharefs.RootIno) && name == shareName {
		return m.edge.Lookup(cancel, h, name, out)
	}
	root, st := m.resolve(h)
	if st == fuse.OK {
		st = m.edge.Lookup(cancel, h, name, out)
	}
	if root && m.viewers.several {
		out.EntryValid = 0
	}
	return st
}

// GetAttr implements [fuse.RawFileSystem].
func (m *viewMount) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	root, st := m.resolve(&in.InHeader)
	if st == fuse.OK {
		st = m.edge.GetAttr(cancel, in, out)
	}
	if root {
		out.Ino = uint64(sharefs.RootIno)
		if m.viewers.several {
			out.AttrValid = 0
		}
	}
	return st
}

// Statx implements [fuse.RawFileSystem].
func (m *viewMount) Statx(cancel <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	root, st := m.resolve(&in.InHeader)
	if st == fuse.OK {
		st = m.edge.Statx(cancel, in, out)
	}
	if root {
		out.Statx.Ino = uint64(sharefs.RootIno)
		if m.viewers.several {
			out.AttrValid = 0
		}
	}
	return st
}

// ReadDir implements [fuse.RawFileSystem].
func (m *viewMount) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	if _, st := m.resolve(&in.InHeader); st != fuse.OK {
		return st
	}
	return m.edge.ReadDir(cancel, in, out)
}

// ReadDirPlus implements [fuse.RawFileSystem].
func (m *viewMount) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	root, st := m.resolve(&in.InHeader)
	if st != fuse.OK || !root || !m.viewers.several {
		if st == fuse.OK {
			st = m.edge.ReadDirPlus(cancel, in, out)
		}
		return st
	}
	k, _ := m.nodes.get(in.NodeId)
	if full, _ := dots(in, out, true, func() (uint64, error) { return in.NodeId, nil }); full {
		return fuse.OK
	}
	return m.listAt(k, in, out, true, false)
}

// GetXAttr implements [fuse.RawFileSystem].
func (m *viewMount) GetXAttr(cancel <-chan struct{}, h *fuse.InHeader, attr string, dest []byte) (uint32, fuse.Status) {
	if _, st := m.resolve(h); st != fuse.OK {
		return 0, st
	}
	return m.edge.GetXAttr(cancel, h, attr, dest)
}

// ListXAttr implements [fuse.RawFileSystem].
func (m *viewMount) ListXAttr(cancel <-chan struct{}, h *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	if _, st := m.resolve(h); st != fuse.OK {
		return 0, st
	}
	return m.edge.ListXAttr(cancel, h, dest)
}

// Access implements [fuse.RawFileSystem].
func (m *viewMount) Access(cancel <-chan struct{}, in *fuse.AccessIn) fuse.Status {
	if _, st := m.resolve(&in.InHeader); st != fuse.OK {
		return st
	}
	return m.edge.Access(cancel, in)
}

// Ioctl implements [fuse.RawFileSystem].
func (m *viewMount) Ioctl(cancel <-chan struct{}, in *fuse.IoctlIn, inbuf []byte, out *fuse.IoctlOut, outbuf []byte) fuse.Status {
	if _, st := m.resolve(&in.InHeader); st != fuse.OK {
		return st
	}
	return m.edge.Ioctl(cancel, in, inbuf, out, outbuf)
}

// FsyncDir implements [fuse.RawFileSystem].
func (m *viewMount) FsyncDir(<-chan struct{}, *fuse.FsyncIn) fuse.Status { return fuse.OK }

// What would change the root is refused whatever the flags of the mount: root may have cleared them (remount).

// SetAttr implements [fuse.RawFileSystem].
func (m *viewMount) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	if !virtual(in.NodeId) {
		return frozen
	}
	return m.edge.SetAttr(cancel, in, out)
}

// SetXAttr implements [fuse.RawFileSystem].
func (m *viewMount) SetXAttr(<-chan struct{}, *fuse.SetXAttrIn, string, []byte) fuse.Status {
	return frozen
}

// RemoveXAttr implements [fuse.RawFileSystem].
func (m *viewMount) RemoveXAttr(<-chan struct{}, *fuse.InHeader, string) fuse.Status { return frozen }

// Mknod implements [fuse.RawFileSystem].
func (m *viewMount) Mknod(<-chan struct{}, *fuse.MknodIn, string, *fuse.EntryOut) fuse.Status {
	return frozen
}

// Mkdir implements [fuse.RawFileSystem].
func (m *viewMount) Mkdir(<-chan struct{}, *fuse.MkdirIn, string, *fuse.EntryOut) fuse.Status {
	return frozen
}

// Symlink implements [fuse.RawFileSystem].
func (m *viewMount) Symlink(<-chan struct{}, *fuse.InHeader, string, string, *fuse.EntryOut) fuse.Status {
	return frozen
}

// Link implements [fuse.RawFileSystem].
func (m *viewMount) Link(<-chan struct{}, *fuse.LinkIn, string, *fuse.EntryOut) fuse.Status {
	return frozen
}

// Unlink implements [fuse.RawFileSystem].
func (m *viewMount) Unlink(<-chan struct{}, *fuse.InHeader, string) fuse.Status { return frozen }

// Rmdir implements [fuse.RawFileSystem].
func (m *viewMount) Rmdir(<-chan struct{}, *fuse.InHeader, string) fuse.Status { return frozen }

// Rename implements [fuse.RawFileSystem].
func (m *viewMount) Rename(<-chan struct{}, *fuse.RenameIn, string, string) fuse.Status {
	return frozen
}

// Create implements [fuse.RawFileSystem].
func (m *viewMount) Create(<-chan struct{}, *fuse.CreateIn, string, *fuse.CreateOut) fuse.Status {
	return frozen
}

// Tmpfile implements [fuse.RawFileSystem].
func (m *viewMount) Tmpfile(<-chan struct{}, *fuse.CreateIn, *fuse.CreateOut) fuse.Status {
	return frozen
}
