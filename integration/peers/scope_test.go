package peers

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs/integration/mounttest"
)

// shows waits until a host has exactly some paths, of which files have a content; a directory has none.
func (h *host) shows(what string, want map[string]string) {
	h.t.Helper()
	var tree map[string]string
	ok := func() bool {
		var err error
		if tree, err = h.tree(); err != nil || !slices.Equal(slices.Sorted(maps.Keys(tree)), slices.Sorted(maps.Keys(want))) {
			return false
		}
		for path, content := range want {
			if content == "" && !strings.HasPrefix(tree[path], "d") || content != "" && !has(tree, path, content) {
				return false
			}
		}
		return true
	}
	for end := time.Now().Add(mounttest.Patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("%s: %s has %q, not %q\n%s%s", what, h.name, tree, want, h.ctl("sync.json"), h.must("peers"))
		}
	}
}

// paired makes two hosts, of which the second lets the first do everything.
func paired(t *testing.T) (a, b *host) {
	t.Helper()
	hs := hosts(t, "", "anna", "bert")
	a, b = hs[0], hs[1]
	pairByLink(t, a, b)
	b.must("grant", "anna", "write")
	return a, b
}

// A peer that may read a part has that part, what comes into it, and nothing else; what leaves it stays as it was.
func TestReadAPart(t *testing.T) {
	a, b := paired(t)
	a.do(os.MkdirAll(a.Path("photos/2026"), 0o755))
	a.do(os.MkdirAll(a.Path("work/secret"), 0o755))
	a.write("photos/one", "1")
	a.write("photos/2026/two", "2")
	a.write("photos/2026/private.key", "no")
	a.write("work/secret/plan", "p")
	a.write("top", "t")
	a.must("grant", "bert", "paired", "**/*.key") // before there is anything to take away again
	if out := a.must("grant", "bert", "read", "photos"); !strings.Contains(out, "\nIt keeps paired at '**/*.key', by a rule of its own: sharefs grant bert inherit '/**/*.key' removes that.\n") {
		t.Errorf("%s", out)
	}
	want := map[string]string{"photos": "", "photos/2026": "", "photos/one": "1", "photos/2026/two": "2"}
	b.shows("the part", want)

	a.do(os.Rename(a.Path("work/secret"), a.Path("photos/plans"))) // with all below it
	a.do(os.Rename(a.Path("photos/one"), a.Path("work/one")))
	a.write("photos/2026/two", "2b")
	a.write("work/one", "1b")
	want["photos/plans"], want["photos/plans/plan"], want["photos/2026/two"] = "", "p", "2b"
	b.shows("after moves in and out", want)
	a.do(os.Remove(a.Path("photos/plans/plan")))
	delete(want, "photos/plans/plan")
	b.shows("after a removal", want)

	// While it was away.
	b.Unmount()
	a.write("photos/three", "3")
	a.write("work/four", "4")
	b.Mount.Mount()
	want["photos/three"] = "3"
	b.shows("after it was away", want)

	a.must("grant", "bert", "read", "work")
	want["work"], want["work/four"], want["work/one"] = "", "4", "1b"
	delete(want, "photos/one") // it is told now where it went
	b.shows("with more", want)
	epoch := a.Status().Keys.Epoch
	if out := a.must("grant", "bert", "paired", "photos"); strings.Contains(out, "by a rule of its own") { // it is the same there
		t.Errorf("%s", out)
	}
	if k := a.Status().Keys; k.Epoch != epoch+1 || k.Due != 0 {
		t.Errorf("%+v after epoch %d", k, epoch)
	}
	a.write("photos/five", "5")
	a.write("work/six", "6")
	want["work/six"] = "6"
	b.shows("with less", want)
	if err := unix.Access(b.Path("photos/five"), unix.F_OK); err == nil {
		t.Error("more than it may read")
	}

	// Rules are told as a shell takes them.
	a.must("grant", "bert", "read", "x $(echo hi) 'y'")
	if got := a.ctl("peers/bert/rules"); !strings.Contains(got, `grant bert read '/x $(echo hi) '\''y'\'''`+"\n") {
		t.Errorf("%s", got)
	}
	if out := a.must("trust", "explain", "bert", "x $(echo hi) 'y'/z"); !strings.HasPrefix(out, "read: ") {
		t.Errorf("%s", out)
	}
	a.must("grant", "bert", "inherit", "x $(echo hi) 'y'")

	// Paths are those of the working directory, as with all commands.
	a.do(os.MkdirAll(a.Path("work/in"), 0o755))
	in := func(args ...string) string {
		t.Helper()
		out, err := a.on(append([]string{"-C", a.Path("work/in")}, args...)...)
		if err != nil {
			t.Fatalf("%q: %s, %v", args, out, err)
		}
		return out
	}
	if out := in("grant", "bert", "propose", "../*.txt"); !strings.Contains(out, "bert has the level propose at 'work/*.txt'.\n") {
		t.Errorf("%s", out)
	}
	if out := in("trust", "explain", "bert", "../a.txt"); !strings.HasPrefix(out, "propose: ") || !strings.Contains(out, "Nothing is at /work/a.txt yet.\n") {
		t.Errorf("%s", out)
	}
	if out := in("trust", "explain", "bert", "/work/in"); !strings.HasPrefix(out, "read: ") || strings.Contains(out, "Nothing is") {
		t.Errorf("%s", out)
	}
	line, _, _ := strings.Cut(a.ctl("peers/bert/rules")[strings.Index(a.ctl("peers/bert/rules"), "grant bert propose "):], "\n")
	if line != "grant bert propose '/work/*.txt'" {
		t.Errorf("%s", line)
	}
	in("grant", "bert", "inherit", "/work/*.txt")

	// A rule is removed: what is granted around it counts there.
	rules := a.ctl("peers/bert/rules")
	if out := a.must("grant", "bert", "read", "nowhere/yet"); !strings.Contains(out, "Nothing is there yet.\n") {
		t.Errorf("%s", out)
	}
	epoch = a.Status().Keys.Epoch
	if out := a.must("grant", "bert", "inherit", "nowhere/yet"); !strings.Contains(out, "bert has no rule at nowhere/yet any more") || a.ctl("peers/bert/rules") != rules {
		t.Errorf("%s, %s", out, a.ctl("peers/bert/rules"))
	}
	if k := a.Status().Keys; k.Epoch != epoch+1 || k.Due != 0 {
		t.Errorf("%+v after epoch %d", k, epoch)
	}
	for _, c := range [][]string{{"grant", "bert", "inherit", "nowhere/yet"}, {"grant", "bert", "inherit", "/"}, {"grant", "bert", "inherit"}, {"grant", "bert", "none", "photos"}} {
		if out, err := a.tool(c...); err == nil {
			t.Errorf("%q: %s", c, out)
		}
	}
	a.must("grant", "bert", "read")
	a.must("grant", "bert", "inherit", "photos")
	mounttest.WaitFor(t, "what it may read again", func() bool {
		text, err := os.ReadFile(b.Path("photos/five"))
		return err == nil && string(text) == "5"
	})
}

