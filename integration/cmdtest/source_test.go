package cmdtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sharefs/integration/mounttest"
	"sharefs/internal/store"
)

// A SOURCE without a slash is the name of a store. Whoever may mean a directory beside him is told, or refused where taking his word would make another store than the one that is there.
func TestADirectoryThatIsCalledAsAStore(t *testing.T) {
	mounttest.EachMode(t, func(t *testing.T, _ mounttest.Mode) {
		point, _ := place(t)
		beside := filepath.Dir(point)
		t.Setenv("XDG_DATA_HOME", filepath.Join(beside, "data"))
		named := filepath.Join(beside, "data/sharefs/photos")
		at := func(dir string, args ...string) answer {
			t.Helper()
			cmd := exec.Command(mounttest.Bin(t, "sharefs-mount"), args...)
			cmd.Dir = dir
			return command(t, cmd)
		}
		use := func(want, warning string, args ...string) {
			t.Helper()
			a := at(beside, args...)
			if a.exit != 0 || a.out != "" || a.err != warning {
				t.Fatalf("%q: exit %d\n%s%s, wanted\n%s", args, a.exit, a.out, a.err, warning)
			}
			point := filepath.Join(beside, args[len(args)-1])
			holder(t, want)
			unmount(t, point)
			mounttest.WaitFor(t, "end of the daemon", func() bool {
				_, held, err := store.HolderOf(want)
				return err == nil && !held
			})
		}
		for _, name := range []string{"photos", "plain", "other"} {
			if err := os.Mkdir(filepath.Join(beside, name), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		// The directory is the mount point.
		use(filepath.Join(beside, "data/sharefs/plain"), "", "plain", "plain")
		// A directory that could be made a store, or holds somebody's files.
		warning := fmt.Sprintf("sharefs-mount: warning: a new store called photos is made in %s, and not in the directory of this name in the working directory, which is ./photos\n", named)
		use(named, warning, "photos", "mnt")
		use(named, fmt.Sprintf("sharefs-mount: warning: the store called photos, in %s, is used, and not the directory of this name in the working directory, which is ./photos\n", named), "photos", "mnt")
		use(filepath.Join(beside, "photos"), "", "./photos", "mnt")
		// A directory that is a store, where there is none of the name.
		use(filepath.Join(beside, "other"), "", "./other", "mnt")
		for _, args := range [][]string{{"other", "mnt"}, {"-f", "other", "mnt"}, {"--rebuild", "other"}} {
			a := at(beside, args...)
			if a.exit != 1 || !strings.Contains(a.err, "there is none called other (in "+filepath.Join(beside, "data/sharefs/other")+"): if the one in the working directory is meant, say ./other; for a new one") {
				t.Errorf("%q: exit %d\n%s", args, a.exit, a.err)
			}
		}
		if store.Looks(filepath.Join(beside, "data/sharefs/other")) {
			t.Error("a store was made")
		}
		// Elsewhere nobody is in doubt, nor where the store itself lies.
		if a := at("/", "photos", point); a.exit != 0 || a.err != "" {
			t.Errorf("exit %d: %s", a.exit, a.err)
		}
		unmount(t, point)
		mounttest.WaitFor(t, "end of the daemon", func() bool {
			_, held, err := store.HolderOf(named)
			return err == nil && !held
		})
		if a := at(filepath.Dir(named), "photos", point); a.exit != 0 || a.err != "" {
			t.Errorf("exit %d: %s", a.exit, a.err)
		}
		unmount(t, point)
	})
}
