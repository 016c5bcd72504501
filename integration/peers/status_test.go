package peers

import (
	"strings"
	"testing"
	"time"

	"sharefs/integration/linkem"
	"sharefs/integration/mounttest"
	"sharefs/peers/report"
)

// status.json has of each peer what peers.json has, with the reasons that people are told.
func TestStatusForPrograms(t *testing.T) {
	hs := sharing(t, "anna", "bert")
	a, b := hs[0], hs[1]
	a.write("file", "of anna")
	alike(t, "a file", hs, func(tree map[string]string) bool { return has(tree, "file", "of anna") })
	same := func(when string, is func(*report.Peer) bool) {
		t.Helper()
		mounttest.WaitFor(t, "what is told "+when, func() bool {
			all, listed := b.Status().Peers.All, b.peers()
			if len(all) != 1 || len(listed) != 1 {
				t.Fatalf("%+v, %+v", all, listed)
			}
			return is(&all[0]) && is(&listed[0])
		})
	}
	same("while files travel", func(p *report.Peer) bool {
		return p.Name == "anna" && p.ID == a.id() && p.Level == "write" && p.Connected && p.Why == "" && p.Files != nil && p.Files.Sends && p.Files.Takes && p.Files.Receives && p.Files.Lacks == 0
	})
	a.must("grant", "bert", "paired")
	same("when one may not read any more", func(p *report.Peer) bool {
		return p.Connected && p.Files != nil && !p.Files.Receives && strings.Contains(p.Why, "it has not granted this host read")
	})
	b.write("later", "which anna does not take")
	same("of what she does not take", func(p *report.Peer) bool {
		return p.Files != nil && p.Files.Lacks > 0 && !p.Files.Takes && p.Why == "it has not granted this host read"
	})
	if out := b.must("peers"); !strings.Contains(out, "it takes no files from here, and none come from it: it has not granted this host read") || strings.Contains(out, "lacks") {
		t.Error(out)
	}
	a.Unmount()
	same("of one that is gone", func(p *report.Peer) bool { return !p.Connected && !p.Seen.IsZero() && p.Why == p.Error && p.Why != "" })
}

// Whoever reads status.json or the metrics has no peer asked for a sign of life, so that neither ever waits for one. What came of it when somebody else asked they tell.
func TestStatusAsksNobody(t *testing.T) {
	hs := sharing(t, "anna", "bert")
	a := hs[0]
	told := func() *report.Peer {
		t.Helper()
		all := a.Status().Peers.All
		if len(all) != 1 || !all[0].Connected {
			t.Fatalf("%+v", all)
		}
		return &all[0]
	}
	mounttest.WaitFor(t, "files that travel", func() bool {
		p := told()
		return p.Files != nil && p.Files.Sends && p.Files.Receives && p.Files.Lacks == 0
	})
	a.links[0].Set(linkem.Conditions{Down: true})
	mounttest.WaitFor(t, "a time in which nothing is heard", func() bool {
		p := told()
		if !strings.Contains(a.ctl("metrics"), "\nsharefs_peer_connected{peer=\"bert\"} 1\n") {
			t.Error(a.ctl("metrics"))
		}
		if p.Silent {
			t.Fatalf("it was asked: %+v", p)
		}
		return time.Since(p.Heard) > 5*time.Second
	})
	mounttest.WaitFor(t, "silence", func() bool { p := a.peer("bert"); return p.Connected && p.Silent })
	if p := told(); !p.Silent || p.Why != "it does not answer" {
		t.Errorf("%+v", p)
	}
	a.links[0].Set(linkem.Conditions{})
}
