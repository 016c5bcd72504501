package twin

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// operation is one kind of step. Make draws its arguments, and returns how it reads and what does it on one side: the result, as text that must
// be the same on both, and the error.
type operation struct {
	name   string
	weight int
	make   func(*Twin) (string, func(side int) (string, error))
}

var operations = []operation{
	{"mkdir", 10, onPath(func(t *Twin) func(string) error {
		mode := t.mode()
		return func(p string) error { return unix.Mkdir(p, mode) }
	})},
	{"create", 14, onPath(func(t *Twin) func(string) error {
		mode, text := t.mode(), t.text()
		return func(p string) error { return put(p, unix.O_CREAT|unix.O_WRONLY|unix.O_TRUNC, mode, text) }
	})},
	{"create new", 4, onPath(func(t *Twin) func(string) error {
		mode := t.mode()
		return func(p string) error { return put(p, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, mode, "") }
	})},
	{"append", 6, onPath(func(t *Twin) func(string) error {
		text := t.text()
		return func(p string) error { return put(p, unix.O_WRONLY|unix.O_APPEND|unix.O_NONBLOCK, 0, text) }
	})},
	{"truncate", 5, onPath(func(t *Twin) func(string) error {
		n := int64(t.rng.IntN(20000))
		return func(p string) error { return unix.Truncate(p, n) }
	})},
	{"mkfifo", 2, onPath(func(t *Twin) func(string) error {
		mode := t.mode()
		return func(p string) error { return unix.Mkfifo(p, mode) }
	})},
	{"mknod", 4, onPath(func(t *Twin) func(string) error {
		mode, dev := t.mode()|unix.S_IFCHR, int(unix.Mkdev(4094, uint32(t.rng.IntN(70000))))
		return func(p string) error { return unix.Mknod(p, mode, dev) }
	})},
	{"symlink", 4, onPath(func(t *Twin) func(string) error {
		// Relative and never up, so that both sides stay within their own.
		target := []string{"a", "b/c", "./d/../a", ".", "e", "gone"}[t.rng.IntN(6)]
		return func(p string) error { return unix.Symlink(target, p) }
	})},
	{"unlink", 5, onPath(func(*Twin) func(string) error { return unix.Unlink })},
	{"rmdir", 4, onPath(func(*Twin) func(string) error { return unix.Rmdir })},
	{"link", 12, onPaths(func(*Twin) func(a, b string) error { return unix.Link })},
	{"rename", 14, onPaths(func(*Twin) func(a, b string) error { return unix.Rename })},
	{"rename2", 6, onPaths(func(t *Twin) func(a, b string) error {
		how := []uint{unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE}[t.rng.IntN(2)]
		return func(a, b string) error { return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, how) }
	})},
	{"chmod", 6, onPath(func(t *Twin) func(string) error {
		mode, special := t.mode(), []uint32{0, 0, 0, 0o1000, 0o2000, 0o3000}[t.rng.IntN(6)]
		return func(p string) error {
			// Setuid and setgid of a file go with a write, which a daemon that does not see writes can only tell by the open: package posix
			// asks for that where both mean the same.
			var st unix.Stat_t
			if unix.Stat(p, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
				return unix.Chmod(p, mode|special)
			}
			return unix.Chmod(p, mode)
		}
	})},
	{"chown", 4, onPath(func(t *Twin) func(string) error {
		ids := []int{-1, 65533, 65534}
		uid, gid := ids[t.rng.IntN(3)], ids[t.rng.IntN(3)]
		return func(p string) error { return unix.Lchown(p, uid, gid) }
	})},
	{"utimens", 5, onPath(func(t *Twin) func(string) error {
		// Before settledTimes, which tells a time that was set from one of the clock.
		ts := []unix.Timespec{{Sec: int64(t.rng.IntN(1_000_000_000)), Nsec: int64(t.rng.IntN(1_000_000_000))}, {Sec: int64(t.rng.IntN(1_000_000_000))}}
		return func(p string) error { return unix.UtimesNanoAt(unix.AT_FDCWD, p, ts, unix.AT_SYMLINK_NOFOLLOW) }
	})},
	{"setxattr", 8, onPath(func(t *Twin) func(string) error {
		name, value := fmt.Sprintf("user.%c", 'a'+t.rng.IntN(2)), []byte(t.text())
		value = value[:min(len(value), 500)]
		how := t.rng.IntN(3) // any, create, replace
		return func(p string) error { return unix.Lsetxattr(p, name, value, how) }
	})},
	{"removexattr", 5, onPath(func(t *Twin) func(string) error {
		name := fmt.Sprintf("user.%c", 'a'+t.rng.IntN(2))
		return func(p string) error { return unix.Lremovexattr(p, name) }
	})},
	{"setacl", 3, onPath(func(t *Twin) func(string) error {
		name, acl := []string{"system.posix_acl_access", "system.posix_acl_default"}[t.rng.IntN(2)], t.acl()
		return func(p string) error { return unix.Lsetxattr(p, name, acl, 0) }
	})},
	{"fallocate", 3, onPath(func(t *Twin) func(string) error {
		modes := []uint32{0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_ZERO_RANGE}
		mode, at, n := modes[t.rng.IntN(4)], int64(t.rng.IntN(20000)), int64(1+t.rng.IntN(20000))
		return func(p string) error {
			fd, err := unix.Open(p, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.Fallocate(fd, mode, at, n)
		}
	})},
	{"copy", 8, onPaths(func(*Twin) func(a, b string) error { return copyFile })},
	{"hold", 5, (*Twin).hold},
	{"held", 12, (*Twin).useHeld},
	{"let go", 3, (*Twin).letGo},
	{"list", 5, (*Twin).list},
	{"look", 8, (*Twin).look},
}

