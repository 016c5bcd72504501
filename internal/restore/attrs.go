package restore

import (
	"errors"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/internal/treediff"
)

const (
	aclAccess = "system.posix_acl_access" // acl(5), as the kernel keeps it
	emptyPath = unix.AT_EMPTY_PATH
)

// original is what the past has under a path.
type original struct {
	*treediff.Entry
	xattrs map[string]string
}

// look reads the attributes of a path of the past.
func (w *work) look(p string) (*original, error) {
	dir, err := treediff.Open(w.pastFd, parent(p), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	return lookAt(&w.past, dir, base(p), p)
}

func lookAt(side *treediff.Side, dir int, name, p string) (*original, error) {
	e, err := side.Stat(dir, name, p)
	if err != nil {
		return nil, err
	}
	x, err := treediff.ReadXattrs(treediff.Reach(dir, name))
	if err != nil {
		return nil, err
	}
	return &original{e, x}, nil
}

func times(e *treediff.Entry) []unix.Timespec {
	ts := func(t sharefs.Time) unix.Timespec { return unix.Timespec{Sec: t.Sec(), Nsec: int64(t.Nsec())} }
	return []unix.Timespec{ts(e.Atime), ts(e.Mtime)}
}

// own gives something its owner, as far as the user may, and tells whether it has the user that it should.
func (w *work) own(dir int, name string, flags int, e *treediff.Entry) (bool, error) {
	err := unix.Fchownat(dir, name, int(e.UID), int(e.GID), flags)
	if err == nil || !errors.Is(err, unix.EPERM) {
		return err == nil, err
	}
	w.mu.Lock()
	w.report.Owners++
	w.mu.Unlock()
	err = unix.Fchownat(dir, name, -1, int(e.GID), flags)
	if errors.Is(err, unix.EPERM) {
		err = nil
	}
	var st unix.Stat_t
	if err == nil {
		err = unix.Fstatat(dir, name, &st, flags)
	}
	return st.Uid == e.UID && st.Gid == e.GID, err
}

// dress gives a file or directory that is open, perhaps by O_PATH, all attributes of what it was; the times last.
func (w *work) dress(fd int, o *original) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	mode := o.Mode & 0o7777
	if st.Uid != o.UID || st.Gid != o.GID {
		mine, err := w.own(fd, "", emptyPath, o.Entry)
		if err != nil {
			return err
		}
		if !mine {
			mode &^= unix.S_ISUID | unix.S_ISGID // these are not for another owner
		}
	}
	have, err := treediff.ReadXattrsOf(fd)
	if err != nil {
		return err
	}
	path := self(fd)
	for name := range have {
		if _, wanted := o.xattrs[name]; !wanted {
			if err := unix.Removexattr(path, name); err != nil && err != unix.ENODATA {
				return attrError(name, err)
			}
		}
	}
	if err := unix.Chmod(path, mode); err != nil {
		return err
	}
	for name, value := range o.xattrs {
		if old, ok := have[name]; ok && old == value && name != aclAccess { // which chmod(2) may have changed
			continue
		}
		if err := unix.Setxattr(path, name, []byte(value), 0); err != nil {
			return attrError(name, err)
		}
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, times(o.Entry), 0)
}

// dressLink does the same for a name that is neither a file nor a directory, a symbolic link above all.
func (w *work) dressLink(dir int, name string, o *original) error {
	mine, err := w.own(dir, name, unix.AT_SYMLINK_NOFOLLOW, o.Entry)
	if err != nil {
		return err
	}
	path := treediff.Reach(dir, name)
	have, err := treediff.ReadXattrs(path)
	if err != nil {
		return err
	}
	for n := range have {
		if _, wanted := o.xattrs[n]; !wanted {
			if err := unix.Lremovexattr(path, n); err != nil && err != unix.ENODATA {
				return attrError(n, err)
			}
		}
	}
	if o.Type() != unix.S_IFLNK {
		mode := o.Mode & 0o7777
		if !mine {
			mode &^= unix.S_ISUID | unix.S_ISGID
		}
		fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		err = unix.Chmod(self(fd), mode)
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	for n, value := range o.xattrs {
		if have[n] == value && n != aclAccess {
			continue
		}
		if err := unix.Lsetxattr(path, n, []byte(value), 0); err != nil {
			return attrError(n, err)
		}
	}
	return unix.UtimesNanoAt(dir, name, times(o.Entry), unix.AT_SYMLINK_NOFOLLOW)
}

func attrError(name string, err error) error {
	return &sharefs.Error{Op: "set attribute", Path: name, Kind: sharefs.KindOf(err), Err: err}
}

// directories gives directories their attributes: those that were made or changed, and those whose times moved because something in them was
// changed. It runs also after an interruption, so that none stays wider open than it was.
func (w *work) directories(steps []*step) {
	byPath := map[string]*step{}
	for _, s := range steps {
		if s.new != nil && s.new.IsDir() {
			byPath[s.path] = s
		}
	}
	paths, modes := w.spots(steps)
	for _, p := range paths {
		if w.park != "" && (p == w.park || len(p) > len(w.park) && p[:len(w.park)+1] == w.park+"/") {
			continue
		}
		err := w.directory(p, modes[p])
		if s := byPath[p]; s != nil {
			s.done, s.err = err == nil, err
		} else if err != nil {
			w.report.Problems = append(w.report.Problems, treediff.Problem{Path: p, Old: true, Err: err})
		}
	}
}

// directory sets the attributes of one. mode is that before it was loosened; 0: it was not.
func (w *work) directory(p string, mode uint32) error {
	o, err := w.look(p)
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) {
		return err
	}
	err = w.in(p, func(dir int, name string) error {
		fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if o != nil && o.IsDir() {
			return w.dress(fd, o)
		}
		if mode != 0 { // it is in the live tree alone, and stays
			return unix.Chmod(self(fd), mode&0o7777)
		}
		return nil
	})
	if o == nil && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR)) {
		return nil // it was removed
	}
	return err
}

// Dress gives a live file or directory the attributes of what it was: owner, as far as the user may, mode, extended attributes and times. own tells
// whether it has the owner of then.
func Dress(past, live string) (own bool, err error) {
	src, err := unix.Open(past, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(src)
	dst, err := unix.Open(live, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(dst)
	e, err := new(treediff.Side).Stat(src, "", ".")
	if err != nil {
		return false, err
	}
	x, err := treediff.ReadXattrsOf(src)
	if err != nil {
		return false, err
	}
	w := &work{report: &Report{}}
	err = w.dress(dst, &original{e, x})
	return w.report.Owners == 0, err
}
