package sim

import (
	"sharefs"
	"sharefs/peers/record"
	"sharefs/peers/replica"
)

// Put implements [replica.Tree].
func (t *tree) Put(dir sharefs.Ino, name string, made replica.New) (sharefs.Ino, error) {
	mode := made.Mode
	t.h.tick()
	t.h.allowed(dir, name, uint32(mode))
	if n, err := t.get(dir); err != nil || !n.isDir() || n.names == 0 {
		return 0, again("the directory is gone")
	}
	d, taken := t.lookup(dir, name)
	switch {
	case taken && made.Over == nil:
		return 0, kindOf("make", sharefs.KindExist)
	case !taken && made.Over != nil:
		return 0, again("the name is gone")
	case taken:
		if err := t.stands(*made.Over, t.nodes[d.Ino]); err != nil {
			return 0, err
		}
		t.unbind(dir, name)
		t.unlinked(d.Ino)
	}
	kind := map[record.Type]uint32{record.Directory: sharefs.ModeDir, record.Regular: sharefs.ModeRegular, record.Symlink: sharefs.ModeSymlink}[made.Type]
	if made.Type == record.Symlink {
		mode = 0o777
	}
	f := inode{id: made.ID, mode: kind | uint32(mode), target: made.Target}
	if made.Content != nil {
		s := made.Content.(staged)
		f.ino, f.content, f.mtime = s.ino, s.content, s.At
		f.past = []version{{s.content, f.mtime, true, s.Author}}
	}
	ino := t.create(dir, name, f)
	t.committed()
	if t.h.w.few {
		t.h.mayCrash(8)
	}
	return ino, nil
}

// Link implements [replica.Tree].
func (t *tree) Link(ino, dir sharefs.Ino, name string) error {
	t.h.tick()
	t.h.allowed(dir, name, 0)
	n, err := t.get(ino)
	if err != nil || n.names == 0 {
		return again("the inode is gone")
	}
	if d, err := t.get(dir); err != nil || !d.isDir() || d.names == 0 {
		return again("the directory is gone")
	}
	if n.isDir() {
		return kindOf("link", sharefs.KindPermission)
	}
	if _, taken := t.lookup(dir, name); taken {
		return kindOf("link", sharefs.KindExist)
	}
	t.bind(dir, name, ino)
	t.edit(ino).names++
	t.committed()
	return nil
}

// stands holds that a name is as an account has it, and can be taken without losing what the account does not know.
func (t *tree) stands(n replica.Name, f *inode) error {
	switch {
	case f.ino != n.Ino:
		return again("another inode has the name")
	case !f.isRegular() || f.names > 1:
		return nil
	case f.hot || f.writers > 0:
		return again("it may be written to")
	case f.own() != n.Own:
		return again("it has another version")
	}
	t.h.told(f)
	return nil
}

// Take implements [replica.Tree].
func (t *tree) Take(n replica.Name) error {
	t.h.tick()
	d, ok := t.lookup(n.Parent, n.Name)
	if !ok {
		return again("the name is gone")
	}
	f := t.nodes[d.Ino]
	if f.isDir() && len(f.slots) > 0 {
		return kindOf("remove", sharefs.KindNotEmpty)
	}
	if err := t.stands(n, f); err != nil {
		return err
	}
	t.unbind(n.Parent, n.Name)
	t.unlinked(f.ino)
	t.committed()
	return nil
}

// Pass implements [replica.Tree].
func (t *tree) Pass(from, to replica.Name) error {
	t.h.tick()
	t.h.allowed(to.Parent, to.Name, 0)
	d, ok := t.lookup(from.Parent, from.Name)
	dir, err := t.get(to.Parent)
	if !ok || err != nil || !dir.isDir() || dir.names == 0 {
		return again("the name or its directory is gone")
	}
	over, taken := t.lookup(to.Parent, to.Name)
	switch {
	case d.Ino != from.Ino:
		return again("another inode has the name")
	case taken != (to.Ino != 0):
		return again("what has the new name is another thing")
	case taken && over.Ino == d.Ino:
		return kindOf("rename", sharefs.KindExist)
	case taken:
		if err := t.stands(to, t.nodes[over.Ino]); err != nil {
			return err
		}
	}
	if err := t.rename(from.Parent, from.Name, to.Parent, to.Name); err != nil {
		return err
	}
	t.committed()
	return nil
}

