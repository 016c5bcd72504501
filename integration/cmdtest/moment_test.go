package cmdtest

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"sharefs/integration/mounttest"
	"sharefs/integration/treetest"
)

func decode(t *testing.T, text string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}

func TestMomentsHaveNames(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		version(t, m, 1, "a", "one\n")
		version(t, m, 2, "a", "two\n")
		must(t, m.Dir, "tag", "a", "first", "--at", "1", "-m", "the first one")
		must(t, m.Dir, "tag", "a", "present one")
		if got := must(t, m.Dir, "cat", "a@@first"); got != "one\n" {
			t.Errorf("%q", got)
		}
		if got := must(t, m.Dir, "cat", "a@@present one"); got != "two\n" {
			t.Errorf("%q", got)
		}
		type moments struct {
			Path     string                              `json:"path"`
			Tags     []struct{ Name, Time, Note string } `json:"tags"`
			Branches []struct{ Name string }             `json:"branches"`
			Branch   string                              `json:"branch"`
		}
		var got moments
		decode(t, must(t, m.Dir, "tags", "a", "--json"), &got)
		if len(got.Tags) != 2 || got.Tags[0].Name != "first" || got.Tags[0].Note != "the first one" || got.Path != m.Path("a") {
			t.Errorf("%+v", got)
		}
		if text := must(t, m.Dir, "tags", "a"); !strings.HasPrefix(text, "NAME         KIND  TIME") || !strings.Contains(text, "\nfirst        tag   ") {
			t.Error(text)
		}
		refused(t, m.Dir, 1, "tag a: it has a tag or branch first already: sharefs tags a", "tag", "a", "first")
		const rule = ": cannot be a name: 1 to 128 bytes without / and @@ and control characters, no number and nothing that is a time"
		for _, name := range []string{"12", "yesterday", "a/b", "", "a@@b"} {
			shown := name
			if name == "" {
				shown = "''"
			}
			refused(t, m.Dir, 1, "tag "+shown+rule, "tag", "a", name)
		}
		refused(t, m.Dir, 1, "tag a: nonsense is no time and no tag of it; times are written -2h, yesterday or 2026-11-20T10:00", "tag", "a", "x", "--at", "nonsense")
		refused(t, m.Dir, 1, "tag a@@9: no such version", "tag", "a", "x", "--at", "9")
		refused(t, m.Dir, 2, "NAME is missing", "tag", "a")
		must(t, m.Dir, "untag", "a", "first")
		refused(t, m.Dir, 1, "remove the tag a: it has no such tag or branch as first", "untag", "a", "first")

		// A snapshot is a tag of the root.
		must(t, m.Dir, "snapshot", "whole", "-m", "all of it")
		version(t, m, 3, "a", "three\n")
		holds(t, m.Path(".share/at/whole/a"), "two\n")
		if text := must(t, m.Dir, "tags"); !strings.Contains(text, "\nwhole  tag ") || !strings.Contains(text, "  all of it\n") {
			t.Error(text)
		}
		if a := tool(t, m.Dir, "diff", ".@@whole"); a.exit != 1 || !strings.Contains(a.out, "\n-two\n+three\n") {
			t.Errorf("%+v", a)
		}
		must(t, m.Dir, "restore", ".@@whole")
		holds(t, m.Path("a"), "two\n")
		refused(t, m.Dir, 2, "a note goes with a name: sharefs snapshot NAME -m NOTE", "snapshot", "-m", "x")

		must(t, m.Dir, "describe", "a@@1", "-m", "another note")
		if text := must(t, m.Dir, "log", "a@@1"); !strings.HasSuffix(text, "  another note\n") {
			t.Error(text)
		}
		refused(t, m.Dir, 2, "a note is missing: -m NOTE", "describe", "a@@1")
		if text := must(t, m.Dir, "log", "-p", "a@@2"); !strings.Contains(text, "\n-one\n+two\n") {
			t.Error(text)
		}
	}, quick)
}

func TestWorkGoesOnOnBranches(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		for _, text := range []string{"one", "two", "three"} {
			if err := os.WriteFile(m.Path("f"), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			must(t, m.Dir, "commit", "f")
		}
		must(t, m.Dir, "branch", "f", "draft", "--at", "1")
		must(t, m.Dir, "switch", "f", "draft")
		holds(t, m.Path("f"), "one")
		if err := os.WriteFile(m.Path("f"), []byte("work on the draft"), 0o644); err != nil {
			t.Fatal(err)
		}
		must(t, m.Dir, "switch", "f", "main")
		holds(t, m.Path("f"), "three")
		must(t, m.Dir, "switch", "f", "draft")
		holds(t, m.Path("f"), "work on the draft")
		if got := must(t, m.Dir, "switch", "f", "draft"); got != "f is on branch draft already; nothing is to be done.\n" {
			t.Errorf("%q", got)
		}
		if text := must(t, m.Dir, "branch", "f"); !strings.Contains(text, "\ndraft  branch *  now ") {
			t.Error(text)
		}
		refused(t, m.Dir, 1, "switch f: it has no branch nope: sharefs branch f nope makes it", "switch", "f", "nope")
		refused(t, m.Dir, 1, "branch f: it has a branch draft already: sharefs switch f draft goes to it", "branch", "f", "draft")

		put(t, m.Path("d/a"), "1")
		must(t, m.Dir, "branch", "d", "one")
		must(t, m.Dir, "branch", "d", "two")
		must(t, m.Dir, "switch", "d", "two")
		put(t, m.Path("d/b"), "2")
		if err := os.Remove(m.Path("d/a")); err != nil {
			t.Fatal(err)
		}
		two := treetest.Describe(t, m.Path("d"))
		must(t, m.Dir, "switch", "d", "one")
		holds(t, m.Path("d/a"), "1")
		if _, err := os.Stat(m.Path("d/b")); err == nil {
			t.Error("what is on another branch is there")
		}
		type switched struct {
			Path    string `json:"path"`
			Branch  string `json:"branch"`
			Left    string `json:"left"`
			Already bool   `json:"already"`
		}
		if got := mustJSON[switched](t, m.Dir, "switch", "d", "two"); got != (switched{m.Path("d"), "two", "one", false}) {
			t.Errorf("%+v", got)
		}
		treetest.Same(t, m.Path("d"), two)
		must(t, m.Dir, "branch", "-d", "d", "one")
		refused(t, m.Dir, 1, "remove the branch d: it has no such tag or branch as one", "branch", "-d", "d", "one")
	}, quick)
}

func TestTheLogOfADirectory(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		put(t, m.Path("d/a"), "1")
		must(t, m.Dir, "tag", "d", "begin")
		put(t, m.Path("d/b"), "2")
		moment(t, m)
		if err := os.Rename(m.Path("d/a"), m.Path("d/c")); err != nil {
			t.Fatal(err)
		}
		moment(t, m)
		text := must(t, m.Dir, "log", "d")
		lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		if len(lines) < 3 || !strings.HasSuffix(lines[0], "  a -> c") || !strings.HasSuffix(lines[1], "  +b") || !strings.Contains(text, "  (begin)") {
			t.Errorf("%s", text)
		}
		if got := must(t, m.Dir, "log", "-n", "1", "-p", "d"); !strings.HasSuffix(got, "\nR100\ta\tc\n") {
			t.Error(got)
		}
		if err := os.RemoveAll(m.Path("d")); err != nil {
			t.Fatal(err)
		}
		moment(t, m)
		if got := must(t, m.Dir, "log", "d"); !strings.HasPrefix(got, "d is removed; sharefs restore d@@") {
			t.Error(got)
		}
	}, quick)
}
