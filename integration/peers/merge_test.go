package peers

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sharefs/integration/mounttest"
)

// apart has hosts write files while they are not connected, and waits until all know of as many conflicts.
func apart(t *testing.T, a, b *host, conflicts int, onA, onB func()) {
	t.Helper()
	b.Unmount()
	onA()
	a.Settled()
	a.Unmount()
	b.Mount.Mount()
	onB()
	b.Settled()
	a.Mount.Mount()
	connected(t, a, b)
	for _, h := range []*host{a, b} {
		mounttest.WaitFor(t, "conflicts on "+h.name, func() bool {
			all := h.conflicts()
			for _, c := range all {
				for _, s := range c.Sides {
					if s.Number == 0 {
						return false
					}
				}
			}
			return len(all) == conflicts
		})
	}
}

// save writes a file as editors do: another one is renamed over it.
func (h *host) save(name, content string) {
	h.t.Helper()
	h.do(os.WriteFile(h.Path(name+".tmp"), []byte(content), 0o644))
	h.do(os.Rename(h.Path(name+".tmp"), h.Path(name)))
}

// What was changed in two places of a text is merged, and what was changed in two ways is for the user to choose; who wrote what is told on both hosts alike.
func TestMerge(t *testing.T) {
	hs := sharing(t, "anna", "bert")
	a, b := hs[0], hs[1]
	const before = "one\ntwo\nthree\nfour\nfive\nsix\n"
	for _, name := range []string{"clean", "saved", "both", "edited", "binary"} {
		a.write(name, before)
	}
	alike(t, "the beginning", hs, func(tree map[string]string) bool { return len(tree) == 5 && has(tree, "binary", before) })
	apart(t, a, b, 6, func() {
		a.write("clean", strings.Replace(before, "one", "ONE", 1))
		a.save("saved", strings.Replace(before, "one", "ONE", 1))
		a.write("both", strings.Replace(before, "three", "by anna", 1))
		a.write("edited", strings.Replace(before, "three", "by anna", 1))
		a.write("binary", "\x00 of anna")
		a.write("new", "first\n")
	}, func() {
		b.write("clean", strings.Replace(before, "six", "SIX", 1))
		b.write("saved", strings.Replace(before, "six", "SIX", 1))
		b.write("both", strings.Replace(before, "three", "by bert", 1))
		b.write("edited", strings.Replace(before, "three", "by bert", 1))
		b.write("binary", "\x00 of bert")
		b.write("new", "second\n")
	})
	for i, h := range hs {
		out := h.must("conflicts")
		if !strings.Contains(out, "  here ") || !strings.Contains(out, "  "+hs[1-i].name+" ") || !strings.HasSuffix(out, "\nText can be merged: sharefs resolve "+h.Path("clean")+" --merge\n") { // of binary, both and clean, the one of which that is so
			t.Errorf("%s:\n%s", h.name, out)
		}
	}
	for _, name := range []string{"clean", "saved"} {
		for _, h := range hs {
			for _, c := range h.conflicts() {
				if c.Path == name && (c.Sides[1].Base == 0 || h.whose(c.Sides[0].Author) != "bert") { // who wrote later
					t.Errorf("%s: %+v", h.name, c)
				}
			}
		}
		if out := a.must("resolve", a.Path(name), "--merge"); !strings.Contains(out, "has the changes of") {
			t.Errorf("%s", out)
		}
	}
	merged := "ONE\ntwo\nthree\nfour\nfive\nSIX\n"
	alike(t, "what merges", hs, func(tree map[string]string) bool { return has(tree, "clean", merged) && has(tree, "saved", merged) })
	for i, h := range hs {
		mounttest.WaitFor(t, "who wrote what on "+h.name, func() bool {
			var told struct {
				Versions []struct {
					Author string `json:"author"`
					By     string `json:"author_id"`
					Live   bool   `json:"live"`
				} `json:"versions"`
			}
			err := json.Unmarshal([]byte(h.must("log", "--json", h.Path("clean"))), &told)
			return err == nil && len(told.Versions) > 0 && h.whose(told.Versions[0].Author) == "anna" && told.Versions[0].By != "" && told.Versions[0].Live
		})
		if out := h.must("log", h.Path("clean")); !regexp.MustCompile(`(?m)^VERSION .* BY +MARK`).MatchString(out) || !regexp.MustCompile(`(?m) (here|`+hs[1-i].name+`)$`).MatchString(out) {
			t.Errorf("%s:\n%s", h.name, out)
		}
	}
	// In two ways: nothing is done until somebody chose.
	if out := b.must("conflicts"); !strings.HasSuffix(out, ": sharefs resolve "+b.Path("both")+" --merge --edit\n") {
		t.Errorf("%s", out)
	}
	if _, err := b.tool("resolve", b.Path("both"), "--merge"); err == nil || !strings.Contains(err.Error(), "1 place that was changed in two ways") {
		t.Errorf("%v", err)
	}
	live, err := os.ReadFile(b.Path("both"))
	if err != nil || strings.Contains(string(live), "<<<") {
		t.Errorf("%q, %v", live, err)
	}
	marked := filepath.Join(t.TempDir(), "marked")
	if out, err := b.tool("resolve", b.Path("both"), "--merge", "--output", marked); err == nil || !strings.Contains(out, "--with") {
		t.Errorf("%s, %v", out, err)
	}
	text, err := os.ReadFile(marked)
	if err != nil || !regexp.MustCompile(`(?s)^one\ntwo\n<<<<<<< \S+\nby \w+\n\|\|\|\|\|\|\| \S*both@@\d\nthree\n=======\nby \w+\n>>>>>>> \S+\nfour`).Match(text) {
		t.Errorf("%s, %v", text, err)
	}
	if _, err := b.tool("resolve", b.Path("both"), "--with", marked); err == nil || !strings.Contains(err.Error(), "line 3") {
		t.Errorf("%v", err)
	}
	chosen := strings.Replace(before, "three", "by both", 1)
	b.do(os.WriteFile(marked, []byte(chosen), 0o600))
	b.must("resolve", b.Path("both"), "--with", marked)
	// An editor that fails, leaves all as it was, or leaves a marker: the conflict stays, and so does what the user wrote, but nothing else.
	temp := t.TempDir()
	for _, c := range []struct{ editor, want, kept string }{
		{"false", "the editor failed", ""},
		{"true", "left 1 place that was changed in two ways as it was", ""},
		{"rm", "no such file", ""},
		{"sed -i s/by.anna/by.hand/", "a conflict is marked in line 3", "by.hand"},
		{"f() { sed -i s/by.bert/by.hand/ \"$1\"; kill -9 $$; }; f", "signal: killed", "by.hand"},
	} {
		text, exit := a.attempt([]string{"TMPDIR=" + temp, "VISUAL=" + c.editor}, "resolve", a.Path("edited"), "--merge", "--edit")
		left, err := filepath.Glob(filepath.Join(temp, "*", "*"))
		if err != nil || exit != 1 || !strings.Contains(text, c.want) || len(left) != strings.Count(text, "; what you wrote is in "+temp) || (len(left) > 0) != (c.kept != "") {
			t.Errorf("%s: status %d, %s: %q, %v", c.editor, exit, text, left, err)
		}
		for _, name := range left {
			if got, err := os.ReadFile(name); err != nil || !strings.Contains(string(got), c.kept) || !strings.Contains(text, " --with "+name) {
				t.Errorf("%s: %s, %q, %v", c.editor, text, got, err)
			}
			a.do(os.RemoveAll(filepath.Dir(name)))
		}
		if dirs, err := os.ReadDir(temp); err != nil || len(dirs) > 0 {
			t.Errorf("%s: %v, %v", c.editor, dirs, err)
		}
	}
	// One that does it.
	t.Setenv("VISUAL", "sed -i -e '/^[<|=>]\\{7\\}/d' -e /^three/d")
	a.must("resolve", a.Path("edited"), "--merge", "--edit")
	if _, err := a.tool("resolve", a.Path("binary"), "--merge"); err == nil || !strings.Contains(err.Error(), "is no text") {
		t.Errorf("%v", err)
	}
	a.must("resolve", a.Path("binary"), "--take", "anna") // this host's own name will do
	// Two files of one name: nothing is before them.
	text1 := filepath.Join(t.TempDir(), "new")
	b.do(os.WriteFile(text1, []byte("first\nsecond\n"), 0o600))
	b.must("resolve", b.Path("new"), "--with", text1)
	alike(t, "what was chosen", hs, func(tree map[string]string) bool {
		edited := tree["edited"]
		return has(tree, "both", chosen) && has(tree, "binary", "\x00 of anna") && has(tree, "new", "first\nsecond\n") &&
			strings.Contains(edited, "by anna\n") && strings.Contains(edited, "by bert\n") && !strings.Contains(edited, "three") && len(tree) == 6
	})
	for _, h := range hs {
		mounttest.WaitFor(t, "no conflict on "+h.name, func() bool { return len(h.conflicts()) == 0 })
	}
}

