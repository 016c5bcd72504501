package posix

import (
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine executes the lines of a script. Calls are, by family (a NAME may be fd:X, the descriptor X, where that makes sense):
//
//	files        make TYPE NAME [MODE] · remove TYPE NAME · create NAME MODE · mkdir · mkfifo NAME MODE · mknod NAME TYPE MODE [MAJOR MINOR]
//	             bind NAME · mkdirs PATH · unlink · rmdir · rm-at NAME FLAGS · umask MODE
//	names        link A B · symlink TARGET NAME · readlink NAME => TARGET · rename A B · rename2 A B FLAG · linkfd X B · list DIR => NAMES
//	descriptors  open NAME FLAGS [MODE] (and close again) · hold X NAME FLAGS [MODE] · close X · fsync X
//	content      write NAME TEXT · append NAME TEXT · read NAME => TEXT · pwrite X OFFSET TEXT · pread X OFFSET LENGTH => TEXT
//	             truncate NAME SIZE · ftruncate NAME SIZE · fallocate NAME MODE OFFSET LENGTH · seek X OFFSET WHENCE => OFFSET
//	attributes   stat NAME · lstat NAME => type= mode= nlink= uid= gid= size= blocks= rdev= atime= mtime= · access NAME rwx
//	             chmod NAME MODE · chown NAME UID GID · lchown NAME UID GID · utimens NAME ATIME MTIME [nofollow]
//	             mark M NAME (remember times) · moved M NAME TIME… (each later now) · kept M NAME TIME… (each the same)
//	xattrs       setxattr NAME KEY VALUE [create|replace] · getxattr NAME KEY => VALUE · removexattr NAME KEY · listxattr NAME => KEYS
//	acls         setacl NAME access|default ENTRIES · getacl NAME access|default => ENTRIES · removeacl NAME access|default
//	others       connect NAME (a socket) · exec NAME => OUTPUT
type Machine struct {
	c     *C
	as    *Cred // nil: the suite's user
	fds   map[string]int
	socks []int
	marks map[string]times
}

func newMachine(c *C) *Machine {
	return &Machine{c: c, fds: map[string]int{}, marks: map[string]times{}}
}

func (m *Machine) closeAll() {
	for _, fd := range m.fds {
		unix.Close(fd)
	}
	for _, fd := range m.socks {
		unix.Close(fd)
	}
}

// values is what a call gave: by key, or under the empty key.
type values map[string]string

func one(s string) values { return values{"": s} }

// call is how one call of the script language runs.
type call struct {
	min, max int // arguments
	run      func(m *Machine, a []string) (values, error)
}

// exec runs one line and ends the case if it does not go as expected.
func (m *Machine) exec(ln line) {
	if ln.as != m.as {
		who := m.c.Base
		if ln.as != nil {
			who = *ln.as
		}
		if err := Become(who, false); err != nil {
			m.c.Fatalf("line %d: %v", ln.no, err)
		}
		m.as = ln.as
	}
	got, err := calls[ln.words[0]].run(m, ln.words[1:])
	fail := func(format string, args ...any) {
		text := strings.Join(ln.words, " ")
		if len(text) > 120 {
			text = text[:120] + "…"
		}
		m.c.Fatalf("line %d: %s: %s", ln.no, text, fmt.Sprintf(format, args...))
	}
	var bad *badScript
	if errors.As(err, &bad) {
		fail("%v", err)
	}
	name := errnoName(err)
	switch {
	case len(ln.errnos) == 0 && err != nil:
		fail("%s", name)
	case len(ln.errnos) > 0:
		for _, e := range ln.errnos {
			if e == name {
				return
			}
		}
		fail("%s, want %s", name, strings.Join(ln.errnos, " or "))
	}
	for _, w := range ln.want {
		if msg := got.check(w); msg != "" {
			fail("%s", msg)
		}
	}
}

// check compares with KEY=VALUE, KEY!=VALUE, KEY<NUMBER, KEY>NUMBER or a bare VALUE ("-" for an empty one).
func (v values) check(want string) string {
	for _, op := range []string{"!=", "=", "<", ">"} {
		key, val, ok := strings.Cut(want, op)
		if !ok {
			continue
		}
		got, known := v[key]
		if !known {
			break
		}
		if key == "mode" {
			val = fmt.Sprintf("%04s", val)
		}
		a, _ := strconv.ParseInt(got, 10, 64)
		b, _ := strconv.ParseInt(val, 10, 64)
		if ok := map[string]bool{"!=": got != val, "=": got == val, "<": a < b, ">": a > b}[op]; !ok {
			return fmt.Sprintf("%s is %s, want %s", key, got, want)
		}
		return ""
	}
	if want == "-" {
		want = ""
	}
	if v[""] != want {
		return fmt.Sprintf("gave %q, want %q", v[""], want)
	}
	return ""
}

// badScript is a mistake in a script, which no expected errno excuses.
type badScript struct{ msg string }

func (b *badScript) Error() string { return "bad script: " + b.msg }

func errnoName(err error) string {
	if err == nil {
		return "success"
	}
	var e unix.Errno
	if errors.As(err, &e) {
		return unix.ErrnoName(e)
	}
	return err.Error()
}

// flags joined by "|", or one of them alone.
func flags(s string, table map[string]int) (int, error) {
	out := 0
	for _, f := range strings.Split(s, "|") {
		v, ok := table[f]
		if !ok {
			return 0, &badScript{"unknown flag " + f}
		}
		out |= v
	}
	return out, nil
}

var openFlags = map[string]int{
	"O_RDONLY": unix.O_RDONLY, "O_WRONLY": unix.O_WRONLY, "O_RDWR": unix.O_RDWR, "O_CREAT": unix.O_CREAT, "O_EXCL": unix.O_EXCL,
	"O_TRUNC": unix.O_TRUNC, "O_APPEND": unix.O_APPEND, "O_NONBLOCK": unix.O_NONBLOCK, "O_NOFOLLOW": unix.O_NOFOLLOW,
	"O_DIRECTORY": unix.O_DIRECTORY, "O_PATH": unix.O_PATH, "O_TMPFILE": unix.O_TMPFILE, "O_NOATIME": unix.O_NOATIME,
	"O_SYNC": unix.O_SYNC, "O_DIRECT": unix.O_DIRECT,
}

func number(s string, base int) (int64, error) {
	n, err := strconv.ParseInt(s, base, 64)
	if err != nil {
		return 0, &badScript{err.Error()}
	}
	return n, nil
}

// numbers parses decimal arguments, and octal the one of a mode.
func numbers(a ...string) ([]int64, error) {
	out := make([]int64, len(a))
	for i := range a {
		var err error
		if out[i], err = number(a[i], 10); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func octal(s string) (uint32, error) {
	n, err := number(s, 8)
	return uint32(n), err
}

// fd returns the descriptor that a name of the form fd:X stands for.
func (m *Machine) fd(name string) (int, bool) {
	x, ok := strings.CutPrefix(name, "fd:")
	if !ok {
		return -1, false
	}
	fd, ok := m.fds[x]
	if !ok {
		return -1, true
	}
	return fd, true
}

func (m *Machine) held(x string) (int, error) {
	if fd, ok := m.fds[x]; ok {
		return fd, nil
	}
	return -1, &badScript{"no descriptor " + x}
}

// withFD runs fn on a descriptor of the file, opened for it unless the name stands for one.
func (m *Machine) withFD(name string, how int, fn func(fd int) error) error {
	if fd, ok := m.fd(name); ok {
		return fn(fd)
	}
	fd, err := open(name, how, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return fn(fd)
}

// open is open(2), taken up again after the signals that the Go runtime sends.
func open(name string, how int, mode uint32) (int, error) {
	for {
		fd, err := unix.Open(name, how|unix.O_CLOEXEC, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func sorted(s []string) string {
	sort.Strings(s)
	return strings.Join(s, ",")
}
