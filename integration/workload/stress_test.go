package workload

import (
	"os"
	"strings"
	"testing"

	"sharefs/integration/mounttest"
)

// TestStress runs stress-ng's filesystem class on the disk and in the mount, for make soak: nothing may fail here that does not there.
func TestStress(t *testing.T) {
	if os.Getenv("SHAREFS_SOAK") == "" {
		t.Skip("for make soak (SHAREFS_SOAK=1)")
	}
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		failed := func(dir string) map[string]bool {
			p := program{t: t, dir: dir}
			// One after the other; those that need no more than a directory.
			out, err := p.command("stress-ng", "--class", "filesystem", "--sequential", "2", "--timeout", "10s", "--verify", "--temp-path", dir).CombinedOutput()
			t.Logf("in %s: %v", dir, err)
			names := map[string]bool{}
			for line := range strings.Lines(string(out)) {
				if strings.Contains(line, "fail:") {
					if w := strings.Fields(line); len(w) > 3 {
						names[strings.TrimSuffix(w[3], ":")] = true
						t.Log(strings.TrimSpace(line))
					}
				}
			}
			return names
		}
		disk := failed(mounttest.TempDir(t))
		for name := range failed(in(t, m, "stress").dir) {
			if !disk[name] {
				t.Errorf("%s fails in the mount alone", name)
			}
		}
	})
}
