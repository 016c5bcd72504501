// Package tier tests mounts whose store is kept in a bucket, against a real server.
package tier

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sharefs/integration/mounttest"
	"sharefs/integration/s3server"
	"sharefs/internal/status"
	"sharefs/internal/store"
	"sharefs/versions"
	"sharefs/versions/tier"
	"sharefs/versions/tier/s3"
)

func TestMain(m *testing.M) { mounttest.Main(m) }

// mount mounts a new store with a section in its share.toml.
func mount(t *testing.T, section string) *mounttest.Mount {
	t.Helper()
	mode := mounttest.Passthrough
	if os.Geteuid() != 0 {
		mode = mounttest.User
	}
	m := mounttest.Start(t, mode)
	m.Unmount()
	m.Tier(section)
	m.Mount()
	return m
}

func write(t *testing.T, m *mounttest.Mount, name, text string) {
	t.Helper()
	if err := os.WriteFile(m.Path(name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestStoreIsKeptInABucket(t *testing.T) {
	server := s3server.Start(t, "bucket")
	section := server.Section("bucket/my/store")
	m := mount(t, section)
	for n := range 20 {
		write(t, m, fmt.Sprintf("file%d", n), strings.Repeat(fmt.Sprint("text ", n), 20000))
	}
	m.InBucket()

	// The server is gone: the mount goes on, the status tells, and all follows when it is there again.
	server.Stop()
	write(t, m, "file0", "changed while the bucket was out of reach")
	m.Settled()
	s := m.UntilTier("the backlog shows", func(s *status.Tier) bool { return s.Error != "" && s.BacklogFiles > 0 })
	if s.BehindSince.IsZero() || s.BacklogBytes == 0 || s.Refused {
		t.Errorf("%+v", s)
	}
	if text, err := os.ReadFile(m.Path("file0")); err != nil || !strings.HasPrefix(string(text), "changed") {
		t.Errorf("%q, %v", text, err)
	}
	text, err := os.ReadFile(m.Path(".share/ctl/status"))
	if err != nil || !strings.Contains(string(text), "it lacks ") || !strings.Contains(string(text), "the bucket does not get on") || strings.Contains(string(text), s3server.Secret) {
		t.Errorf("%s, %v", text, err)
	}
	server.Run()
	m.InBucket()

	// The daemon is killed in the midst of it.
	write(t, m, "file1", strings.Repeat("changed before the daemon was killed", 100000))
	m.Kill()
	m.Mount()
	m.InBucket()
	m.Unmount()

	compare(t, m.Store, server)
	if log, err := os.ReadFile(m.Log); err != nil || strings.Contains(string(log), s3server.Secret) {
		t.Errorf("the log tells the secret, %v", err)
	}

	// Another store with the same URL is refused, and by name; its mount goes on.
	other := mount(t, section)
	write(t, other, "a", "b")
	other.UntilTier("it is refused", func(s *status.Tier) bool {
		return s.Refused && strings.Contains(s.Error, "another store, with another share key")
	})
	if problems := fmt.Sprint(other.Status().Problems); !strings.Contains(problems, "another share key") {
		t.Error(problems)
	}
	other.Unmount()
	compare(t, m.Store, server)
}

// compare reads what the bucket's root names, and compares it with the files of a store that nobody has mounted: each begins with what the bucket has of it.
func compare(t *testing.T, dir string, server *s3server.Server) {
	t.Helper()
	held, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	b, err := s3.Open(s3.Config{Host: server.Host, Plain: true, Bucket: "bucket", Prefix: "my/store/", Region: s3server.Region, Credentials: server.Credentials()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	root, _, err := tier.ReadRoot(context.Background(), b, versions.TierKey(held.Keys.Ring.First().Secret))
	if err != nil {
		t.Fatal(err)
	}
	if len(root.Files) < 3 {
		t.Errorf("the root names %v alone", root.Files)
	}
	for _, f := range root.Files {
		body := make([]byte, f.Size)
		n, _, err := b.ReadAt(context.Background(), f.Name, body, 0)
		if err != nil || int64(n) != f.Size {
			t.Errorf("%s, of %d bytes: %d, %v", f.Name, f.Size, n, err)
			continue
		}
		here, err := os.ReadFile(filepath.Join(dir, f.Name))
		if os.IsNotExist(err) && strings.Contains(f.Name, "/open/") { // sealed since
			name := filepath.Base(f.Name)
			here, err = os.ReadFile(filepath.Join(dir, filepath.Dir(filepath.Dir(f.Name)), name[:2], name))
		}
		if err != nil || !bytes.HasPrefix(here, body) {
			t.Errorf("%s is another one here: %v", f.Name, err)
		}
	}
}

func TestWithoutCredentialsTheMountGoesOn(t *testing.T) {
	none := filepath.Join(mounttest.TempDir(t), "none")
	m := mount(t, fmt.Sprintf("url = \"s3://127.0.0.1:1/bucket\"\ncredentials = %q", none))
	write(t, m, "a", "b")
	m.UntilTier("the status tells", func(s *status.Tier) bool {
		return s.Refused && strings.Contains(s.Error, "there are no credentials in "+none)
	})
}

func TestWithoutABucketNothingOfItRuns(t *testing.T) {
	m := mount(t, "")
	write(t, m, "a", "b")
	m.Settled()
	if s := m.Status(); s.Tier != nil {
		t.Errorf("%+v", s.Tier)
	}
	if _, err := os.Stat(filepath.Join(m.Store, "tier")); !os.IsNotExist(err) {
		t.Errorf("there is a file for it: %v", err)
	}
}
