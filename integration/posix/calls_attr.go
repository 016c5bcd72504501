package posix

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func (m *Machine) stat(name string, follow bool) (values, error) {
	var st unix.Stat_t
	var err error
	if fd, ok := m.fd(name); ok {
		err = unix.Fstat(fd, &st)
	} else if follow {
		err = unix.Stat(dash(name), &st)
	} else {
		err = unix.Lstat(dash(name), &st)
	}
	if err != nil {
		return nil, err
	}
	typ := ""
	for name, bits := range fileTypes {
		if st.Mode&unix.S_IFMT == bits {
			typ = name
		}
	}
	return values{
		"type": typ, "mode": fmt.Sprintf("%04o", st.Mode&0o7777), "nlink": fmt.Sprint(st.Nlink),
		"uid": fmt.Sprint(st.Uid), "gid": fmt.Sprint(st.Gid), "size": fmt.Sprint(st.Size), "blocks": fmt.Sprint(st.Blocks),
		"rdev":  fmt.Sprintf("%d:%d", unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))),
		"atime": stampText(st.Atim), "mtime": stampText(st.Mtim),
	}, nil
}

func stampText(ts unix.Timespec) string {
	if ts.Nsec == 0 {
		return fmt.Sprint(ts.Sec)
	}
	return fmt.Sprintf("%d.%09d", ts.Sec, ts.Nsec)
}

// times are those of a file at one moment.
type times map[string]unix.Timespec

func (m *Machine) times(name string) (times, error) {
	var st unix.Stat_t
	var err error
	if fd, ok := m.fd(name); ok {
		err = unix.Fstat(fd, &st)
	} else {
		err = unix.Lstat(name, &st)
	}
	return times{"atime": st.Atim, "mtime": st.Mtim, "ctime": st.Ctim}, err
}

// mark remembers the times of a file and waits until the clock that files are stamped with has passed them: on a kernel with timestamps of a
// tick a change could otherwise go unseen.
func (m *Machine) mark(a []string) (values, error) {
	t, err := m.times(a[1])
	if err != nil {
		return nil, err
	}
	m.marks[a[0]] = t
	var start unix.Timespec
	unix.ClockGettime(unix.CLOCK_REALTIME, &start)
	for {
		var now unix.Timespec
		unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now)
		if now.Nano() > start.Nano() {
			return nil, nil
		}
		time.Sleep(time.Millisecond)
	}
}

func (m *Machine) compareTimes(a []string, ok func(before, after int64) bool, what string) (values, error) {
	before, known := m.marks[a[0]]
	if !known {
		return nil, &badScript{"no mark " + a[0]}
	}
	after, err := m.times(a[1])
	if err != nil {
		return nil, err
	}
	for _, key := range a[2:] {
		b, known := before[key]
		if !known {
			return nil, &badScript{"no time " + key}
		}
		if n := after[key]; !ok(b.Nano(), n.Nano()) {
			return nil, fmt.Errorf("%s was %s, is %s, should have %s", key, stampText(b), stampText(n), what)
		}
	}
	return nil, nil
}

func (m *Machine) moved(a []string) (values, error) {
	return m.compareTimes(a, func(b, n int64) bool { return n > b }, "moved on")
}

func (m *Machine) kept(a []string) (values, error) {
	return m.compareTimes(a, func(b, n int64) bool { return n == b }, "stayed")
}

func (m *Machine) chmod(a []string) (values, error) {
	mode, err := octal(a[1])
	if err != nil {
		return nil, err
	}
	if fd, ok := m.fd(a[0]); ok {
		return nil, unix.Fchmod(fd, mode)
	}
	return nil, unix.Chmod(dash(a[0]), mode)
}

func (m *Machine) chown(a []string) (values, error) {
	n, err := numbers(a[1:]...)
	if err != nil {
		return nil, err
	}
	if fd, ok := m.fd(a[0]); ok {
		return nil, unix.Fchown(fd, int(n[0]), int(n[1]))
	}
	return nil, unix.Chown(dash(a[0]), int(n[0]), int(n[1]))
}

func lchown(m *Machine, a []string) (values, error) {
	n, err := numbers(a[1:]...)
	if err != nil {
		return nil, err
	}
	return nil, unix.Lchown(dash(a[0]), int(n[0]), int(n[1]))
}

// stamp reads SEC[.NSEC], now or omit.
func stamp(s string) (unix.Timespec, error) {
	switch s {
	case "now":
		return unix.Timespec{Nsec: unix.UTIME_NOW}, nil
	case "omit":
		return unix.Timespec{Nsec: unix.UTIME_OMIT}, nil
	}
	sec, frac, _ := strings.Cut(s, ".")
	var ts unix.Timespec
	var err error
	if ts.Sec, err = number(sec, 10); err != nil {
		return ts, err
	}
	if frac != "" {
		frac += strings.Repeat("0", max(9-len(frac), 0))
		n, err := strconv.ParseInt(frac, 10, 64)
		if err != nil {
			return ts, &badScript{err.Error()}
		}
		ts.Nsec = n
	}
	return ts, nil
}

func (m *Machine) utimens(a []string) (values, error) {
	at, err := stamp(a[1])
	if err != nil {
		return nil, err
	}
	mt, err := stamp(a[2])
	if err != nil {
		return nil, err
	}
	how := 0
	if len(a) > 3 {
		how = unix.AT_SYMLINK_NOFOLLOW
	}
	name := dash(a[0])
	if fd, ok := m.fd(a[0]); ok {
		name = fmt.Sprintf("/proc/self/fd/%d", fd)
	}
	return nil, unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{at, mt}, how)
}

func (m *Machine) setxattr(a []string) (values, error) {
	how := 0
	if len(a) > 3 {
		var err error
		if how, err = flags(a[3], map[string]int{"create": unix.XATTR_CREATE, "replace": unix.XATTR_REPLACE}); err != nil {
			return nil, err
		}
	}
	value := []byte(dash(a[2]))
	if fd, ok := m.fd(a[0]); ok {
		return nil, unix.Fsetxattr(fd, a[1], value, how)
	}
	return nil, unix.Lsetxattr(a[0], a[1], value, how)
}

func (m *Machine) getxattr(a []string) (values, error) {
	buf := make([]byte, 65536)
	var n int
	var err error
	if fd, ok := m.fd(a[0]); ok {
		n, err = unix.Fgetxattr(fd, a[1], buf)
	} else {
		n, err = unix.Lgetxattr(a[0], a[1], buf)
	}
	if err != nil {
		return nil, err
	}
	v := one(string(buf[:n]))
	v["length"] = fmt.Sprint(n)
	return v, nil
}

func (m *Machine) removexattr(a []string) (values, error) {
	if fd, ok := m.fd(a[0]); ok {
		return nil, unix.Fremovexattr(fd, a[1])
	}
	return nil, unix.Lremovexattr(a[0], a[1])
}

// listxattr gives the names below user. and trusted., as others come and go with the system's security modules.
func (m *Machine) listxattr(a []string) (values, error) {
	buf := make([]byte, 65536)
	var n int
	var err error
	if fd, ok := m.fd(a[0]); ok {
		n, err = unix.Flistxattr(fd, buf)
	} else {
		n, err = unix.Llistxattr(a[0], buf)
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, s := range strings.Split(string(buf[:n]), "\x00") {
		if strings.HasPrefix(s, "user.") || strings.HasPrefix(s, "trusted.") {
			names = append(names, s)
		}
	}
	return one(sorted(names)), nil
}
