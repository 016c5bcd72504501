package device

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"sharefs"
)

// Config says what to mount, where and how.
type Config struct {
	FS         fuse.RawFileSystem
	Mountpoint string // an existing directory
	Source     string // first column of /proc/mounts
	Subtype    string // the type is "fuse.SUBTYPE"
	AllowOther bool   // users other than the mounting one may enter

	// Options are mount(8) options: those with a flag of mount(2) (ro, nosuid, nodev, noexec, noatime, sync, dirsync
	// …) and those that the kernel's FUSE takes as text (default_permissions, blksize=N). An unknown one is refused
	// by the kernel.
	Options []string

	MaxWrite     int    // bytes of the largest WRITE and READ; 0: 128 KiB
	Capabilities uint64 // fuse.CAP_*, asked for where the kernel offers them
	StackDepth   uint32 // how many stacked filesystems a passthrough file may lie on; 0: 1

	Log *slog.Logger // nil: discarded
}

// flagOptions are the options that mount(2) takes as flags (util-linux, mount(8) "filesystem-independent mount
// options").
var flagOptions = map[string]struct {
	set, clear uintptr
}{
	"rw": {0, unix.MS_RDONLY}, "ro": {unix.MS_RDONLY, 0},
	"suid": {0, unix.MS_NOSUID}, "nosuid": {unix.MS_NOSUID, 0},
	"dev": {0, unix.MS_NODEV}, "nodev": {unix.MS_NODEV, 0},
	"exec": {0, unix.MS_NOEXEC}, "noexec": {unix.MS_NOEXEC, 0},
	"async": {0, unix.MS_SYNCHRONOUS}, "sync": {unix.MS_SYNCHRONOUS, 0},
	"dirsync":   {unix.MS_DIRSYNC, 0},
	"nodirsync": {0, unix.MS_DIRSYNC},
	"atime":     {0, unix.MS_NOATIME}, "noatime": {unix.MS_NOATIME, 0},
	"diratime": {0, unix.MS_NODIRATIME}, "nodiratime": {unix.MS_NODIRATIME, 0},
	"relatime": {unix.MS_RELATIME, unix.MS_NOATIME | unix.MS_STRICTATIME}, "norelatime": {0, unix.MS_RELATIME},
	"strictatime": {unix.MS_STRICTATIME, unix.MS_NOATIME | unix.MS_RELATIME}, "nostrictatime": {0, unix.MS_STRICTATIME},
	"lazytime": {unix.MS_LAZYTIME, 0}, "nolazytime": {0, unix.MS_LAZYTIME},
	"nosymfollow": {unix.MS_NOSYMFOLLOW, 0}, "symfollow": {0, unix.MS_NOSYMFOLLOW},
	"defaults": {0, 0},
}

// SplitOptions turns mount(8) options into flags of mount(2) and those that the filesystem has to understand. Later
// options win over earlier ones.
func SplitOptions(options []string) (flags uintptr, rest []string) {
	for _, o := range options {
		f, ok := flagOptions[o]
		if !ok {
			rest = append(rest, o)
			continue
		}
		flags = flags&^f.clear | f.set
	}
	return flags, rest
}

const defaultMaxWrite = 128 << 10

// Mount mounts and answers the kernel's INIT. When it returns, requests queue up until [Conn.Serve].
// As root it mounts by itself; other users' mounts are made by the setuid program fusermount3.
func Mount(cfg Config) (*Conn, error) {
	if cfg.MaxWrite == 0 {
		cfg.MaxWrite = defaultMaxWrite
	}
	if cfg.StackDepth == 0 {
		cfg.StackDepth = 1
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	abs, err := filepath.Abs(cfg.Mountpoint)
	if err != nil {
		return nil, &sharefs.Error{Op: "mount", Path: cfg.Mountpoint, Err: err}
	}
	cfg.Mountpoint = abs

	var st unix.Stat_t
	if err := unix.Stat(abs, &st); err != nil {
		return nil, &sharefs.Error{Op: "mount", Path: abs, Kind: sharefs.KindOf(err), Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil, &sharefs.Error{Op: "mount", Path: abs, Kind: sharefs.KindNotDir}
	}

	helper := os.Geteuid() != 0
	var fd int
	if helper {
		fd, err = mountByHelper(&cfg)
	} else {
		fd, err = mountDirect(&cfg)
	}
	if err != nil {
		return nil, err
	}
	c := newConn(cfg, fd, helper)
	if err := c.handshake(); err != nil {
		unix.Close(fd)
		unmount(abs, helper)
		return nil, err
	}
	return c, nil
}

// mountDirect mounts with mount(2) and returns the device.
func mountDirect(cfg *Config) (int, error) {
	fail := func(err error, detail string) (int, error) {
		return -1, &sharefs.Error{Op: "mount", Path: cfg.Mountpoint, Kind: sharefs.KindOf(err), Detail: detail, Err: err}
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail(err, "/dev/fuse cannot be opened (is the kernel module fuse loaded?)")
	}
	flags, rest := SplitOptions(cfg.Options)
	data := []string{
		fmt.Sprintf("fd=%d", fd), fmt.Sprintf("rootmode=%o", unix.S_IFDIR),
		fmt.Sprintf("user_id=%d", os.Geteuid()), fmt.Sprintf("group_id=%d", os.Getegid()),
		fmt.Sprintf("max_read=%d", cfg.MaxWrite),
	}
	if cfg.AllowOther {
		data = append(data, "allow_other")
	}
	data = append(data, rest...)
	if err := unix.Mount(cfg.Source, cfg.Mountpoint, "fuse."+cfg.Subtype, flags, strings.Join(data, ",")); err != nil {
		unix.Close(fd)
		if err == unix.EINVAL && len(rest) > 0 {
			return fail(err, "the kernel refuses one of the options "+strings.Join(rest, ","))
		}
		return fail(err, "")
	}
	return fd, nil
}

// Remount gives an existing mount the flags among options (ro, nosuid, noatime …), from any process of root and
// without touching what is mounted. The list is complete: a flag that it does not name is cleared. Options that are
// not flags of mount(2) are ignored: they belong to the daemon.
func Remount(mountpoint string, options []string) error {
	options = slices.DeleteFunc(slices.Clone(options), func(o string) bool { return o == "remount" })
	flags, _ := SplitOptions(options)
	if err := unix.Mount("", mountpoint, "", flags|unix.MS_REMOUNT, ""); err != nil {
		return &sharefs.Error{Op: "remount", Path: mountpoint, Kind: sharefs.KindOf(err), Err: err}
	}
	return nil
}

// unmount detaches the mount in the way it was made.
func unmount(mountpoint string, helper bool) error {
	if helper {
		return unmountByHelper(mountpoint)
	}
	if err := unix.Unmount(mountpoint, unix.UMOUNT_NOFOLLOW); err != nil {
		return &sharefs.Error{Op: "unmount", Path: mountpoint, Kind: sharefs.KindOf(err), Err: err}
	}
	return nil
}
