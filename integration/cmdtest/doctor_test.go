package cmdtest

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs/integration/mounttest"
)

// The mounts that are named are looked at and no others, and one that does not answer keeps nothing from being told of the rest.
func TestDoctorOfSomeMounts(t *testing.T) {
	mode := mounttest.Modes(t)[0]
	one, other := mounttest.Start(t, mode), mounttest.Start(t, mode)
	if err := os.Mkdir(one.Path("d"), 0o755); err != nil {
		t.Fatal(err)
	}
	well := func(m *mounttest.Mount) string { return m.Dir + " answers (process " }
	if out := must(t, "/", "doctor", one.Dir, one.Path("d")); strings.Count(out, well(one)) != 1 || strings.Contains(out, other.Dir) {
		t.Error(out)
	}
	if out := must(t, one.Dir, "doctor", "d", other.Dir); !strings.Contains(out, well(one)) || !strings.Contains(out, well(other)) {
		t.Error(out)
	}
	refused(t, "/", 1, "/proc/self/comm: not in a ShareFS mount", "doctor", "/proc/self/comm")
	refused(t, "/", 2, "PATH is empty", "doctor", "")
	pid := other.PID()
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Kill(pid, unix.SIGCONT) })
	if out := must(t, "/", "doctor", one.Dir); !strings.Contains(out, well(one)) || strings.Contains(out, other.Dir) {
		t.Error(out)
	}
	if a := tool(t, "/", "doctor", one.Dir, other.Dir); a.exit != 1 || !strings.Contains(a.out, well(one)) || !strings.Contains(a.out, other.Dir+" does not answer") {
		t.Errorf("%+v", a)
	}
}
