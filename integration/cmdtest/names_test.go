package cmdtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sharefs/integration/mounttest"
)

func TestNamesThatLookLikeVersions(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		version(t, m, 1, "a@@1", "the file a@@1")
		version(t, m, 2, "a@@1", "the file a@@1, changed")
		version(t, m, 1, "a", "version 1 of a")
		version(t, m, 2, "a", "version 2 of a")
		if got := must(t, m.Dir, "cat", "a@@1"); got != "the file a@@1, changed" {
			t.Errorf("cat: %q", got)
		}
		if got := must(t, m.Dir, "cat", "a@@1@@1"); got != "the file a@@1" {
			t.Errorf("cat: %q", got)
		}
		if got := mustJSON[logJSON](t, m.Dir, "log", "a@@1"); got.File != m.Path("a@@1") || len(got.Versions) != 2 {
			t.Errorf("log: %+v", got)
		}
		if a := tool(t, m.Dir, "diff", "a@@1"); !strings.HasPrefix(a.out, "--- a@@1@@1\t") {
			t.Errorf("diff: %+v", a)
		}
		refused(t, m.Dir, 2, "no version is named: a number or a time goes behind @@, as in a@@1@@1", "restore", "a@@1")
		if got := must(t, m.Dir, "restore", "a@@1@@1"); !strings.HasPrefix(got, "a@@1 holds what it held in version 1.") {
			t.Errorf("restore: %q", got)
		}
		holds(t, m.Path("a@@1"), "the file a@@1")
		holds(t, m.Path("a"), "version 2 of a")
	}, quick)
}

func TestSymbolicLinksAreFollowed(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		if err := os.Mkdir(m.Path("d"), 0o755); err != nil {
			t.Fatal(err)
		}
		version(t, m, 1, "d/a", "one")
		version(t, m, 2, "d/a", "two")
		if err := os.Symlink("d/a", m.Path("link")); err != nil {
			t.Fatal(err)
		}
		outside := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(m.Path("link"), outside); err != nil {
			t.Fatal(err)
		}
		holds(t, m.Path("link@@1"), "one") // any program finds it
		for _, link := range []string{"link", outside} {
			if got := must(t, m.Dir, "cat", link+"@@1"); got != "one" {
				t.Errorf("%s: %q", link, got)
			}
			if got := mustJSON[logJSON](t, m.Dir, "log", link); got.File != m.Path("d/a") || len(got.Versions) < 2 {
				t.Errorf("%s: %+v", link, got)
			}
		}
		must(t, m.Dir, "restore", "link@@1")
		holds(t, m.Path("d/a"), "one")
		if err := os.Symlink("/etc/passwd", m.Path("out")); err != nil {
			t.Fatal(err)
		}
		refused(t, m.Dir, 1, "out: not in a ShareFS mount", "log", "out")
	}, quick)
}

func TestNamesCannotPlayTricksOnATerminal(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		const name = "red\x1b[31m\nx"
		version(t, m, 1, name, "one")
		version(t, m, 2, name, "two")
		for _, args := range [][]string{{"log", name + "@@7"}, {"restore", name + "@@1"}, {"commit", name, "-m", "x\x1b]0;x\a"}, {"diff", name}, {"log", name}, {"log", "no\x1b[0m"}} {
			a := tool(t, m.Dir, args...)
			if strings.ContainsAny(a.out+a.err, "\x1b\a") {
				t.Errorf("%q: %q %q", args, a.out, a.err)
			}
		}
	}, quick)
}
