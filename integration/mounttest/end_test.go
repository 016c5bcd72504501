package mounttest

import (
	"os/exec"
	"path/filepath"
	"testing"
)

func TestMain(m *testing.M) { Main(m) }

func TestNames(t *testing.T) {
	for argument, want := range map[string]bool{
		"/t/1":                       true,
		"/t/1/mnt":                   true,
		"ro,store=/t/1/s,noexec":     true,
		"store=/t/1,noexec":          true,
		"/t/10":                      false,
		"/t/10/x,store=/t/1/s":       true,
		"-f":                         false,
		"":                           false,
		"/t":                         false,
		"fsname=/t/12,store=/t/13/s": false,
	} {
		if got := names(argument, "/t/1"); got != want {
			t.Errorf("%q names /t/1: %v", argument, got)
		}
	}
}

// TestEnd: after it neither a mount nor a daemon is left, though the store is none that a test would look for.
func TestEnd(t *testing.T) {
	EachMode(t, func(t *testing.T, _ Mode) {
		dir := TempDir(t)
		told := func(argument string) bool { return names(argument, dir) }
		for _, name := range []string{"a", "b"} {
			point := filepath.Join(dir, name)
			if out, err := exec.Command("mkdir", point).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if out, err := exec.Command(Bin(t, "sharefs-mount"), filepath.Join(dir, "store of "+name), point).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		if pids := daemons(told); len(pids) < 2 { // more where one of them is about to start its self-test
			t.Errorf("the daemons are %d", pids)
		}
		if out, err := Umount(filepath.Join(dir, "a")); err != nil { // its daemon may be at work still
			t.Errorf("%v: %s", err, out)
		}
		End(t, dir)
		if left := mountedBelow(t, dir); len(left) > 0 {
			t.Errorf("mounts are left: %q", left)
		}
		if pids := daemons(told); len(pids) > 0 {
			t.Errorf("daemons are left: %d", pids)
		}
	})
}
