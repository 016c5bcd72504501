package peers

import (
	"os"
	"testing"
	"time"

	"sharefs/integration/mounttest"
)

// The time of a file is the same on all hosts, to the nanosecond.
func TestTimesTravel(t *testing.T) {
	hs := sharing(t, "anna", "bert")
	a, b := hs[0], hs[1]
	at := func(h *host, name string) time.Time {
		info, err := os.Lstat(h.Path(name))
		if err != nil {
			return time.Time{}
		}
		return info.ModTime()
	}
	same := func(what, name string) {
		t.Helper()
		var one, two time.Time
		mounttest.WaitFor(t, what, func() bool {
			one, two = at(a, name), at(b, name)
			return !one.IsZero() && one.Equal(two)
		})
	}
	a.write("file", "one")
	a.do(os.Mkdir(a.Path("dir"), 0o755))
	alike(t, "the beginning", hs, func(tree map[string]string) bool { return has(tree, "file", "one") })
	same("a new file", "file")
	b.write("file", "another")
	alike(t, "a change", hs, func(tree map[string]string) bool { return has(tree, "file", "another") })
	same("a change", "file")
}
