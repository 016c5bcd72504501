package versions

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"sharefs"
)

// model is a tree as one would write it down who has never heard of disks: the slow obvious structure that [Tree] is held against. All
// that is chosen at random depends on the seed, the number of the step and the model alone, so that a run can be repeated without a
// tree, as far as a crash came, and then go on with one.
type model struct {
	seed    uint64
	root    *mnode
	dirs    []*mnode // in the order of their making, removed ones too
	handles []*mhandle
	tree    *Tree // nil: the model runs alone
	done    func(step int)
	atomic  bool     // only operations that are one commit and nothing else
	names   []string // that are given; nil: a to h
}

type mnode struct {
	mode, uid, gid, rdev uint32
	nlink                uint32
	target               string
	content              []byte
	mtime                sharefs.Time // that was set; 0: some time
	xattrs               map[string]string
	children             map[string]*mnode // of a directory
	parent               *mnode            // of a directory
	ino                  sharefs.Ino       // in the tree
}

type mhandle struct {
	n     *mnode
	flags uint32
	h     *Handle
}

func newModel(seed uint64) *model {
	root := &mnode{mode: sharefs.ModeDir | 0o755, nlink: 2, children: map[string]*mnode{}, ino: sharefs.RootIno}
	root.parent = root
	return &model{seed: seed, root: root, dirs: []*mnode{root}}
}

func (n *mnode) kind() uint32 { return n.mode & sharefs.ModeType }
func (n *mnode) isDir() bool  { return n.kind() == sharefs.ModeDir }

func (n *mnode) size() uint64 {
	switch {
	case n.isDir():
		return dirSize
	case n.kind() == sharefs.ModeSymlink:
		return uint64(len(n.target))
	}
	return uint64(len(n.content))
}

// killPriv is what a change by somebody without privileges does.
func (n *mnode) killPriv() {
	n.mode &^= sharefs.ModeSetuid
	if n.mode&0o010 != 0 {
		n.mode &^= sharefs.ModeSetgid
	}
}

// touched says that the modification time is some time now.
func (n *mnode) touched() { n.mtime = 0 }

// mstep is one operation on both.
type mstep struct {
	m    *model
	t    testing.TB
	r    *rand.Rand
	who  Caller
	what string
}

const success sharefs.Kind = 255

// run does the steps from a number up to another.
func (m *model) run(t testing.TB, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		s := mstep{m: m, t: t, r: rand.New(rand.NewPCG(m.seed, uint64(i)))}
		s.who = Caller{UID: uint32(s.r.IntN(2)) * 1000, GID: uint32(s.r.IntN(2)) * 1000, Umask: 0o022}
		ops := []func(){
			s.mkdir, s.mknod, s.create, s.create, s.symlink, s.link, s.unlink, s.unlink, s.rmdir, s.rename, s.rename, s.rename,
			s.chmod, s.chown, s.utimens, s.truncate, s.setxattr, s.removexattr, s.open, s.write, s.write, s.read, s.close, s.lookup, s.list, s.tmpfile,
		}
		if m.atomic {
			ops = []func(){
				s.mkdir, s.mkdir, s.mknod, s.mknod, s.symlink, s.link, s.unlink, s.rmdir, s.rename, s.rename, s.rename,
				s.chmod, s.chown, s.setxattr, s.setxattr, s.removexattr,
			}
		}
		ops[s.r.IntN(len(ops))]()
		if t.Failed() {
			t.Fatalf("step %d of seed %d: %s", i, m.seed, s.what)
		}
		if m.done != nil {
			m.done(i)
		}
	}
}

// expect compares how an operation ended.
func (s *mstep) expect(err error, want sharefs.Kind) {
	s.t.Helper()
	switch {
	case s.m.tree == nil:
	case want == success && err != nil:
		s.t.Errorf("%s: %v, want success", s.what, err)
	case want != success && (err == nil || sharefs.KindOf(err) != want):
		s.t.Errorf("%s: %v, want %v", s.what, err, want)
	}
}

