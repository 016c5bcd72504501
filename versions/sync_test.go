package versions

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// A program that opens a file with O_SYNC needs no fsync: under passthrough nobody sees its writes, so that all that leads to them has to be on
// disk before; where they are served each is followed by a sync.
func TestSynchronousHandles(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand, func(c *Config) { c.MaxDelay = time.Hour })
	plain := must[sharefs.Attr](t)(tree.Mkdir(sharefs.RootIno, "plain", 0o755, root))
	unsynced := func() uint64 {
		last := tree.lastSeq.Load() // boundaries, which come by themselves, do not count
		return last - min(last, tree.db.Stats().Synced)
	}
	if unsynced() == 0 {
		t.Fatal("everything is synced anyway")
	}
	a, h, err := tree.Create(plain.Ino, "f", unix.O_WRONLY|unix.O_SYNC, 0o644, root)
	check(t, err)
	if n := unsynced(); n != 0 {
		t.Errorf("%d commits are not synced after a create with O_SYNC", n)
	}
	must[sharefs.Attr](t)(tree.Setattr(a.Ino, &SetAttr{Mode: ptr(uint32(0o600))}, root))
	writeAll(t, h, "one")
	if n := unsynced(); n != 0 {
		t.Errorf("%d commits are not synced after a write with O_SYNC", n)
	}
	check(t, h.Close())
	settle(t, tree, a.Ino)
	check(t, tree.unmark())
	h = must[*Handle](t)(tree.Open(a.Ino, unix.O_RDWR|unix.O_DSYNC, root))
	if n := unsynced(); n != 0 {
		t.Errorf("%d commits are not synced after an open with O_DSYNC", n)
	}
	check(t, h.Close())
	r := must[*Handle](t)(tree.Open(a.Ino, unix.O_RDONLY|unix.O_SYNC, root))
	if r.syncs() {
		t.Error("a reader syncs")
	}
	check(t, r.Close())
}
