package cmdtest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs/integration/mounttest"
)

// quick makes versions come soon after a close.
var quick = mounttest.Options("settle=20ms")

// logJSON is what sharefs log --json writes.
type logJSON struct {
	File     string        `json:"file"`
	FileID   string        `json:"file_id"`
	Removed  bool          `json:"removed"`
	Moved    bool          `json:"moved"`
	Now      string        `json:"now"`
	Changed  bool          `json:"changed"`
	Versions []versionJSON `json:"versions"`
}

type versionJSON struct {
	Number  uint64 `json:"number"`
	Time    string `json:"time"`
	Size    uint64 `json:"size"`
	Change  int64  `json:"change"`
	Mode    string `json:"mode"`
	UID     uint32 `json:"uid"`
	GID     uint32 `json:"gid"`
	Mtime   string `json:"mtime"`
	Live    bool   `json:"live"`
	Open    bool   `json:"open"`
	Torn    bool   `json:"torn"`
	Damaged bool   `json:"damaged"`
	Note    string `json:"note"`
	Author  string `json:"author"`
	By      string `json:"author_id"`
}

// at is the time of a version as the tool shows it.
func (v versionJSON) at(t *testing.T) string {
	t.Helper()
	at, err := time.Parse(time.RFC3339, v.Time)
	if err != nil {
		t.Fatal(err)
	}
	return at.Local().Format("2006-01-02 15:04:05.000")
}

// version saves text under name and waits until that is version n.
func version(t *testing.T, m *mounttest.Mount, n int, name, text string) {
	t.Helper()
	if err := os.WriteFile(m.Path(name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	mounttest.WaitFor(t, fmt.Sprintf("version %d of %s", n, name), func() bool {
		h := history(t, m, name)
		return h.Live == uint64(n) && len(h.Versions) == n
	})
}

type metaJSON struct {
	Live     uint64 `json:"live"`
	Versions []struct {
		Number uint64 `json:"number"`
	} `json:"versions"`
}

func history(t *testing.T, m *mounttest.Mount, name string) (h metaJSON) {
	t.Helper()
	text, err := os.ReadFile(m.Path(name + "@@/meta"))
	if err == nil {
		err = json.Unmarshal(text, &h)
	}
	if err != nil {
		t.Fatalf("%s@@/meta: %v: %s", name, err, text)
	}
	return h
}

func TestLogListsVersions(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		version(t, m, 1, "a.txt", "one\n")
		version(t, m, 2, "a.txt", "one\ntwo\n")
		version(t, m, 3, "a.txt", "x\n")
		text := must(t, m.Dir, "log", "a.txt")
		lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		const stamp = `\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}`
		for i, want := range []string{
			`^VERSION  SETTLED +SIZE  CHANGE  MARK  NOTE$`, `^3 +` + stamp + `  2 B   -6 B    live$`, `^2 +` + stamp + `  8 B   \+4 B$`, `^1 +` + stamp + `  4 B   \+4 B$`,
		} {
			if i >= len(lines) || !regexp.MustCompile(want).MatchString(lines[i]) {
				t.Fatalf("line %d does not match %s in\n%s", i, want, text)
			}
		}
		all := mustJSON[logJSON](t, m.Dir, "log", "a.txt")
		if len(all.Versions) != 3 || all.Versions[0].Number != 3 || !all.Versions[0].Live || all.Versions[0].Change != -6 || all.File != m.Path("a.txt") ||
			all.Removed || all.Changed || len(all.FileID) != 32 || all.Versions[2].Mode != "0644" {
			t.Errorf("%+v", all)
		}
		// The JSON has the times of the text.
		for i, v := range all.Versions {
			at, err := time.Parse(time.RFC3339, v.Time)
			if err != nil || !strings.Contains(lines[i+1], at.Local().Format("2006-01-02 15:04:05.000")) {
				t.Errorf("%s is not in %q", v.Time, lines[i+1])
			}
		}
		if got := mustJSON[logJSON](t, m.Dir, "log", "-n", "2", "a.txt"); len(got.Versions) != 2 || got.Versions[1].Number != 2 {
			t.Errorf("-n 2: %+v", got)
		}
		if got := mustJSON[logJSON](t, m.Dir, "log", "-n", "2", "--reverse", "a.txt"); len(got.Versions) != 2 || got.Versions[0].Number != 2 {
			t.Errorf("--reverse: %+v", got)
		}
		if got := mustJSON[logJSON](t, "/", "-C", m.Dir, "log", "a.txt@@2"); len(got.Versions) != 1 || got.Versions[0].Number != 2 {
			t.Errorf("one version: %+v", got)
		}
		if got := must(t, m.Dir, "log", "a.txt@@1"); strings.Count(got, "\n") != 2 {
			t.Errorf("one version: %s", got)
		}
		for _, n := range []string{"0", "-1", "x", "", "1.5"} {
			shown := n
			if n == "" {
				shown = "''"
			}
			refused(t, m.Dir, 2, "--number takes a number from 1, not "+shown, "log", "--number="+n, "a.txt")
		}
		refused(t, m.Dir, 2, "PATH is missing", "log")
		refused(t, m.Dir, 2, "too many arguments: b", "log", "a.txt", "b")
		refused(t, m.Dir, 1, "missing.txt: no such file or directory", "log", "missing.txt")
		refused(t, m.Dir, 1, "a.txt@@9: no such version; there are 1 to 3, and times such as -2h, yesterday or 2026-11-20T10:00", "log", "a.txt@@9")
		refused(t, m.Dir, 1, "a.txt@@: no version is named: a number or a time goes behind @@, as in a.txt@@1", "log", "a.txt@@")
		refused(t, m.Dir, 1, ".: is a directory; versions are those of files", "commit", ".")
		refused(t, m.Dir, 1, ".share/ctl/status: is made by the mount itself and has no versions", "log", ".share/ctl/status")
		refused(t, "/", 1, "/etc/passwd: not in a ShareFS mount", "log", "/etc/passwd")
		if err := unix.Mkfifo(m.Path("fifo"), 0o644); err != nil {
			t.Fatal(err)
		}
		refused(t, m.Dir, 1, "fifo: is not a regular file and has no versions", "log", "fifo")
	}, quick)
}