// A file that two hosts had before they met merges on either of them, also where the content of the other version was never needed until then.
func TestMergeOfWhatWasThereBefore(t *testing.T) {
	hs := hosts(t, "", "anna", "bert")
	a, b := hs[0], hs[1]
	mine := map[*host]string{a: "of-anna", b: "of-bert"} // that on the host itself is later, and so live
	a.write(mine[b], "one\nby anna\n")
	b.write(mine[a], "one\nby bert\n")
	a.write(mine[a], "one\nby anna\n")
	b.write(mine[b], "one\nby bert\n")
	pairByLink(t, a, b)
	a.must("grant", "bert", "write")
	b.must("grant", "anna", "write")
	for _, h := range hs {
		mounttest.WaitFor(t, "two conflicts on "+h.name, func() bool { return len(h.conflicts()) == 2 })
	}
	for _, h := range hs {
		text, exit := h.attempt([]string{"VISUAL=sed -i '/^[<|=>]\\{7\\}/d'"}, "resolve", h.Path(mine[h]), "--merge", "--edit")
		if exit != 0 {
			t.Fatalf("on %s: %s", h.name, text)
		}
	}
	alike(t, "what was merged", hs, func(tree map[string]string) bool {
		for _, name := range mine {
			if !strings.Contains(tree[name], "by anna\n") || !strings.Contains(tree[name], "by bert\n") {
				return false
			}
		}
		return true
	})
	for _, h := range hs {
		mounttest.WaitFor(t, "no conflict on "+h.name, func() bool { return len(h.conflicts()) == 0 })
	}
}
