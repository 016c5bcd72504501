package workload

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"sharefs/integration/mounttest"
)

// TestEveryCloseCounts saves a file again and again without a pause: with settle=0 each of them is a version.
func TestEveryCloseCounts(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		const saves = 40
		cmd := exec.Command("sh", "-c", fmt.Sprintf("for i in $(seq %d); do echo save $i > file; done", saves))
		cmd.Dir = m.Dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		m.Settled()
		for i := 1; i <= saves; i++ {
			b, err := os.ReadFile(m.Path(fmt.Sprintf("file@@%d", i)))
			if want := fmt.Sprintf("save %d\n", i); err != nil || string(b) != want {
				t.Fatalf("version %d is %q, %v", i, b, err)
			}
		}
		if _, err := os.Stat(m.Path(fmt.Sprintf("file@@%d", saves+1))); !os.IsNotExist(err) {
			t.Errorf("there are more versions than saves: %v", err)
		}
	}, mounttest.Options("settle=0"))
}
