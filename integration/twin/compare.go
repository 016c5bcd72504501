package twin

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// settledTimes is the end of the times that operations set; later ones come from the clock, which the two sides read one after the other.
const settledTimes = 1_100_000_000

// describe tells what stat(2) must agree in. The size of a directory is its filesystem's own affair.
func describe(st *unix.Stat_t) string {
	size := st.Size
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		size = 0
	}
	mtime := "now"
	// What goes through a fifo moves its mtime on a disk; under FUSE the kernel keeps that to itself.
	if st.Mtim.Sec < settledTimes && st.Mode&unix.S_IFMT != unix.S_IFIFO {
		mtime = fmt.Sprintf("%d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
	}
	return fmt.Sprintf("mode %o, links %d, owner %d:%d, size %d, device %x, mtime %s", st.Mode, st.Nlink, st.Uid, st.Gid, size, st.Rdev, mtime)
}

// Compare returns how the trees differ in what can be seen of them, in at most a dozen lines.
func (t *Twin) Compare() []string {
	here, errA := takeSnapshot(t.dirs[0])
	there, errB := takeSnapshot(t.dirs[1])
	if errA != nil || errB != nil {
		return []string{fmt.Sprintf("%v here, %v there", errA, errB)}
	}
	a, b := here.files, there.files
	var out []string
	add := func(format string, args ...any) {
		if len(out) < 12 {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	for _, p := range sortedKeys(a) {
		other, ok := b[p]
		switch {
		case !ok:
			add("%s is missing there: %s", short(p), a[p])
		case a[p] != other:
			add("%s:\n%s\nhere,\n%s\nthere", short(p), a[p], other)
		}
	}
	for _, p := range sortedKeys(b) {
		if _, ok := a[p]; !ok {
			add("%s is missing here: %s", short(p), b[p])
		}
	}
	// Names of one file here are names of one file there.
	same := map[uint64]uint64{}
	for _, p := range sortedKeys(a) {
		i, j := here.inos[p], there.inos[p]
		if k, ok := same[i]; ok && k != j {
			add("%s is a link to another file there", short(p))
		}
		same[i] = j
	}
	return out
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// snapshot describes every file of a tree, content and extended attributes included, as far as the caller may see it.
type snapshot struct {
	files map[string]string
	inos  map[string]uint64
}

func takeSnapshot(root string) (*snapshot, error) {
	s := &snapshot{map[string]string{}, map[string]uint64{}}
	return s, s.directory(root, "")
}

// directory describes what lies in a directory. Paths lead there by its descriptor: renames put directories into each other until their
// paths are longer than path_resolution(7) allows.
func (s *snapshot) directory(path, rel string) error {
	d, err := os.Open(path)
	if errors.Is(err, fs.ErrPermission) {
		s.files[rel] += "\nnot to be listed"
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := s.file(fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), name), filepath.Join(rel, name)); err != nil {
			return fmt.Errorf("%s: %w", short(filepath.Join(rel, name)), err)
		}
	}
	return nil
}

// file describes one file, and what lies below it.
func (s *snapshot) file(path, rel string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err == unix.EACCES {
		s.files[rel] = "not to be looked at"
		return nil
	} else if err != nil {
		return err
	}
	text := describe(&st)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrPermission) {
			b, err = []byte("not to be read"), nil
		}
		if err != nil {
			return err
		}
		text += "\ncontent " + string(b)
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		text += "\ntarget " + target
	}
	attrs, err := xattrs(path)
	if errors.Is(err, fs.ErrPermission) {
		attrs, err = "\nattributes not to be read", nil
	}
	if err != nil {
		return err
	}
	s.files[rel], s.inos[rel] = text+attrs, st.Ino
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return s.directory(path, rel)
	}
	return nil
}

// xattrs lists the attributes that operations set, with their values.
func xattrs(path string) (string, error) {
	buf := make([]byte, 65536)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		return "", err
	}
	var lines []string
	for _, name := range strings.Split(string(buf[:n]), "\x00") {
		if !strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "system.posix_acl_") {
			continue
		}
		v := make([]byte, 65536)
		n, err := unix.Lgetxattr(path, name, v)
		if err != nil {
			return "", fmt.Errorf("%s of %s: %w", name, path, err)
		}
		lines = append(lines, fmt.Sprintf("\n%s = %q", name, v[:n]))
	}
	sort.Strings(lines)
	return strings.Join(lines, ""), nil
}
