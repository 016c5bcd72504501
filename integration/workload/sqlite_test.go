package workload

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs/fs"
	"sharefs/integration/mounttest"
)

// In the database each transaction moves money between accounts, and changes so much beside that pages are written all over the file.
const (
	accounts = 100
	balance  = 1000
	schema   = `CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER, filler BLOB);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d) INSERT INTO account SELECT i, %d, randomblob(900) FROM n;
CREATE INDEX filler ON account (filler);
`
)

// teller is a process of sqlite3 that changes a database without a pause, which it has open all the time.
type teller struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	pause sync.Mutex // who holds it keeps him from being told more; he still has some of it to do
	stop  atomic.Bool
	done  chan error
}

func startTeller(t *testing.T, path, journal string) *teller {
	t.Helper()
	w := &teller{cmd: exec.Command("sqlite3", "-batch", "-bail", path), done: make(chan error, 1)}
	var err error
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out := new(strings.Builder)
	w.cmd.Stdout, w.cmd.Stderr = out, out
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(w.in, ".timeout 600000\nPRAGMA journal_mode=%s;\nPRAGMA wal_autocheckpoint=20;\nPRAGMA cache_size=10;\nPRAGMA synchronous=OFF;\n"+schema, journal, accounts, balance)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		r := rand.New(rand.NewPCG(3, 14))
		for !w.stop.Load() {
			from, to, sum := 1+r.IntN(accounts), 1+r.IntN(accounts), r.IntN(50)
			w.pause.Lock()
			_, err := fmt.Fprintf(w.in, "BEGIN;\nUPDATE account SET balance=balance-%d WHERE id=%d;\nUPDATE account SET filler=randomblob(900) WHERE id%%7=%d;\n"+
				"UPDATE account SET balance=balance+%d WHERE id=%d;\nCOMMIT;\n", sum, from, r.IntN(7), sum, to)
			w.pause.Unlock()
			if err != nil {
				break
			}
		}
		w.in.Close()
		err := w.cmd.Wait()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		w.done <- err
	}()
	return w
}

// end kills the teller, who would have much in his queue still. He must not have ended by himself.
func (w *teller) end(t *testing.T) {
	t.Helper()
	select {
	case err := <-w.done:
		t.Errorf("sqlite3 ended by itself: %v", err)
		return
	default:
	}
	w.stop.Store(true)
	_ = w.cmd.Process.Kill()
	select {
	case <-w.done:
	case <-time.After(mounttest.Patience):
		t.Error("sqlite3 does not end")
	}
}

// wantSound opens a copy of a database, and fails unless it is whole and no money is lost.
func wantSound(t *testing.T, path, what string) {
	t.Helper()
	out, err := exec.Command("sqlite3", "-batch", "-bail", path, "PRAGMA integrity_check; SELECT sum(balance), count(*) FROM account;").CombinedOutput()
	if want := fmt.Sprintf("ok\n%d|%d\n", accounts*balance, accounts); err != nil || string(out) != want {
		t.Errorf("%s: %v, %s", what, err, out)
	}
}

