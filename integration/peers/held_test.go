package peers

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"sharefs/integration/mounttest"
	"sharefs/peers/report"
)

func (h *host) held() (all []report.Held) {
	h.t.Helper()
	if err := json.Unmarshal([]byte(h.ctl("held.json")), &all); err != nil {
		h.t.Fatal(err)
	}
	return all
}

// holds waits for a number of removals and renames to be held.
func (h *host) holds(n int) {
	h.t.Helper()
	mounttest.WaitFor(h.t, fmt.Sprintf("%d to be held by %s", n, h.name), func() bool {
		all := h.held()
		return n == 0 && len(all) == 0 || len(all) == 1 && all[0].Removals+all[0].Renames == n
	})
}

// Whoever removes much at once waits for the owner, who lets it count, or has it all back on all hosts.
func TestBulkRemovalsAreHeld(t *testing.T) {
	hs := sharing(t, "anna", "bert", "cleo")
	a, b, c := hs[0], hs[1], hs[2]
	b.must("grant", "cleo", "manage")
	c.must("grant", "anna", "manage")
	fill := func(dir string) func(map[string]string) bool {
		a.do(os.Mkdir(a.Path(dir), 0o755))
		for i := range 150 {
			a.write(fmt.Sprintf("%s/%03d", dir, i), dir)
		}
		return func(tree map[string]string) bool {
			for i := range 150 {
				if !has(tree, fmt.Sprintf("%s/%03d", dir, i), dir) {
					return false
				}
			}
			return true
		}
	}
	all := fill("one")
	alike(t, "150 files", hs, all)
	a.do(os.RemoveAll(a.Path("one")))
	alike(t, "their removal where it is not held", []*host{a, c}, func(tree map[string]string) bool { return len(tree) == 0 })
	// Ten per cent of the tree of so few are less than 20, which anybody may remove.
	b.holds(131)
	if h := b.held()[0]; h.Peer != "anna" || h.Before != 20 || len(h.Names) != 131 || h.Names[0].Type != "directory" {
		t.Errorf("%+v", h)
	}
	mounttest.WaitFor(t, "the status to say so", func() bool {
		s := b.Status()
		return len(s.Problems) == 1 && strings.Contains(s.Problems[0], "sharefs held")
	})
	if out := b.must("peers"); !strings.Contains(out, "131 of its removals and renames wait for you") {
		t.Error(out)
	}
	if out := b.must("held"); !strings.Contains(out, "anna: 131 removals since") || !strings.Contains(out, "and 123 more") || !strings.Contains(out, "sharefs held reject anna") {
		t.Error(out)
	}
	if out, err := b.tool("held", "accept", "cleo"); err == nil || !strings.Contains(err.Error(), "something of anna") {
		t.Errorf("%s, %v", out, err)
	}
	b.Kill()
	b.Mount.Mount()
	b.holds(131)
	a.write("meanwhile", "goes on")
	mounttest.WaitFor(t, "what else comes", func() bool { tree, err := b.tree(); return err == nil && has(tree, "meanwhile", "goes on") })
	b.must("held", "accept", "anna")
	if tree, err := b.tree(); err != nil || len(tree) != 1 {
		t.Errorf("as soon as it is accepted: %d, %v", len(tree), err)
	}
	alike(t, "what is accepted", hs, func(tree map[string]string) bool { return len(tree) == 1 })
	b.holds(0)

	all = fill("two")
	alike(t, "150 files again", hs, all)
	a.write("meanwhile.tmp", "is saved")
	alike(t, "what is to be saved", hs, func(tree map[string]string) bool { return has(tree, "meanwhile.tmp", "is saved") })
	a.do(os.Rename(a.Path("meanwhile.tmp"), a.Path("meanwhile")))
	alike(t, "what is saved", hs, func(tree map[string]string) bool { return len(tree) == 152 && has(tree, "meanwhile", "is saved") })
	a.do(os.RemoveAll(a.Path("two")))
	alike(t, "their removal where it is not held", []*host{a, c}, func(tree map[string]string) bool { return len(tree) == 1 })
	b.holds(131)
	b.must("held", "reject", "anna")
	if tree, err := b.tree(); err != nil || len(tree) != 152 {
		t.Errorf("as soon as it is rejected: %d, %v", len(tree), err)
	}
	alike(t, "what is put back", hs, func(tree map[string]string) bool {
		return len(tree) == 152 && all(tree) && has(tree, "meanwhile", "is saved")
	})
	for _, h := range hs {
		mounttest.WaitFor(t, "nothing to be left to do on "+h.name, func() bool {
			return len(h.Status().Problems)+len(h.held())+len(h.conflicts()) == 0
		})
	}
	if out := b.must("held"); out != "Nothing is held.\n" {
		t.Error(out)
	}
	if !b.did("sharefs held reject anna") { // what is accepted is anna's
		t.Errorf("no operation says so:\n%s", b.must("op", "log", "-n", "0"))
	}
}

// What a peer with the level manage removes waits for nobody, and is brought back as a whole, on all hosts, by undoing what came from it.
func TestManageIsNotHeld(t *testing.T) {
	hs := sharing(t, "anna", "bert")
	a, b := hs[0], hs[1]
	if out := b.must("grant", "anna", "manage"); !strings.Contains(out, "does not wait for you (sharefs held)") {
		t.Errorf("%s", out)
	}
	a.do(os.Mkdir(a.Path("d"), 0o755))
	for i := range 150 {
		a.write(fmt.Sprintf("d/%03d", i), "of anna")
	}
	whole := func(tree map[string]string) bool {
		for i := range 150 {
			if !has(tree, fmt.Sprintf("d/%03d", i), "of anna") {
				return false
			}
		}
		return true
	}
	alike(t, "150 files", hs, whole)
	_, made := b.cameFrom("anna", "")
	a.do(os.RemoveAll(a.Path("d")))
	alike(t, "their removal on both", hs, func(tree map[string]string) bool { return len(tree) == 0 })
	if all := b.held(); len(all) != 0 {
		t.Errorf("%+v", all)
	}
	n, _ := b.cameFrom("anna", made)
	for range n {
		b.must("undo", "--by", "anna")
	}
	alike(t, "what was removed", hs, whole)
}

// did reports whether a host lists an operation of a command.
func (h *host) did(command string) bool {
	h.t.Helper()
	for line := range strings.Lines(h.must("op", "log", "-n", "0")) {
		if strings.Contains(line, "  "+command+"  ") {
			return true
		}
	}
	return false
}
