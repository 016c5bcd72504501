package fs

import (
	"errors"
	"io"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions"
)

// Read implements [fuse.RawFileSystem]. Live files come here only where they are served.
func (e *edge) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	o := e.handles.get(in.Fh)
	if o == nil {
		return nil, fuse.EBADF
	}
	var n int
	var err error
	switch {
	case o.live != nil:
		n, err = o.live.ReadUntil(cancel, buf, signed(in.Offset))
	case o.past != nil:
		if n, err = o.past.ReadAt(buf, signed(in.Offset)); errors.Is(err, io.EOF) {
			err = nil
		}
	case in.Offset < uint64(len(o.text)):
		n = copy(buf, o.text[in.Offset:])
	}
	if err != nil {
		return nil, status(err)
	}
	return fuse.ReadResultData(buf[:n]), fuse.OK
}

// Write implements [fuse.RawFileSystem].
func (e *edge) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	o := e.handles.get(in.Fh)
	switch {
	case o == nil:
		return 0, fuse.EBADF
	case o.ctl != nil:
		return o.writeCtl(data)
	case o.live == nil:
		return 0, fuse.EBADF
	}
	if in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0 {
		if err := o.live.KillPriv(caller(&in.InHeader)); err != nil {
			return 0, status(err)
		}
	}
	n, err := o.live.WriteAt(data, signed(in.Offset))
	if n == 0 && err != nil {
		return 0, status(err)
	}
	return uint32(n), fuse.OK
}

// Fsync implements [fuse.RawFileSystem].
func (e *edge) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	o := e.handles.get(in.Fh)
	if o == nil {
		return fuse.EBADF
	}
	if o.live == nil {
		return fuse.OK
	}
	return status(o.live.Sync(in.FsyncFlags&fsyncDataOnly != 0))
}

// fsyncDataOnly is FUSE_FSYNC_FDATASYNC of linux/fuse.h.
const fsyncDataOnly = 1

// Lseek implements [fuse.RawFileSystem]. The kernel asks for SEEK_DATA and SEEK_HOLE only.
func (e *edge) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	o := e.handles.get(in.Fh)
	if o == nil {
		return fuse.EBADF
	}
	if o.live != nil {
		if !o.through && o.live.BeingWritten() {
			// What was written through a mapping may be in the kernel's pages alone, and what it was written into still be a hole here.
			e.conn.InvalidateInode(uint64(o.ino), 0, 0)
		}
		off, err := o.live.Seek(signed(in.Offset), int(in.Whence))
		out.Offset = uint64(off)
		return status(err)
	}
	if o.past != nil {
		at, err := seekPast(o.past, signed(in.Offset), in.Whence)
		out.Offset = uint64(at)
		return status(err)
	}
	// A generated text has no holes.
	at, err := seekExtents(nil, int64(len(o.text)), signed(in.Offset), in.Whence)
	out.Offset = uint64(at)
	return status(err)
}

// nextData is what a reader of versions has beside [versions.VersionReader] where it knows of holes: the first run of
// data at or after off, or the size where none follows.
type nextData interface {
	NextData(off int64) (start, end int64, err error)
}

// seekPast finds data or a hole in a version.
func seekPast(r versions.VersionReader, off int64, whence uint32) (int64, error) {
	sparse, _ := r.(nextData)
	return seekExtents(sparse, r.Size(), off, whence)
}

// seekExtents is SEEK_DATA and SEEK_HOLE of lseek(2) on what has the size and, unless sparse is nil, holes. A hole
// ends every file.
func seekExtents(sparse nextData, size, off int64, whence uint32) (int64, error) {
	if whence != unix.SEEK_DATA && whence != unix.SEEK_HOLE {
		return 0, sharefs.KindInvalid
	}
	if off >= size {
		return 0, sharefs.KindNoDevice
	}
	if sparse == nil {
		if whence == unix.SEEK_DATA {
			return off, nil
		}
		return size, nil
	}
	for {
		start, end, err := sparse.NextData(off)
		switch {
		case err != nil:
			return 0, err
		case whence == unix.SEEK_HOLE && start > off:
			return off, nil
		case start >= size && whence == unix.SEEK_DATA:
			return 0, sharefs.KindNoDevice
		case whence == unix.SEEK_DATA:
			return max(start, off), nil
		case end >= size:
			return size, nil
		}
		off = end // runs may touch
	}
}

// Fallocate implements [fuse.RawFileSystem].
func (e *edge) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	o := e.handles.get(in.Fh)
	if o == nil || o.live == nil {
		return fuse.EBADF
	}
	return status(o.live.Allocate(in.Mode, signed(in.Offset), signed(in.Length), caller(&in.InHeader)))
}

// Copies are made in pieces, between which an interruption is minded.
const (
	copyPiece  = 64 << 20                   // bytes between live files, which the kernel or the disk copies
	copyBuffer = 1 << 20                    // bytes of a version, which the daemon copies
	copyAtMost = (1<<32 - 1) &^ (1<<20 - 1) // the answer has 32 bits
)

// CopyFileRange implements [fuse.RawFileSystem]. The source may be a version: cp of FILE@@3 needs no round through
// the program.
func (e *edge) CopyFileRange(cancel <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	from, to := e.handles.get(in.FhIn), e.handles.get(in.FhOut)
	if from == nil || to == nil || to.live == nil || in.Flags != 0 {
		return 0, fuse.EINVAL
	}
	who := caller(&in.InHeader)
	piece := func(off, dst, n int64) (int64, error) { return from.live.CopyTo(to.live, off, dst, n, who) }
	most := int64(copyPiece)
	switch {
	case from.live != nil:
	case from.past != nil:
		buf := make([]byte, min(copyBuffer, in.Len))
		most = copyBuffer
		piece = func(off, dst, n int64) (int64, error) { return copyPast(to.live, from.past, buf[:n], off, dst) }
	default:
		return 0, fuse.EXDEV // a generated text: the program reads it
	}
	var done int64
	left := signed(min(in.Len, copyAtMost))
	for left > 0 {
		n, err := piece(signed(in.OffIn)+done, signed(in.OffOut)+done, min(left, most))
		done += n
		left -= n
		if err != nil && done == 0 {
			return 0, status(err)
		}
		if err != nil || n == 0 {
			break
		}
		select {
		case <-cancel:
			left = 0
		default:
		}
	}
	return uint32(done), fuse.OK
}

// copyPast copies len(buf) bytes of a version into a live file.
func copyPast(to *versions.Handle, from versions.VersionReader, buf []byte, off, dst int64) (int64, error) {
	n, err := from.ReadAt(buf, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	if n == 0 {
		return 0, nil
	}
	n, err = to.WriteAt(buf[:n], dst)
	return int64(n), err
}
