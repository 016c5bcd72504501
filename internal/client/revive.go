package client

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/internal/restore"
	"sharefs/internal/term"
)

// revive makes a removed file again from one of its versions. It stands under its name whole or not at all, and a file that took
// the name in the meantime stays as it is.
func (f *File) revive(v *Version) error {
	content, err := f.At(v).Open()
	if err != nil {
		return err
	}
	defer content.Close()
	was := f.was(v) // before the directories are others
	made, err := f.makeParents(f.Mount.Removed)
	if err != nil {
		return err
	}
	temp, err := os.OpenFile(filepath.Dir(f.Path), os.O_WRONLY|unix.O_TMPFILE, 0o600)
	if err != nil {
		return f.writeError("restore", err)
	}
	defer temp.Close()
	if _, err := io.Copy(temp, content); err != nil {
		return f.writeError("restore", err)
	}
	if err := v.dress(temp, was); err != nil {
		return f.writeError("restore", err)
	}
	link := "/proc/self/fd/" + strconv.Itoa(int(temp.Fd()))
	err = unix.Linkat(unix.AT_FDCWD, link, unix.AT_FDCWD, f.Path, unix.AT_SYMLINK_FOLLOW)
	if errors.Is(err, unix.EEXIST) {
		return &sharefs.Error{Op: "restore", Path: term.Quote(f.Given), Kind: sharefs.KindExist, Detail: "another file has the name since"}
	}
	if err != nil {
		return f.writeError("restore", err)
	}
	return dressAll(made)
}

// ReviveAt brings back what bore a name at a time and is no directory, as it was then, with the directories above it that are gone. KindExist: the name
// is taken.
func (m *Mount) ReviveAt(path string, t time.Time) error {
	f := &File{Given: path, Path: path, Mount: m}
	if _, err := os.Lstat(path); err == nil {
		return &sharefs.Error{Op: "restore", Path: term.Quote(path), Kind: sharefs.KindExist,
			Detail: "something else has the name now; what it held then is " + term.Quote(m.At(t, path))}
	}
	made, err := f.makeParents(func(p string) (time.Time, error) { return t, nil })
	if err != nil {
		return err
	}
	if _, err := restore.One(m.At(t, path), path); err != nil {
		return f.writeError("restore", err)
	}
	return dressAll(made)
}

// dressAll gives directories that were made their attributes, the lowest first.
func dressAll(made []gone) error {
	for _, d := range slices.Backward(made) {
		if _, err := restore.Dress(d.was, d.path); err != nil {
			return PathError("restore", d.path, err)
		}
	}
	return nil
}

// gone is a directory that was removed, and a path to it as it was last.
type gone struct{ path, was string }

// makeParents makes the directories above the file that are gone, from the top, for the user alone until it is done. when tells a time at which
// one was there.
func (f *File) makeParents(when func(path string) (time.Time, error)) (made []gone, err error) {
	for p := filepath.Dir(f.Path); p != f.Mount.Point && len(p) > 1; p = filepath.Dir(p) {
		info, err := os.Lstat(p)
		if err == nil && info.IsDir() {
			break
		}
		if err == nil {
			return nil, &sharefs.Error{Op: "restore", Path: term.Quote(p), Kind: sharefs.KindNotDir, Detail: "is no directory now: move it away first"}
		}
		t, err := when(p)
		if err != nil {
			return nil, err
		}
		made = append(made, gone{p, f.Mount.At(t, p)})
	}
	slices.Reverse(made)
	for i, d := range made {
		if err := os.Mkdir(d.path, 0o700); err != nil {
			for _, d := range slices.Backward(made[:i]) {
				_ = os.Remove(d.path)
			}
			return nil, f.writeError("restore", err)
		}
	}
	return made, nil
}

// Removed returns the last time at which something was to be seen under an absolute path that is vacant now.
func (m *Mount) Removed(path string) (time.Time, error) {
	rel, err := filepath.Rel(m.Point, path)
	if err != nil {
		rel = "."
	}
	text, err := ownAttr(filepath.Join(m.Point, everDir, rel), "removed")
	if err != nil {
		return time.Time{}, pathError(path, err)
	}
	at, err := time.Parse(time.RFC3339, text)
	return at.Add(-time.Millisecond), err
}

// was is a path to the file as it was with a version, with all its attributes, where the mount still shows that: when it was removed, for they may have
// changed since it was saved last, or at the version's time. Else it is empty.
func (f *File) was(v *Version) string {
	mine := f.At(v).path
	var times []time.Time
	if when, err := f.Mount.Removed(f.Path); err == nil {
		times = append(times, when)
	}
	for _, t := range append(times, v.Time) {
		if was := f.Mount.At(t, f.Path); sameState(was, mine) {
			return was
		}
	}
	return ""
}

// dress gives the file all attributes of what it was or, where that is not to be had, those that belong to the version.
func (v *Version) dress(file *os.File, was string) error {
	path := "/proc/self/fd/" + strconv.Itoa(int(file.Fd()))
	if was != "" {
		_, err := restore.Dress(was, path)
		return err
	}
	if err := v.apply(file); err != nil {
		return err
	}
	return os.Chtimes(path, v.Mtime, v.Mtime)
}

// apply gives the file the owner, as far as the user may, and the mode of the version.
func (v *Version) apply(file *os.File) error {
	mode, err := strconv.ParseUint(v.Mode, 8, 32)
	if err != nil {
		return err
	}
	if err := unix.Fchown(int(file.Fd()), int(v.UID), int(v.GID)); err != nil && !errors.Is(err, unix.EPERM) {
		return err
	} else if err != nil {
		mode &= 0o1777 // setuid and setgid are not for another owner
	}
	return unix.Fchmod(int(file.Fd()), uint32(mode)&0o7777)
}
