package versions

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
)

// told is a kernel that notes which names it is to forget.
type told struct {
	holding
	names []string
}

func (k *told) ForgetEntry(_ sharefs.Ino, name string) { k.names = append(k.names, name) }

func (k *told) want(t testing.TB, names ...string) {
	t.Helper()
	if !slices.Equal(k.names, names) {
		t.Errorf("the kernel is to forget %q, not %q", k.names, names)
	}
	k.names = nil
}

// exactTree is a tree with the directories d and e, the file f and a kernel.
func exactTree(t testing.TB) (tree *Tree, k *told, f Name) {
	t.Helper()
	tree, k = testTree(t, t.TempDir(), byHand), &told{}
	for _, name := range []string{"d", "e"} {
		tree.Forget(must[sharefs.Attr](t)(tree.Mkdir(sharefs.RootIno, name, 0o755, root)).Ino, 1)
	}
	f = Name{sharefs.RootIno, "f", save(t, tree, "f", "one"), 1}
	tree.SetKernel(k)
	return tree, k, f
}

// refused holds that a call says that something is not as the account says, and that nothing happened.
func refused(t testing.TB, tree *Tree, what string, call func() error) {
	t.Helper()
	before := names(t, tree, sharefs.RootIno)
	if err := call(); !errors.Is(err, sharefs.KindAgain) {
		t.Errorf("%s: %v", what, err)
	}
	if after := names(t, tree, sharefs.RootIno); len(after) != len(before) {
		t.Errorf("%s: %v became %v", what, before, after)
	}
}

