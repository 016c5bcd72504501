package fs

import (
	"bytes"
	"encoding/binary"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// The ioctls that are answered (linux/fs.h). All others get ENOTTY: none is ever passed on to the file below, where
// some of them shut down or thaw the whole disk.
const (
	fsGetFlags  = unix.FS_IOC_GETFLAGS // lsattr(1)
	fsSetFlags  = unix.FS_IOC_SETFLAGS
	fsGetXattr  = 0x801c581f // FS_IOC_FSGETXATTR: struct fsxattr, 28 bytes
	fsSetXattr  = 0x401c5820
	fsImmutable = 0x10 // FS_IMMUTABLE_FL
)

// Ioctl implements [fuse.RawFileSystem]. Live files have none of the flags of chattr(1); versions are immutable.
func (e *edge) Ioctl(_ <-chan struct{}, in *fuse.IoctlIn, inbuf []byte, _ *fuse.IoctlOut, outbuf []byte) fuse.Status {
	switch in.Cmd {
	case fsGetFlags:
		if len(outbuf) < 4 {
			return fuse.EINVAL
		}
		var flags uint32
		if k, ok := e.nodes.get(in.NodeId); virtual(in.NodeId) && ok && (k.kind == pastFile || k.kind == atNode) {
			flags = fsImmutable
		}
		binary.NativeEndian.PutUint32(outbuf, flags)
		return fuse.OK
	case fsGetXattr:
		return fuse.OK // all zero
	case fsSetFlags, fsSetXattr:
		if virtual(in.NodeId) {
			return frozen
		}
		if len(bytes.Trim(inbuf, "\x00")) > 0 {
			return fuse.ENOTSUP
		}
		return fuse.OK
	}
	return fuse.Status(unix.ENOTTY)
}
