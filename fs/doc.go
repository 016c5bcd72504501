// Package fs is the FUSE edge: it turns requests of the kernel into operations of a [Tree], and shows the past of
// each file beside it. [Mount] mounts a tree; all else here answers requests. Nothing else in the project imports
// go-fuse, whose types of the protocol and interface [fuse.RawFileSystem] are used, but whose servers and inode
// tables are not: package device reads and replies, and the tree has the one inode table that there is.
//
// # Terms
//
//   - A node is what the kernel calls an inode of a mount: the tree's inodes under their own number, and virtual
//     nodes, whose numbers have the top bit set.
//   - A lookup is a reference that the kernel takes on a node with each reply that names it; FORGET gives references
//     back. The tree counts those on its inodes, nodes those on virtual ones.
//   - A handle is one open file, from OPEN or CREATE to RELEASE, which comes when the last descriptor is closed.
//   - The backing file is the file of the store that holds a live file's content; a backing id is its registration
//     with the kernel.
//   - Passed through are files that the kernel reads and writes in their backing file; served are those whose reads
//     and writes come here. A mount does one of the two for all live files.
//
// # Two ways to the content
//
// As root, on Linux 6.9 or later, live files are passed through: read, write and mmap take the speed of the disk
// below, through the one page cache of the backing file, and the daemon hears of none of them. HANDLE_KILLPRIV_V2
// belongs to it: without that, each write(2) asks the daemon for the attribute security.capability first (7.0 µs
// instead of 0.5 for 4 KiB). Once for each inode in the kernel's memory it still does, and again after its attributes
// were fetched anew.
//
// The kernel demands that all who have a file open at one time use the same id, and answers EIO to an open in any
// other way. So an inode has one id, counted, and keeps it for a while after the last close (backings), because most
// files are opened again soon: an open that finds it costs neither an open(2) of the backing file nor an ioctl. The
// way is fixed for a mount: it is tried out with a file at mount, and a file that cannot be registered later cannot
// be opened. The tree gives a backing file up, or puts another in its place, only after DropBacking said that the
// kernel holds it no more.
//
// Otherwise files are served: the kernel has a page cache of its own, writes go through it to the daemon at once (not
// so under WRITEBACK_CACHE, which measured slower), and FOPEN_KEEP_CACHE keeps pages from one open to the next, for
// nobody else changes them.
//
// # What the kernel caches, and how it stays right
//
// Names, found and missing, and attributes are good for an hour, for all changes come through the mount, and the
// kernel minds those itself. What it cannot know, the tree tells it by way of [versions.Kernel], which [Server]
// implements: attributes that the daemon changed (ForgetAttr), content that it replaced (ForgetContent).
// CAP_EXPLICIT_INVAL_DATA keeps the kernel from dropping pages by itself whenever a time has moved. Exceptions:
//
//   - A file that somebody may be writing ([sharefs.Attr].Changing) has attributes that are good for a second: stores
//     through a mapping move its times, and nobody sees them.
//   - Names with "@@" that are missing are not remembered, and FILE@@ and what hangs on it are looked up each time: a
//     new version may have come, or FILE gone to another file.
//   - Listings stay in the kernel's page cache until the directory changes; that of FILE@@ has always changed, for
//     its times are now.
//   - A view of the past never changes: names, attributes, listings and pages of .share/at/TIME stay, but for the way there, which is looked up each time.
//     So is all of .share/versions and DIR@@. Where several users come in, attributes hold for a second, for the rights of now count as well.
//   - A version never changes: its pages stay. Texts that are made on demand (log, meta, control files) are read past
//     the cache, and fixed at open.
//
// # What each call costs
//
// A request costs 5 µs where it is fast (see package device), more than most of them need here, so those that are not
// needed are not asked for. Counted by TestRequestsOfEachCall:
//
//	stat, repeated missing name, readlink, listing again   nothing
//	open, read, close                                      OPEN, and RELEASE behind
//	write of 4 KiB, passed through                         nothing
//	create, write, close                                   LOOKUP, CREATE, GETXATTR, and RELEASE behind
//	list a directory                                       READDIRPLUS for each 200 names, and one that finds the end
//
// To this belongs what is refused with ENOSYS, which the kernel takes as "never ask again": FLUSH, since a close
// needs no answer here (versions are made when a file has come to rest, and passed-through files have FOPEN_NOFLUSH,
// which spares the kernel looking for dirty pages, too; only without a settle time the tree hears of it); OPENDIR, since listings need no state; ACCESS, since
// permissions are the kernel's to check. One request too many is the kernel's own: whatever changes a directory makes
// it forget the directory's attributes, mode and owner among them, which it fetches again (GETATTR) before it checks
// the permission of the next change.
//
// # Permissions
//
// The kernel checks them all, with access control lists (default_permissions, CAP_POSIX_ACL). The tree gives what is
// made an owner, a mode and what it inherits; CAP_DONT_MASK leaves the umask to it, which a default ACL overrides.
// Locks of flock(2) and fcntl(2) stay in the kernel: one mount has one kernel.
//
// Where root mounts and lets nobody else in, there is nothing to check: the kernel refuses all others at the door,
// and root may do everything but execute what nobody may (Access). So these checks are not asked for there, unless
// with the option default_permissions, and the GETATTR above is spared, which is a third of what unpacking or
// removing a tree costs. The difference shows for a process that runs as root without CAP_DAC_OVERRIDE.
//
// Versions carry the permissions that the file has now, less what the version had not in its time, and nobody may
// write: see attrPast.
//
// A view of the past has the modes, owners and lists of then, which the kernel checks as it does those of now. That what is closed now is closed there as
// well is the daemon's doing: each user has nodes of their own, from which is taken what they may not do now (at_rights.go).
//
// # Deadlocks
//
// The daemon must never wait for its own mount: not by touching a path in it, nor by a notification sent while a lock
// is held that a request needs. A notification about a name waits for the lock of the directory, which a program
// holds until its request is answered: such ones go through a queue of their own (entryQueue). Those about inodes
// wait at most for pages that are being read. The reader loop never runs out of readers (package device), so that
// every such wait ends. Nor does anything here hold a lock across a call of the tree, but for the one of a backing
// file's registration.
//
// Tests are the one place where program and daemon share a process. What may block there without the Go scheduler
// knowing, page faults and epoll, runs in a child process or is settled before (child_test.go, mounted.settlePoll).
//
// # Parallelism
//
// Requests run in parallel, one goroutine each. Lookup, Getattr and Open meet no lock of the whole mount here:
// handles are found without one, registrations and virtual nodes are looked for under locks that are held for some
// instructions, or in shards.
package fs
