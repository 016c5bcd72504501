// Package client talks to a mount through its files alone: the table of mounts says where it is, FILE@@/meta what versions a file
// has, FILE@@N what one held, extended attributes make and restore versions, .share/ctl/status.json says how the mount is. What the
// kernel lets a user do with a file is therefore what the tool can do.
package client

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/internal/mountinfo"
	"sharefs/internal/status"
	"sharefs/internal/term"
)

// Mount is one ShareFS that is mounted.
type Mount struct {
	Point  string // the mount point
	Source string // the store's name or path, as /proc/mounts shows it
	Own    bool   // the user of this process made it
}

// Mounts lists the ShareFS mounts that this process can see.
func Mounts() ([]Mount, error) {
	table, err := mountinfo.Read()
	if err != nil {
		return nil, err
	}
	var out []Mount
	for i := range table {
		if table[i].Type == mountinfo.Type && mountinfo.At(table, table[i].Point) == &table[i] {
			out = append(out, fromTable(&table[i]))
		}
	}
	return out, nil
}

func fromTable(m *mountinfo.Mount) Mount {
	uid, known := m.Owner()
	return Mount{Point: m.Point, Source: m.Source, Own: known && uid == os.Geteuid()}
}

// MountOf returns the mount that path lies in; the path must exist, at least the directory that holds it.
func MountOf(path string) (*Mount, error) {
	real, err := realPath(path)
	if err != nil {
		return nil, err
	}
	m, err := holding(real)
	if err == nil && m == nil {
		err = &sharefs.Error{Path: term.Quote(path), Kind: sharefs.KindInvalid, Detail: "not in a ShareFS mount"}
	}
	return m, err
}

// holding returns the mount that a path without symbolic links lies in, nil where that is no ShareFS. It touches nothing but the table.
func holding(real string) (*Mount, error) {
	table, err := mountinfo.Read()
	if err != nil {
		return nil, err
	}
	m := mountinfo.Holding(table, real)
	if m == nil || m.Type != mountinfo.Type {
		return nil, nil
	}
	out := fromTable(m)
	return &out, nil
}

// Around returns the mount that the working directory lies in, nil where it lies in none. It touches nothing but the table.
func Around() (*Mount, error) {
	dir, err := unix.Getwd() // of the kernel's own knowledge; os.Getwd looks at the directory
	if err != nil {
		return nil, nil
	}
	return holding(dir)
}

// At returns the mount whose point a path names, nil where it names none. A symbolic link is no mount point, and the last name of the path is not
// looked at: a mount that hangs does not hang the caller.
func At(path string) (*Mount, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, pathError(path, err)
	}
	if abs != "/" {
		dir, err := filepath.EvalSymlinks(filepath.Dir(abs))
		if err != nil {
			return nil, nil // what is not there is no mount
		}
		abs = filepath.Join(dir, filepath.Base(abs))
	}
	m, err := holding(abs)
	if err != nil || m == nil || m.Point != abs {
		return nil, err
	}
	return m, nil
}

// Here returns the mount that the working directory lies in or, where it lies in none and the user has exactly one or there is but one, that one. Named is the
// directory that the user named as the working one, which is to lie in a mount; empty: none. A mount that hangs does not hang the caller.
func Here(named string) (*Mount, error) {
	if m, err := Around(); m != nil || err != nil {
		return m, err
	}
	all, err := Mounts()
	if err != nil {
		return nil, err
	}
	return choose(all, named)
}

// choose picks the one that there is, unless the user named a directory that lies in none.
func choose(all []Mount, named string) (*Mount, error) {
	if len(all) == 0 {
		return nil, &sharefs.Error{Kind: sharefs.KindNotExist, Detail: "no ShareFS is mounted: sharefs-mount DIRECTORY mounts one"}
	}
	if own := slices.DeleteFunc(slices.Clone(all), func(m Mount) bool { return !m.Own }); len(own) > 0 {
		all = own
	}
	points := make([]string, len(all))
	for i := range all {
		points[i] = term.Quote(all[i].Point)
	}
	there := strings.Join(points, ", ")
	switch {
	case named != "":
		return nil, &sharefs.Error{Op: "-C", Path: term.Quote(named), Kind: sharefs.KindInvalid, Detail: "not in a ShareFS mount; mounted: " + there}
	case len(all) > 1:
		return nil, &sharefs.Error{Kind: sharefs.KindInvalid, Detail: "several are mounted (" + there + "): name one with -C DIR"}
	}
	return &all[0], nil
}

// realPath makes a path absolute and free of symbolic links; its last name need not exist.
func realPath(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", pathError(path, err)
	}
	if path == "." {
		path = abs // in errors, where "." names nothing
	}
	real, err := filepath.EvalSymlinks(abs)
	if errors.Is(err, os.ErrNotExist) {
		var dir string
		if dir, err = filepath.EvalSymlinks(filepath.Dir(abs)); err == nil {
			return filepath.Join(dir, filepath.Base(abs)), nil
		}
	}
	if err != nil {
		return "", pathError(path, err)
	}
	return real, nil
}

