package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/internal/term"
)

// virtualBit marks the inode numbers of what the mount generates (FILE@@5, .share/…).
const virtualBit = 1 << 63

// File is a regular file in a mount, alive or removed, and perhaps one of its versions.
type File struct {
	Given  string // as the user named it, without @@…
	Path   string // absolute, free of symbolic links, so that Path@@… leads to its versions
	Select string // what stood behind @@: a number, a time; empty: the live content
	Live   bool   // it bears its name now
	Mount  *Mount
}

// Open finds what arg names: an existing file, even one that is really called "a@@5"; else FILE@@SELECT.
func Open(arg string) (*File, error) {
	if arg == "" {
		return nil, &sharefs.Error{Kind: sharefs.KindInvalid, Detail: "the file's name is empty"}
	}
	info, err := os.Stat(arg) // follows a symbolic link, as all programs do
	switch {
	case err == nil && (!isVirtual(info) || !strings.Contains(arg, "@@")):
		return open(arg, "", info)
	case err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.EINVAL):
		return nil, pathError(arg, err)
	}
	trimmed := strings.TrimSuffix(arg, "/")
	at := strings.LastIndex(trimmed, "@@")
	if at <= 0 || strings.ContainsRune(trimmed[at:], '/') {
		return open(arg, "", nil) // removed, perhaps
	}
	base, sel := trimmed[:at], trimmed[at+2:]
	if sel == "" {
		return nil, &sharefs.Error{Path: term.Quote(arg), Kind: sharefs.KindInvalid,
			Detail: "no version is named: a number or a time goes behind @@, as in " + term.Quote(base+"@@1")}
	}
	info, err = os.Stat(base)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, pathError(base, err)
	}
	return open(base, sel, info)
}

func isVirtual(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Ino&virtualBit != 0
}

// open fills a File in; info is nil where the name is vacant.
func open(given, sel string, info os.FileInfo) (*File, error) {
	real, err := realPath(given)
	if err != nil {
		return nil, renamed(err, given)
	}
	m, err := MountOf(real)
	if err != nil {
		return nil, renamed(err, given)
	}
	f := &File{Given: given, Path: real, Select: sel, Live: info != nil, Mount: m}
	if info == nil {
		if _, err := os.Lstat(real + "@@"); err != nil {
			return nil, pathError(given, unix.ENOENT)
		}
		return f, nil
	}
	if info.IsDir() {
		return nil, &sharefs.Error{Path: term.Quote(given), Kind: sharefs.KindIsDir, Detail: "is a directory; versions are those of files"}
	}
	if !info.Mode().IsRegular() {
		return nil, &sharefs.Error{Path: term.Quote(given), Kind: sharefs.KindInvalid, Detail: "is not a regular file and has no versions"}
	}
	if isVirtual(info) {
		return nil, &sharefs.Error{Path: term.Quote(given), Kind: sharefs.KindInvalid, Detail: "is made by the mount itself and has no versions"}
	}
	return f, nil
}

// renamed makes an error speak of the path as the user gave it.
func renamed(err error, given string) error {
	var e *sharefs.Error
	if errors.As(err, &e) {
		copied := *e
		copied.Path = term.Quote(given)
		return &copied
	}
	return err
}

// Name is how messages call what was named: "a.txt" or "a.txt@@3".
func (f *File) Name() string {
	if f.Select == "" {
		return term.Quote(f.Given)
	}
	return term.Quote(f.Given + "@@" + f.Select)
}

// History is FILE@@/meta.
type History struct {
	FileID   string    `json:"file_id"`
	Live     uint64    `json:"live"` // the version that the file holds now; 0: it has changed since the last one, or is removed
	Versions []Version `json:"versions"`
}

