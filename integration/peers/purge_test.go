package peers

import (
	"maps"
	"os"
	"strings"
	"testing"

	"sharefs/integration/mounttest"
)

// What a peer did is taken back with its trust, on all hosts, as one operation that can be undone.
func TestPurge(t *testing.T) {
	hs := sharing(t, "anna", "bert", "cleo")
	a, b, c := hs[0], hs[1], hs[2]
	a.write("edited", "by anna")
	a.write("removed", "by anna")
	a.do(os.Mkdir(a.Path("d"), 0o755))
	alike(t, "the beginning", hs, func(tree map[string]string) bool {
		return has(tree, "edited", "by anna") && has(tree, "removed", "by anna") && len(tree) == 3
	})
	before, err := a.tree()
	a.do(err)
	b.write("edited", "by bert")
	b.do(os.Remove(b.Path("removed")))
	b.write("d/new", "by bert")
	alike(t, "what bert did", hs, func(tree map[string]string) bool {
		return has(tree, "edited", "by bert") && has(tree, "d/new", "by bert") && len(tree) == 3
	})
	after, err := a.tree()
	a.do(err)
	if out := a.must("revoke", "bert", "--purge", "--dry-run"); !strings.Contains(out, "removed     d/new\n") || !strings.Contains(out, "restored    removed\n") || !strings.Contains(out, "content     edited\n") {
		t.Errorf("%s", out)
	}
	if p := a.peer("bert"); p.Level != "write" {
		t.Errorf("a dry run: %+v", p)
	}
	if out := a.must("revoke", "bert", "--purge"); !strings.Contains(out, "bert is blocked.\nWhat it has received it knows for ever.") || !strings.Contains(out, "3 changes") {
		t.Errorf("%s", out)
	}
	if tree, err := a.tree(); err != nil || !maps.Equal(tree, before) {
		t.Errorf("as soon as it is said to be taken back: %v, %v", tree, err)
	}
	if !a.did("sharefs --purge of bert") {
		t.Errorf("no operation says so:\n%s", a.must("op", "log"))
	}
	alike(t, "the tree without bert", []*host{a, c}, func(tree map[string]string) bool { return maps.Equal(tree, before) })
	a.must("undo")
	alike(t, "the tree with what bert did", []*host{a, c}, func(tree map[string]string) bool { return maps.Equal(tree, after) })
	for _, h := range []*host{a, c} {
		mounttest.WaitFor(t, "no conflict on "+h.name, func() bool { return len(h.conflicts()) == 0 })
	}
	// What the revoked one does since comes by others, and is no problem: it was chosen.
	b.write("since", "by bert")
	mounttest.WaitFor(t, "word of what is left out", func() bool { return strings.Contains(a.must("peers"), "by bert, which is revoked here, came by cleo") })
	for _, p := range a.Status().Problems {
		if strings.Contains(p, "bert") || strings.Contains(p, "sharefs pair") {
			t.Error(p)
		}
	}
}