func TestAFileWithoutVersionsSaysSo(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		f, err := os.Create(m.Path("a"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString("x"); err != nil {
			t.Fatal(err)
		}
		if got, want := must(t, m.Dir, "log", "a"), "a has no versions yet: one is made when it is closed and has been quiet for a moment.\n"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if got := mustJSON[logJSON](t, m.Dir, "log", "a"); len(got.Versions) != 0 || got.Versions == nil || !got.Changed {
			t.Errorf("%+v", got)
		}
		refused(t, m.Dir, 1, "a@@1: a has no versions yet: one is made when it is closed and has been quiet for a moment", "cat", "a@@1")
		refused(t, m.Dir, 2, "a: has no versions yet to compare with", "diff", "a")
	})
}

// content is what sharefs cat --json writes.
type content struct {
	File      string `json:"file"`
	Version   uint64 `json:"version"`
	OtherFile bool   `json:"other_file"`
	Size      int    `json:"size"`
	Text      string `json:"text"`
	Base64    string `json:"base64"`
}

func TestCatWritesAVersion(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		version(t, m, 1, "a", "one")
		version(t, m, 2, "a", "\x00\xff")
		for _, name := range []string{"a@@1", "a@@/1", "./a@@/1", m.Path("a@@1")} {
			if got := must(t, m.Dir, "cat", name); got != "one" {
				t.Errorf("%s: %q", name, got)
			}
		}
		refused(t, m.Dir, 1, "a@@/: no version is named: a number or a time goes behind @@, as in a@@1", "cat", "a@@/")
		if got := must(t, m.Dir, "cat", "a"); got != "\x00\xff" {
			t.Errorf("%q", got)
		}
		if got := must(t, m.Dir, "cat", "a@@"+time.Now().Add(time.Hour).Format("2006-01-02T15:04")); got != "\x00\xff" {
			t.Errorf("by time: %q", got)
		}
		if got := mustJSON[content](t, m.Dir, "cat", "a@@1"); got != (content{m.Path("a"), 1, false, 3, "one", ""}) {
			t.Errorf("%+v", got)
		}
		if got := mustJSON[content](t, m.Dir, "cat", "a"); got != (content{m.Path("a"), 0, false, 2, "", "AP8="}) {
			t.Errorf("%+v", got)
		}
		refused(t, m.Dir, 1, "a@@3: no such version; there are 1 to 2, and times such as -2h, yesterday or 2026-11-20T10:00", "cat", "a@@3")
		first := mustJSON[logJSON](t, m.Dir, "log", "a@@1").Versions[0].at(t)
		for _, sel := range []string{"nonsense", "2020-01-01", "01", "+1"} { // what the mount does not know the tool does not either
			refused(t, m.Dir, 1, "a@@"+sel+": "+sel+" is no number of a version, no tag and no time since the first one ("+first+
				"); times are written -2h, yesterday or 2026-11-20T10:00", "cat", "a@@"+sel)
			if _, err := os.Stat(m.Path("a@@" + sel)); err == nil {
				t.Errorf("a@@%s is there", sel)
			}
		}
		// Trouble with the output is not that of the file.
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer full.Close()
		cmd := exec.Command(mounttest.Bin(t, "sharefs"), "cat", "a@@1")
		var errs strings.Builder
		cmd.Dir, cmd.Stdout, cmd.Stderr = m.Dir, full, &errs
		if err := cmd.Run(); err == nil || errs.String() != "sharefs: write /dev/stdout: no space left on device\n" {
			t.Errorf("%v: %s", err, errs.String())
		}
	}, quick)
}

