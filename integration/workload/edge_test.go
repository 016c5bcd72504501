package workload

import (
	"fmt"
	"os"
	"testing"

	"sharefs/integration/mounttest"
	"sharefs/internal/store"
	"sharefs/versions"
)

// follow has the mount's tree tell of changes from now on, as it does once another host may have them.
func follow(t *testing.T, m *mounttest.Mount) {
	t.Helper()
	m.Unmount()
	s, err := store.Open(m.Store)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	tree, err := versions.Open(versions.Config{Dir: s.Dir, Keys: s.Keys.Ring, KeepKeys: s.KeepKeys, Peer: s.Keys.Peer()})
	if err != nil {
		t.Fatal(err)
	}
	if err := tree.Follow(true); err != nil {
		t.Fatal(err)
	}
	if err := tree.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	m.Mount()
}

// TestFirstCloseIsAVersionAtOnce saves files where somebody follows, and the settle time is longer than the test: the first close counts at once, those that follow
// wait, and what a program does under temporary names leaves no more than one version of them.
func TestFirstCloseIsAVersionAtOnce(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		put := func(name, content string) {
			t.Helper()
			if err := os.WriteFile(m.Path(name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		version := func(name string, number int, want string) {
			t.Helper()
			mounttest.WaitFor(t, fmt.Sprintf("%s@@%d", name, number), func() bool {
				b, err := os.ReadFile(m.Path(fmt.Sprintf("%s@@%d", name, number)))
				return err == nil && string(b) == want
			})
		}
		captured := func(n uint64) {
			t.Helper()
			mounttest.WaitFor(t, "capture", func() bool { return m.Status().Capture.Captured == n })
		}
		follow(t, m)

		put("file", "one")
		version("file", 1, "one")
		captured(1)
		put("file", "two")
		put("file", "three")
		if _, err := os.Stat(m.Path("file@@2")); !os.IsNotExist(err) {
			t.Errorf("a close within the settle time is a version already: %v", err)
		}

		put("other", "one")
		version("other", 1, "one")
		captured(2)

		if err := os.Mkdir(m.Path("dir"), 0o755); err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			put("dir/new", fmt.Sprint("content ", i))
			if i < 2 { // the second one takes the place of one that is young, which is when it shows
				captured(uint64(3 + i))
			}
			if err := os.Rename(m.Path("dir/new"), m.Path("dir/saved")); err != nil {
				t.Fatal(err)
			}
		}
		if s := m.Status(); s.Capture.Captured != 4 {
			t.Errorf("%d versions were captured", s.Capture.Captured)
		}
		m.Remount() // which brings all to rest
		version("file", 2, "three")
		version("dir/saved", 3, "content 4")
	}, mounttest.Options("settle=1h"))
}
