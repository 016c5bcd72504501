package cmdtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs/integration/mounttest"
	"sharefs/integration/treetest"
)

// moment fixes the present of a mount and returns it as the tool takes it behind @@.
func moment(t *testing.T, m *mounttest.Mount) string {
	t.Helper()
	type snapshot struct {
		Mount string `json:"mount"`
		Name  string `json:"name"`
		Time  string `json:"time"`
		Path  string `json:"path"`
		Note  string `json:"note"`
	}
	return filepath.Base(mustJSON[snapshot](t, m.Dir, "snapshot").Path)
}

// put writes a file with all directories above it.
func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, text)
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// hostile are names that programs stumble over.
var hostile = []string{"-rf", "new\nline", "\xff\xfe", strings.Repeat("x", 255), "日本", " ", "a\tb", "$(x)", `q"'\`, "...", "a@@1"}

// restoreElsewhere holds that a directory comes to another one as it was, and that nothing that stands there is touched.
func restoreElsewhere(t *testing.T, m *mounttest.Mount, past string, want map[string]string) {
	t.Helper()
	home := t.TempDir()
	to := filepath.Join(home, "to")
	if dry := must(t, m.Dir, "restore", "-n", past, "--to", to); !strings.Contains(dry, " would come to "+to) {
		t.Error(dry)
	}
	if _, err := os.Lstat(to); !os.IsNotExist(err) {
		t.Errorf("a dry run made %s: %v", to, err)
	}
	if out := must(t, m.Dir, "restore", past, "--to", to); !strings.Contains(out, " are in "+to) {
		t.Error(out)
	}
	defer os.Chmod(filepath.Join(to, "readonly"), 0o755)
	treetest.Same(t, to, want)
	for path, text := range map[string]string{to: "not empty", filepath.Join(to, "content"): "not a directory", filepath.Join(home, "none/to"): "no such file"} {
		if a := tool(t, m.Dir, "restore", past, "--to", path); a.exit != 1 || !strings.Contains(a.err, path) || !strings.Contains(a.err, text) {
			t.Errorf("to %s: %+v", path, a)
		}
	}
	treetest.Same(t, to, want)
	if a := tool(t, m.Dir, "restore", past, "--to", to, "--stay"); a.exit != 2 {
		t.Errorf("%+v", a)
	}
}

func TestADirectoryBecomesAsItWas(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		p := func(name string) string { return m.Path("d", name) }
		put(t, p("content"), "past\n")
		put(t, p("sub/deep/moved"), "moves")
		put(t, p("gone/with all"), "gone")
		put(t, p("type"), "was a file")
		put(t, p("link1"), "links")
		ok(t, os.Link(p("link1"), p("link2")))
		ok(t, os.Symlink("content", p("symlink")))
		ok(t, unix.Mkfifo(p("fifo"), 0o640))
		put(t, p("sparse"), "x")
		ok(t, os.Truncate(p("sparse"), 64<<20))
		put(t, p("readonly/file"), "in a directory that is not writable")
		for _, n := range hostile {
			put(t, p("names/"+n), n)
		}
		ok(t, unix.Setxattr(p("content"), "user.x", []byte("past"), 0))
		ok(t, os.Chmod(p("content"), 0o640))
		ok(t, os.Chmod(p("readonly/file"), 0o400))
		ok(t, os.Chmod(p("readonly"), 0o555))
		defer os.Chmod(p("readonly"), 0o755)
		if out, err := exec.Command("setfacl", "-m", "u:12345:r", p("link1")).CombinedOutput(); err != nil {
			t.Logf("no access control lists here: %s", out)
		}
		then := moment(t, m)
		want := treetest.Describe(t, m.Path("d"))

		put(t, p("content"), "live\n")
		ok(t, unix.Setxattr(p("content"), "user.x", []byte("live"), 0))
		ok(t, os.Rename(p("sub/deep"), p("deeper")))
		ok(t, os.RemoveAll(p("gone")))
		ok(t, os.Remove(p("type")))
		put(t, p("type/in the way"), "a directory now")
		ok(t, os.Remove(p("link2")))
		put(t, p("link2"), "apart")
		ok(t, os.Remove(p("symlink")))
		ok(t, os.Symlink("elsewhere", p("symlink")))
		ok(t, os.Remove(p("fifo")))
		ok(t, os.Remove(p("sparse")))
		ok(t, os.Chmod(p("readonly"), 0o755))
		ok(t, os.Chmod(p("readonly/file"), 0o600))
		put(t, p("readonly/file"), "changed")
		ok(t, os.Chmod(p("readonly/file"), 0o400))
		put(t, p("readonly/new"), "new")
		ok(t, os.Chmod(p("readonly"), 0o555))
		for i, n := range hostile {
			if i%2 == 0 {
				ok(t, os.Remove(p("names/"+n)))
			} else {
				put(t, p("names/"+n), "changed")
			}
		}
		put(t, p("later"), "came later")
		changed := treetest.Describe(t, m.Path("d"))

		if a := tool(t, m.Dir, "diff", "--name-status", "d@@"+then); a.exit != 1 || a.err != "" || !strings.Contains(a.out, "R100\tsub/deep/\tdeeper/\n") || !strings.Contains(a.out, "T\ttype/\n") {
			t.Errorf("%+v", a)
		}
		if dry := must(t, m.Dir, "restore", "--dry-run", "d@@"+then); !strings.Contains(dry, "moved       d/sub/deep/ (from d/deeper)\n") {
			t.Error(dry)
		}
		treetest.Same(t, m.Path("d"), changed)
		restoreElsewhere(t, m, "d@@"+then, want)
		treetest.Same(t, m.Path("d"), changed)
		type report struct {
			Directory   string `json:"directory"`
			Time        string `json:"time"`
			DryRun      bool   `json:"dry_run"`
			Interrupted bool   `json:"interrupted"`
			Actions     []struct {
				Op    string   `json:"op"`
				Path  string   `json:"path"`
				From  string   `json:"from"`
				Type  string   `json:"type"`
				What  []string `json:"what"`
				Error string   `json:"error"`
			} `json:"actions"`
			Problems   []struct{ Path, Error string } `json:"problems"`
			Failed     int                            `json:"failed"`
			OtherOwner int                            `json:"other_owner"`
			Bytes      uint64                         `json:"bytes"`
			Undo       string                         `json:"undo"`
		}
		r := mustJSON[report](t, m.Dir, "restore", "d@@"+then)
		if r.Failed != 0 || r.Interrupted || r.Directory != m.Path("d") || len(r.Actions) < 20 || r.Bytes > 1<<20 {
			t.Errorf("%+v", r)
		}
		treetest.Same(t, m.Path("d"), want)
		if a := tool(t, m.Dir, "diff", "--times", "d@@"+then); a != (answer{}) {
			t.Errorf("%+v", a)
		}
		if again := must(t, m.Dir, "restore", "d@@"+then); !strings.HasSuffix(again, "; nothing is to be done.\n") {
			t.Errorf("a second time: %s", again)
		}
		// What it says undoes it, as a shell reads it.
		shell := exec.Command("sh", "-c", r.Undo)
		shell.Dir, shell.Env = m.Dir, append(os.Environ(), "PATH="+filepath.Dir(mounttest.Bin(t, "sharefs"))+":"+os.Getenv("PATH"))
		if a := command(t, shell); a.exit != 0 {
			t.Errorf("%s: %+v", r.Undo, a)
		}
		treetest.Same(t, m.Path("d"), changed)
		ok(t, os.Chmod(p("readonly"), 0o755))
	}, quick)
}

func TestWhatIsOverwrittenIsAVersionFirst(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		put(t, m.Path("d/a"), "past")
		then := moment(t, m)
		// It is open for writing all the time, and never came to rest.
		f, err := os.OpenFile(m.Path("d/a"), os.O_WRONLY|os.O_TRUNC, 0)
		ok(t, err)
		defer f.Close()
		_, err = f.WriteString("unsaved")
		ok(t, err)
		g, err := os.Create(m.Path("d/b"))
		ok(t, err)
		defer g.Close()
		_, err = g.WriteString("unsaved too")
		ok(t, err)
		must(t, m.Dir, "restore", "d@@"+then)
		holds(t, m.Path("d/a"), "past")
		for name, want := range map[string]string{"d/a": "unsaved", "d/b": "unsaved too"} {
			found := false
			for _, v := range mustJSON[logJSON](t, m.Dir, "log", name).Versions {
				found = found || must(t, m.Dir, "cat", fmt.Sprintf("%s@@%d", name, v.Number)) == want
			}
			if !found {
				t.Errorf("what %s held is lost", name)
			}
		}
	}, mounttest.Options("settle=1h"))
}

func TestARestoreGoesOnWhereItMayNot(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		if m.Mode != mounttest.User {
			return // root may do all
		}
		put(t, m.Path("d/a"), "past")
		put(t, m.Path("d/shut/b"), "past")
		then := moment(t, m)
		put(t, m.Path("d/a"), "live")
		put(t, m.Path("d/shut/b"), "live")
		mounttest.WaitFor(t, "the versions", func() bool { return history(t, m, "d/shut/b").Live == 2 })
		ok(t, os.Chmod(m.Path("d/shut"), 0))
		a := tool(t, m.Dir, "restore", "d@@"+then)
		if a.exit != 1 || !strings.Contains(a.err, "sharefs: restore d/shut: permission denied\n") || !strings.Contains(a.out, "1 overwritten, 1 with other attributes, 1 not.") {
			t.Errorf("%+v", a)
		}
		holds(t, m.Path("d/a"), "past")
		must(t, m.Dir, "restore", "d@@"+then)
		holds(t, m.Path("d/shut/b"), "past")
	}, quick)
}

func TestATreeIsWrittenAsAPatch(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		text := strings.Repeat("a line\n", 20)
		put(t, m.Path("d/a"), text+"old\n"+text)
		put(t, m.Path("d/gone"), "gone\n")
		put(t, m.Path("d/with space"), "1\n")
		put(t, m.Path("d/in/moved"), "moved\n"+text)
		put(t, m.Path("d/in/stays"), "same\n")
		put(t, m.Path("d/no end"), "x")
		then := moment(t, m)
		work := t.TempDir()
		m.Run("cp", "-a", "d", work)
		put(t, m.Path("d/a"), text+"new\n"+text)
		ok(t, os.Remove(m.Path("d/gone")))
		put(t, m.Path("d/with space"), "2\n")
		put(t, m.Path("d/in/moved"), "moved\n"+text+"and changed\n")
		ok(t, os.Rename(m.Path("d/in"), m.Path("d/out")))
		put(t, m.Path("d/new"), "new\n")
		ok(t, os.Chmod(m.Path("d/a"), 0o755))
		put(t, m.Path("d/no end"), "y")
		a := tool(t, m.Dir, "diff", "d@@"+then)
		if a.exit != 1 || a.err != "" {
			t.Fatalf("%+v", a)
		}
		apply := exec.Command("git", "apply", "-v", "-")
		apply.Dir, apply.Stdin = filepath.Join(work, "d"), strings.NewReader(a.out)
		if out, err := apply.CombinedOutput(); err != nil {
			t.Fatalf("git apply: %v: %s%s", err, out, a.out)
		}
		if out, err := exec.Command("diff", "-r", filepath.Join(work, "d"), m.Path("d")).CombinedOutput(); err != nil {
			t.Errorf("%s", out)
		}
		if stat := tool(t, m.Dir, "diff", "--stat", "d@@"+then); !strings.HasSuffix(stat.out, " lines removed\n") || !strings.Contains(stat.out, " a           | 2 +-\n") {
			t.Errorf("%+v", stat)
		}
		type changes struct {
			Equal   bool
			Changes []struct{ Op, Path, From string }
		}
		var got changes
		raw := tool(t, m.Dir, "diff", "--json", ".@@"+then, ".")
		decode(t, raw.out, &got)
		if got.Equal || !slices.ContainsFunc(got.Changes, func(c struct{ Op, Path, From string }) bool {
			return c.Op == "R" && c.Path == "d/out" && c.From == "d/in"
		}) {
			t.Errorf("%+v", got)
		}
		refused(t, m.Dir, 2, "no time is named: it goes behind @@, as in d@@yesterday", "diff", "d")
		refused(t, m.Dir, 2, "--stat and --name-status exclude each other", "diff", "--stat", "--name-status", "d@@"+then)
		refused(t, m.Dir, 2, "d@@nonsense: nonsense is no tag and no time since the tree began; times are written -2h, yesterday or 2026-11-20T10:00", "diff", "d@@nonsense", "d")
		refused(t, m.Dir, 1, "d@@nonsense: nonsense is no tag and no time since the tree began; times are written -2h, yesterday or 2026-11-20T10:00", "restore", "d@@nonsense")
		refused(t, m.Dir, 2, "d/new: is not a directory", "diff", "d@@"+then, "d/new")
	}, quick)
}

func TestWhatIsGoneComesBackWithAllItHad(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		put(t, m.Path("d/e/f"), "one")
		put(t, m.Path("d/g"), "two")
		put(t, m.Path("keep"), "keep")
		ok(t, os.Symlink("nowhere", m.Path("d/link")))
		ok(t, os.Symlink("nowhere", m.Path("link")))
		ok(t, unix.Setxattr(m.Path("d/e/f"), "user.x", []byte("1"), 0))
		ok(t, os.Chmod(m.Path("d/e/f"), 0o604))
		ok(t, os.Chmod(m.Path("d/e"), 0o711))
		moment(t, m)
		want := treetest.Describe(t, m.Path("d"))
		ok(t, os.RemoveAll(m.Path("d")))
		ok(t, os.Remove(m.Path("link")))
		ok(t, os.Rename(m.Path("keep"), m.Path("kept")))
		moment(t, m)
		type found struct {
			Directory string `json:"directory"`
			Pattern   string `json:"pattern"`
			Found     []struct {
				Path    string `json:"path"`
				Type    string `json:"type"`
				Removed string `json:"removed"`
				Version uint64 `json:"version"`
				Size    uint64 `json:"size"`
				Restore string `json:"restore"`
			} `json:"found"`
		}
		got := mustJSON[found](t, m.Dir, "find", "--deleted")
		if len(got.Found) != 2 || got.Found[0].Type != "directory" && got.Found[1].Type != "directory" {
			t.Fatalf("%+v", got)
		}
		one := mustJSON[found](t, m.Dir, "find", "--deleted", ".", "f")
		if len(one.Found) != 1 || one.Found[0].Path != m.Path("d/e/f") || one.Found[0].Version == 0 || one.Found[0].Size != 3 {
			t.Errorf("%+v", one)
		}
		if got := must(t, m.Dir, "cat", "d/e/f@@1"); got != "one" {
			t.Errorf("%q", got)
		}
		if got := must(t, m.Dir, "log", "d/e/f"); !strings.HasPrefix(got, "d/e/f is removed; sharefs restore d/e/f@@1 brings it back.\n") {
			t.Error(got)
		}
		run := func(line string) {
			t.Helper()
			shell := exec.Command("sh", "-c", line)
			shell.Dir, shell.Env = m.Dir, append(os.Environ(), "PATH="+filepath.Dir(mounttest.Bin(t, "sharefs"))+":"+os.Getenv("PATH"))
			if a := command(t, shell); a.exit != 0 {
				t.Errorf("%s: %+v", line, a)
			}
		}
		run(one.Found[0].Restore)
		for _, p := range []string{"e", "e/f"} {
			if now := treetest.Describe(t, m.Path("d"))[p]; now != want[p] {
				t.Errorf("%s is %s, was %s", p, now, want[p])
			}
		}
		ok(t, os.RemoveAll(m.Path("d")))
		for _, f := range got.Found {
			run(f.Restore)
		}
		treetest.Same(t, m.Path("d"), want)
		if target, err := os.Readlink(m.Path("link")); err != nil || target != "nowhere" {
			t.Errorf("%q, %v", target, err)
		}
		if got := must(t, m.Dir, "find", "--deleted"); got != "Nothing was removed from "+m.Dir+".\n" {
			t.Errorf("%s", got)
		}
		refused(t, m.Dir, 2, "--deleted is missing; find(1) finds what is there", "find")
		refused(t, m.Dir, 2, "'[' is no pattern", "find", "--deleted", ".", "[")
	}, quick)
}