func TestDiffComparesVersions(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		version(t, m, 1, "a", "1\n2\n3\n4\n5\n6\n7\n8\n9\n")
		refused(t, m.Dir, 2, "a: has one version only, and has not changed since", "diff", "a")
		version(t, m, 2, "a", "1\n2\n3\n4\nfive\n6\n7\n8\n9\n")
		version(t, m, 3, "a", "1\n2\n3\n4\nfive\n6\n7\n8\nnine\n")
		body := func(a answer) string {
			_, rest, _ := strings.Cut(a.out, "\n")
			_, rest, _ = strings.Cut(rest, "\n")
			return rest
		}
		for _, c := range []struct {
			args []string
			head string
			want string
		}{
			{[]string{"a"}, "--- a@@2", "@@ -6,4 +6,4 @@\n 6\n 7\n 8\n-9\n+nine\n"},
			{[]string{"a@@2"}, "--- a@@2", "@@ -6,4 +6,4 @@\n 6\n 7\n 8\n-9\n+nine\n"},
			{[]string{"a@@1", "a@@2", "-U", "1"}, "--- a@@1", "@@ -4,3 +4,3 @@\n 4\n-5\n+five\n 6\n"},
			{[]string{"-U0", "a@@1"}, "--- a@@1", "@@ -5 +5 @@\n-5\n+five\n@@ -9 +9 @@\n-9\n+nine\n"},
		} {
			a := tool(t, m.Dir, append([]string{"diff"}, c.args...)...)
			if a.exit != 1 || a.err != "" || body(a) != c.want || !strings.HasPrefix(a.out, c.head+"\t") {
				t.Errorf("diff %q: exit %d: %s%swant\n%s", c.args, a.exit, a.err, a.out, c.want)
			}
		}
		if a := tool(t, m.Dir, "diff", "a@@3"); a != (answer{}) {
			t.Errorf("equal sides: %+v", a)
		}
		// patch(1) makes the new text from the old one.
		a := tool(t, m.Dir, "diff", "a@@1", "a@@3")
		work := t.TempDir()
		writeFile(t, filepath.Join(work, "a"), "1\n2\n3\n4\n5\n6\n7\n8\n9\n")
		patch := exec.Command("patch", "-s", filepath.Join(work, "a"))
		patch.Stdin = strings.NewReader(a.out)
		if out, err := patch.CombinedOutput(); err != nil {
			t.Errorf("patch: %v: %s", err, out)
		}
		holds(t, filepath.Join(work, "a"), "1\n2\n3\n4\nfive\n6\n7\n8\nnine\n")

		type side struct {
			Name    string `json:"name"`
			Version uint64 `json:"version"`
			Time    string `json:"time"`
		}
		type result struct {
			Old    side              `json:"old"`
			New    side              `json:"new"`
			Equal  bool              `json:"equal"`
			Binary bool              `json:"binary"`
			Large  bool              `json:"large"`
			Hunks  []json.RawMessage `json:"hunks"`
		}
		compare := func(args ...string) (r result) {
			t.Helper()
			if err := json.Unmarshal([]byte(tool(t, m.Dir, append([]string{"diff", "--json"}, args...)...).out), &r); err != nil {
				t.Fatal(err)
			}
			return r
		}
		r := compare("a@@1", "a@@3")
		if r.Old.Version != 1 || r.New.Name != "a@@3" || r.Equal || r.Binary || len(r.Hunks) != 1 {
			t.Errorf("%+v", r)
		}
		version(t, m, 4, "a", "a\x00b")
		if a := tool(t, m.Dir, "diff", "a"); a != (answer{1, "Binary files a@@3 and a@@4 differ\n", ""}) {
			t.Errorf("%+v", a)
		}
		large := strings.Repeat("a line of some length\n", 33<<20/22)
		version(t, m, 1, "large", large)
		version(t, m, 2, "large", large+"x")
		want := "large@@1 and large@@2 differ; more than 32 MiB are not compared line by line, but diff(1) can\n"
		if a := tool(t, m.Dir, "diff", "large"); a != (answer{1, want, ""}) {
			t.Errorf("%+v", a)
		}
		if r := compare("large"); !r.Large || r.Binary || r.Equal {
			t.Errorf("%+v", r)
		}
		if r := compare("large@@2", "large"); !r.Large || !r.Equal {
			t.Errorf("%+v", r)
		}
		for _, n := range []string{"-1", "x"} {
			refused(t, m.Dir, 2, "--unified takes a number from 0, not "+n, "diff", "-U", n, "a")
		}
		outside := filepath.Join(t.TempDir(), "outside")
		writeFile(t, outside, "1\n2\n3\n4\nfive\n6\n7\n8\n9\n")
		if a := tool(t, m.Dir, "diff", "a@@2", outside); a != (answer{}) {
			t.Errorf("with a file that lies in no mount: %+v", a)
		}
		if a := tool(t, m.Dir, "diff", outside, "a@@1"); a.exit != 1 || body(a) != "@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-five\n+5\n 6\n 7\n 8\n" {
			t.Errorf("with a file that lies in no mount: %+v", a)
		}
		refused(t, m.Dir, 2, "PATH is missing", "diff")
		refused(t, m.Dir, 2, "b: no such file or directory", "diff", "a", "b")
		refused(t, m.Dir, 2, "a@@9: no such version; there are 1 to 4, and times such as -2h, yesterday or 2026-11-20T10:00", "diff", "a@@9")
	}, quick)
}

