package versions

import (
	"encoding/binary"
	"slices"

	"sharefs"
)

// POSIX access control lists (POSIX.1e draft 17, section 23), in the form in which the kernel hands them over as extended attributes
// (linux/posix_acl_xattr.h): a version, 2, in 4 bytes, then for each entry its tag (2), permissions (2) and id (4), little endian.
type acl []aclEntry

type aclEntry struct {
	tag, perm uint16
	id        uint32
}

const (
	aclUserObj  uint16 = 0x01
	aclUser     uint16 = 0x02
	aclGroupObj uint16 = 0x04
	aclGroup    uint16 = 0x08
	aclMask     uint16 = 0x10
	aclOther    uint16 = 0x20

	aclVersion   = 2
	aclNoID      = 1<<32 - 1
	aclEntrySize = 8
)

// parseACL reads a list and checks that it is one: entries in order, each of the three base ones once, no user or group twice, and a mask
// where there are any.
func parseACL(b []byte) (acl, bool) {
	if len(b) < 4 || (len(b)-4)%aclEntrySize != 0 || binary.LittleEndian.Uint32(b) != aclVersion {
		return nil, false
	}
	var a acl
	count := map[uint16]int{}
	for b = b[4:]; len(b) > 0; b = b[aclEntrySize:] {
		e := aclEntry{binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[4:])}
		if e.perm > 7 || len(a) > 0 && a[len(a)-1].tag > e.tag {
			return nil, false
		}
		switch e.tag {
		case aclUserObj, aclGroupObj, aclMask, aclOther:
			e.id = aclNoID
		case aclUser, aclGroup:
			if slices.ContainsFunc(a, func(o aclEntry) bool { return o.tag == e.tag && o.id == e.id }) {
				return nil, false
			}
		default:
			return nil, false
		}
		count[e.tag]++
		a = append(a, e)
	}
	named := count[aclUser] + count[aclGroup]
	ok := count[aclUserObj] == 1 && count[aclGroupObj] == 1 && count[aclOther] == 1 && count[aclMask] <= 1 && (named == 0 || count[aclMask] == 1)
	return a, ok
}

func (a acl) encode() []byte {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, 4+aclEntrySize*len(a)), aclVersion)
	for _, e := range a {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

// find returns the first entry with a tag, nil if there is none.
func (a acl) find(tag uint16) *aclEntry {
	for i := range a {
		if a[i].tag == tag {
			return &a[i]
		}
	}
	return nil
}

// group returns the entry that the group bits of the mode stand for: the mask if there is one, else the owning group.
func (a acl) group() *aclEntry {
	if m := a.find(aclMask); m != nil {
		return m
	}
	return a.find(aclGroupObj)
}

// minimal reports whether the list says no more than a mode does.
func (a acl) minimal() bool { return len(a) == 3 }

// mode returns the permission bits that a list stands for.
func (a acl) mode() uint32 {
	return uint32(a.find(aclUserObj).perm)<<6 | uint32(a.group().perm)<<3 | uint32(a.find(aclOther).perm)
}

// chmod makes a list say what permission bits do.
func (a acl) chmod(mode uint32) {
	a.find(aclUserObj).perm = uint16(mode >> 6 & 7)
	a.group().perm = uint16(mode >> 3 & 7)
	a.find(aclOther).perm = uint16(mode & 7)
}

// inherit makes a default list the access list of what is made with a mode, and returns the mode that results (posix_acl_create_masq
// in fs/posix_acl.c): nothing is allowed that either of the two does not.
func (a acl) inherit(mode uint32) uint32 {
	for _, c := range [...]struct {
		e     *aclEntry
		shift uint
	}{{a.find(aclUserObj), 6}, {a.group(), 3}, {a.find(aclOther), 0}} {
		c.e.perm &= uint16(mode >> c.shift & 7)
		mode = mode&^(7<<c.shift) | uint32(c.e.perm)<<c.shift
	}
	return mode
}

// inheritACL gives a new inode what the default list of its directory says.
func (x *tx) inheritACL(dir, r *row) error {
	b, ok, err := x.t.db.Get(spaceXattr, xattrKey(dir.ino, xattrDefault))
	if err != nil {
		return failed("read an access control list", err)
	}
	a, valid := parseACL(b)
	if !ok || !valid {
		return corrupt("the default access control list", dir.ino)
	}
	if r.isDir() {
		x.putXattr(r, xattrDefault, a.encode(), false, true)
	}
	r.mode = a.inherit(r.mode)
	if !a.minimal() {
		x.putXattr(r, xattrAccess, a.encode(), false, true)
	}
	return nil
}

// setACL checks a list that is to be set and applies an access list to the mode. It reports whether the list has to be kept: the mode alone
// says what a minimal one does.
func (r *row) setACL(name string, value []byte, killSetgid bool) (keep bool, err error) {
	const op = "set an access control list"
	a, ok := parseACL(value)
	switch {
	case len(value) == 4 && len(a) == 0 && binary.LittleEndian.Uint32(value) == aclVersion:
		return false, nil // an empty list removes the one there is
	case !ok:
		return false, fail(op, sharefs.KindInvalid)
	case r.isSymlink():
		return false, fail(op, sharefs.KindNotSupported)
	case name == xattrDefault:
		if !r.isDir() {
			return false, fail(op, sharefs.KindAccess)
		}
		return true, nil
	}
	r.mode = r.mode&^0o777 | a.mode()
	if killSetgid {
		r.mode &^= sharefs.ModeSetgid
	}
	return !a.minimal(), nil
}

// chmodACL makes the access list of an inode follow a new mode.
func (x *tx) chmodACL(r *row) error {
	key := xattrKey(r.ino, xattrAccess)
	b, ok, err := x.t.db.Get(spaceXattr, key)
	if err != nil {
		return failed("read an access control list", err)
	}
	a, valid := parseACL(b)
	if !ok || !valid {
		return corrupt("the access control list", r.ino)
	}
	a.chmod(r.mode)
	x.b.Put(spaceXattr, key, a.encode())
	return nil
}
