package versions

import "sharefs"

// Unlink takes a name away from anything but a directory (KindIsDir). Errors besides: KindNotExist.
func (t *Tree) Unlink(parent sharefs.Ino, name string) error {
	return t.remove("unlink", parent, name, func(r *row) error {
		if r.isDir() {
			return fail("unlink", sharefs.KindIsDir)
		}
		return nil
	})
}

// Rmdir removes an empty directory. Errors: KindNotExist, KindNotDir, KindNotEmpty, KindInvalid for ".".
func (t *Tree) Rmdir(parent sharefs.Ino, name string) error {
	const op = "remove directory"
	switch name {
	case ".":
		return fail(op, sharefs.KindInvalid)
	case "..":
		return fail(op, sharefs.KindNotEmpty)
	}
	return t.remove(op, parent, name, func(r *row) error {
		switch {
		case !r.isDir():
			return fail(op, sharefs.KindNotDir)
		case r.entries > 0:
			return fail(op, sharefs.KindNotEmpty)
		}
		return nil
	})
}

// remove takes a name away from what check allows.
func (t *Tree) remove(op string, parent sharefs.Ino, name string, check func(*row) error) error {
	if err := t.writable(op); err != nil {
		return err
	}
	if err := checkName(op, name); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	p, err := t.dent(parent, name)
	switch {
	case err != nil:
		return err
	case !p.found():
		return fail(op, sharefs.KindNotExist)
	}
	dir, err := x.editDir(parent)
	if err != nil {
		return failed(op, err)
	}
	r, err := x.edit(p.ino)
	if err != nil {
		return err
	}
	if err := check(r); err != nil {
		return err
	}
	x.unbind(parent, p)
	dir.flags |= rowShed
	dir.entries--
	if r.isDir() {
		dir.nlink--
	}
	if err := x.unname(r); err != nil {
		return err
	}
	return x.commit()
}

// unname takes one name's worth of links from an inode, which becomes an orphan with the last one.
func (x *tx) unname(r *row) error {
	r.ctime = x.now
	if r.isDir() {
		r.nlink = 0
	} else {
		r.nlink--
	}
	if r.nlink > 0 {
		return nil
	}
	if r.isRegular() {
		if err := x.t.hooks.lost(x, r); err != nil {
			return err
		}
	}
	x.orphan(r, false)
	return nil
}
