package fs

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions"
)

// lookupPast finds FILE@@, FILE@@N or FILE@@TIME in a directory of the tree, and DIR@@ and DIR@@TIME (past_dir.go), where TIME may be the name of a moment.
// FILE need not exist any more. Where it is a symbolic link, what it leads to is meant, as everywhere. What all these do not know may be a version that a peer wrote beside the
// live one, FILE@@PEER: so a number, a time or a tag counts before a peer of that name. None is given that a peer has (freeName).
func (e *edge) lookupPast(h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	file, suffix, ok := splitPast(name)
	if !ok {
		return fuse.ENOENT
	}
	st := e.lookupPastOf(h, name, file, suffix, out)
	if short, cut := strings.CutSuffix(file, "@"); st == fuse.ENOENT && cut && short != "" {
		st = e.lookupPastOf(h, name, short, "@"+suffix, out) // FILE@@@SECONDS
	}
	if st == fuse.ENOENT {
		st = e.lookupSide(ino(h.NodeId), file, suffix, out)
	}
	return st
}

// lookupPastOf is lookupPast with the name in its parts.
func (e *edge) lookupPastOf(h *fuse.InHeader, name, file, suffix string, out *fuse.EntryOut) fuse.Status {
	parent := ino(h.NodeId)
	now, err := e.bearerOf(parent, file)
	if err != nil {
		return status(err)
	}
	number, isNumber := versionNumber(suffix)
	var st fuse.Status
	switch {
	case suffix == "":
		st = e.lookupPasts(parent, file, now, out)
	case isNumber:
		st = e.lookupNumber(parent, file, number, out)
	case now.typ == sharefs.ModeDir:
		if st = e.lookupDirAt(h, parent, file, suffix, now, branch(atNode, parent, name), out); st == fuse.ENOENT {
			st = e.lookupFileAt(parent, file, suffix, now, out)
		}
	default:
		if st = e.lookupFileAt(parent, file, suffix, now, out); st == fuse.ENOENT {
			st = e.lookupDirAt(h, parent, file, suffix, now, branch(atNode, parent, name), out)
		}
	}
	if st != fuse.ENOENT || now.typ != sharefs.ModeSymlink || !e.isSuffix(suffix, isNumber) {
		return st
	}
	a, err := e.tree.Lookup(parent, file)
	if err != nil {
		return fuse.ENOENT
	}
	defer e.tree.Forget(a.Ino, 1)
	if !a.IsSymlink() {
		return fuse.ENOENT
	}
	return e.enter(nodeKey{kind: pastLink, ino: a.Ino, text: suffix}, out)
}

// isSuffix reports whether a suffix has a meaning of its own. That of a symbolic link must, for which names the moments of its target have is not known here,
// and other names are free to be made.
func (e *edge) isSuffix(suffix string, number bool) bool {
	if suffix == "" || number {
		return true
	}
	_, _, _, err := e.momentOf(sharefs.RootIno, suffix)
	return err == nil
}

// lookupPasts finds FILE@@ or DIR@@.
func (e *edge) lookupPasts(parent sharefs.Ino, file string, now bearer, out *fuse.EntryOut) fuse.Status {
	if now.typ == sharefs.ModeDir {
		return e.enter(timesKey(parent, file, now.ino), out)
	}
	ino, err := e.tree.Past(parent, file)
	if err != nil {
		return status(err)
	}
	return e.enter(nodeKey{kind: pastDir, ino: ino}, out)
}

// lookupNumber finds FILE@@N.
func (e *edge) lookupNumber(parent sharefs.Ino, file string, number uint64, out *fuse.EntryOut) fuse.Status {
	ino, err := e.tree.Past(parent, file)
	if err != nil {
		return status(err)
	}
	return e.enterVersion(ino, number, 0, out)
}

// lookupFileAt finds FILE@@TIME.
func (e *edge) lookupFileAt(parent sharefs.Ino, file, time string, now bearer, out *fuse.EntryOut) fuse.Status {
	of := sharefs.RootIno
	if now.typ == sharefs.ModeRegular {
		of = now.ino
		if ino, err := e.tree.Past(parent, file); err == nil {
			of = ino
		}
	}
	at, _, _, err := e.momentOf(of, time)
	if err != nil {
		return noTime(err)
	}
	ino, v, err := e.tree.VersionAt(parent, file, at)
	if err != nil {
		return status(err)
	}
	return e.enter(versionKey(ino, &v), out)
}

