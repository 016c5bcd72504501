package fs

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
)

// asOnDisk names the one case of go-fuse's suite that fails on ext4 too: it wants a process to be kept out by its own
// fcntl lock, which POSIX rules out. go-fuse leaves it out as well when it runs the suite on a disk.
const asOnDisk = "FcntlFlockLocksFile"

// TestPosixSuite runs go-fuse's own suite through the mount, whole, in each mode. The suite counts descriptors and
// takes locks, so it has a process of its own.
func TestPosixSuite(t *testing.T) {
	inAllModes(t, func(t *testing.T, m *mounted) {
		out := inChild(t, "posixtest", m.dir)
		if n, want := strings.Count(out, "--- PASS: TestChild/"), len(posixtest.All)-1; n != want {
			t.Errorf("%d cases passed, want %d", n, want)
		}
	})
}

func init() {
	children["posixtest"] = func(t *testing.T, dir string) {
		var names []string
		for name := range posixtest.All {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			if name == asOnDisk {
				continue
			}
			t.Run(name, func(t *testing.T) {
				sub := filepath.Join(dir, name)
				ok(t, os.Mkdir(sub, 0o755))
				posixtest.All[name](t, sub)
			})
		}
	}
}
