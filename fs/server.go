package fs

import (
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/fs/device"
)

// Subtype makes the type of each mount "fuse.sharefs".
const Subtype = "sharefs"

// Config says what to mount, where and how.
type Config struct {
	Tree       Tree
	Mountpoint string // an existing directory
	Source     string // shown as the source in /proc/mounts
	ReadOnly   bool
	AllowOther bool // users other than the mounting one may enter

	// Options are handed to mount(2) or fusermount3 as they are: nosuid, nodev, noexec, noatime, dirsync … The kernel
	// checks permissions (default_permissions) unless nobody but root may enter; with that option among these it does
	// then too.
	Options []string

	// Passthrough asks that the kernel reads and writes live files without the daemon. Where it cannot be had the
	// files are served, and Stats.Reason says why.
	Passthrough bool
	// BackingDir is the directory that the live content lies below; passthrough is tried out there.
	BackingDir string

	// View is what is shown: "" the live tree, "all" the hierarchies of .share in its root as well, "at:TIME" the tree as it was at a time
	// or snapshot, read-only, with .share beside it.
	View string

	Ctl         []CtlFile   // the files of .share/ctl
	CtlDirs     []CtlDir    // and its directories
	Hierarchies []Hierarchy // further directories of .share
	// Side finds FILE@@SUFFIX where the past of the file knows no such suffix; nil: there is none. KindNotExist: nothing is called so.
	Side func(dir sharefs.Ino, file, suffix string) (Entry, error)
	// PeerName reports whether a peer has a name, which nothing else may have then that stands behind FILE@@; nil: none has.
	PeerName func(name string) bool
	// Reserved reports whether no new tag, or no new branch, may have a name that means something else; nil: any may.
	Reserved func(name string, branch bool) bool
	// Free has the content of a file not stay here, if others keep it; nil: nothing can be freed. KindBusy: the file is in use; KindPermission: it is to stay; KindUnreachable: nobody promises to keep it.
	Free func(ino sharefs.Ino) error
	// Promised tells whether others rely on what is here of a file, and who as far as that is known; nil: nobody does.
	Promised func(ino sharefs.Ino) (to []Promised, ok bool, err error)
	// Unpromised tells who did not promise to keep a file when it was to be freed last, and why; nil: nothing is known.
	Unpromised func(ino sharefs.Ino) (by []Promised, ok bool, err error)
	// Bring has all of a file come here, and waits for that until cancel is closed; nil: nothing can. KindNoSpace: there is no room; KindUnreachable: nobody has it.
	Bring func(cancel <-chan struct{}, ino sharefs.Ino) error
	Log   *slog.Logger // nil: discarded
}

// Server is a mount at work. It is the [versions.Kernel] of its tree.
type Server struct {
	cfg    Config
	edge   *edge
	conn   *device.Conn
	reason string // why there is no passthrough
	queue  entryQueue
	ended  chan struct{}
}

// capabilities are what the edge wants of the kernel, beside passthrough. The package comment says what each is for.
const capabilities = fuse.CAP_ASYNC_READ | fuse.CAP_ATOMIC_O_TRUNC | fuse.CAP_EXPORT_SUPPORT | fuse.CAP_BIG_WRITES |
	fuse.CAP_DONT_MASK | fuse.CAP_IOCTL_DIR | fuse.CAP_READDIRPLUS | fuse.CAP_READDIRPLUS_AUTO | fuse.CAP_ASYNC_DIO |
	fuse.CAP_PARALLEL_DIROPS | fuse.CAP_ABORT_ERROR | fuse.CAP_MAX_PAGES | fuse.CAP_CACHE_SYMLINKS |
	fuse.CAP_NO_OPENDIR_SUPPORT | fuse.CAP_EXPLICIT_INVAL_DATA | fuse.CAP_HANDLE_KILLPRIV_V2 | fuse.CAP_SETXATTR_EXT |
	fuse.CAP_DIRECT_IO_ALLOW_MMAP

// checkOption makes the kernel check permissions.
const checkOption = "default_permissions"

// maxWrite is the largest READ and WRITE in bytes: as much as fits into the pages of one request (256 of 4 KiB,
// linux/fuse.h).
const maxWrite = 1 << 20

// Mount mounts the tree. Requests that come wait until [Server.Serve], so that what answers them can be completed: the
// tree must know its kernel before it makes a change that the kernel has to be told of. Mount never touches the mount
// itself.
func Mount(cfg Config) (*Server, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	options := slices.Clone(cfg.Options)
	checks := slices.Contains(options, checkOption)
	if !checks && (cfg.AllowOther || os.Geteuid() != 0) {
		checks = true
		options = append(options, checkOption)
	}
	s := &Server{ended: make(chan struct{})}
	s.edge = newEdge(&cfg)
	s.edge.checks = checks
	s.edge.viewers.several = checks && cfg.AllowOther
	served, err := s.edge.shown(&cfg)
	if err != nil {
		return nil, err
	}

	if cfg.ReadOnly {
		options = append(options, "ro")
	}
	s.cfg = cfg

	dc := device.Config{
		FS: served, Mountpoint: cfg.Mountpoint, Source: cfg.Source, Subtype: Subtype,
		AllowOther: cfg.AllowOther, Options: options,
		MaxWrite: maxWrite, Capabilities: capabilities, Log: cfg.Log,
	}
	if checks {
		dc.Capabilities |= fuse.CAP_POSIX_ACL
	}
	switch {
	case !cfg.Passthrough:
		s.reason = "switched off"
	case os.Geteuid() != 0:
		s.reason = "the kernel demands CAP_SYS_ADMIN for it: mount as root"
	default:
		dc.Capabilities |= fuse.CAP_PASSTHROUGH
		dc.StackDepth = stackDepth(cfg.BackingDir)
	}
	conn, err := device.Mount(dc)
	if err != nil {
		return nil, err
	}
	s.conn = conn
	if s.reason == "" {
		s.reason = tryPassthrough(conn, cfg.BackingDir)
	}
	s.edge.start(conn, s.reason == "")
	s.queue.init(conn)
	go func() {
		<-conn.Done()
		s.queue.close()
		close(s.ended)
	}()
	return s, nil
}

