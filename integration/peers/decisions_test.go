package peers

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"sync"
	"testing"

	"sharefs/integration/mounttest"
)

// operation returns the operation of a command, and how many there are of it, when all have ended.
func (h *host) operation(command string) (id string, n int) {
	h.t.Helper()
	mounttest.WaitFor(h.t, "the end of all operations", func() bool {
		var all []struct {
			ID, Command string
			Ended       bool
		}
		h.do(json.Unmarshal([]byte(h.must("op", "log", "--json", "-n", "0")), &all))
		n = 0
		for _, o := range all {
			if !o.Ended {
				return false
			}
			if o.Command == command {
				id, n = o.ID, n+1
			}
		}
		return true
	})
	return id, n
}

// Of two decisions at once each is an operation of its own, and undoing one leaves what the other one did. Each is done when the command ends.
func TestTwoDecisionsAtOnce(t *testing.T) {
	hs := sharing(t, "anna", "bert", "cleo")
	a, b, c := hs[0], hs[1], hs[2]
	a.must("grant", "cleo", "manage")
	c.must("grant", "anna", "manage")
	for _, h := range []*host{a, c} {
		h.do(os.Mkdir(h.Path(h.name), 0o755))
		for i := range 100 {
			h.write(fmt.Sprintf("%s/%03d", h.name, i), h.name)
		}
	}
	alike(t, "the beginning", hs, func(tree map[string]string) bool {
		return len(tree) == 202 && has(tree, "anna/099", "anna") && has(tree, "cleo/099", "cleo")
	})
	whole, err := b.tree()
	b.do(err)
	for _, h := range []*host{a, c} {
		h.do(os.RemoveAll(h.Path(h.name)))
	}
	mounttest.WaitFor(t, "removals to be held", func() bool {
		n := 0
		for _, h := range b.held() {
			n += h.Removals + h.Before
		}
		return n == 202
	})
	var before map[string]string
	mounttest.WaitFor(t, "those that are not held", func() (done bool) {
		s := b.sync()
		before, err = b.tree()
		return err == nil && len(before) < 190 && s.Waiting == 0
	})

	var both sync.WaitGroup
	for _, name := range []string{"anna", "cleo"} {
		both.Go(func() {
			if out, err := b.tool("held", "reject", name); err != nil {
				t.Errorf("%s: %s, %v", name, out, err)
			}
		})
	}
	both.Wait()
	if tree, err := b.tree(); err != nil || !maps.Equal(tree, whole) {
		t.Errorf("as soon as both are decided: %d, %v", len(tree), err)
	}
	ids := map[string]string{}
	for _, name := range []string{"anna", "cleo"} {
		id, n := b.operation("sharefs held reject " + name)
		if ids[name] = id; n != 1 {
			t.Fatalf("%d operations say that what was held of %s is rejected:\n%s", n, name, b.must("op", "log", "-n", "0"))
		}
	}
	b.must("undo", ids["anna"])
	want := maps.Clone(whole)
	for path := range whole {
		if _, was := before[path]; !was && path[:4] == "anna" {
			delete(want, path)
		}
	}
	if tree, err := b.tree(); err != nil || !maps.Equal(tree, want) {
		t.Errorf("without what was done about anna: %d, not %d, %v", len(tree), len(want), err)
	}
	b.must("undo", ids["cleo"])
	if tree, err := b.tree(); err != nil || !maps.Equal(tree, before) {
		t.Errorf("without both: %d, not %d, %v", len(tree), len(before), err)
	}
}
