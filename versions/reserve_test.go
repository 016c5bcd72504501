package versions

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// reserveOf returns how long the file is, and how much of it is allocated, in bytes.
func reserveOf(t *testing.T, dir string) (size, held int64) {
	t.Helper()
	var st unix.Stat_t
	check(t, unix.Stat(filepath.Join(dir, reserveFile), &st))
	return st.Size, st.Blocks * 512
}

// setRoom says how much room the disk has from now on.
func (r *reserve) setRoom(bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.room = func() int64 { return bytes }
}

// whole waits until nothing of the reserve is missing.
func (r *reserve) whole(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !r.fill(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the reserve is not filled")
		}
	}
}

// reservedTree opens a tree that keeps some bytes of the disk back, and has them.
func reservedTree(t *testing.T, dir string, most int64) *Tree {
	t.Helper()
	tree := testTree(t, dir, func(c *Config) { c.Reserve = most })
	tree.reserve.whole(t)
	if size, held := reserveOf(t, dir); size != most || held < most {
		t.Skipf("the disk of the test keeps no room back: %d bytes, %d allocated", size, held)
	}
	return tree
}

// What is given up on a full disk is for making room: nobody gets a new name until the reserve is whole again, and the disk counts as full.
func TestReserve(t *testing.T) {
	const most = 1 << 20
	dir := t.TempDir()
	tree := reservedTree(t, dir, most)
	r := &tree.reserve
	create(t, tree, sharefs.RootIno, "old", "x")

	r.setRoom(0)
	for n := 1; n <= reserveParts; n++ {
		if !r.give() {
			t.Fatalf("part %d cannot be given up", n)
		}
		if _, held := reserveOf(t, dir); held > most-int64(n)*most/reserveParts {
			t.Errorf("%d bytes are held after %d parts were given up", held, n)
		}
	}
	if r.give() {
		t.Error("more than all was given up")
	}
	if want, missing := tree.Reserve(); want != most || missing != most {
		t.Errorf("%d of %d bytes are missing", missing, want)
	}
	_, err := tree.Mkdir(sharefs.RootIno, "new", 0o755, root)
	wantKind(t, err, sharefs.KindNoSpace)
	_, _, err = tree.Create(sharefs.RootIno, "new", unix.O_WRONLY, 0o644, root)
	wantKind(t, err, sharefs.KindNoSpace)
	_, _, err = tree.Tmpfile(sharefs.RootIno, unix.O_RDWR, 0o600, root)
	wantKind(t, err, sharefs.KindNoSpace)
	_, err = tree.Symlink(sharefs.RootIno, "new", "old", root)
	wantKind(t, err, sharefs.KindNoSpace)
	a, h, err := tree.Create(sharefs.RootIno, "old", unix.O_WRONLY|unix.O_TRUNC, 0o644, root)
	check(t, err) // it is there
	check(t, h.Close())
	_, err = tree.Link(a.Ino, sharefs.RootIno, "new")
	wantKind(t, err, sharefs.KindNoSpace)
	check(t, tree.Rename(sharefs.RootIno, "old", sharefs.RootIno, "older", 0))
	check(t, tree.Unlink(sharefs.RootIno, "older"))
	var disk unix.Statfs_t
	check(t, unix.Statfs(dir, &disk))
	space := must[Space](t)(tree.Statfs())
	if free := disk.Bavail * uint64(disk.Bsize); free > most && space.Available > free+1<<30 {
		t.Errorf("%d bytes are said to be available of %d", space.Available, free)
	}

	r.setRoom(most + most/reserveParts)
	must[sharefs.Attr](t)(tree.Mkdir(sharefs.RootIno, "new", 0o755, root))
	if size, held := reserveOf(t, dir); size != most || held < most {
		t.Errorf("with room the reserve has %d bytes, %d of them allocated", size, held)
	}
}

