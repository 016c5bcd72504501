package cmdtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sharefs/integration/mounttest"
)

// A sheet is that of the store which is mounted where somebody stands or points to, and never that of another one. This store has no sheet, which is said by its name.
func TestRecoveryIsOfTheStoreThatIsMounted(t *testing.T) {
	data := mounttest.TempDir(t) // in which there is no store "default"
	t.Setenv("XDG_DATA_HOME", data)
	m := mounttest.Start(t, mounttest.Modes(t)[0])
	if err := os.MkdirAll(m.Path("sub/dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	parent, base := filepath.Split(m.Dir)
	about := func(store, detail, dir string, args ...string) {
		t.Helper()
		a := tool(t, dir, args...)
		if a.exit == 0 || a.out != "" || !strings.Contains(a.err, store) || !strings.Contains(a.err, detail) {
			t.Errorf("%s: %q: exit %d: %s%s, want %s: %s", dir, args, a.exit, a.out, a.err, store, detail)
		}
	}
	const none = "there is no such store"
	for _, c := range [][]string{{m.Dir}, {m.Path("sub/dir")}, {m.Dir, m.Dir + "/"}, {"/", m.Dir}, {parent, base}, {parent, "./" + base}} {
		about(m.Store, "is kept in no bucket", c[0], append([]string{"recovery"}, c[1:]...)...)
	}
	about(m.Store, "is kept in no bucket", "/", "-C", m.Path("sub"), "recovery")
	about(data+"/sharefs/default", none, "/", "recovery")
	about(data+"/sharefs/other", none, m.Dir, "recovery", "other")
	about(data+"/none", none, m.Dir, "recovery", "--store", data+"/none")
	about(m.Path("sub"), "share.key", m.Dir, "recovery", m.Path("sub")) // which is no mount point
	about(parent, "not in a ShareFS mount", "/", "-C", parent, "recovery")
	// There is a store of the name, too.
	named := filepath.Join(data, "sharefs", base)
	if err := os.MkdirAll(named, 0o700); err != nil {
		t.Fatal(err)
	}
	about("--store "+named, "--store "+m.Store, parent, "recovery", base)
	about(m.Store, "is kept in no bucket", parent, "recovery", "./"+base)
}

// Where no mount is, nothing is done to the files of a directory, and that is no success.
func TestFilesOfADirectoryThatLiesInNoMount(t *testing.T) {
	m := mounttest.Start(t, mounttest.Modes(t)[0])
	outside := mounttest.TempDir(t)
	for _, verb := range []string{"here", "pin", "unpin", "free"} {
		refused(t, "/", 1, outside+": not in a ShareFS mount", verb, outside)
		refused(t, outside, 1, ".: not in a ShareFS mount", verb, ".")
		refused(t, outside, 1, "read missing: no such file or directory", verb, "missing")
		must(t, m.Dir, verb, ".")
	}
	refused(t, outside, 1, ".: not in a ShareFS mount", "here")
}

// A wrong path keeps here from telling of no other one, and is still an error.
func TestHereGoesOnBehindAWrongPath(t *testing.T) {
	m := mounttest.Start(t, mounttest.Modes(t)[0])
	for _, name := range []string{"first", "last"} {
		if err := os.WriteFile(m.Path(name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if all := tool(t, m.Dir, "here"); all.exit != 0 || all.out != tool(t, m.Dir, "here", ".").out || strings.Count(all.out, "\n") != 2 {
		t.Errorf("exit %d: %s%s", all.exit, all.err, all.out)
	}
	a := tool(t, m.Dir, "here", "first", "missing", "none", "last")
	if a.exit != 1 || !strings.Contains(a.out, "first") || !strings.Contains(a.out, "last") || !strings.Contains(a.err, "read missing: no such") || !strings.Contains(a.err, "read none: no such") {
		t.Errorf("exit %d: %s%s", a.exit, a.err, a.out)
	}
}
