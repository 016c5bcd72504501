package versions

import (
	"sharefs"
	"sharefs/versions/kv"
)

// Ever is a name that something bore in a directory once.
type Ever struct {
	sharefs.Dentry             // what bears it, or bore it last
	Gone           sharefs.HLC // the end of the instant in which it went; 0: it is there
}

// NamesEver calls fn for every name that something bears or ever bore in a directory, after the cookie (0: from the start) and in the order of the cookies,
// until it returns false. The directory may be removed. Names that came and went within one instant leave no trace.
func (t *Tree) NamesEver(dir sharefs.Ino, after uint64, fn func(Ever) bool) error {
	return nil
}

// ChangePoints calls fn for the moments at which a directory's names or attributes changed, newest first, until it returns false. A view of such a moment
// shows the directory as it was after the change. The directory may be removed.
func (t *Tree) ChangePoints(dir sharefs.Ino, fn func(at sharefs.HLC) bool) error {
	err := t.db.Past(spaceInode, inoKey(dir), func(rev kv.Revision) bool {
		return rev.At == 0 || fn(rev.At)
	})
	return failed("read the past of a directory", err)
}
