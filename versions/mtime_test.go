package versions

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// attrs is a kernel that notes whose attributes it is to forget.
type attrs struct {
	holding
	inos []sharefs.Ino
}

func (k *attrs) ForgetAttr(ino sharefs.Ino) { k.inos = append(k.inos, ino) }

// mtimeOf is what Mtime says.
type mtimeOf struct {
	at   sharefs.Time
	own  uint64
	ok   bool
	made bool
}

func wantMtime(t testing.TB, tree *Tree, what string, ino sharefs.Ino, want mtimeOf) {
	t.Helper()
	at, own, made, ok, err := tree.Mtime(ino)
	check(t, err)
	if !ok { // whatever the others say
		at, own, made = want.at, want.own, want.made
	}
	if got := (mtimeOf{at, own, ok, made}); got != want {
		t.Errorf("%s: %+v, want %+v", what, got, want)
	}
}

func TestMtimeAtRest(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	empty := must[sharefs.Attr](t)(tree.Mknod(sharefs.RootIno, "empty", sharefs.ModeRegular|0o644, 0, root))
	wantMtime(t, tree, "nobody has set a time", empty.Ino, mtimeOf{empty.Mtime, 0, true, true})
	at := sharefs.Time(1_500_000_000_000_000_001)
	must[sharefs.Attr](t)(tree.Setattr(empty.Ino, &SetAttr{Mtime: &at}, root))
	wantMtime(t, tree, "an empty file", empty.Ino, mtimeOf{at, 0, true, false})

	a, h, err := tree.Create(sharefs.RootIno, "f", unix.O_RDWR, 0o644, root)
	check(t, err)
	writeAll(t, h, "one")
	wantMtime(t, tree, "written to", a.Ino, mtimeOf{})
	check(t, h.Close())
	wantMtime(t, tree, "closed, and not at rest", a.Ino, mtimeOf{})
	settle(t, tree, a.Ino)
	rests := must[sharefs.Attr](t)(tree.Getattr(a.Ino)).Mtime
	wantMtime(t, tree, "at rest", a.Ino, mtimeOf{rests, 1, true, false})
	must[sharefs.Attr](t)(tree.Setattr(a.Ino, &SetAttr{Mtime: &at}, root))
	wantMtime(t, tree, "set", a.Ino, mtimeOf{at, 1, true, false})
	if l := must[Latest](t)(tree.Latest(a.Ino)); l.Own != 1 {
		t.Errorf("setting a time made version %d", l.Own)
	}
	wantMtime(t, tree, "a directory", sharefs.RootIno, mtimeOf{})
}

// The disk's clock for access times is some milliseconds behind that of a new file's row: the time does not go back when the file was open.
func TestAtimeStaysWhereTheDiskIsBehind(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	a := create(t, tree, sharefs.RootIno, "f", "one")
	settle(t, tree, a.Ino)
	before := must[sharefs.Attr](t)(tree.Getattr(a.Ino))
	check(t, tree.live.setTimes(a.Ino, before.Atime-3_000_000, before.Mtime))
	h := must[*Handle](t)(tree.Open(a.Ino, unix.O_RDWR, root))
	if open := must[sharefs.Attr](t)(tree.Getattr(a.Ino)); open.Atime != before.Atime {
		t.Errorf("while it is open: %+v, before %+v", open, before)
	}
	check(t, h.Close())
	settle(t, tree, a.Ino)
	if now := must[sharefs.Attr](t)(tree.Getattr(a.Ino)); now.Atime != before.Atime {
		t.Errorf("%+v, before %+v", now, before)
	}
}

// The time of another host is set on a file at rest that has the version which it is of, and on no other.
func TestSetMtime(t *testing.T) {
	dir := t.TempDir()
	tree, k := testTree(t, dir, byHand), &attrs{}
	tree.SetKernel(k)
	a := create(t, tree, sharefs.RootIno, "f", "one")
	at := sharefs.Time(1_500_000_000_000_000_001)
	settle(t, tree, a.Ino)
	wantKind(t, tree.SetMtime(a.Ino, at, 1), sharefs.KindAgain) // which waits for capture, and goes by the stamp of the file
	capture(t, tree)
	before := must[sharefs.Attr](t)(tree.Getattr(a.Ino))
	wantKind(t, tree.SetMtime(a.Ino, at, 0), sharefs.KindAgain)
	wantKind(t, tree.SetMtime(a.Ino, at, 2), sharefs.KindAgain)
	wantKind(t, tree.SetMtime(sharefs.RootIno, at, 0), sharefs.KindInvalid)
	h := must[*Handle](t)(tree.Open(a.Ino, unix.O_RDWR, root))
	wantKind(t, tree.SetMtime(a.Ino, at, 1), sharefs.KindAgain)
	check(t, h.Close())
	settle(t, tree, a.Ino)
	if now := must[sharefs.Attr](t)(tree.Getattr(a.Ino)); now.Mtime != before.Mtime {
		t.Errorf("what was refused was done: %+v", now)
	}
	k.inos = nil
	base := must[Latest](t)(tree.Latest(a.Ino)).Own
	check(t, tree.SetMtime(a.Ino, at, base))
	now := must[sharefs.Attr](t)(tree.Getattr(a.Ino))
	if now.Mtime != at || now.Atime != before.Atime || now.Size != before.Size || now.Changing {
		t.Errorf("%+v, before %+v", now, before)
	}
	if len(k.inos) != 1 || k.inos[0] != a.Ino {
		t.Errorf("the kernel is to forget the attributes of %v", k.inos)
	}
	wantMtime(t, tree, "set", a.Ino, mtimeOf{at, base, true, false})

	// The file is known still to hold its version: a check compares the stamps, and so does who replaces it in part.
	f := tree.files.pin(a.Ino)
	v := must[*version](t)(newestVersion(tree.db, a.Ino, noLimit))
	known := must[bool](t)(tree.past.holdsVersion(f, must[*row](t)(tree.row(a.Ino)), v))
	tree.files.unpin(f)
	if !known || v.own != base {
		t.Errorf("version %d is not what the file is known to hold", v.own)
	}
	wantClean(t, tree, FsckScrub)
	check(t, tree.Close())
	tree = testTree(t, dir, byHand)
	if again := lookup(t, tree, sharefs.RootIno, "f"); again.Mtime != at {
		t.Errorf("after a start: %+v", again)
	}
	wantMtime(t, tree, "after a start", a.Ino, mtimeOf{at, base, true, false})

	h = must[*Handle](t)(tree.Open(a.Ino, unix.O_RDWR, root))
	writeAll(t, h, "two")
	check(t, h.Close())
	settle(t, tree, a.Ino)
	if now := must[sharefs.Attr](t)(tree.Getattr(a.Ino)); now.Mtime < sharefs.Time(time.Now().Add(-time.Hour).UnixNano()) {
		t.Errorf("written to it was changed at %d", now.Mtime)
	}
}
