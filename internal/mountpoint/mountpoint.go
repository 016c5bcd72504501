// Package mountpoint looks at the place where a mount shall go before the kernel is asked, because mount(2) and fusermount3(1) say
// little of what is wrong, and a place may hold a mount that hangs: whoever touches such a one may never return, not even when
// killed (a FUSE request that the daemon has read is waited for without end). So a mount is touched by a child process only,
// which can be left behind.
package mountpoint

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/internal/mountinfo"
	"sharefs/internal/term"
)

// Request says what is to be mounted where.
type Request struct {
	Path     string
	NonEmpty bool          // entries in the directory are no hindrance
	Root     bool          // mount(2) is ours to call; otherwise fusermount3 does it, by its own rules
	Patience time.Duration // after which a mount that does not answer counts as hung; 0: [DefaultPatience]
	// Ended reports whether the daemon behind a hung mount is known to have ended, so that nobody's work is cut off; nil: never known.
	Ended func(*mountinfo.Mount) bool
}

// DefaultPatience is long, because a machine under load is slow and a mount that is taken for hung is a false alarm. Where the daemon is known to have ended endedPatience will do: nobody's
// answer is to be had then.
const (
	DefaultPatience = 20 * time.Second
	endedPatience   = 2 * time.Second
)

// Prepare returns the path in its absolute form without symbolic links, once a mount can go there. The mount of a daemon that
// ended without unmounting is taken away, and replaced is true. Errors are [sharefs.Error], one line each with the way out.
func Prepare(r Request) (path string, replaced bool, err error) {
	if r.Patience == 0 {
		r.Patience = DefaultPatience
	}
	mounts, err := mountinfo.Read()
	if err != nil {
		return "", false, err
	}
	path, err = resolve(r.Path, mounts)
	if err != nil {
		return "", false, err
	}
	for range 64 { // several dead mounts may lie on top of each other
		m := mountinfo.At(mounts, path)
		if m == nil || !strings.HasPrefix(m.Type, "fuse") {
			break
		}
		gone, err := r.clear(path, m)
		if err != nil {
			return "", replaced, err
		}
		if !gone {
			break
		}
		replaced = true
		if mounts, err = mountinfo.Read(); err != nil {
			return "", replaced, err
		}
	}
	return path, replaced, r.check(path)
}

// clear looks at a FUSE mount that is there already and takes it away where its daemon has ended.
func (r *Request) clear(path string, m *mountinfo.Mount) (gone bool, err error) {
	ours := m.Type == mountinfo.Type
	what := "a mount of type " + m.Type
	if ours {
		what = "ShareFS store " + term.Quote(m.Source)
	}
	patience := r.Patience
	if ours && r.Ended != nil && r.Ended(m) {
		patience = min(patience, endedPatience)
	}
	err = Alive(path, patience)
	switch {
	case err == nil && ours:
		return false, fail(path, sharefs.KindBusy, what+" is mounted there already: umount it first, or choose another place")
	case err == nil:
		return false, nil // another filesystem; what it holds decides
	case isDead(err) && ours, errors.Is(err, ErrHung) && ours && r.Ended != nil && r.Ended(m):
		if err := detach(path, m, r.Root, errors.Is(err, ErrHung)); err != nil {
			return false, fail(path, sharefs.KindBusy, what+" is mounted there, its daemon has ended, and it cannot be taken away ("+err.Error()+
				"): try umount -l "+term.Quote(path)+" as root")
		}
		return true, nil
	case isDead(err):
		return false, fail(path, sharefs.KindBusy, what+" is there whose daemon has ended: fusermount3 -uz "+term.Quote(path))
	case errors.Is(err, ErrHung):
		return false, fail(path, sharefs.KindBusy, what+" is mounted there and does not answer: end its daemon, then umount -l "+term.Quote(path)+
			", or wait until it answers")
	}
	return false, &sharefs.Error{Op: "mount point", Path: term.Quote(path), Kind: sharefs.KindOf(err), Err: err}
}

// isDead tells the error of a FUSE mount whose connection is gone.
func isDead(err error) bool {
	return errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ECONNABORTED)
}

