package versions

import (
	"encoding/binary"
	"errors"
	"strings"

	"sharefs"
)

// setHashKey sets the key of the hash that orders names.
func (t *Tree) setHashKey(key []byte) error {
	if len(key) != 16 {
		return corrupt("the key of the names' hash", 0)
	}
	k0, k1 := binary.LittleEndian.Uint64(key), binary.LittleEndian.Uint64(key[8:])
	if t.hash == nil {
		t.hash = func(name string) uint64 { return siphash(k0, k1, name) }
	}
	return nil
}

// checkName refuses what cannot be the name of a directory entry.
func checkName(op, name string) error {
	switch {
	case name == "":
		return fail(op, sharefs.KindNotExist)
	case len(name) > sharefs.NameMax:
		return fail(op, sharefs.KindNameTooLong)
	case strings.ContainsAny(name, "/\x00"):
		return fail(op, sharefs.KindInvalid)
	}
	return nil
}

// newName refuses names that no file can be made under.
func newName(op, name string) error {
	if name == "." || name == ".." {
		return fail(op, sharefs.KindExist)
	}
	return checkName(op, name)
}

// Lookup finds a name in a directory and takes a reference on what bears it. "." is the inode itself, of whatever type, and ".." the
// directory that holds a directory. Errors: KindNotExist, KindNameTooLong, KindStale for an inode that is no more.
func (t *Tree) Lookup(parent sharefs.Ino, name string) (sharefs.Attr, error) {
	switch name {
	case ".":
		// Of a handle (open_by_handle_at): a kernel that asks has the inode neither open nor mapped, so that without a name it is gone.
		a, err := t.reference(parent)
		if err == nil && a.Nlink == 0 {
			t.Forget(parent, 1)
			return sharefs.Attr{}, stale(parent)
		}
		return a, err
	case "..":
		up, err := t.Parent(parent)
		if err != nil {
			return sharefs.Attr{}, err
		}
		return t.reference(up)
	}
	if err := checkName("look up", name); err != nil {
		return sharefs.Attr{}, err
	}
	// A name that was there may have gone, with its inode, before the reference is taken: then it is looked for again.
	for range 3 {
		p, err := t.dent(parent, name)
		if err != nil {
			return sharefs.Attr{}, err
		}
		if !p.found() {
			return sharefs.Attr{}, sharefs.KindNotExist
		}
		a, err := t.reference(p.ino)
		if err == nil {
			t.whereabouts.note(p.ino, parent)
		}
		if !errors.Is(err, sharefs.KindStale) {
			return a, err
		}
	}
	return sharefs.Attr{}, &sharefs.Error{Op: "look up", Path: name, Kind: sharefs.KindCorrupt, Detail: "the name leads to no inode"}
}

// reference takes a reference on an inode that lives and returns its attributes.
func (t *Tree) reference(ino sharefs.Ino) (sharefs.Attr, error) {
	if !t.refs.add(ino, 1) {
		return sharefs.Attr{}, stale(ino)
	}
	a, err := t.Getattr(ino)
	if err != nil {
		t.Forget(ino, 1)
	}
	return a, err
}

// Forget gives n references back.
func (t *Tree) Forget(ino sharefs.Ino, n uint64) {
	if t.refs.sub(ino, n) {
		t.orphans.released(ino)
	}
}

// Parent returns the directory that holds dir; the root holds itself. Errors: KindStale, KindNotDir.
func (t *Tree) Parent(dir sharefs.Ino) (sharefs.Ino, error) {
	r, err := t.row(dir)
	switch {
	case err != nil:
		return 0, err
	case !r.isDir():
		return 0, fail("look up", sharefs.KindNotDir)
	}
	return r.parent, nil
}

// Readlink returns the target of a symlink. Errors: KindStale, KindInvalid for anything else.
func (t *Tree) Readlink(ino sharefs.Ino) (string, error) {
	r, err := t.row(ino)
	switch {
	case err != nil:
		return "", err
	case !r.isSymlink():
		return "", fail("read link", sharefs.KindInvalid)
	}
	t.accessed(r)
	return r.target, nil
}
