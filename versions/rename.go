package versions

import (
	"golang.org/x/sys/unix"

	"sharefs"
)

// Rename moves a name, in place of what bears the new one. Flags are RENAME_NOREPLACE (KindExist) and RENAME_EXCHANGE of renameat2(2);
// others are KindInvalid, as is moving a directory below itself. Errors besides: KindNotExist, KindNotDir, KindIsDir, KindNotEmpty.
func (t *Tree) Rename(oldParent sharefs.Ino, oldName string, newParent sharefs.Ino, newName string, flags uint32) error {
	const op = "rename"
	if err := t.writable(op); err != nil {
		return err
	}
	for _, name := range [...]string{oldName, newName} {
		if name == "." || name == ".." {
			return fail(op, sharefs.KindBusy)
		}
		if err := checkName(op, name); err != nil {
			return err
		}
	}
	if flags&^(unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE) != 0 || flags == unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE {
		return fail(op, sharefs.KindInvalid)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	m := move{x: t.begin(), from: oldParent, to: newParent, oldName: oldName, newName: newName}
	if err := m.find(flags); err != nil {
		return failed(op, err)
	}
	if m.dst != nil && m.dst.ino == m.src.ino {
		return nil // two names of one inode, or one name: POSIX has it that nothing happens
	}
	if err := m.allowed(flags); err != nil {
		return failed(op, err)
	}
	var err error
	if flags&unix.RENAME_EXCHANGE != 0 {
		err = m.exchange()
	} else {
		err = m.replace()
	}
	if err != nil {
		return err
	}
	return m.x.commit()
}

// move is a rename at work.
type move struct {
	x                *tx
	from, to         sharefs.Ino
	oldName, newName string
	oldPlace         place
	newPlace         place
	src, dst         *row // dst is nil where the new name is vacant
	oldDir, newDir   *row
}

// find looks up both names and what bears them.
func (m *move) find(flags uint32) (err error) {
	t := m.x.t
	if m.oldPlace, err = t.dent(m.from, m.oldName); err != nil {
		return err
	}
	if !m.oldPlace.found() {
		return sharefs.KindNotExist
	}
	if m.newPlace, err = t.dent(m.to, m.newName); err != nil {
		return err
	}
	switch {
	case m.newPlace.found() && flags&unix.RENAME_NOREPLACE != 0:
		return sharefs.KindExist
	case !m.newPlace.found() && flags&unix.RENAME_EXCHANGE != 0:
		return sharefs.KindNotExist
	}
	if m.src, err = m.x.edit(m.oldPlace.ino); err != nil {
		return err
	}
	if m.newPlace.found() {
		if m.dst, err = m.x.edit(m.newPlace.ino); err != nil {
			return err
		}
	}
	if m.oldDir, err = m.x.editDir(m.from); err != nil {
		return err
	}
	m.newDir, err = m.x.editDir(m.to)
	return err
}

// allowed refuses what would make the tree none.
func (m *move) allowed(flags uint32) error {
	exchange := flags&unix.RENAME_EXCHANGE != 0
	if m.src.isDir() {
		if err := m.x.notBelow(m.src.ino, m.to); err != nil {
			return err
		}
	}
	if m.dst == nil {
		return nil
	}
	if exchange {
		if m.dst.isDir() {
			return m.x.notBelow(m.dst.ino, m.from)
		}
		return nil
	}
	switch {
	case m.src.isDir() && !m.dst.isDir():
		return sharefs.KindNotDir
	case !m.src.isDir() && m.dst.isDir():
		return sharefs.KindIsDir
	case m.dst.isDir() && m.dst.entries > 0:
		return sharefs.KindNotEmpty
	}
	return nil
}

// notBelow refuses to move dir into itself or a directory below it.
func (x *tx) notBelow(dir, into sharefs.Ino) error {
	for at := into; ; {
		if at == dir {
			return sharefs.KindInvalid
		}
		if at == sharefs.RootIno {
			return nil
		}
		r, err := x.row(at)
		if err != nil {
			return err
		}
		at = r.parent
	}
}

// replace gives the new name to src and takes it from dst.
func (m *move) replace() error {
	x := m.x
	x.bind(m.to, m.newPlace, m.newName, m.src)
	x.unbind(m.from, m.oldPlace)
	m.oldDir.flags |= rowShed
	m.oldDir.entries--
	if m.dst == nil {
		m.newDir.entries++
	} else {
		m.newDir.flags |= rowShed
	}
	if m.dst != nil && m.dst.isDir() {
		m.newDir.nlink--
	}
	m.moved(m.src, m.oldDir, m.newDir)
	if err := x.t.hooks.named(x, m.to, m.newPlace.cookie, m.newName, m.src, m.dst); err != nil {
		return err
	}
	if m.dst == nil {
		return nil
	}
	return x.unname(m.dst)
}

// exchange gives each of the two names to what bears the other.
func (m *move) exchange() error {
	x := m.x
	x.bind(m.to, m.newPlace, m.newName, m.src)
	x.bind(m.from, m.oldPlace, m.oldName, m.dst)
	m.oldDir.flags |= rowShed
	m.newDir.flags |= rowShed
	m.moved(m.src, m.oldDir, m.newDir)
	m.moved(m.dst, m.newDir, m.oldDir)
	if err := x.t.hooks.named(x, m.to, m.newPlace.cookie, m.newName, m.src, m.dst); err != nil {
		return err
	}
	return x.t.hooks.named(x, m.from, m.oldPlace.cookie, m.oldName, m.dst, m.src)
}

// moved counts an inode over from one directory to another.
func (m *move) moved(r, from, to *row) {
	r.ctime = m.x.now
	if r.isDir() {
		from.nlink--
		to.nlink++
		r.parent = to.ino
	}
}
