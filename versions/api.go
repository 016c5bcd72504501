package versions

import (
	"io"

	"sharefs"
)

// Caller is who asks for an operation: the credentials that the kernel sends with each request. Permission is the kernel's
// to check (default_permissions); the tree needs the ids to give what is made an owner and for the rules that hang on them.
type Caller struct {
	UID, GID, PID uint32
	Umask         uint32 // for the tree to apply to the mode of what is made, unless the parent has a default ACL
	// Cancel is closed when the caller waits no longer; what is elsewhere, or at work on the file, is waited for until then. nil: never.
	Cancel <-chan struct{}
}

// SetAttr tells which attributes an operation sets; a nil field stays as it is.
type SetAttr struct {
	Mode  *uint32 // permission bits only
	UID   *uint32
	GID   *uint32
	Size  *uint64
	Atime *sharefs.Time
	Mtime *sharefs.Time
	Ctime *sharefs.Time
	// KillPriv drops setuid, and setgid where the group may execute, as a write by somebody without CAP_FSETID does.
	KillPriv bool
	// Handle, where not nil, is the open file that the call came through (ftruncate), which need not have a name.
	Handle *Handle
}

// Kernel is what the tree asks of the FUSE edge: to forget what the kernel has cached. None of its methods may be called
// under a lock of the tree, but DropBacking under file.content; and none reports an error, for a kernel that holds nothing has nothing to
// forget.
type Kernel interface {
	// ForgetAttr drops the cached attributes of an inode, not its pages.
	ForgetAttr(ino sharefs.Ino)
	// ForgetContent drops cached pages as well; length 0 means to the end.
	ForgetContent(ino sharefs.Ino, offset, length int64)
	// ForgetEntry drops a name, found or missing, from the cache.
	ForgetEntry(parent sharefs.Ino, name string)
	// DropBacking gives up an idle passthrough registration of the inode's backing file, so that nothing but real users
	// holds the file. It reports whether the registration is gone; it stays while handles are open.
	DropBacking(ino sharefs.Ino) bool
}

// VersionReader reads one version; ReadAt may be called from several goroutines.
type VersionReader interface {
	io.ReaderAt
	io.Closer
	Size() int64
}
