package versions

import (
	"sharefs"

	"golang.org/x/sys/unix"
)

// Mknod makes a file of any type but directory and symlink, and takes a reference on it. Mode holds the type; no type means a regular
// file. Errors: KindExist, KindNotExist for a directory that was removed, KindInvalid for a type that cannot be made so.
func (t *Tree) Mknod(parent sharefs.Ino, name string, mode, rdev uint32, who Caller) (sharefs.Attr, error) {
	switch mode & sharefs.ModeType {
	case 0:
		mode |= sharefs.ModeRegular
		rdev = 0
	case sharefs.ModeRegular, sharefs.ModeFifo, sharefs.ModeSocket:
		rdev = 0
	case sharefs.ModeChar, sharefs.ModeBlock:
	default:
		return sharefs.Attr{}, fail("make a node", sharefs.KindInvalid)
	}
	return t.make(parent, name, mode, rdev, "", who)
}

// Mkdir makes a directory and takes a reference on it.
func (t *Tree) Mkdir(parent sharefs.Ino, name string, mode uint32, who Caller) (sharefs.Attr, error) {
	return t.make(parent, name, mode&sharefs.ModePerm|sharefs.ModeDir, 0, "", who)
}

// Symlink makes a symlink and takes a reference on it. Errors beside those of Mknod: KindNameTooLong for a target of more than
// SymlinkMax bytes, KindNotExist for an empty one.
func (t *Tree) Symlink(parent sharefs.Ino, name, target string, who Caller) (sharefs.Attr, error) {
	switch {
	case target == "":
		return sharefs.Attr{}, fail("make a symlink", sharefs.KindNotExist)
	case len(target) > sharefs.SymlinkMax:
		return sharefs.Attr{}, fail("make a symlink", sharefs.KindNameTooLong)
	}
	return t.make(parent, name, sharefs.ModeSymlink|0o777, 0, target, who)
}

// make makes whatever is not opened with it.
func (t *Tree) make(parent sharefs.Ino, name string, mode, rdev uint32, target string, who Caller) (sharefs.Attr, error) {
	return t.makeAs(parent, name, &newInode{mode: mode, rdev: rdev, target: target, who: who})
}

// makeAs is make of what is known of an inode but its number.
func (t *Tree) makeAs(parent sharefs.Ino, name string, n *newInode) (sharefs.Attr, error) {
	const op = "make"
	if err := t.writable(op); err != nil {
		return sharefs.Attr{}, err
	}
	if err := newName(op, name); err != nil {
		return sharefs.Attr{}, err
	}
	var p prepared
	var err error
	regular := n.mode&sharefs.ModeType == sharefs.ModeRegular && n.staged == nil
	switch {
	case n.staged != nil:
		p.ino = n.staged.ino
	case regular:
		p, err = t.stock.take()
	default:
		p.ino, err = t.stock.number()
	}
	if err != nil {
		return sharefs.Attr{}, err
	}
	n.ino = p.ino
	r, err := t.makeNamed(parent, name, n)
	if err != nil {
		if regular {
			t.stock.put(p)
		}
		return sharefs.Attr{}, err
	}
	if regular {
		t.stock.used(p)
		unix.Close(p.fd)
	}
	return r.attr(), nil
}

// newInode is what is known of an inode before it is made.
type newInode struct {
	ino        sharefs.Ino
	id         sharefs.FileID // zero: a new one
	mode, rdev uint32
	target     string
	who        Caller
	staged     *Staged // nil, or what it holds from the first
	over       *Name   // nil, or who has the name until then
	mark       bool    // with a mark: it is being opened for writing
	file       *file   // nil, or the pinned file to be made hot
}

// makeNamed makes an inode under a name that must be vacant, but for whom it is taken from, with a reference on it.
func (t *Tree) makeNamed(parent sharefs.Ino, name string, n *newInode) (*row, error) {
	const op = "make"
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	dir, err := x.editDir(parent)
	if err != nil {
		return nil, failed(op, err)
	}
	p, err := t.dent(parent, name)
	switch {
	case err != nil:
		return nil, err
	case p.found() && n.over == nil:
		return nil, fail(op, sharefs.KindExist)
	case !p.found() && n.over != nil:
		return nil, fail(op, sharefs.KindNotExist)
	}
	var old *row
	if n.over != nil {
		if old, err = x.edit(p.ino); err == nil {
			err = t.stands(*n.over, old)
		}
		if err == nil && old.isDir() {
			err = fail(op, sharefs.KindIsDir)
		}
		if err != nil {
			return nil, err
		}
	}
	r, err := x.newRow(dir, n)
	if err != nil {
		return nil, err
	}
	r.nlink = 1
	if r.isDir() {
		r.nlink, r.parent = 2, parent
		dir.nlink++
	}
	if old == nil {
		dir.entries++
	} else {
		dir.flags |= rowShed
	}
	x.bind(parent, p, name, r)
	if err := t.hooks.named(x, parent, p.cookie, name, r, old); err != nil {
		return nil, err
	}
	if old != nil {
		if err := x.unname(old); err != nil {
			return nil, err
		}
	}
	if n.staged != nil {
		if err := n.staged.begin(x, r); err != nil {
			return nil, err
		}
	}
	if err := t.finishNew(x, r, n); err != nil {
		return nil, err
	}
	if n.staged != nil {
		n.staged.used = true
		n.staged.passed()
	}
	return r, nil
}

