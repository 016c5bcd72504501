package fs

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
)

func TestShareIsHidden(t *testing.T) {
	m := mountTree(t, true, nil)
	entries, err := os.ReadDir(m.dir)
	ok(t, err)
	if len(entries) > 0 {
		t.Errorf("the root lists %v", entries)
	}
	p := m.path(shareName)
	if st := m.stat(shareName); st.Mode != unix.S_IFDIR|0o555 || st.Ino>>63 != 1 {
		t.Errorf(".share has mode %o and inode %#x", st.Mode, st.Ino)
	}
	if entries, err := os.ReadDir(p); err != nil || fmt.Sprint(entries) != "[d at/ d ctl/ d ops/ d trash/ d versions/]" {
		t.Errorf(".share lists %v, %v", entries, err)
	}
	want(t, "mkdir .share", os.Mkdir(p, 0o755), unix.EEXIST)
	want(t, "create .share", os.WriteFile(p, nil, 0o644), unix.EISDIR)
	want(t, "symlink .share", os.Symlink("x", p), unix.EEXIST)
	want(t, "rmdir .share", unix.Rmdir(p), unix.EROFS)
	ok(t, os.Mkdir(m.path("dir"), 0o755))
	want(t, "rename onto .share", unix.Rename(m.path("dir"), p), unix.EBUSY)
	want(t, "rename of .share", unix.Rename(p, m.path("x")), unix.EBUSY)
	want(t, "a name in .share", unix.Access(m.path(shareName, "x"), unix.F_OK), unix.ENOENT)
	// The name is an ordinary one elsewhere.
	ok(t, os.Mkdir(m.path("dir", shareName), 0o755))
}

func TestCtlFiles(t *testing.T) {
	var mu sync.Mutex
	var lines []string
	reads := 0
	m := mountTree(t, true, func(c *Config) {
		c.Ctl = append(c.Ctl,
			CtlFile{Name: "ctl", Mode: 0o600, Write: func(line string) error {
				if strings.HasPrefix(line, "bad") {
					return &sharefs.Error{Op: "ctl", Kind: sharefs.KindInvalid}
				}
				mu.Lock()
				defer mu.Unlock()
				lines = append(lines, line)
				return nil
			}},
			CtlFile{Name: "long", Mode: 0o444, Read: func() []byte {
				mu.Lock()
				defer mu.Unlock()
				reads++
				return []byte(strings.Repeat("x", 100_000) + "end")
			}})
	})
	m.holds(".share/ctl/status", "up\n")
	m.holds(".share/ctl/long", strings.Repeat("x", 100_000)+"end")
	m.holds(".share/ctl/long", strings.Repeat("x", 100_000)+"end")
	mu.Lock()
	if reads != 2 {
		t.Errorf("the text was made %d times in two opens", reads)
	}
	mu.Unlock()
	ctl := m.path(".share/ctl/ctl")
	// As a shell does it: echo verb > ctl.
	f, err := os.OpenFile(ctl, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	ok(t, err)
	_, err = f.WriteString("verb key=value\n")
	ok(t, err)
	_, err = f.WriteString("bad\n")
	want(t, "a line that is refused", err, unix.EINVAL)
	ok(t, f.Close())
	mu.Lock()
	if len(lines) != 1 || lines[0] != "verb key=value\n" {
		t.Errorf("the lines %q arrived", lines)
	}
	mu.Unlock()
	_, err = os.ReadFile(ctl)
	want(t, "reading what can only be written", err, unix.EACCES)
	_, err = os.OpenFile(m.path(".share/ctl/long"), os.O_WRONLY, 0)
	want(t, "writing what can only be read", err, unix.EACCES)
	ok(t, os.Truncate(ctl, 0))
	want(t, "chmod", os.Chmod(ctl, 0o666), unix.EROFS)
	want(t, "unlink", unix.Unlink(ctl), unix.EROFS)
	want(t, "create beside it", os.WriteFile(m.path(".share/ctl/new"), nil, 0o600), unix.EROFS)
	if errors.Is(asUser(t, 100, 100, ctl, unix.O_WRONLY), nil) {
		t.Error("another than the owner may write to ctl")
	}
	entries, err := os.ReadDir(m.path(".share/ctl"))
	if err != nil || len(entries) != 3 {
		t.Errorf("%v, %v", entries, err)
	}
}
