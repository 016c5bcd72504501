package versions

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions/kv/journal"
)

// fullDisk is a journal's directory on which writes fail while full is set.
type fullDisk struct {
	journal.Dir
	full *atomic.Bool
}

type fullFile struct {
	journal.File
	full *atomic.Bool
}

func (d fullDisk) Create(name string) (journal.File, error) {
	f, err := d.Dir.Create(name)
	return fullFile{f, d.full}, err
}

func (d fullDisk) Open(name string) (journal.File, error) {
	f, err := d.Dir.Open(name)
	return fullFile{f, d.full}, err
}

func (f fullFile) WriteAt(p []byte, off int64) (int, error) {
	if f.full.Load() {
		return 0, unix.ENOSPC
	}
	return f.File.WriteAt(p, off)
}

// describe writes a whole tree down, but for what may move by itself: access times, blocks, and what is not yet known to be at rest.
func describe(t testing.TB, tree *Tree) string {
	t.Helper()
	var lines []string
	var walk func(dir sharefs.Ino, path string)
	walk = func(dir sharefs.Ino, path string) {
		for name, ino := range names(t, tree, dir) {
			a := must[sharefs.Attr](t)(tree.Getattr(ino))
			a.Atime, a.Blocks, a.Changing, a.Mapped = 0, 0, false, false
			line := fmt.Sprintf("%s/%s %+v %v", path, name, a, must[[]string](t)(tree.Listxattr(ino)))
			if a.IsRegular() {
				line += " " + content(t, tree, ino)
			}
			lines = append(lines, line)
			if a.IsDir() {
				walk(ino, path+"/"+name)
			}
		}
	}
	walk(sharefs.RootIno, "")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestFullDiskChangesNothing(t *testing.T) {
	const r = sharefs.RootIno
	dir := t.TempDir()
	var full atomic.Bool
	tree := testTree(t, dir, func(c *Config) { c.Journal = fullDisk{journal.Dir(t.TempDir()), &full} })
	d := must[sharefs.Attr](t)(tree.Mkdir(r, "d", 0o755, root)).Ino
	f := create(t, tree, r, "f", "content").Ino
	g := create(t, tree, d, "g", "other").Ino
	rest(t, tree, f)
	rest(t, tree, g)
	check(t, tree.unmark())
	tmp, h, err := tree.Tmpfile(r, unix.O_RDWR, 0o600, root)
	check(t, err)
	defer h.Close()
	ops := map[string]func() error{
		"mkdir":   func() error { return second(tree.Mkdir(r, "new", 0o755, root)) },
		"mknod":   func() error { return second(tree.Mknod(d, "new", 0o644, 0, root)) },
		"symlink": func() error { return second(tree.Symlink(d, "newer", "x", root)) },
		"create": func() error {
			_, h, err := tree.Create(r, "created", unix.O_RDWR, 0o644, root)
			if err == nil {
				err = h.Close()
			}
			return err
		},
		"tmpfile": func() error {
			_, h, err := tree.Tmpfile(r, unix.O_RDWR, 0o600, root)
			if err == nil {
				err = h.Close()
			}
			return err
		},
		"link":         func() error { return second(tree.Link(f, d, "link")) },
		"link tmpfile": func() error { return second(tree.Link(tmp.Ino, d, "tmp")) },
		"rename":       func() error { return tree.Rename(r, "f", d, "moved", 0) },
		"rename over":  func() error { return tree.Rename(d, "moved", d, "g", 0) },
		"exchange":     func() error { return tree.Rename(r, "d", r, "created", unix.RENAME_EXCHANGE) },
		"unlink":       func() error { return tree.Unlink(d, "newer") },
		"chmod":        func() error { return second(tree.Setattr(f, &SetAttr{Mode: ptr(uint32(0o4711))}, root)) },
		"utimens":      func() error { return second(tree.Setattr(f, &SetAttr{Mtime: ptr(sharefs.Time(5))}, root)) },
		"truncate":     func() error { return second(tree.Setattr(f, &SetAttr{Size: ptr(uint64(3))}, root)) },
		"setxattr":     func() error { return tree.Setxattr(f, "user.x", []byte("v"), 0) },
		"set a list":   func() error { return tree.Setxattr(d, xattrDefault, namedACL.encode(), 0) },
		"removexattr":  func() error { return tree.Removexattr(f, "user.x") },
		"open": func() error {
			h, err := tree.Open(g, unix.O_WRONLY|unix.O_TRUNC, root)
			if err == nil {
				err = h.Close()
			}
			return err
		},
	}
	for _, name := range []string{
		"open", "mkdir", "mknod", "symlink", "create", "tmpfile", "link", "link tmpfile", "truncate", "utimens", "chmod", "rename", "rename over",
		"exchange", "setxattr", "removexattr", "set a list", "unlink",
	} {
		rest(t, tree, f)
		rest(t, tree, g)
		before := describe(t, tree)
		full.Store(true)
		err := ops[name]()
		if !errors.Is(err, sharefs.KindNoSpace) || sharefs.Errno(err) != unix.ENOSPC {
			t.Errorf("%s on a full disk: %v", name, err)
		}
		after := describe(t, tree)
		full.Store(false)
		if before != after {
			t.Errorf("%s on a full disk changed\n%s\nto\n%s", name, before, after)
		}
		if err := ops[name](); err != nil {
			t.Errorf("%s with room again: %v", name, err)
		}
		if describe(t, tree) == before && name != "tmpfile" {
			t.Errorf("%s with room again changed nothing", name)
		}
		noProblems(t, tree)
	}
}

func TestReadOnlyTree(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(Config{Dir: dir, ReadOnly: true})
	if err == nil {
		t.Fatal("a store without a tree is opened read only")
	}
	tree := testTree(t, dir)
	f := create(t, tree, sharefs.RootIno, "f", "content")
	check(t, tree.Setxattr(f.Ino, "user.x", []byte("v"), 0))
	l := must[sharefs.Attr](t)(tree.Symlink(sharefs.RootIno, "l", "x", root))
	check(t, tree.Close())
	tree = testTree(t, dir, func(c *Config) { c.ReadOnly = true })
	for what, err := range map[string]error{
		"mkdir":       second(tree.Mkdir(sharefs.RootIno, "d", 0o755, root)),
		"mknod":       second(tree.Mknod(sharefs.RootIno, "n", 0o644, 0, root)),
		"symlink":     second(tree.Symlink(sharefs.RootIno, "s", "x", root)),
		"create":      third(tree.Create(sharefs.RootIno, "c", unix.O_RDWR, 0o644, root)),
		"tmpfile":     third(tree.Tmpfile(sharefs.RootIno, unix.O_RDWR, 0o644, root)),
		"link":        second(tree.Link(f.Ino, sharefs.RootIno, "g")),
		"unlink":      tree.Unlink(sharefs.RootIno, "f"),
		"rmdir":       tree.Rmdir(sharefs.RootIno, "f"),
		"rename":      tree.Rename(sharefs.RootIno, "f", sharefs.RootIno, "g", 0),
		"setattr":     second(tree.Setattr(f.Ino, &SetAttr{Mode: ptr(uint32(0))}, root)),
		"setxattr":    tree.Setxattr(f.Ino, "user.y", nil, 0),
		"removexattr": tree.Removexattr(f.Ino, "user.x"),
		"open":        second(tree.Open(f.Ino, unix.O_RDWR, root)),
		"truncate":    second(tree.Open(f.Ino, unix.O_TRUNC, root)),
	} {
		if !errors.Is(err, sharefs.KindReadOnly) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if got := content(t, tree, f.Ino); got != "content" {
		t.Errorf("content %q", got)
	}
	if got := names(t, tree, sharefs.RootIno); len(got) != 2 {
		t.Errorf("names %v", got)
	}
	if got := must[string](t)(tree.Readlink(l.Ino)); got != "x" {
		t.Errorf("target %q", got)
	}
	check(t, tree.Sync())
	noProblems(t, tree)
}

func TestCheckFindsWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	tree := testTree(t, dir)
	f := create(t, tree, sharefs.RootIno, "f", "content")
	g := create(t, tree, sharefs.RootIno, "g", "content")
	d := must[sharefs.Attr](t)(tree.Mkdir(sharefs.RootIno, "d", 0o755, root))
	p := must[sharefs.Attr](t)(tree.Mkdir(sharefs.RootIno, "p", 0o755, root))
	q := must[sharefs.Attr](t)(tree.Mkdir(p.Ino, "q", 0o755, root))
	for _, ino := range []sharefs.Ino{f.Ino, g.Ino} {
		rest(t, tree, ino)
	}
	check(t, tree.unmark())
	noProblems(t, tree)
	tree.mu.Lock()
	x := tree.begin()
	x.b.Put(spaceDentry, dentryKey(sharefs.RootIno, 500), (&dent{name: "astray", ino: 4444, typ: 8}).appendTo(nil))
	x.b.Put(spaceXattr, xattrKey(5555, "user.x"), nil)
	x.b.Put(spaceMark, inoKey(d.Ino), markValue(false))
	x.b.Put(spaceOrphan, inoKey(6666), []byte{0})
	must[*row](t)(x.edit(f.Ino)).nlink = 7
	must[*row](t)(x.edit(d.Ino)).parent = d.Ino
	at := must[place](t)(tree.dent(sharefs.RootIno, "p"))
	x.unbind(sharefs.RootIno, at)
	ring := must[*row](t)(x.edit(p.Ino))
	ring.parent = q.Ino
	x.bind(q.Ino, must[place](t)(tree.dent(q.Ino, "p")), "p", ring)
	check(t, x.commit())
	tree.mu.Unlock()
	check(t, tree.live.remove(f.Ino))
	fd := must[int](t)(tree.live.open(g.Ino, unix.O_WRONLY|unix.O_TRUNC))
	check(t, unix.Close(fd))
	stray := must[sharefs.Ino](t)(tree.stock.number())
	fd = must[int](t)(tree.live.create(stray))
	check(t, unix.Close(fd))
	var all strings.Builder
	for _, p := range must[[]Problem](t)(tree.Check()) {
		fmt.Fprintln(&all, p)
	}
	for _, want := range []string{
		`leads to inode 4444`, `is listed but not found`, `inode 5555: it has an extended attribute`, `is marked as open for writing and is no file`,
		`inode 6666: it waits to be removed`, `it has 7 links and 1 names`, `does not hang on the root`, `its backing file is missing`,
		`has 0 bytes, its row says 7`, fmt.Sprintf("inode %d: there is a backing file", stray), `it lies in directory 1 and says it does in`, `it holds 1 names, its row says 0`,
	} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("%q is not among\n%s", want, all.String())
		}
	}
	check(t, tree.live.remove(stray))
	check(t, unix.Mkdir(filepath.Join(dir, "live", "00", "zz"), 0o700))
}
