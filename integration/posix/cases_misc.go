package posix

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func init() {
	goCases = append(goCases,
		Case{"atime/a read moves it once", false, atimeRead},
		Case{"atime/not with O_NOATIME, nor by a write", false, atimeKept},
		Case{"atime/of a directory and a symlink", false, atimeOthers},
		Case{"statx/birth time and what stat tells", false, statxTells},
		Case{"statx/mask and sync flags", false, statxFlags},
		Case{"handle/opens by handle", true, handles},
		Case{"handle/stale after removal", true, handleStale},
		Case{"open/20000 at once, or as many as allowed", false, openMany},
		Case{"statfs/tells of the disk", false, statfsTells},
		Case{"sync/syncfs, sync_file_range and fdatasync", false, syncs},
		Case{"inotify/tells of changes", false, inotifies},
		Case{"inode/numbers are stable and unique", false, inodeNumbers},
		Case{"xattr/64 KiB and lists", false, bigXattr},
		Case{"xattr/capabilities go with a write", true, capabilities},
		Case{"ioctl/an unknown one is refused", false, unknownIoctl},
		Case{"time/rises with every change", false, risingTimes},
		Case{"fallocate/the whole of a file again and again", false, fallocateLoop},
		Case{"unlink/a hundred open files without names", false, manyUnlinked},
		Case{"tmpfile/a hundred get names at once", false, manyTmpfiles},
	)
}

func (c *C) stat(name string) unix.Stat_t {
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		c.Fatalf("lstat %s: %v", name, err)
	}
	return st
}

// noatime reports whether times of reading are not kept here at all.
func (c *C) noatime() bool {
	var fs unix.Statfs_t
	c.Must(unix.Statfs(".", &fs))
	return fs.Flags&unix.ST_NOATIME != 0
}

// atimeRead goes by relatime (mount(8)): a read moves atime where it is not newer than mtime or ctime, or a day old.
func atimeRead(c *C) {
	if c.noatime() {
		c.Skipf("mounted noatime")
	}
	c.put("f", "text")
	old := []unix.Timespec{{Sec: 1000}, {Sec: 2000}}
	c.Must(unix.UtimesNanoAt(unix.AT_FDCWD, "f", old, 0))
	before := c.stat("f")
	c.Want("content", c.content("f"), "text")
	after := c.stat("f")
	if after.Atim.Nano() <= before.Atim.Nano() || after.Atim.Sec < time.Now().Unix()-86400 {
		c.Fatalf("atime stays %d after a read", after.Atim.Sec)
	}
	c.Want("mtime", after.Mtim, before.Mtim)
	c.Want("ctime", after.Ctim, before.Ctim)
}

func atimeKept(c *C) {
	c.put("f", "text")
	c.Must(unix.UtimesNanoAt(unix.AT_FDCWD, "f", []unix.Timespec{{Sec: 1000}, {Sec: 2000}}, 0))
	fd := c.openC("f", unix.O_RDWR|unix.O_NOATIME, 0)
	defer unix.Close(fd)
	buf := make([]byte, 4)
	_, err := unix.Pread(fd, buf, 0)
	c.Must(err)
	c.Want("atime after O_NOATIME", c.stat("f").Atim.Sec, 1000)
	_, err = unix.Pwrite(fd, buf, 0)
	c.Must(err)
	c.Want("atime after a write", c.stat("f").Atim.Sec, 1000)
}

func atimeOthers(c *C) {
	if c.noatime() {
		c.Skipf("mounted noatime")
	}
	c.Must(unix.Mkdir("d", 0o755))
	c.put("d/f", "")
	c.Must(unix.Symlink("d", "l"))
	old := []unix.Timespec{{Sec: 1000}, {Sec: 2000}}
	c.Must(unix.UtimesNanoAt(unix.AT_FDCWD, "d", old, 0))
	_, err := os.ReadDir("d")
	c.Must(err)
	if c.stat("d").Atim.Sec == 1000 {
		c.Fatalf("atime of a directory stays after a listing")
	}
	c.Must(unix.UtimesNanoAt(unix.AT_FDCWD, "l", old, unix.AT_SYMLINK_NOFOLLOW))
	buf := make([]byte, 10)
	_, err = unix.Readlink("l", buf)
	c.Must(err)
	if c.stat("l").Atim.Sec == 1000 {
		c.Fatalf("atime of a symlink stays after readlink")
	}
}

