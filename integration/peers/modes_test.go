package peers

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"sharefs/integration/mounttest"
	"sharefs/internal/status"
)

// byStranger has another user run a program, and returns what it writes and whether it comes off.
func (h *host) byStranger(name string, args ...string) (out []byte, ok bool) {
	h.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.Output()
	if _, no := err.(*exec.ExitError); err != nil && !no {
		h.t.Fatal(err)
	}
	return out, err == nil
}

// stranger reports whether a program of another user can look at a path.
func (h *host) stranger(test, name string) bool {
	h.t.Helper()
	_, ok := h.byStranger("test", test, h.Path(name))
	return ok
}

// Who mounted is told of each peer by status.json; others who may enter are told how many there are.
func TestWhoIsToldOfPeers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("there is no other user to be")
	}
	hs := sharing(t, "anna", "bert")
	a, b := hs[0], hs[1]
	b.Unmount()
	b.do(b.TryMount("allow_other"))
	connected(t, a, b)
	a.write("file", "one")
	alike(t, "a file", hs, func(tree map[string]string) bool { return len(tree) == 1 })
	mounttest.WaitFor(t, "all that anna lacks", func() bool {
		all := b.Status().Peers.All
		return len(all) == 1 && all[0].Name == "anna" && all[0].ID == a.id() && all[0].Connected && all[0].Level == "write" && all[0].Files != nil && all[0].Files.Lacks == 0
	})
	text, ok := b.byStranger("cat", b.Path(".share/ctl/status.json"))
	var s status.Status
	if err := json.Unmarshal(text, &s); !ok || err != nil || s.Peers == nil || s.Peers.Known != 1 || len(s.Peers.All) > 0 {
		t.Errorf("%s, %v", text, err)
	}
	if strings.Contains(string(text), "anna") {
		t.Errorf("another user is told of anna: %s", text)
	}
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
