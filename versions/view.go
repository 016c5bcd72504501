package versions

import (
	"sharefs"
	"sharefs/versions/kv"
)

// View is the tree as it was at a moment. Its methods may be called from several goroutines, and it needs no end.
type View struct {
	t    *Tree
	at   sharefs.HLC
	rows kv.View
}

// ViewAt returns the tree as it was at a moment; [sharefs.MaxHLC] means now, whatever moment that is: [View.At] tells. It errors with KindInvalid for
// one in the future.
func (t *Tree) ViewAt(at sharefs.HLC) (*View, error) {
	if uint64(at) > t.seen.Load() {
		var err error
		if at, err = t.look(at); err != nil {
			return nil, err
		}
	}
	return &View{t: t, at: at, rows: t.db.At(at)}, nil
}

// Snapshot sees to it that a view of the moment shows everything that was changed or closed up to now, and returns that moment.
func (t *Tree) Snapshot() (sharefs.HLC, error) {
	if err := t.writable("snapshot"); err != nil {
		return 0, err
	}
	return t.look(sharefs.MaxHLC)
}

// At returns the moment that the view shows.
func (v *View) At() sharefs.HLC { return v.at }

// row reads an inode as it was. KindStale: there was none.
func (v *View) row(ino sharefs.Ino) (*row, error) { return loadRow(v.rows, ino) }

// Lookup finds a name in a directory, "." and ".." too. Errors: KindNotExist, KindNotDir, KindNameTooLong, KindStale where the directory was not there then.
func (v *View) Lookup(parent sharefs.Ino, name string) (sharefs.Attr, error) {
	switch name {
	case ".":
		return v.Getattr(parent)
	case "..":
		r, err := v.dir("look up", parent)
		if err != nil {
			return sharefs.Attr{}, err
		}
		return v.Getattr(r.parent)
	}
	if err := checkName("look up", name); err != nil {
		return sharefs.Attr{}, err
	}
	p, err := v.t.findDent(v.rows, parent, name)
	switch {
	case err != nil:
		return sharefs.Attr{}, err
	case p.found():
		return v.Getattr(p.ino)
	}
	if _, err := v.dir("look up", parent); err != nil {
		return sharefs.Attr{}, err
	}
	return sharefs.Attr{}, sharefs.KindNotExist
}

// dir reads the row of a directory.
func (v *View) dir(op string, ino sharefs.Ino) (*row, error) {
	r, err := v.row(ino)
	if err == nil && !r.isDir() {
		err = fail(op, sharefs.KindNotDir)
	}
	return r, err
}

// Getattr returns the attributes that an inode had. It errors with KindStale if there was none.
func (v *View) Getattr(ino sharefs.Ino) (sharefs.Attr, error) {
	r, err := v.row(ino)
	if err != nil {
		return sharefs.Attr{}, err
	}
	a := r.attr()
	if r.isRegular() {
		found, err := v.content(ino)
		if err != nil {
			return sharefs.Attr{}, err
		}
		if found == nil {
			a.Size, a.Blocks = 0, 0
			return a, nil
		}
		a.Size = found.size
		if r.ctime < found.ctime {
			a.Mtime, a.Ctime, a.Blocks = found.mtime, found.ctime, (found.size+511)/512
		}
	}
	return a, nil
}

// ReadDir calls fn for each name after the cookie (0: from the start), without "." and "..", in the order of the cookies, until it returns false.
// Errors: KindStale, KindNotDir.
func (v *View) ReadDir(ino sharefs.Ino, after uint64, fn func(sharefs.Dentry) bool) error {
	if _, err := v.dir("read directory", ino); err != nil {
		return err
	}
	var bad error
	err := v.rows.Scan(spaceDentry, dentryKey(ino, after+1), inoKey(ino+1), func(key, value []byte) bool {
		d, err := decodeDent(key, value)
		if err != nil {
			bad = err
			return false
		}
		return d.ino == 0 || fn(sharefs.Dentry{Name: d.name, Ino: d.ino, Type: uint32(d.typ) << 12, Cookie: d.cookie})
	})
	if err == nil {
		err = bad
	}
	return failed("read directory", err)
}

// Readlink returns the target of a symlink. Errors: KindStale, KindInvalid for anything else.
func (v *View) Readlink(ino sharefs.Ino) (string, error) {
	r, err := v.row(ino)
	switch {
	case err != nil:
		return "", err
	case !r.isSymlink():
		return "", fail("read link", sharefs.KindInvalid)
	}
	return r.target, nil
}

// Getxattr returns the value of an extended attribute. Errors: KindStale, KindNoAttr, KindNotSupported for a namespace that does not exist.
func (v *View) Getxattr(ino sharefs.Ino, name string) ([]byte, error) {
	r, err := v.row(ino)
	if err != nil {
		return nil, err
	}
	return getXattr(v.rows, r, name)
}

// Listxattr returns the names of an inode's extended attributes, sorted.
func (v *View) Listxattr(ino sharefs.Ino) ([]string, error) {
	r, err := v.row(ino)
	if err != nil || r.xattrs == 0 {
		return nil, err
	}
	var names []string
	err = eachXattr(v.rows, ino, func(name string, _ []byte) { names = append(names, name) })
	return names, err
}

// Version returns the version that a regular file's content was. KindNotExist: nothing had been closed yet, and the file is empty in the view.
func (v *View) Version(ino sharefs.Ino) (sharefs.Version, error) {
	found, err := v.content(ino)
	switch {
	case err != nil:
		return sharefs.Version{}, err
	case found == nil:
		return sharefs.Version{}, sharefs.KindNotExist
	}
	h := &v.t.past
	l, _, err := loadLineage(v.t.db, ino)
	if err != nil {
		return sharefs.Version{}, err
	}
	shown := h.shown(ino, found, l.base)
	shown.Live = h.isLive(ino, shown.Number)
	return shown, nil
}

// Open opens the content of a regular file for reading. Errors: KindStale, KindInvalid for what is no regular file, KindNotExist with the reason in
// Detail where the content is lost.
func (v *View) Open(ino sharefs.Ino) (VersionReader, error) {
	const op = "open a file of the past"
	r, err := v.row(ino)
	switch {
	case err != nil:
		return nil, err
	case !r.isRegular():
		return nil, fail(op, sharefs.KindInvalid)
	}
	found, err := v.content(ino)
	switch {
	case err != nil:
		return nil, err
	case found == nil:
		return emptyReader{}, nil
	case found.place == placeLost:
		return nil, &sharefs.Error{Op: op, Kind: sharefs.KindNotExist, Detail: "its content is lost"}
	}
	return v.t.past.openVersion(found)
}

// content finds the version that a regular file held; nil: nothing had been closed yet.
func (v *View) content(ino sharefs.Ino) (found *version, err error) {
	err = ownVersions(v.t.db, ino, noLimit, func(w *version) bool {
		if w.at <= v.at {
			found = w
		}
		return found == nil
	})
	return found, err
}