// restored is what sharefs restore --json writes.
type restored struct {
	File     string `json:"file"`
	Restored uint64 `json:"restored"`
	Kept     uint64 `json:"kept"`
	Already  bool   `json:"already"`
	Revived  bool   `json:"revived"`
	DryRun   bool   `json:"dry_run"`
}

func TestRestoreKeepsWhatWasThere(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		version(t, m, 1, "a b", "one")
		version(t, m, 2, "a b", "two")
		link := m.Path("hard")
		if err := os.Link(m.Path("a b"), link); err != nil {
			t.Fatal(err)
		}
		want := "'a b' holds what it held in version 1. What it held before is version 2 (to undo: sharefs restore 'a b@@2').\n"
		if got := must(t, m.Dir, "restore", "a b@@1"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		holds(t, m.Path("a b"), "one")
		holds(t, link, "one")
		if got, want := must(t, m.Dir, "restore", "a b@@3"), "'a b' holds version 3 already; nothing is to be done.\n"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if got := mustJSON[restored](t, m.Dir, "restore", "a b@@2"); got != (restored{m.Path("a b"), 2, 3, false, false, false}) {
			t.Errorf("%+v", got)
		}
		holds(t, m.Path("a b"), "two")
		// What is not yet a version becomes one.
		f, err := os.OpenFile(m.Path("a b"), os.O_WRONLY|os.O_TRUNC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("three"); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		got := mustJSON[restored](t, m.Dir, "restore", "a b@@1")
		if got.Restored != 1 || got.Kept == 0 {
			t.Errorf("%+v", got)
		}
		holds(t, m.Path(fmt.Sprintf("a b@@%d", got.Kept)), "three")
		refused(t, m.Dir, 2, "no version is named: a number or a time goes behind @@, as in 'a b@@1'", "restore", "a b")
		refused(t, m.Dir, 1, "'a b@@99': no such version; there are 1 to 6, and times such as -2h, yesterday or 2026-11-20T10:00", "restore", "a b@@99")
		refused(t, m.Dir, 2, "PATH@@N is missing", "restore")
	}, quick)
}

