package device

import (
	"runtime"
	"syscall"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// InvalidateInode makes the kernel forget the attributes of an inode and, where offset is not negative, its cached
// pages from there on: length bytes, 0 for all. It waits for pages that are being read. fuse.ENOENT says that the
// kernel does not know the inode.
func (c *Conn) InvalidateInode(node uint64, offset, length int64) fuse.Status {
	out := fuse.NotifyInvalInodeOut{Ino: node, Off: offset, Length: length}
	return c.notify(fuse.NOTIFY_INVAL_INODE, unsafe.Slice((*byte)(unsafe.Pointer(&out)), unsafe.Sizeof(out)), "")
}

// InvalidateEntry makes the kernel forget what a name in a directory stands for, found or missing. It waits for the
// directory's lock, which a program may hold until one of its requests is answered: never call it from a handler.
func (c *Conn) InvalidateEntry(parent uint64, name string) fuse.Status {
	out := fuse.NotifyInvalEntryOut{Parent: parent, NameLen: uint32(len(name))}
	return c.notify(fuse.NOTIFY_INVAL_ENTRY, unsafe.Slice((*byte)(unsafe.Pointer(&out)), unsafe.Sizeof(out)), name+"\x00")
}

// notify sends a message that no request asked for: unique is 0 and the status holds the kind (linux/fuse.h, enum
// fuse_notify_code).
func (c *Conn) notify(kind int32, body []byte, name string) fuse.Status {
	msg := make([]byte, sizeOutHeader, sizeOutHeader+len(body)+len(name))
	msg = append(append(msg, body...), name...)
	h := (*fuse.OutHeader)(unsafe.Pointer(&msg[0]))
	h.Status, h.Length = -kind, uint32(len(msg))
	err := c.use(func(fd int) error {
		_, _, errno := syscall.Syscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&msg[0])), uintptr(len(msg)))
		if errno != 0 {
			return errno
		}
		return nil
	})
	if err == nil {
		return fuse.OK
	}
	return fuse.ToStatus(err)
}

// backingMap is struct fuse_backing_map.
type backingMap struct {
	fd    int32
	flags uint32
	_     uint64
}

// ioctls of /dev/fuse (linux/fuse.h, FUSE_DEV_IOC_BACKING_OPEN and _CLOSE).
const (
	ioctlBackingOpen  = 0x4010e501
	ioctlBackingClose = 0x4004e502
)

// OpenBacking hands a file to the kernel for passthrough and returns its id. The descriptor may be an O_PATH one and
// can be closed then.
func (c *Conn) OpenBacking(fd int) (id int32, err error) {
	m := backingMap{fd: int32(fd)}
	err = c.use(func(dev int) error {
		r, _, errno := syscall.Syscall(unix.SYS_IOCTL, uintptr(dev), ioctlBackingOpen, uintptr(unsafe.Pointer(&m)))
		if errno != 0 {
			return errno
		}
		id = int32(r)
		return nil
	})
	runtime.KeepAlive(&m)
	return id, err
}

// CloseBacking gives an id up. Files that were opened with it keep working.
func (c *Conn) CloseBacking(id int32) error {
	return c.use(func(dev int) error {
		_, _, errno := syscall.Syscall(unix.SYS_IOCTL, uintptr(dev), ioctlBackingClose, uintptr(unsafe.Pointer(&id)))
		if errno != 0 {
			return errno
		}
		return nil
	})
}
