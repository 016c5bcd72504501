package fs

import (
	"encoding/json"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTheMomentsOfADirectoryAreTold(t *testing.T) {
	inAllModes(t, func(t *testing.T, m *mounted) {
		ok(t, os.Mkdir(m.path("d"), 0o755))
		ok(t, unix.Setxattr(m.path("d"), attrTag, []byte("first\nwith a note"), 0))
		ok(t, unix.Setxattr(m.path("d"), attrBranch, []byte("work"), 0))
		ok(t, unix.Setxattr(m.path("d"), attrSwitch, []byte("work"), 0))
		ok(t, unix.Setxattr(m.dir, attrSnapshot, []byte("whole"), 0))
		read := func(name string) (meta Meta) {
			t.Helper()
			text, err := os.ReadFile(m.path(name))
			ok(t, err)
			ok(t, json.Unmarshal(text, &meta))
			return meta
		}
		for _, name := range []string{"d@@/meta", "d/.@@/meta"} {
			got := read(name)
			if len(got.Tags) != 1 || got.Tags[0].Name != "first" || got.Tags[0].Note != "with a note" || got.Tags[0].Time == "" || len(got.Branches) != 1 ||
				got.Branches[0].Time != "" || got.Branch != "work" || len(got.Versions) != 0 || got.Inode != m.stat("d").Ino {
				t.Errorf("%s: %+v", name, got)
			}
		}
		if got := read(".@@/meta"); len(got.Tags) != 1 || got.Tags[0].Name != "whole" {
			t.Errorf("the root: %+v", got)
		}
	})
}