func statxTells(c *C) {
	before := time.Now().Add(-time.Second)
	c.put("f", "text")
	var sx unix.Statx_t
	c.Must(unix.Statx(unix.AT_FDCWD, "f", unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &sx))
	st := c.stat("f")
	c.Want("basic", sx.Mask&unix.STATX_BASIC_STATS, unix.STATX_BASIC_STATS)
	c.Want("size", sx.Size, 4)
	c.Want("inode", sx.Ino, st.Ino)
	c.Want("mode", uint32(sx.Mode), st.Mode)
	c.Want("links", sx.Nlink, 1)
	c.Want("mtime", [2]int64{sx.Mtime.Sec, int64(sx.Mtime.Nsec)}, [2]int64{st.Mtim.Sec, st.Mtim.Nsec})
	if sx.Mask&unix.STATX_BTIME == 0 {
		c.Fatalf("no birth time")
	}
	birth := time.Unix(sx.Btime.Sec, int64(sx.Btime.Nsec))
	if birth.Before(before) || birth.After(time.Now().Add(time.Second)) {
		c.Fatalf("born %v", birth)
	}
	c.Must(unix.UtimesNanoAt(unix.AT_FDCWD, "f", []unix.Timespec{{Sec: 1}, {Sec: 1}}, 0))
	c.put("f", "more")
	c.Must(unix.Rename("f", "g"))
	var again unix.Statx_t
	c.Must(unix.Statx(unix.AT_FDCWD, "g", 0, unix.STATX_BTIME, &again))
	c.Want("birth after changes", again.Btime, sx.Btime)
}

func statxFlags(c *C) {
	c.put("f", "text")
	for _, how := range []int{unix.AT_STATX_SYNC_AS_STAT, unix.AT_STATX_FORCE_SYNC, unix.AT_STATX_DONT_SYNC} {
		var sx unix.Statx_t
		c.Must(unix.Statx(unix.AT_FDCWD, "f", how, unix.STATX_SIZE, &sx))
		c.Want("size", sx.Size, 4)
	}
	fd := c.openC("f", unix.O_RDWR, 0)
	defer unix.Close(fd)
	_, err := unix.Pwrite(fd, []byte("longer text"), 0)
	c.Must(err)
	var sx unix.Statx_t
	c.Must(unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_SIZE, &sx))
	c.Want("size by descriptor", sx.Size, 11)
}

func handles(c *C) {
	c.Must(unix.Mkdir("d", 0o755))
	c.put("d/f", "text")
	mnt := c.openC(".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	defer unix.Close(mnt)
	h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, "d/f", 0)
	c.Must(err)
	hd, _, err := unix.NameToHandleAt(unix.AT_FDCWD, "d", 0)
	c.Must(err)
	c.Must(unix.Rename("d/f", "moved"))
	fd, err := unix.OpenByHandleAt(mnt, h, unix.O_RDWR|unix.O_CLOEXEC)
	c.Must(err)
	buf := make([]byte, 10)
	n, err := unix.Pread(fd, buf, 0)
	c.Must(err)
	c.Want("content", string(buf[:n]), "text")
	_, err = unix.Pwrite(fd, []byte("TEXT"), 0)
	c.Must(err)
	unix.Close(fd)
	c.Want("by name", c.content("moved"), "TEXT")
	fd, err = unix.OpenByHandleAt(mnt, hd, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC)
	c.Must(err)
	c.Want("directory", len(c.listAll(fd, 4096)), 0)
	unix.Close(fd)
	again, _, err := unix.NameToHandleAt(unix.AT_FDCWD, "moved", 0)
	c.Must(err)
	c.Want("handle of the renamed file", bytes.Equal(again.Bytes(), h.Bytes()), true)
}

func handleStale(c *C) {
	c.put("f", "text")
	mnt := c.openC(".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	defer unix.Close(mnt)
	h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, "f", 0)
	c.Must(err)
	c.Must(unix.Unlink("f"))
	c.put("f", "another")
	fd, err := unix.OpenByHandleAt(mnt, h, unix.O_RDONLY|unix.O_CLOEXEC)
	if err == nil {
		unix.Close(fd)
	}
	c.Want("a removed file", err, unix.ESTALE)
}

func openMany(c *C) {
	many := 20_000
	var old unix.Rlimit
	c.Must(unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	const others = 200 // what the process has open besides
	if old.Cur < uint64(many)+others {
		high := unix.Rlimit{Cur: uint64(many) + others, Max: max(old.Max, uint64(many)+others)}
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &high) != nil {
			c.Must(unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: old.Max, Max: old.Max}))
			many = int(min(old.Max, uint64(many)+others)) - others
		}
		defer unix.Setrlimit(unix.RLIMIT_NOFILE, &old)
	}
	if many < 2000 {
		c.Skipf("at most %d open files allowed", old.Max)
	}
	const files = 200
	var fds []int
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for i := range many {
		how := unix.O_RDWR
		if i < files {
			how |= unix.O_CREAT
		} else if i%3 == 0 {
			how = unix.O_RDONLY
		}
		fd, err := open(fmt.Sprintf("f%d", i%files), how, 0o644)
		if err != nil {
			c.Fatalf("open %d: %v", i, err)
		}
		fds = append(fds, fd)
		if i < files {
			_, err := unix.Write(fd, fmt.Appendf(nil, "file %d", i))
			c.Must(err)
		}
	}
	buf := make([]byte, 20)
	for i := 0; i < many; i += 97 {
		n, err := unix.Pread(fds[i], buf, 0)
		c.Must(err)
		c.Want("content", string(buf[:n]), fmt.Sprintf("file %d", i%files))
	}
}

