package crash

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sharefs/integration/mounttest"
)

// The daemon is killed and meta.db is lost, once with the journal: a mount says what to do, and after sharefs rebuild every name, content and
// version is there that was; what the journal alone had is there if the journal is. Copies are made sooner than by default, because it waits for them.
func TestRebuildAfterTheLossOfMeta(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		m.Configure("[journal]\nmax_delay = \"100ms\"\ncopy_delay = \"1s\"\n")
		write := func(name, content string) {
			t.Helper()
			if err := os.MkdirAll(filepath.Dir(m.Path(name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(m.Path(name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 50 {
			write(fmt.Sprintf("dir%d/file%d", i%5, i), fmt.Sprint("content ", i))
		}
		write("letter", "first")
		m.Settled()
		write("letter", "second")
		m.Settled()
		if err := os.Rename(m.Path("dir1"), m.Path("moved")); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(m.Path("dir2")); err != nil {
			t.Fatal(err)
		}
		if err := os.Link(m.Path("letter"), m.Path("link")); err != nil {
			t.Fatal(err)
		}
		copied := func() bool { // all of it is in the checkpoint
			cp := m.Status().Checkpoint
			return cp.Generation > 0 && cp.UncopiedNow == 0 && m.Status().Journal.UnsyncedNow == 0
		}
		mounttest.WaitFor(t, "a checkpoint", copied)
		for round, lose := range [][]string{{"meta.db"}, {"meta.db", "journal"}} {
			late := fmt.Sprint("late", round)
			write(late, "written before the kill")
			if round > 0 {
				m.Settled()
				mounttest.WaitFor(t, "a checkpoint", copied)
			}
			m.Kill()
			for _, name := range lose {
				if err := os.RemoveAll(filepath.Join(m.Store, name)); err != nil {
					t.Fatal(err)
				}
			}
			if err := m.TryMount(); err == nil || !strings.Contains(err.Error(), "rebuild") {
				t.Fatalf("a store without meta.db: %v", err)
			}
			out, err := exec.Command(mounttest.Bin(t, "sharefs"), "rebuild", "--store", m.Store).CombinedOutput()
			if err != nil || !strings.Contains(string(out), "Nothing is missing.") {
				t.Fatalf("%v\n%s", err, out)
			}
			if out, err := exec.Command(mounttest.Bin(t, "sharefs"), "rebuild", "--store", m.Store).CombinedOutput(); err == nil || !strings.Contains(string(out), "nothing to rebuild") {
				t.Errorf("a second time: %v\n%s", err, out)
			}
			m.Mount()
			want := map[string]string{"letter": "second", "link": "second", "letter@@1": "first", "letter@@2": "second", late: "written before the kill"}
			for i := range 50 {
				if dir := i % 5; dir != 2 {
					want[strings.Replace(fmt.Sprintf("dir%d/file%d", dir, i), "dir1/", "moved/", 1)] = fmt.Sprint("content ", i)
				}
			}
			for name, content := range want {
				if b, err := os.ReadFile(m.Path(name)); err != nil || string(b) != content {
					t.Errorf("%s holds %q, %v; want %q", name, b, err, content)
				}
			}
			if _, err := os.Lstat(m.Path("dir2")); !os.IsNotExist(err) {
				t.Errorf("what was removed is there: %v", err)
			}
		}
	})
}
