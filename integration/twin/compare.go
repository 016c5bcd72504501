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
	a, inosA, errA := snapshot(t.dirs[0])
	b, inosB, errB := snapshot(t.dirs[1])
	if errA != nil || errB != nil {
		return []string{fmt.Sprintf("%v here, %v there", errA, errB)}
	}
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
	there := map[uint64]uint64{}
	for _, p := range sortedKeys(a) {
		i, j := inosA[p], inosB[p]
		if k, ok := there[i]; ok && k != j {
			add("%s is a link to another file there", short(p))
		}
		there[i] = j
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
func snapshot(root string) (files map[string]string, inos map[string]uint64, err error) {
	files, inos = map[string]string{}, map[string]uint64{}
	err = filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		rel, err2 := filepath.Rel(root, path)
		if err2 != nil || rel == "." {
			return err2
		}
		if errors.Is(err, fs.ErrPermission) {
			files[rel] += "\nnot to be listed"
			return fs.SkipDir
		}
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err == unix.EACCES {
			files[rel] = "not to be looked at"
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
		files[rel], inos[rel] = text+attrs, st.Ino
		return nil
	})
	return files, inos, err
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