// same compares attributes.
func (s *mstep) same(a sharefs.Attr, n *mnode) {
	s.t.Helper()
	if s.m.tree == nil {
		return
	}
	if n.mtime == 0 && a.Mtime > s.m.tree.now() {
		s.t.Errorf("%s: a time that was set before the last change is left: %+v", s.what, a)
	}
	if a.Ino != n.ino || a.Mode != n.mode || a.UID != n.uid || a.GID != n.gid || a.Nlink != n.nlink || a.Rdev != n.rdev || a.Size != n.size() ||
		n.mtime != 0 && a.Mtime != n.mtime {
		s.t.Errorf("%s: the tree says %+v, the model mode %o nlink %d uid %d gid %d rdev %d size %d mtime %d inode %d",
			s.what, a, n.mode, n.nlink, n.uid, n.gid, n.rdev, n.size(), n.mtime, n.ino)
	}
}

func (s *mstep) name() string {
	i := s.r.IntN(8)
	if s.m.names != nil {
		return s.m.names[i]
	}
	return string(rune('a' + i))
}

// dir picks a directory.
func (s *mstep) dir() *mnode {
	for {
		if d := s.m.dirs[s.r.IntN(len(s.m.dirs))]; d.nlink > 0 {
			return d
		}
	}
}

// any picks something that has a name, the root if there is nothing.
func (s *mstep) any() *mnode {
	for range 5 {
		if n := s.dir().children[s.name()]; n != nil {
			return n
		}
	}
	return s.m.root
}

// regular picks a regular file with a name or a handle.
func (s *mstep) regular() *mnode {
	for range 5 {
		if n := s.any(); n.kind() == sharefs.ModeRegular {
			return n
		}
	}
	if len(s.m.handles) > 0 {
		return s.m.handles[s.r.IntN(len(s.m.handles))].n
	}
	return nil
}

// vacant says what making a name in a directory leads to.
func vacant(d *mnode, name string) sharefs.Kind {
	if d.children[name] != nil {
		return sharefs.KindExist
	}
	return success
}

// add makes a node under a name that is vacant.
func (s *mstep) add(d *mnode, name string, n *mnode) {
	n.nlink = 1
	s.owned(d, n)
	if n.isDir() {
		n.nlink, n.parent, n.children = 2, d, map[string]*mnode{}
		d.nlink++
		s.m.dirs = append(s.m.dirs, n)
	}
	d.children[name] = n
	d.touched()
}

// owned gives a new node its owner, group and mode.
func (s *mstep) owned(d, n *mnode) {
	n.uid, n.gid = s.who.UID, s.who.GID
	if n.kind() != sharefs.ModeSymlink {
		n.mode &^= s.who.Umask
	}
	if d.mode&sharefs.ModeSetgid != 0 {
		n.gid = d.gid
		if n.isDir() {
			n.mode |= sharefs.ModeSetgid
		}
	}
	n.xattrs = map[string]string{}
}

// made deals with what an operation that makes something returned.
func (s *mstep) made(d *mnode, name string, n *mnode, want sharefs.Kind, do func() (sharefs.Attr, error)) {
	s.t.Helper()
	var a sharefs.Attr
	var err error
	if s.m.tree != nil {
		a, err = do()
	}
	s.expect(err, want)
	if want != success {
		return
	}
	s.add(d, name, n)
	n.ino = a.Ino
	s.same(a, n)
	s.forget(n)
}

func (s *mstep) forget(n *mnode) {
	if s.m.tree != nil && n.ino != 0 {
		s.m.tree.Forget(n.ino, 1)
	}
}