// A peer that may write a part writes there and nowhere else, also where it may read more; both may grant a part only.
func TestWriteAPart(t *testing.T) {
	hs := hosts(t, "", "anna", "bert")
	a, b := hs[0], hs[1]
	pairByLink(t, a, b)
	a.do(os.MkdirAll(a.Path("photos/2026"), 0o755))
	a.do(os.Chmod(a.Path("photos"), 0o750))
	a.write("photos/2026/one", "1")
	a.write("photos/old", "0")
	a.write("diary", "d")
	a.must("grant", "bert", "write", "photos/2026")
	b.must("grant", "anna", "write", "photos/2026")
	want := map[string]string{"photos": "", "photos/2026": "", "photos/2026/one": "1"}
	b.shows("what is granted", want)

	b.write("photos/2026/two", "2")
	b.write("photos/2026/one", "1b")
	b.do(os.Mkdir(b.Path("photos/2026/trip"), 0o755))
	b.write("photos/2026/trip/three", "3")
	all := map[string]string{"photos": "", "photos/2026": "", "photos/2026/one": "1b", "photos/2026/two": "2", "photos/2026/trip": "", "photos/2026/trip/three": "3", "photos/old": "0", "diary": "d"}
	a.shows("what bert wrote", all)

	b.write("photos/elsewhere", "no")
	b.write("top", "no")
	b.do(os.Chmod(b.Path("photos"), 0o777))
	b.do(os.Rename(b.Path("photos/2026/two"), b.Path("two")))
	b.do(os.Remove(b.Path("photos/2026/trip/three")))
	b.write("photos/2026/four", "4")
	delete(all, "photos/2026/trip/three")
	all["photos/2026/four"] = "4"
	a.shows("what bert may not", all)
	if info, err := os.Stat(a.Path("photos")); err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("%v, %v", info.Mode(), err)
	}

	a.must("grant", "bert", "write", "photos") // and what it wrote there before counts as well
	b.must("grant", "anna", "write", "photos")
	all["photos/elsewhere"] = "no"
	a.shows("with more", all)
	a.write("photos/old", "0b")
	mounttest.WaitFor(t, "more of anna", func() bool { tree, err := b.tree(); return err == nil && has(tree, "photos/old", "0b") })

	// All of bert's log, of which a part counts; then all of it.
	b.must("grant", "anna", "write")
	b.write("photos/five", "5")
	all["photos/old"], all["photos/five"] = "0b", "5"
	a.shows("a part of all", all)
	a.must("grant", "bert", "write")
	delete(all, "photos/2026/two")
	all["top"], all["two"] = "no", "2"
	a.shows("all", all)
}
