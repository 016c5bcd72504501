package daemon

import (
	"testing"
	"time"

	"sharefs"
	"sharefs/internal/store"
	"sharefs/peers/trust"
	"sharefs/versions"
)

// What somebody has pinned or unpinned counts in the figures as soon as he is answered, however lately it was looked and however long a look takes; what changes without
// him waits its turn.
func TestFiguresAfterAPin(t *testing.T) {
	tree, err := versions.Open(versions.Config{Dir: t.TempDir(), Peer: sharefs.PeerID{7}, Settle: time.Millisecond, Pause: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	d := withPeer(t, trust.Write)
	d.tree = tree
	d.store = &store.Store{}
	d.store.Config.Space.Budget = 1 << 30
	d.startSpace()
	defer d.space.end()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	who := versions.Caller{}
	dir, err := tree.Mkdir(sharefs.RootIno, "dir", 0o755, who)
	must(err)
	make := func(in sharefs.Ino, name string) sharefs.Ino {
		t.Helper()
		a, h, err := tree.Create(in, name, 0o600, 0, who)
		must(err)
		must(h.Close())
		return a.Ino
	}
	f := make(sharefs.RootIno, "f")
	make(dir.Ino, "g")
	slow := func() {
		d.space.figures()
		d.space.mu.Lock()
		d.space.looked, d.space.took = time.Now(), time.Hour
		d.space.mu.Unlock()
	}
	pinned := func(want int) {
		t.Helper()
		if r := d.space.figures(); r == nil || r.PinnedFiles != want {
			t.Errorf("%+v, not %d pinned", r, want)
		}
		slow()
	}
	slow()
	pinned(0)
	must(tree.Setxattr(f, versions.XattrPin, []byte(versions.PinHere), 0))
	pinned(1)
	must(tree.Setxattr(dir.Ino, versions.XattrPin, []byte(versions.PinHere), 0))
	must(tree.PinsSettled(nil))
	pinned(2)
	make(dir.Ino, "h")
	pinned(2) // for an hour
	must(tree.Removexattr(f, versions.XattrPin))
	pinned(2) // g and h
	must(tree.Removexattr(dir.Ino, versions.XattrPin))
	must(tree.PinsSettled(nil))
	pinned(0)
}
