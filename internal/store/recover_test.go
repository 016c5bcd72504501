package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sharefs"
	"sharefs/internal/config"
	"sharefs/internal/keyring"
)

func TestARecoveryIsBegunAndGoneOnWith(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	share := keyring.New([32]byte{1, 2, 3})
	s, err := Recover(dir, share, []byte("note"))
	if err != nil {
		t.Fatal(err)
	}
	peer := s.Keys.Peer()
	if s.Keys.Ring.First() != share.First() || peer.IsZero() {
		t.Errorf("%+v", s.Keys)
	}
	if err := s.Configure([]byte("[versions]\nsettle = \"7s\"\n")); err != nil || time.Duration(s.Config.Versions.Settle) != 7*time.Second {
		t.Errorf("%v, %v", s.Config.Versions.Settle, err)
	}
	if err := s.Configure([]byte("colour = 1")); sharefs.KindOf(err) != sharefs.KindInvalid {
		t.Error(err)
	}
	if _, err := Recover(dir, share, nil); !errors.Is(err, sharefs.KindBusy) {
		t.Errorf("a second one at once: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// Nobody else takes it for a store.
	if _, err := Open(dir); sharefs.KindOf(err) != sharefs.KindBusy || !strings.Contains(err.Error(), "sharefs recover --store DIR") {
		t.Errorf("opened: %v", err)
	}
	if _, err := Recover(dir, keyring.New([32]byte{9}), nil); sharefs.KindOf(err) != sharefs.KindExist || !strings.Contains(err.Error(), "another store") {
		t.Errorf("with another key: %v", err)
	}
	// What it fetches in the meantime does not keep it from going on, under the same identity.
	if err := os.MkdirAll(filepath.Join(dir, "checkpoints", "rows"), 0o700); err != nil {
		t.Fatal(err)
	}
	s, err = Recover(dir, share, []byte("another note"))
	if err != nil || s.Keys.Peer() != peer {
		t.Fatalf("%+v, %v", s, err)
	}
	if note, begun, err := Recovering(dir); string(note) != "another note" || !begun || err != nil {
		t.Errorf("%q, %v, %v", note, begun, err)
	}
	if err := s.Recovered(); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, begun, err := Recovering(dir); begun || err != nil {
		t.Errorf("%v, %v", begun, err)
	}
	s, err = Open(dir)
	if err != nil || s.New || s.Keys.Ring.First() != share.First() || s.Keys.Peer() != peer || time.Duration(s.Config.Versions.Settle) != 7*time.Second {
		t.Fatalf("%+v, %v", s, err)
	}
	s.Close()
	if _, err := Recover(dir, share, nil); sharefs.KindOf(err) != sharefs.KindExist || !strings.Contains(err.Error(), "name an empty or a new directory") {
		t.Errorf("over a store: %v", err)
	}
}

// Killed between any two of its files, it goes on.
func TestARecoveryThatWasKilledEarly(t *testing.T) {
	share := keyring.New([32]byte{1})
	for _, gone := range [][]string{{identityFile}, {shareFile}, {shareFile, identityFile}, {shareFile, identityFile, recoveringFile}} {
		dir := t.TempDir()
		s, err := Recover(dir, share, []byte("note"))
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		for _, name := range gone {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		if s, err = Recover(dir, share, []byte("note")); err != nil || s.Keys.Ring.First() != share.First() {
			t.Fatalf("without %q: %v", gone, err)
		}
		s.Close()
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "letter.txt"), "dear", 0o644)
	if _, err := Recover(dir, share, nil); err == nil || !strings.Contains(err.Error(), "letter.txt") {
		t.Errorf("somebody's directory: %v", err)
	}
}

func TestPeekAndSheets(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	share, c, err := Peek(dir) // though somebody has it
	if err != nil || share.First() != s.Keys.Ring.First() || c.Tier != (config.Tier{}) {
		t.Errorf("%+v, %v", c, err)
	}
	if _, _, err := Peek(t.TempDir()); sharefs.KindOf(err) != sharefs.KindNotExist {
		t.Error(err)
	}
	now := time.Unix(1_800_000_000, 0)
	for n := range 3 {
		before, err := NoteSheet(dir, "me on\nthis", now)
		if err != nil || len(before) != n || n > 0 && before[n-1] != "2027-01-15T08:00:00Z me on?this" {
			t.Errorf("%q, %v", before, err)
		}
	}
	s.Close()
	again, err := Open(dir)
	if err != nil {
		t.Fatalf("a store whose sheet was printed: %v", err)
	}
	again.Close()
}
