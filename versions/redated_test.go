package versions

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/internal/keyring"
)

// touch opens a file for writing and sets its time, as touch(1) does, and does something else meanwhile.
func touch(t testing.TB, tree *Tree, ino sharefs.Ino, at sharefs.Time, before, after func(*Handle)) {
	t.Helper()
	h := must[*Handle](t)(tree.Open(ino, unix.O_WRONLY, root))
	if before != nil {
		before(h)
	}
	must[sharefs.Attr](t)(tree.Setattr(ino, &SetAttr{Atime: &at, Mtime: &at}, root))
	if after != nil {
		after(h)
	}
	check(t, h.Close())
	settle(t, tree, ino)
}

const touched = sharefs.Time(1_500_000_000_000_000_001)

// Who opens a file for writing and sets its times alone makes no version, and the one that there is keeps its own time.
func TestTouchIsNoVersion(t *testing.T) {
	dir := t.TempDir()
	tree := testTree(t, dir, byHand)
	ino := save(t, tree, "f", "one")
	capture(t, tree)
	was := must[sharefs.Version](t)(tree.Version(ino, 1))
	for i := range 3 { // also one after the other
		touch(t, tree, ino, touched+sharefs.Time(i), nil, nil)
		capture(t, tree)
	}
	touch(t, tree, ino, touched, func(*Handle) { // and twice while it is open
		must[sharefs.Attr](t)(tree.Setattr(ino, &SetAttr{Mtime: &was.Mtime}, root))
	}, nil)
	capture(t, tree)
	all := wantHistory(t, tree, ino, "one")
	if all[0].Mtime != was.Mtime || !all[0].Live {
		t.Errorf("%+v, was %+v", all[0], was)
	}
	wantMtime(t, tree, "set", ino, mtimeOf{touched, 1, true, false})
	if a := must[sharefs.Attr](t)(tree.Getattr(ino)); a.Mtime != touched || a.Changing {
		t.Errorf("%+v", a)
	}
	wantClean(t, tree, FsckScrub)
	rewrite(t, tree, ino, "two")
	settle(t, tree, ino)
	capture(t, tree)
	wantHistory(t, tree, ino, "one", "two")
	check(t, tree.Close())
	tree = testTree(t, dir, byHand)
	wantHistory(t, tree, ino, "one", "two")
	wantClean(t, tree, FsckScrub)
}

// A touch that comes before the version is captured is captured in the same batch as that one.
func TestTouchBeforeTheCapture(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	ino := save(t, tree, "f", "one")
	touch(t, tree, ino, touched, nil, nil)
	capture(t, tree)
	wantHistory(t, tree, ino, "one")
	wantClean(t, tree, FsckScrub)
}

// Nor where the content before is of another share key, so that the same bytes have other names; other bytes are a version all the same.
func TestTouchUnderAnotherKey(t *testing.T) {
	tree := testTree(t, t.TempDir(), newKeyFile(1).config)
	same, other := save(t, tree, "same", "one"), save(t, tree, "other", "one")
	capture(t, tree)
	must[keyring.Ring](t)(tree.BeginEpoch())
	touch(t, tree, same, touched, nil, nil)
	touch(t, tree, other, touched, nil, func(*Handle) { stealthily(t, tree, other, "two") })
	capture(t, tree)
	wantHistory(t, tree, same, "one")
	wantHistory(t, tree, other, "one", "two")
	eachByItsKey(t, tree)
	wantClean(t, tree, FsckScrub)
}

// A tree that is closed does not wait until two versions of different names are compared, and what was not compared is later.
func TestClosedWhileTouchedIsCompared(t *testing.T) {
	tree := testTree(t, t.TempDir(), newKeyFile(1).config, byHand)
	ino := save(t, tree, "f", "one")
	capture(t, tree)
	must[keyring.Ring](t)(tree.BeginEpoch())
	touch(t, tree, ino, touched, nil, nil)
	h := &tree.past
	h.capturing.Lock()
	b := h.newBatch(h.tools)
	must[bool](t)(b.add(versionID{ino, 2}))
	tree.closed.Store(true)
	err := b.finish()
	tree.closed.Store(false)
	b.lease.end()
	h.capturing.Unlock()
	if !errors.Is(err, errStopped) {
		t.Errorf("it is compared all the same: %v", err)
	}
	capture(t, tree)
	wantHistory(t, tree, ino, "one")
	wantClean(t, tree, FsckScrub)
}

// Whatever is written beside the time is a version, equal or not, and so is what was asked for, or looked at.
func TestTouchAndMore(t *testing.T) {
	write := func(text string) func(*Handle) {
		return func(h *Handle) { writeAll(t, h, text) }
	}
	for what, c := range map[string]struct {
		before, after func(*Handle)
		then          func(*Tree, sharefs.Ino)
		second        string
	}{
		"written before":       {before: write("two"), second: "two"},
		"written after":        {after: write("two"), second: "two"},
		"the same, before":     {before: write("one"), second: "one"},
		"the same, after":      {after: write("one"), second: "one"},
		"asked for":            {then: func(tree *Tree, ino sharefs.Ino) { _, _, err := tree.Commit(ino, "mine"); check(t, err) }, second: "one"},
		"asked for, no note":   {then: func(tree *Tree, ino sharefs.Ino) { _, _, err := tree.Commit(ino, ""); check(t, err) }, second: "one"},
		"described by another": {then: func(tree *Tree, ino sharefs.Ino) { check(t, tree.Describe(ino, 2, "mine")) }, second: "one"},
		"looked at":            {then: func(tree *Tree, _ sharefs.Ino) { must[sharefs.HLC](t)(tree.Snapshot()) }, second: "one"},
	} {
		t.Run(what, func(t *testing.T) {
			tree := testTree(t, t.TempDir(), byHand)
			ino := save(t, tree, "f", "one")
			capture(t, tree)
			touch(t, tree, ino, touched, c.before, c.after)
			if c.then != nil {
				c.then(tree, ino)
			}
			capture(t, tree)
			wantHistory(t, tree, ino, "one", c.second)
			wantClean(t, tree, FsckScrub)
		})
	}
}

// What is written past the daemon while the times are set is found by its content, though no stamp tells of it.
func TestTouchHidesNoWrite(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	ino := save(t, tree, "f", "one")
	capture(t, tree)
	touch(t, tree, ino, touched, nil, func(*Handle) { stealthily(t, tree, ino, "two") })
	capture(t, tree)
	wantHistory(t, tree, ino, "one", "two")
}

// stealthily writes past the daemon to a file that is open, as if it had come between the look at the stamp and utimensat.
func stealthily(t testing.TB, tree *Tree, ino sharefs.Ino, text string) {
	t.Helper()
	fd := must[int](t)(unix.Open(liveFile(tree, ino), unix.O_WRONLY, 0))
	must[int](t)(unix.Pwrite(fd, []byte(text), 0))
	check(t, unix.Close(fd))
	f := tree.files.pin(ino)
	defer tree.files.unpin(f)
	st := must[unix.Stat_t](t)(tree.statBacking(ino))
	f.mu.Lock()
	f.redated = stampOf(&st)
	f.mu.Unlock()
}