// On a disk that is full but for what was given up that is left to whom it was given up for.
func TestReserveIsNotTakenBackAtOnce(t *testing.T) {
	const most = 1 << 20
	dir := t.TempDir()
	tree := reservedTree(t, dir, most)
	r := &tree.reserve
	other := int64(most/reserveParts - 1) // that a write was too large for
	r.mu.Lock()
	r.room = func() int64 { return r.want - r.held + other }
	r.mu.Unlock()
	for n := range int64(reserveParts) {
		if !r.give() {
			t.Fatalf("part %d cannot be given up", n)
		}
		if r.fill() {
			t.Fatalf("part %d is taken back", n)
		}
	}
	change := func(fn func()) {
		r.mu.Lock()
		defer r.mu.Unlock()
		fn()
	}
	change(func() { other++ })
	if !r.fill() {
		t.Error("with room to spare it is not taken back")
	}
	change(func() { other-- })
	r.give()
	change(func() { r.given = r.given.Add(-reserveLeft) })
	if !r.fill() {
		t.Error("what was given up long ago is not taken back")
	}
	// Whoever was lent it needs it no more when he gives it back.
	back, low := r.lend()
	if _, missing := r.stats(); !low || missing != most {
		t.Errorf("%d bytes are lent", missing)
	}
	if back(); r.spent.Load() {
		t.Error("what was lent is not taken back")
	}
}

// Whoever makes room is lent all of it, if there is none, and gives it back.
func TestReserveLent(t *testing.T) {
	const most = 1 << 20
	tree := testTree(t, t.TempDir(), func(c *Config) { c.Reserve = most })
	r := &tree.reserve
	r.whole(t)
	r.setRoom(most)
	back, low := r.lend()
	if _, missing := r.stats(); low || missing != 0 {
		t.Errorf("with room enough %d bytes are lent", missing)
	}
	back()
	r.setRoom(most - 1)
	back, low = r.lend()
	other, _ := r.lend()
	if _, missing := r.stats(); !low || missing != most {
		t.Errorf("%d bytes are lent", missing)
	}
	r.setRoom(2 * most)
	back()
	if r.fill() {
		t.Error("it is taken back while somebody needs it")
	}
	other()
	if _, missing := r.stats(); missing != 0 {
		t.Errorf("%d bytes are not given back", missing)
	}
}

// A store that was closed while its disk was full knows it when it is opened again. A first reserve is not taken from what is nearly full.
func TestReserveOpened(t *testing.T) {
	const most = 1 << 20
	open := func(dir string, room int64) *reserve {
		tree := &Tree{cfg: Config{Dir: dir}, log: testTree(t, t.TempDir()).log}
		tree.stop = make(chan struct{})
		r := &tree.reserve
		check(t, r.open(tree, most))
		t.Cleanup(r.close)
		r.setRoom(room)
		r.refuses.Store(true)
		return r
	}
	dir := t.TempDir()
	r := open(dir, 2*most-1)
	if r.fill() || r.refuse("test") != nil {
		t.Error("a first reserve leaves less than its length")
	}
	r.close()
	r = open(dir, 0)
	check(t, r.refuse("a start after one that had no room for it"))
	r.setRoom(2 * most)
	if !r.fill() {
		t.Fatal("no reserve is made")
	}
	if size, held := reserveOf(t, dir); size != most || held < most {
		t.Skipf("the disk of the test keeps no room back: %d bytes, %d allocated", size, held)
	}
	r.give()
	r.close()
	r = open(dir, 0)
	wantKind(t, r.refuse("test"), sharefs.KindNoSpace)
	if _, missing := r.stats(); missing != most/reserveParts {
		t.Errorf("%d bytes are missing", missing)
	}
	r.setRoom(most)
	check(t, r.refuse("test"))
	r.close()

	check(t, os.Remove(filepath.Join(dir, reserveFile)))
	check(t, os.Symlink("elsewhere", filepath.Join(dir, reserveFile)))
	tree := &Tree{cfg: Config{Dir: dir}}
	if err := tree.reserve.open(tree, most); err == nil {
		t.Error("a link is followed")
	}
}

// A capture that found the disk full tries again as soon as there is room, however long it would have waited.
func TestCaptureGoesOnWhenThereIsRoom(t *testing.T) {
	t.Parallel()
	tree := testTree(t, t.TempDir(), byHand)
	tree.reserve.setRoom(0)
	done := make(chan bool)
	go func() { done <- tree.past.lull(1000*time.Hour, unix.ENOSPC) }()
	tree.reserve.setRoom(1 << 30)
	// It may have begun only now: then there has to be more.
	for room, end := int64(2<<30), time.After(2*time.Minute); ; room += 1 << 30 {
		select {
		case on := <-done:
			if !on {
				t.Error("it ends as if the tree was closed")
			}
			return
		case <-end:
			t.Fatal("it waits on")
		case <-time.After(roomLook):
			tree.reserve.setRoom(room)
		}
	}
}