func TestARemovedFileComesBack(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		version(t, m, 1, "a", "one")
		version(t, m, 2, "a", "two")
		if err := os.Chmod(m.Path("a"), 0o640); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(m.Path("a")); err != nil {
			t.Fatal(err)
		}
		if got := must(t, m.Dir, "log", "a"); !strings.HasPrefix(got, "a is removed; sharefs restore a@@2 brings it back.\n") || strings.Count(got, "\n") != 4 {
			t.Errorf("%s", got)
		}
		if got := must(t, m.Dir, "cat", "a@@2"); got != "two" {
			t.Errorf("%q", got)
		}
		if a := tool(t, m.Dir, "diff", "a@@1"); a.exit != 1 || !strings.HasSuffix(a.out, "\n-one\n\\ No newline at end of file\n+two\n\\ No newline at end of file\n") {
			t.Errorf("%+v", a)
		}
		refused(t, m.Dir, 1, "a: is removed; sharefs log lists its versions", "cat", "a")
		refused(t, m.Dir, 1, "a: is removed", "commit", "a")
		if got, want := must(t, m.Dir, "restore", "a@@1"), "a is back, as it was in version 1.\n"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
		holds(t, m.Path("a"), "one")
		// It goes on where it stopped.
		mounttest.WaitFor(t, "the version of the file that is back", func() bool {
			h := history(t, m, "a")
			return len(h.Versions) == 3 && h.Live == 3
		})
	}, quick)
}

func TestAMovedFileIsFound(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		if err := os.Mkdir(m.Path("d"), 0o755); err != nil {
			t.Fatal(err)
		}
		version(t, m, 1, "d/a", "one")
		if err := os.Rename(m.Path("d/a"), m.Path("d/b c")); err != nil {
			t.Fatal(err)
		}
		if got, want := must(t, m.Dir, "log", "d/a"), "d/a is called 'd/b c' now; sharefs restore d/a@@1 makes a copy under the old name.\n"; !strings.HasPrefix(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
		if got := mustJSON[logJSON](t, m.Dir, "log", "d/a"); !got.Removed || !got.Moved || got.Now != m.Path("d/b c") || len(got.Versions) != 1 {
			t.Errorf("%+v", got)
		}
		if err := os.Rename(m.Path("d/b c"), m.Path("e")); err != nil {
			t.Fatal(err)
		}
		text := must(t, m.Dir, "log", "d/a")
		found := regexp.MustCompile(`^d/a was moved to another directory \((find \S+ -inum \d+)\); `).FindStringSubmatch(text)
		if found == nil {
			t.Fatal(text)
		}
		if got := m.Run("sh", "-c", found[1]); got != m.Path("e")+"\n" {
			t.Errorf("%s: %q", found[1], got)
		}
		if got := must(t, m.Dir, "restore", "d/a@@1"); got != "d/a is back, as it was in version 1.\n" {
			t.Errorf("%q", got)
		}
		holds(t, m.Path("d/a"), "one")
		holds(t, m.Path("e"), "one")
	}, quick)
}

