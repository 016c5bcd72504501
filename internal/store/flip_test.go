package store

import (
	"os"
	"path/filepath"
	"testing"

	"sharefs"
	"sharefs/integration/race"
)

// Each bit of the small files of a store is flipped in turn. The store is refused with the name of the file, or opens: with another key, which the
// tree refuses (versions: checkKeys), or with what the file says now. No file of it is made anew in place of a damaged one.
func TestFlippedBitsOfSmallFiles(t *testing.T) {
	race.Leave(t, race.OneHand)
	dir := filepath.Join(t.TempDir(), "store")
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	keys := s.Keys
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	config := []byte("[versions]\nsettle = \"2s\"\n")
	if err := os.WriteFile(filepath.Join(dir, configFile), config, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{identityFile, shareFile, configFile, lockFile} {
		path := filepath.Join(dir, file)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if file == lockFile {
			whole = []byte("pid 12\nstate mounted\nmount /somewhere\n") // left by a crash
		}
		refused := 0
		for bit := range 8 * len(whole) {
			data := append([]byte(nil), whole...)
			data[bit/8] ^= 1 << (bit % 8)
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := Open(dir)
			if err != nil {
				refused++
				if kind := sharefs.KindOf(err); kind != sharefs.KindCorrupt && kind != sharefs.KindInvalid || file == lockFile {
					t.Errorf("bit %d of %s: %v", bit, file, err)
				}
				continue
			}
			if file == identityFile && s.Keys.Peer() == keys.Peer() || file == shareFile && s.Keys.Ring.Has(keys.Ring) {
				t.Errorf("bit %d of %s is not seen", bit, file)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("%s: %d of %d flips are refused", file, refused, 8*len(whole))
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