// stackDepth is how many filesystems a passthrough file in dir is stacked upon: overlayfs counts as one, disks as
// none (linux/fs.h, FILESYSTEM_MAX_STACK_DEPTH).
func stackDepth(dir string) uint32 {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) == nil && st.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return 2
	}
	return 1
}

// tryPassthrough registers a file without a name in dir and says why that does not work, if so.
func tryPassthrough(conn *device.Conn, dir string) (reason string) {
	if conn.Capabilities()&fuse.CAP_PASSTHROUGH == 0 {
		return "the kernel has no FUSE passthrough (Linux 6.9 or later, CONFIG_FUSE_PASSTHROUGH)"
	}
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == unix.EROFS {
		fd, err = openAny(dir)
	}
	if err != nil {
		return fmt.Sprintf("no file for a trial can be made in %s: %v", dir, err)
	}
	defer unix.Close(fd)
	id, err := conn.OpenBacking(fd)
	switch err {
	case nil:
		conn.CloseBacking(id)
		return ""
	case unix.EPERM:
		return "the kernel demands CAP_SYS_ADMIN in the initial user namespace"
	case unix.ELOOP:
		return fmt.Sprintf("%s lies on a stack of filesystems that is too deep", dir)
	}
	return fmt.Sprintf("the kernel refuses a file in %s: %v", dir, err)
}

// openAny opens the first regular file below dir.
func openAny(dir string) (fd int, err error) {
	fd, err = -1, unix.ENOENT
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, walkErr error) error {
		if walkErr != nil || !d.Type().IsRegular() {
			return nil
		}
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		return filepath.SkipAll
	})
	return fd, err
}

// Serve begins to answer requests and returns at once. It is called once.
func (s *Server) Serve() { s.conn.Serve() }

// Wait returns when the mount is gone, by whomever, and all requests have been served.
func (s *Server) Wait() { <-s.ended }

// Done is closed when Wait returns.
func (s *Server) Done() <-chan struct{} { return s.ended }

// Unmount detaches the mount. One that is in use gives an error of [sharefs.KindBusy].
func (s *Server) Unmount() error { return s.conn.Unmount() }

// Abort ends the mount from this side, whatever programs have open in it: they get ENOTCONN, and Wait returns. The
// mount point stays as a dead mount unless it was detached before.
func (s *Server) Abort() error { return s.conn.Abort() }

// Remount changes the flags of a mount (ro, noatime …) from any process of root without touching what is mounted. The
// list is complete: a flag that it does not name is cleared.
func Remount(mountpoint string, options []string) error { return device.Remount(mountpoint, options) }

// Stats tells what a mount does. Sizes are counts.
type Stats struct {
	Passthrough bool   `json:"passthrough"`
	Reason      string `json:"passthrough_reason,omitempty"` // why not
	KillPriv    bool   `json:"killpriv_v2"`                  // without it each passthrough write asks for security.capability
	Checks      bool   `json:"kernel_checks"`                // permissions; not needed where root alone may enter
	Protocol    string `json:"protocol"`

	Requests map[string]uint64 `json:"requests"` // by opcode

	OpenHandles  int `json:"open_handles"`
	BackingIDs   int `json:"backing_ids"`      // files that the kernel holds for passthrough
	IdleBackings int `json:"idle_backing_ids"` // those of them that nobody has open
	VirtualNodes int `json:"virtual_nodes"`    // FILE@@ and .share, known to the kernel

	Notifications uint64 `json:"notifications"` // sent to make the kernel forget
}

// Stats may be called at any time.
func (s *Server) Stats() Stats {
	ids, idle := s.edge.backings.count()
	return Stats{
		Passthrough: s.reason == "", Reason: s.reason,
		KillPriv:     s.conn.Capabilities()&fuse.CAP_HANDLE_KILLPRIV_V2 != 0,
		Checks:       s.edge.checks,
		Protocol:     fmt.Sprintf("7.%d", s.conn.Minor()),
		Requests:     s.conn.Counts(),
		OpenHandles:  s.edge.handles.count() + int(s.edge.closing.Load()),
		BackingIDs:   ids,
		IdleBackings: idle,
		VirtualNodes: s.edge.nodes.count(), Notifications: s.queue.sent.Load(),
	}
}

// ForgetAttr implements [versions.Kernel].
func (s *Server) ForgetAttr(ino sharefs.Ino) {
	s.queue.sent.Add(1)
	s.conn.InvalidateInode(uint64(ino), -1, 0)
}

// ForgetContent implements [versions.Kernel].
func (s *Server) ForgetContent(ino sharefs.Ino, offset, length int64) {
	s.queue.sent.Add(1)
	s.conn.InvalidateInode(uint64(ino), offset, length)
}

// ForgetEntry implements [versions.Kernel]. It returns at once.
func (s *Server) ForgetEntry(parent sharefs.Ino, name string) { s.queue.add(parent, name) }

// DropBacking implements [versions.Kernel].
func (s *Server) DropBacking(ino sharefs.Ino) bool { return s.edge.backings.drop(ino) }
