package versions

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions/writers"
)

func TestCommit(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	ino := create(t, tree, sharefs.RootIno, "f", "one").Ino
	commit := func(note string, number uint64, changed bool, want string) {
		t.Helper()
		v, fresh, err := tree.Commit(ino, note)
		check(t, err)
		if v.Number != number || fresh != changed || v.Note != want || !v.Live {
			t.Fatalf("version %d, changed %v, note %q, live %v", v.Number, fresh, v.Note, v.Live)
		}
		if listed := must[sharefs.Version](t)(tree.Version(ino, number)); listed != v {
			t.Fatalf("%+v is listed as %+v", v, listed)
		}
	}
	commit("first", 1, true, "first")
	commit("another", 1, false, "first") // unchanged: the note stays
	commit("", 1, false, "first")
	rewrite(t, tree, ino, "two")
	commit("", 2, true, "")
	commit("later", 2, false, "later") // a version without a note gets one
	commit("still later", 2, false, "later")
	capture(t, tree)
	commit("kept", 2, false, "later")
	rewrite(t, tree, ino, "three")
	settle(t, tree, ino)
	commit("settled before", 3, false, "settled before")
	wantHistory(t, tree, ino, "one", "two", "three")

	// A file that nobody ever wrote to.
	a := must[sharefs.Attr](t)(tree.Mknod(sharefs.RootIno, "empty", 0o644, 0, root))
	ino = a.Ino
	commit("nothing in it", 1, true, "nothing in it")
	commit("", 1, false, "nothing in it")
	wantHistory(t, tree, ino, "")
	capture(t, tree)
	wantHistory(t, tree, ino, "")

	_, _, err := tree.Commit(ino, strings.Repeat("n", sharefs.NoteMax+1))
	wantKind(t, err, sharefs.KindTooBig)
	_, _, err = tree.Commit(ino, "\xff")
	wantKind(t, err, sharefs.KindInvalid)
	_, _, err = tree.Commit(sharefs.RootIno, "a directory")
	wantKind(t, err, sharefs.KindInvalid)
}

func TestCommitWhileSomebodyWrites(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	a, h, err := tree.Create(sharefs.RootIno, "f", unix.O_RDWR, 0o644, root)
	check(t, err)
	writeAll(t, h, "halfway")
	v, fresh, err := tree.Commit(a.Ino, "not closed")
	check(t, err)
	if v.Number != 1 || !fresh || !v.Timed || v.Live || v.Note != "not closed" {
		t.Fatalf("%+v, %v", v, fresh)
	}
	if v, fresh, err = tree.Commit(a.Ino, "again"); err != nil || fresh || v.Number != 1 || v.Note != "not closed" {
		t.Fatalf("unchanged: %+v, %v, %v", v, fresh, err)
	}
	wantHistory(t, tree, a.Ino, "halfway")
	// Closed without a change it is the same version, and no timed one any more.
	check(t, h.Close())
	settle(t, tree, a.Ino)
	capture(t, tree)
	if all := wantHistory(t, tree, a.Ino, "halfway"); all[0].Timed || !all[0].Live || all[0].Note != "not closed" {
		t.Fatalf("%+v", all)
	}
	h = must[*Handle](t)(tree.Open(a.Ino, unix.O_RDWR, root))
	writeAll(t, h, "further")
	_, _, err = tree.Commit(a.Ino, "")
	check(t, err)
	writeAll(t, h, "the end")
	check(t, h.Close())
	settle(t, tree, a.Ino)
	capture(t, tree)
	if all := wantHistory(t, tree, a.Ino, "halfway", "further", "the end"); !all[1].Timed || all[2].Timed {
		t.Errorf("%+v", all)
	}
	if n := tree.HistoryStats(); n.Same != 1 || n.Timed != 2 {
		t.Errorf("%+v", n)
	}
}

func TestTimedVersions(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	clock := &sharefs.Clock{Now: func() time.Time { return now }}
	tree := testTree(t, t.TempDir(), byHand, func(c *Config) { c.Clock, c.Timed = clock, 10*time.Minute })
	a, h, err := tree.Create(sharefs.RootIno, "log", unix.O_RDWR, 0o644, root)
	check(t, err)
	defer func() { check(t, h.Close()) }()
	born := time.Now()
	tell := func(ago time.Duration, changed bool) {
		tree.past.stillHeld(writers.Event{ID: a.Ino, Kind: writers.StillHeld, At: born.Add(ago), Changed: changed})
		capture(t, tree)
	}
	writeAll(t, h, "one")
	tell(time.Minute, true) // too young
	wantHistory(t, tree, a.Ino)
	tell(time.Hour, false) // nothing changed
	wantHistory(t, tree, a.Ino)
	tell(11*time.Minute, true)
	wantHistory(t, tree, a.Ino, "one")
	v := must[sharefs.Version](t)(tree.Version(a.Ino, 1))
	if !v.Timed || v.Live {
		t.Errorf("%+v", v)
	}
	writeAll(t, h, "two")
	at := v.At.Time().Sub(born)
	tell(at+9*time.Minute, true)
	wantHistory(t, tree, a.Ino, "one")
	tell(at+11*time.Minute, true)
	wantHistory(t, tree, a.Ino, "one", "two")
	tell(at+time.Hour, true) // the same bytes were written again
	wantHistory(t, tree, a.Ino, "one", "two")
}

