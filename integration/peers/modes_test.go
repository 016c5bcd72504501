package peers

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"sharefs/integration/mounttest"
)

// stranger reports whether a program of another user can look at a path.
func (h *host) stranger(test, name string) bool {
	h.t.Helper()
	cmd := exec.Command("test", test, h.Path(name))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	err := cmd.Run()
	if _, no := err.(*exec.ExitError); err != nil && !no {
		h.t.Fatal(err)
	}
	return err == nil
}

// A mode that is set on one host counts on another one whose kernel knows the one before, though nobody opens the file: it is told, and lets in whom it says.
func TestModesOfWhatIsKnown(t *testing.T) {
	hs := sharing(t, "anna", "bert")
	a, b := hs[0], hs[1]
	root := os.Geteuid() == 0 // or there is no other user to be
	if root {
		b.Unmount()
		b.do(b.TryMount("allow_other"))
		connected(t, a, b)
	}
	a.write("file", "one")
	a.do(os.Mkdir(a.Path("dir"), 0o755))
	mode := func(name string, want os.FileMode) {
		t.Helper()
		mounttest.WaitFor(t, "the mode of "+name, func() bool {
			info, err := os.Lstat(b.Path(name))
			return err == nil && info.Mode().Perm() == want
		})
	}
	mode("file", 0o644)
	mode("dir", 0o755)
	for _, c := range []struct {
		file, dir os.FileMode
		in        bool
	}{{0o600, 0o700, false}, {0o604, 0o755, true}, {0o640, 0o750, false}} {
		a.do(os.Chmod(a.Path("file"), c.file))
		a.do(os.Chmod(a.Path("dir"), c.dir))
		mode("file", c.file)
		mode("dir", c.dir)
		if !root {
			continue
		}
		if got := b.stranger("-r", "file"); got != c.in {
			t.Errorf("with %o another user reads: %v", c.file, got)
		}
		if got := b.stranger("-x", "dir"); got != c.in {
			t.Errorf("with %o another user enters: %v", c.dir, got)
		}
	}
}