// SetMode implements [replica.Tree].
func (t *tree) SetMode(ino sharefs.Ino, mode uint16) error {
	t.h.tick()
	t.h.allowed(0, "x", uint32(mode))
	if _, err := t.get(ino); err != nil {
		return err
	}
	n := t.edit(ino)
	n.mode = n.mode&sharefs.ModeType | uint32(mode)
	t.committed()
	return nil
}

// Retarget implements [replica.Tree].
func (t *tree) Retarget(ino sharefs.Ino, target string) error {
	t.h.tick()
	if _, err := t.get(ino); err != nil {
		return err
	}
	t.edit(ino).target = target
	t.committed()
	return nil
}

// SetXattrs implements [replica.Tree].
func (t *tree) SetXattrs(ino sharefs.Ino, all []record.Xattr) error {
	t.h.tick()
	if _, err := t.get(ino); err != nil {
		return err
	}
	n := t.edit(ino)
	n.xattrs = map[string]string{}
	for _, x := range all {
		n.xattrs[x.Name] = x.Value
	}
	t.committed()
	return nil
}

// SetMtime implements [replica.Tree].
func (t *tree) SetMtime(ino sharefs.Ino, at sharefs.Time, base uint64) error {
	t.h.tick()
	n, err := t.get(ino)
	switch {
	case err != nil:
		return err
	case n.writers > 0:
		return again("it may be written to")
	}
	t.settle(ino)
	if n = t.nodes[ino]; n.own() != base || n.own() > 0 && !n.past[n.own()-1].kept {
		return again("it has another version")
	}
	t.edit(ino).mtime = at
	t.committed()
	return nil
}

// content returns a content as far as its chunks are here.
func (t *tree) content(v *record.Version) (content string, here bool) {
	for _, s := range v.Spans {
		p, ok := t.chunks[s.ID]
		if !ok {
			return "", false
		}
		content += p
	}
	return content, true
}

// Here implements [replica.Tree].
func (t *tree) Here(v *record.Version) (bool, error) {
	_, here := t.content(v)
	return here, nil
}

// staged is a content that is ready to be that of a file, or of an inode that is to be made.
type staged struct {
	replica.Ready
	content string
	ino     sharefs.Ino
}

func (staged) Drop() {}

func (s staged) Ino() sharefs.Ino { return s.ino }

// Stage implements [replica.Tree].
func (t *tree) Stage(list []replica.Ready) (all []replica.Staged, errs []error, err error) {
	t.h.tick()
	t.h.meanwhile()
	all, errs = make([]replica.Staged, len(list)), make([]error, len(list))
	for i, rec := range list {
		if content, here := t.content(rec.Body.(*record.Version)); here {
			t.last++
			all[i] = staged{rec, content, t.last}
		} else {
			errs[i] = again("its content is not here")
		}
	}
	return all, errs, nil
}

// Adopt implements [replica.Tree].
func (t *tree) Adopt(ino sharefs.Ino, ready replica.Staged, base uint64) (uint64, error) {
	t.h.tick()
	n, err := t.get(ino)
	if err != nil {
		return 0, err
	}
	if !n.isRegular() {
		return 0, kindOf("adopt", sharefs.KindInvalid)
	}
	s := ready.(staged)
	if n.writers > 0 {
		return 0, again("it may be written to")
	}
	t.settle(ino)
	if n = t.nodes[ino]; n.own() != base {
		return 0, again("it has another version")
	}
	if n.own() == 0 && n.content != "" {
		t.h.w.fail("%s: a file with content has no version", t.h)
	}
	t.h.told(n)
	n = t.edit(ino)
	n.content, n.mtime = s.content, s.At
	n.past = append(n.past, version{s.content, s.At, true, s.Author})
	t.committed()
	return n.own(), nil
}
