package versions

import (
	"errors"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
)

// away makes a file of which the content went, and which others have.
func away(t *testing.T, tree *Tree, f *faraway, name, text string) sharefs.Ino {
	t.Helper()
	ino := create(t, tree, sharefs.RootIno, name, text).Ino
	newestKept(t, tree, ino)
	_, errs := tree.Free([]sharefs.Ino{ino}, func(_ sharefs.Ino, c *Content) error { return f.keep(tree, c) })
	check(t, errs[0])
	collect(t, tree, GCOptions{})
	return ino
}

// What went and was read again is kept by this host again, once it says so: others need not have it, after a kill and a collection, and it goes only if others promise to keep it.
func TestKeepAgain(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	f := newFaraway()
	tree.SetElsewhere(f)
	text := blob(1, 1<<20) + string(make([]byte, 1<<20)) + blob(2, 100_000) + blob(1, 1<<20) // with chunks that are there twice
	ino := away(t, tree, f, "f", text)
	back := func(want bool) {
		t.Helper()
		if ok := must[bool](t)(tree.KeepAgain(nil, ino)); ok != want {
			t.Fatalf("%v, not %v", ok, want)
		}
	}
	back(false) // it is not here
	if all(t, tree, ino) != text || isAbsent(tree, ino) {
		t.Fatal("it did not come")
	}
	if c := must[*Content](t)(tree.Sole(ino)); c != nil {
		t.Error("it is kept though nobody took it back")
	}
	back(true)
	back(true)
	c := must[*Content](t)(tree.Sole(ino))
	if c == nil || !must[bool](t)(tree.Here(c)) {
		t.Fatal("it is not kept")
	}
	f.set(func() { f.down = true })
	collect(t, tree, GCOptions{})
	wantClean(t, tree, FsckScrub)
	tree = testTree(t, killed(t, tree), byHand)
	tree.SetElsewhere(f)
	no := errors.New("no")
	if _, errs := tree.Free([]sharefs.Ino{ino}, func(sharefs.Ino, *Content) error { return no }); errs[0] != no {
		t.Error(errs[0])
	}
	wantTexts(t, tree, ino, text)
	collect(t, tree, GCOptions{})
	wantTexts(t, tree, ino, text)
	wantClean(t, tree, FsckScrub)
	_, errs := tree.Free([]sharefs.Ino{ino}, func(sharefs.Ino, *Content) error { return nil })
	check(t, errs[0])
	back(false)
	wantClean(t, tree, FsckScrub)
}

// A file that holds something else than its version says is none that could be taken back.
func TestKeepAgainWhatIsNotThere(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	f := newFaraway()
	tree.SetElsewhere(f)
	text := blob(1, 1<<20)
	ino := away(t, tree, f, "f", text)
	if all(t, tree, ino) != text {
		t.Fatal("it did not come")
	}
	fd, err := tree.live.open(ino, unix.O_WRONLY)
	check(t, err)
	_, err = unix.Pwrite(fd, []byte("spoilt"), 500_000)
	check(t, err)
	check(t, unix.Close(fd))
	if must[bool](t)(tree.KeepAgain(nil, ino)) {
		t.Error("what is not there was taken back")
	}
	if c := must[*Content](t)(tree.Sole(ino)); c != nil {
		t.Error("it is kept")
	}
}

// Who frees a file as one that is elsewhere, while somebody takes it back, does not take away what was just said to be kept.
func TestKeepAgainWhileItIsFreed(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	f := newFaraway()
	tree.SetElsewhere(f)
	text := blob(1, 200_000)
	ino := away(t, tree, f, "f", text)
	no := errors.New("no")
	taken, both := 0, 0
	for range 200 {
		if all(t, tree, ino) != text {
			t.Fatal("it is another one")
		}
		var hands sync.WaitGroup
		var ok bool
		hands.Go(func() { ok = must[bool](t)(tree.KeepAgain(nil, ino)) })
		hands.Go(func() { _, _ = tree.Free([]sharefs.Ino{ino}, func(sharefs.Ino, *Content) error { return no }) })
		hands.Wait()
		c := must[*Content](t)(tree.Sole(ino))
		if ok != (c != nil) || ok && !must[bool](t)(tree.Here(c)) {
			t.Fatalf("it was taken back: %v, and is kept: %v", ok, c != nil)
		}
		if ok {
			if taken++; isAbsent(tree, ino) {
				if both++; both == 1 {
					wantClean(t, tree, FsckScrub)
					f.set(func() { f.down = true })
					if all(t, tree, ino) != text {
						t.Error("it does not read")
					}
					f.set(func() { f.down = false })
				}
			}
			_, errs := tree.Free([]sharefs.Ino{ino}, func(sharefs.Ino, *Content) error { return nil })
			check(t, errs[0])
		}
	}
	if taken == 0 {
		t.Error("it was never taken back")
	}
	t.Logf("taken back %d times, %d of them while it went", taken, both)
	wantClean(t, tree, FsckScrub)
}
