package peers

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs/integration/mounttest"
	"sharefs/peers/report"
)

// keptBy has a peer keep the past of a host.
func (h *host) keptBy(k *host) {
	h.t.Helper()
	pairByLink(h.t, h, k)
	k.must("peers", "limit", h.name, "quota=1GB")
	h.must("grant", k.name, "store")
}

// sheet prints the recovery sheet of a host into a file, as it is mounted.
func (h *host) sheet() string {
	h.t.Helper()
	text, err := h.on("recovery", "--no-code", "--store", h.Store)
	h.do(err)
	path := filepath.Join(mounttest.TempDir(h.t), "sheet")
	h.do(os.WriteFile(path, []byte(text), 0o600))
	return path
}

// recovered loses the store of a host that was killed, and makes it anew on another machine; it returns what the tool said. Whole: it is to find everything.
func (h *host) recovered(on *host, sheet string, whole bool) (*host, string) {
	h.t.Helper()
	h.do(os.RemoveAll(h.Store))
	made := filepath.Join(mounttest.TempDir(h.t), "store")
	out, err := on.on("recover", "--store", made, "--sheet", sheet)
	if whole != (err == nil) || whole != strings.Contains(out, "Nothing is missing.") {
		h.t.Fatalf("%s, %v", out, err)
	}
	return &host{t: h.t, net: on.net, name: h.name, Mount: mounttest.Start(h.t, mode(), mounttest.On(made), mounttest.Through(on.net.Start))}, out
}

// meets has a host that was recovered share with a peer again, as the tool says.
func (h *host) meets(peer *host) {
	h.t.Helper()
	if out, err := peer.feed(h.must("pair", "--link"), "pair", "-"); err != nil || !strings.Contains(out, "Paired with "+h.name+"-2 (") {
		h.t.Fatalf("%s, %v", out, err)
	}
	peer.must("peers", "replace", h.name, h.name+"-2")
	h.must("grant", peer.name, "write")
	peer.must("grant", h.name, "write")
}

// saves has another file take the place of one, as most programs save.
func (h *host) saves(name, content string) {
	h.t.Helper()
	h.write(name+".tmp", content)
	h.do(os.Rename(h.Path(name+".tmp"), h.Path(name)))
}

// A host comes back from what a peer keeps of it, as of a while ago. What it did after that others have: it has it again, by itself, as soon as it is paired with one of them; what was
// removed stays removed; and nobody leaves anything out.
func TestARecoveredHostHasWhatItWroteLast(t *testing.T) {
	hs := hosts(t, "", "anna", "bert", "carl", "nova")
	a, b, k, nova := hs[0], hs[1], hs[2], hs[3]
	pairByLink(t, a, b)
	a.must("grant", "bert", "write")
	b.must("grant", "anna", "write")
	for _, name := range []string{"kept", "removed", "renamed", "changed"} {
		a.write(name, "first "+name)
	}
	b.write("by bert", "first by bert")
	alike(t, "the beginning", hs[:2], func(tree map[string]string) bool { return len(tree) == 5 })
	a.keptBy(k)
	a.backedUp(k)
	sheet, was := a.sheet(), a.id()
	k.Unmount()
	a.write("changed", "second changed")
	a.do(os.Remove(a.Path("removed")))
	a.do(os.Rename(a.Path("renamed"), a.Path("new name")))
	a.write("late", "first late")
	now := func(tree map[string]string) bool {
		return len(tree) == 5 && has(tree, "kept", "first kept") && has(tree, "changed", "second changed") && has(tree, "new name", "first renamed") &&
			has(tree, "late", "first late") && has(tree, "by bert", "first by bert")
	}
	alike(t, "what the backup lacks", hs[:2], now)
	a.Settled()
	a.Kill()
	k.Mount.Mount()
	back, out := a.recovered(nova, sheet, true)
	if !strings.Contains(out, " is as anna kept it with the peer ") || !strings.Contains(out, "Note: for bert this is a new host. For each of them, here: sharefs pair --link; there: sharefs pair LINK, and sharefs peers replace anna NEW") ||
		!strings.Contains(out, "; then there sharefs grant anna write, and here sharefs grant bert write. Who kept the backup") {
		t.Error(out)
	}
	if p := back.peer("anna-lost"); p.Level != report.Former || p.ID != was || back.Status().Peers != nil && back.Status().Peers.Known > 0 {
		t.Errorf("%+v, not of %s", p, was)
	}
	back.meets(b)
	alike(t, "all of it", []*host{back, b}, now)
	back.write("changed", "third changed")
	b.write("late", "second late")
	alike(t, "changes after that", []*host{back, b}, func(tree map[string]string) bool {
		return has(tree, "changed", "third changed") && has(tree, "late", "second late") && len(tree) == 5
	})
	for _, h := range []*host{back, b} {
		mounttest.WaitFor(t, "no conflict on "+h.name, func() bool { return len(h.conflicts()) == 0 })
		if out := h.must("status") + h.must("peers"); strings.Contains(out, "left out") || !strings.Contains(out, "Problems     none") {
			t.Errorf("%s leaves something out:\n%s", h.name, out)
		}
	}
}

