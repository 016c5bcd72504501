package versions

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
)

func TestLookup(t *testing.T) {
	tree := testTree(t, t.TempDir())
	d := must[sharefs.Attr](t)(tree.Mkdir(sharefs.RootIno, "d", 0o755, root))
	f := create(t, tree, d.Ino, "f", "")
	_, err := tree.Lookup(d.Ino, "g")
	wantKind(t, err, sharefs.KindNotExist)
	_, err = tree.Lookup(d.Ino, strings.Repeat("n", 256))
	wantKind(t, err, sharefs.KindNameTooLong)
	if a := lookup(t, tree, d.Ino, ".."); a.Ino != sharefs.RootIno {
		t.Errorf(".. of d is %d", a.Ino)
	}
	if a := lookup(t, tree, sharefs.RootIno, ".."); a.Ino != sharefs.RootIno {
		t.Errorf(".. of the root is %d", a.Ino)
	}
	if a := lookup(t, tree, f.Ino, "."); a.Ino != f.Ino {
		t.Errorf(". of a file is %d", a.Ino)
	}
	_, err = tree.Lookup(f.Ino, "..")
	wantKind(t, err, sharefs.KindNotDir)
	_, err = tree.Getattr(9999)
	wantKind(t, err, sharefs.KindStale)
	long := strings.Repeat("n", 255)
	if a := must[sharefs.Attr](t)(tree.Mkdir(d.Ino, long, 0o755, root)); lookup(t, tree, d.Ino, long).Ino != a.Ino {
		t.Error("a name of 255 bytes is not found")
	}
	noProblems(t, tree)
}

// noProblems fails a test where the check finds something.
func noProblems(t testing.TB, tree *Tree) {
	t.Helper()
	problems, err := tree.Check()
	check(t, err)
	for _, p := range problems {
		t.Errorf("check: %v", p)
	}
}

func TestMakingOfEveryType(t *testing.T) {
	tree := testTree(t, t.TempDir())
	for _, c := range []struct {
		mode, rdev uint32
		want       uint32
	}{
		{sharefs.ModeFifo | 0o666, 7, sharefs.ModeFifo | 0o644},
		{sharefs.ModeSocket | 0o777, 0, sharefs.ModeSocket | 0o755},
		{sharefs.ModeChar | 0o600, 0x103, sharefs.ModeChar | 0o600},
		{sharefs.ModeBlock | 0o6711, 0x701, sharefs.ModeBlock | 0o6711},
		{sharefs.ModeRegular | 0o4755, 0, sharefs.ModeRegular | 0o4755},
		{0o644, 0, sharefs.ModeRegular | 0o644},
	} {
		name := fmt.Sprintf("%o", c.mode)
		a := must[sharefs.Attr](t)(tree.Mknod(sharefs.RootIno, name, c.mode, c.rdev, user(1000)))
		wantDev := c.rdev
		if c.mode&sharefs.ModeType == sharefs.ModeFifo {
			wantDev = 0
		}
		if a.Mode != c.want || a.Rdev != wantDev || a.UID != 1000 || a.GID != 1000 || a.Nlink != 1 || a.Size != 0 {
			t.Errorf("mknod %o: %+v", c.mode, a)
		}
		if a.Atime != a.Btime || a.Mtime != a.Btime || a.Ctime != a.Btime || a.Btime == 0 {
			t.Errorf("mknod %o: times differ: %+v", c.mode, a)
		}
		_, err := tree.Mknod(sharefs.RootIno, name, c.mode, 0, root)
		wantKind(t, err, sharefs.KindExist)
	}
	_, err := tree.Mknod(sharefs.RootIno, "x", sharefs.ModeDir, 0, root)
	wantKind(t, err, sharefs.KindInvalid)
	for _, name := range []string{".", ".."} {
		_, err = tree.Mkdir(sharefs.RootIno, name, 0o755, root)
		wantKind(t, err, sharefs.KindExist)
	}
	_, err = tree.Mkdir(sharefs.RootIno, "a/b", 0o755, root)
	wantKind(t, err, sharefs.KindInvalid)
	_, err = tree.Mkdir(sharefs.RootIno, strings.Repeat("x", 256), 0o755, root)
	wantKind(t, err, sharefs.KindNameTooLong)

	target := strings.Repeat("t", sharefs.SymlinkMax)
	l := must[sharefs.Attr](t)(tree.Symlink(sharefs.RootIno, "l", target, user(7)))
	if l.Mode != sharefs.ModeSymlink|0o777 || l.Size != sharefs.SymlinkMax {
		t.Errorf("symlink: %+v", l)
	}
	if got := must[string](t)(tree.Readlink(l.Ino)); got != target {
		t.Errorf("target of %d bytes", len(got))
	}
	_, err = tree.Symlink(sharefs.RootIno, "m", target+"t", root)
	wantKind(t, err, sharefs.KindNameTooLong)
	_, err = tree.Readlink(sharefs.RootIno)
	wantKind(t, err, sharefs.KindInvalid)
	noProblems(t, tree)
}

