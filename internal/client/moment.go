package client

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/internal/term"
	"sharefs/peers/report"
)

// Moment is a tag or a branch of a file or directory.
type Moment struct {
	Name    string `json:"name"`
	Time    string `json:"time"`    // RFC 3339; empty of the branch that is worked on, which stands at the present
	Version uint64 `json:"version"` // of a file: what it held then; 0: none of its versions, or a directory
	UID     uint32 `json:"uid"`     // who gave the name
	Set     string `json:"set"`     // when
	Note    string `json:"note"`
}

// Moments are all those of one file or directory.
type Moments struct {
	Tags     []Moment `json:"tags"`
	Branches []Moment `json:"branches"`
	Branch   string   `json:"branch"` // that is worked on; empty: none
}

// Find returns the branch of a name, nil where there is none.
func (m *Moments) Find(branch string) *Moment {
	for i := range m.Branches {
		if m.Branches[i].Name == branch {
			return &m.Branches[i]
		}
	}
	return nil
}

// HasTag reports whether there is a tag of a name.
func (m *Moments) HasTag(name string) bool {
	return slices.ContainsFunc(m.Tags, func(t Moment) bool { return t.Name == name })
}

// Target is a live file or directory that can have moments with names.
type Target struct {
	Given string
	Path  string
	File  *File // nil of a directory
	Mount *Mount
}

// OpenTarget finds a live file or directory.
func OpenTarget(arg string) (*Target, error) {
	if info, err := os.Stat(arg); err == nil && info.IsDir() {
		d, err := OpenDir(arg)
		if err != nil {
			return nil, err
		}
		if d.Select != "" || d.Mount == nil {
			detail := "not in a ShareFS mount"
			if d.Select != "" {
				detail = "is a state of the past; what is wanted is the directory itself"
			}
			return nil, &sharefs.Error{Path: d.Name(), Kind: sharefs.KindInvalid, Detail: detail}
		}
		return &Target{Given: arg, Path: d.Path, Mount: d.Mount}, nil
	}
	f, err := Open(arg)
	switch {
	case err != nil:
		return nil, err
	case f.Select != "":
		return nil, &sharefs.Error{Path: f.Name(), Kind: sharefs.KindInvalid, Detail: "is a version; what is wanted is the file itself"}
	case !f.Live:
		return nil, &sharefs.Error{Path: f.Name(), Kind: sharefs.KindNotExist, Detail: "is removed"}
	}
	return &Target{Given: arg, Path: f.Path, File: f, Mount: f.Mount}, nil
}

// Root is the root of a mount, whose tags are the snapshots.
func (m *Mount) Root() *Target { return &Target{Given: m.Point, Path: m.Point, Mount: m} }

// Moments lists the tags and branches.
func (t *Target) Moments() (*Moments, error) {
	path := t.Path + "@@/meta"
	if t.File == nil {
		path = t.Path + "/.@@/meta"
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, pathError(t.Given, err)
	}
	m := new(Moments)
	if err := json.Unmarshal(text, m); err != nil {
		return nil, &sharefs.Error{Op: "read the tags of", Path: term.Quote(t.Given), Kind: sharefs.KindCorrupt, Err: err}
	}
	return m, nil
}

// SetTag gives a moment a name. at is a time, the name of another moment or, of a file, the number of a version; empty: now.
func (t *Target) SetTag(name, at, note string) error { return t.set("tag", name, at, note) }

// SetBranch makes a branch, or moves it.
func (t *Target) SetBranch(name, at, note string) error { return t.set("branch", name, at, note) }

// SetSnapshot gives the whole tree as it is now a name. What now is it asks for first: while an attribute is set the kernel lets nobody make or remove files in the
// root, which whoever is in the middle of a transaction there has to.
func (m *Mount) SetSnapshot(name, note string) error {
	at, err := ownAttr(m.Point, "moment")
	if err != nil {
		at = ""
	}
	return m.Root().set("snapshot", name, at, note)
}

func (t *Target) set(what, name, at, note string) error {
	if err := checkName(what, name); err != nil {
		return err
	}
	if at == "" {
		at = "now"
	}
	if n, err := strconv.ParseUint(at, 10, 64); err == nil && t.File != nil {
		text, err := ownAttr(t.Path+"@@"+strconv.FormatUint(n, 10), "time")
		if err != nil {
			return &sharefs.Error{Op: what, Path: term.Quote(t.Given + "@@" + at), Kind: sharefs.KindNotExist, Detail: "no such version"}
		}
		if what == "tag" {
			at = text
		}
	}
	value := name + "=" + at
	if at == "now" && !strings.Contains(name, "=") {
		value = name
	}
	if note != "" {
		value += "\n" + note
	}
	return t.tell(what, name, at, value)
}