// newest returns the last version of a file, nil where it has none.
func newest(t *testing.T, path string) *fs.MetaVersion {
	t.Helper()
	b, err := os.ReadFile(path + "@@/meta")
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var meta struct{ Versions []fs.MetaVersion }
	if err := json.Unmarshal(b, &meta); err != nil {
		t.Fatal(err)
	}
	if len(meta.Versions) == 0 {
		return nil
	}
	return &meta.Versions[len(meta.Versions)-1]
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Of a database that is written to each commit, and each snapshot of the tree, is one that SQLite opens without a fault, and in which every transaction is
// whole; unless it is marked as torn, which it must not be where the program does not write at the moment.
func TestDatabaseThatIsWrittenTo(t *testing.T) {
	if _, err := exec.LookPath("sqlite3"); err != nil {
		t.Skipf("there is no sqlite3 here: %v", err)
	}
	all := []string{"delete", "persist", "wal"}
	onDisk := map[mounttest.Mode][]string{mounttest.Passthrough: {"delete", "wal"}, mounttest.Served: {"wal"}, mounttest.User: {"delete"}}
	onXFS := map[mounttest.Mode][]string{mounttest.Passthrough: {"wal"}}
	if mounttest.Soak() {
		onDisk = map[mounttest.Mode][]string{mounttest.Passthrough: all, mounttest.Served: all, mounttest.User: all}
		onXFS = map[mounttest.Mode][]string{mounttest.Passthrough: all, mounttest.Served: all}
	}
	// A journal that sqlite3 has closed and is to remove must not come to rest in between, however slow the machine is.
	settle := mounttest.Options("settle=1h")
	mounttest.EachMode(t, func(t *testing.T, mode mounttest.Mode) {
		t.Run("disk", func(t *testing.T) { databases(t, mounttest.Start(t, mode, settle), onDisk[mode]) })
		if journals := onXFS[mode]; journals != nil {
			t.Run("xfs", func(t *testing.T) {
				databases(t, mounttest.Start(t, mode, settle, mounttest.On(filepath.Join(xfs(t), "store"))), journals)
			})
		}
	})
}

// xfs mounts a new disk, whose files can share blocks, until the test ends.
func xfs(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("mkfs.xfs"); err != nil {
		t.Skipf("there is no mkfs.xfs here: %v", err)
	}
	dir := mounttest.TempDir(t)
	image, disk := filepath.Join(dir, "image"), filepath.Join(dir, "disk")
	for _, err := range []error{os.WriteFile(image, nil, 0o600), os.Truncate(image, 1<<30), os.Mkdir(disk, 0o755)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("mkfs.xfs", "-q", image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.xfs: %v\n%s", err, out)
	}
	if out, err := exec.Command("mount", "-t", "xfs", "-o", "loop", image, disk).CombinedOutput(); err != nil {
		t.Skipf("xfs cannot be mounted from a loop device here: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", disk).CombinedOutput(); err != nil {
			t.Errorf("umount: %v\n%s", err, out)
		}
	})
	return disk
}

func databases(t *testing.T, m *mounttest.Mount, journals []string) {
	for _, journal := range journals {
		t.Run(journal, func(t *testing.T) {
			if err := os.Mkdir(m.Path(journal), 0o755); err != nil {
				t.Fatal(err)
			}
			path := m.Path(journal, "app.db")
			w := startTeller(t, path, journal)
			defer w.end(t)
			deadline := time.Now().Add(mounttest.Patience)
			for { // until all accounts are there
				out, err := exec.Command("sqlite3", "-readonly", "-batch", "-cmd", ".timeout 60000", path, "SELECT count(*) FROM account WHERE id = 100;").CombinedOutput()
				if err == nil && string(out) == "1\n" {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("the database is not made: %v %s", err, out)
				}
				time.Sleep(10 * time.Millisecond)
			}
			sound := map[string]int{}
			take := func() {
				if commitIsSound(t, m, journal) {
					sound["commits"]++
				}
				if snapshotIsSound(t, m, journal) {
					sound["snapshots"]++
				}
			}
			rounds := mounttest.Number(t, "SHAREFS_TEST_ROUNDS", 2, 50)
			for range rounds {
				take()
			}
			t.Logf("of %d versions and snapshots while it was written to these were not torn: %v", rounds, sound)
			w.pause.Lock()
			defer w.pause.Unlock()
			clear(sound)
			for deadline := time.Now().Add(mounttest.Patience); sound["commits"] == 0 || sound["snapshots"] == 0; take() {
				if time.Now().After(deadline) {
					t.Fatalf("nobody writes, and not torn are %v; log:\n%s", sound, logOf(m))
				}
			}
		})
	}
}

// torn reports whether one of the last versions of a database and its log is.
func torn(t *testing.T, path, journal string) bool {
	t.Helper()
	db, log := newest(t, path), newest(t, path+"-wal")
	if db == nil || (log == nil) == (journal == "wal") {
		t.Fatalf("versions: %v, log %v", db, log)
	}
	return db.Torn || log != nil && log.Torn
}

// commitIsSound makes a version of a database, and checks it. It reports false where it is torn.
func commitIsSound(t *testing.T, m *mounttest.Mount, journal string) bool {
	t.Helper()
	path, to := m.Path(journal, "app.db"), filepath.Join(t.TempDir(), "app.db")
	if out, err := exec.Command(mounttest.Bin(t, "sharefs"), "commit", path).CombinedOutput(); err != nil {
		t.Fatalf("commit: %v\n%s", err, out)
	}
	if torn(t, path, journal) {
		return false
	}
	copyFile(t, mounttest.Latest(t, path), to)
	if journal == "wal" {
		copyFile(t, mounttest.Latest(t, path+"-wal"), to+"-wal")
	}
	wantSound(t, to, "a commit")
	return true
}

// snapshotIsSound looks at a database in a snapshot, and checks it.
func snapshotIsSound(t *testing.T, m *mounttest.Mount, journal string) bool {
	t.Helper()
	moment := make([]byte, 64)
	n, err := unix.Getxattr(m.Dir, "user.sharefs.moment", moment)
	if err != nil {
		t.Fatalf("the moment of a snapshot: %v", err)
	}
	if torn(t, m.Path(journal, "app.db"), journal) {
		return false
	}
	view, to := m.Path(".share", "at", string(moment[:n]), journal), t.TempDir()
	for _, name := range []string{"app.db", "app.db-wal", "app.db-journal"} {
		if _, err := os.Stat(filepath.Join(view, name)); err == nil {
			copyFile(t, filepath.Join(view, name), filepath.Join(to, name))
		}
	}
	wantSound(t, filepath.Join(to, "app.db"), "a snapshot")
	return true
}

func logOf(m *mounttest.Mount) string {
	b, err := os.ReadFile(m.Log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