func TestSetgidDirectory(t *testing.T) {
	tree := testTree(t, t.TempDir())
	d := must[sharefs.Attr](t)(tree.Mkdir(sharefs.RootIno, "d", 0o777, Caller{UID: 1, GID: 50}))
	mode := uint32(0o2777)
	must[sharefs.Attr](t)(tree.Setattr(d.Ino, &SetAttr{Mode: &mode}, root))
	sub := must[sharefs.Attr](t)(tree.Mkdir(d.Ino, "sub", 0o755, user(1000)))
	if sub.GID != 50 || sub.Mode != sharefs.ModeDir|0o2755 {
		t.Errorf("a directory inherits %o, group %d", sub.Mode, sub.GID)
	}
	f, h, err := tree.Create(sub.Ino, "f", unix.O_WRONLY, 0o666, user(1000))
	check(t, err)
	check(t, h.Close())
	if f.GID != 50 || f.UID != 1000 || f.Mode != sharefs.ModeRegular|0o644 {
		t.Errorf("a file inherits %o, group %d", f.Mode, f.GID)
	}
	l := must[sharefs.Attr](t)(tree.Symlink(sub.Ino, "l", "x", user(1000)))
	if l.GID != 50 {
		t.Errorf("a symlink inherits group %d", l.GID)
	}
}

// weakHash puts many names into few slots.
func weakHash(c *Config) { c.hash = func(name string) uint64 { return 1000 + uint64(len(name))%3 } }

func TestNamesThatCollide(t *testing.T) {
	dir := t.TempDir()
	tree := testTree(t, dir, weakHash)
	want := map[string]sharefs.Ino{}
	add := func(name string) {
		t.Helper()
		want[name] = must[sharefs.Attr](t)(tree.Mkdir(sharefs.RootIno, name, 0o755, root)).Ino
	}
	same := func() {
		t.Helper()
		got := names(t, tree, sharefs.RootIno)
		if len(got) != len(want) {
			t.Fatalf("%d names instead of %d", len(got), len(want))
		}
		for name, ino := range want {
			if got[name] != ino || lookup(t, tree, sharefs.RootIno, name).Ino != ino {
				t.Fatalf("%q is %d, want %d", name, got[name], ino)
			}
		}
		for _, name := range []string{"no", "nay", "nope", "nobody"} {
			_, err := tree.Lookup(sharefs.RootIno, name)
			wantKind(t, err, sharefs.KindNotExist)
		}
		noProblems(t, tree)
	}
	for i := range 40 {
		add(strings.Repeat("x", i%4) + fmt.Sprint(i))
	}
	same()
	i := 0
	for name := range want {
		if i++; i%3 == 0 {
			check(t, tree.Rmdir(sharefs.RootIno, name))
			delete(want, name)
		}
	}
	same()
	for i := range 10 {
		add(fmt.Sprint("again", i))
	}
	same()
	// Renames among slots of one chain, in both directions.
	for i := range 10 {
		from, to := fmt.Sprint("again", i), fmt.Sprint("moved", i)
		check(t, tree.Rename(sharefs.RootIno, from, sharefs.RootIno, to, 0))
		want[to] = want[from]
		delete(want, from)
	}
	same()
	check(t, tree.Close())
	tree = testTree(t, dir, weakHash)
	same()
	for name := range want {
		check(t, tree.Rmdir(sharefs.RootIno, name))
		delete(want, name)
	}
	same()
}