func TestPut(t *testing.T) {
	tree, k, _ := exactTree(t)
	id := sharefs.FileID{1, 2, 3}
	a := must[sharefs.Attr](t)(tree.Put(sharefs.RootIno, "new", New{ID: id, Mode: sharefs.ModeRegular | 0o640}, Caller{UID: 7, GID: 8}))
	if a.Mode != sharefs.ModeRegular|0o640 || a.UID != 7 || a.GID != 8 || must[sharefs.FileID](t)(tree.FileID(a.Ino)) != id {
		t.Errorf("%+v", a)
	}
	k.want(t, "new")
	l := must[sharefs.Attr](t)(tree.Put(sharefs.RootIno, "link", New{ID: sharefs.FileID{4}, Mode: sharefs.ModeSymlink | 0o777, Target: "f"}, root))
	if got := must[string](t)(tree.Readlink(l.Ino)); got != "f" {
		t.Errorf("it leads to %q", got)
	}
	must[sharefs.Attr](t)(tree.Put(sharefs.RootIno, "dir", New{ID: sharefs.FileID{5}, Mode: sharefs.ModeDir | 0o755}, root))
	for what, c := range map[string]struct {
		name string
		n    New
		kind sharefs.Kind
	}{
		"a name that is taken":      {"f", New{ID: sharefs.FileID{6}, Mode: sharefs.ModeRegular}, sharefs.KindExist},
		"a device":                  {"x", New{ID: sharefs.FileID{6}, Mode: unix.S_IFCHR}, sharefs.KindInvalid},
		"a symlink to nowhere":      {"x", New{ID: sharefs.FileID{6}, Mode: sharefs.ModeSymlink}, sharefs.KindInvalid},
		"a file that leads":         {"x", New{ID: sharefs.FileID{6}, Mode: sharefs.ModeRegular, Target: "f"}, sharefs.KindInvalid},
		"a symlink with a long way": {"x", New{ID: sharefs.FileID{6}, Mode: sharefs.ModeSymlink, Target: strings.Repeat("x", sharefs.SymlinkMax+1)}, sharefs.KindNameTooLong},
		"no name":                   {"", New{ID: sharefs.FileID{6}, Mode: sharefs.ModeRegular}, sharefs.KindInvalid},
		"a way out":                 {"..", New{ID: sharefs.FileID{6}, Mode: sharefs.ModeRegular}, sharefs.KindExist},
		"a path":                    {"a/b", New{ID: sharefs.FileID{6}, Mode: sharefs.ModeRegular}, sharefs.KindInvalid},
	} {
		if _, err := tree.Put(sharefs.RootIno, c.name, c.n, root); !errors.Is(err, c.kind) {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused(t, tree, "a directory that is gone", func() error {
		return must1(tree.Put(1<<40, "x", New{ID: sharefs.FileID{6}, Mode: sharefs.ModeRegular}, root))
	})
	d := lookup(t, tree, sharefs.RootIno, "d")
	check(t, tree.Rmdir(sharefs.RootIno, "d"))
	refused(t, tree, "a directory that was removed", func() error {
		return must1(tree.Put(d.Ino, "x", New{ID: sharefs.FileID{6}, Mode: sharefs.ModeRegular}, root))
	})
}

func TestTake(t *testing.T) {
	tree, k, f := exactTree(t)
	with := func(change func(n *Name)) Name { n := f; change(&n); return n }
	refused(t, tree, "no such name", func() error { return tree.Take(with(func(n *Name) { n.Name = "x" })) })
	refused(t, tree, "another inode", func() error { return tree.Take(with(func(n *Name) { n.Ino++ })) })
	refused(t, tree, "another version", func() error { return tree.Take(with(func(n *Name) { n.Own++ })) })
	h := must[*Handle](t)(tree.Open(f.Ino, unix.O_RDWR, root))
	refused(t, tree, "somebody may write", func() error { return tree.Take(f) })
	check(t, h.Close())
	d := lookup(t, tree, sharefs.RootIno, "d")
	in := create(t, tree, d.Ino, "x", "")
	tree.Forget(in.Ino, 1)
	if err := tree.Take(Name{Parent: sharefs.RootIno, Name: "d", Ino: d.Ino}); !errors.Is(err, sharefs.KindNotEmpty) {
		t.Error(err)
	}
	k.want(t)
	settle(t, tree, f.Ino)
	f.Own = must[Latest](t)(tree.Latest(f.Ino)).Own // where the disk's clock is coarse, opening it for writing may have made another one
	check(t, tree.Take(f))
	check(t, tree.Take(Name{Parent: sharefs.RootIno, Name: "e", Ino: lookup(t, tree, sharefs.RootIno, "e").Ino}))
	k.want(t, "f", "e")
	if got := names(t, tree, sharefs.RootIno); len(got) != 1 {
		t.Errorf("%v", got)
	}
}

// One of several names is taken whatever the file holds, for that is not lost.
func TestTakeOneOfSeveralNames(t *testing.T) {
	tree, _, f := exactTree(t)
	must[sharefs.Attr](t)(tree.Link(f.Ino, sharefs.RootIno, "g"))
	rewrite(t, tree, f.Ino, "two")
	check(t, tree.Take(f))
	g := f
	g.Name = "g"
	refused(t, tree, "the last one", func() error { return tree.Take(g) })
}

func TestPass(t *testing.T) {
	tree, k, f := exactTree(t)
	d := lookup(t, tree, sharefs.RootIno, "d").Ino
	g := Name{sharefs.RootIno, "g", save(t, tree, "g", "other"), 1}
	to := func(ino sharefs.Ino, own uint64) Name { return Name{sharefs.RootIno, "g", ino, own} }
	refused(t, tree, "the source is another", func() error { return tree.Pass(Name{sharefs.RootIno, "f", g.Ino, 1}, Name{Parent: d, Name: "f"}) })
	refused(t, tree, "the source is gone", func() error { return tree.Pass(Name{sharefs.RootIno, "x", g.Ino, 1}, Name{Parent: d, Name: "f"}) })
	refused(t, tree, "somebody is there", func() error { return tree.Pass(f, to(0, 0)) })
	refused(t, tree, "another one is there", func() error { return tree.Pass(f, to(f.Ino, 1)) })
	refused(t, tree, "another version is there", func() error { return tree.Pass(f, to(g.Ino, 2)) })
	refused(t, tree, "nobody is there", func() error { return tree.Pass(f, Name{d, "g", g.Ino, 1}) })
	k.want(t)
	check(t, tree.Pass(f, g))
	k.want(t, "f", "g")
	if got := lookup(t, tree, sharefs.RootIno, "g"); got.Ino != f.Ino {
		t.Errorf("inode %d has the name, not %d", got.Ino, f.Ino)
	}
	check(t, tree.Pass(Name{sharefs.RootIno, "g", f.Ino, 1}, Name{Parent: d, Name: "deep"}))
	if dent, ok, err := tree.Slot(d, "deep"); err != nil || !ok || dent.Ino != f.Ino {
		t.Errorf("%+v %v %v", dent, ok, err)
	} else if again, ok, err := tree.NameAt(d, dent.Cookie); err != nil || !ok || again != dent {
		t.Errorf("%+v %v %v", again, ok, err)
	}
	if _, ok, err := tree.Slot(sharefs.RootIno, "g"); ok || err != nil {
		t.Error(ok, err)
	}
	// A directory does not go into what is below it.
	check(t, tree.Pass(Name{Parent: sharefs.RootIno, Name: "e", Ino: lookup(t, tree, sharefs.RootIno, "e").Ino}, Name{Parent: d, Name: "e"}))
	refused(t, tree, "a directory into itself", func() error {
		return tree.Pass(Name{Parent: sharefs.RootIno, Name: "d", Ino: d}, Name{Parent: lookup(t, tree, d, "e").Ino, Name: "d"})
	})
}

// A file takes a name from another one in one instant, and continues its past; what is not as it was said to be is left alone.
func TestPutOver(t *testing.T) {
	tree, k, f := exactTree(t)
	n := New{ID: sharefs.FileID{9}, Mode: sharefs.ModeRegular | 0o640, Over: &f}
	refused(t, tree, "another version", func() error {
		over := f
		over.Own++
		m := n
		m.Over = &over
		return second(tree.Put(sharefs.RootIno, "f", m, root))
	})
	refused(t, tree, "a vacant name", func() error { return second(tree.Put(sharefs.RootIno, "vacant", n, root)) })
	refused(t, tree, "another inode", func() error { return second(tree.Put(sharefs.RootIno, "d", n, root)) })
	wantKind(t, second(tree.Put(sharefs.RootIno, "f", New{ID: n.ID, Mode: sharefs.ModeDir | 0o755, Over: &f}, root)), sharefs.KindInvalid)
	wantKind(t, second(tree.Put(sharefs.RootIno, "f", New{ID: n.ID, Mode: n.Mode}, root)), sharefs.KindExist)
	k.names = nil
	before := must[sharefs.Attr](t)(tree.Getattr(sharefs.RootIno))
	h := must[*Handle](t)(tree.Open(f.Ino, unix.O_RDONLY, root))
	stop, done := make(chan struct{}), make(chan error)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			a, err := tree.Lookup(sharefs.RootIno, "f")
			if err != nil {
				done <- err
				return
			}
			tree.Forget(a.Ino, 1)
		}
	}()
	a := must[sharefs.Attr](t)(tree.Put(sharefs.RootIno, "f", n, root))
	close(stop)
	check(t, <-done)
	k.want(t, "f")
	if got := readHandle(t, h); got != "one" {
		t.Errorf("who has the old one open reads %q", got)
	}
	check(t, h.Close())
	if now := lookup(t, tree, sharefs.RootIno, "f"); now.Ino != a.Ino || now.Ino == f.Ino || now.Size != 0 {
		t.Errorf("%+v", now)
	}
	if after := must[sharefs.Attr](t)(tree.Getattr(sharefs.RootIno)); after.Nlink != before.Nlink || len(names(t, tree, sharefs.RootIno)) != 3 {
		t.Errorf("%+v became %+v", before, after)
	}
	rewrite(t, tree, a.Ino, "two")
	settle(t, tree, a.Ino)
	wantHistory(t, tree, a.Ino, "one", "two")
	over := Name{sharefs.RootIno, "f", a.Ino, must[Latest](t)(tree.Latest(a.Ino)).Own}
	must[sharefs.Attr](t)(tree.Put(sharefs.RootIno, "f", New{ID: sharefs.FileID{10}, Mode: sharefs.ModeSymlink | 0o777, Target: "d", Over: &over}, root))
	if target := must[string](t)(tree.Readlink(lookup(t, tree, sharefs.RootIno, "f").Ino)); target != "d" {
		t.Errorf("it leads to %q", target)
	}
	noProblems(t, tree)
}
