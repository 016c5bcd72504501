package fs

import (
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
)

func TestCtlDirectories(t *testing.T) {
	var mu sync.Mutex
	names, wrote := []string{"anna", "bert"}, ""
	m := mountTree(t, true, func(c *Config) {
		c.CtlDirs = []CtlDir{{Name: "peers", List: func() []string {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(names)
		}, Files: []CtlEntry{
			{Name: "id", Mode: 0o400, Read: func(of string) ([]byte, error) {
				mu.Lock()
				defer mu.Unlock()
				if !slices.Contains(names, of) {
					return nil, sharefs.KindNotExist
				}
				return []byte("id of " + of + "\n"), nil
			}},
			{Name: "level", Mode: 0o600, Read: func(string) ([]byte, error) { return []byte("read\n"), nil }, Write: func(of, line string) error {
				mu.Lock()
				defer mu.Unlock()
				if strings.HasPrefix(line, "bad") {
					return &sharefs.Error{Op: "level", Kind: sharefs.KindInvalid}
				}
				wrote = of + " " + line
				return nil
			}},
		}}}
	})
	list := func(dir string) string {
		t.Helper()
		entries, err := os.ReadDir(m.path(dir))
		ok(t, err)
		var out []string
		for _, e := range entries {
			out = append(out, e.Name())
		}
		return strings.Join(out, " ")
	}
	if got := list(".share/ctl"); got != "peers status" {
		t.Errorf("ctl lists %s", got)
	}
	if got := list(".share/ctl/peers"); got != "anna bert" {
		t.Errorf("peers lists %s", got)
	}
	if got := list(".share/ctl/peers/anna"); got != "id level" {
		t.Errorf("anna lists %s", got)
	}
	m.holds(".share/ctl/peers/anna/id", "id of anna\n")
	m.holds(".share/ctl/peers/bert/id", "id of bert\n")
	if st := m.stat(".share/ctl/peers/bert"); st.Mode != unix.S_IFDIR|0o500 {
		t.Errorf("mode %o", st.Mode)
	}
	ok(t, os.WriteFile(m.path(".share/ctl/peers/bert/level"), []byte("write\n"), 0o600))
	mu.Lock()
	if wrote != "bert write\n" {
		t.Errorf("%q arrived", wrote)
	}
	mu.Unlock()
	want(t, "a line that is refused", os.WriteFile(m.path(".share/ctl/peers/bert/level"), []byte("bad\n"), 0o600), unix.EINVAL)
	want(t, "writing what can only be read", os.WriteFile(m.path(".share/ctl/peers/bert/id"), nil, 0o600), unix.EACCES)
	want(t, "a new entry", os.Mkdir(m.path(".share/ctl/peers/cleo"), 0o700), unix.EROFS)
	want(t, "removal", os.Remove(m.path(".share/ctl/peers/bert/id")), unix.EROFS)
	if errors.Is(asUser(t, 100, 100, m.path(".share/ctl/peers/bert/id"), unix.O_RDONLY), nil) {
		t.Error("another than the owner may look into it")
	}
	held, err := os.Open(m.path(".share/ctl/peers/bert"))
	ok(t, err)
	defer held.Close()
	mu.Lock()
	names = []string{"anna"}
	mu.Unlock()
	if got := list(".share/ctl/peers"); got != "anna" {
		t.Errorf("peers lists %s", got)
	}
	_, err = os.ReadFile(m.path(".share/ctl/peers/bert/id"))
	want(t, "what is gone", err, unix.ENOENT)
	fd, err := unix.Openat(int(held.Fd()), "id", unix.O_RDONLY, 0)
	if err == nil {
		unix.Close(fd)
	}
	want(t, "what is gone, through a directory that was held", err, unix.ENOENT)
}
