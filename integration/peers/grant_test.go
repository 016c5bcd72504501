package peers

import (
	"os"
	"strings"
	"testing"

	"sharefs/integration/linkem"
	"sharefs/integration/mounttest"
	"sharefs/peers/report"
)

// Whoever grants is told whether the other host has, whoever of the two exchanges files with a third one by then.
func TestGrantsInEachOrder(t *testing.T) {
	hs := hosts(t, "", "anna", "bert", "cleo", "dora")
	a, b, c, d := hs[0], hs[1], hs[2], hs[3]
	for _, o := range []struct {
		what          string
		first, second *host
	}{
		{"nobody exchanges anything", a, b},
		{"who grants first does", a, c},
		{"who grants last does", d, a},
		{"both do", b, c},
		{"both do", d, b},
	} {
		o.first.must("pair", strings.TrimSpace(o.second.must("pair", "--link")))
		want := o.second.name + " has the level write everywhere.\nIt has to grant this host something, too, before its files come here: sharefs grant " + o.first.name + " LEVEL, there.\n"
		for range 2 {
			if out := o.first.must("grant", o.second.name, "write"); out != want {
				t.Errorf("%s, first: %s", o.what, out)
			}
		}
		if out := o.second.must("grant", o.first.name, "write"); out != o.first.name+" has the level write everywhere.\n" {
			t.Errorf("%s, second: %s", o.what, out)
		}
		if out := o.first.must("grant", o.second.name, "write"); out != o.second.name+" has the level write everywhere.\n" {
			t.Errorf("%s, again: %s", o.what, out)
		}
	}
	a.must("grant", "bert", "paired")
	if out := b.must("grant", "anna", "read"); !strings.Contains(out, "It has to grant this host something, too") {
		t.Errorf("what was granted is taken back: %s", out)
	}
	a.must("grant", "bert", "read", "photos")
	if out := b.must("grant", "anna", "read"); out != "anna has the level read everywhere.\n" {
		t.Errorf("a part is granted: %s", out)
	}
}

// Of a peer that does not answer, be it dead or out of reach, it is not told as of one that does; it is as before when it answers again, and gone at once when it is shut out.
func TestAPeerThatFallsSilent(t *testing.T) {
	hs := sharing(t, "anna", "bert")
	a, b := hs[0], hs[1]
	var before report.Peer
	mounttest.WaitFor(t, "files that travel", func() bool {
		before = a.peer("bert")
		return before.Files != nil && before.Files.Receives && before.Files.Sends && before.Files.Lacks == 0
	})
	silent := func() {
		t.Helper()
		mounttest.WaitFor(t, "silence", func() bool { p := a.peer("bert"); return p.Connected && p.Silent })
		if out := a.must("peers"); !strings.Contains(out, ", silent for ") || !strings.Contains(out, "; as of then: ") {
			t.Errorf("%s", out)
		}
		if out := a.must("status"); !strings.Contains(out, "1 of 1 connected, 1 of them silent") || !strings.Contains(out, "it does not answer") {
			t.Errorf("%s", out)
		}
		if out := a.ctl("peers/bert/status"); !strings.Contains(out, "it does not answer: nothing was heard of it since ") {
			t.Errorf("%s", out)
		}
		if out := a.must("grant", "bert", "write"); !strings.HasPrefix(out, "bert has the level write everywhere.\nIt does not answer: nothing was heard of it for ") || !strings.Contains(out, "sharefs grant anna LEVEL, there") {
			t.Errorf("%s", out)
		}
	}
	a.links[0].Set(linkem.Conditions{Down: true})
	silent()
	a.links[0].Set(linkem.Conditions{})
	mounttest.WaitFor(t, "an end of it", func() bool { p := a.peer("bert"); return p.Connected && !p.Silent })
	if p := a.peer("bert"); !p.Since.Equal(before.Since) {
		t.Errorf("another connection: of %v, not %v", p.Since, before.Since)
	}
	if out := a.must("peers"); strings.Contains(out, "silent") {
		t.Errorf("%s", out)
	}
	b.Kill()
	silent()
	a.must("revoke", "bert")
	if p := a.peer("bert"); p.Connected || p.Silent {
		t.Errorf("%+v", p)
	}
	b.Mount.Mount()
}

// The key of a host that is lost has no connection from the moment on at which another one takes its place, though nobody has noticed yet that it was dead.
func TestAReplacedPeerIsGoneAtOnce(t *testing.T) {
	hs := sharing(t, "anna", "bert", "cleo")
	a, b := hs[0], hs[1]
	was := a.peer("bert")
	if !was.Connected {
		t.Fatal("bert is not connected")
	}
	b.Kill()
	a.do(os.WriteFile(a.Path("more"), []byte("more"), 0o644))
	mounttest.WaitFor(t, "something that waits to be sent", func() bool { p := a.peer("bert"); return p.Files != nil && p.Files.Lacks > 0 })
	a.must("peers", "replace", "bert", "cleo")
	if p := a.peer("bert-lost"); p.Connected || p.Silent || p.ID != was.ID {
		t.Errorf("%+v", p)
	}
	if p := a.peer("bert"); !p.Connected || p.ID != hs[2].id() {
		t.Errorf("%+v", p)
	}
}
