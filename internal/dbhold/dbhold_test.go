package dbhold

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	Serve()
	os.Exit(m.Run())
}

// sqlite runs statements in a process of its own.
func sqlite(t *testing.T, path, statements string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath("sqlite3"); err != nil {
		t.Skipf("there is no sqlite3 here: %v", err)
	}
	cmd := exec.Command("sqlite3", "-batch", "-bail", path)
	cmd.Stdin = strings.NewReader(statements)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// session is a process of sqlite3 that waits for statements.
func session(t *testing.T, path string) func(statements, until string) {
	t.Helper()
	cmd := exec.Command("sqlite3", "-batch", "-bail", path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	return func(statements, until string) {
		t.Helper()
		if _, err := in.Write([]byte(statements + "\nSELECT '" + until + "';\n")); err != nil {
			t.Fatal(err)
		}
		var all strings.Builder
		for b := make([]byte, 4096); !strings.Contains(all.String(), until); {
			n, err := out.Read(b)
			if err != nil {
				t.Fatal(err, all.String())
			}
			all.Write(b[:n])
		}
	}
}

// start has a child hold app.db, which nobody writes to; on a machine with much to do the child may be too late.
func start(t *testing.T, dir string) *Child {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; {
		c, err := Start(Place{Root: dir, Rel: "app.db"})
		if err == nil {
			return c
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// While a database is held SQLite reads it and does not change it, in each mode; afterwards it does.
func TestHeldDatabaseIsNotChanged(t *testing.T) {
	for _, mode := range []string{"delete", "truncate", "persist", "wal"} {
		t.Run(mode, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "app.db")
			if out, err := sqlite(t, path, "PRAGMA journal_mode="+mode+"; CREATE TABLE t (x);"); err != nil {
				t.Fatal(err, out)
			}
			do := session(t, path)
			do("INSERT INTO t VALUES (1);", "ready")
			c := start(t, dir)
			if (c.Log != 0) != (mode == "wal") || c.Ino == 0 {
				t.Errorf("database %d, log %d", c.Ino, c.Log)
			}
			out, writeErr := sqlite(t, path, "INSERT INTO t VALUES (2);")
			if held := c.Release(); held && (writeErr == nil || !strings.Contains(out, "locked")) {
				t.Errorf("written to while it was held: %v %s", writeErr, out)
			}
			if out, err := sqlite(t, path, ".timeout 60000\nINSERT INTO t VALUES (3); SELECT count(*) > 1 FROM t;"); err != nil || !strings.HasSuffix(out, "1\n") {
				t.Errorf("afterwards: %v %s", err, out)
			}
		})
	}
}

// A database in the middle of a change is not held, nor one that was left there.
func TestWhatCannotBeHeld(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "app.db")
	if out, err := sqlite(t, path, "CREATE TABLE t (x); INSERT INTO t VALUES (1);"); err != nil {
		t.Fatal(err, out)
	}
	take := func(rel string) error {
		d, err := Take(Place{Root: dir, Rel: rel}, 10*time.Millisecond)
		if err == nil {
			d.Close()
		}
		return err
	}
	if err := take("app.db"); err != nil {
		t.Fatal(err)
	}
	// A journal that nobody is at work with: its transaction was interrupted.
	if err := os.WriteFile(path+"-journal", []byte("\xd9\xd5\x05\xf9\x20\xa1\x63\xd7 pages"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := take("app.db"); err == nil {
		t.Error("held, though a transaction was interrupted")
	}
	if err := os.Remove(path + "-journal"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("app.db", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "text"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(path, filepath.Join(dir, "second name")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link", "text", "fifo", "none", "app.db", "../" + filepath.Base(dir) + "/app.db"} {
		if take(name) == nil {
			t.Errorf("%s is held", name)
		}
	}
	if err := os.Remove(filepath.Join(dir, "second name")); err != nil {
		t.Fatal(err)
	}
	if d, err := Take(Place{Root: dir, Dev: 1, Rel: "app.db"}, 0); err == nil {
		d.Close()
		t.Error("held in the place of a mount that is gone")
	}
	session(t, path)("BEGIN EXCLUSIVE; INSERT INTO t VALUES (2);", "begun")
	if err := take("app.db"); !errors.Is(err, ErrBusy) {
		t.Errorf("in the middle of a change: %v", err)
	}
}

// Nobody holds a database for longer than Limit.
func TestHoldEndsByItself(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "app.db")
	if out, err := sqlite(t, path, "CREATE TABLE t (x);"); err != nil {
		t.Fatal(err, out)
	}
	c := start(t, dir)
	if out, err := sqlite(t, path, ".timeout 60000\nINSERT INTO t VALUES (1);"); err != nil {
		t.Errorf("%v %s", err, out)
	}
	if c.Release() {
		t.Error("it was written to, and held until now")
	}
}

// What stands in the place of the files beside a database is neither waited for nor changed, nor are its locks taken.
func TestFilesBesideThatAreNone(t *testing.T) {
	const other = "another's"
	for name, put := range map[string]func(path string) error{
		"pipe":      func(path string) error { return unix.Mkfifo(path, 0o600) },
		"symlink":   func(path string) error { return os.Symlink(other, path) },
		"hard link": func(path string) error { return os.Link(filepath.Join(filepath.Dir(path), other), path) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		for _, suffix := range []string{"-wal", "-shm", "-journal"} {
			t.Run(name+suffix, func(t *testing.T) {
				dir := t.TempDir()
				head := make([]byte, 100)
				copy(head, Magic)
				if suffix != "-journal" {
					head[18], head[19] = 2, 2
				}
				if suffix == "-shm" {
					if err := os.WriteFile(filepath.Join(dir, "app.db-wal"), nil, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				for _, file := range []string{"app.db", other} {
					if err := os.WriteFile(filepath.Join(dir, file), head, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				if err := put(filepath.Join(dir, "app.db"+suffix)); err != nil {
					t.Fatal(err)
				}
				if d, err := Take(Place{Root: dir, Rel: "app.db"}, 0); err == nil {
					d.Close()
					t.Error("it is held")
				}
			})
		}
	}
}

// The size of the index does not matter, for it is not read.
func TestIndexOfAnySize(t *testing.T) {
	dir := t.TempDir()
	head := make([]byte, 100)
	copy(head, Magic)
	head[18], head[19] = 2, 2
	for name, content := range map[string][]byte{"app.db": head, "app.db-wal": nil, "app.db-shm": nil} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, size := range []int64{0, 3, 1 << 40} {
		if err := os.Truncate(filepath.Join(dir, "app.db-shm"), size); err != nil {
			t.Fatal(err)
		}
		d, err := Take(Place{Root: dir, Rel: "app.db"}, 0)
		if err != nil {
			t.Fatal(err)
		}
		d.Close()
	}
}

// However the child ends no lock is left, and it is known that the database was not held to the end.
func TestLocksEndWithTheChild(t *testing.T) {
	for name, signal := range map[string]unix.Signal{"killed": unix.SIGKILL, "stopped": unix.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "app.db")
			if out, err := sqlite(t, path, "CREATE TABLE t (x);"); err != nil {
				t.Fatal(err, out)
			}
			c := start(t, dir)
			if err := c.cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			if out, err := sqlite(t, path, ".timeout 120000\nINSERT INTO t VALUES (1);"); err != nil {
				t.Errorf("%v %s", err, out)
			}
			if c.Release() {
				t.Error("held by nobody, and said to be held until now")
			}
		})
	}
}
