package cmdtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sharefs/integration/mounttest"
)

// A mount with view=at: has no history of its own: what wants it says which time is shown, and what is to be mounted.
func TestAViewOfThePastSaysThatItIsOne(t *testing.T) {
	mounttest.EachMode(t, func(t *testing.T, _ mounttest.Mode) {
		point, dir := place(t)
		mustMount(t, "--store", dir, point)
		writeFile(t, filepath.Join(point, "a"), "text")
		if err := os.Mkdir(filepath.Join(point, "d"), 0o755); err != nil {
			t.Fatal(err)
		}
		must(t, point, "snapshot", "then")
		other := filepath.Join(filepath.Dir(point), "other")
		if err := os.Mkdir(other, 0o755); err != nil {
			t.Fatal(err)
		}
		a := mount(t, "--store", dir, "-o", "view=at:then", other)
		if want := "; or look at " + filepath.Join(point, ".share/at/then") + ", where the same is to be seen\n"; a.exit != 32 || !strings.HasSuffix(a.err, want) {
			t.Errorf("a view of a store that is mounted: %+v, want %s", a, want)
		}
		unmount(t, point)
		notMounted(t, 32, "view nonsense: there is no such time or snapshot; times are written -2h, yesterday or 2026-11-20T10:00", "--store", dir, "-o", "view=at:nonsense", point)
		mustMount(t, "--store", dir, "-o", "view=at:then", point)
		holds(t, filepath.Join(point, "a"), "text")
		for line, exit := range map[string]int{
			"undo": 1, "redo": 1, "log a": 1, "log d": 1, "log .": 1, "restore a@@1": 1, "restore d@@-1h": 1, "cat a@@1": 1, "snapshot new": 1, "tags": 1, "tag a x": 1,
			"find --deleted": 1, "gc": 1, "retain -n": 1, "diff a@@1": 2,
		} {
			a := tool(t, point, strings.Fields(line)...)
			if a.exit != exit || a.out != "" || !strings.HasPrefix(a.err, "sharefs: "+point+": shows the tree as it was at 2") ||
				!strings.HasSuffix(a.err, " (view=at:) and nothing else; for this the live tree has to be mounted\n") {
				t.Errorf("%s: %+v", line, a)
			}
		}
		must(t, point, "status")
		unmount(t, point)
	})
}
