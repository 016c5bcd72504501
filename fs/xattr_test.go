package fs

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"runtime"
	"sort"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func listXattr(t *testing.T, path string) []string {
	t.Helper()
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	ok(t, err)
	names := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
	if n == 0 {
		names = nil
	}
	sort.Strings(names)
	return names
}

func getXattr(path, name string) (string, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Lgetxattr(path, name, buf)
	return string(buf[:max(n, 0)]), err
}

func TestXattr(t *testing.T) {
	m := mountTree(t, true, nil)
	p := m.write("file", "")
	ok(t, os.Mkdir(m.path("dir"), 0o755))
	ok(t, os.Symlink("x", m.path("link")))
	big := strings.Repeat("v", 60000)
	for _, c := range []struct{ path, name, value string }{
		{p, "user.a", "1"}, {p, "user.empty", ""}, {p, "user.big", big}, {p, "trusted.t", "2"}, {p, "security.s", "3"},
		{m.path("dir"), "user.d", "4"}, {m.path("link"), "trusted.l", "5"},
	} {
		ok(t, unix.Lsetxattr(c.path, c.name, []byte(c.value), 0))
		if got, err := getXattr(c.path, c.name); err != nil || got != c.value {
			t.Errorf("%s of %s: %d bytes, %v", c.name, c.path, len(got), err)
		}
	}
	if got := strings.Join(listXattr(t, p), " "); got != "security.s trusted.t user.a user.big user.empty" {
		t.Errorf("listed %s", got)
	}
	want(t, "XATTR_CREATE of what is there", unix.Setxattr(p, "user.a", nil, unix.XATTR_CREATE), unix.EEXIST)
	want(t, "XATTR_REPLACE of what is missing", unix.Setxattr(p, "user.new", nil, unix.XATTR_REPLACE), unix.ENODATA)
	_, err := unix.Getxattr(p, "user.big", make([]byte, 10))
	want(t, "a short buffer", err, unix.ERANGE)
	if n, err := unix.Getxattr(p, "user.big", nil); err != nil || n != len(big) {
		t.Errorf("size %d, %v", n, err)
	}
	ok(t, unix.Removexattr(p, "user.a"))
	want(t, "removing it again", unix.Removexattr(p, "user.a"), unix.ENODATA)
	want(t, "user. on a symlink", unix.Lsetxattr(m.path("link"), "user.x", nil, 0), unix.EPERM)
}

// The attributes of the mount's own cannot be set but for the two commands, and are never listed on a live file.
func TestOwnXattrs(t *testing.T) {
	m := mountTree(t, true, nil)
	p := m.write("file", "")
	want(t, "set", unix.Setxattr(p, attrVersion, []byte("1"), 0), unix.ENOTSUP)
	want(t, "remove", unix.Removexattr(p, attrVersion), unix.ENOTSUP)
	want(t, "restore of no number", unix.Setxattr(p, attrRestore, []byte("one"), 0), unix.EINVAL)
	want(t, "restore of no version", unix.Setxattr(p, attrRestore, []byte("77"), 0), unix.ENOENT)
	_, err := getXattr(p, attrCommit)
	want(t, "reading a command", err, unix.ENODATA)
	if names := listXattr(t, p); len(names) > 0 {
		t.Errorf("listed %v", names)
	}
}

// acl makes an access control list in the form of linux/posix_acl_xattr.h of tag, permissions and id for each entry.
func acl(entries ...[3]uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
		b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
		b = binary.LittleEndian.AppendUint32(b, e[2])
	}
	return b
}

const noID = 0xffffffff

