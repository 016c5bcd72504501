package peers

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs/integration/mounttest"
	where "sharefs/internal/client"
)

// A promise for which the budget can have no room has nothing go, and is in nobody's way afterwards.
func TestARefusedPromiseTakesNoRoom(t *testing.T) {
	const small, large = 500, 17 << 19
	a, b := spacious(t, "16MiB", true)
	a.do(os.Mkdir(a.Path("small"), 0o755))
	for i := range small {
		a.do(os.WriteFile(a.Path(fmt.Sprint("small/", i)), random(uint64(i), 1000), 0o644))
	}
	a.do(os.WriteFile(a.Path("large"), random(1, large), 0o644))
	a.do(os.WriteFile(a.Path("other"), random(2, 7<<20), 0o644))
	b.named("large", large)
	b.named("other", 7<<20)
	whole := func() (n int) {
		for i := range small {
			if p, err := where.LookHere(b.Path(fmt.Sprint("small/", i))); err == nil && p.State == where.HereFull {
				n++
			}
		}
		return n
	}
	mounttest.WaitFor(t, "the small files", func() bool { return whole() == small })
	b.must("pin", "large")
	if out, err := a.tool("free", "large"); err == nil || !strings.Contains(err.Error(), "promises to keep its copy: bert (a promise takes a copy beside the file, for which its budget lacks up to ") || !strings.Contains(err.Error(), " MiB: raise [space] budget there") {
		t.Errorf("%q, %v", out, err)
	}
	if n := whole(); n < small {
		t.Errorf("%d small files went for what was refused", small-n)
	}
	b.must("unpin", "large")
	mounttest.WaitFor(t, "bert says that it is not pinned", func() bool { return b.status().Room.PinnedFiles == 0 })
	_, _ = b.tool("pin", "other") // at once, or by itself when it is next tried to make room
	mounttest.WaitFor(t, "the other file", func() bool { return b.here("other").State == where.HereFull })
}

// Who frees is told of each host that could have promised to keep the copy why it did not, also of one that is silent.
func TestFreeSaysWhoDoesNotPromise(t *testing.T) {
	a, b := spacious(t, "16MiB", true)
	want := random(1, 1<<20)
	a.do(os.WriteFile(a.Path("f"), want, 0o644))
	b.named("f", len(want))
	a.says(true, []string{": bert (it has not all of it: sharefs pin it there)"}, "free", "f")
	b.holdsFile("f", want)
	mounttest.WaitFor(t, "bert's copy is whole", func() bool { return b.here("f").State == where.HereFull })
	a.says(true, []string{": bert (it has a budget and does not keep it for good: sharefs pin it there)"}, "free", "f")
	b.must("grant", "anna", "read")
	a.do(os.WriteFile(a.Path("g"), want, 0o644))
	mounttest.WaitFor(t, "g is told", func() bool {
		_, err := a.tool("free", "g")
		return err != nil && strings.Contains(err.Error(), ": bert (what this host writes does not count there: sharefs grant anna write, there)")
	})
	b.must("grant", "anna", "write")
	b.named("g", len(want))
	goOn := func() { _ = unix.Kill(b.PID(), unix.SIGCONT) }
	t.Cleanup(goOn)
	a.do(unix.Kill(b.PID(), unix.SIGSTOP))
	a.says(true, []string{": bert (it is connected, and does not answer)"}, "free", "f")
	goOn()
	b.must("pin", "f")
	a.frees("f")
	a.holdsFile("f", want)
	b.Unmount()
	mounttest.WaitFor(t, "bert is gone", func() bool { return !a.peer("bert").Connected })
	a.do(os.WriteFile(a.Path("own"), want, 0o644))
	mounttest.WaitFor(t, "own is a version", func() bool {
		_, err := a.tool("free", "own")
		return err != nil && strings.Contains(err.Error(), ": bert (it is not connected)")
	})
}
