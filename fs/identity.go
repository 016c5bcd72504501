package fs

import (
	"strconv"

	"sharefs"
)

// What tells programs that compare trees of two times what is the same without reading it: inodes have numbers that are never used twice, and a version of a
// file never changes. Listings leave these attributes out.
const (
	attrInode   = ownPrefix + "inode"   // decimal: the inode that something is of, live or past
	attrState   = ownPrefix + "state"   // equal texts: equal content. None for what has changed since its last version
	attrRemoved = ownPrefix + "removed" // in .share/versions: when what had the name went, RFC 3339
	attrAlive   = ownPrefix + "alive"   // there: "1" where it has another name now
)

// stateOf is the state of a file that is a version in the history of an inode.
func stateOf(ino sharefs.Ino, v *sharefs.Version) []byte {
	b := strconv.AppendUint(nil, uint64(ino), 10)
	b = strconv.AppendUint(append(b, '.'), v.Number, 10)
	return strconv.AppendUint(append(b, '.'), uint64(v.At), 10) // a name may come to another history, in which numbers mean others
}

// identityXattr returns what a virtual node has of these attributes; ok tells that attr is one of them.
func (e *edge) identityXattr(k nodeKey, attr string) (value []byte, ok bool, err error) {
	switch attr {
	case attrInode:
		switch k.kind {
		case atNode, pastDir, pastFile, pastTimes, everDir, everLink:
			return strconv.AppendUint(nil, uint64(k.ino), 10), true, nil
		}
	case attrRemoved:
		switch {
		case k.at == 0:
		case k.kind == pastDir, k.kind == everDir:
			return []byte(versionTime(k.at)), true, nil
		case k.kind == everLink:
			return []byte(versionTime(k.at + 1)), true, nil
		}
	case attrAlive:
		switch k.kind {
		case pastDir, everDir, everLink:
			live, err := e.tree.Getattr(k.ino)
			if !gone(&live, err) && err == nil {
				return []byte("1"), true, nil
			}
		}
	case attrState:
		var v sharefs.Version
		switch k.kind {
		case pastFile:
			v, err = e.versionOf(k)
		case atNode:
			view, failed := e.tree.ViewOf(k.at)
			if failed != nil {
				return nil, true, failed
			}
			v, err = view.Version(k.ino)
		default:
			return nil, true, sharefs.KindNoAttr
		}
		if missing(err) || sharefs.KindOf(err) == sharefs.KindInvalid {
			err = sharefs.KindNoAttr
		}
		if err != nil {
			return nil, true, err
		}
		return stateOf(k.ino, &v), true, nil
	default:
		return nil, false, nil
	}
	return nil, true, sharefs.KindNoAttr
}
