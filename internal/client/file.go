package client

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"

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

	past string // a directory of its versions, ends in a slash
}

// Open finds what arg names: an existing file, even one that is really called "a@@5"; else FILE@@SELECT or FILE@@/SELECT.
func Open(arg string) (*File, error) {
	if arg == "" {
		return nil, &sharefs.Error{Kind: sharefs.KindInvalid, Detail: "the file's name is empty"}
	}
	info, err := os.Stat(arg) // follows a symbolic link, as all programs do
	switch {
	case err == nil && (!isVirtual(info) || !strings.Contains(arg, "@@")):
		return open(arg, "", info)
	case err != nil && !missing(err):
		return nil, pathError(arg, err)
	}
	trimmed := strings.TrimSuffix(arg, "/")
	at := strings.LastIndex(trimmed, "@@")
	if at <= 0 || strings.ContainsRune(strings.TrimPrefix(trimmed[at:], "@@/"), '/') {
		return open(arg, "", nil) // removed, perhaps
	}
	base, sel := trimmed[:at], strings.TrimPrefix(trimmed[at+2:], "/")
	if sel == "" {
		return nil, &sharefs.Error{Path: term.Quote(arg), Kind: sharefs.KindInvalid,
			Detail: "no version is named: a number or a time goes behind @@, as in " + term.Quote(base+"@@1")}
	}
	info, err = os.Stat(base)
	if err != nil && !missing(err) {
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
	real, _, err := wherever(given)
	if err != nil {
		return nil, renamed(err, given)
	}
	m, err := holding(real)
	if err == nil && m == nil {
		if _, err := realPath(given); err != nil { // what is not there is in no mount either
			return nil, renamed(err, given)
		}
		err = &sharefs.Error{Path: term.Quote(given), Kind: sharefs.KindInvalid, Detail: "not in a ShareFS mount"}
	}
	if err != nil {
		return nil, renamed(err, given)
	}
	if err := m.WantLive(); err != nil {
		return nil, err
	}
	f := &File{Given: given, Path: real, Select: sel, Live: info != nil, Mount: m, past: real + "@@/"}
	if len(filepath.Base(real))+len("@@") > sharefs.NameMax {
		f.past = f.ever()
	}
	if info == nil {
		if !isPast(f.past) {
			f.past = f.ever() // the directory that it was in is gone, too
			if !isPast(f.past) {
				return nil, f.nothing()
			}
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

// isPast reports whether a directory holds the versions of a file: that of a directory has no log, and one that something called so is in has a directory
// of that name.
func isPast(dir string) bool {
	info, err := os.Lstat(filepath.Join(dir, "log"))
	return err == nil && info.Mode().IsRegular() && isVirtual(info)
}

// everDir is where everything is to be found that ever was.
const everDir = ".share/versions"

// ever is the directory of the file's versions there. It is reached also where the directory of the file is gone, and where its name is so long that
// nothing can stand behind it.
func (f *File) ever() string {
	rel, err := filepath.Rel(f.Mount.Point, f.Path)
	if err != nil {
		rel = "."
	}
	return filepath.Join(f.Mount.Point, everDir, rel) + "/"
}

// nothing says that there is no file of the name and never was one with versions.
func (f *File) nothing() error {
	if f.Select == "" {
		return pathError(f.Given, unix.ENOENT)
	}
	return &sharefs.Error{Path: f.Name(), Kind: sharefs.KindNotExist, Detail: "there is no " + term.Quote(f.Given) + ", and never was one that had versions"}
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
