package peers

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"sharefs/integration/mounttest"
	where "sharefs/internal/client"
)

// A pinned file for which the budget can have no room, whatever goes, has nothing go: what is here is of more use than what cannot come.
func TestPinThatCannotFitFreesNothing(t *testing.T) {
	const size = 3 << 20
	a, b := spacious(t, "16MiB", true)
	a.do(os.Mkdir(a.Path("keep"), 0o755))
	for i := range 3 {
		a.do(os.WriteFile(a.Path(fmt.Sprint("f", i)), random(uint64(i), size), 0o644))
	}
	for i := range 3 {
		name := fmt.Sprint("f", i)
		b.named(name, size)
		_, err := os.ReadFile(b.Path(name))
		b.do(err)
		mounttest.WaitFor(t, name+" is here", func() bool { return b.here(name).State == where.HereFull })
	}
	b.must("pin", "keep")
	a.do(os.WriteFile(a.Path("keep/huge"), random(9, 20<<20), 0o644))
	b.named("keep/huge", 20<<20)
	mounttest.WaitFor(t, "status says that there is no room", func() bool {
		return strings.Contains(strings.Join(b.status().Problems, "\n"), "1 pinned file cannot come")
	})
	for i := range 3 {
		name := fmt.Sprint("f", i)
		if p := b.here(name); p.State != where.HereFull {
			t.Errorf("%s went: %+v", name, p)
		}
	}
	if p := b.here("keep/huge"); p.State != where.HereAbsent {
		t.Errorf("%+v", p)
	}
}

// Of a file for which the budget has no room the tool says that it is the budget, and not the disk, and what to do; with more it comes.
func TestPinBeyondTheBudgetSaysWhatLacks(t *testing.T) {
	a, b := spacious(t, "16MiB", true)
	a.do(os.WriteFile(a.Path("huge"), random(1, 20<<20), 0o644))
	b.named("huge", 20<<20)
	b.says(true, []string{"huge: the budget of 16 MiB has no room for it, though the disk has: raise [space] budget in share.toml and mount again"}, "pin", "--beyond", "huge")
	if p := b.here("huge"); p.State != where.HereAbsent || !p.Pinned {
		t.Errorf("%+v", p)
	}
	b.rationed("64MiB", "")
	b.comes("huge", true)
}

// Sizes of what is here are in the units in which the budget was given, in all commands.
func TestSizesInTheUnitsOfTheBudget(t *testing.T) {
	a, b := spacious(t, "20MB", true)
	a.do(os.WriteFile(a.Path("first"), random(1, 9_000_000), 0o644))
	b.named("first", 9_000_000)
	for _, c := range []struct{ verb, want string }{
		{"pin", "Pinned 1 file; 9.0 MB came.\n"}, {"here", "full  9.0 MB of 9.0 MB  pinned  first\n"}, {"unpin", "Unpinned 1 file.\n"}, {"free", "Freed 1 file, 9.0 MB.\n"},
	} {
		if out := b.must(c.verb, "first"); !strings.HasPrefix(out, c.want) {
			t.Errorf("%s: %s", c.verb, out)
		}
	}
}
