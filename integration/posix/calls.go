package posix

import (
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

var fileTypes = map[string]uint32{
	"regular": unix.S_IFREG, "dir": unix.S_IFDIR, "fifo": unix.S_IFIFO, "block": unix.S_IFBLK, "char": unix.S_IFCHR,
	"socket": unix.S_IFSOCK, "symlink": unix.S_IFLNK,
}

// calls are the verbs of the script language; see Machine.
var calls map[string]call

func init() {
	calls = map[string]call{
		"make":        {2, 3, (*Machine).makeType},
		"remove":      {2, 2, func(m *Machine, a []string) (values, error) { return nil, removeType(a[0], a[1]) }},
		"create":      {2, 2, func(m *Machine, a []string) (values, error) { return nil, create(a[0], a[1]) }},
		"mkdir":       {2, 2, withMode(unix.Mkdir)},
		"mkfifo":      {2, 2, withMode(unix.Mkfifo)},
		"mknod":       {3, 5, (*Machine).mknod},
		"bind":        {1, 1, (*Machine).bind},
		"mkdirs":      {1, 1, func(m *Machine, a []string) (values, error) { return nil, mkdirs(a[0]) }},
		"unlink":      {1, 1, func(m *Machine, a []string) (values, error) { return nil, unix.Unlink(a[0]) }},
		"rmdir":       {1, 1, func(m *Machine, a []string) (values, error) { return nil, unix.Rmdir(a[0]) }},
		"umask":       {1, 1, (*Machine).umask},
		"link":        {2, 2, func(m *Machine, a []string) (values, error) { return nil, unix.Link(a[0], a[1]) }},
		"symlink":     {2, 2, func(m *Machine, a []string) (values, error) { return nil, unix.Symlink(dash(a[0]), a[1]) }},
		"readlink":    {1, 1, readlink},
		"rename":      {2, 2, func(m *Machine, a []string) (values, error) { return nil, unix.Rename(a[0], a[1]) }},
		"rename2":     {3, 3, rename2},
		"linkfd":      {2, 2, (*Machine).linkfd},
		"list":        {1, 1, list},
		"open":        {2, 3, (*Machine).open},
		"hold":        {3, 4, (*Machine).hold},
		"close":       {1, 1, (*Machine).close},
		"fsync":       {1, 1, (*Machine).fsync},
		"write":       {2, 2, func(m *Machine, a []string) (values, error) { return nil, put(a[0], a[1], unix.O_TRUNC) }},
		"append":      {2, 2, func(m *Machine, a []string) (values, error) { return nil, put(a[0], a[1], unix.O_APPEND) }},
		"read":        {1, 1, read},
		"pwrite":      {3, 3, (*Machine).pwrite},
		"pread":       {3, 3, (*Machine).pread},
		"truncate":    {2, 2, truncate},
		"ftruncate":   {2, 2, (*Machine).ftruncate},
		"fallocate":   {4, 4, (*Machine).fallocate},
		"seek":        {3, 3, (*Machine).seek},
		"stat":        {1, 1, func(m *Machine, a []string) (values, error) { return m.stat(a[0], true) }},
		"lstat":       {1, 1, func(m *Machine, a []string) (values, error) { return m.stat(a[0], false) }},
		"access":      {2, 2, access},
		"chmod":       {2, 2, (*Machine).chmod},
		"chown":       {3, 3, (*Machine).chown},
		"lchown":      {3, 3, lchown},
		"utimens":     {3, 4, (*Machine).utimens},
		"mark":        {2, 2, (*Machine).mark},
		"moved":       {3, 6, (*Machine).moved},
		"kept":        {3, 6, (*Machine).kept},
		"setxattr":    {3, 4, (*Machine).setxattr},
		"getxattr":    {2, 2, (*Machine).getxattr},
		"removexattr": {2, 2, (*Machine).removexattr},
		"listxattr":   {1, 1, (*Machine).listxattr},
		"setacl":      {3, 3, (*Machine).setacl},
		"getacl":      {2, 2, (*Machine).getacl},
		"removeacl":   {2, 2, (*Machine).removeacl},
		"connect":     {1, 1, connect},
		"exec":        {1, 1, execute},
	}
}

// dash lets a script write an empty argument.
func dash(s string) string {
	if s == "-" {
		return ""
	}
	return s
}

func withMode(fn func(string, uint32) error) func(*Machine, []string) (values, error) {
	return func(m *Machine, a []string) (values, error) {
		mode, err := octal(a[1])
		if err != nil {
			return nil, err
		}
		return nil, fn(dash(a[0]), mode)
	}
}

// makeType creates a file of any type, with mode 0644 (a directory: 0755) unless told otherwise.
func (m *Machine) makeType(a []string) (values, error) {
	mode := "0644"
	if a[0] == "dir" {
		mode = "0755"
	}
	if len(a) > 2 {
		mode = a[2]
	}
	switch a[0] {
	case "regular":
		return nil, create(a[1], mode)
	case "dir":
		return calls["mkdir"].run(m, []string{a[1], mode})
	case "symlink":
		return nil, unix.Symlink("target", a[1])
	case "socket":
		if v, err := m.bind(a[1:2]); err != nil {
			return v, err
		}
		return m.chmod([]string{a[1], mode})
	}
	return m.mknod([]string{a[1], a[0], mode, "4094", "77"})
}

func removeType(typ, name string) error {
	if typ == "dir" {
		return unix.Rmdir(name)
	}
	return unix.Unlink(name)
}

func create(name, mode string) error {
	bits, err := octal(mode)
	if err != nil {
		return err
	}
	fd, err := open(dash(name), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, bits)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func (m *Machine) mknod(a []string) (values, error) {
	typ, ok := fileTypes[a[1]]
	if !ok {
		return nil, &badScript{"unknown type " + a[1]}
	}
	mode, err := octal(a[2])
	if err != nil {
		return nil, err
	}
	var dev uint64
	if len(a) == 5 {
		n, err := numbers(a[3:]...)
		if err != nil {
			return nil, err
		}
		dev = unix.Mkdev(uint32(n[0]), uint32(n[1]))
	}
	return nil, unix.Mknod(dash(a[0]), typ|mode, int(dev))
}

func (m *Machine) bind(a []string) (values, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	m.socks = append(m.socks, fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: a[0]}); err != nil {
		return nil, err
	}
	return nil, unix.Listen(fd, 64)
}

// mkdirs makes the directories of a path that may be longer than PATH_MAX, going down one by one; the last component is not made.
func mkdirs(path string) error {
	parts := strings.Split(path, "/")
	at := unix.AT_FDCWD
	defer func() {
		if at != unix.AT_FDCWD {
			unix.Close(at)
		}
	}()
	for _, p := range parts[:len(parts)-1] {
		if err := unix.Mkdirat(at, p, 0o755); err != nil && err != unix.EEXIST {
			return err
		}
		fd, err := unix.Openat(at, p, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if at != unix.AT_FDCWD {
			unix.Close(at)
		}
		at = fd
	}
	return nil
}

func (m *Machine) umask(a []string) (values, error) {
	mask, err := octal(a[0])
	unix.Umask(int(mask))
	return nil, err
}

func readlink(m *Machine, a []string) (values, error) {
	b := make([]byte, 8192)
	n, err := unix.Readlink(a[0], b)
	if err != nil {
		return nil, err
	}
	v := one(string(b[:n]))
	v["length"] = fmt.Sprint(n)
	return v, nil
}

func rename2(m *Machine, a []string) (values, error) {
	f, err := flags(a[2], map[string]int{"NOREPLACE": unix.RENAME_NOREPLACE, "EXCHANGE": unix.RENAME_EXCHANGE, "WHITEOUT": unix.RENAME_WHITEOUT})
	if err != nil {
		return nil, err
	}
	return nil, unix.Renameat2(unix.AT_FDCWD, a[0], unix.AT_FDCWD, a[1], uint(f))
}

// linkfd gives the file behind a descriptor a name.
func (m *Machine) linkfd(a []string) (values, error) {
	fd, err := m.held(a[0])
	if err != nil {
		return nil, err
	}
	return nil, unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, a[1], unix.AT_SYMLINK_FOLLOW)
}

func list(m *Machine, a []string) (values, error) {
	entries, err := os.ReadDir(a[0])
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	v := one(sorted(names))
	v["count"] = fmt.Sprint(len(names))
	return v, nil
}

func access(m *Machine, a []string) (values, error) {
	var mode uint32
	for _, r := range a[1] {
		mode |= map[rune]uint32{'r': unix.R_OK, 'w': unix.W_OK, 'x': unix.X_OK}[r]
	}
	return nil, unix.Faccessat(unix.AT_FDCWD, a[0], mode, unix.AT_EACCESS)
}

func connect(m *Machine, a []string) (values, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return nil, unix.Connect(fd, &unix.SockaddrUnix{Name: a[0]})
}

func execute(m *Machine, a []string) (values, error) {
	out, err := exec.Command("./" + a[0]).Output()
	return one(strings.TrimSpace(string(out))), err
}
