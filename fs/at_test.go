package fs

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// moment fixes the present and returns it as .share/at takes it.
func (m *mounted) moment() string {
	m.t.Helper()
	text, err := getXattr(m.dir, attrMoment)
	ok(m.t, err)
	return text
}

// at is the path of something at a moment.
func (m *mounted) at(moment string, elem ...string) string {
	return m.path(append([]string{shareName, atName, moment}, elem...)...)
}

func TestTreeAsItWas(t *testing.T) {
	inAllModes(t, func(t *testing.T, m *mounted) {
		ok(t, os.MkdirAll(m.path("dir/sub dir"), 0o750))
		m.write("file", "first")
		m.write("dir/sub dir/ä", "inner")
		ok(t, os.Symlink("../file", m.path("dir/link")))
		ok(t, unix.Mkfifo(m.path("fifo"), 0o600))
		ok(t, unix.Setxattr(m.path("dir"), "user.x", []byte("then"), 0))
		ok(t, os.Link(m.path("file"), m.path("dir/second")))
		m.released()
		copied := t.TempDir()
		run(t, "cp", "-a", m.dir+"/.", copied)
		first := m.moment()
		m.write("file", "changed")
		ok(t, os.Chmod(m.path("file"), 0o600))
		ok(t, os.RemoveAll(m.path("dir")))
		ok(t, unix.Unlink(m.path("fifo")))
		m.write("new", "new")
		same := func() {
			t.Helper()
			if out := run(t, "rsync", "-aHAXn", "--itemize-changes", "--delete", m.at(first)+"/", copied+"/"); out != "" {
				t.Errorf("differs from the copy:\n%s", out)
			}
			run(t, "diff", "-r", "--no-dereference", "--exclude=fifo", m.at(first), copied)
		}
		same()
		same()
		m.holds(".share/at/"+first+"/file", "first")
		if a, b := m.stat(".share/at/"+first+"/file"), m.stat(".share/at/"+first+"/dir/second"); a.Ino != b.Ino || a.Nlink != 2 {
			t.Errorf("links of inodes %d and %d, %d links", a.Ino, b.Ino, a.Nlink)
		}
		if a, b := m.stat(".share/at/"+first+"/file"), m.stat("file"); a.Ino == b.Ino {
			t.Error("a file of the past has the inode of the live one")
		}
	})
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

var _ = fmt.Sprint
