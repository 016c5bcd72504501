package twin_test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs/integration/mounttest"
	"sharefs/integration/twin"
)

func TestMain(m *testing.M) { mounttest.Main(m) }

func run(t *testing.T, w *twin.Twin, ops int) {
	t.Helper()
	if err := w.Run(ops); err != nil {
		t.Fatal(err)
	}
	for _, line := range w.Compare() {
		t.Error(line)
	}
}

// place makes a directory that others may work in.
func place(t *testing.T, dir string) string {
	t.Helper()
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestReference: two directories of one disk are the same.
func TestReference(t *testing.T) {
	unix.Umask(0o022)
	dir := mounttest.TempDir(t)
	w := twin.New(place(t, dir+"/a"), place(t, dir+"/b"), 1)
	defer w.Close()
	run(t, w, 8000)
	t.Log(w.Counts)
	if os.Geteuid() != 0 {
		return
	}
	for _, op := range []string{"mkdir", "create", "append", "truncate", "mknod", "symlink", "unlink", "rmdir", "link", "rename", "rename2", "chmod", "chown",
		"utimens", "setxattr", "removexattr", "setacl", "fallocate", "copy", "hold", "held", "list", "look"} {
		if w.Counts[op] < 10 {
			t.Errorf("%s succeeded %d times", op, w.Counts[op])
		}
	}
}

// TestMount does the same in the mount and on the disk, with a remount half way and one at the end. SHAREFS_TWIN_OPS is how many operations it
// takes, SHAREFS_TWIN_SEED what they follow from.
func TestMount(t *testing.T) {
	seed, ops := uint64(mounttest.Number(t, "SHAREFS_TWIN_SEED", 1, 1)), mounttest.Number(t, "SHAREFS_TWIN_OPS", 6000, 500_000)
	mounttest.EachMode(t, func(t *testing.T, mode mounttest.Mode) {
		unix.Umask(0o022)
		var options []mounttest.Option
		if mode != mounttest.User {
			options = append(options, mounttest.Options("allow_other"))
		}
		m := mounttest.Start(t, mode, options...)
		t.Logf("seed %d, %d operations", seed, ops)
		w := twin.New(place(t, mounttest.TempDir(t)+"/disk"), place(t, m.Path("tree")), seed)
		defer w.Close()
		for range 2 {
			run(t, w, ops/2)
			w.Release()
			m.Remount()
			for _, line := range w.Compare() {
				t.Error("after a remount: ", line)
			}
		}
	})
}