func TestReadDirGoesOnWhereItStopped(t *testing.T) {
	tree := testTree(t, t.TempDir())
	const n = 1000
	for i := range n {
		must[sharefs.Attr](t)(tree.Mkdir(sharefs.RootIno, fmt.Sprint("n", i), 0o755, root))
	}
	seen := map[string]int{}
	var cookies []uint64
	var from uint64
	for round := 0; ; round++ {
		got := 0
		check(t, tree.ReadDir(sharefs.RootIno, from, round%2 == 0, func(d sharefs.Dentry, a *sharefs.Attr) bool {
			if got == 7 {
				return false
			}
			if (a != nil) != (round%2 == 0) || a != nil && a.Ino != d.Ino {
				t.Errorf("attributes %+v in round %d", a, round)
			}
			if a != nil {
				tree.Forget(a.Ino, 1)
			}
			got++
			seen[d.Name]++
			from = d.Cookie
			cookies = append(cookies, d.Cookie)
			return true
		}))
		if got == 0 {
			break
		}
		// What comes and goes meanwhile moves nothing else.
		must[sharefs.Attr](t)(tree.Mkdir(sharefs.RootIno, fmt.Sprint("m", round), 0o755, root))
		check(t, tree.Rmdir(sharefs.RootIno, fmt.Sprint("m", round)))
	}
	for i := range n {
		if seen[fmt.Sprint("n", i)] != 1 {
			t.Fatalf("n%d was told %d times", i, seen[fmt.Sprint("n", i)])
		}
	}
	if !slices.IsSorted(cookies) || cookies[0] < firstCookie || cookies[len(cookies)-1] > 1<<63-1 {
		t.Error("cookies do not rise within their bounds")
	}
	wantKind(t, tree.ReadDir(9999, 0, false, nil), sharefs.KindStale)
	f := create(t, tree, sharefs.RootIno, "f", "")
	wantKind(t, tree.ReadDir(f.Ino, 0, false, nil), sharefs.KindNotDir)
}

func TestUnlinkAndRmdir(t *testing.T) {
	tree := testTree(t, t.TempDir())
	d := must[sharefs.Attr](t)(tree.Mkdir(sharefs.RootIno, "d", 0o755, root))
	f := create(t, tree, d.Ino, "f", "x")
	wantKind(t, tree.Unlink(sharefs.RootIno, "d"), sharefs.KindIsDir)
	wantKind(t, tree.Rmdir(d.Ino, "f"), sharefs.KindNotDir)
	wantKind(t, tree.Rmdir(sharefs.RootIno, "d"), sharefs.KindNotEmpty)
	wantKind(t, tree.Rmdir(d.Ino, "."), sharefs.KindInvalid)
	wantKind(t, tree.Rmdir(d.Ino, ".."), sharefs.KindNotEmpty)
	wantKind(t, tree.Unlink(d.Ino, "g"), sharefs.KindNotExist)
	before := must[sharefs.Attr](t)(tree.Getattr(d.Ino))
	check(t, tree.Unlink(d.Ino, "f"))
	after := must[sharefs.Attr](t)(tree.Getattr(d.Ino))
	if after.Mtime <= before.Mtime || after.Ctime != after.Mtime {
		t.Errorf("times of the directory: %d, then %d and %d", before.Mtime, after.Mtime, after.Ctime)
	}
	gone := must[sharefs.Attr](t)(tree.Getattr(f.Ino)) // the kernel still knows it
	if gone.Nlink != 0 || gone.Ctime < after.Mtime {
		t.Errorf("after its last name went: %+v", gone)
	}
	check(t, tree.Rmdir(sharefs.RootIno, "d"))
	if a := must[sharefs.Attr](t)(tree.Getattr(d.Ino)); a.Nlink != 0 {
		t.Errorf("a removed directory has %d links", a.Nlink)
	}
	for _, err := range []error{
		second(tree.Mkdir(d.Ino, "x", 0o755, root)),
		second(tree.Link(f.Ino, sharefs.RootIno, "x")),
		third(tree.Create(d.Ino, "x", unix.O_RDWR, 0o644, root)),
		third(tree.Tmpfile(d.Ino, unix.O_RDWR, 0o644, root)),
		tree.Rename(sharefs.RootIno, "e", d.Ino, "e", 0),
	} {
		wantKind(t, err, sharefs.KindNotExist)
	}
	if got := names(t, tree, d.Ino); len(got) != 0 {
		t.Errorf("a removed directory lists %v", got)
	}
	noProblems(t, tree)
	tree.Forget(f.Ino, 1)
	tree.Forget(d.Ino, 1)
	check(t, tree.reap())
	_, err := tree.Getattr(f.Ino)
	wantKind(t, err, sharefs.KindStale)
	if _, err := tree.live.stat(f.Ino); err != unix.ENOENT {
		t.Errorf("its backing file: %v", err)
	}
	noProblems(t, tree)
}

