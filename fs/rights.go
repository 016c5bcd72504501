package fs

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions"
)

// Who may read a version: whoever may read the file now, as far as the version allowed it in its time. So neither a
// chmod that closes a file leaves its versions open, nor one that opens it lays bare what was closed.
//
// A history may go on over several files, one of which replaced the other (vim, sed -i), and whoever may write to a
// directory can put a file of their own in the place of one that they may not read. So a version of another owner's
// file (foreign) has its rights narrowed further: the present owner is not the one whom its mode means, nor is the
// present group where that is another.

// limits are the permissions, three bits each, that a version leaves to those who may read the file now.
type limits struct {
	owner, group, other uint32
	named               uint32 // users and groups that the file's access control list names; versions have no list
	foreign             bool   // nobody is its owner but whoever owns the mount
}

func limitsOf(live *sharefs.Attr, v *sharefs.Version) limits {
	l := limits{owner: v.Mode >> 6 & 7, group: v.Mode >> 3 & 7, other: v.Mode & 7, named: v.Mode >> 3 & 7}
	if !v.Foreign {
		return l
	}
	if v.GID != live.GID {
		l.group &= l.other
	}
	if v.UID != live.UID {
		l.foreign = true
		l.named &= l.other
	}
	return l
}

func (l limits) mode() uint32 { return l.owner<<6 | l.group<<3 | l.other }

// attrPast completes the attributes of what belongs to a file's past.
func (e *edge) attrPast(k nodeKey, a *sharefs.Attr) error {
	live, err := e.tree.Getattr(k.ino)
	there := err == nil
	if err != nil && !missing(err) && sharefs.KindOf(err) != sharefs.KindStale {
		return err
	}
	mode := live.Mode
	if !there {
		mode = 0o400
	}
	if k.kind == pastFile {
		v, err := e.versionOf(k)
		if err != nil {
			return err
		}
		if !there {
			live.UID, live.GID = v.UID, v.GID
		}
		l := limitsOf(&live, &v)
		if l.foreign {
			live.UID = e.owner.Uid
		}
		mode &= l.mode()
		at := sharefs.Time(v.At.Time().UnixNano())
		a.Size, a.Blocks = v.Size, (v.Data+511)/512
		a.Atime, a.Mtime, a.Ctime, a.Btime = v.Mtime, v.Mtime, at, at
	} else if !there {
		if all, err := e.tree.Versions(k.ino); err != nil {
			return err
		} else if n := len(all); n > 0 {
			mode, live.UID, live.GID = all[n-1].Mode, all[n-1].UID, all[n-1].GID
		}
	}
	a.UID, a.GID = live.UID, live.GID
	switch k.kind {
	case pastDir:
		a.Mode, a.Nlink = unix.S_IFDIR|searchable(mode), 2
	case pastFile:
		a.Mode = unix.S_IFREG | mode&0o555
	default:
		a.Mode = unix.S_IFREG | mode&0o444
	}
	return nil
}

// searchable makes the mode of a directory of the mode of a file: who may read may search.
func searchable(mode uint32) uint32 { return mode&0o444 | mode&0o444>>2 }

// An access control list is a version word of 4 bytes and entries of 8 (linux/posix_acl_xattr.h): tag, permissions and
// id of 2, 2 and 4 bytes, little endian.
const (
	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20

	aclHead, aclEntry = 4, 8
)

// aclAccess is the attribute that holds a file's ACL.
const aclAccess = "system.posix_acl_access"

// eachACL calls fn with each entry of a list.
func eachACL(acl []byte, fn func(tag uint16, id uint32, entry []byte)) {
	for i := aclHead; i+aclEntry <= len(acl); i += aclEntry {
		b := acl[i : i+aclEntry]
		fn(binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint32(b[4:]), b)
	}
}

