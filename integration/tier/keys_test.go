package tier

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sharefs/integration/mounttest"
	"sharefs/integration/s3server"
	"sharefs/internal/keyring"
)

// A sheet that was printed when the store had one share key brings back what was kept under later ones too, and the recovered store goes on with the same key.
func TestASheetFromBeforeOtherKeys(t *testing.T) {
	server := s3server.Start(t, "bucket")
	m := mount(t, server.Section("bucket/keys"))
	write(t, m, "a", "one")
	m.InBucketAtOnce()
	out, _, exit := tool(t, "recovery", "--store", m.Store, "--json")
	var printed struct{ Line string }
	if err := json.Unmarshal([]byte(out), &printed); err != nil || exit != 0 {
		t.Fatalf("%d, %v: %s", exit, err, out)
	}
	m.Unmount()
	ring := ringOf(t, m.Store)
	ring, err := ring.Add(keyring.Make().Keys()...)
	if err == nil {
		ring, err = ring.Next()
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(m.Store, "share.key"), ring.Text(), 0o600); err != nil {
		t.Fatal(err)
	}
	m.Mount()
	write(t, m, "a", "two")
	write(t, m, "b", strings.Repeat("text of b\n", 1000))
	m.InBucketAtOnce()
	m.Unmount()

	dir := mounttest.TempDir(t)
	sheet, target := filepath.Join(dir, "sheet"), filepath.Join(dir, "new")
	if err := os.WriteFile(sheet, []byte(printed.Line), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, complaint, exit := tool(t, "recover", "--store", target, "--sheet", sheet, "--credentials", server.Credentials()); exit != 0 || !strings.Contains(out, "Nothing is missing") {
		t.Fatalf("%d\n%s%s", exit, out, complaint)
	}
	back := mounttest.Start(t, m.Mode, mounttest.On(target))
	for name, want := range map[string]string{"a": "two", "a@@1": "one", "a@@2": "two", "b@@1": strings.Repeat("text of b\n", 1000)} {
		if got, err := os.ReadFile(back.Path(name)); err != nil || string(got) != want {
			t.Errorf("%s: %.20q, %v", name, got, err)
		}
	}
	if got := ringOf(t, target); !got.Has(ring) || got.Use() != ring.Use() || got.First() != ring.First() {
		t.Errorf("%d keys come back, of %d", got.Len(), ring.Len())
	}
}

// ringOf reads the share keys of a store.
func ringOf(t *testing.T, store string) keyring.Ring {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(store, "share.key"))
	if err != nil {
		t.Fatal(err)
	}
	ring, err := keyring.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}
