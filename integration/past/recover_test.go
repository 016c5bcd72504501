package past

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs/integration/mounttest"
	"sharefs/integration/s3server"
	"sharefs/internal/status"
)

// The whole store is lost. With its recovery sheet it comes back from the bucket: what is live and every moment are what was copied at the time, names of
// moments are there, collections and checks find nothing amiss, and the store goes on with the bucket, alone.
func TestViewsAfterRecoveryFromTheBucket(t *testing.T) {
	server := s3server.Start(t, "bucket")
	mode := mounttest.Passthrough
	if os.Geteuid() != 0 {
		mode = mounttest.User
	}
	m := mounttest.Start(t, mode)
	m.Unmount()
	m.Tier(server.Section("bucket/a/store"))
	m.Mount()
	tool := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(mounttest.Bin(t, "sharefs"), args...).CombinedOutput()
		if err != nil {
			t.Fatalf("sharefs %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	rnd := rand.New(rand.NewPCG(7, 77))
	var copies []copied
	ok(t, unix.Mkfifo(m.Path("fifo"), 0o640))
	ok(t, os.WriteFile(m.Path("letter"), []byte("first"), 0o640))
	tool("-C", m.Dir, "tag", "letter", "draft")
	ok(t, os.WriteFile(m.Path("empty"), nil, 0o604))
	for i := range 3 {
		grow(t, m.Dir, rnd, 70)
		m.Closed()
		ok(t, unix.Setxattr(m.Dir, "user.sharefs.snapshot", []byte(fmt.Sprint("round ", i)), 0))
		copies = append(copies, take(t, m))
	}
	ok(t, os.WriteFile(m.Path("letter"), []byte("second"), 0o640))
	big, err := os.Create(m.Path("sparse"))
	ok(t, err)
	_, err = big.WriteAt([]byte("far out"), 64<<20)
	ok(t, err)
	ok(t, big.Close())
	copies = append(copies, take(t, m))
	m.InBucketAtOnce()

	dir := mounttest.TempDir(t)
	sheet := filepath.Join(dir, "sheet")
	ok(t, os.WriteFile(sheet, []byte(tool("recovery", "--store", m.Store)), 0o600))
	if out := tool("recovery", "--store", m.Store, "--no-code"); !strings.Contains(out, "a sheet of this store was printed before") {
		t.Errorf("the second sheet:\n%s", out)
	}
	m.Unmount()
	ok(t, os.RemoveAll(m.Store))

	// It is killed a few times.
	args := []string{"--recover", "--store", m.Store, "--sheet", sheet, "--credentials", server.Credentials()}
	for i := range 5 {
		cmd := exec.Command(mounttest.Bin(t, "sharefs-mount"), args...)
		ok(t, cmd.Start())
		time.Sleep(time.Duration(rnd.IntN(100*(i+1))) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	if _, err := os.Stat(filepath.Join(m.Store, "recovering")); err == nil {
		if err := m.TryMount(); err == nil || !strings.Contains(err.Error(), "sharefs recover") {
			t.Fatalf("a store that is half there is mounted: %v", err)
		}
		args = args[:3] // it knows the rest
	}
	if _, err := os.Stat(filepath.Join(m.Store, "meta.db")); err != nil || len(args) == 3 { // else one of them had done it all
		if out := tool(append([]string{"recover"}, args[1:]...)...); !strings.Contains(out, "Nothing is missing.") {
			t.Errorf("recover says\n%s", out)
		}
	}
	m.Mount()
	copies[len(copies)-1].same(t, m.Dir)
	check := func() {
		t.Helper()
		for i, c := range copies {
			c.same(t, m.Path(".share/at", c.moment))
			if i < 3 {
				c.same(t, m.Path(".share/at", fmt.Sprint("round ", i)))
			}
		}
	}
	check()
	for name, want := range map[string]string{"letter": "second", "letter@@draft": "first", "letter@@1": "first"} {
		if b, err := os.ReadFile(m.Path(name)); err != nil || string(b) != want {
			t.Errorf("%s holds %.60q, %v; want %q", name, b, err, want)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(m.Path("sparse"), &st); err != nil || st.Blocks > 1000 {
		t.Errorf("a file with a hole takes %d blocks, %v", st.Blocks, err)
	}
	tool("-C", m.Dir, "gc")
	if out := tool("-C", m.Dir, "fsck", "--scrub"); !strings.Contains(out, "all is well") {
		t.Errorf("fsck says\n%s", out)
	}
	check()

	// It goes on, with the bucket too; whoever else takes the same store from there is refused then.
	other := mounttest.Start(t, mode)
	other.Unmount()
	ok(t, os.RemoveAll(other.Store))
	tool("recover", "--store", other.Store, "--sheet", sheet, "--credentials", server.Credentials())
	grow(t, m.Dir, rnd, 70)
	copies = append(copies, take(t, m))
	m.InBucketAtOnce()
	other.Mount()
	other.UntilTier("the other copy is refused", func(s *status.Tier) bool {
		return s.Refused && strings.Contains(s.Error, "another copy of this store")
	})
	other.Unmount()
	check()
	copies[len(copies)-1].same(t, m.Dir)
}