func TestRestore(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	ino := save(t, tree, "f", "one")
	mode := uint32(0o600)
	must[sharefs.Attr](t)(tree.Setattr(ino, &SetAttr{Mode: &mode}, root))
	save(t, tree, "f", "two, longer")
	must[sharefs.Attr](t)(tree.Link(ino, sharefs.RootIno, "link"))
	capture(t, tree)
	before := must[sharefs.Attr](t)(tree.Getattr(ino))
	wantKind(t, tree.Restore(Op{}, ino, 2, root), sharefs.KindExist)
	wantKind(t, tree.Restore(Op{}, ino, 3, root), sharefs.KindNotExist)
	wantKind(t, tree.Restore(Op{}, sharefs.RootIno, 1, root), sharefs.KindInvalid)

	check(t, tree.Restore(Op{}, ino, 1, root))
	if got := content(t, tree, ino); got != "one" {
		t.Fatalf("restored %q", got)
	}
	all := wantHistory(t, tree, ino, "one", "two, longer", "one")
	a := must[sharefs.Attr](t)(tree.Getattr(ino))
	if !all[2].Live || a.Mode&0o777 != 0o644 || a.Mtime <= before.Mtime || lookup(t, tree, sharefs.RootIno, "link").Ino != ino {
		t.Errorf("%+v, %+v", a, all[2])
	}
	// What is not a version yet becomes one first, also while it is being written.
	rewrite(t, tree, ino, "unsettled")
	check(t, tree.Restore(Op{}, ino, 2, root))
	wantHistory(t, tree, ino, "one", "two, longer", "one", "unsettled", "two, longer")
	h := must[*Handle](t)(tree.Open(ino, unix.O_RDWR, root))
	writeAll(t, h, "WIP")
	check(t, tree.Restore(Op{}, ino, 4, user(1000)))
	if got := content(t, tree, ino); got != "unsettled" {
		t.Fatalf("restored %q under a writer", got)
	}
	check(t, h.Close())
	settle(t, tree, ino)
	capture(t, tree)
	wantHistory(t, tree, ino, "one", "two, longer", "one", "unsettled", "two, longer", "WIP, longer", "unsettled")
}

func TestRestoreFromWhatIsNotCaptured(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	ino := save(t, tree, "f", "one")
	for i := range 6 {
		save(t, tree, "f", fmt.Sprint("more ", i))
		check(t, tree.Restore(Op{}, ino, 1, root))
		if got := content(t, tree, ino); got != "one" {
			t.Fatalf("restored %q", got)
		}
	}
	capture(t, tree)
	all := must[[]sharefs.Version](t)(tree.Versions(ino))
	if len(all) != 13 {
		t.Errorf("%d versions", len(all))
	}
}

func TestRestoreDropsPrivileges(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	ino := save(t, tree, "f", "one")
	mode := uint32(0o4755)
	must[sharefs.Attr](t)(tree.Setattr(ino, &SetAttr{Mode: &mode}, root))
	_, _, err := tree.Commit(ino, "")
	check(t, err)
	save(t, tree, "f", "two")
	must[sharefs.Attr](t)(tree.Setattr(ino, &SetAttr{Mode: &mode}, root))
	save(t, tree, "f", "three")
	all := must[[]sharefs.Version](t)(tree.Versions(ino))
	check(t, tree.Restore(Op{}, ino, all[1].Number, user(1000)))
	if a := must[sharefs.Attr](t)(tree.Getattr(ino)); a.Mode&0o7000 != 0 {
		t.Errorf("mode %o after a restore by a user", a.Mode)
	}
}

// What a file holds already is not restored, whatever its number: no equal version comes of it.
func TestRestoreOfWhatIsThereMakesNoVersion(t *testing.T) {
	for _, captured := range []bool{false, true} {
		tree := testTree(t, t.TempDir(), byHand)
		long := strings.Repeat("one", 100_000)
		ino := save(t, tree, "f", long)
		save(t, tree, "f", "two")
		check(t, tree.Restore(Op{}, ino, 1, root))
		if captured {
			capture(t, tree)
		}
		wantKind(t, tree.Restore(Op{}, ino, 1, root), sharefs.KindExist)
		wantHistory(t, tree, ino, long, "two", long)
		// With other permission bits it is not what it was.
		mode := uint32(0o600)
		must[sharefs.Attr](t)(tree.Setattr(ino, &SetAttr{Mode: &mode}, root))
		check(t, tree.Restore(Op{}, ino, 1, root))
		// Nor is content of the same size.
		save(t, tree, "f", long[1:]+"x")
		check(t, tree.Restore(Op{}, ino, 1, root))
		if a := must[sharefs.Attr](t)(tree.Getattr(ino)); a.Mode&0o777 != 0o644 || content(t, tree, ino) != long {
			t.Errorf("%+v", a)
		}
	}
}

// Nothing of a removed file is live, though it may still be open.
func TestNothingOfARemovedFileIsLive(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	ino := save(t, tree, "f", "one")
	h := must[*Handle](t)(tree.Open(ino, unix.O_RDONLY, root))
	dead := func() {
		t.Helper()
		if all := wantHistory(t, tree, ino, "one"); all[0].Live {
			t.Error("the last version is live")
		}
		_, err := tree.Version(ino, 0)
		wantKind(t, err, sharefs.KindNotExist)
	}
	unlink(t, tree, "f")
	dead()
	check(t, h.Close())
	capture(t, tree)
	check(t, tree.reap())
	dead()
}
