package peers

import (
	"slices"
	"strings"
	"testing"

	"sharefs/integration/mounttest"
	"sharefs/peers/report"
)

// Hosts that know each other in part say what they leave out, and whom to pair with; what one writes about files of another is whole for those who know him alone.
func TestHostsThatDoNotAllKnowEachOther(t *testing.T) {
	hs := hosts(t, "", "anna", "bert", "cleo")
	a, b, c := hs[0], hs[1], hs[2]
	know := func(x, y *host) {
		pairByLink(t, x, y)
		x.must("grant", y.name, "write")
		y.must("grant", x.name, "write")
	}
	know(a, b)
	b.write("f", "by bert")
	b.write("g", "by bert")
	alike(t, "what bert wrote", hs[:2], func(tree map[string]string) bool { return has(tree, "f", "by bert") && has(tree, "g", "by bert") })
	know(a, c)
	a.write("f", "by anna")
	mounttest.WaitFor(t, "what anna wrote", func() bool { tree, err := c.tree(); return err == nil && has(tree, "f", "by anna") && tree["g"] == "" })
	// Its status does not say that all is there.
	short, _, _ := strings.Cut(b.id(), "-")
	mounttest.WaitFor(t, "cleo to be told of bert", func() bool {
		s := c.Status()
		return len(s.Problems) == 1 && strings.Contains(s.Problems[0], " by bert ("+short+", known to anna) are left out: sharefs pair "+short+", or, if gone, sharefs peers gone "+short)
	})
	if out := c.must("peers"); !strings.Contains(out, ": sharefs pair "+short+", ") || strings.Contains(out, "this host every one of it") {
		t.Error(out)
	}
	if out := c.must("status"); strings.Contains(out, "all of it in the tree") || !strings.Contains(out, "of 1 host left out") {
		t.Error(out)
	}
	// Who resolves a conflict beside somebody who is not known keeps the file.
	c.write("h", "by cleo")
	mounttest.WaitFor(t, "what cleo wrote", func() bool { tree, err := a.tree(); return err == nil && has(tree, "h", "by cleo") })
	b.write("h", "by bert")
	mounttest.WaitFor(t, "the conflict, and what is in it", func() bool {
		all := a.conflicts()
		return len(all) == 1 && !slices.ContainsFunc(all[0].Sides, func(s report.Side) bool { return s.Number == 0 })
	})
	a.must("resolve", "h", "--take", "bert")
	mounttest.WaitFor(t, "the choice", func() bool {
		for _, h := range hs {
			if tree, err := h.tree(); err != nil || !has(tree, "h", "by bert") {
				return false
			}
		}
		return true
	})
	// From what is printed they come to know each other, and have one tree.
	if _, err := c.tool("pair", "aaaaaaa"); err == nil || !strings.Contains(err.Error(), "neither a link (sharefs:…) nor the id of a host") {
		t.Error(err)
	}
	c.must("pair", short)
	b.must("pair", c.id(), "--name", "cleo")
	c.must("grant", "bert", "write")
	b.must("grant", "cleo", "write")
	alike(t, "one tree", hs, func(tree map[string]string) bool {
		return has(tree, "f", "by anna") && has(tree, "g", "by bert") && has(tree, "h", "by bert")
	})
	mounttest.WaitFor(t, "nothing to be left out", func() bool { return len(b.Status().Problems)+len(c.Status().Problems) == 0 })
	// One who is shut out on one host alone: what others write upon it comes.
	a.must("revoke", "bert")
	b.write("f", "by bert again")
	mounttest.WaitFor(t, "what bert wrote to come to cleo", func() bool { tree, err := c.tree(); return err == nil && has(tree, "f", "by bert again") })
	c.write("f", "by cleo upon it")
	mounttest.WaitFor(t, "what cleo wrote to come to anna", func() bool { tree, err := a.tree(); return err == nil && has(tree, "f", "by cleo upon it") })
	mounttest.WaitFor(t, "no conflict", func() bool { return len(a.conflicts()) == 0 })
	if out := a.must("peers"); !strings.Contains(out, "bert, which is revoked here") {
		t.Error(out)
	}
}
