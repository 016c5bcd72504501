package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/internal/term"
)

// History is FILE@@/meta.
type History struct {
	FileID   string    `json:"file_id"`
	Inode    uint64    `json:"inode"` // of the file that bears the name or bore it last; 0: it has no name any more
	Live     uint64    `json:"live"`  // the version that the file holds now; 0: it has changed since the last one, or is removed
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
	Torn   bool      `json:"torn"`  // and written to meanwhile: it may be a mixture of several moments
	// Damaged: a check of the store found that a part of its content is lost.
	Damaged bool   `json:"damaged"`
	Live    bool   `json:"live"`
	Note    string `json:"note"`
	Author  string `json:"author"` // public key of the host that made it, hexadecimal; empty: not known
}

// History reads the file's versions, oldest first.
func (f *File) History() (*History, error) {
	text, err := os.ReadFile(f.past + "meta")
	if err != nil {
		return nil, pathError(f.Given, err)
	}
	h := new(History)
	if err := json.Unmarshal(text, h); err != nil {
		return nil, &sharefs.Error{Op: "read history of", Path: term.Quote(f.Given), Kind: sharefs.KindCorrupt, Err: err}
	}
	return h, nil
}

// Point is a place in a file's history that can be read: a version, or the live content.
type Point struct {
	Number uint64    // 0: the live content
	Time   time.Time // when the version was settled; when the live content was last changed
	Name   string    // as the user would name it, for example "a.txt@@3"
	Other  bool      // a version of another file, which bore the name at the time that was asked for; Number is one of its own. With 0 it is one that a peer wrote

	path string
}

// At returns the point of one of the file's versions.
func (f *File) At(v *Version) Point {
	number := strconv.FormatUint(v.Number, 10)
	return Point{Number: v.Number, Time: v.Time, Name: f.Given + "@@" + number, path: f.past + number}
}

// By returns the point of the version of the file that a host wrote, of those in conflict. Reading it fetches what is not here.
func (f *File) By(host string) Point {
	return Point{Name: f.Given + "@@" + host, Other: true, path: f.Path + "@@" + host}
}

// Now returns the point of the live content.
func (f *File) Now() (Point, error) {
	info, err := os.Stat(f.Path)
	if err != nil {
		return Point{}, pathError(f.Given, err)
	}
	return Point{Time: info.ModTime(), Name: f.Given, path: f.Path}, nil
}

// Plain returns the point of a regular file that lies in no mount; ok is false where arg names something else.
func Plain(arg string) (p Point, ok bool) {
	real, err := realPath(arg)
	if err != nil {
		return p, false
	}
	if m, err := holding(real); err != nil || m != nil {
		return p, false
	}
	info, err := os.Stat(real)
	if err != nil || !info.Mode().IsRegular() {
		return p, false
	}
	return Point{Time: info.ModTime(), Name: arg, path: real}, true
}

// Selected returns the point that Select names, or the live content where it is empty. The mount says which it is, so that the tool
// takes for a version what any program finds as one.
func (f *File) Selected() (Point, error) {
	if f.Select == "" {
		return f.Now()
	}
	p := Point{Name: f.Given + "@@" + f.Select, path: f.Path + "@@" + f.Select}
	if f.past != f.Path+"@@/" {
		if p.path = f.past + f.Select; !isNumber(f.Select) {
			p.path = filepath.Join(f.Mount.Point, atDir, f.Select, strings.TrimPrefix(f.past, filepath.Join(f.Mount.Point, everDir)))
		}
	}
	text, err := ownAttr(p.path, "version")
	if err == nil {
		p.Number, err = strconv.ParseUint(text, 10, 64)
	}
	if err == nil {
		text, err = ownAttr(p.path, "time")
	}
	if err == nil {
		p.Time, err = time.Parse(time.RFC3339, text)
	}
	if errors.Is(err, unix.ENODATA) && p.Number == 0 { // a version that a peer wrote, and that is not in the history here
		if info, err := os.Stat(p.path); err == nil && info.Mode().IsRegular() {
			p.Time, p.Other = info.ModTime(), true
			return p, nil
		}
	}
	switch {
	case missing(err), errors.Is(err, unix.ENODATA), errors.Is(err, unix.ENOTSUP):
		h, err := f.History()
		if err != nil {
			return p, err
		}
		return p, f.noSuch(h)
	case err != nil:
		return p, pathError(p.Name, err)
	}
	mine := f.At(&Version{Number: p.Number, Time: p.Time})
	if sameNode(p.path, mine.path) {
		return mine, nil
	}
	p.Other = true
	return p, nil
}

