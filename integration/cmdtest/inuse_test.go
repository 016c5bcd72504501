package cmdtest

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"sharefs/integration/mounttest"
)

// A database that a program has open is not rewritten under it, and the user is told who has it. Of a directory all else is done.
func TestADatabaseInUseIsNotRestored(t *testing.T) {
	const magic = "SQLite format 3\x00"
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		put(t, m.Path("d/app.db"), magic+"one")
		put(t, m.Path("d/app.db-shm"), "index one")
		put(t, m.Path("d/notes"), "one")
		must(t, m.Dir, "commit", "d/app.db")
		must(t, m.Dir, "commit", "d/app.db-shm")
		then := moment(t, m)
		put(t, m.Path("d/app.db"), magic+"two")
		put(t, m.Path("d/app.db-shm"), "index two")
		put(t, m.Path("d/app.db-wal"), "came later")
		put(t, m.Path("d/notes"), "two")
		f, err := os.OpenFile(m.Path("d/app.db"), os.O_RDWR, 0)
		ok(t, err)
		defer f.Close()

		why := fmt.Sprintf("the database is open for writing by process %d (", os.Getpid())
		a := tool(t, m.Dir, "restore", "d/app.db@@1")
		if a.exit != 1 || a.out != "" || !strings.HasPrefix(a.err, "sharefs: restore d/app.db: "+why) ||
			!strings.HasSuffix(a.err, "): end that first, or write the version elsewhere: sharefs cat d/app.db@@1 > OTHER\n") {
			t.Errorf("%+v", a)
		}
		a = tool(t, m.Dir, "restore", "d@@"+then)
		if a.exit != 1 || !strings.Contains(a.out, "1 overwritten, 3 not.") {
			t.Errorf("%+v", a)
		}
		for _, name := range []string{"app.db", "app.db-shm", "app.db-wal"} {
			if !strings.Contains(a.err, "sharefs: restore d/"+name+": "+why) {
				t.Errorf("%s: %s", name, a.err)
			}
		}
		holds(t, m.Path("d/app.db"), magic+"two")
		holds(t, m.Path("d/app.db-shm"), "index two")
		holds(t, m.Path("d/app.db-wal"), "came later")
		holds(t, m.Path("d/notes"), "one")

		ok(t, f.Close())
		must(t, m.Dir, "restore", "d@@"+then)
		holds(t, m.Path("d/app.db"), magic+"one")
		holds(t, m.Path("d/app.db-shm"), "index one")
		must(t, m.Dir, "restore", "d/app.db@@2")
		holds(t, m.Path("d/app.db"), magic+"two")
	}, quick)
}
