package peers

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs/integration/mounttest"
	"sharefs/peers/report"
)

// proposing makes two hosts of which the first one may be proposed to by the second, and which begin with one tree.
func proposing(t *testing.T) (a, b *host) {
	t.Helper()
	hs := hosts(t, "", "anna", "bert")
	a, b = hs[0], hs[1]
	pairByLink(t, a, b)
	a.must("grant", "bert", "propose")
	b.must("grant", "anna", "write")
	a.do(os.Mkdir(a.Path("d"), 0o755))
	for _, name := range []string{"d/edited", "d/removed", "d/renamed", "kept"} {
		a.write(name, "before: "+name)
	}
	alike(t, "the beginning", hs, func(tree map[string]string) bool { return len(tree) == 5 && has(tree, "kept", "before: kept") })
	return a, b
}

func (h *host) proposed(args ...string) (all []report.Proposed) {
	h.t.Helper()
	if err := json.Unmarshal([]byte(h.must(append([]string{"proposed", "--json"}, args...)...)), &all); err != nil {
		h.t.Fatal(err)
	}
	return all
}

// whats are changes as words.
func whats(all []report.Proposed) string {
	var out []string
	for _, p := range all {
		for _, c := range p.Changes {
			out = append(out, c.What+" "+c.Path)
		}
	}
	return strings.Join(out, ", ")
}