// checkName refuses what would be read as something else than a name.
func checkName(what, name string) error {
	if name == "" || strings.ContainsFunc(name, unicode.IsControl) || strings.Contains(name, "/") {
		return &sharefs.Error{Op: what, Path: term.Quote(name), Kind: sharefs.KindInvalid, Detail: nameRule}
	}
	return nil
}

const nameRule = "cannot be a name: 1 to 128 bytes without / and @@ and control characters, no number and nothing that is a time"

// RemoveTag takes a tag away, RemoveBranch a branch.
func (t *Target) RemoveTag(name string) error { return t.tell("untag", name, "", name) }

// RemoveBranch takes a branch away.
func (t *Target) RemoveBranch(name string) error { return t.tell("unbranch", name, "", name) }

// Switch notes which branch is worked on; empty: none.
func (t *Target) Switch(name string) error { return t.tell("switch", name, "", name) }

// tell writes one of the attributes that command.
func (t *Target) tell(verb, name, at, value string) error {
	err := unix.Setxattr(t.Path, "user.sharefs."+verb, []byte(value), 0)
	if err == nil {
		return nil
	}
	op := map[string]string{"unbranch": "remove the branch", "untag": "remove the tag"}[verb]
	if op == "" {
		op = verb
	}
	e := &sharefs.Error{Op: op, Path: term.Quote(t.Given), Kind: sharefs.KindOf(err)}
	switch {
	case e.Kind == sharefs.KindReadOnly:
		e.Detail = "the mount is read-only: mount -o remount,rw " + term.Quote(t.Mount.Point)
	case e.Kind == sharefs.KindAccess || e.Kind == sharefs.KindPermission:
		e.Detail = "you may not write it"
	case e.Kind == sharefs.KindExist:
		e.Detail = "it has a tag or branch " + term.Quote(name) + " already: sharefs tags " + term.Quote(t.Given)
		if t.Mount.peerNamed(name) {
			e.Detail = "a peer is called " + term.Quote(name) + ", and FILE@@NAME is what it wrote: take another name, or call the peer something else (sharefs peers rename)"
		}
	case e.Kind == sharefs.KindNoAttr && at != "" && at != "now":
		e.Kind, e.Detail = sharefs.KindNotExist, "it was not there at "+term.Quote(at)
	case e.Kind == sharefs.KindNotExist || e.Kind == sharefs.KindNoAttr:
		e.Kind, e.Detail = sharefs.KindNotExist, "it has no such tag or branch as "+term.Quote(name)
	case e.Kind == sharefs.KindInvalid && at != "" && at != "now" && !t.Mount.isTime(at):
		e.Detail = term.Quote(at) + " is no time and no tag of it; times are written " + TimeForms
	case e.Kind == sharefs.KindInvalid && report.Reserved(name) != "":
		e.Path, e.Detail = term.Quote(name), "cannot be a new name: "+report.Reserved(name)+"; take another one"
	case e.Kind == sharefs.KindInvalid:
		e.Path, e.Detail = term.Quote(name), nameRule
	default:
		e.Err = err
	}
	return e
}

// peerNamed reports whether a peer has a name, as far as whoever asks may know.
func (m *Mount) peerNamed(name string) bool {
	all, err := m.Peers()
	return err == nil && slices.ContainsFunc(all, func(p report.Peer) bool { return strings.EqualFold(p.Name, name) })
}

// isTime reports whether the mount takes a text for a time or a snapshot.
func (m *Mount) isTime(at string) bool {
	_, err := os.Lstat(filepath.Join(m.Point, atDir, at))
	return err == nil
}

// TimeOf returns the moment that a name of the target stands for.
func (t *Target) TimeOf(name string) (time.Time, error) {
	path := t.Path + "@@" + name
	if t.Path == t.Mount.Point {
		path = filepath.Join(t.Mount.Point, atDir, name)
	}
	text, err := ownAttr(path, "time")
	if err != nil {
		return time.Time{}, pathError(t.Given+"@@"+name, err)
	}
	return time.Parse(time.RFC3339, text)
}

// Describe gives a version of the file another note.
func (f *File) Describe(number uint64, note string) error {
	err := unix.Setxattr(f.Path, "user.sharefs.describe", []byte(strconv.FormatUint(number, 10)+"\n"+note), 0)
	if err != nil {
		return f.writeError("describe", err)
	}
	return nil
}