// listed compares the listing of a directory.
func (s *mstep) listed(d *mnode) {
	seen := 0
	err := s.m.tree.ReadDir(d.ino, 0, true, func(e sharefs.Dentry, a *sharefs.Attr) bool {
		s.m.tree.Forget(e.Ino, 1)
		seen++
		if n := d.children[e.Name]; n == nil {
			s.t.Errorf("%q is listed", e.Name)
		} else if s.same(*a, n); e.Type != n.kind() {
			s.t.Errorf("%q is listed with type %o", e.Name, e.Type)
		}
		return true
	})
	if s.expect(err, success); seen != len(d.children) {
		s.t.Errorf("%d of %d names are listed", seen, len(d.children))
	}
}

// compare holds the whole tree against the model.
func (m *model) compare(t testing.TB) {
	t.Helper()
	s := mstep{m: m, t: t, what: "compare"}
	var walk func(d *mnode)
	walk = func(d *mnode) {
		s.listed(d)
		if up, err := m.tree.Parent(d.ino); err != nil || up != d.parent.ino {
			t.Errorf(".. is %d, want %d: %v", up, d.parent.ino, err)
		}
		for name, n := range d.children {
			s.what = "compare " + name
			s.xattrs(n)
			switch n.kind() {
			case sharefs.ModeDir:
				walk(n)
			case sharefs.ModeSymlink:
				if target, err := m.tree.Readlink(n.ino); err != nil || target != n.target {
					t.Errorf("%s leads to %q, want %q: %v", name, target, n.target, err)
				}
			case sharefs.ModeRegular:
				if got := content(t, m.tree, n.ino); got != string(n.content) {
					t.Errorf("%s holds %d bytes that differ from the %d of the model", name, len(got), len(n.content))
				}
			}
		}
	}
	a, err := m.tree.Getattr(sharefs.RootIno)
	s.what = "compare the root"
	s.expect(err, success)
	s.same(a, m.root)
	s.xattrs(m.root)
	walk(m.root)
	noProblems(t, m.tree)
}

// xattrs compares extended attributes.
func (s *mstep) xattrs(n *mnode) {
	s.t.Helper()
	listed, err := s.m.tree.Listxattr(n.ino)
	if s.expect(err, success); len(listed) != len(n.xattrs) {
		s.t.Errorf("%s: %d extended attributes, want %d", s.what, len(listed), len(n.xattrs))
	}
	for name, want := range n.xattrs {
		got, err := s.m.tree.Getxattr(n.ino, name)
		if s.expect(err, success); string(got) != want {
			s.t.Errorf("%s: %s is %q, want %q", s.what, name, got, want)
		}
	}
}

// forgetHandles is what the end of a daemon does: files without a name are gone.
func (m *model) forgetHandles() {
	m.handles = nil
	m.dirs = slices.DeleteFunc(m.dirs, func(d *mnode) bool { return d.nlink == 0 })
}

// find learns the inode numbers of a tree that another process made.
func (m *model) find(t testing.TB) {
	t.Helper()
	root, err := m.tree.Getattr(sharefs.RootIno)
	check(t, err)
	if root.UID != 0 || root.GID != 0 {
		m.root.uid, m.root.gid = root.UID, root.GID
	}
	var walk func(d *mnode)
	walk = func(d *mnode) {
		for name, n := range d.children {
			n.ino = lookup(t, m.tree, d.ino, name).Ino
			if n.isDir() {
				walk(n)
			}
		}
	}
	walk(m.root)
}

func TestTreeAgainstModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			m := newModel(seed)
			const rounds, steps = 3, 1500
			for round := range rounds {
				m.tree = testTree(t, dir, func(c *Config) {
					if seed == 1 {
						weakHash(c)
					}
				})
				m.find(t)
				m.compare(t)
				m.run(t, round*steps, round*steps+steps)
				m.compare(t)
				if round == 1 {
					for _, h := range m.handles {
						check(t, h.h.Close())
					}
				}
				m.forgetHandles()
				check(t, m.tree.Close())
			}
		})
	}
}
