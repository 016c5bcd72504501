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
