package fs

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"

	"sharefs"
	"sharefs/versions"
)

// Attributes of the mount's own. On a version they say which one it is. On a live file the first one tells which
// version its content is, if it has not changed since, but listings leave it out, so that cp -a and rsync copy none; nor do listings show them in a
// view of the past, where the time is that of the view. The others are commands that take effect when written (command.go), but for attrMoment, attrInUse, attrHere, attrPromised and attrUnpromised.
const (
	ownPrefix   = "user.sharefs."
	attrVersion = ownPrefix + "version" // number, decimal
	attrTime    = ownPrefix + "time"    // RFC 3339
	attrNote    = ownPrefix + "note"    // where there is one
	attrTimed   = ownPrefix + "timed"   // "1" where it was taken while somebody could write

	attrCommit  = ownPrefix + "commit"  // the note of a version to be made now
	attrRestore = ownPrefix + "restore" // the number of a version to be brought back

	attrInUse = ownPrefix + "inuse" // to be read: "1" where it is an SQLite database, or belongs to one, that somebody has open for writing

	attrDescribe   = ownPrefix + "describe"   // NUMBER and NOTE, in two lines: another note for a version
	attrTag        = ownPrefix + "tag"        // NAME or NAME=TIME, and a note in the lines that follow
	attrUntag      = ownPrefix + "untag"      // NAME
	attrBranch     = ownPrefix + "branch"     // as a tag, or NAME=NUMBER of a file
	attrUnbranch   = ownPrefix + "unbranch"   // NAME
	attrSwitch     = ownPrefix + "switch"     // NAME, or nothing
	attrSnapshot   = ownPrefix + "snapshot"   // on the root: NAME and a note as for a tag, or nothing
	attrHere       = ownPrefix + "here"       // to be read of a file: SIZE, BYTES that are here, "full" or "absent", and "pinned" where it is
	attrPromised   = ownPrefix + "promised"   // to be read of a file that others rely on: those that are known, one in a line: the id, and why it has not given the promise back
	attrUnpromised = ownPrefix + "unpromised" // to be read of a file that was not freed: the hosts that did not promise to keep it, one in a line: the id, and why
	attrFree       = ownPrefix + "free"       // the content need not stay here
	attrBring      = ownPrefix + "bring"      // all of the content is to come here, which is waited for

	attrMoment = ownPrefix + "moment" // to be read of the root: a moment at which all that was closed is to be seen
)

// isOwn tells the mount's own attributes from those that are kept with a file, to which rules for the file belong.
func isOwn(attr string) bool {
	return strings.HasPrefix(attr, ownPrefix) && attr != versions.XattrRetain && attr != versions.XattrTrack && attr != versions.XattrPin
}

// GetXAttr implements [fuse.RawFileSystem].
func (e *edge) GetXAttr(_ <-chan struct{}, h *fuse.InHeader, attr string, dest []byte) (uint32, fuse.Status) {
	var value []byte
	var err error
	switch {
	case virtual(h.NodeId):
		value, err = e.virtualXattr(h.NodeId, attr)
	case isOwn(attr):
		value, err = e.ownXattr(ino(h.NodeId), attr)
	default:
		value, err = e.tree.Getxattr(ino(h.NodeId), attr)
	}
	return put(value, err, dest)
}

// put copies a value into the caller's buffer, or tells its size where that is too small.
func put(value []byte, err error, dest []byte) (uint32, fuse.Status) {
	if err != nil {
		return 0, status(err)
	}
	if len(value) > len(dest) {
		return uint32(len(value)), fuse.ERANGE
	}
	return uint32(copy(dest, value)), fuse.OK
}

// ListXAttr implements [fuse.RawFileSystem].
func (e *edge) ListXAttr(_ <-chan struct{}, h *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	var names []string
	var err error
	if virtual(h.NodeId) {
		names, err = e.virtualXattrs(h.NodeId)
	} else {
		names, err = e.tree.Listxattr(ino(h.NodeId))
	}
	if err != nil {
		return 0, status(err)
	}
	var list []byte
	for _, n := range names {
		// As a disk's own filesystem does, and the kernel not for FUSE: who cannot read these is not told of them.
		if h.Uid != 0 && strings.HasPrefix(n, "trusted.") {
			continue
		}
		list = append(append(list, n...), 0)
	}
	return put(list, nil, dest)
}

