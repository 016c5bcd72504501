package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/integration/race"
	"sharefs/peers/identity"
)

func TestAnIdentityIsSealedAndUnlocked(t *testing.T) {
	race.Leave(t, race.OneHand)
	dir, pass := t.TempDir(), filepath.Join(t.TempDir(), "pass")
	write(t, pass, "open sesame\n", 0o600)
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	peer := s.Keys.Peer()
	if sealed, err := s.Unlock(""); sealed || err != nil {
		t.Fatalf("what is not sealed: %v, %v", sealed, err)
	}
	if sealed, err := s.Unlock(pass); !sealed || err != nil {
		t.Fatalf("%v, %v", sealed, err)
	}
	s.Close()
	text, err := os.ReadFile(filepath.Join(dir, identityFile))
	if err != nil || !strings.HasPrefix(string(text), identity.SealedForm+" ") {
		t.Fatalf("%s, %v", text, err)
	}
	if s, err = Open(dir); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Keys.Peer() != peer || !s.Keys.Identity.Locked() {
		t.Error("a sealed identity has another name, or is open")
	}
	other := filepath.Join(t.TempDir(), "other")
	write(t, other, "sesame", 0o600)
	open := filepath.Join(t.TempDir(), "open")
	write(t, open, "open sesame", 0o644)
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]struct {
		kind sharefs.Kind
		text string
	}{
		"":                                 {sharefs.KindAccess, "mount with -o passphrase=FILE"},
		other:                              {sharefs.KindAccess, "identity.key: the passphrase is wrong, or the key is damaged"},
		open:                               {sharefs.KindAccess, "others may read it (mode 0644)"},
		pipe:                               {sharefs.KindInvalid, "no regular file"},
		filepath.Join(t.TempDir(), "none"): {sharefs.KindNotExist, "none"},
	} {
		if _, err := s.Unlock(file); !errors.Is(err, want.kind) || !strings.Contains(err.Error(), want.text) || !s.Keys.Identity.Locked() {
			t.Errorf("%s: %v", file, err)
		}
	}
	if sealed, err := s.Unlock(pass); sealed || err != nil || s.Keys.Identity.Locked() {
		t.Errorf("%v, %v", sealed, err)
	}
}
