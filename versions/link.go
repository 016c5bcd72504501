package versions

import "sharefs"

// Link gives an inode another name and takes a reference on it. Errors: KindExist, KindPermission for a directory, KindTooManyLinks,
// KindNotExist for an inode without a name, unless it was made by Tmpfile to be linked.
func (t *Tree) Link(ino, parent sharefs.Ino, name string) (sharefs.Attr, error) {
	if err := t.link(ino, parent, name); err != nil {
		return sharefs.Attr{}, err
	}
	return t.reference(ino)
}

func (t *Tree) link(ino, parent sharefs.Ino, name string) error {
	const op = "link"
	if err := t.writable(op); err != nil {
		return err
	}
	if err := newName(op, name); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	r, err := x.edit(ino)
	switch {
	case err != nil:
		return err
	case r.isDir():
		return fail(op, sharefs.KindPermission)
	case r.nlink >= sharefs.LinkMax:
		return fail(op, sharefs.KindTooManyLinks)
	}
	dir, err := x.editDir(parent)
	if err != nil {
		return failed(op, err)
	}
	p, err := t.dent(parent, name)
	switch {
	case err != nil:
		return err
	case p.found():
		return fail(op, sharefs.KindExist)
	}
	if err := t.reserve.refuse(op); err != nil {
		return err
	}
	if r.nlink == 0 {
		if o, ok := t.orphans.get(ino); !ok || !o.linkable {
			return fail(op, sharefs.KindNotExist)
		}
		x.name(ino)
	}
	r.nlink++
	r.ctime = x.now
	dir.entries++
	x.bind(parent, p, name, r)
	if err := t.hooks.named(x, parent, p.cookie, name, r, nil); err != nil {
		return err
	}
	return x.commit()
}