// linkTarget is where LINK@@SUFFIX leads to.
func (e *edge) linkTarget(k nodeKey) (string, error) {
	target, err := e.tree.Readlink(k.ino)
	if err != nil {
		return "", err
	}
	target = strings.TrimRight(target, "/") + pastMark + k.text
	if len(target) >= unix.PathMax {
		return "", sharefs.KindNameTooLong
	}
	return target, nil
}

// enterVersion answers a lookup with a version, by its number.
func (e *edge) enterVersion(ino sharefs.Ino, number, seconds uint64, out *fuse.EntryOut) fuse.Status {
	v, err := e.tree.Version(ino, number)
	if err != nil {
		return status(err)
	}
	return e.enterFor(versionKey(ino, &v), seconds, out)
}

// versionOf returns the version that a node stands for. KindStale: the history of the inode is another one by now.
func (e *edge) versionOf(k nodeKey) (sharefs.Version, error) {
	v, err := e.tree.Version(k.ino, k.num)
	if err == nil && v.At != k.at {
		err = sharefs.KindStale
	}
	return v, err
}

// openVersion opens the version that a node stands for.
func (e *edge) openVersion(k nodeKey) (versions.VersionReader, error) {
	r, err := e.tree.OpenVersion(k.ino, k.num)
	if err != nil {
		return nil, err
	}
	if _, err := e.versionOf(k); err != nil { // after the opening, so that it is what was opened
		r.Close()
		return nil, err
	}
	return r, nil
}

// lookupInPast finds a name in FILE@@.
func (e *edge) lookupInPast(ino sharefs.Ino, name string, out *fuse.EntryOut) fuse.Status {
	switch name {
	case logName:
		return e.enterFor(nodeKey{kind: pastLog, ino: ino}, cacheSeconds, out)
	case metaName:
		return e.enterFor(nodeKey{kind: pastMeta, ino: ino}, cacheSeconds, out)
	}
	if n, ok := versionNumber(name); ok {
		return e.enterVersion(ino, n, cacheSeconds, out)
	}
	at, _, _, err := e.momentOf(ino, name)
	if err != nil {
		return noTime(err)
	}
	all, err := e.tree.Versions(ino)
	if err != nil {
		return status(err)
	}
	v := lastUpTo(all, at)
	if v == nil {
		return fuse.ENOENT
	}
	return e.enter(versionKey(ino, v), out)
}

// pastOf lists the history of a file for its log, without the notes on what was another owner's.
func (e *edge) pastOf(ino sharefs.Ino) ([]sharefs.Version, error) {
	all, err := e.tree.Versions(ino)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	owner := all[len(all)-1].UID
	if live, err := e.tree.Getattr(ino); err == nil {
		owner = live.UID
	}
	for i := range all {
		if all[i].Foreign && all[i].UID != owner {
			all[i].Note = ""
		}
	}
	return all, nil
}

// pastLog is the text of FILE@@/log: a line for each version, the latest first.
//
//	NUMBER  TIME  SIZE  MODE  UID:GID  [timed] [torn] [damaged] [live] [note]
func (e *edge) pastLog(ino sharefs.Ino) ([]byte, error) {
	all, err := e.pastOf(ino)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	for i := len(all) - 1; i >= 0; i-- {
		v := &all[i]
		fmt.Fprintf(&b, "%d  %s  %d  %s  %d:%d", v.Number, v.At.Time().Format("2006-01-02 15:04:05.000 -0700"), v.Size,
			fs.FileMode(v.Mode&0o777), v.UID, v.GID)
		if v.Timed {
			b.WriteString("  timed")
		}
		if v.Torn {
			b.WriteString("  torn")
		}
		if v.Damaged {
			b.WriteString("  damaged")
		}
		if v.Live {
			b.WriteString("  live")
		}
		if note := v.Note; note != "" {
			if strings.ContainsFunc(note, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				note = strconv.Quote(note)
			}
			b.WriteString("  " + note)
		}
		b.WriteByte('\n')
	}
	return []byte(b.String()), nil
}

// Meta is FILE@@/meta: the history of a file for programs. DIR@@/meta is the same without versions.
type Meta struct {
	FileID   string        `json:"file_id"`
	Inode    uint64        `json:"inode"` // of the file that bears the name, or bore it last, as long as it has a name; otherwise 0
	Live     uint64        `json:"live"`  // number of the version that the present content is, 0 if it changed since
	Versions []MetaVersion `json:"versions"`
	Tags     []MetaMoment  `json:"tags"`     // moments of the file with names, in the order of these
	Branches []MetaMoment  `json:"branches"` // the same, of names that move
	Branch   string        `json:"branch"`   // the one of them that is switched to; empty: none
}