// newRow makes the row of an inode in a directory: its owner and group, what it inherits, its access control list.
func (x *tx) newRow(dir *row, n *newInode) (*row, error) {
	if err := x.t.reserve.refuse("make"); err != nil {
		return nil, err
	}
	r := &row{
		ino: n.ino, mode: n.mode, uid: n.who.UID, gid: n.who.GID, rdev: n.rdev, target: n.target, size: uint64(len(n.target)),
		atime: x.now, mtime: x.now, ctime: x.now, btime: x.now, id: n.id,
	}
	if r.id == (sharefs.FileID{}) {
		r.id = x.t.ids.next()
	}
	if dir.mode&sharefs.ModeSetgid != 0 {
		r.gid = dir.gid
		if r.isDir() {
			r.mode |= sharefs.ModeSetgid
		}
	}
	switch {
	case r.isSymlink():
	case dir.flags&rowDefault != 0:
		if err := x.inheritACL(dir, r); err != nil {
			return nil, err
		}
	default:
		r.mode &^= n.who.Umask & 0o777
	}
	x.rows = append(x.rows, r)
	return r, x.inheritTrack(dir, r)
}

// finishNew commits a change that makes an inode, which gets a reference, and a mark where it is to be written to.
func (t *Tree) finishNew(x *tx, r *row, n *newInode) error {
	if n.mark {
		x.b.Put(spaceMark, inoKey(r.ino), markValue(true))
	}
	t.refs.add(r.ino, 1)
	if err := x.commit(); err != nil {
		t.refs.sub(r.ino, 1)
		return err
	}
	if f := n.file; n.mark {
		t.setMarked(f, true)
		f.mu.Lock()
		f.hot, f.fresh, f.seq = true, true, r.seq
		f.mu.Unlock()
	}
	return nil
}

// Create makes a regular file and opens it, with a reference on it. Where the name is taken it opens that file, unless flags hold O_EXCL
// (KindExist). Errors besides: KindIsDir, KindLoop for a symlink, KindNoDevice for what is no file at all.
func (t *Tree) Create(parent sharefs.Ino, name string, flags, mode uint32, who Caller) (sharefs.Attr, *Handle, error) {
	const op = "create"
	if err := t.writable(op); err != nil {
		return sharefs.Attr{}, nil, err
	}
	if err := newName(op, name); err != nil {
		return sharefs.Attr{}, nil, err
	}
	for {
		a, h, err := t.createNew(flags, mode, who, func(n *newInode) (*row, error) {
			n.file.mu.Lock()
			n.file.born = parent
			n.file.mu.Unlock()
			return t.makeNamed(parent, name, n)
		})
		if err == nil {
			if err = t.readySync(h); err != nil {
				h.Close()
				t.Forget(a.Ino, 1)
				return sharefs.Attr{}, nil, err
			}
			return a, h, nil
		}
		if sharefs.KindOf(err) != sharefs.KindExist || flags&unix.O_EXCL != 0 {
			return a, h, err
		}
		a, h, err = t.openNamed(parent, name, flags, who)
		if sharefs.KindOf(err) != sharefs.KindNotExist {
			return a, h, err
		}
	}
}

// openNamed opens what bears a name, with a reference on it.
func (t *Tree) openNamed(parent sharefs.Ino, name string, flags uint32, who Caller) (sharefs.Attr, *Handle, error) {
	a, err := t.Lookup(parent, name)
	if err != nil {
		return sharefs.Attr{}, nil, err
	}
	h, err := t.Open(a.Ino, flags, who)
	if err == nil {
		if a, err = t.Getattr(a.Ino); err == nil {
			return a, h, nil
		}
		h.Close()
	}
	t.Forget(a.Ino, 1)
	return sharefs.Attr{}, nil, err
}

// createNew makes a regular file by a function and opens it.
func (t *Tree) createNew(flags, mode uint32, who Caller, makeRow func(*newInode) (*row, error)) (sharefs.Attr, *Handle, error) {
	p, err := t.stock.take()
	if err != nil {
		return sharefs.Attr{}, nil, err
	}
	f := t.files.pin(p.ino)
	h := &Handle{t: t, f: f, flags: flags}
	// Nobody knows the inode yet, so that nobody else holds the lock.
	f.content.Lock()
	defer f.content.Unlock()
	r, err := makeRow(&newInode{ino: p.ino, mode: mode&sharefs.ModePerm | sharefs.ModeRegular, who: who, mark: h.CanWrite(), file: f})
	if err != nil {
		t.files.unpin(f)
		t.stock.put(p)
		return sharefs.Attr{}, nil, err
	}
	t.stock.used(p)
	t.files.give(f, p.fd)
	defer t.enter(h, r, true)()
	t.opened(h)
	if h.CanWrite() {
		t.track.Hold(f.ino, f.base, h.mappable())
	}
	a := r.attr()
	a.Changing, a.Mapped = h.CanWrite(), h.mappable()
	return a, h, nil
}

// Tmpfile makes a regular file without a name and opens it, with a reference on it. Link can name it unless flags hold O_EXCL.
func (t *Tree) Tmpfile(parent sharefs.Ino, flags, mode uint32, who Caller) (sharefs.Attr, *Handle, error) {
	if err := t.writable("create"); err != nil {
		return sharefs.Attr{}, nil, err
	}
	return t.createNew(flags, mode, who, func(n *newInode) (*row, error) {
		t.mu.Lock()
		defer t.mu.Unlock()
		x := t.begin()
		dir, err := x.row(parent)
		switch {
		case err != nil:
			return nil, err
		case !dir.isDir():
			return nil, fail("create", sharefs.KindNotDir)
		case dir.nlink == 0:
			return nil, fail("create", sharefs.KindNotExist)
		}
		r, err := x.newRow(dir, n)
		if err != nil {
			return nil, err
		}
		x.orphan(r, flags&unix.O_EXCL == 0)
		return r, t.finishNew(x, r, n)
	})
}
