package client

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"sharefs"
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
	temp, err := os.OpenFile(filepath.Dir(f.Path), os.O_WRONLY|unix.O_TMPFILE, 0o600)
	if err != nil {
		return f.writeError("restore", err)
	}
	defer temp.Close()
	if _, err := io.Copy(temp, content); err != nil {
		return f.writeError("restore", err)
	}
	if err := v.apply(temp); err != nil {
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
	return nil
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