// MetaMoment is a moment with a name in [Meta].
type MetaMoment struct {
	Name    string `json:"name"`
	Time    string `json:"time"`    // RFC 3339, milliseconds, UTC; empty for the branch that is switched to, which stands at the present
	Version uint64 `json:"version"` // what the file held then, 0 if that is none of its versions
	UID     uint32 `json:"uid"`     // who gave the name
	Set     string `json:"set"`     // when
	Note    string `json:"note"`
}

// MetaVersion is one version in [Meta], the oldest first.
type MetaVersion struct {
	Number uint64 `json:"number"`
	Time   string `json:"time"` // RFC 3339, milliseconds, UTC
	Size   uint64 `json:"size"` // bytes
	Mode   string `json:"mode"` // permission bits, octal
	UID    uint32 `json:"uid"`
	GID    uint32 `json:"gid"`
	Mtime  string `json:"mtime"`
	Timed  bool   `json:"timed"`
	Torn   bool   `json:"torn"`
	// Damaged: a check of the store found that a part of its content is lost.
	Damaged bool   `json:"damaged"`
	Live    bool   `json:"live"`
	Note    string `json:"note"`
	Author  string `json:"author,omitempty"` // public key, hexadecimal
}

func (e *edge) pastMeta(ino sharefs.Ino) ([]byte, error) {
	id, err := e.tree.FileID(ino)
	if err != nil {
		return nil, err
	}
	live, err := e.tree.Getattr(ino)
	there := err == nil && live.Nlink > 0
	var all []sharefs.Version
	if !there || !live.IsDir() {
		if all, err = e.pastOf(ino); err != nil {
			return nil, err
		}
	}
	m := Meta{FileID: id.String(), Versions: make([]MetaVersion, 0, len(all))}
	if there {
		m.Inode = uint64(ino)
	}
	for i := range all {
		v := &all[i]
		if v.Live {
			m.Live = v.Number
		}
		w := MetaVersion{
			Number: v.Number, Time: versionTime(v.At), Size: v.Size,
			Mode: fmt.Sprintf("%04o", v.Mode&sharefs.ModePerm), UID: v.UID, GID: v.GID,
			Mtime: rfc3339(time.Unix(v.Mtime.Sec(), int64(v.Mtime.Nsec()))), Timed: v.Timed, Torn: v.Torn, Damaged: v.Damaged, Live: v.Live, Note: v.Note,
		}
		if !v.Author.IsZero() {
			w.Author = hex.EncodeToString(v.Author[:])
		}
		m.Versions = append(m.Versions, w)
	}
	if err := e.metaMoments(ino, &m, all); err != nil {
		return nil, err
	}
	text, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return append(text, '\n'), nil
}

// metaMoments adds the moments with names of a file.
func (e *edge) metaMoments(ino sharefs.Ino, m *Meta, all []sharefs.Version) error {
	tags, err := e.tree.Tags(ino)
	if err != nil {
		return err
	}
	branches, err := e.tree.Branches(ino)
	if err != nil {
		return err
	}
	if m.Branch, err = e.tree.Switched(ino); err != nil {
		return err
	}
	list := func(moments []versions.Moment) []MetaMoment {
		out := make([]MetaMoment, 0, len(moments))
		for _, n := range moments {
			w := MetaMoment{Name: n.Name, Set: versionTime(n.Created), UID: n.UID, Note: n.Note, Version: n.Number}
			if n.At != sharefs.MaxHLC {
				w.Time = versionTime(n.At)
			}
			if v := lastUpTo(all, n.At); w.Version == 0 && v != nil {
				w.Version = v.Number
			}
			out = append(out, w)
		}
		return out
	}
	m.Tags, m.Branches = list(tags), list(branches)
	return nil
}

// lastUpTo finds the last version that was made up to a moment; nil: there is none.
func lastUpTo(all []sharefs.Version, at sharefs.HLC) *sharefs.Version {
	i := sort.Search(len(all), func(i int) bool { return all[i].At > at })
	if i == 0 {
		return nil
	}
	return &all[i-1]
}

// rfc3339 writes a time to the nanosecond.
func rfc3339(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000000Z07:00") }

// versionTime writes the time of a version to the millisecond, all that a clock reading holds; with all its digits,
// so that FILE@@TIME takes it for that millisecond and not for a longer span.
func versionTime(t sharefs.HLC) string { return t.Time().UTC().Format("2006-01-02T15:04:05.000Z07:00") }