// Version is one version as FILE@@/meta tells it.
type Version struct {
	Number uint64    `json:"number"`
	Time   time.Time `json:"time"` // when it was settled
	Size   uint64    `json:"size"` // bytes
	Mode   string    `json:"mode"` // octal
	UID    uint32    `json:"uid"`
	GID    uint32    `json:"gid"`
	Mtime  time.Time `json:"mtime"`
	Timed  bool      `json:"timed"` // taken while a program still had the file open
	Live   bool      `json:"live"`
	Note   string    `json:"note"`
}

// History reads the file's versions, oldest first.
func (f *File) History() (*History, error) {
	path := f.Path + "@@/meta"
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, pathError(f.Given, err)
	}
	h := new(History)
	if err := json.Unmarshal(text, h); err != nil {
		return nil, &sharefs.Error{Op: "read history of", Path: term.Quote(f.Given), Kind: sharefs.KindCorrupt, Err: err}
	}
	return h, nil
}

// Version finds the version that Select names among those of h.
func (f *File) Version(h *History) (*Version, error) {
	number, err := f.number(h)
	if err != nil {
		return nil, err
	}
	for i := range h.Versions {
		if h.Versions[i].Number == number {
			return &h.Versions[i], nil
		}
	}
	return nil, f.noSuch(h)
}

// number turns Select into the version's number. A time is for the mount to resolve.
func (f *File) number(h *History) (uint64, error) {
	if n, err := strconv.ParseUint(f.Select, 10, 64); err == nil {
		return n, nil
	}
	buf := make([]byte, 32)
	n, err := unix.Lgetxattr(f.Path+"@@"+f.Select, "user.sharefs.version", buf)
	if err == nil {
		return strconv.ParseUint(string(buf[:n]), 10, 64)
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODATA) {
		return 0, f.noSuch(h)
	}
	return 0, pathError(f.Given+"@@"+f.Select, err)
}

// noSuch says which versions there are instead.
func (f *File) noSuch(h *History) error {
	e := &sharefs.Error{Path: f.Name(), Kind: sharefs.KindNotExist}
	switch n := len(h.Versions); {
	case n == 0:
		e.Detail = term.Quote(f.Given) + " has no versions yet: one is made when it is closed and has been quiet for a moment"
	case n == 1:
		e.Detail = fmt.Sprintf("no such version; there is %d only", h.Versions[0].Number)
	default:
		e.Detail = fmt.Sprintf("no such version; there are %d to %d, and times such as -2h, yesterday or 2026-11-20T10:00",
			h.Versions[0].Number, h.Versions[n-1].Number)
	}
	return e
}

// Info is what stat(2) tells of the live file.
func (f *File) Info() (os.FileInfo, error) {
	info, err := os.Stat(f.Path)
	if err != nil {
		return nil, pathError(f.Given, err)
	}
	return info, nil
}

// Content opens the live file, or version number where it is not 0.
func (f *File) Content(number uint64) (*os.File, error) {
	path := f.Path
	if number != 0 {
		path += "@@" + strconv.FormatUint(number, 10)
	}
	r, err := os.Open(path)
	if err != nil {
		return nil, pathError(f.Given, err)
	}
	return r, nil
}

// Commit makes what the file holds now a version with a note. It returns that version, and whether it is a new one; one that was
// there already keeps the note it has.
func (f *File) Commit(note string) (v *Version, isNew bool, err error) {
	before, err := f.History()
	if err != nil {
		return nil, false, err
	}
	if err := unix.Setxattr(f.Path, "user.sharefs.commit", []byte(note), 0); err != nil {
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

func (h *History) latest() uint64 {
	if len(h.Versions) == 0 {
		return 0
	}
	return h.Versions[len(h.Versions)-1].Number
}

// Restore puts version number into the file again. kept is the version that what it held before is, 0 where it held nothing.
func (f *File) Restore(number uint64) (kept uint64, err error) {
	if !f.Live {
		return 0, f.revive(number)
	}
	if err := unix.Setxattr(f.Path, "user.sharefs.restore", strconv.AppendUint(nil, number, 10), 0); err != nil {
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
