package versions

import (
	"strings"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions/kv"
)

// Names of extended attributes that the tree itself knows.
const (
	xattrAccess  = "system.posix_acl_access"
	xattrDefault = "system.posix_acl_default"
	xattrCaps    = "security.capability"
)

// XattrKillSetgid is a flag of Setxattr beside those of setxattr(2): whoever sets the access control list is not in the file's group, so
// that setgid goes (FUSE_SETXATTR_ACL_KILL_SGID).
const XattrKillSetgid uint32 = 1 << 31

const (
	xattrNameMax = 255     // bytes of a name, as the kernel's
	xattrListMax = 1 << 16 // bytes of all names of an inode, each with a NUL: what listxattr(2) can return
)

// xattrFlag returns the flag of the row that goes with an attribute, 0 for most.
func xattrFlag(name string) uint8 {
	switch name {
	case xattrAccess:
		return rowACL
	case xattrDefault:
		return rowDefault
	case xattrCaps:
		return rowCaps
	}
	return 0
}

// checkXattr refuses names outside the namespaces that a disk has.
func checkXattr(name string) error {
	if len(name) > xattrNameMax {
		return sharefs.KindRange
	}
	for _, prefix := range [...]string{"user.", "trusted.", "security."} {
		if strings.HasPrefix(name, prefix) {
			if len(name) == len(prefix) {
				return sharefs.KindInvalid
			}
			return nil
		}
	}
	if name == xattrAccess || name == xattrDefault {
		return nil
	}
	return sharefs.KindNotSupported
}

// Getxattr returns the value of an extended attribute. Errors: KindNoAttr, KindNotSupported for a namespace that does not exist.
func (t *Tree) Getxattr(ino sharefs.Ino, name string) ([]byte, error) {
	r, err := t.row(ino)
	if err != nil {
		return nil, err
	}
	return getXattr(t.db, r, name)
}

// getXattr is Getxattr of a row as a view of the store has it.
func getXattr(view kv.View, r *row, name string) ([]byte, error) {
	if err := checkXattr(name); err != nil {
		return nil, err
	}
	flag := xattrFlag(name)
	if r.xattrs == 0 || flag != 0 && r.flags&flag == 0 {
		return nil, sharefs.KindNoAttr
	}
	v, ok, err := view.Get(spaceXattr, xattrKey(r.ino, name))
	switch {
	case err != nil:
		return nil, failed("read an extended attribute", err)
	case !ok:
		return nil, sharefs.KindNoAttr
	}
	return v, nil
}

// Listxattr returns the names of an inode's extended attributes, sorted.
func (t *Tree) Listxattr(ino sharefs.Ino) ([]string, error) {
	r, err := t.row(ino)
	if err != nil || r.xattrs == 0 {
		return nil, err
	}
	var names []string
	err = eachXattr(t.db, ino, func(name string, _ []byte) { names = append(names, name) })
	return names, err
}

// Setxattr sets an extended attribute. Flags are XATTR_CREATE (KindExist), XATTR_REPLACE (KindNoAttr) and XattrKillSetgid. Setting an access
// control list sets the mode. Errors besides: KindInvalid for a list that is none, KindTooBig, KindNoSpace for too many names.
func (t *Tree) Setxattr(ino sharefs.Ino, name string, value []byte, flags uint32) error {
	const op = "set an extended attribute"
	return t.changeXattr(op, ino, name, func(x *tx, r *row, has bool) error {
		switch {
		case len(value) > sharefs.XattrMax:
			return fail(op, sharefs.KindTooBig)
		case has && flags&unix.XATTR_CREATE != 0:
			return fail(op, sharefs.KindExist)
		case !has && flags&unix.XATTR_REPLACE != 0:
			return fail(op, sharefs.KindNoAttr)
		case name == XattrRetain:
			if err := CheckRetain(value); err != nil {
				return err
			}
		case name == XattrTrack:
			if err := CheckTrack(value); err != nil {
				return err
			}
			x.noteTrack()
		case name == XattrPin:
			if err := CheckPin(value); err != nil {
				return err
			}
		}
		if !has && r.xattrs > 0 {
			if err := t.roomForXattr(ino, name); err != nil {
				return err
			}
		}
		keep := true
		if name == xattrAccess || name == xattrDefault {
			var err error
			if keep, err = r.setACL(name, value, flags&XattrKillSetgid != 0); err != nil {
				return err
			}
		}
		x.putXattr(r, name, value, has, keep)
		return nil
	})
}

// Removexattr removes an extended attribute. Errors: KindNoAttr, KindNotSupported.
func (t *Tree) Removexattr(ino sharefs.Ino, name string) error {
	const op = "remove an extended attribute"
	return t.changeXattr(op, ino, name, func(x *tx, r *row, has bool) error {
		if !has {
			return fail(op, sharefs.KindNoAttr)
		}
		x.putXattr(r, name, nil, true, false)
		return nil
	})
}

// changeXattr commits what change does to an extended attribute; has tells whether there is one of the name.
func (t *Tree) changeXattr(op string, ino sharefs.Ino, name string, change func(x *tx, r *row, has bool) error) error {
	if err := t.writable(op); err != nil {
		return err
	}
	if err := checkXattr(name); err != nil {
		return failed(op, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	r, err := x.edit(ino)
	if err != nil {
		return err
	}
	has := false
	if r.xattrs > 0 {
		if _, has, err = t.db.Get(spaceXattr, xattrKey(ino, name)); err != nil {
			return failed(op, err)
		}
	}
	if err := change(x, r, has); err != nil {
		return err
	}
	r.ctime = x.now
	return x.commit()
}

// putXattr writes or removes a row of an attribute and counts it.
func (x *tx) putXattr(r *row, name string, value []byte, has, keep bool) {
	if name == XattrPin && has != keep {
		x.pin(r, keep)
	}
	key := xattrKey(r.ino, name)
	switch {
	case keep:
		x.b.Put(spaceXattr, key, value)
		r.flags |= xattrFlag(name)
		if !has {
			r.xattrs++
		}
	case has:
		x.b.Delete(spaceXattr, key)
		r.flags &^= xattrFlag(name)
		r.xattrs--
	}
}

// roomForXattr refuses one more name where listxattr(2) could not return them all.
func (t *Tree) roomForXattr(ino sharefs.Ino, name string) error {
	size := len(name) + 1
	if err := eachXattr(t.db, ino, func(name string, _ []byte) { size += len(name) + 1 }); err != nil {
		return err
	}
	if size > xattrListMax {
		return fail("set an extended attribute", sharefs.KindNoSpace)
	}
	return nil
}
