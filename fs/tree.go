package fs

import (
	"sharefs"
	"sharefs/versions"
)

// Tree is what the edge asks of the live tree; [versions.Tree] is the one behind every mount. Inodes are named by
// number: no method takes a path, so nothing ever depends on how deep a file lies.
//
// A method that returns the attributes of a child (Lookup, Create, Mknod, Mkdir, Symlink, Link, Tmpfile, and ReadDir
// for each entry that plus hands out) takes one reference on it for the kernel; Forget gives references back. An
// inode lives while it has a name, a reference or an open handle.
type Tree interface {
	// Lookup answers "." for any inode that lives, files too, and ".." for a directory: open_by_handle_at(2) asks so
	// after a remount.
	Lookup(parent sharefs.Ino, name string) (sharefs.Attr, error)
	Forget(ino sharefs.Ino, n uint64)
	Getattr(ino sharefs.Ino) (sharefs.Attr, error)
	Setattr(ino sharefs.Ino, set *versions.SetAttr, who versions.Caller) (sharefs.Attr, error)
	Readlink(ino sharefs.Ino) (string, error)

	// The mode that makes a file is the program's own; the tree applies Caller.Umask to it unless the parent has a
	// default ACL.
	Mknod(parent sharefs.Ino, name string, mode, rdev uint32, who versions.Caller) (sharefs.Attr, error)
	Mkdir(parent sharefs.Ino, name string, mode uint32, who versions.Caller) (sharefs.Attr, error)
	Symlink(parent sharefs.Ino, name, target string, who versions.Caller) (sharefs.Attr, error)
	Link(ino, parent sharefs.Ino, name string) (sharefs.Attr, error)
	Unlink(parent sharefs.Ino, name string) error
	Rmdir(parent sharefs.Ino, name string) error
	// Rename takes RENAME_NOREPLACE and RENAME_EXCHANGE of renameat2(2).
	Rename(oldParent sharefs.Ino, oldName string, newParent sharefs.Ino, newName string, flags uint32) error

	// ReadDir calls emit for each name after cookie from (0: from the start), without "." and "..", until emit
	// returns false. With plus the attributes come along, and an entry for which emit returned true has taken a
	// reference. Cookies are 3 to 2^63-1: those below are for "." and "..", and offsets of lseek(2) are signed.
	ReadDir(dir sharefs.Ino, from uint64, plus bool, emit func(sharefs.Dentry, *sharefs.Attr) bool) error
	// Parent returns the directory that holds dir; the root holds itself.
	Parent(dir sharefs.Ino) (sharefs.Ino, error)

	Getxattr(ino sharefs.Ino, name string) ([]byte, error)
	// Setxattr takes XATTR_CREATE and XATTR_REPLACE of setxattr(2).
	Setxattr(ino sharefs.Ino, name string, value []byte, flags uint32) error
	Listxattr(ino sharefs.Ino) ([]string, error)
	Removexattr(ino sharefs.Ino, name string) error

	// Open and Create take the flags of open(2). The mark that a writer may be at work is on disk before a handle
	// that can write is returned.
	Open(ino sharefs.Ino, flags uint32, who versions.Caller) (*versions.Handle, error)
	Create(parent sharefs.Ino, name string, flags, mode uint32, who versions.Caller) (sharefs.Attr, *versions.Handle, error)
	Tmpfile(parent sharefs.Ino, flags, mode uint32, who versions.Caller) (sharefs.Attr, *versions.Handle, error)

	// Presence tells how much of a file is here.
	Presence(ino sharefs.Ino) (versions.Presence, error)
	// PinsSettled waits until it is known of all files whether they are pinned, or cancel is closed.
	PinsSettled(cancel <-chan struct{}) error

	// SetServed says, before any file is opened, that all reads and writes of live files come through handles.
	SetServed()

	// Operate is told who is about to change something, and the Op of what was changed.
	Operate(who versions.Caller) versions.Op

	Statfs() (versions.Space, error)
	// Sync makes everything acknowledged so far survive power loss; SyncInode the names and attributes of one inode
	// (fsync of a directory).
	Sync() error
	SyncInode(ino sharefs.Ino) error

	History
	Times
	Operations
}

// Operations is what the edge asks of the commands that changed something.
type Operations interface {
	// Operations calls fn for the operations up to a moment, the newest first, until it returns false.
	Operations(upTo sharefs.HLC, fn func(*versions.Operation) bool) error
	// Operation returns one with its changes, and OperationPaths where these are, as far as may lets in. KindNotExist: there is none.
	Operation(id sharefs.HLC) (*versions.Operation, []versions.OpChange, error)
	OperationPaths(o *versions.Operation, changes []versions.OpChange, may versions.Entrance) (paths []versions.OpPath, all bool, err error)
	// NameOperation begins an operation of the process that asks, and says what it is.
	NameOperation(who versions.Caller, label string)

	// Trash calls fn for what was removed, the latest first, until it returns false; Untrash takes something out of it.
	Trash(name string, fn func(versions.Trashed) bool) error
	Untrash(before sharefs.HLC, ino sharefs.Ino) error
}

