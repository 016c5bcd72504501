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
		for _, name := range []string{"12", "yesterday", "a/b", "a@@b"} {
			refused(t, m.Dir, 1, "tag "+name+rule, "tag", "a", name)
		}
		for name, why := range map[string]string{"here": "what this host is called among those that wrote a file", "Main": "what sharefs switch calls the work on no branch"} {
			why = name + ": cannot be a new name: it is " + why + "; take another one"
			refused(t, m.Dir, 1, "tag "+why, "tag", "a", name)
			refused(t, m.Dir, 1, "tag "+why, "tag", "a", name, "--at", "1")
			refused(t, m.Dir, 1, "snapshot "+why, "snapshot", name)
		}
		refused(t, m.Dir, 1, "branch here: cannot be a new name: it is what this host is called among those that wrote a file; take another one", "branch", "a", "here")
		refused(t, m.Dir, 2, "NAME is empty", "tag", "a", "")
		refused(t, m.Dir, 1, "tag a: nonsense is no time and no tag of it; times are written -2h, yesterday or 2026-11-20T10:00", "tag", "a", "x", "--at", "nonsense")
		refused(t, m.Dir, 1, "tag a@@9: no such version", "tag", "a", "x", "--at", "9")
		refused(t, m.Dir, 2, "NAME is missing", "tag", "a")
		for _, c := range []struct {
			want string
			args []string
		}{
			{"first\tthe first one\n", []string{"untag", "a", "fi"}}, {"a@@1\n", []string{"cat", "a@@1"}}, {"a@@first\n", []string{"restore", "a@@fi"}},
			{":4\n", []string{"switch", "a", ""}}, {"Z\t", []string{"undo", ""}}, {"Z\t", []string{"op", "show", "2"}}, {":0\n", []string{"log", "a"}},
			{":36\n", []string{"undo", "none"}},
		} {
			if a := tool(t, m.Dir, append([]string{"__complete"}, c.args...)...); a.exit != 0 || !strings.Contains(a.out, c.want) || strings.Contains(c.want, ":") && a.out != c.want {
				t.Errorf("%q: %+v", c.args, a)
			}
		}
		must(t, m.Dir, "untag", "a", "first")
		refused(t, m.Dir, 1, "remove the tag first of a: it has no such tag; sharefs tags a lists those that there are", "untag", "a", "first")
		refused(t, m.Dir, 1, "tag a: it was not there at 2020-01-01", "tag", "a", "early", "--at", "2020-01-01")
		refused(t, m.Dir, 1, "tag .: it was not there at 2020-01-01", "tag", ".", "early", "--at", "2020-01-01")
		for _, name := range []string{"a@@2050-01-01", "a@@2124-01-01"} {
			if got := tool(t, m.Dir, "restore", name); got.exit != 1 || !strings.Contains(got.err, "is no number of a version, no tag and no time") {
				t.Errorf("%+v", got)
			}
		}
		if a := tool(t, m.Dir, "restore", ".@@2124-01-01"); a.exit != 1 {
			t.Errorf("%+v", a)
		}
		for _, form := range []string{"-n", "-N"} {
			if text := must(t, m.Dir, "log", form, "1", "a"); strings.Count(text, "\n") != 2 {
				t.Error(text)
			}
			if text := must(t, m.Dir, "op", "log", form, "1"); strings.Count(text, "\n") != 1 {
				t.Error(text)
			}
		}
		refused(t, m.Dir, 1, m.Path("a")+": is a file; sharefs log lists its versions, and sharefs find --deleted what was removed from a directory", "find", "--deleted", "./a")

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
		refused(t, m.Dir, 1, "remove the tag nope of f: it has no such tag; sharefs tags f lists those that there are", "untag", "f", "nope")

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
		refused(t, m.Dir, 1, "remove the branch one of d: it has no such branch; sharefs tags d lists those that there are", "branch", "-d", "d", "one")
		refused(t, m.Dir, 1, "remove the tag two of d: it is a branch: sharefs branch -d d two", "untag", "d", "two")
		if got := must(t, m.Dir, "branch", "-d", "d", "two"); got != "The branch two of d is gone. It was the one that was worked on; what is there stays, and is on no branch now.\n" {
			t.Errorf("%q", got)
		}
		must(t, m.Dir, "tag", "d", "fixed")
		refused(t, m.Dir, 1, "remove the branch fixed of d: it is a tag: sharefs untag d fixed", "branch", "-d", "d", "fixed")
		refused(t, m.Dir, 1, "switch d: fixed is a tag, which does not move: sharefs restore d@@fixed brings back what was there, and sharefs branch d NAME --at fixed begins a branch with it",
			"switch", "d", "fixed")
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
