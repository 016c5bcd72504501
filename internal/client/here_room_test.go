package client

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs/internal/status"
)

// What has no room is told apart: the budget lacks it only where there is one, and where the disk has room for the file.
func TestWhatHasNoRoom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(path, "user.sharefs.here", []byte("1000 0 absent"), 0); err != nil {
		t.Skip("no attributes here: ", err)
	}
	for name, c := range map[string]struct {
		room      *status.Room
		available uint64
		want      bool
	}{
		"the budget":                      {&status.Room{Budget: 500}, 1001, true},
		"the disk":                        {&status.Room{Budget: 500}, 1000, false},
		"the disk, without a budget":      {&status.Room{}, 10, false},
		"something else, without figures": {nil, 1 << 40, false},
	} {
		s := &status.Status{Room: c.room}
		s.Space.AvailableBytes = c.available
		if got := overBudget(s, path); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	s := &status.Status{Room: &status.Room{Budget: 500}}
	s.Space.AvailableBytes = 1 << 40
	if overBudget(s, path+"/none") {
		t.Error("of what is not there nothing is known")
	}
}
