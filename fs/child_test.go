package fs

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Some tests are programs in a process of their own: those that touch mapped pages, for a page fault blocks a
// processor of Go's runtime, and the daemon, which in these tests is the same process, might need it to serve the
// fault; and those that watch over their own process, its descriptors and locks.
var children = map[string]func(t *testing.T, dir string){}

// childEnv names the child to be, and childDir the directory that it works in.
const (
	childEnv = "SHAREFS_FS_TEST_CHILD"
	childDir = "SHAREFS_FS_TEST_DIR"
)

// TestChild is where a child begins; in the parent it does nothing.
func TestChild(t *testing.T) {
	name := os.Getenv(childEnv)
	if name == "" {
		t.Skip("runs in the processes that other tests start")
	}
	children[name](t, os.Getenv(childDir))
}

// inChild runs a registered child in dir and returns what it printed.
func inChild(t *testing.T, name, dir string) string {
	t.Helper()
	if children[name] == nil {
		t.Fatalf("no child is called %q", name)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.v", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), childEnv+"="+name, childDir+"="+dir)
	cmd.WaitDelay = time.Minute
	out, err := cmd.CombinedOutput()
	text := string(out)
	if err != nil || !strings.Contains(text, "--- PASS: TestChild") {
		t.Errorf("%s in %s: %v\n%s", name, dir, err, text)
	}
	return text
}

func init() {
	children["nothing"] = func(*testing.T, string) { fmt.Println("was here") }
}

func TestChildRuns(t *testing.T) {
	if out := inChild(t, "nothing", ""); !strings.Contains(out, "was here") {
		t.Errorf("the child printed %q", out)
	}
}