// The kernel keeps to access control lists, files inherit them, and chmod(2) and they agree.
func TestACL(t *testing.T) {
	m := mountTree(t, true, nil)
	ok(t, os.Chmod(m.dir, 0o755))
	dir := m.path("dir")
	ok(t, os.Mkdir(dir, 0o755))
	const someone = 12345
	inherit := acl([3]uint32{aclUserObj, 7, noID}, [3]uint32{aclUser, 7, someone}, [3]uint32{aclGroupObj, 5, noID},
		[3]uint32{aclMask, 7, noID}, [3]uint32{aclOther, 0, noID})
	ok(t, unix.Setxattr(dir, "system.posix_acl_default", inherit, 0))
	ok(t, unix.Setxattr(dir, aclAccess, inherit, 0))
	if st := m.stat("dir"); st.Mode&0o777 != 0o770 {
		t.Errorf("the directory has mode %o after its list was set, want 770", st.Mode&0o777)
	}
	p := m.write("dir/file", "secret")
	got, err := getXattr(p, aclAccess)
	ok(t, err)
	wantACL := acl([3]uint32{aclUserObj, 6, noID}, [3]uint32{aclUser, 7, someone}, [3]uint32{aclGroupObj, 5, noID},
		[3]uint32{aclMask, 4, noID}, [3]uint32{aclOther, 0, noID})
	if !bytes.Equal([]byte(got), wantACL) {
		t.Errorf("inherited\n%x, want\n%x", got, wantACL)
	}
	as := func(uid, gid uint32, flags int) error {
		return asUser(t, uid, gid, p, flags)
	}
	want(t, "one who is named reads", as(someone, 1, unix.O_RDONLY), nil)
	want(t, "one who is named writes beyond the mask", as(someone, 1, unix.O_WRONLY), unix.EACCES)
	want(t, "another reads", as(someone+1, 1, unix.O_RDONLY), unix.EACCES)
	ok(t, os.Chmod(p, 0o660))
	want(t, "one who is named writes after the mask was widened", as(someone, 1, unix.O_WRONLY), nil)
	ok(t, unix.Removexattr(p, aclAccess))
	want(t, "one who was named", as(someone, 1, unix.O_RDONLY), unix.EACCES)
}

// asUser opens a file as another user.
func asUser(t *testing.T, uid, gid uint32, path string, flags int) error {
	t.Helper()
	return beUser(t, uid, gid, func() error {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
		if err == nil {
			unix.Close(fd)
		}
		return err
	})
}

// beUser does something as another user, in no other groups, on a thread that ends with the goroutine.
func beUser(t *testing.T, uid, gid uint32, do func() error) error {
	t.Helper()
	result := make(chan error, 1)
	go func() {
		// Never unlocked: the thread, whose credentials have changed, is not used again.
		runtime.LockOSThread()
		if _, _, errno := syscall.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); errno != 0 {
			result <- errno
			return
		}
		none := uintptr(0xffffffff)
		if _, _, errno := syscall.RawSyscall(unix.SYS_SETRESGID, none, uintptr(gid), none); errno != 0 {
			result <- errno
			return
		}
		if _, _, errno := syscall.RawSyscall(unix.SYS_SETRESUID, none, uintptr(uid), none); errno != 0 {
			result <- errno
			return
		}
		result <- do()
	}()
	return <-result
}

// Permissions are the kernel's to check, in directories too.
func TestPermissions(t *testing.T) {
	m := mountTree(t, true, nil)
	ok(t, os.Chmod(m.dir, 0o755))
	p := m.write("file", "")
	ok(t, os.Chown(p, 100, 200))
	ok(t, os.Chmod(p, 0o640))
	want(t, "the owner writes", asUser(t, 100, 1, p, unix.O_WRONLY), nil)
	want(t, "the group reads", asUser(t, 101, 200, p, unix.O_RDONLY), nil)
	want(t, "the group writes", asUser(t, 101, 200, p, unix.O_WRONLY), unix.EACCES)
	want(t, "others read", asUser(t, 101, 1, p, unix.O_RDONLY), unix.EACCES)
	ok(t, os.Mkdir(m.path("closed"), 0o700))
	inside := m.write("closed/file", "")
	ok(t, os.Chmod(inside, 0o666))
	want(t, "behind a closed directory", asUser(t, 101, 1, inside, unix.O_RDONLY), unix.EACCES)
}