func second[T any](_ T, err error) error        { return err }
func third[T, U any](_ T, _ U, err error) error { return err }

func TestOpenFilesOutliveTheirNames(t *testing.T) {
	tree := testTree(t, t.TempDir())
	f, h, err := tree.Create(sharefs.RootIno, "f", unix.O_RDWR, 0o644, root)
	check(t, err)
	fifo := must[sharefs.Attr](t)(tree.Mknod(sharefs.RootIno, "p", sharefs.ModeFifo|0o600, 0, root))
	writeAll(t, h, "content")
	check(t, tree.Unlink(sharefs.RootIno, "f"))
	check(t, tree.Unlink(sharefs.RootIno, "p"))
	tree.Forget(f.Ino, 1)
	check(t, tree.reap())
	if a := must[sharefs.Attr](t)(tree.Getattr(f.Ino)); a.Nlink != 0 || a.Size != 7 {
		t.Errorf("an open file without a name: %+v", a)
	}
	if a := must[sharefs.Attr](t)(tree.Getattr(fifo.Ino)); a.Nlink != 0 {
		t.Errorf("a fifo that the kernel holds: %+v", a)
	}
	h2 := must[*Handle](t)(tree.Open(f.Ino, unix.O_RDWR, root)) // through /proc/self/fd
	b := make([]byte, 10)
	if n := must[int](t)(h2.ReadAt(b, 0)); string(b[:n]) != "content" {
		t.Errorf("read %q", b[:n])
	}
	size := uint64(3)
	if a := must[sharefs.Attr](t)(tree.Setattr(f.Ino, &SetAttr{Size: &size, Handle: h}, root)); a.Size != 3 {
		t.Errorf("ftruncate: %+v", a)
	}
	check(t, h.Close())
	check(t, tree.reap())
	noProblems(t, tree)
	check(t, h2.Close())
	check(t, tree.reap())
	_, err = tree.Getattr(f.Ino)
	wantKind(t, err, sharefs.KindStale)
	tree.Forget(fifo.Ino, 1)
	check(t, tree.reap())
	_, err = tree.Getattr(fifo.Ino)
	wantKind(t, err, sharefs.KindStale)
	noProblems(t, tree)
}

