package replica

import (
	"bytes"
	"crypto/ed25519"
	"testing"
	"time"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// Who may write, but not remove in bulk, cannot make files of directories either, so that all goes that is in them: that waits for the owner, whatever else is said, and a no ends it.
func TestAnotherTypeIsHeld(t *testing.T) {
	for _, accept := range []bool{false, true} {
		w := newWard(t)
		self := newPen()
		self.key = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, ed25519.SeedSize))
		w.rep.cfg.Self, w.rep.cfg.Key, w.rep.cfg.Where = self.author(), self.key, nil
		w.load()
		w.rep.cfg.Bulk = func(author sharefs.PeerID) (b Bulk) {
			if author == w.bert.author() {
				b = Bulk{Files: 100, Percent: 50, Least: 20, Within: time.Minute}
			}
			return b
		}
		w.filled()
		is := func(path string, want record.Type) {
			t.Helper()
			if n := w.rep.tree.Result()[path]; n.Type != want {
				t.Errorf("%s is %v, not %v", path, n.Type, want)
			}
		}
		b := w.bert
		later := b.now
		b.now = 1 // before all
		b.place(converge.Key{File: sharefs.FileID{1}}, record.Regular, "top")
		w.tell(b)
		is("top", record.Directory)
		b.now = later
		b.place(converge.Key{File: sharefs.FileID{1}}, record.Directory, "top2") // which comes after it, and waits as well
		b.place(converge.Key{File: sharefs.FileID{50}}, record.Regular, "top")
		w.tell(b)
		w.meet()
		w.owner.tree = b.tree
		w.owner.now = b.now
		w.owner.place(converge.Key{File: sharefs.FileID{1}}, record.Directory, "top3")
		w.tell(w.owner)
		is("top3/in/open", record.Regular)
		w.load()
		list, err := w.rep.Holds(10)
		if err != nil || len(list) != 1 || list[0].Author != b.author() || list[0].Renames != 1 {
			t.Fatalf("%+v %v", list, err)
		}
		decide := w.rep.RejectHeld
		if accept {
			decide = w.rep.AcceptHeld
		}
		if _, err := decide(nil, b.author()); err != nil {
			t.Fatal(err)
		}
		if list, err = w.rep.Holds(10); err != nil || len(list) != 0 {
			t.Fatalf("%+v %v", list, err)
		}
		if _, there := w.rep.tree.Result()["top3/in/open"]; there == accept {
			t.Errorf("accepted %v, and what is in it is there: %v", accept, there)
		}
	}
}
