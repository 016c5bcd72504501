// Package workload runs real programs in a mount: version control, compilers, databases, editors and copiers.
package workload

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"sharefs/integration/mounttest"
)

func TestMain(m *testing.M) { mounttest.Main(m) }

// program is a command in a directory, with the environment of a user who has set nothing up.
type program struct {
	t   *testing.T
	dir string
	env []string
	as  *syscall.Credential
}

func (p program) command(name string, args ...string) *exec.Cmd {
	p.t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		p.t.Skipf("%s is not installed", name)
	}
	cmd := exec.Command(name, args...)
	cmd.Dir = p.dir
	cmd.Env = append(append(os.Environ(), "LC_ALL=C", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.org"), p.env...)
	if p.as != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.as}
	}
	return cmd
}

func (p program) run(name string, args ...string) string {
	p.t.Helper()
	out, err := p.command(name, args...).CombinedOutput()
	if err != nil {
		p.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// in returns a program runner in a new directory of the mount.
func in(t *testing.T, m *mounttest.Mount, name string) program {
	t.Helper()
	dir := m.Path(name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return program{t: t, dir: dir}
}

// TestGit makes a repository on the disk, clones it into the mount, works in it and has git check everything.
func TestGit(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		origin := program{t: t, dir: mounttest.TempDir(t)}
		origin.run("git", "init", "-q", "-b", "main", ".")
		for i := range 30 {
			for j := range 8 {
				name := filepath.Join(origin.dir, fmt.Sprintf("d%d/f%d.txt", j, (i*7+j)%25))
				if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(strings.Repeat(fmt.Sprintf("line %d of %d\n", i, j), 50)), 0o644)); err != nil {
					t.Fatal(err)
				}
			}
			origin.run("git", "add", "-A")
			origin.run("git", "commit", "-q", "-m", fmt.Sprintf("change %d", i))
		}
		w := in(t, m, "work")
		w.run("git", "clone", "-q", "--no-local", origin.dir, "clone")
		w.dir = m.Path("work", "clone")
		if out := w.run("git", "status", "--porcelain"); out != "" {
			t.Errorf("status after clone: %s", out)
		}
		w.run("git", "fsck", "--full", "--strict")
		w.run("git", "checkout", "-q", "-b", "side", "HEAD~10")
		if err := os.WriteFile(filepath.Join(w.dir, "new.txt"), []byte("side\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		w.run("git", "add", "new.txt")
		w.run("git", "commit", "-q", "-m", "side")
		w.run("git", "merge", "-q", "-m", "merge", "main")
		w.run("git", "rebase", "-q", "main")
		w.run("git", "gc", "-q", "--aggressive", "--prune=now")
		w.run("git", "fsck", "--full", "--strict")
		w.run("git", "repack", "-a", "-d", "-q")
		w.run("git", "worktree", "add", "-q", "../tree", "main")
		if out := w.run("git", "status", "--porcelain"); out != "" {
			t.Errorf("status at the end: %s", out)
		}
		m.Remount()
		w.run("git", "fsck", "--full", "--strict")
		if out := w.run("git", "status", "--porcelain"); out != "" {
			t.Errorf("status after a remount: %s", out)
		}
	})
}

// TestGo builds a module and runs its tests, within the mount: sources and temporary files, in make soak the cache as well.
func TestGo(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		w := in(t, m, "module")
		tmp := in(t, m, "tmp").dir
		w.env = []string{"TMPDIR=" + tmp, "GOTMPDIR=" + tmp, "GOFLAGS=-mod=mod", "GOWORK=off", "GOPROXY=off", "CGO_ENABLED=0"}
		if mounttest.Soak() {
			// An empty cache: the compiler builds what the tests need of its library as well, and that into the mount.
			w.env = append(w.env, "GOCACHE="+m.Path("cache"))
		}
		root := strings.TrimSpace(program{t: t, dir: "."}.run("go", "env", "GOROOT"))
		// A part of the standard library that depends on little, as a module of its own.
		for _, pkg := range []string{"container/heap", "container/list", "container/ring", "text/tabwriter"} {
			if err := os.CopyFS(filepath.Join(w.dir, pkg), os.DirFS(filepath.Join(root, "src", pkg))); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(w.dir, "go.mod"), []byte("module example.org/m\n\ngo 1.24\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		w.run("go", "build", "./...")
		if out := w.run("go", "test", "-count=1", "-vet=off", "./..."); strings.Count(out, "ok ") < 4 {
			t.Errorf("go test: %s", out)
		}
	})
}

// TestSQLite has four processes write to one database, in both journal modes, and checks it.
func TestSQLite(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		for _, journal := range []string{"delete", "wal"} {
			t.Run(journal, func(t *testing.T) {
				w := in(t, m, journal)
				w.run("sqlite3", "db", "pragma journal_mode="+journal+"; create table t(who, n, text); create index i on t(n); create table total(n); insert into total values(0);")
				const each, writers = 25, 4
				var wg sync.WaitGroup
				errs := make(chan error, writers)
				for who := range writers {
					var script strings.Builder
					script.WriteString(".timeout 120000\n")
					for n := range each {
						fmt.Fprintf(&script, "begin immediate; insert into t values(%d,%d,hex(randomblob(500))); update total set n=n+1; commit;\n", who, n)
						if n%10 == 9 {
							fmt.Fprintf(&script, "begin immediate; insert into t select * from t; rollback; select count(*) from t;\n")
						}
					}
					cmd := w.command("sqlite3", "-bail", "db")
					cmd.Stdin = strings.NewReader(script.String())
					wg.Go(func() {
						if out, err := cmd.CombinedOutput(); err != nil {
							errs <- fmt.Errorf("%w: %s", err, out)
						}
					})
				}
				wg.Wait()
				close(errs)
				for err := range errs {
					t.Error(err)
				}
				check := func() {
					t.Helper()
					out := w.run("sqlite3", "db", "pragma integrity_check; select count(*) from t; select n from total; select count(*) from (select distinct who, n from t);")
					if want := fmt.Sprintf("ok\n%d\n%d\n%d\n", each*writers, each*writers, each*writers); out != want {
						t.Errorf("%q, want %q", out, want)
					}
				}
				check()
				w.run("sqlite3", "db", "vacuum")
				check()
			})
		}
	})
}

