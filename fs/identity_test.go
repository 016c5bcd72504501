package fs

import (
	"os"
	"strconv"
	"testing"
	"time"
)

func TestWhatIsTheSameIsKnownByItsAttributes(t *testing.T) {
	inAllModes(t, func(t *testing.T, m *mounted) {
		get := func(path, attr string) string {
			t.Helper()
			text, err := getXattr(path, attr)
			ok(t, err)
			return text
		}
		file := m.write("file", "first")
		ok(t, os.MkdirAll(m.path("d/sub"), 0o755))
		gone := m.write("d/sub/gone", "gone")
		m.released()
		first := m.moment()
		live := strconv.FormatUint(m.stat("file").Ino, 10)
		if a, b := get(file, attrInode), get(m.at(first, "file"), attrInode); a != live || b != live {
			t.Errorf("inode %s has %s live and %s past", live, a, b)
		}
		if a, b := get(m.path("d"), attrInode), get(m.at(first, "d"), attrInode); a != b {
			t.Errorf("directories are %s live and %s past", a, b)
		}
		was := get(m.at(first, "file"), attrState)
		if a, b := get(file, attrState), get(file+"@@1", attrState); a != was || b != was {
			t.Errorf("live it is %s, version 1 is %s, then it was %s", a, b, was)
		}
		if _, err := getXattr(gone, attrRemoved); err == nil {
			t.Error("what is there is told removed")
		}
		m.write("file", "second")
		ok(t, os.RemoveAll(m.path("d")))
		m.released()
		second := m.moment()
		if now := get(m.at(second, "file"), attrState); now == was || now != get(file, attrState) {
			t.Errorf("changed it is %s, live %s, it was %s", now, get(file, attrState), was)
		}
		if again := get(m.at(first, "file"), attrState); again != was {
			t.Errorf("then it was %s, and is now %s", was, again)
		}
		for _, p := range []string{".share/versions/d", ".share/versions/d/sub/gone"} {
			if _, err := getXattr(m.path(p), attrAlive); err == nil {
				t.Errorf("%s lives", p)
			}
			at, err := time.Parse(time.RFC3339, get(m.path(p), attrRemoved))
			ok(t, err)
			before, err := time.Parse(time.RFC3339, first)
			ok(t, err)
			if at.Before(before) || at.After(time.Now().Add(time.Minute)) {
				t.Errorf("%s is removed at %v", p, at)
			}
			m.holds(".share/at/"+at.Add(-time.Millisecond).Format("2006-01-02T15:04:05.000Z07:00")+"/d/sub/gone", "gone")
		}
		ok(t, os.Mkdir(m.path("old"), 0o755))
		m.moment()
		ok(t, os.Rename(m.path("old"), m.path("new")))
		if got := get(m.path(".share/versions/old"), attrAlive); got != "1" {
			t.Errorf("what moved is told %q", got)
		}
	})
}