// A time may lead to a file that bore the name then and bears another one now. What that one held is shown, and is never taken for the version of
// the same number of the file that has the name now.
func TestTheVersionOfAnotherFileIsNotTakenForOnesOwn(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		version(t, m, 1, "old", "old 1")
		version(t, m, 2, "old", "old 2")
		version(t, m, 1, "x", "x 1")
		version(t, m, 2, "x", "x 2")
		m.Remount() // who bore a name is known of whole instants, which this ends
		then := "x@@" + time.Now().Format("2006-01-02T15:04:05.000Z07:00")
		if err := os.Rename(m.Path("x"), m.Path("y")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(m.Path("old"), m.Path("x")); err != nil {
			t.Fatal(err)
		}
		holds(t, m.Path(then), "x 2")
		if got := must(t, m.Dir, "cat", then); got != "x 2" {
			t.Errorf("%q", got)
		}
		if got := mustJSON[content](t, m.Dir, "cat", then); got != (content{m.Path("x"), 2, true, 3, "x 2", ""}) {
			t.Errorf("%+v", got)
		}
		if a := tool(t, m.Dir, "diff", then, "x"); a.exit != 1 || !strings.HasPrefix(a.out, "--- "+then+"\t") || !strings.Contains(a.out, "\n-x 2\n") {
			t.Errorf("%+v", a)
		}
		message := then + ": another file bore the name then: cp " + then + " x takes over what that one held"
		refused(t, m.Dir, 1, message, "log", then)
		refused(t, m.Dir, 1, message, "restore", then)
		holds(t, m.Path("x"), "old 2")
		m.Run("cp", then, "x")
		holds(t, m.Path("x"), "x 2")
		holds(t, m.Path("x@@2"), "old 2")
	}, quick)
}

func TestCommitMakesAVersionWithANote(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		if err := os.WriteFile(m.Path("a"), []byte("one"), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, want := must(t, m.Dir, "commit", "a", "-m", "first\x1b[31m"), "Version 1 of a is kept.\n"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if got, want := must(t, m.Dir, "commit", "a"), "a has not changed since version 1; no version was made.\n"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if got := must(t, m.Dir, "log", "a"); !strings.Contains(got, `live  first\x1b[31m`+"\n") {
			t.Errorf("the note is lost, or takes the terminal over: %q", got)
		}
		want := `a has not changed since version 1, which keeps the note it has (first\x1b[31m); no version was made.` + "\n"
		if got := must(t, m.Dir, "commit", "a", "-m", "better"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if err := os.WriteFile(m.Path("a"), []byte("two"), 0o644); err != nil {
			t.Fatal(err)
		}
		type committed struct {
			File    string `json:"file"`
			Version uint64 `json:"version"`
			New     bool   `json:"new"`
			Note    string `json:"note"`
		}
		if got := mustJSON[committed](t, m.Dir, "commit", "a", "-m", "n"); got != (committed{m.Path("a"), 2, true, "n"}) {
			t.Errorf("%+v", got)
		}
		holds(t, m.Path("a@@1"), "one")
		if err := os.WriteFile(m.Path("b"), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		must(t, m.Dir, "commit", "b")
		if got, want := must(t, m.Dir, "commit", "b", "-m", "later"), "b has not changed since version 1, which has the note now; no version was made.\n"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
		refused(t, m.Dir, 2, "a@@1 is a version already; commit takes the file itself", "commit", "a@@1")
		refused(t, m.Dir, 2, "the note has 4097 bytes; 4096 are the most", "commit", "a", "-m", strings.Repeat("x", 4097))
		refused(t, m.Dir, 2, "the note is not text (byte 1)", "commit", "a", "-m", "x\xff")
		refused(t, m.Dir, 1, "c: no such file or directory", "commit", "c")
	}, mounttest.Options("settle=1h"))
}

func TestAReadOnlyMountSaysSoAndNamesTheFile(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		version(t, m, 1, "a", "one")
		version(t, m, 2, "a", "two")
		if err := os.WriteFile(m.Path("gone"), []byte("gone"), 0o644); err != nil {
			t.Fatal(err)
		}
		m.Settled()
		if err := os.Remove(m.Path("gone")); err != nil {
			t.Fatal(err)
		}
		m.Unmount()
		if err := m.TryMount("ro"); err != nil {
			t.Fatal(err)
		}
		way := ": the mount is read-only: mount -o remount,rw " + m.Dir
		refused(t, m.Dir, 1, "restore a"+way, "restore", "a@@1")
		refused(t, m.Dir, 1, "restore gone"+way, "restore", "gone@@1")
		refused(t, m.Dir, 1, "commit a"+way, "commit", "a", "-m", "x")
		if got := must(t, m.Dir, "cat", "a@@1"); got != "one" {
			t.Errorf("%q", got)
		}
		if s := m.Status(); !s.Mount.ReadOnly || s.Content.SelfTest.State != "not run" {
			t.Errorf("%+v", s)
		}
	}, quick)
}

