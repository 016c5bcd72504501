package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sharefs/internal/mountinfo"
)

func TestWritableIn(t *testing.T) {
	for text, want := range map[string]bool{
		"pos:\t0\nflags:\t0100001\nmnt_id:\t36\nino:\t5\n": true,
		"pos:\t0\nflags:\t02100002\nmnt_id:\t36\n":         true,
		"pos:\t0\nflags:\t0100000\nmnt_id:\t36\n":          false, // reads
		"pos:\t0\nflags:\t012000001\nmnt_id:\t36\n":        false, // O_PATH
		"pos:\t0\nflags:\t0100001\nmnt_id:\t361\n":         false,
		"flags:\tx\nmnt_id:\t36\n":                         false,
		"":                                                 false,
	} {
		if got := writableIn(text, 36); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

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
