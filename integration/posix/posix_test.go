package posix_test

import (
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs/integration/mounttest"
	"sharefs/integration/posix"
)

func TestMain(m *testing.M) { mounttest.Main(m) }

// match restricts what runs, for whoever looks into a single case.
var match = os.Getenv("SHAREFS_POSIX_MATCH")

// reference runs the suite on the disk below, once for each process.
var reference = sync.OnceValues(func() ([]posix.Result, error) {
	dir, err := os.MkdirTemp("", "sharefs-posix-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	return posix.Run(dir, posix.Self(), match)
})

func mustReference(t *testing.T) []posix.Result {
	t.Helper()
	results, err := reference()
	if err != nil {
		t.Fatal(err)
	}
	return results
}

// report logs how many cases ran, and which of them took long.
func report(t *testing.T, results []posix.Result) {
	t.Log(posix.Summary(results))
	for _, r := range results {
		if r.Took > time.Second {
			t.Logf("%s took %v", r.Name, r.Took.Round(time.Millisecond))
		}
	}
}

// TestReference: on ext4, which the suite describes, nothing fails.
func TestReference(t *testing.T) {
	results := mustReference(t)
	report(t, results)
	var fs unix.Statfs_t
	if err := unix.Statfs(os.TempDir(), &fs); err != nil {
		t.Fatal(err)
	}
	if fs.Type != unix.EXT4_SUPER_MAGIC {
		t.Skip("the temporary directory is not on ext4")
	}
	for _, r := range results {
		if r.Status == posix.Failed {
			t.Errorf("%s: %s", r.Name, r.Detail)
		}
	}
}

// groups are those of pjdfstest that mean something on Linux; its NFSv4 permissions are POSIX ACLs here.
var groups = []string{"chmod", "chown", "ftruncate", "granular", "link", "mkdir", "mkfifo", "mknod", "open", "posix_fallocate", "rename",
	"rmdir", "symlink", "truncate", "unlink", "utimensat"}

// TestMount: nothing fails in the mount that passes on the disk below it, and nothing is left out in silence.
func TestMount(t *testing.T) {
	mounttest.EachMode(t, func(t *testing.T, mode mounttest.Mode) {
		var options []mounttest.Option
		if mode != mounttest.User {
			options = append(options, mounttest.Options("allow_other"))
		}
		m := mounttest.Start(t, mode, options...)
		want := mustReference(t)
		got, err := posix.Run(m.Dir, posix.Self(), match)
		if err != nil {
			t.Fatal(err)
		}
		report(t, got)
		for _, line := range posix.Compare(want, got) {
			t.Error(line)
		}
		if match != "" {
			return
		}
		passed := map[string]int{}
		for _, r := range got {
			for _, g := range groups {
				if r.Status == posix.Passed && strings.Contains(r.Name, g) {
					passed[g]++
				}
			}
		}
		for _, g := range groups {
			if passed[g] < 5 {
				t.Errorf("only %d cases of %s ran", passed[g], g)
			}
		}
		least := 900
		if os.Geteuid() != 0 {
			least = 500
		}
		if n := len(slices.DeleteFunc(got, func(r posix.Result) bool { return r.Status != posix.Passed })); n < least {
			t.Errorf("only %d cases passed", n)
		}
	})
}
