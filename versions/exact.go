package versions

import (
	"fmt"

	"sharefs"
)

// What follows changes the tree on behalf of somebody who has an account of it, and nothing that is not as that account says: it errors with KindAgain
// instead. The kernel is told, for it did not ask.

// New is what is made with an identity that another host gave it.
type New struct {
	ID     sharefs.FileID
	Mode   uint32 // type and permission bits: a directory, a regular file or a symlink
	Target string // of a symlink
	// Staged is what a regular file holds from the first; nil: it is empty.
	Staged *Staged
	// Over is who has the name until then, a file or symlink that goes in the same instant, as by rename(2); nil: the name is vacant. No directory takes a name so.
	Over *Name
}

// Put makes a file under a name that is vacant, or has it take the name from another one.
func (t *Tree) Put(parent sharefs.Ino, name string, n New, who Caller) (sharefs.Attr, error) {
	const op = "make"
	switch kind := n.Mode & sharefs.ModeType; {
	case kind != sharefs.ModeDir && kind != sharefs.ModeRegular && kind != sharefs.ModeSymlink, (kind == sharefs.ModeSymlink) != (n.Target != ""), name == "", n.Staged != nil && (kind != sharefs.ModeRegular || n.Staged.used), n.Over != nil && kind == sharefs.ModeDir:
		return sharefs.Attr{}, fail(op, sharefs.KindInvalid)
	case len(n.Target) > sharefs.SymlinkMax:
		return sharefs.Attr{}, fail(op, sharefs.KindNameTooLong)
	}
	if n.Staged != nil {
		if err := n.Staged.whole(); err != nil {
			return sharefs.Attr{}, err
		}
	}
	a, err := t.makeAs(parent, name, &newInode{id: n.ID, mode: n.Mode, target: n.Target, who: who, staged: n.Staged, over: n.Over})
	if err == nil {
		t.Forget(a.Ino, 1)
		t.forgetEntry(parent, name)
		if n.Over != nil {
			t.forgetAttr(n.Over.Ino)
		}
	}
	return a, outrun(op, err)
}

// Retarget has a symlink lead elsewhere. The kernel is told. KindInvalid: it is no symlink, or that is no target.
func (t *Tree) Retarget(ino sharefs.Ino, target string) error {
	const op = "change a symlink"
	if err := t.writable(op); err != nil {
		return err
	}
	if target == "" || len(target) > sharefs.SymlinkMax {
		return fail(op, sharefs.KindInvalid)
	}
	if err := t.retarget(op, ino, target); err != nil {
		return outrun(op, err)
	}
	if k := t.kernel.Load(); k != nil {
		(*k).ForgetContent(ino, 0, 0)
	}
	return nil
}

func (t *Tree) retarget(op string, ino sharefs.Ino, target string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	r, err := x.edit(ino)
	switch {
	case err != nil:
		return err
	case !r.isSymlink():
		return fail(op, sharefs.KindInvalid)
	}
	r.target, r.size = target, uint64(len(target))
	r.mtime, r.ctime = x.now, x.now
	return x.commit()
}

// PutLink gives an inode another name, as [Tree.Link] does. The kernel is told.
func (t *Tree) PutLink(ino, parent sharefs.Ino, name string) error {
	if _, err := t.Link(ino, parent, name); err != nil {
		return err
	}
	t.Forget(ino, 1)
	t.forgetEntry(parent, name)
	t.forgetAttr(ino)
	return nil
}

// PutMode gives an inode other permission bits, as [Tree.Setattr] does. The kernel is told: it would let in by the old ones as long as it keeps them.
func (t *Tree) PutMode(ino sharefs.Ino, mode uint32, who Caller) error {
	if _, err := t.Setattr(ino, &SetAttr{Mode: &mode}, who); err != nil {
		return err
	}
	t.forgetAttr(ino)
	return nil
}

// Name is a name and the inode that has it, according to somebody's account.
type Name struct {
	Parent sharefs.Ino
	Name   string
	Ino    sharefs.Ino // 0: nobody has it
	Own    uint64      // of a regular file: its newest own version; no other is removed
}

// Take takes a name away. Errors beside KindAgain: KindNotEmpty.
func (t *Tree) Take(n Name) error {
	err := t.remove("remove", n.Parent, n.Name, func(r *row) error {
		if r.isDir() && r.entries > 0 {
			return fail("remove", sharefs.KindNotEmpty)
		}
		return t.stands(n, r)
	})
	if err == nil {
		t.forgetEntry(n.Parent, n.Name)
		t.forgetAttr(n.Ino)
	}
	return outrun("remove", err)
}