// TestPostgres makes a cluster, runs pgbench, kills the server in the middle of it, and finds every transaction whole when it is back.
func TestPostgres(t *testing.T) {
	mounttest.EachMode(t, func(t *testing.T, mode mounttest.Mode) {
		var options []mounttest.Option
		if mode != mounttest.User {
			options = append(options, mounttest.Options("allow_other"))
		}
		m := mounttest.Start(t, mode, options...)
		bins, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
		if len(bins) == 0 {
			t.Skip("PostgreSQL is not installed")
		}
		bin := func(name string) string { return filepath.Join(bins[len(bins)-1], name) }
		p := in(t, m, "pg")
		if os.Geteuid() == 0 {
			// The server refuses to run as root.
			p.as = credential(t, "postgres")
			if err := os.Chown(p.dir, int(p.as.Uid), int(p.as.Gid)); err != nil {
				t.Fatal(err)
			}
		}
		// The name of a socket is limited to 107 bytes.
		socket, err := os.MkdirTemp("/tmp", "pg")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(socket) })
		if err := os.Chmod(socket, 0o777); err != nil {
			t.Fatal(err)
		}
		data := filepath.Join(p.dir, "data")
		p.run(bin("initdb"), "-D", data, "-U", "test", "-A", "trust", "--no-instructions")
		start := func() {
			p.run(bin("pg_ctl"), "-D", data, "-w", "-t", "120", "-l", filepath.Join(p.dir, "log"), "-o", "-c listen_addresses= -c unix_socket_directories="+socket+" -c autovacuum=off", "start")
		}
		stop := func(how string) { p.run(bin("pg_ctl"), "-D", data, "-w", "-t", "120", "-m", how, "stop") }
		started := false
		t.Cleanup(func() {
			if started {
				_ = p.command(bin("pg_ctl"), "-D", data, "-w", "-m", "immediate", "stop").Run()
			}
		})
		start()
		started = true
		db := []string{"-h", socket, "-U", "test", "postgres"}
		p.run(bin("pgbench"), append([]string{"-i", "-q", "-s", "1"}, db...)...)
		p.run(bin("pgbench"), append([]string{"-n", "-c", "4", "-t", "50"}, db...)...)
		// The server dies under load, by SIGKILL to its postmaster's children through an immediate stop: no checkpoint, no clean end.
		bench := p.command(bin("pgbench"), append([]string{"-n", "-c", "4", "-t", "100000"}, db...)...)
		if err := bench.Start(); err != nil {
			t.Fatal(err)
		}
		history := func() int {
			out := p.run(bin("psql"), append([]string{"-At", "-c", "select count(*) from pgbench_history"}, db...)...)
			n, _ := strconv.Atoi(strings.TrimSpace(out))
			return n
		}
		mounttest.WaitFor(t, "transactions", func() bool { return history() >= 260 })
		stop("immediate")
		started = false
		_ = bench.Wait() // fails, as its server is gone
		start()
		started = true
		out := p.run(bin("psql"), append([]string{"-At", "-c", "select (select sum(delta) from pgbench_history) = (select sum(abalance) from pgbench_accounts), " +
			"(select sum(tbalance) from pgbench_tellers) = (select sum(bbalance) from pgbench_branches)"}, db...)...)
		if strings.TrimSpace(out) != "t|t" {
			t.Errorf("balances agree: %s", out)
		}
		if n := history(); n < 260 {
			t.Errorf("%d transactions after the crash", n)
		}
		p.run(bin("pg_amcheck"), "--install-missing", "--heapallindexed", "-h", socket, "-U", "test", "postgres")
		stop("fast")
		started = false
		p.run(bin("pg_controldata"), data)
	})
}

func credential(t *testing.T, name string) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Skip(err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}