// pathError is [PathError] without an operation.
func pathError(path string, err error) error { return PathError("", path, err) }

// PathError names the path as the user gave it, and the way out where a daemon has ended.
func PathError(op, path string, err error) error {
	kind := sharefs.KindOf(err)
	switch {
	case errors.Is(err, unix.ENOTCONN), errors.Is(err, unix.ECONNABORTED):
		return &sharefs.Error{Op: op, Path: term.Quote(path), Kind: sharefs.KindBusy, Detail: "the ShareFS mounted there has ended: sharefs-mount mounts it again"}
	case kind == sharefs.KindAccess && closed(path):
		return &sharefs.Error{Op: op, Path: term.Quote(path), Kind: kind, Detail: "it is in a mount of another user, which nobody else may enter: mounted with -o allow_other it is open to those whom the permissions let in"}
	case kind == sharefs.KindUnreachable:
		return &sharefs.Error{Op: op, Path: term.Quote(path), Kind: kind, Detail: outage(path)}
	case kind != sharefs.KindOther:
		return &sharefs.Error{Op: op, Path: term.Quote(path), Kind: kind, Detail: kind.String()}
	}
	var inner *os.PathError
	if errors.As(err, &inner) {
		err = inner.Err
	}
	return &sharefs.Error{Op: op, Path: term.Quote(path), Kind: kind, Err: err}
}

// closed reports whether a path lies in a mount that only another user may enter (allow_other of mount.fuse(8)).
func closed(path string) bool {
	abs, err := filepath.Abs(path)
	if err != nil {
		return false
	}
	table, err := mountinfo.Read()
	if err != nil {
		return false
	}
	m := mountinfo.Holding(table, abs)
	if m == nil || m.Type != mountinfo.Type || m.Has("allow_other") {
		return false
	}
	uid, known := m.Owner()
	return known && uid != os.Geteuid()
}

// elsewhere says why content cannot be read that other hosts have, if anybody.
func elsewhere(s *status.Status) string {
	const is = "its content is not on this host, and "
	switch {
	case s.Peers == nil:
		return is + "no other is known that could have it: sharefs pair with one that has"
	case s.Peers.Connected == 0:
		return is + "no other is connected: it can be read as soon as one is that has it (sharefs peers)"
	}
	return is + "none that is connected has it, or lets this host read it: it can be read as soon as one comes that does (sharefs peers)"
}

// outage says where the content is that cannot be read at a path, FILE@@N or a path in the live tree, as far as the mount tells that.
func outage(path string) string {
	file, _, _ := strings.Cut(path, "@@")
	m, err := MountOf(strings.TrimRight(file, " "))
	if err != nil {
		return sharefs.KindUnreachable.String()
	}
	s, err := m.Status()
	switch {
	case err != nil:
		return sharefs.KindUnreachable.String()
	case s.Tier == nil || s.Tier.Cache.RemotePacks == 0:
		return elsewhere(s)
	case s.Tier.Cache.OutOfReachSince.IsZero():
		return "it lies in a bucket alone, and that could not be read (" + s.Tier.URL + "); sharefs status says more"
	}
	return "it lies in the bucket " + s.Tier.URL + " alone, which has not answered since " + term.Time(s.Tier.Cache.OutOfReachSince)
}

// ctl is where a mount tells of itself.
const ctl = ".share/ctl"

// CtlText returns what .share/ctl/NAME says.
func (m *Mount) CtlText(name string) ([]byte, error) {
	path := filepath.Join(m.Point, ctl, name)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, pathError(path, err)
	}
	return text, nil
}

// Status reads status.json.
func (m *Mount) Status() (*status.Status, error) {
	text, err := m.CtlText("status.json")
	if err != nil {
		return nil, err
	}
	s := new(status.Status)
	if err := json.Unmarshal(text, s); err != nil {
		return nil, &sharefs.Error{Op: "read status of", Path: term.Quote(m.Point), Kind: sharefs.KindCorrupt, Err: err}
	}
	return s, nil
}

// Tell writes one line to .share/ctl/ctl.
func (m *Mount) Tell(line string) error {
	path := filepath.Join(m.Point, ctl, "ctl")
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, unix.EACCES) {
		return &sharefs.Error{Path: term.Quote(m.Point), Kind: sharefs.KindAccess, Detail: "only root and whoever mounted it may do that"}
	}
	if errors.Is(err, unix.EROFS) {
		return &sharefs.Error{Path: term.Quote(m.Point), Kind: sharefs.KindReadOnly, Detail: "is mounted read-only, so nothing is changed about it: unmount it, and mount it without -o ro"}
	}
	if err != nil {
		return pathError(path, err)
	}
	_, err = f.WriteString(line + "\n")
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return pathError(path, err)
	}
	return nil
}