// onPath makes an operation on one path.
func onPath(draw func(*Twin) func(string) error) func(*Twin) (string, func(int) (string, error)) {
	return func(t *Twin) (string, func(int) (string, error)) {
		p, call := t.path(), draw(t)
		return short(p), func(side int) (string, error) { return "", call(t.at(side, p)) }
	}
}

func onPaths(draw func(*Twin) func(a, b string) error) func(*Twin) (string, func(int) (string, error)) {
	return func(t *Twin) (string, func(int) (string, error)) {
		p, q, call := t.path(), t.path(), draw(t)
		return short(p) + " " + short(q), func(side int) (string, error) { return "", call(t.at(side, p), t.at(side, q)) }
	}
}

func short(path string) string { return strings.ReplaceAll(path, names[len(names)-1], "LONG") }

// mode draws permissions; most of them let operations succeed.
func (t *Twin) mode() uint32 {
	if t.rng.IntN(4) == 0 {
		return uint32(t.rng.IntN(0o1000))
	}
	return []uint32{0o777, 0o755, 0o666, 0o644}[t.rng.IntN(4)]
}

func (t *Twin) text() string {
	return strings.Repeat(string(rune('a'+t.rng.IntN(26))), t.rng.IntN(1<<t.rng.IntN(15)))
}

// acl draws an access list with entries for both others (see getxattr of system.posix_acl_access in package posix for the form).
func (t *Twin) acl() []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	add := func(tag uint16, id uint32) {
		b = binary.LittleEndian.AppendUint16(b, tag)
		b = binary.LittleEndian.AppendUint16(b, uint16(t.rng.IntN(8)))
		b = binary.LittleEndian.AppendUint32(b, id)
	}
	const none = 0xffffffff
	add(1, none)
	extended := t.rng.IntN(3) > 0
	if extended {
		add(2, 65533)
	}
	add(4, none)
	if extended {
		add(8, 65533)
		add(16, none)
	}
	add(32, none)
	return b
}

func put(path string, how int, mode uint32, text string) error {
	fd, err := open(path, how, mode)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for b := []byte(text); len(b) > 0; {
		n, err := unix.Write(fd, b)
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func open(path string, how int, mode uint32) (int, error) {
	for {
		// A fifo without a reader must not hang, and a terminal not become ours.
		fd, err := unix.Open(path, how|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func copyFile(a, b string) error {
	in, err := open(a, unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(in)
	out, err := open(b, unix.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(out)
	_, err = unix.CopyFileRange(in, nil, out, nil, 4000, 0)
	return err
}

// hold opens a file on both sides and keeps it open, whatever becomes of its name.
func (t *Twin) hold() (string, func(int) (string, error)) {
	if len(t.held) >= 10 {
		return "", nil
	}
	p := t.path()
	how := []int{unix.O_RDONLY, unix.O_RDWR, unix.O_RDWR | unix.O_APPEND, unix.O_RDWR | unix.O_TRUNC, unix.O_RDWR | unix.O_TMPFILE}[t.rng.IntN(5)]
	t.held = append(t.held, pair{[2]int{-1, -1}})
	i := len(t.held) - 1
	return fmt.Sprintf("%s %#x", short(p), how), func(side int) (string, error) {
		fd, err := open(t.at(side, p), how, 0o640)
		if err == nil {
			t.held[i].fds[side] = fd
		} else if side == 1 {
			unix.Close(t.held[i].fds[0]) // -1 unless the two differ
			t.held = t.held[:i]
		}
		return "", err
	}
}

func (t *Twin) useHeld() (string, func(int) (string, error)) {
	if len(t.held) == 0 {
		return "", nil
	}
	i := t.rng.IntN(len(t.held))
	off, n, text, mode, link := int64(t.rng.IntN(20000)), int64(t.rng.IntN(20000)), t.text(), t.mode(), t.path()
	what := t.rng.IntN(6)
	return fmt.Sprintf("%d what %d", i, what), func(side int) (string, error) {
		fd := t.held[i].fds[side]
		switch what {
		case 0:
			_, err := unix.Pwrite(fd, []byte(text), off)
			return "", err
		case 1:
			b := make([]byte, n)
			k, err := unix.Pread(fd, b, off)
			return string(b[:max(k, 0)]), err
		case 2:
			return "", unix.Ftruncate(fd, n)
		case 3:
			return "", unix.Fchmod(fd, mode)
		case 4:
			return "", unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/thread-self/fd/%d", fd), unix.AT_FDCWD, t.at(side, link), unix.AT_SYMLINK_FOLLOW)
		}
		var st unix.Stat_t
		err := unix.Fstat(fd, &st)
		return describe(&st), err
	}
}

func (t *Twin) letGo() (string, func(int) (string, error)) {
	if len(t.held) == 0 {
		return "", nil
	}
	i := t.rng.IntN(len(t.held))
	p := t.held[i]
	t.held = append(t.held[:i:i], t.held[i+1:]...)
	return fmt.Sprint(i), func(side int) (string, error) { return "", unix.Close(p.fds[side]) }
}

func (t *Twin) list() (string, func(int) (string, error)) {
	p := filepath.Dir(t.path())
	return short(p), func(side int) (string, error) {
		fd, err := open(t.at(side, p), unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return "", err
		}
		f := os.NewFile(uintptr(fd), p)
		defer f.Close()
		list, err := f.Readdirnames(-1)
		sort.Strings(list)
		return strings.Join(list, "\n"), err
	}
}

func (t *Twin) look() (string, func(int) (string, error)) {
	p := t.path()
	return short(p), func(side int) (string, error) {
		var st unix.Stat_t
		err := unix.Lstat(t.at(side, p), &st)
		return describe(&st), err
	}
}
