package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sharefs"
	"sharefs/internal/keyring"
)

// More keys are in share.key and its copy, whatever was put back in between, and no key is ever left out.
func TestKeepKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	path, second := filepath.Join(dir, shareFile), filepath.Join(dir, shareCopy)
	old, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(old), "sharefs-share-1 ") {
		t.Fatalf("%q, %v", old, err)
	}
	one := s.Keys.Ring
	next := func(r keyring.Ring) keyring.Ring {
		t.Helper()
		r, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	two := next(one)
	three := next(two)
	both := func(want keyring.Ring) {
		t.Helper()
		for _, p := range []string{path, second} {
			got, err := readRing(p)
			if err != nil || got.Len() != want.Len() || !got.Has(want) || got.First() != one.First() {
				t.Errorf("%s has %d keys, %v", p, got.Len(), err)
			}
			if st, err := os.Stat(p); err != nil || st.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", st, err)
			}
		}
	}
	if err := s.KeepKeys(three); err != nil {
		t.Fatal(err)
	}
	both(three)
	if err := s.KeepKeys(two); err != nil { // fewer than there are
		t.Fatal(err)
	}
	both(three)
	write(t, path, string(old), 0o600) // an old one was put back
	if err := s.KeepKeys(next(one)); err != nil {
		t.Fatal(err)
	}
	if got, err := readRing(path); err != nil || got.Len() != 4 || !got.Has(three) {
		t.Errorf("%d keys, %v", got.Len(), err)
	}
	all, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, second, "damaged", 0o600)
	if err := s.KeepKeys(one); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(second); err != nil || string(got) != string(all) {
		t.Errorf("the copy is not made anew: %v", err)
	}
	if err := s.KeepKeys(keyring.Make()); sharefs.KindOf(err) != sharefs.KindInvalid {
		t.Errorf("keys of another store: %v", err)
	}
	write(t, path, string(all[:len(all)-3]), 0o600)
	if err := s.KeepKeys(three); sharefs.KindOf(err) != sharefs.KindCorrupt {
		t.Errorf("over a damaged one: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); sharefs.KindOf(err) != sharefs.KindCorrupt || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "share.key.copy beside it is whole") {
		t.Errorf("a damaged one: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), shareCopy) {
		t.Errorf("none, beside a copy: %v", err)
	}
	if err := os.Rename(second, path); err != nil {
		t.Fatal(err)
	}
	s, err = Open(dir)
	if err != nil || s.Keys.Ring.Len() != 4 {
		t.Fatalf("%v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// A recovery has all keys that the bucket knew when it began, and takes up those that it learns later; a call that goes on with fewer loses none.
func TestARecoveryHasAllKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	rings := []keyring.Ring{keyring.Make()}
	for range 3 {
		r, err := rings[len(rings)-1].Next()
		if err != nil {
			t.Fatal(err)
		}
		rings = append(rings, r)
	}
	for i, n := range []int{1, 0, 2} {
		s, err := Recover(dir, rings[n], []byte("note"))
		if err != nil {
			t.Fatal(err)
		}
		if want := max(n, 1); s.Keys.Ring.Len() != want+1 || !s.Keys.Ring.Has(rings[want]) {
			t.Errorf("call %d: %d keys", i, s.Keys.Ring.Len())
		}
		if n == 2 {
			if err := s.TakeKeys(rings[3]); err != nil || !s.Keys.Ring.Has(rings[3]) {
				t.Errorf("%d keys, %v", s.Keys.Ring.Len(), err)
			}
			if err := s.Recovered(); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Open(dir)
	if err != nil || !s.Keys.Ring.Has(rings[3]) {
		t.Fatalf("%v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	ring, _, err := Peek(dir)
	if err != nil || ring.First() != rings[0].First() {
		t.Errorf("%v", err)
	}
}