func TestHardLinks(t *testing.T) {
	tree := testTree(t, t.TempDir())
	d := must[sharefs.Attr](t)(tree.Mkdir(sharefs.RootIno, "d", 0o755, root))
	f := create(t, tree, sharefs.RootIno, "f", "x")
	a := must[sharefs.Attr](t)(tree.Link(f.Ino, d.Ino, "g"))
	if a.Ino != f.Ino || a.Nlink != 2 || a.Ctime <= f.Ctime {
		t.Errorf("linked: %+v", a)
	}
	_, err := tree.Link(f.Ino, d.Ino, "g")
	wantKind(t, err, sharefs.KindExist)
	_, err = tree.Link(d.Ino, d.Ino, "h")
	wantKind(t, err, sharefs.KindPermission)
	l := must[sharefs.Attr](t)(tree.Symlink(sharefs.RootIno, "l", "f", root))
	if a := must[sharefs.Attr](t)(tree.Link(l.Ino, sharefs.RootIno, "m")); a.Nlink != 2 || !a.IsSymlink() {
		t.Errorf("a linked symlink: %+v", a)
	}
	check(t, tree.Unlink(sharefs.RootIno, "f"))
	if a := lookup(t, tree, d.Ino, "g"); a.Nlink != 1 || content(t, tree, a.Ino) != "x" {
		t.Errorf("after one name went: %+v", a)
	}
	noProblems(t, tree)
}

func TestLinksEndAtTheirLimit(t *testing.T) {
	tree := testTree(t, t.TempDir())
	f := must[sharefs.Attr](t)(tree.Mknod(sharefs.RootIno, "f", sharefs.ModeFifo, 0, root))
	d := must[sharefs.Attr](t)(tree.Mkdir(sharefs.RootIno, "d", 0o755, root))
	tree.mu.Lock()
	x := tree.begin()
	for _, ino := range []sharefs.Ino{f.Ino, d.Ino} {
		r := must[*row](t)(x.edit(ino))
		r.nlink = sharefs.LinkMax - 1
	}
	check(t, x.commit())
	tree.mu.Unlock()
	must[sharefs.Attr](t)(tree.Link(f.Ino, sharefs.RootIno, "g"))
	_, err := tree.Link(f.Ino, sharefs.RootIno, "h")
	wantKind(t, err, sharefs.KindTooManyLinks)
	// A directory goes on without telling its links, as ext4's do.
	must[sharefs.Attr](t)(tree.Mkdir(d.Ino, "a", 0o755, root))
	if a := must[sharefs.Attr](t)(tree.Getattr(d.Ino)); a.Nlink != 1 {
		t.Errorf("a directory with 64999 others in it has %d links", a.Nlink)
	}
	check(t, tree.Rmdir(d.Ino, "a"))
	if a := must[sharefs.Attr](t)(tree.Getattr(d.Ino)); a.Nlink != sharefs.LinkMax-1 {
		t.Errorf("with one less it has %d", a.Nlink)
	}
}

func TestTmpfile(t *testing.T) {
	dir := t.TempDir()
	tree := testTree(t, dir)
	a, h, err := tree.Tmpfile(sharefs.RootIno, unix.O_RDWR, 0o600, user(5))
	check(t, err)
	if a.Nlink != 0 || a.UID != 5 || a.Mode != sharefs.ModeRegular|0o600 {
		t.Errorf("tmpfile: %+v", a)
	}
	writeAll(t, h, "later")
	if b := must[sharefs.Attr](t)(tree.Link(a.Ino, sharefs.RootIno, "named")); b.Nlink != 1 || b.Size != 5 {
		t.Errorf("linked: %+v", b)
	}
	check(t, h.Close())
	excl, h2, err := tree.Tmpfile(sharefs.RootIno, unix.O_WRONLY|unix.O_EXCL, 0o600, root)
	check(t, err)
	_, err = tree.Link(excl.Ino, sharefs.RootIno, "never")
	wantKind(t, err, sharefs.KindNotExist)
	check(t, h2.Close())
	lost, h3, err := tree.Tmpfile(sharefs.RootIno, unix.O_RDWR, 0o600, root)
	check(t, err)
	writeAll(t, h3, "lost")
	noProblems(t, tree)
	check(t, tree.Close()) // with h3 open
	tree = testTree(t, dir)
	if got := content(t, tree, lookup(t, tree, sharefs.RootIno, "named").Ino); got != "later" {
		t.Errorf("content %q", got)
	}
	for _, ino := range []sharefs.Ino{excl.Ino, lost.Ino} {
		_, err = tree.Getattr(ino)
		wantKind(t, err, sharefs.KindStale)
	}
	noProblems(t, tree)
}