// History is what the edge asks of the past of a file.
type History interface {
	// Versions lists the history of a file, oldest first; what is settled but not yet captured is in it.
	Versions(ino sharefs.Ino) ([]sharefs.Version, error)
	// Version finds one of them by its number, however long the history is, and by 0 the one that the file's present
	// content is. KindNotExist: there is none.
	Version(ino sharefs.Ino, number uint64) (sharefs.Version, error)
	// OpenVersion opens one of them by its number.
	OpenVersion(ino sharefs.Ino, number uint64) (versions.VersionReader, error)
	// VersionAt finds the version that the name held at an instant, and the inode that bore the name then; where the
	// name did not exist then, that of the file which has it now.
	VersionAt(parent sharefs.Ino, name string, at sharefs.HLC) (sharefs.Ino, sharefs.Version, error)
	// Past finds the regular file that bears the name or, where none does, the one that bore it last. It takes no
	// reference.
	Past(parent sharefs.Ino, name string) (sharefs.Ino, error)
	// FileID is the file's identity on every host.
	FileID(ino sharefs.Ino) (sharefs.FileID, error)
	// Commit makes what the file holds now a version, with a note, without waiting until it is quiet. Where it is a
	// version already it reports false, and a note goes to that version if it has none.
	Commit(ino sharefs.Ino, note string) (sharefs.Version, bool, error)
	// Restore gives the file the content and mode of one of its versions, after what it holds now was made a version.
	// KindNotExist: no such version; KindExist: it is live already; KindBusy: it is in use.
	Restore(by versions.Op, ino sharefs.Ino, number uint64, who versions.Caller) error
	// InUse reports whether the file is an SQLite database, or belongs to one, that somebody has open for writing.
	InUse(ino sharefs.Ino) (bool, error)
}

// Times is what the edge asks of the whole tree at other moments than now.
type Times interface {
	// ViewAt returns the tree as it was at a moment, MaxHLC being now. KindInvalid: that lies in the future.
	ViewAt(at sharefs.HLC) (*versions.View, error)
	// ViewOf is ViewAt of a moment that a view has shown. KindNotExist: retention has given it up since, where ViewAt would show an earlier one.
	ViewOf(at sharefs.HLC) (*versions.View, error)
	// Snapshot fixes a moment at which everything that was closed up to now is to be seen.
	Snapshot() (sharefs.HLC, error)
	// Instants calls fn for the moments at which anything changed, newest first, until it returns false, and ChangePoints for those of one
	// directory.
	Instants(fn func(at sharefs.HLC) bool) error
	ChangePoints(dir sharefs.Ino, fn func(at sharefs.HLC) bool) error
	// NamesEver lists what ever bore a name in a directory, after cookie from, as ReadDir does; NameEver finds one.
	NamesEver(dir sharefs.Ino, from uint64, fn func(versions.Ever) bool) error
	NameEver(dir sharefs.Ino, name string) (versions.Ever, error)
	// AttrEver returns the attributes of an inode, and of one that is gone those that it had last, with the end of the instant in which it went.
	AttrEver(ino sharefs.Ino) (a sharefs.Attr, gone sharefs.HLC, err error)
	// Continues reports whether the history of a file goes back to that of another one.
	Continues(ino, other sharefs.Ino) (bool, error)

	// Moments of a file or directory with names: tags, and branches, which move. KindNotExist: it has none of that name.
	Moment(ino sharefs.Ino, name string) (versions.Moment, error)
	Tags(ino sharefs.Ino) ([]versions.Moment, error)
	Branches(ino sharefs.Ino) ([]versions.Moment, error)
	SetTag(ino sharefs.Ino, name string, at sharefs.HLC, note string, who versions.Caller) (versions.Moment, error)
	RemoveTag(ino sharefs.Ino, name string) error
	SetBranch(ino sharefs.Ino, name string, at sharefs.HLC, number uint64, note string, who versions.Caller) (versions.Moment, error)
	RemoveBranch(ino sharefs.Ino, name string) error
	Switch(ino sharefs.Ino, name string, who versions.Caller) error
	Switched(ino sharefs.Ino) (string, error)
	// Describe gives a version another note.
	Describe(ino sharefs.Ino, number uint64, note string) error
}
