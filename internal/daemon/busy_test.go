package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sharefs/internal/mountinfo"
)

// This very process is found, with the file that it writes to.
func TestWritersInNamesThem(t *testing.T) {
	path := filepath.Join(t.TempDir(), "held \x1b")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table, err := mountinfo.Read()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	m := mountinfo.Holding(table, dir)
	if m == nil {
		t.Skip("the mount of the temporary directory is not in the table")
	}
	list := writersIn(m)
	if len(list) == 0 || len(list) > maxNamed+1 || strings.ContainsRune(strings.Join(list, ""), '\x1b') {
		t.Errorf("%q", list)
	}
}
