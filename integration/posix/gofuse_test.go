package posix_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"

	"sharefs/integration/mounttest"
)

// notOurs is what go-fuse's own run leaves out as well: a process that must be in the way of its own record locks, which POSIX denies.
const notOurs = "FcntlFlockLocksFile"

// TestGoFuse runs the suite that go-fuse tests its own filesystems with.
func TestGoFuse(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		for _, name := range slices.Sorted(maps.Keys(posixtest.All)) {
			if name == notOurs {
				continue
			}
			t.Run(name, func(t *testing.T) {
				dir := filepath.Join(m.Dir, name)
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				posixtest.All[name](t, dir)
			})
		}
	})
}