// ownAttr reads an extended attribute of the mount's own.
func ownAttr(path, name string) (string, error) {
	buf := make([]byte, 64)
	n, err := unix.Lgetxattr(path, "user.sharefs."+name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// sameNode reports whether two paths lead to the same version.
func sameNode(a, b string) bool {
	x, err1 := os.Lstat(a)
	y, err2 := os.Lstat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y) || sameState(a, b)
}

// sameState reports whether two paths lead to files of which the mount says that they hold the same.
func sameState(a, b string) bool {
	x, err1 := ownAttr(a, "state")
	y, err2 := ownAttr(b, "state")
	return err1 == nil && err2 == nil && x == y
}

// Version finds the version that Select names among those of h.
func (f *File) Version(h *History) (*Version, error) {
	p, err := f.Selected()
	if err != nil {
		return nil, err
	}
	if p.Other && p.Number == 0 {
		return nil, &sharefs.Error{Path: f.Name(), Kind: sharefs.KindInvalid,
			Detail: "another host wrote it beside the file: sharefs resolve or sharefs accept takes it, as does cp"}
	}
	if p.Other {
		return nil, &sharefs.Error{Path: f.Name(), Kind: sharefs.KindInvalid,
			Detail: "another file bore the name then: cp " + f.Name() + " " + term.Quote(f.Given) + " takes over what that one held"}
	}
	for i := range h.Versions {
		if h.Versions[i].Number == p.Number {
			return &h.Versions[i], nil
		}
	}
	return nil, f.noSuch(h)
}

// noSuch says which versions there are instead.
func (f *File) noSuch(h *History) error {
	e := &sharefs.Error{Path: f.Name(), Kind: sharefs.KindNotExist}
	switch n := len(h.Versions); {
	case n == 0:
		e.Detail = term.Quote(f.Given) + " has no versions yet: one is made when it is closed and has been quiet for a moment"
	case !isNumber(f.Select) && !f.Mount.isTime(f.Select):
		e.Detail = fmt.Sprintf("%s is no number of a version, no tag and no time since the first one (%s); times are written %s", term.Quote(f.Select),
			term.Time(h.Versions[0].Time), TimeForms) + f.peersThere()
	case !isNumber(f.Select):
		e.Detail = fmt.Sprintf("no such version; the first is of %s", term.Time(h.Versions[0].Time))
	case n == 1:
		e.Detail = fmt.Sprintf("no such version; there is %d only", h.Versions[0].Number)
	default:
		e.Detail = fmt.Sprintf("no such version; there are %d to %d, and times such as %s", h.Versions[0].Number, h.Versions[n-1].Number, TimeForms)
	}
	return e
}

// peersThere says of the names of peers, which may be selections as well, what has to be said where this one leads nowhere.
func (f *File) peersThere() string {
	all, err := f.Mount.Peers()
	if err != nil || len(all) == 0 {
		return ""
	}
	names := make([]string, len(all))
	for i := range all {
		if names[i] = term.Quote(all[i].Name); strings.EqualFold(all[i].Name, f.Select) {
			return "; no version of this file by " + names[i] + " is in conflict or proposed"
		}
	}
	return "; the name of a peer may stand there whose version is in conflict or proposed: there are " + strings.Join(names, ", ")
}

// isNumber reports whether a selection has the form of a version's number: no sign, no zero before it.
func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 64)
	return err == nil && (s == "0" || s[0] != '0')
}

// Open opens what the file held at a point.
func (p Point) Open() (*os.File, error) {
	r, err := os.Open(p.path)
	if err != nil {
		return nil, pathError(p.Name, err)
	}
	return r, nil
}