// SetXAttr implements [fuse.RawFileSystem].
func (e *edge) SetXAttr(cancel <-chan struct{}, in *fuse.SetXAttrIn, attr string, data []byte) fuse.Status {
	if virtual(in.NodeId) {
		return frozen
	}
	if isOwn(attr) {
		return e.command(cancel, in, attr, string(data))
	}
	switch attr {
	case versions.XattrRetain:
		if err := versions.CheckRetain(data); err != nil {
			return status(err)
		}
	case versions.XattrTrack:
		if err := versions.CheckTrack(data); err != nil {
			return status(err)
		}
	case versions.XattrPin:
		if err := versions.CheckPin(data); err != nil {
			return status(err)
		}
	}
	op := e.tree.Operate(caller(&in.InHeader))
	err := e.tree.Setxattr(ino(in.NodeId), attr, data, in.Flags)
	op.End(err, versions.OpChange{Verb: versions.OpAttributes, Ino: ino(in.NodeId)})
	if err != nil {
		return status(err)
	}
	e.modeMoved(in.NodeId, attr)
	if attr == versions.XattrPin {
		return status(e.tree.PinsSettled(cancel))
	}
	if attr == aclAccess && in.SetXAttrFlags&fuse.SETXATTR_ACL_KILL_SGID != 0 {
		return e.killSetgid(in)
	}
	return fuse.OK
}

// killSetgid drops the setgid bit of a file whose ACL was set by one who is not in its group (CAP_SETXATTR_EXT).
func (e *edge) killSetgid(in *fuse.SetXAttrIn) fuse.Status {
	a, err := e.tree.Getattr(ino(in.NodeId))
	if err != nil || a.Mode&sharefs.ModeSetgid == 0 {
		return status(err)
	}
	s := new(setAttr)
	s.mode = a.Mode & sharefs.ModePerm &^ sharefs.ModeSetgid
	s.Mode = &s.mode
	_, err = e.tree.Setattr(ino(in.NodeId), &s.SetAttr, caller(&in.InHeader))
	return status(err)
}

// RemoveXAttr implements [fuse.RawFileSystem].
func (e *edge) RemoveXAttr(cancel <-chan struct{}, h *fuse.InHeader, attr string) fuse.Status {
	if virtual(h.NodeId) {
		return frozen
	}
	if isOwn(attr) {
		return fuse.ENOTSUP
	}
	op := e.tree.Operate(caller(h))
	err := e.tree.Removexattr(ino(h.NodeId), attr)
	op.End(err, versions.OpChange{Verb: versions.OpAttributes, Ino: ino(h.NodeId)})
	e.modeMoved(h.NodeId, attr)
	if err == nil && attr == versions.XattrPin {
		err = e.tree.PinsSettled(cancel)
	}
	return status(err)
}

// modeMoved tells the kernel that a new access control list may have changed the mode, where it does not look after
// lists itself.
func (e *edge) modeMoved(node uint64, attr string) {
	if !e.checks && attr == aclAccess {
		e.conn.InvalidateInode(node, -1, 0)
	}
}

// ownXattr reads one of the mount's own attributes of a live file.
func (e *edge) ownXattr(ino sharefs.Ino, attr string) ([]byte, error) {
	switch {
	case attr == attrMoment && ino == sharefs.RootIno:
		return e.momentXattr()
	case attr == attrHere:
		return e.hereXattr(ino)
	case attr == attrPromised:
		return promisedXattr(e.promised, ino)
	case attr == attrUnpromised:
		return promisedXattr(e.unpromised, ino)
	case attr == attrInUse:
		return e.inUseXattr(ino)
	case attr == attrInode:
		return strconv.AppendUint(nil, uint64(ino), 10), nil
	case attr != attrVersion && attr != attrTime && attr != attrNote && attr != attrTimed && attr != attrState:
		return nil, sharefs.KindNoAttr
	}
	v, err := e.tree.Version(ino, 0)
	if err != nil {
		if k := sharefs.KindOf(err); k == sharefs.KindNotExist || k == sharefs.KindInvalid {
			return nil, sharefs.KindNoAttr
		}
		return nil, err
	}
	if attr == attrState {
		return stateOf(ino, &v), nil
	}
	return versionXattr(&v, attr)
}