// A peer that may propose changes nothing here; its tree is to be seen, and what it did can be taken or forgotten.
func TestProposed(t *testing.T) {
	a, b := proposing(t)
	a.Settled()
	before, err := a.tree()
	a.do(err)
	history := map[string]string{}
	for _, name := range []string{"d/edited", "d/removed", "d/renamed", "kept"} {
		history[name] = a.must("log", a.Path(name))
	}
	operations := a.must("op", "log")

	b.write("d/edited", "after, on bert")
	b.do(errors.Join(os.Remove(b.Path("d/removed")), os.Rename(b.Path("d/renamed"), b.Path("elsewhere")), os.Mkdir(b.Path("new"), 0o755)))
	b.write("new/file", strings.Repeat("made on bert ", 100_000))
	b.do(os.Symlink("file", b.Path("new/link")))
	want := "changed d/edited, removed d/removed, renamed elsewhere, added new, added new/file, added new/link"
	mounttest.WaitFor(t, "what bert did", func() bool { return whats(a.proposed("bert")) == want })
	if got := whats(a.proposed("bert", a.Path("new"))); got != "added new, added new/file, added new/link" {
		t.Errorf("%s", got)
	}
	// Nothing of it counts.
	if now, err := a.tree(); err != nil || !maps.Equal(now, before) {
		t.Errorf("%q, %v", now, err)
	}
	for name, text := range history {
		if now := a.must("log", a.Path(name)); now != text {
			t.Errorf("the history of %s is\n%s, and was\n%s", name, now, text)
		}
	}
	if now := a.must("op", "log"); now != operations {
		t.Errorf("%s\n%s", now, operations)
	}
	if all := a.conflicts(); len(all) > 0 {
		t.Errorf("%+v", all)
	}
	// The tree of bert, and of one file his version.
	if out, err := exec.Command("diff", "-r", "--no-dereference", a.Path(".share/peers/bert"), b.Dir).CombinedOutput(); err != nil {
		t.Errorf("%s, %v", out, err)
	}
	if out, err := exec.Command("diff", "-rq", "--no-dereference", a.Dir, a.Path(".share/peers/bert")).CombinedOutput(); err == nil || strings.Count(string(out), "\n") != 5 {
		t.Errorf("%s, %v", out, err)
	}
	if out, err := a.tool("proposed", "bert", "nope"); err == nil || !strings.Contains(err.Error(), "nope: no such file or directory") {
		t.Errorf("%s, %v", out, err)
	}
	if out, err := a.tool("diff", a.Path("d/edited"), a.Path("d/edited@@bert")); err == nil || !strings.Contains(out, "\n+after, on bert\n") {
		t.Errorf("%s, %v", out, err)
	}
	if _, err := os.Stat(a.Path("kept@@bert")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if err := os.WriteFile(a.Path(".share/peers/bert/kept"), nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Error(err)
	}
	if out := a.must("peers"); !strings.Contains(out, "it proposes changes of 5 files (sharefs proposed)") {
		t.Errorf("%s", out)
	}
	// Some of it is forgotten, until bert changes it again.
	if out := a.must("reject", "bert", a.Path("d/removed"), a.Path("d/renamed")); !strings.Contains(out, "rejected: renamed d/renamed -> elsewhere") {
		t.Errorf("%s", out)
	}
	if got := whats(a.proposed()); got != "changed d/edited, added new, added new/file, added new/link" {
		t.Errorf("%s", got)
	}
	b.do(os.Rename(b.Path("elsewhere"), b.Path("once more")))
	mounttest.WaitFor(t, "another rename", func() bool { return strings.Contains(whats(a.proposed()), "renamed once more") })
	// A part is taken, and then all.
	if out := a.must("accept", "bert", a.Path(".share/peers/bert/new/link")); out != "accepted: added new/\naccepted: added new/link\n" {
		t.Errorf("%s", out)
	}
	b.write("d/removed", "back")
	mounttest.WaitFor(t, "a file that is there again", func() bool {
		return strings.Contains(whats(a.proposed()), "changed d/removed") || strings.Contains(whats(a.proposed()), "added d/removed")
	})
	for _, verb := range []string{"accept", "reject"} {
		if out, err := a.tool(verb, "bert", a.Path("nowhere")); err == nil || !strings.Contains(out+err.Error(), "bert proposes nothing of that name, and there is nothing of it here") {
			t.Errorf("%s: %s, %v", verb, out, err)
		}
	}
	for _, c := range [][]string{{"accept", "bert"}, {"accept", "nobody", "--all"}, {"accept", "bert", a.Path("kept")}, {"reject", "bert", "--all", "x"}} {
		if out, err := a.tool(c...); err == nil {
			t.Errorf("%q: %s", c, out)
		}
	}
	a.must("accept", "bert", "--all")
	alike(t, "all that bert did", []*host{a, b}, func(tree map[string]string) bool {
		return has(tree, "d/edited", "after, on bert") && has(tree, "once more", "before: d/renamed") && has(tree, "d/removed", "back") && len(tree) == 8
	})
	for _, h := range []*host{a, b} {
		mounttest.WaitFor(t, "no conflict on "+h.name, func() bool { return len(h.conflicts()) == 0 })
	}
	mounttest.WaitFor(t, "nothing to be proposed", func() bool {
		return a.must("proposed") == "Nothing is proposed.\n" && !strings.Contains(a.must("peers"), "proposes")
	})
	if out, err := exec.Command("diff", "-r", "--no-dereference", a.Dir, a.Path(".share/peers/bert")).CombinedOutput(); err != nil {
		t.Errorf("%s, %v", out, err)
	}
	if !a.did("sharefs accept bert") {
		t.Errorf("no operation says so:\n%s", a.must("op", "log"))
	}
	// What was accepted is a change as any other.
	b.write("d/edited", "later")
	mounttest.WaitFor(t, "another proposal", func() bool { return whats(a.proposed()) == "changed d/edited" })
}

// A time that is set is proposed as such, by whatever program, and to accept it makes no version.
func TestTimesProposed(t *testing.T) {
	a, b := proposing(t)
	a.do(os.Link(a.Path("kept"), a.Path("link")))
	alike(t, "a hard link", []*host{a, b}, func(tree map[string]string) bool { return has(tree, "link", "before: kept") })
	b.Settled()
	runIn(t, b.Dir, "touch", "-d", aTime.Format(time.RFC3339Nano), "kept")
	b.touch("d/edited", aTime)
	b.touch("d/renamed", aTime)
	b.do(os.Chmod(b.Path("d/renamed"), 0o600))
	b.do(os.Chmod(b.Path("d/removed"), 0o600))
	want := map[string]report.Proposal{
		"d/edited":  {Times: true},
		"d/renamed": {Times: true, Attributes: true},
		"d/removed": {Attributes: true},
		"kept":      {Times: true},
		"link":      {Times: true},
	}
	var all []report.Proposed
	mounttest.WaitFor(t, "the times", func() bool {
		all = a.proposed("bert")
		return len(all) == 1 && len(all[0].Changes) == len(want) && strings.Count(a.must("proposed"), "another time") == 4
	})
	for _, c := range all[0].Changes {
		w, ok := want[c.Path]
		if !ok || c.What != report.Changed || c.Content || c.Times != w.Times || c.Attributes != w.Attributes || c.Times != c.Time.Equal(aTime) {
			t.Errorf("%+v", c)
		}
	}
	said := strings.Fields(regexp.MustCompile(`(?m)^ +changed +kept.*$`).FindString(a.must("proposed")))
	if got, want := strings.Join(said, " "), "changed kept another time: "+aTime.Format(time.DateTime); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	a.must("accept", "bert", "--all")
	for _, name := range []string{"kept", "link", "d/edited", "d/renamed"} {
		timed(t, name+", accepted", name, aTime, a, b)
	}
	mounttest.WaitFor(t, "nothing to be proposed", func() bool { return a.must("proposed") == "Nothing is proposed.\n" })
	for _, h := range []*host{a, b} {
		h.Settled()
		for name := range want {
			if n := h.versionsOf(name); n != 1 {
				t.Errorf("%s has %d versions on %s", name, n, h.name)
			}
		}
	}
}

// What nobody has who is there ends with an error of the network, and can be taken when somebody has it.
func TestProposedAndAway(t *testing.T) {
	a, b := proposing(t)
	b.write("d/edited", "on a host that is away")
	mounttest.WaitFor(t, "what bert did", func() bool { return whats(a.proposed()) == "changed d/edited" })
	b.Unmount()
	mounttest.WaitFor(t, "bert away", func() bool { return !a.peer("bert").Connected })
	if _, err := os.ReadFile(a.Path("d/edited@@bert")); !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("%v", err)
	}
	if out, err := a.tool("accept", "bert", "--all"); err == nil || !strings.Contains(out, "left: d/edited: no peer is connected that would send it") {
		t.Errorf("%s, %v", out, err)
	}
	b.Mount.Mount()
	connected(t, a, b)
	mounttest.WaitFor(t, "the content", func() bool {
		text, err := os.ReadFile(a.Path(".share/peers/bert/d/edited"))
		return err == nil && string(text) == "on a host that is away"
	})
	a.must("accept", "bert", a.Path("d"))
	alike(t, "what bert did", []*host{a, b}, func(tree map[string]string) bool { return has(tree, "d/edited", "on a host that is away") })
}
