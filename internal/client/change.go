package client

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/internal/dbhold"
	"sharefs/internal/term"
)

// Commit makes what the file holds now a version with a note. It returns that version, and whether it is a new one; one that was
// there already keeps the note it has.
func (f *File) Commit(note string) (v *Version, isNew bool, err error) {
	before, err := f.History()
	if err != nil {
		return nil, false, err
	}
	if err := commit(f.Path, note); err != nil {
		return nil, false, f.writeError("commit", err)
	}
	after, err := f.History()
	if err != nil {
		return nil, false, err
	}
	if len(after.Versions) == 0 {
		return nil, false, &sharefs.Error{Op: "commit", Path: term.Quote(f.Given), Kind: sharefs.KindNotExist, Detail: "no version was made"}
	}
	v = &after.Versions[len(after.Versions)-1]
	return v, v.Number != before.latest(), nil
}

// Write gives the file, which is there, another content, and makes that a version with a note. What it held before stays a version.
func (f *File) Write(text, note string) error {
	w, err := os.OpenFile(f.Path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return f.writeError("write", err)
	}
	_, err = w.WriteString(text)
	if e := w.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = commit(f.Path, note)
	}
	if err != nil {
		return f.writeError("write", err)
	}
	return nil
}

// commit makes what a file holds a version. An SQLite database is held meanwhile, though the daemon has it held as well: while the attribute is set the
// kernel lets nobody write to the file, and who is in the middle of that would never let go of its locks. Where it cannot be held, the version says so.
func commit(path, note string) error {
	if isDatabase(path) {
		if d, err := dbhold.Take(dbhold.Place{Root: filepath.Dir(path), Rel: filepath.Base(path)}, dbhold.Patience); err == nil {
			defer time.AfterFunc(dbhold.Limit, d.Close).Stop()
			defer d.Close()
		}
	}
	return unix.Setxattr(path, "user.sharefs.commit", []byte(note), 0)
}

// isDatabase reports whether a file begins as an SQLite database does.
func isDatabase(path string) bool {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	b := make([]byte, len(dbhold.Magic))
	n, err := unix.Pread(fd, b, 0)
	return err == nil && string(b[:n]) == dbhold.Magic
}

func (h *History) latest() uint64 {
	if len(h.Versions) == 0 {
		return 0
	}
	return h.Versions[len(h.Versions)-1].Number
}

// Restore puts a version into the file again. kept is the version that what it held before is, 0 where it held nothing. KindExist: it
// holds that already.
func (f *File) Restore(v *Version) (kept uint64, err error) {
	if !f.Live {
		return 0, f.revive(v)
	}
	if err := unused(f.Path); err != nil {
		return 0, f.writeError("restore", err)
	}
	if err := unix.Setxattr(f.Path, "user.sharefs.restore", strconv.AppendUint(nil, v.Number, 10), 0); err != nil {
		return 0, f.writeError("restore", err)
	}
	h, err := f.History()
	if err != nil {
		return 0, err
	}
	// What was restored is live and, where it is settled already, the last version; what was there before comes before that.
	for i := len(h.Versions) - 1; i >= 0; i-- {
		if v := &h.Versions[i]; !v.Live {
			return v.Number, nil
		}
	}
	return 0, nil
}

// writeError names the file, and says what to do about it.
func (f *File) writeError(op string, err error) error {
	e := &sharefs.Error{Op: op, Path: term.Quote(f.Given), Kind: sharefs.KindOf(err)}
	switch e.Kind {
	case sharefs.KindReadOnly:
		e.Detail = "the mount is read-only: mount -o remount,rw " + term.Quote(f.Mount.Point)
	case sharefs.KindAccess, sharefs.KindPermission:
		e.Detail = "you may not write it"
		if op == "restore" {
			e.Detail += ", or not read that version"
		}
	case sharefs.KindBusy:
		if told := new(sharefs.Error); errors.As(err, &told) {
			e.Detail = told.Detail
		} else {
			e.Detail = inUse(f.Path)
		}
		if op == "restore" {
			e.Detail += ", or write the version elsewhere: sharefs cat " + term.Quote(f.Given+"@@"+f.Select) + " > OTHER"
		}
	case sharefs.KindUnreachable:
		e.Detail = outage(f.Path)
	case sharefs.KindExist:
		e.Detail = "that is what it holds already"
	case sharefs.KindNoSpace:
		e.Detail = "no space is left on the disk of the store"
	case sharefs.KindNotExist, sharefs.KindNoAttr:
		e.Detail = "no such version"
	case sharefs.KindOther:
		e.Err = err
	}
	return e
}
