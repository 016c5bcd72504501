package versions

import (
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

	// What a killed daemon left behind may have been passed through.
	killed := storeAsKilled(t, dir)
	tree = testTree(t, killed, byHand, inParts)
	h = open(plain, unix.O_RDONLY)
	want(h, false, false)
	check(t, h.Close())
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
