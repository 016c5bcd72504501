package peers

import (
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"

	"sharefs/integration/mounttest"
)

// Two hosts that revoke a third one at different moments come to one tree, whichever of them hears of the other's revocation first, also after a restart; and it can be undone. A fourth one, that trusts it
// still, says that they have revoked it, and goes on.
func TestRevokedAtDifferentMoments(t *testing.T) {
	hs := sharing(t, "anna", "bert", "cleo", "dora")
	a, b, c, d := hs[0], hs[1], hs[2], hs[3]
	a.write("f", "by anna")
	a.write("removed", "by anna")
	b.write("before", "by bert")
	alike(t, "the beginning", hs, func(tree map[string]string) bool {
		return has(tree, "f", "by anna") && has(tree, "removed", "by anna") && has(tree, "before", "by bert") && len(tree) == 3
	})
	before, err := a.tree()
	a.do(err)
	a.must("revoke", "bert")
	b.write("f", "by bert")
	b.write("new", "by bert")
	b.do(os.Remove(b.Path("removed")))
	others := []*host{c, d}
	alike(t, "what cleo and dora take of bert", others, func(tree map[string]string) bool {
		return has(tree, "f", "by bert") && has(tree, "new", "by bert") && len(tree) == 3
	})
	after, err := c.tree()
	a.do(err)
	// Who trusts it is told, and does nothing.
	says := func(h *host, text string) bool {
		return strings.Contains(h.must("peers"), text) && strings.Contains(h.must("trust", "explain", "bert", "f"), text)
	}
	for _, h := range others {
		mounttest.WaitFor(t, h.name+" says that anna revoked it", func() bool { return says(h, "anna revoked bert on ") && says(h, "sharefs revoke bert does it here") })
		if p := h.peer("bert"); len(p.Cuts) != 1 || p.Cuts[0].By != "anna" || p.Level != "write" {
			t.Errorf("%+v", p)
		}
	}
	out := c.must("revoke", "bert")
	if !strings.Contains(out, "What bert did past where anna revoked it is taken back: 3 changes. sharefs undo brings back what it did.") {
		t.Error(out)
	}
	if tree, err := c.tree(); err != nil || !maps.Equal(tree, before) {
		t.Errorf("%v, %v", tree, err)
	}
	trusting := []*host{a, c, d} // d hears what c says
	alike(t, "the tree up to the first revocation", trusting, func(tree map[string]string) bool { return maps.Equal(tree, before) })
	c.Remount()
	alike(t, "after a restart", trusting, func(tree map[string]string) bool { return maps.Equal(tree, before) })
	if !c.did("sharefs revoke --cut of bert") {
		t.Errorf("no operation says so:\n%s", c.must("op", "log"))
	}
	c.must("undo")
	alike(t, "what was taken back is undone", trusting, func(tree map[string]string) bool { return maps.Equal(tree, after) })
	// Whom the host trusts again that revoked it first it does not speak against.
	a.must("grant", "bert", "write")
	mounttest.WaitFor(t, "anna's word is taken back", func() bool { p := d.peer("bert"); return len(p.Cuts) == 1 && p.Cuts[0].By == "cleo" })
	for _, h := range trusting {
		mounttest.WaitFor(t, "no conflict on "+h.name, func() bool { return len(h.conflicts()) == 0 })
	}
}

// What is past a cut and more than a host takes back by itself stays until somebody says so.
func TestMuchPastACut(t *testing.T) {
	hs := sharing(t, "anna", "bert", "cleo")
	a, b, c := hs[0], hs[1], hs[2]
	a.write("f", "by anna")
	alike(t, "the beginning", hs, func(tree map[string]string) bool { return len(tree) == 1 })
	a.must("revoke", "bert")
	for i := range 30 {
		b.write(fmt.Sprintf("new%d", i), "by bert")
	}
	alike(t, "what cleo takes of bert", []*host{b, c}, func(tree map[string]string) bool { return len(tree) == 31 })
	c.must("revoke", "bert")
	problem := func() bool {
		for _, p := range c.Status().Problems {
			if strings.Contains(p, "30 changes by bert are past where anna revoked it") && strings.Contains(p, "sharefs revoke bert --cut") {
				return true
			}
		}
		return false
	}
	mounttest.WaitFor(t, "the problem", problem)
	if tree, err := c.tree(); err != nil || len(tree) != 31 {
		t.Fatalf("%v, %v", tree, err)
	}
	if out := c.must("revoke", "bert", "--cut", "--dry-run"); !strings.Contains(out, "Would take back what bert did past where anna revoked it: 30 changes.") || !problem() {
		t.Error(out)
	}
	if out := c.must("revoke", "bert", "--cut"); !strings.Contains(out, "What bert did past where anna revoked it is taken back: 30 changes.") {
		t.Error(out)
	}
	mounttest.WaitFor(t, "no problem", func() bool { return !problem() })
	alike(t, "one tree", []*host{a, c}, func(tree map[string]string) bool { return len(tree) == 1 })
}

// The revocation of another host counts also where it comes behind that of this one, and as soon as the other host counts.
func TestARevocationComesLater(t *testing.T) {
	hs := sharing(t, "anna", "bert", "cleo")
	a, b, c := hs[0], hs[1], hs[2]
	a.write("f", "by anna")
	alike(t, "the beginning", hs, func(tree map[string]string) bool { return len(tree) == 1 })
	before, err := a.tree()
	a.do(err)
	c.must("grant", "anna", "blocked")
	a.must("revoke", "bert")
	b.write("f", "by bert")
	b.write("new", "by bert")
	alike(t, "what cleo takes of bert", []*host{b, c}, func(tree map[string]string) bool {
		return len(tree) == 2 && has(tree, "f", "by bert") && has(tree, "new", "by bert")
	})
	if out := c.must("revoke", "bert"); strings.Contains(out, "taken back") {
		t.Error(out)
	}
	c.must("grant", "anna", "write")
	alike(t, "the tree up to the first revocation", []*host{a, c}, func(tree map[string]string) bool { return maps.Equal(tree, before) })
	c.must("undo")
	alike(t, "what was taken back is undone", []*host{a, c}, func(tree map[string]string) bool { return len(tree) == 2 && has(tree, "f", "by bert") })
}