// TakeAway takes the mount at path away, whose daemon was killed and cannot end before that, and fails what still waits in it.
func TakeAway(path string, m *mountinfo.Mount, root bool) error { return detach(path, m, root, true) }

// detach takes a mount out of the tree of names, and fails what still waits in it. Others than root can do so for their own mounts where FUSE's control files are mounted (systemd does).
func detach(path string, m *mountinfo.Mount, root, hung bool) error {
	if hung {
		_ = Abort(m.Minor)
		if root && unix.Unmount(path, unix.MNT_FORCE|unix.UMOUNT_NOFOLLOW) == nil { // which aborts also where there are none
			return nil
		}
	}
	return Detach(path, root)
}

// Detach takes the mount at path away at once, though files in it may be open (umount -l): as root by itself, else by
// fusermount3.
func Detach(path string, root bool) error {
	if root {
		return unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	}
	out, err := exec.Command("fusermount3", "-uz", "--", path).CombinedOutput()
	if err != nil && len(out) > 0 {
		return errors.New(term.Clean(strings.TrimSpace(string(out))))
	}
	return err
}

// resolve makes the path absolute and frees it of symbolic links without touching what may be mounted at its end.
func resolve(path string, mounts []mountinfo.Mount) (string, error) {
	if path == "" {
		return "", &sharefs.Error{Op: "mount point", Kind: sharefs.KindInvalid, Detail: "none is named"}
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", &sharefs.Error{Op: "mount point", Path: term.Quote(path), Kind: sharefs.KindOf(err), Err: err}
	}
	if mountinfo.At(mounts, abs) != nil {
		return abs, nil
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return "", resolveError(path, err)
	}
	abs = filepath.Join(dir, filepath.Base(abs))
	if mountinfo.At(mounts, abs) != nil {
		return abs, nil
	}
	real, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return "", resolveError(path, err)
	}
	return real, nil
}

func resolveError(path string, err error) error {
	quoted := term.Quote(path)
	switch sharefs.KindOf(err) {
	case sharefs.KindNotExist:
		return fail(path, sharefs.KindNotExist, "does not exist: mkdir -p "+quoted)
	case sharefs.KindNotDir:
		return fail(path, sharefs.KindNotDir, "is not a directory")
	case sharefs.KindAccess:
		return fail(path, sharefs.KindAccess, "you may not enter the directory above it")
	}
	if isDead(err) {
		return fail(path, sharefs.KindBusy, "lies in a mount whose daemon has ended: umount -l that first")
	}
	return &sharefs.Error{Op: "mount point", Path: quoted, Kind: sharefs.KindOf(err), Err: err}
}

// check asks what the directory is and whether one may mount on it.
func (r *Request) check(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return resolveError(path, err)
	}
	if !info.IsDir() {
		return fail(path, sharefs.KindNotDir, "is not a directory")
	}
	if path == "/" {
		return fail(path, sharefs.KindInvalid, "is the root of this machine: choose a directory")
	}
	if !r.Root && unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK|unix.X_OK, unix.AT_EACCESS) != nil {
		return fail(path, sharefs.KindAccess, "is not yours to write, so that only root may mount there: choose a directory of your own")
	}
	if r.NonEmpty {
		return nil
	}
	d, err := os.Open(path)
	if err != nil {
		if r.Root {
			return resolveError(path, err)
		}
		return nil // it may be entered, not listed
	}
	defer d.Close()
	names, _ := d.Readdirnames(1)
	if len(names) > 0 && !(len(names) == 1 && names[0] == "lost+found") {
		return fail(path, sharefs.KindNotEmpty, "is not empty, and a mount would hide what is in it: choose an empty directory, or mount with -o nonempty")
	}
	return nil
}

func fail(path string, kind sharefs.Kind, detail string) error {
	return &sharefs.Error{Op: "mount point", Path: term.Quote(path), Kind: kind, Detail: detail}
}

// Abort fails everything that waits in the FUSE connection of the mount whose device has this minor number, and all that comes later.
func Abort(minor uint32) error {
	return os.WriteFile(fmt.Sprintf("/sys/fs/fuse/connections/%d/abort", minor), []byte("1"), 0)
}