// pastACL makes of a file's access ACL one for something in its past: each permission goes through the same change as
// the mode's.
func (e *edge) pastACL(k nodeKey) ([]byte, error) {
	acl, err := e.tree.Getxattr(k.ino, aclAccess)
	if err != nil {
		if sharefs.KindOf(err) == sharefs.KindStale { // it went with the file
			err = sharefs.KindNoAttr
		}
		return nil, err
	}
	limit := limits{owner: 7, group: 7, other: 7, named: 7}
	if k.kind == pastFile {
		live, err := e.tree.Getattr(k.ino)
		if err != nil {
			return nil, err
		}
		v, err := e.versionOf(k)
		if err != nil {
			return nil, err
		}
		limit = limitsOf(&live, &v)
	}
	acl = slices.Clone(acl)
	eachACL(acl, func(tag uint16, _ uint32, entry []byte) {
		perm := uint32(entry[2])
		switch tag {
		case aclUserObj:
			perm &= limit.owner
		case aclOther:
			perm &= limit.other
		case aclUser, aclGroup:
			perm &= limit.named
		case aclGroupObj:
			perm &= limit.group
		default: // the mask, which bounds the entries before
			perm &= limit.group | limit.named
		}
		switch k.kind {
		case pastDir:
			perm = perm&4 | perm&4>>2
		case pastFile, pastTimes, everDir:
			perm &= 5
		default:
			perm &= 4
		}
		entry[2], entry[3] = byte(perm), 0
	})
	return acl, nil
}

// mayRestore reports whether the caller may read the version that he asks to have in the place of the present content,
// so that writing to a file is no way to what he may not read. The kernel has checked that he may write.
func (e *edge) mayRestore(ino sharefs.Ino, number uint64, who versions.Caller) error {
	if who.UID == 0 || !e.checks {
		return nil
	}
	v, err := e.tree.Version(ino, number)
	if err != nil {
		return err
	}
	k := versionKey(ino, &v)
	var a sharefs.Attr
	if err := e.attrPast(k, &a); err != nil {
		return err
	}
	acl, err := e.pastACL(k)
	if err != nil && sharefs.KindOf(err) != sharefs.KindNoAttr {
		return err
	}
	if !mayRead(&a, acl, who) {
		return sharefs.KindAccess
	}
	return nil
}

// mayRead reports whether the kernel would let a caller read. Who is in which group is asked of /proc; whose groups cannot be told has his own
// alone.
func mayRead(a *sharefs.Attr, acl []byte, who versions.Caller) bool {
	var groups []uint32
	told := false
	in := func(gid uint32) bool {
		if gid == who.GID {
			return true
		}
		if !told {
			groups, _ = who.Groups()
			told = true
		}
		return slices.Contains(groups, gid)
	}
	return permits(a, acl, who.UID, in)&permRead != 0
}

// Permissions, as three bits of a mode.
const (
	permRead  = 4
	permWrite = 2
	permExec  = 1
)

// permits returns what a user may do, as the kernel decides it (acl(5), access check algorithm), but for the powers of root; acl may be nil. in tells
// of a group whether the user is in it.
func permits(a *sharefs.Attr, acl []byte, uid uint32, in func(gid uint32) bool) uint32 {
	if uid == a.UID {
		return a.Mode >> 6 & 7
	}
	if len(acl) < aclHead+aclEntry {
		if in(a.GID) {
			return a.Mode >> 3 & 7
		}
		return a.Mode & 7
	}
	mask := uint16(7)
	var named, grouped, other uint16
	var isNamed, isGrouped bool
	eachACL(acl, func(tag uint16, id uint32, entry []byte) {
		perm := binary.LittleEndian.Uint16(entry[2:])
		switch {
		case tag == aclMask:
			mask = perm
		case tag == aclOther:
			other = perm
		case tag == aclUser && id == uid:
			isNamed, named = true, perm
		case tag == aclGroupObj && in(a.GID), tag == aclGroup && in(id):
			isGrouped, grouped = true, grouped|perm
		}
	})
	switch {
	case isNamed:
		return uint32(named&mask) & 7
	case isGrouped:
		return uint32(grouped&mask) & 7
	}
	return uint32(other) & 7
}
