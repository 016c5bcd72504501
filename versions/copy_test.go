package versions

import (
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// copyStore copies a directory as cp -a does: with holes, modes, times, and names that are of one file. It starts no process: until a child runs
// another program it holds all that the tests beside this one have open, and nothing of theirs would come to rest meanwhile.
func copyStore(t testing.TB, from, to string) {
	t.Helper()
	copies := map[uint64]string{} // by the inode of what was copied
	var last []func() error       // what directories get when nothing more comes into them
	check(t, filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		name := filepath.Join(to, rel)
		if d.IsDir() {
			last = append(last, func() error { return seemsLike(name, path) })
			return os.MkdirAll(name, 0o700)
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return &fs.PathError{Op: "lstat", Path: path, Err: err}
		}
		if first, ok := copies[st.Ino]; ok {
			return os.Link(first, name)
		}
		copies[st.Ino] = name
		if err := copyFile(path, name); err != nil {
			return err
		}
		return seemsLike(name, path)
	}))
	for _, fn := range last {
		check(t, fn())
	}
}

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer dst.Close()
	if _, err := cloneOrCopy(int(dst.Fd()), int(src.Fd()), func() int64 { return math.MaxInt64 }); err != nil {
		return &fs.PathError{Op: "copy", Path: from, Err: err}
	}
	return dst.Close()
}

// seemsLike gives a copy the mode and the times of what was copied.
func seemsLike(name, of string) error {
	var st unix.Stat_t
	if err := unix.Lstat(of, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: of, Err: err}
	}
	if err := unix.Chmod(name, st.Mode&^unix.S_IFMT); err != nil {
		return &fs.PathError{Op: "chmod", Path: name, Err: err}
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{st.Atim, st.Mtim}, 0)
}