func TestStatusDoctorAndVersion(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		version(t, m, 1, "a", "one")
		m.Settled()
		text := must(t, m.Dir, "status", "--all")
		for _, want := range []string{"ShareFS      0.", "Mount        " + m.Dir, "Self-test    passed: ", "Problems     none\n", " since mount", fmt.Sprintf("process %d", m.PID())} {
			if !strings.Contains(text, want) {
				t.Errorf("%q is missing in\n%s", want, text)
			}
		}
		if direct := must(t, "/", "-C", m.Dir, "status"); !strings.Contains(direct, "Mount        "+m.Dir) {
			t.Error(direct)
		}
		s := m.Status()
		if passthrough := m.Mode == mounttest.Passthrough; s.Content.Passthrough != passthrough || (s.Content.Reason == "") != passthrough ||
			s.Content.SelfTest.State != "passed" || s.PID != m.PID() || s.Mount.Point != m.Dir || s.Capture.Captured == 0 || len(s.Problems) != 0 {
			t.Errorf("%+v", s)
		}
		type statusJSON struct {
			PID int `json:"pid"`
		}
		var got statusJSON
		if err := json.Unmarshal([]byte(must(t, m.Dir, "status", "--json")), &got); err != nil || got.PID != m.PID() {
			t.Errorf("%+v, %v", got, err)
		}
		if checked := tool(t, m.Dir, "doctor", "--check"); !strings.Contains(checked.out, "ok     tree             every name, inode and backing file fits\n") {
			t.Errorf("%+v", checked)
		}
		doctor := tool(t, m.Dir, "doctor")
		if !strings.Contains(doctor.out, "ok     mount            "+m.Dir+" answers (process ") || doctor.err != "" {
			t.Errorf("%+v", doctor)
		}
		var findings struct {
			OK       bool `json:"ok"`
			Findings []struct{ What, Mount, Grade, Found, Remedy string }
		}
		if err := json.Unmarshal([]byte(tool(t, m.Dir, "doctor", "--json").out), &findings); err != nil || len(findings.Findings) < 8 {
			t.Errorf("%+v, %v", findings, err)
		}
		said := map[string]bool{}
		for _, f := range findings.Findings {
			if f.Mount == m.Dir {
				said[f.What] = true
			}
		}
		if !said["mount"] || !said["passthrough"] || !said["self-test"] || !said["disk"] || said["kernel"] {
			t.Errorf("of the mount it finds %v", said)
		}
		if got := must(t, "/", "version"); !strings.HasPrefix(got, "sharefs 0.") {
			t.Error(got)
		}
		refused(t, "/", 2, "lgo is not a command; did you mean log?", "lgo")
		refused(t, "/", 2, "lgo is not a command of sharefs op; did you mean log?", "op", "lgo")
		refused(t, "/", 2, "reaname is not a command of sharefs peers; did you mean rename?", "peers", "reaname", "a", "b")
		refused(t, "/", 2, "explian is not a command of sharefs trust; did you mean explain?", "trust", "explian", "a", "b")
		refused(t, "/", 2, "unknown flag: --jsn", "log", "--jsn")
		refused(t, "/", 1, "-C /nowhere: no such file or directory", "-C", "/nowhere", "status")
		if a := tool(t, "/", "-C", "/etc", "status"); a.exit != 1 || !strings.HasPrefix(a.err, "sharefs: -C /etc: not in a ShareFS mount; mounted: ") || !strings.Contains(a.err, m.Dir) {
			t.Errorf("%+v", a)
		}
		writeFile(t, m.Path("-dash"), "x")
		refused(t, m.Dir, 2, "unknown shorthand flag: 'd' in -dash; the file of that name is meant by ./-dash", "log", "-dash")
		refused(t, "/", 2, "unknown shorthand flag: 'd' in -dash; the file of that name is meant by ./-dash", "-C", m.Dir, "cat", "-dash")
		refused(t, m.Dir, 2, "unknown shorthand flag: 'n' in -nodash", "cat", "-nodash")
		for _, args := range [][]string{{"cat", "./-dash"}, {"cat", "--", "-dash"}} {
			if got := must(t, m.Dir, args...); got != "x" {
				t.Errorf("%q: %q", args, got)
			}
		}
		refused(t, "/", 2, "foo is no shell that is known here: bash, fish, powershell, zsh", "completion", "foo")
		refused(t, "/", 2, "too many arguments: foo", "completion", "bash", "foo")
		refused(t, "/", 2, "esp foo is not a command", "esp", "foo")
		refused(t, "/", 2, "FILE is missing", "esp", "key")
		refused(t, "/", 2, "--json: the commands of esp write text only", "esp", "key", "x", "--json")
		if strings.Contains(must(t, "/", "esp", "dial", "--help"), "--json") {
			t.Error("the help of esp dial tells of --json")
		}
		refused(t, "/", 2, "--time takes a length of time such as 500ms, 2s or 1m30s, not 5x", "esp", "bench", "-t", "5x", "127.0.0.1:1")
		refused(t, "/", 2, "--parallel takes a number, not x", "esp", "bench", "-P", "x", "127.0.0.1:1")
		refused(t, "/", 2, "99999 is no port: it takes a number up to 65535", "esp", "listen", "127.0.0.1:99999")
		refused(t, "/", 2, "nohost is no address: HOST:PORT is wanted, [HOST]:PORT where HOST has colons in it", "esp", "dial", "nohost")
		for _, name := range []string{
			"", "log", "cat", "diff", "restore", "commit", "describe", "snapshot", "tag", "untag", "tags", "branch", "switch", "find", "jobs", "status", "doctor", "version", "completion", "completion bash",
			"esp", "esp key", "esp listen", "esp dial", "esp bench", "esp trace", "help",
		} {
			flags := 0
			for line := range strings.Lines(must(t, "/", append(strings.Fields(name), "--help")...)) {
				if !strings.HasPrefix(strings.TrimLeft(line, " "), "-") {
					continue
				}
				flags++
				if !regexp.MustCompile(`^ +(-\w, )?--[\w-]+( [A-Z]+)? {2,}[A-Z]`).MatchString(line) {
					t.Errorf("%s --help: %s is not in the form of the others", name, line)
				}
			}
			if flags == 0 {
				t.Errorf("%s --help shows no flags", name)
			}
		}
		if got := must(t, "/", "completion", "bash"); !strings.Contains(got, "sharefs") {
			t.Error("no completion script")
		}
	}, quick)
}

func TestCtlTakesCommands(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		ctl := m.Path(".share/ctl/ctl")
		lines, err := os.ReadFile(ctl)
		if err != nil || string(lines) != "set atime=relatime\nsync\n" {
			t.Fatalf("%q, %v", lines, err)
		}
		tell := func(text string) error {
			f, err := os.OpenFile(ctl, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteString(text)
			return err
		}
		if err := tell(string(lines)); err != nil {
			t.Errorf("what it prints it does not take: %v", err)
		}
		if err := tell("set atime=noatime\n"); err != nil {
			t.Error(err)
		}
		if s := m.Status(); s.Mount.Atime != "noatime" {
			t.Errorf("atime is %s", s.Mount.Atime)
		}
		for _, bad := range []string{"dance\n", "set\n", "set colour=red\n", "set atime=never\n", "sync now\n"} {
			if err := tell(bad); err == nil {
				t.Errorf("%q is taken", bad)
			}
		}
	})
}