func statfsTells(c *C) {
	var fs unix.Statfs_t
	c.Must(unix.Statfs(".", &fs))
	if fs.Bsize <= 0 || fs.Blocks == 0 || fs.Bfree > fs.Blocks || fs.Bavail > fs.Bfree || fs.Namelen != 255 {
		c.Fatalf("%+v", fs)
	}
	fd := c.openC(".", unix.O_RDONLY, 0)
	defer unix.Close(fd)
	var by unix.Statfs_t
	c.Must(unix.Fstatfs(fd, &by))
	c.Want("blocks by descriptor", by.Blocks, fs.Blocks)
}

func syncs(c *C) {
	c.put("f", "text")
	fd := c.openC("f", unix.O_RDWR, 0)
	defer unix.Close(fd)
	_, err := unix.Pwrite(fd, []byte("more"), 100)
	c.Must(err)
	c.Must(unix.SyncFileRange(fd, 0, 200, unix.SYNC_FILE_RANGE_WRITE))
	c.Must(unix.Fdatasync(fd))
	c.Must(unix.Fsync(fd))
	c.Must(unix.Syncfs(fd))
	c.Must(unix.Unlink("f"))
	c.Must(unix.Fsync(fd))
}

func inotifies(c *C) {
	in, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	c.Must(err)
	defer unix.Close(in)
	if _, err := unix.InotifyAddWatch(in, ".", unix.IN_CREATE|unix.IN_DELETE|unix.IN_MOVE|unix.IN_CLOSE_WRITE|unix.IN_MODIFY); err != nil {
		c.Skipf("no watch: %v", err)
	}
	c.put("f", "text")
	c.Must(unix.Rename("f", "g"))
	c.Must(unix.Unlink("g"))
	buf := make([]byte, 4096)
	n, err := unix.Read(in, buf)
	c.Must(err)
	var got []string
	for b := buf[:n]; len(b) >= 16; {
		mask, l := binary.NativeEndian.Uint32(b[4:]), binary.NativeEndian.Uint32(b[12:])
		name, _, _ := strings.Cut(string(b[16:16+l]), "\x00")
		for bit, what := range map[uint32]string{unix.IN_CREATE: "create", unix.IN_DELETE: "delete", unix.IN_MOVED_FROM: "from",
			unix.IN_MOVED_TO: "to", unix.IN_CLOSE_WRITE: "close", unix.IN_MODIFY: "modify"} {
			if mask&bit != 0 {
				got = append(got, what+" "+name)
			}
		}
		b = b[16+l:]
	}
	c.Want("events", strings.Join(got, ", "), "create f, modify f, close f, from f, to g, delete g")
}

func inodeNumbers(c *C) {
	seen := map[uint64]string{}
	for i := range 200 {
		name := fmt.Sprintf("f%d", i)
		c.put(name, name)
		st := c.stat(name)
		if other, ok := seen[st.Ino]; ok {
			c.Fatalf("%s and %s have one inode number", name, other)
		}
		seen[st.Ino] = name
	}
	before := c.stat("f0")
	c.Must(unix.Rename("f0", "moved"))
	c.put("moved", "longer than before")
	after := c.stat("moved")
	c.Want("inode number after a rename", after.Ino, before.Ino)
	c.Want("device", after.Dev, before.Dev)
	for ino, name := range seen {
		if name != "f0" {
			c.Want("inode number of "+name, c.stat(name).Ino, ino)
		}
	}
}

