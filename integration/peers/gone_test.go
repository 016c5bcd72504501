package peers

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"sharefs/integration/mounttest"
)

// Who joins after a host has left does not get what that one wrote, for nothing of it counts there; the grant says so, with the one command that has it come, on this
// host alone, without that host being let in.
func TestWhoJoinsAfterAHostHasLeft(t *testing.T) {
	hs := hosts(t, "", "anna", "bert", "cleo")
	a, b, c := hs[0], hs[1], hs[2]
	pairByLink(t, a, b)
	a.must("grant", "bert", "write")
	b.must("grant", "anna", "write")
	b.write("by bert", "first")
	b.write("removed", "by bert")
	b.write("both", "by bert")
	a.write("by anna", "x")
	alike(t, "the beginning", hs[:2], func(tree map[string]string) bool { return len(tree) == 4 })
	b.write("by bert", "second")
	a.write("both", "by anna")
	a.must("commit", "both")
	alike(t, "changes", hs[:2], func(tree map[string]string) bool {
		return has(tree, "by bert", "second") && has(tree, "both", "by anna")
	})
	id := b.id()
	short, _, _ := strings.Cut(id, "-")
	b.Unmount()
	a.must("peers", "forget", "bert")

	pairByLink(t, a, c)
	a.must("grant", "cleo", "write")
	command := "sharefs peers gone " + short
	if out := c.must("grant", "anna", "write"); !strings.Contains(out, " left out: ") || !strings.Contains(out, command) {
		t.Errorf("%s", out)
	}
	mounttest.WaitFor(t, "cleo to say what it lacks", func() bool {
		return strings.Contains(strings.Join(c.Status().Problems, "\n"), command)
	})
	alike(t, "what anna wrote", []*host{c}, func(tree map[string]string) bool { return has(tree, "by anna", "x") && tree["by bert"] == "" })
	if _, err := c.tool("peers", "gone", "anna"); err == nil || !strings.Contains(err.Error(), "it is connected, so it is not gone: sharefs revoke anna") {
		t.Errorf("%v", err)
	}
	if _, err := c.tool("peers", "gone", c.id()); err == nil || !strings.Contains(err.Error(), "it is this host") {
		t.Errorf("%v", err)
	}
	if _, err := c.tool("peers", "gone", "nobody"); err == nil {
		t.Error("nobody is gone")
	}
	if out := c.must("peers", "gone", short, "--name", "bert"); !strings.HasPrefix(out, "bert is gone: what it wrote counts here, and nobody who has its key is let in.\n") {
		t.Errorf("%s", out)
	}
	alike(t, "one tree", []*host{a, c}, func(tree map[string]string) bool {
		return has(tree, "by bert", "second") && has(tree, "removed", "by bert") && has(tree, "both", "by anna")
	})
	mounttest.WaitFor(t, "no problem", func() bool { return len(c.Status().Problems) == 0 })
	if p := c.peer("bert"); p.Level != "former" || p.ID != id {
		t.Errorf("%+v", p)
	}
	if out := c.must("peers"); !strings.Contains(out, "gone: what it wrote counts here") {
		t.Errorf("%s", out)
	}
	if out := c.must("trust", "explain", "bert", "/by bert"); !strings.HasPrefix(out, "former: ") {
		t.Errorf("%s", out)
	}

	// It is not let in, though it comes back and knows cleo; and this outlasts a kill.
	c.Kill()
	c.Mount.Mount()
	b.Mount.Mount()
	b.must("pair", c.id(), address(t, c), "--name", "cleo")
	b.must("grant", "cleo", "write")
	b.write("later", "by bert")
	mounttest.WaitFor(t, "bert to be refused", func() bool { return b.peer("cleo").Error != "" })
	if p := c.peer("bert"); p.Connected || b.peer("cleo").Connected {
		t.Errorf("%+v", p)
	}
	connected(t, a, c)
	a.write("last", "by anna")
	alike(t, "one tree still", []*host{a, c}, func(tree map[string]string) bool { return has(tree, "last", "by anna") && tree["later"] == "" })

	// Paired again it is a peer as any.
	if out, err := c.feed(b.must("pair", "--link"), "pair", "-"); err != nil || !strings.Contains(out, "Paired with bert again, which was paired before; its level is paired.") {
		t.Errorf("%s, %v", out, err)
	}
	if p := c.peer("bert"); p.Level != "paired" || p.Lost {
		t.Errorf("%+v", p)
	}

	// What a revoked one signed since is not had count by the way.
	c.must("revoke", "bert")
	b.Unmount()
	mounttest.WaitFor(t, "bert to be away", func() bool { return !c.peer("bert").Connected })
	if _, err := c.tool("peers", "gone", "bert"); err == nil || !strings.Contains(err.Error(), "it was revoked here") || c.peer("bert").Level != "blocked" {
		t.Errorf("%v, %+v", err, c.peer("bert"))
	}
}

// address is one at which a host listens.
func address(t *testing.T, h *host) string {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var p struct {
			Addresses []string `json:"addresses"`
		}
		if err := json.Unmarshal([]byte(h.must("pair", "--id", "--json")), &p); err != nil {
			t.Fatal(err)
		}
		if len(p.Addresses) > 0 {
			return p.Addresses[0]
		}
	}
	t.Fatal(h.name + " listens nowhere")
	return ""
}