// What a host did last while its peers were away, and what its backup has, is so everywhere after it was lost: nobody knows of it but the backup, and what peers have of the same files is older.
func TestARecoveredHostKeepsWhatItDidAlone(t *testing.T) {
	hs := hosts(t, "", "anna", "bert", "carl", "nova")
	a, b, k, nova := hs[0], hs[1], hs[2], hs[3]
	pairByLink(t, a, b)
	a.must("grant", "bert", "write")
	b.must("grant", "anna", "write")
	a.do(os.Mkdir(a.Path("dir"), 0o755))
	for _, name := range []string{"kept", "removed", "renamed", "changed", "saved", "told", "dir/file", "by bert", "also by bert"} {
		a.write(name, "first "+name)
	}
	alike(t, "the beginning", hs[:2], func(tree map[string]string) bool { return len(tree) == 10 })
	a.saves("saved", "second saved")
	alike(t, "a file that both have of another inode", hs[:2], func(tree map[string]string) bool { return has(tree, "saved", "second saved") })
	a.write("told.tmp", "second told") // a save of which peers hear in the middle
	alike(t, "a file for a save", hs[:2], func(tree map[string]string) bool { return has(tree, "told.tmp", "second told") })
	a.do(os.Rename(a.Path("told.tmp"), a.Path("told")))
	alike(t, "a save", hs[:2], func(tree map[string]string) bool { return has(tree, "told", "second told") && len(tree) == 10 })
	a.keptBy(k)
	b.Settled()
	b.Unmount()
	a.write("changed", "second changed")
	a.write("saved", "third saved")
	a.write("told", "third told")
	a.saves("changed", "third changed")
	a.do(os.Remove(a.Path("removed")))
	a.do(os.Rename(a.Path("renamed"), a.Path("new name")))
	a.do(os.Rename(a.Path("dir"), a.Path("other dir")))
	a.do(os.Rename(a.Path("also by bert"), a.Path("by anna")))
	a.write("late", "first late")
	a.backedUp(k)
	sheet := a.sheet()
	a.Kill()
	b.Mount.Mount()
	b.write("by bert", "second by bert")
	b.do(os.Rename(b.Path("also by bert"), b.Path("later by bert")))
	back, _ := a.recovered(nova, sheet, true)
	back.meets(b)
	alike(t, "all of it", []*host{back, b}, func(tree map[string]string) bool {
		return len(tree) == 10 && has(tree, "kept", "first kept") && has(tree, "changed", "third changed") && has(tree, "saved", "third saved") && has(tree, "told", "third told") && has(tree, "new name", "first renamed") &&
			has(tree, "other dir/file", "first dir/file") && has(tree, "by bert", "second by bert") && has(tree, "later by bert", "first also by bert") && has(tree, "late", "first late")
	})
	for _, h := range []*host{back, b} {
		if list := h.conflicts(); len(list) > 0 {
			t.Errorf("%s has conflicts: %v", h.name, list)
		}
		if out := h.must("status") + h.must("peers"); strings.Contains(out, "left out") || !strings.Contains(out, "Problems     none") {
			t.Errorf("%s leaves something out:\n%s", h.name, out)
		}
	}
}

// What had been freed on a host that is lost is in no backup: recovery names it, and who has it; reading it fails at once, and is named in the log, as long as nobody is known who
// could have it; and it comes when one is there who does.
func TestARecoveredHostSaysWhatNoBackupHas(t *testing.T) {
	hs := hosts(t, "[space]\nwait = \"10m\"\n", "anna", "bert", "carl", "nova") // who waits in vain does not come to an end
	a, b, k, nova := hs[0], hs[1], hs[2], hs[3]
	pairByLink(t, a, b)
	a.must("grant", "bert", "write")
	b.must("grant", "anna", "write")
	freed := noise(3 << 20)
	a.do(os.Mkdir(a.Path("dir"), 0o755))
	a.write("dir/freed", freed)
	a.write("dir/kept", "first kept")
	alike(t, "the beginning", hs[:2], func(tree map[string]string) bool { return len(tree) == 3 })
	a.frees("dir/freed")
	a.must("gc")
	a.keptBy(k)
	a.backedUp(k)
	sheet := a.sheet()
	a.Kill()
	back, out := a.recovered(nova, sheet, false)
	for _, part := range []string{"Not in the backup: the content of 1 file, 3.0 MiB, that had been freed on anna or had not come there:\n  dir/freed\n", "It is with bert, and comes when it is read"} {
		if !strings.Contains(out, part) {
			t.Errorf("%q is missing in\n%s", part, out)
		}
	}
	if _, err := os.ReadFile(back.Path("dir/freed")); !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("it reads: %v", err)
	}
	log, err := os.ReadFile(back.Log)
	if err != nil || !strings.Contains(string(log), "a file was read in vain") || !strings.Contains(string(log), "file=/dir/freed ") {
		t.Errorf("%v in the log:\n%s", err, log)
	}
	const problem = "3.0 MiB of 1 file not here, and no host is known that could have it"
	if out := back.must("status"); !strings.Contains(out, problem) || strings.Contains(out, "by choice") {
		t.Errorf("the status:\n%s", out)
	}
	if out := back.must("here", "--absent", back.Dir); !strings.Contains(out, "dir/freed\n") || strings.Contains(out, "kept") {
		t.Errorf("absent: %s", out)
	}
	back.must("gc")
	back.meets(b)
	if got, err := os.ReadFile(back.Path("dir/freed")); err != nil || string(got) != freed {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	mounttest.WaitFor(t, "nothing is absent", func() bool {
		return back.must("here", "--absent", back.Dir) == "" && strings.Contains(back.must("status"), "Problems     none")
	})
}
