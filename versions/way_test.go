package versions

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// TestTheWayOfAFile: what has the attribute, or was made in a directory that has it, is served; and all who have a file open at a time go one way.
func TestTheWayOfAFile(t *testing.T) {
	dir := t.TempDir()
	tree := testTree(t, dir, byHand, inParts)
	open := func(ino sharefs.Ino, flags uint32) *Handle { return must[*Handle](t)(tree.Open(ino, flags, root)) }
	want := func(h *Handle, served, joined bool) {
		t.Helper()
		if h.Served() != served || h.Joined() != joined {
			t.Errorf("served %v, joined %v", h.Served(), h.Joined())
		}
	}
	plain := save(t, tree, "plain", "1")
	h := open(plain, unix.O_RDONLY)
	want(h, false, false)
	check(t, h.Close())

	d := must[sharefs.Attr](t)(tree.Mkdir(sharefs.RootIno, "d", 0o755, root)).Ino
	wantKind(t, tree.Setxattr(d, XattrTrack, []byte("yes"), 0), sharefs.KindInvalid)
	check(t, tree.Setxattr(d, XattrTrack, []byte(TrackRanges), 0))
	sub := must[sharefs.Attr](t)(tree.Mkdir(d, "sub", 0o755, root)).Ino
	a, h, err := tree.Create(sub, "f", unix.O_RDWR, 0o644, root)
	check(t, err)
	want(h, true, false)
	if v := must[[]byte](t)(tree.Getxattr(a.Ino, XattrTrack)); string(v) != TrackRanges {
		t.Errorf("the file has %q", v)
	}
	check(t, h.Close())

	// The attribute comes and goes: it takes effect when nobody has the file open and it is at rest.
	check(t, tree.Setxattr(plain, XattrTrack, []byte(TrackRanges), 0))
	first := open(plain, unix.O_RDWR)
	want(first, true, false)
	check(t, tree.Removexattr(plain, XattrTrack))
	second := open(plain, unix.O_RDONLY)
	want(second, true, true)
	check(t, first.Close())
	third := open(plain, unix.O_RDWR)
	want(third, true, true)
	check(t, second.Close())
	check(t, third.Close())
	h = open(plain, unix.O_RDONLY) // not at rest yet
	want(h, true, false)
	check(t, h.Close())
	settle(t, tree, plain)
	h = open(plain, unix.O_RDWR)
	want(h, false, false)
	check(t, tree.Setxattr(plain, XattrTrack, []byte(TrackRanges), 0))
	check(t, h.Close())
	h = open(plain, unix.O_RDWR) // somebody may have it mapped
	want(h, false, false)
	check(t, h.Close())

	// What a killed daemon left behind may have been passed through, to somebody who writes to it still.
	killed := storeAsKilled(t, dir)
	survivor, err := os.OpenFile(filepath.Join(killed, "live", (&liveDir{}).name(plain)), os.O_RDWR, 0)
	check(t, err)
	tree = testTree(t, killed, byHand, inParts)
	h = open(plain, unix.O_RDONLY)
	want(h, false, false)
	check(t, h.Close())
	check(t, survivor.Close())
	settle(t, tree, plain)
	h = open(plain, unix.O_RDONLY)
	want(h, true, false)
	check(t, h.Close())
}

// TestLargeFilesRest: a file whose capture took long rests for a multiple of that, and others do not.
func TestLargeFilesRest(t *testing.T) {
	var c costs
	began := time.Now()
	c.note(1, time.Minute)
	c.note(2, time.Millisecond)
	c.note(3, 100*time.Hour)
	if at := c.rests(1); at.Before(began.Add(restsLarge*time.Minute)) || at.After(time.Now().Add(restsLarge*time.Minute)) {
		t.Errorf("rests until %v", at)
	}
	if at := c.rests(2); !at.IsZero() {
		t.Errorf("a file that took a moment rests until %v", at)
	}
	if at := c.rests(3); at.After(time.Now().Add(longRest)) {
		t.Errorf("rests until %v", at)
	}
	c.note(1, time.Millisecond)
	if at := c.rests(1); !at.IsZero() {
		t.Errorf("rests until %v", at)
	}
	for ino := range sharefs.Ino(3 * maxCosts) {
		c.note(ino, time.Second)
	}
	if len(c.rest) > maxCosts {
		t.Errorf("%d files are remembered", len(c.rest))
	}
}

// TestChangesThatAreNotSeen: a file that is about to be cut while somebody begins to have it passed through is not one whose changes are known.
func TestChangesThatAreNotSeen(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand, inParts)
	ino := save(t, tree, "large", strings.Repeat("large ", 1<<20))
	check(t, tree.Setxattr(ino, XattrTrack, []byte(TrackRanges), 0))
	f := tree.files.pin(ino)
	defer tree.files.unpin(f)
	check(t, must[*Handle](t)(tree.Open(ino, unix.O_RDONLY, root)).Close()) // decides the way
	st, err := tree.statBacking(ino)
	check(t, err)
	tree.followChanges(f, stampOf(&st))
	if f.changes.Load() == nil {
		t.Fatal("the changes of a file that is served are not followed")
	}
	check(t, tree.Removexattr(ino, XattrTrack))
	h := &Handle{t: tree, f: f}
	leave := tree.enter(h, must[*row](t)(tree.row(ino)), false)
	defer leave()
	if h.Served() || f.changes.Load() != nil {
		t.Error("the file is passed through, and its changes are taken for known")
	}
	if tree.followChanges(f, stampOf(&st)); f.changes.Load() != nil {
		t.Error("the changes of a file that is passed through are followed")
	}
}

// TestDifferencesOfNumbersThatWereUsed: what is known of a version that is gone says nothing of the one that has its number then.
func TestDifferencesOfNumbersThatWereUsed(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand, inParts)
	h := &tree.past
	ino := save(t, tree, "large", strings.Repeat("large ", 1<<20))
	id := versionID{ino, 2}
	h.changes.put(id, difference{since: 1})
	rewrite(t, tree, ino, strings.Repeat("other ", 1<<20))
	settle(t, tree, ino)
	if _, known := h.changedSince(id, 1); known {
		t.Error("the difference of another version is taken for its own")
	}
	if h.changes.runs != 0 {
		t.Errorf("%d runs are counted", h.changes.runs)
	}
}

// TestReferenceToAnotherContent: a clone of what a version does not hold does not become its reference.
func TestReferenceToAnotherContent(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand, inParts)
	h := &tree.past
	ino := save(t, tree, "large", strings.Repeat("large ", 1<<20))
	capture(t, tree)
	id := versionID{ino, 1}
	v := must[*version](t)(loadVersion(tree.db, id.ino, id.own))
	other := manifest{level: v.top.level, spans: v.top.spans[:len(v.top.spans)-1]}
	for _, top := range []manifest{other, v.top} {
		fd, err := h.aside.create(referencePart(id))
		check(t, err)
		check(t, unix.Close(fd))
		check(t, h.keepReference(id, h.mark(&top)))
		if is := h.refs.own(ino) == 1; is != (len(top.spans) == len(v.top.spans)) {
			t.Errorf("reference %v, with %d of %d spans", is, len(top.spans), len(v.top.spans))
		}
		if n, _ := h.refs.count(); len(asideFiles(t, tree)) != n {
			t.Errorf("set aside are %v", asideFiles(t, tree))
		}
	}
}
