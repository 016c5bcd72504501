// Package cmdtest runs the built programs as a user does, on real mounts, and holds what they print and how they exit.
package cmdtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sharefs/integration/mounttest"
	"sharefs/internal/store"
)

func TestMain(m *testing.M) { mounttest.Main(m) }

// answer is how a program ended.
type answer struct {
	exit     int
	out, err string
}

// command runs a program to its end.
func command(t *testing.T, cmd *exec.Cmd) answer {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	return answer{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// tool runs sharefs in dir.
func tool(t *testing.T, dir string, args ...string) answer {
	t.Helper()
	cmd := exec.Command(mounttest.Bin(t, "sharefs"), args...)
	cmd.Dir = dir
	return command(t, cmd)
}

// must runs sharefs and fails the test unless it succeeds in silence on standard error.
func must(t *testing.T, dir string, args ...string) string {
	t.Helper()
	a := tool(t, dir, args...)
	if a.exit != 0 || a.err != "" {
		t.Fatalf("sharefs %q: exit %d: %s%s", args, a.exit, a.err, a.out)
	}
	return a.out
}

// mustJSON runs sharefs --json and reads what it wrote.
func mustJSON[T any](t *testing.T, dir string, args ...string) (v T) {
	t.Helper()
	out := must(t, dir, append(args, "--json")...)
	dec := json.NewDecoder(strings.NewReader(out))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("sharefs %q: %v in %s", args, err, out)
	}
	return v
}

// refused runs sharefs and holds that it fails with this exit status and exactly this message.
func refused(t *testing.T, dir string, exit int, message string, args ...string) {
	t.Helper()
	a := tool(t, dir, args...)
	first, _, _ := strings.Cut(a.err, "\n")
	if a.exit != exit || first != "sharefs: "+message {
		t.Errorf("sharefs %q: exit %d: %s%swant exit %d: %s", args, a.exit, a.err, a.out, exit, message)
	}
	if a.out != "" && exit != 0 {
		t.Errorf("sharefs %q fails and writes %q", args, a.out)
	}
}

// place is an empty mount point and a path for a store. What a test mounts there in the background ends with the test.
func place(t *testing.T) (point, storeDir string) {
	t.Helper()
	dir := mounttest.TempDir(t)
	point, storeDir = filepath.Join(dir, "mnt"), filepath.Join(dir, "store")
	if err := os.Mkdir(point, 0o755); err != nil {
		t.Fatal(err)
	}
	return point, storeDir
}

// mount runs sharefs-mount.
func mount(t *testing.T, args ...string) answer {
	t.Helper()
	return command(t, exec.Command(mounttest.Bin(t, "sharefs-mount"), args...))
}

// mustMount runs sharefs-mount and fails the test unless it succeeds in silence.
func mustMount(t *testing.T, args ...string) {
	t.Helper()
	if a := mount(t, args...); a.exit != 0 || a.err+a.out != "" {
		t.Fatalf("sharefs-mount %q: exit %d: %s%s", args, a.exit, a.err, a.out)
	}
}

// notMounted runs sharefs-mount and holds how it fails.
func notMounted(t *testing.T, exit int, message string, args ...string) {
	t.Helper()
	a := mount(t, args...)
	first, rest, _ := strings.Cut(a.err, "\n")
	if a.exit != exit || first != "sharefs-mount: "+message || exit != 1 && rest != "" || a.out != "" {
		t.Errorf("sharefs-mount %q: exit %d:\n%s%swant exit %d:\n%s", args, a.exit, a.err, a.out, exit, message)
	}
}

// holder returns the process that has a store, which must be held.
func holder(t *testing.T, storeDir string) int {
	t.Helper()
	h, held, err := store.HolderOf(storeDir)
	if err != nil || !held || h.PID <= 1 {
		t.Fatalf("%+v, %v, %v", h, held, err)
	}
	return h.PID
}