func bigXattr(c *C) {
	c.put("f", "")
	// What one attribute may hold differs by disk (ext4: a block less its own headers), the limit of the system is 64 KiB.
	for _, n := range []int{100, 1000, 3000} {
		v := bytes.Repeat([]byte{byte(n)}, n)
		c.Must(unix.Setxattr("f", "user.big", v, 0))
		got := make([]byte, n+1)
		k, err := unix.Getxattr("f", "user.big", got)
		c.Must(err)
		c.Want("value", bytes.Equal(got[:k], v), true)
		k, err = unix.Getxattr("f", "user.big", nil)
		c.Must(err)
		c.Want("length alone", k, n)
		_, err = unix.Getxattr("f", "user.big", make([]byte, n-1))
		c.Want("a buffer that is too short", err, unix.ERANGE)
	}
	c.Want("more than 64 KiB", unix.Setxattr("f", "user.huge", make([]byte, 65537), 0), unix.E2BIG)
	n, err := unix.Listxattr("f", nil)
	c.Must(err)
	_, err = unix.Listxattr("f", make([]byte, n-1))
	c.Want("a list buffer that is too short", err, unix.ERANGE)
}

// capabilities: a write drops security.capability, as capabilities(7) has it.
func capabilities(c *C) {
	c.put("f", "text")
	// struct vfs_cap_data, revision 2: CAP_NET_RAW (13) permitted.
	v := binary.LittleEndian.AppendUint32(nil, 0x02000000)
	v = binary.LittleEndian.AppendUint32(v, 1<<13)
	v = append(v, make([]byte, 12)...)
	set := func() { c.Must(unix.Setxattr("f", "security.capability", v, 0)) }
	has := func() bool {
		_, err := unix.Getxattr("f", "security.capability", make([]byte, 100))
		return err == nil
	}
	set()
	c.Want("after setting", has(), true)
	fd := c.openC("f", unix.O_WRONLY, 0)
	_, err := unix.Write(fd, []byte("x"))
	c.Must(err)
	unix.Close(fd)
	c.Want("after a write", has(), false)
	set()
	c.Must(unix.Truncate("f", 1))
	c.Want("after truncate", has(), false)
	set()
	c.Must(unix.Chown("f", 1, 1))
	c.Want("after chown", has(), false)
}

func unknownIoctl(c *C) {
	fd := c.openC("f", unix.O_RDWR|unix.O_CREAT, 0o644)
	defer unix.Close(fd)
	_, err := unix.IoctlGetInt(fd, 0x5ff5)
	c.Want("unknown", err, unix.ENOTTY)
	_, err = unix.IoctlGetTermios(fd, unix.TCGETS)
	c.Want("of a terminal", err, unix.ENOTTY)
}

func risingTimes(c *C) {
	c.put("f", "")
	fd := c.openC("f", unix.O_RDWR, 0)
	defer unix.Close(fd)
	for i := range 20 {
		_, err := c.m.mark([]string{"a", "f"})
		c.Must(err)
		_, err = unix.Pwrite(fd, []byte{byte(i)}, 0)
		c.Must(err)
		_, err = c.m.moved([]string{"a", "f", "mtime", "ctime"})
		c.Must(err)
	}
}

func fallocateLoop(c *C) {
	fd := c.openC("f", unix.O_RDWR|unix.O_CREAT, 0o644)
	defer unix.Close(fd)
	for i := range 20 {
		c.Must(unix.Fallocate(fd, 0, 0, 1<<20))
		var st unix.Stat_t
		c.Must(unix.Fstat(fd, &st))
		c.Want(fmt.Sprintf("size in round %d", i), st.Size, 1<<20)
		if st.Blocks < 2048 {
			c.Fatalf("%d blocks", st.Blocks)
		}
		c.Must(unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 1<<20))
		c.Must(unix.Fstat(fd, &st))
		if st.Blocks > 64 {
			c.Fatalf("%d blocks after punching all", st.Blocks)
		}
		c.Must(unix.Ftruncate(fd, 0))
	}
}

func manyUnlinked(c *C) {
	var fds []int
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for i := range 100 {
		fd := c.openC("f", unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o644)
		fds = append(fds, fd)
		_, err := unix.Write(fd, fmt.Appendf(nil, "file %d", i))
		c.Must(err)
		c.Must(unix.Unlink("f"))
	}
	buf := make([]byte, 20)
	for i, fd := range fds {
		n, err := unix.Pread(fd, buf, 0)
		c.Must(err)
		c.Want("content", string(buf[:n]), fmt.Sprintf("file %d", i))
	}
}

func manyTmpfiles(c *C) {
	for i, err := range together(100, func(i int) error {
		fd, err := open(c.Dir, unix.O_TMPFILE|unix.O_RDWR, 0o644)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if _, err := unix.Write(fd, fmt.Appendf(nil, "file %d", i)); err != nil {
			return err
		}
		return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, fmt.Sprintf("%s/f%d", c.Dir, i), unix.AT_SYMLINK_FOLLOW)
	}) {
		if err != nil {
			c.Fatalf("file %d: %v", i, err)
		}
	}
	for i := range 100 {
		c.Want("content", c.content(fmt.Sprintf("f%d", i)), fmt.Sprintf("file %d", i))
	}
}