// outrun makes an error of what is gone one that tells that somebody was faster.
func outrun(op string, err error) error {
	if kind := sharefs.KindOf(err); err != nil && (kind == sharefs.KindNotExist || kind == sharefs.KindStale) {
		return &sharefs.Error{Op: op, Kind: sharefs.KindAgain, Err: err}
	}
	return err
}

// stands reports whether a name is as an account has it, and can be taken without losing what the account does not know. t.mu is held.
func (t *Tree) stands(n Name, r *row) error {
	again := func(format string, args ...any) error {
		return &sharefs.Error{Op: "change", Kind: sharefs.KindAgain, Detail: fmt.Sprintf(format, args...)}
	}
	if r.ino != n.Ino {
		return again("inode %d has the name, not %d", r.ino, n.Ino)
	}
	if !r.isRegular() || r.nlink > 1 {
		return nil
	}
	v, err := newestVersion(t.db, r.ino, noLimit)
	if err != nil {
		return err
	}
	var own uint64
	if v != nil {
		own = v.own
	}
	switch {
	case t.hot(r.ino):
		return again("inode %d may be written to", r.ino)
	case own != n.Own:
		return again("inode %d has version %d, not %d", r.ino, own, n.Own)
	}
	return nil
}

// Pass moves a name to another place, over what the account says is there.
func (t *Tree) Pass(from, to Name) error {
	const op = "rename"
	if err := t.writable(op); err != nil {
		return err
	}
	if err := newName(op, to.Name); err != nil {
		return err
	}
	err := t.pass(from, to)
	if err == nil {
		t.forgetEntry(from.Parent, from.Name)
		t.forgetEntry(to.Parent, to.Name)
		t.forgetAttr(from.Ino)
	}
	return outrun(op, err)
}

func (t *Tree) pass(from, to Name) error {
	const op = "rename"
	t.mu.Lock()
	defer t.mu.Unlock()
	m := move{x: t.begin(), from: from.Parent, to: to.Parent, oldName: from.Name, newName: to.Name}
	if err := m.find(0); err != nil {
		return failed(op, err)
	}
	switch {
	case m.src.ino != from.Ino:
		return &sharefs.Error{Op: op, Kind: sharefs.KindAgain, Detail: fmt.Sprintf("inode %d has the name, not %d", m.src.ino, from.Ino)}
	case (m.dst == nil) != (to.Ino == 0):
		return &sharefs.Error{Op: op, Kind: sharefs.KindAgain, Detail: "what has the new name is another thing"}
	case m.dst != nil && m.dst.ino == m.src.ino:
		return fail(op, sharefs.KindExist)
	case m.dst != nil:
		if err := t.stands(to, m.dst); err != nil {
			return err
		}
	}
	if err := m.allowed(0); sharefs.KindOf(err) == sharefs.KindInvalid {
		return &sharefs.Error{Op: op, Kind: sharefs.KindAgain, Detail: "the directory would be in itself", Err: err}
	} else if err != nil {
		return failed(op, err)
	}
	if err := m.replace(); err != nil {
		return err
	}
	return m.x.commit()
}

// forgetEntry has the kernel forget a name.
func (t *Tree) forgetEntry(parent sharefs.Ino, name string) {
	if k := t.kernel.Load(); k != nil {
		(*k).ForgetEntry(parent, name)
		(*k).ForgetAttr(parent)
	}
}

// NameAt returns the name in a slot of a directory; ok is false where there is none.
func (t *Tree) NameAt(parent sharefs.Ino, cookie uint64) (d sharefs.Dentry, ok bool, err error) {
	key := dentryKey(parent, cookie)
	b, ok, err := t.db.Get(spaceDentry, key)
	if err != nil || !ok {
		return d, false, failed("look up", err)
	}
	e, err := decodeDent(key, b)
	return sharefs.Dentry{Name: e.name, Ino: e.ino, Type: uint32(e.typ) << 12, Cookie: e.cookie}, e.ino != 0, err
}

// Slot returns what has a name in a directory, and its cookie.
func (t *Tree) Slot(parent sharefs.Ino, name string) (d sharefs.Dentry, ok bool, err error) {
	p, err := t.dent(parent, name)
	if err != nil || !p.found() {
		return d, false, err
	}
	return sharefs.Dentry{Name: p.name, Ino: p.ino, Type: uint32(p.typ) << 12, Cookie: p.cookie}, true, nil
}