func (e *edge) hereXattr(ino sharefs.Ino) ([]byte, error) {
	p, err := e.tree.Presence(ino)
	if sharefs.KindOf(err) == sharefs.KindInvalid {
		err = sharefs.KindNoAttr
	}
	if err != nil {
		return nil, err
	}
	state := "full"
	if p.Absent {
		state = "absent"
	}
	b := fmt.Appendf(nil, "%d %d %s", p.Size, p.Here, state)
	if p.Pinned {
		b = append(b, " pinned"...)
	}
	return b, nil
}

// Promised is a host that relies on what is here of a file, and why it has not given that promise back; or one that did not promise to keep a file, and why.
type Promised struct {
	To  sharefs.PeerID
	Why string
}

func promisedXattr(of func(sharefs.Ino) ([]Promised, bool, error), ino sharefs.Ino) ([]byte, error) {
	if of == nil {
		return nil, sharefs.KindNoAttr
	}
	to, ok, err := of(ino)
	if err == nil && !ok || sharefs.KindOf(err) == sharefs.KindInvalid {
		err = sharefs.KindNoAttr
	}
	var b []byte
	for i := range to {
		b = fmt.Appendf(b, "%v %s\n", to[i].To, to[i].Why)
	}
	return b, err
}

func (e *edge) inUseXattr(ino sharefs.Ino) ([]byte, error) {
	used, err := e.tree.InUse(ino)
	if err == nil && !used {
		err = sharefs.KindNoAttr
	}
	return []byte("1"), err
}

func versionXattr(v *sharefs.Version, attr string) ([]byte, error) {
	switch {
	case attr == attrVersion:
		return strconv.AppendUint(nil, v.Number, 10), nil
	case attr == attrTime:
		return []byte(versionTime(v.At)), nil
	case attr == attrNote && v.Note != "":
		return []byte(v.Note), nil
	case attr == attrTimed && v.Timed:
		return []byte("1"), nil
	}
	return nil, sharefs.KindNoAttr
}

func (e *edge) virtualXattr(id uint64, attr string) ([]byte, error) {
	k, ok := e.nodes.get(id)
	switch {
	case !ok:
		return nil, sharefs.KindStale
	}
	if value, ok, err := e.identityXattr(k, attr); ok {
		return value, err
	}
	switch {
	case k.kind == atNode:
		return e.xattrAt(k, attr)
	case k.kind < pastDir, k.kind == pastLink, k.kind == everLink, k.kind == otherNode, k.kind == sideNode:
		return nil, sharefs.KindNoAttr
	case attr == aclAccess:
		return e.pastACL(k)
	case k.kind != pastFile || !strings.HasPrefix(attr, ownPrefix):
		return nil, sharefs.KindNoAttr
	}
	v, err := e.versionOf(k)
	if err != nil {
		return nil, err
	}
	return versionXattr(&v, attr)
}

func (e *edge) virtualXattrs(id uint64) ([]string, error) {
	k, ok := e.nodes.get(id)
	if !ok {
		return nil, sharefs.KindStale
	}
	if k.kind == atNode {
		return e.xattrsAt(k)
	}
	if k.kind != pastFile {
		return nil, nil
	}
	v, err := e.versionOf(k)
	if err != nil {
		return nil, err
	}
	names := []string{attrVersion, attrTime}
	if v.Note != "" {
		names = append(names, attrNote)
	}
	if v.Timed {
		names = append(names, attrTimed)
	}
	return names, nil
}
