// Package mounttest gives a test a real mount: the built sharefs-mount as a process of its own, on a store of its own, which is gone
// without a trace when the test ends, however it ends.
//
//	func TestMain(m *testing.M) { mounttest.Main(m) }
//
//	func TestRename(t *testing.T) {
//		mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
//			os.WriteFile(m.Path("a"), …)
//		})
//	}
//
// # Modes
//
// Each runs the test once in each mode, as a subtest named after it:
//
//   - passthrough: mounted by root, content bypasses the daemon;
//   - served: mounted by root with -o passthrough=off;
//   - user: the test itself runs as the user nobody, in a second process of the same test program, and mounts through fusermount3.
//
// SHAREFS_TEST_MODES selects some of them ("passthrough,user"). Whoever is not root has the mode user alone.
//
// # Programs
//
// The programs are built once for each test process, or taken from the directory SHAREFS_TEST_BIN. With SHAREFS_TEST_RACE=1 they
// are built with the race detector. A daemon that panics or reports a race fails the test that used it.
package mounttest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sharefs/internal/mountinfo"
)

// Patience bounds every wait; it only exists to end a hang.
const Patience = 2 * time.Minute

// Main runs the tests of a package and removes what was built for them. It fails when a mount or a daemon was left behind.
func Main(m *testing.M) {
	code := m.Run()
	if left := leftovers(); len(left) > 0 {
		fmt.Fprintln(os.Stderr, "mounttest: left behind:", strings.Join(left, ", "))
		code = max(code, 1)
	}
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// mine are the directories in which the tests of this process mounted, or could have.
var mine struct {
	sync.Mutex
	dirs map[string]bool
}

func remember(dir string) {
	mine.Lock()
	defer mine.Unlock()
	if mine.dirs == nil {
		mine.dirs = map[string]bool{}
	}
	mine.dirs[dir] = true
}

// leftovers lists the mounts and the daemons that are still there.
func leftovers() (left []string) {
	table, err := mountinfo.Read()
	if err != nil {
		return []string{err.Error()}
	}
	mine.Lock()
	defer mine.Unlock()
	for _, m := range table {
		for dir := range mine.dirs {
			if within(m.Point, dir) {
				left = append(left, "mount at "+m.Point)
				break
			}
		}
	}
	told := func(argument string) bool {
		for dir := range mine.dirs {
			if names(argument, dir) {
				return true
			}
		}
		return false
	}
	for _, pid := range daemons(told) {
		left = append(left, fmt.Sprintf("process %d", pid))
	}
	return left
}

// Mounted reports whether anything is mounted at exactly this place, without touching it.
func Mounted(t testing.TB, point string) bool {
	t.Helper()
	table, err := mountinfo.Read()
	if err != nil {
		t.Fatal(err)
	}
	return mountinfo.At(table, point) != nil
}

// built are the programs of this process.
var built struct {
	once sync.Once
	dir  string // made here, where every user can run what is in it
	bin  string
	err  error
}

// Bin returns the path of one of the project's programs, "sharefs" or "sharefs-mount".
func Bin(t testing.TB, name string) string {
	t.Helper()
	built.once.Do(build)
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.bin, name)
}

func build() {
	given := os.Getenv("SHAREFS_TEST_BIN")
	if given != "" && os.Geteuid() != 0 {
		built.bin = given
		return
	}
	if built.dir, built.err = os.MkdirTemp("", "sharefs-bin-"); built.err != nil {
		return
	}
	built.bin = built.dir
	if built.err = os.Chmod(built.dir, 0o755); built.err != nil {
		return
	}
	if given != "" { // a checkout may lie where nobody cannot go
		for _, name := range []string{"sharefs", "sharefs-mount"} {
			program, err := os.ReadFile(filepath.Join(given, name))
			if err == nil {
				err = os.WriteFile(filepath.Join(built.dir, name), program, 0o755)
			}
			if err == nil {
				err = os.Chmod(filepath.Join(built.dir, name), 0o755) // whatever the umask
			}
			if err != nil {
				built.err = fmt.Errorf("SHAREFS_TEST_BIN: %w", err)
			}
		}
		return
	}
	args := []string{"build", "-o", built.dir + "/"}
	if os.Getenv("SHAREFS_TEST_RACE") != "" {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "sharefs/cmd/sharefs", "sharefs/cmd/sharefs-mount")...).CombinedOutput()
	if err != nil {
		built.err = fmt.Errorf("build the programs: %w\n%s", err, out)
	}
}

// WaitFor asks until done says yes, at most for [Patience]; what names it in the failure.
func WaitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	if !waitFor(done) {
		t.Fatalf("%s: not within %v", what, Patience)
	}
}

func waitFor(done func() bool) bool {
	deadline := time.Now().Add(Patience)
	for pause := time.Millisecond; !done(); pause = min(2*pause, 100*time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(pause)
	}
	return true
}

// trim shortens a log to its end.
func trim(text []byte, lines int) string {
	all := strings.SplitAfter(string(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "")
}
