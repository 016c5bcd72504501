package peers

import (
	"encoding/json"
	"maps"
	"os"
	"strings"
	"testing"

	"sharefs/integration/mounttest"
)

// cameFrom waits until the last operation of a peer has ended, and returns how many there are since one, and the last. On a slow machine what a peer does in a moment may come in several.
func (h *host) cameFrom(peer, since string) (n int, last string) {
	h.t.Helper()
	mounttest.WaitFor(h.t, "the end of what "+peer+" did", func() bool {
		var all []struct {
			ID, Author string
			Ended      bool
		}
		h.do(json.Unmarshal([]byte(h.must("op", "log", "--json")), &all))
		n, last = 0, ""
		ended := false
		for _, o := range all {
			if o.Author != peer {
				continue
			}
			if o.ID == since {
				break
			}
			if n++; n == 1 {
				last, ended = o.ID, o.Ended
			}
		}
		return ended
	})
	return n, last
}

// What a peer changed is an operation of that peer, which can be undone: the tree is as it was before, on both hosts.
func TestUndoWhatAPeerDid(t *testing.T) {
	hs := sharing(t, "anna", "bert")
	a, b := hs[0], hs[1]
	a.do(os.Mkdir(a.Path("d"), 0o755))
	a.write("d/one", "1")
	a.write("d/two", "2")
	b.write("kept", "by bert")
	alike(t, "the beginning", hs, func(tree map[string]string) bool {
		return has(tree, "d/one", "1") && has(tree, "d/two", "2") && has(tree, "kept", "by bert")
	})
	_, first := b.cameFrom("anna", "")
	before, err := b.tree()
	b.do(err)
	a.do(os.RemoveAll(a.Path("d")))
	a.write("kept", "by anna")
	a.write("new", "by anna")
	alike(t, "what anna did", hs, func(tree map[string]string) bool {
		return has(tree, "kept", "by anna") && has(tree, "new", "by anna") && len(tree) == 2
	})
	n, _ := b.cameFrom("anna", first)
	if out := b.must("op", "log"); !strings.Contains(out, "  by anna  ") {
		t.Errorf("%s", out)
	}
	if out := b.must("find", "--deleted"); !strings.Contains(out, "d") {
		t.Errorf("%s", out)
	}
	if trash, err := os.ReadDir(b.Path(".share/trash")); err != nil || len(trash) == 0 {
		t.Errorf("the trash: %v, %v", trash, err)
	}
	if out := b.must("undo", "--by", "anna", "--dry-run"); !strings.Contains(out, "what came from anna") {
		t.Errorf("%s", out)
	}
	for i := range n {
		if out := b.must("undo", "--by", "anna"); i < n-1 && !strings.Contains(out, "Still there: ") {
			t.Errorf("%d of %d: %s", i, n, out)
		}
	}
	now, err := b.tree()
	if err != nil || !maps.Equal(now, before) {
		t.Errorf("%q, %v, want %q", now, err, before)
	}
	alike(t, "what was before", hs, func(tree map[string]string) bool { return maps.Equal(tree, before) })
	for range n {
		b.must("redo", "--by", "anna")
	}
	alike(t, "what anna did, again", hs, func(tree map[string]string) bool {
		return has(tree, "kept", "by anna") && has(tree, "new", "by anna") && len(tree) == 2
	})
	for _, h := range hs {
		mounttest.WaitFor(t, "no conflict on "+h.name, func() bool { return len(h.conflicts()) == 0 })
	}
}

// What one host put into a directory that another one had made a moment before is its own: undoing what came from the one leaves it, and says so.
func TestUndoLeavesWhatAnotherPutThere(t *testing.T) {
	hs := sharingWith(t, "[versions]\npause = \"10m\"\n", "anna", "bert", "cleo") // what one does is one operation, however slow the machine is
	a, b, c := hs[0], hs[1], hs[2]
	both := func(tree map[string]string) bool {
		return has(tree, "d/of anna", "1") && has(tree, "d/of bert", "2") && has(tree, "later", "1") && len(tree) == 4
	}
	a.do(os.Mkdir(a.Path("d"), 0o755))
	a.write("d/of anna", "1")
	mounttest.WaitFor(t, "the directory", func() bool { _, err := os.Lstat(b.Path("d/of anna")); return err == nil })
	b.write("d/of bert", "2")
	mounttest.WaitFor(t, "what bert put there", func() bool {
		_, there := os.Lstat(a.Path("d/of bert"))
		_, err := os.Lstat(c.Path("d/of bert"))
		return there == nil && err == nil
	})
	a.write("later", "1")
	alike(t, "what both did", hs, both)
	if out, err := c.tool("undo", "--by", "anna"); err == nil || !strings.Contains(err.Error(), "what does not belong to what came from anna: 'd/of bert'; nothing was done") {
		t.Fatalf("%s, %v", out, err)
	}
	c.must("undo", "--by", "bert")
	if tree, err := c.tree(); err != nil || len(tree) != 3 || !has(tree, "d/of anna", "1") {
		t.Errorf("without what bert did: %q, %v", tree, err)
	}
	c.must("undo", "--by", "anna")
	c.must("redo", "--by", "anna")
	c.must("redo", "--by", "bert")
	alike(t, "what both did, again", hs, both)
	if out := c.must("undo", "--by", "anna", "--force"); !strings.Contains(out, "Undone: ") {
		t.Error(out)
	}
	alike(t, "neither, where that is forced", hs, func(tree map[string]string) bool { return len(tree) == 0 })
}
