package tier

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sharefs/integration/mounttest"
	"sharefs/integration/s3server"
	"sharefs/internal/status"
)

// noise returns bytes that do not compress.
func noise(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// packsHere counts the files of sealed packs.
func packsHere(t *testing.T, m *mounttest.Mount) int {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(m.Store, "packs", "[0-9a-f][0-9a-f]", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// History that is larger than its budget leaves the disk and is read from the server; while that is stopped, what is there alone is out of reach, by name, and all else
// goes on; it comes back by itself, also after the daemon was killed.
func TestHistoryLargerThanItsRoom(t *testing.T) {
	server := s3server.Start(t, "bucket")
	section := server.Section("bucket/near") + "\ncache = \"64MiB\""
	m := mount(t, section)
	const versions = 12
	for n := range byte(versions) {
		if err := os.WriteFile(m.Path("large"), noise(n, 8<<20), 0o644); err != nil {
			t.Fatal(err)
		}
		m.Settled()
	}
	m.InBucket()
	s := m.UntilTier("packs leave", func(s *status.Tier) bool { return s.Cache.RemotePacks > 0 && s.Cache.HeldBytes <= s.Cache.BudgetBytes })
	if s.Cache.LocalPacks == 0 || packsHere(t, m) != s.Cache.LocalPacks || s.Cache.RemoteBytes < 20<<20 {
		t.Errorf("%d files, %+v", packsHere(t, m), s.Cache)
	}
	same := func(n int) {
		t.Helper()
		got, err := os.ReadFile(m.Path("large@@", fmt.Sprint(n+1)))
		if err != nil || !bytes.Equal(got, noise(byte(n), 8<<20)) {
			t.Fatalf("version %d: %d bytes, %v", n+1, len(got), err)
		}
	}
	for n := range versions {
		same(n)
	}
	m.UntilTier("what was fetched has its bounds too", func(s *status.Tier) bool {
		return s.Cache.FetchedBytes > 20<<20 && s.Cache.HeldBytes <= s.Cache.BudgetBytes
	})
	text, err := os.ReadFile(m.Path(".share/ctl/status"))
	if err != nil || !strings.Contains(string(text), "it alone has ") {
		t.Errorf("%s, %v", text, err)
	}

	// The server is gone. A version that is not here says so, and within bounds.
	m.Remount() // so that the kernel has none of it
	server.Stop()
	gone := 0
	for n := range versions {
		_, err := os.ReadFile(m.Path("large@@", fmt.Sprint(n+1)))
		if err == nil {
			continue
		}
		if gone = n + 1; !errors.Is(err, syscall.EHOSTUNREACH) {
			t.Errorf("version %d: %v", gone, err)
		}
	}
	if gone == 0 {
		t.Error("everything was read without the server")
	}
	m.UntilTier("the outage shows", func(s *status.Tier) bool { return !s.Cache.OutOfReachSince.IsZero() && s.Cache.Error != "" })
	if problems := fmt.Sprint(m.Status().Problems); !strings.Contains(problems, "cannot be read, for the bucket s3://") {
		t.Error(problems)
	}
	for _, command := range []string{"cat", "restore"} {
		cmd := exec.Command(mounttest.Bin(t, "sharefs"), command, m.Path(fmt.Sprintf("large@@%d", gone)))
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "it lies in the bucket s3://") {
			t.Errorf("%s: %v, %s", command, err, out)
		}
	}
	write(t, m, "other", "written while the server was stopped")
	m.Settled()
	if text, err := os.ReadFile(m.Path("other@@", "1")); err != nil || string(text) != "written while the server was stopped" {
		t.Errorf("%q, %v", text, err)
	}
	server.Run()
	m.UntilTier("the bucket answers again", func(s *status.Tier) bool { return s.Cache.OutOfReachSince.IsZero() })
	same(0)
	m.Kill()
	m.Mount()
	for n := range versions {
		same(n)
	}
	out := m.Run(mounttest.Bin(t, "sharefs"), "fsck", "--scrub", "--bucket")
	if !strings.Contains(out, "all is well") {
		t.Error(out)
	}
	if out := m.Run(mounttest.Bin(t, "sharefs"), "gc"); strings.Contains(out, "left ") {
		t.Error(out)
	}
}
