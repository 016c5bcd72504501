// Package mountinfo reads the table of mounts. It asks the kernel's list and never the mounts themselves, so that a mount which
// hangs cannot hang the reader.
package mountinfo

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"sharefs"
)

// Type is the filesystem type of a ShareFS mount.
const Type = "fuse.sharefs"

// Mount is one line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
type Mount struct {
	ID, Parent   int
	Major, Minor uint32 // of the device; the minor number of a FUSE mount is also its name in /sys/fs/fuse/connections
	Root         string // what of the filesystem is mounted, "/" for all
	Point        string // where
	Options      string // of this mount
	Type         string
	Source       string
	Super        string // options of the filesystem
}

// ReadOnly reports whether the mount or its filesystem is.
func (m *Mount) ReadOnly() bool { return has(m.Options, "ro") || has(m.Super, "ro") }

// Has reports whether an option is in force, on the mount or on its filesystem.
func (m *Mount) Has(option string) bool { return has(m.Options, option) || has(m.Super, option) }

// Owner returns the user who made a FUSE mount (user_id of mount.fuse(8)); ok is false for mounts of other kinds.
func (m *Mount) Owner() (uid int, ok bool) {
	for o := range strings.SplitSeq(m.Super, ",") {
		if text, found := strings.CutPrefix(o, "user_id="); found {
			uid, err := strconv.Atoi(text)
			return uid, err == nil
		}
	}
	return 0, false
}

func has(list, option string) bool {
	for o := range strings.SplitSeq(list, ",") {
		if o == option {
			return true
		}
	}
	return false
}

// Read lists the mounts of this process's mount namespace, in the order in which they were made.
func Read() ([]Mount, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, &sharefs.Error{Op: "read the table of mounts", Kind: sharefs.KindOf(err), Err: err}
	}
	defer f.Close()
	return Parse(f)
}

// Parse reads the format of /proc/self/mountinfo. A line it cannot read is skipped: a newer kernel may say more.
func Parse(r io.Reader) ([]Mount, error) {
	var out []Mount
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), 4<<20)
	for lines.Scan() {
		if m, ok := parseLine(lines.Text()); ok {
			out = append(out, m)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, &sharefs.Error{Op: "read the table of mounts", Kind: sharefs.KindOf(err), Err: err}
	}
	return out, nil
}

// parseLine reads "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue".
func parseLine(line string) (m Mount, ok bool) {
	before, after, found := strings.Cut(line, " - ")
	head, tail := strings.Split(before, " "), strings.SplitN(after, " ", 3)
	if !found || len(head) < 6 || len(tail) < 3 {
		return m, false
	}
	major, minor, found := strings.Cut(head[2], ":")
	numbers := make([]uint64, 4)
	for i, s := range []string{head[0], head[1], major, minor} {
		n, err := strconv.ParseUint(s, 10, 31)
		if err != nil || !found {
			return m, false
		}
		numbers[i] = n
	}
	return Mount{
		ID: int(numbers[0]), Parent: int(numbers[1]), Major: uint32(numbers[2]), Minor: uint32(numbers[3]),
		Root: unescape(head[3]), Point: unescape(head[4]), Options: head[5],
		Type: tail[0], Source: unescape(tail[1]), Super: tail[2],
	}, true
}

// unescape turns the kernel's octal escapes (space, tab, newline, backslash, #) back.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// At returns the mount that is on top at exactly this path, which must be absolute, clean and free of symbolic links; nil
// where nothing is mounted there.
func At(mounts []Mount, path string) *Mount {
	for i := len(mounts) - 1; i >= 0; i-- {
		if mounts[i].Point == path {
			return &mounts[i]
		}
	}
	return nil
}

// Holding returns the mount that path lies in, judged by the names alone; the path must be as for [At].
func Holding(mounts []Mount, path string) *Mount {
	for {
		if m := At(mounts, path); m != nil {
			return m
		}
		if path == "/" || path == "." {
			return nil
		}
		path = filepath.Dir(path)
	}
}

// Inside reports whether path is dir or lies below it; both absolute and clean.
func Inside(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}