// Where root alone may enter nobody else does, and root may do what it may on a disk.
func TestRootAlone(t *testing.T) {
	m := mountTree(t, true, func(c *Config) { c.AllowOther = false })
	if m.srv.Stats().Checks {
		t.Error("the kernel checks permissions")
	}
	p := m.write("file", "content")
	want(t, "another user", asUser(t, 100, 100, p, unix.O_RDONLY), unix.EACCES)
	ok(t, os.Chmod(p, 0))
	m.holds("file", "content")
	want(t, "access for reading and writing", unix.Access(p, unix.R_OK|unix.W_OK), nil)
	want(t, "access for executing what nobody may", unix.Access(p, unix.X_OK), unix.EACCES)
	// By env(1), for this process serves the mount: it must not wait for it within fork(2), while its garbage collector waits for it.
	if out, err := exec.Command("env", p).CombinedOutput(); err == nil || !strings.Contains(string(out), "Permission denied") {
		t.Errorf("executing it: %v, %s", err, out)
	}
	ok(t, os.Chmod(p, 0o100))
	want(t, "access for executing what somebody may", unix.Access(p, unix.X_OK), nil)
	want(t, "access to the directory", unix.Access(m.dir, unix.X_OK), nil)
	want(t, "access to what is missing", unix.Access(m.path("none"), unix.F_OK), unix.ENOENT)
	m.released()
	m.commit("file", "")
	want(t, "access for writing to a version", unix.Access(m.path("file@@1"), unix.W_OK), unix.EROFS)
	want(t, "access to a version", unix.Access(m.path("file@@1"), unix.R_OK), nil)
	// A list moves the mode, and the kernel sees it.
	ok(t, os.Chmod(p, 0o640))
	m.stat("file")
	ok(t, unix.Setxattr(p, aclAccess, acl([3]uint32{aclUserObj, 6, noID}, [3]uint32{aclUser, 7, 100},
		[3]uint32{aclGroupObj, 4, noID}, [3]uint32{aclMask, 7, noID}, [3]uint32{aclOther, 0, noID}), 0))
	if mode := m.stat("file").Mode & 0o777; mode != 0o670 {
		t.Errorf("mode %o after a list with the mask 7", mode)
	}
	// With the option it is the kernel's business here too.
	if o := mountTree(t, true, func(c *Config) {
		c.AllowOther, c.Options = false, []string{checkOption}
	}); !o.srv.Stats().Checks {
		t.Error("default_permissions had no effect")
	}
}

// A write by one who may not keep them takes setuid and setgid away.
func TestSetuidGoes(t *testing.T) {
	for _, through := range []bool{true, false} {
		m := mountTree(t, through, nil)
		ok(t, os.Chmod(m.dir, 0o755))
		p := m.write("file", "#!")
		ok(t, os.Chmod(p, 0o666))
		for _, flags := range []int{unix.O_WRONLY, unix.O_WRONLY | unix.O_TRUNC} {
			ok(t, unix.Chmod(p, 0o6777))
			ok(t, asUser(t, 100, 100, p, flags))
			if mode := m.stat("file").Mode & 0o7777; mode&0o6000 != 0 && flags&unix.O_TRUNC != 0 {
				t.Errorf("mode %o after truncation by another", mode)
			}
		}
	}
}

func TestIoctl(t *testing.T) {
	m := mountTree(t, true, nil)
	f, err := os.Open(m.write("file", ""))
	ok(t, err)
	defer f.Close()
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil || flags != 0 {
		t.Errorf("flags %#x, %v", flags, err)
	}
	ok(t, unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, 0))
	want(t, "making it immutable", unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, fsImmutable), unix.ENOTSUP)
	const (
		goingDown = 0x8004587d // XFS_IOC_GOINGDOWN and EXT4_IOC_SHUTDOWN
		fitrim    = 0xc0185879
	)
	for _, cmd := range []uint{goingDown, fitrim, 0x1234} {
		arg := make([]byte, 256)
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(cmd), uintptr(unsafe.Pointer(&arg[0])))
		want(t, "a strange ioctl", errno, unix.ENOTTY)
	}
}

// A rule of retention is kept with the file or directory, and goes into copies; one that cannot be read is refused.
func TestRetentionRuleIsKept(t *testing.T) {
	m := mountTree(t, true, nil)
	p := m.write("file", "content")
	m.released()
	ok(t, unix.Setxattr(p, "user.sharefs.retain", []byte("forever"), 0))
	if got, err := getXattr(m.at(m.moment(), "file"), "user.sharefs.retain"); err != nil || got != "forever" {
		t.Errorf("in a view it is %q, %v", got, err)
	}
	for _, path := range []string{p, m.dir} {
		ok(t, unix.Setxattr(path, "user.sharefs.retain", []byte("all=1h min_versions=1"), 0))
		if got, err := getXattr(path, "user.sharefs.retain"); err != nil || got != "all=1h min_versions=1" {
			t.Errorf("the rule of %s is %q, %v", path, got, err)
		}
		want(t, "nonsense", unix.Setxattr(path, "user.sharefs.retain", []byte("sometimes"), 0), unix.EINVAL)
		ok(t, unix.Removexattr(path, "user.sharefs.retain"))
		want(t, "a command", unix.Removexattr(path, attrTag), unix.ENOTSUP)
	}
}
