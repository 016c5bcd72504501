package peers

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"sharefs/integration/mounttest"
	where "sharefs/internal/client"
)

// says runs the tool and wants what it prints, or its error, to contain each of some texts.
func (h *host) says(fails bool, want []string, args ...string) {
	h.t.Helper()
	out, err := h.tool(args...)
	if (err != nil) != fails {
		h.t.Errorf("%q: %q, %v", args, out, err)
	}
	all := fmt.Sprint(out, err)
	for _, text := range want {
		if !strings.Contains(all, text) {
			h.t.Errorf("%q: no %q in %s", args, text, all)
		}
	}
}

// What another host freed on a promise of this one stays here, and it is said to whom that was promised; and who frees with nobody connected is told so.
func TestFreeTellsOfPromises(t *testing.T) {
	a, b := spacious(t, "32MiB", true)
	want := random(1, 100_000)
	for _, name := range []string{"fresh", "other"} {
		b.do(os.WriteFile(b.Path(name), want, 0o644))
		a.holdsFile(name, want)
	}
	mounttest.WaitFor(t, "bert frees", func() bool {
		_, err := b.tool("free", "fresh", "other")
		return err == nil && b.here("fresh").State == where.HereAbsent && b.here("other").State == where.HereAbsent
	})
	a.says(true, []string{"this host promised bert to keep its copy", "until it is changed or removed"}, "free", "fresh")
	a.says(true, []string{"Not freed, for this host promised bert", "fresh", "other", "2 files stay"}, "free", ".")
	a.Unmount()
	a.Mount.Mount()
	connected(t, a, b)
	a.says(true, []string{"promised bert"}, "free", "fresh")

	// What was only fetched goes without asking, and says what that means.
	b.holdsFile("other", want)
	a.Unmount()
	mounttest.WaitFor(t, "anna is gone", func() bool { return !b.peer("anna").Connected })
	if out := b.must("free", "other"); !strings.Contains(out, "No other host is connected: what was freed cannot be read") ||
		!strings.HasPrefix(out, "Freed 1 file, ") || !strings.Contains(out, "goes when garbage is collected: sharefs gc.\n") || b.here("other").State != where.HereAbsent {
		t.Errorf("%s", out)
	}
	if out := b.must("free", "other"); out != "Nothing was freed: there is no content of it here.\n" {
		t.Error(out)
	}
}

// Who frees waits a moment for what is being closed: close(2) returns before a mount hears of it.
func TestFreeWaitsForACloseThatIsUnderWay(t *testing.T) {
	a, b := spacious(t, "32MiB", true)
	a.do(os.WriteFile(a.Path("f"), random(1, 100_000), 0o644))
	b.named("f", 100_000)
	f, err := os.Open(b.Path("f"))
	b.do(err)
	defer f.Close()
	_, err = f.Read(make([]byte, 10))
	b.do(err)
	tried := func() uint64 { return b.Status().Requests["SETXATTR"] }
	before := tried()
	over := make(chan error, 1)
	go func() {
		_, err := b.tool("free", "f")
		over <- err
	}()
	mounttest.WaitFor(t, "the first attempt", func() bool { return tried() > before })
	b.do(f.Close())
	if err := <-over; err != nil || b.here("f").State != where.HereAbsent {
		t.Errorf("%v, %+v", err, b.here("f"))
	}
}

// Of several paths of which one is wrong it is said what became of the others; each is counted once; and a pin is taken back where it was made, and nowhere else.
func TestPinsAreTakenBackWhereTheyAre(t *testing.T) {
	_, b := spacious(t, "32MiB", true)
	b.do(os.MkdirAll(b.Path("docs/sub/empty"), 0o755))
	for _, name := range []string{"docs/a", "docs/b", "docs/sub/c", "apart"} {
		b.do(os.WriteFile(b.Path(name), []byte(name), 0o644))
	}
	pinned := func(want ...string) {
		t.Helper()
		var got []string
		for _, name := range []string{"docs/a", "docs/b", "docs/sub/c", "apart"} {
			if b.here(name).Pinned {
				got = append(got, name)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("pinned are %q, not %q", got, want)
		}
	}
	b.says(false, []string{"Nothing is pinned there."}, "unpin", "docs")
	b.says(true, []string{"docs/nope: no such file", "nothing was pinned"}, "pin", "docs/a", "docs/nope")
	b.says(true, []string{"/proc/self/comm", "nothing was freed"}, "free", "docs", "/proc/self/comm")
	pinned()

	b.says(false, []string{"no file is in it yet"}, "pin", "docs/sub/empty")
	b.says(true, []string{"nothing was unpinned", "docs/sub/empty"}, "unpin", ".")
	b.says(false, []string{"Unpinned; no file is in it."}, "unpin", "docs/sub/empty")

	b.says(false, []string{"Pinned 2 files"}, "pin", "docs/a", "docs/a", "apart")
	b.says(true, []string{"nothing was unpinned", "docs/a", "apart"}, "unpin", ".")
	pinned("docs/a", "apart")
	b.says(false, []string{"Unpinned 1 file."}, "unpin", "docs/a", "docs/a")
	b.says(false, []string{"Pinned 3 files"}, "pin", "docs/a", "docs")
	b.says(false, []string{"Unpinned 2 files. Below that stays pinned what is by itself: docs/a"}, "unpin", "docs")
	pinned("docs/a", "apart")
	b.says(false, []string{"Pinned 3 files"}, "pin", "docs")
	b.says(false, []string{"Unpinned 3 files."}, "unpin", "docs", "docs/a")
	pinned("apart")
	b.must("pin", "docs")
	b.says(true, []string{"docs/b", "it is pinned with", "docs"}, "unpin", "docs/b")
	pinned("docs/a", "docs/b", "docs/sub/c", "apart")
}
