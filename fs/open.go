package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions"
)

// Open implements [fuse.RawFileSystem].
func (e *edge) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if virtual(in.NodeId) {
		return e.openVirtual(in, out)
	}
	var op versions.Op
	if in.Flags&unix.O_ACCMODE != unix.O_RDONLY || in.Flags&unix.O_TRUNC != 0 {
		op = e.tree.Operate(caller(&in.InHeader))
		op.Rest(ino(in.NodeId))
	}
	who := caller(&in.InHeader)
	who.Cancel = cancel
	h, err := e.tree.Open(ino(in.NodeId), in.Flags, who)
	op.End(err, versions.OpChange{Verb: versions.OpWritten, Ino: ino(in.NodeId)})
	if err != nil {
		return status(err)
	}
	return e.opened(h, in.Flags, out)
}

// Create implements [fuse.RawFileSystem].
func (e *edge) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	if virtual(in.NodeId) {
		return frozen
	}
	if e.reserved(in.NodeId, name) {
		return fuse.EISDIR
	}
	who := caller(&in.InHeader)
	who.Umask, who.Cancel = in.Umask, cancel
	op := e.tree.Operate(who)
	a, h, err := e.tree.Create(ino(in.NodeId), name, in.Flags, in.Mode, who)
	op.End(err, versions.OpChange{Verb: versions.OpMade, Ino: a.Ino, Parent: ino(in.NodeId), Name: name})
	st := e.created(a, h, err, in.Flags, out)
	if st != fuse.OK && err == nil {
		// The name is there now, and the kernel may remember that it was not. It has the directory's lock until it is answered.
		go e.conn.InvalidateEntry(in.NodeId, name)
	}
	return st
}

// Tmpfile implements [fuse.RawFileSystem].
func (e *edge) Tmpfile(_ <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	if virtual(in.NodeId) {
		return frozen
	}
	who := caller(&in.InHeader)
	who.Umask = in.Umask
	a, h, err := e.tree.Tmpfile(ino(in.NodeId), in.Flags, in.Mode, who)
	return e.created(a, h, err, in.Flags, out)
}

func (e *edge) created(a sharefs.Attr, h *versions.Handle, err error, flags uint32, out *fuse.CreateOut) fuse.Status {
	if err != nil {
		return status(err)
	}
	if st := e.opened(h, flags, &out.OpenOut); st != fuse.OK {
		e.tree.Forget(a.Ino, 1) // the kernel never learns of it
		return st
	}
	fillEntry(&out.EntryOut, &a)
	return fuse.OK
}

// opened numbers the handle of a live file and says how the kernel is to read and write it. The way is the same for
// all who have an inode open, else the kernel answers EIO: passthrough where the mount has it and no rule wants the file served (the tree decides), and then a
// file that cannot be registered cannot be opened.
func (e *edge) opened(h *versions.Handle, flags uint32, out *fuse.OpenOut) fuse.Status {
	o := &open{ino: h.Ino(), live: h}
	o.through = e.through && !h.Served()
	if o.through {
		id, err := e.backings.acquire(o.ino, h.Backing)
		if err != nil {
			e.log.Error("a file cannot be passed through", "inode", o.ino, "error", err)
			h.Close()
			return status(err)
		}
		out.BackingID = id
		// Nothing is cached here that a close would have to flush, and versions are not counted by closes but by quiet, as a rule.
		out.OpenFlags = fuse.FOPEN_PASSTHROUGH
		if !h.CountsCloses() {
			out.OpenFlags |= fuse.FOPEN_NOFLUSH
		}
	} else {
		// All changes go through this mount, so what the kernel has cached stays right from one open to the next, unless the file was passed through
		// between them.
		if !e.through || h.Joined() {
			out.OpenFlags = fuse.FOPEN_KEEP_CACHE
		}
		if flags&unix.O_ACCMODE == unix.O_RDONLY {
			out.OpenFlags |= fuse.FOPEN_NOFLUSH
		}
	}
	return e.number(o, out)
}

// number gives an open file the number that the kernel names it by.
func (e *edge) number(o *open, out *fuse.OpenOut) fuse.Status {
	fh, ok := e.handles.add(o)
	if !ok {
		o.close(e)
		return fuse.Status(unix.ENFILE)
	}
	out.Fh = fh
	return fuse.OK
}

// Release implements [fuse.RawFileSystem]. It comes when the last descriptor is closed; under passthrough mappings
// may live on.
func (e *edge) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	e.closing.Add(1)
	defer e.closing.Add(-1)
	if o := e.handles.remove(in.Fh); o != nil {
		o.close(e)
	}
}

// Flush implements [fuse.RawFileSystem]. The kernel writes dirty mapped pages back before it asks; ENOSYS tells it
// that this is all, and that it need not ask again. Without a settle time the tree wants to hear of it, of all that
// can write: others have FOPEN_NOFLUSH.
func (e *edge) Flush(_ <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	o := e.handles.get(in.Fh)
	if o == nil || o.live == nil || !o.live.CountsCloses() {
		return fuse.ENOSYS
	}
	o.live.Flushed()
	return fuse.OK
}
