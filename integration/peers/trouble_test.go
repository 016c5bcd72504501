package peers

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sharefs/integration/mounttest"
)

// run runs sharefs on a mount and returns all that it writes, and whether it succeeded.
func run(t *testing.T, m *mounttest.Mount, args ...string) (string, bool) {
	t.Helper()
	out, err := exec.Command(mounttest.Bin(t, "sharefs"), append([]string{"-C", m.Dir}, args...)...).CombinedOutput()
	return string(out), err == nil
}

// A mount works whatever became of what it knows of peers, and says what is wrong.
func TestPeersThatCannotBeRead(t *testing.T) {
	m := mounttest.Start(t, mode(), mounttest.Options("listen=127.0.0.1:0"))
	if out, ok := run(t, m, "pair", "--link"); !ok || !strings.HasPrefix(out, "sharefs:") || !strings.Contains(out, "/127.0.0.1:") || strings.Count(out, "\n") != 1 {
		t.Errorf("%s", out)
	}
	m.Unmount()
	path := filepath.Join(m.Store, "peers.json")
	for name, text := range map[string]string{"junk": "{", "of a later version": `{"format":99,"peers":[],"trust":[]}`, "with a name that is a path": `{"format":1,"peers":[{"id":"aaaaaaa-aaaaaaa-aaaaaaa-aaaaaaa-aaaaaaa-aaaaaaa-aaaaaaa-aaaaaaa","name":"../x"}],"trust":[]}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		m.Mount()
		if s := m.Status(); s.Peers == nil || s.Peers.Error == "" || !strings.Contains(strings.Join(s.Problems, "\n"), "peers cannot be reached: read peers") {
			t.Errorf("%s: %+v, %q", name, s.Peers, s.Problems)
		}
		if err := os.WriteFile(m.Path("file"), []byte(name), 0o644); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if out, ok := run(t, m, "peers"); !ok {
			t.Errorf("%s: %s", name, out)
		}
		if out, ok := run(t, m, "pair", "--link"); ok || !strings.Contains(out, "read peers") {
			t.Errorf("%s: %s", name, out)
		}
		m.Unmount()
		if now, err := os.ReadFile(path); err != nil || string(now) != text {
			t.Errorf("%s: it was written over: %q, %v", name, now, err)
		}
	}
	m.Mount() // so that the end of the test finds what it expects
}

// A mount that shall not be reached says so.
func TestListenOff(t *testing.T) {
	m := mounttest.Start(t, mode(), mounttest.Options("listen=off"))
	if out, ok := run(t, m, "pair", "--link"); ok || !strings.Contains(out, "listen=off") {
		t.Errorf("%s", out)
	}
	if s := m.Status(); s.Peers != nil || len(s.Problems) != 0 {
		t.Errorf("%+v, %q", s.Peers, s.Problems)
	}
}
