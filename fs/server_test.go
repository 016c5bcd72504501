package fs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions"
)

func TestMountTable(t *testing.T) {
	m := mountTree(t, false, func(c *Config) { c.Options = []string{"nosuid", "nodev", "noatime"} })
	b, err := os.ReadFile("/proc/self/mounts")
	ok(t, err)
	var line string
	for _, l := range strings.Split(string(b), "\n") {
		if strings.Contains(l, " "+m.dir+" ") {
			line = l
		}
	}
	for _, want := range []string{
		"test ", " fuse.sharefs ", "nosuid", "nodev", "noatime", "default_permissions", "allow_other",
	} {
		if !strings.Contains(line, want) {
			t.Errorf("%q is not in the line %q of /proc/self/mounts", want, line)
		}
	}
	if s := m.srv.Stats(); s.Passthrough || s.Reason != "switched off" || !strings.HasPrefix(s.Protocol, "7.") {
		t.Errorf("%+v", s)
	}
}

func TestMountWithoutPassthroughSaysWhy(t *testing.T) {
	m := mountTree(t, false, nil)
	if s := tryPassthrough(m.srv.conn, t.TempDir()); s == "" {
		t.Error("passthrough works on a mount that did not ask for it")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	store, dir := t.TempDir(), t.TempDir()
	tree, err := versions.Open(versions.Config{Dir: store})
	ok(t, err)
	defer tree.Close()
	srv, err := Mount(Config{
		Tree: tree, Mountpoint: dir, Source: "x", Passthrough: true, BackingDir: filepath.Join(store, "missing"),
	})
	ok(t, err)
	srv.Serve()
	guard(t, dir)
	if s := srv.Stats(); s.Passthrough || !strings.Contains(s.Reason, "missing") {
		t.Errorf("%+v", s)
	}
	o := &mounted{t: t, dir: dir, srv: srv}
	o.unmount()
	_, err = Mount(Config{Tree: tree, Mountpoint: filepath.Join(dir, "none"), Source: "x"})
	want(t, "a mount point that is missing", err, sharefs.KindNotExist)
}

// What Mount returns is in place before the first request is answered: under the race detector this test fails if not.
func TestNothingIsAnsweredBeforeServe(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	store, dir := t.TempDir(), t.TempDir()
	tree, err := versions.Open(versions.Config{Dir: store})
	ok(t, err)
	defer tree.Close()
	var srv *Server
	read := func() []byte { return fmt.Appendf(nil, "%d handles", srv.Stats().OpenHandles) }
	srv, err = Mount(Config{
		Tree: tree, Mountpoint: dir, Source: "x", BackingDir: filepath.Join(store, "live"),
		Ctl: []CtlFile{{Name: "status", Mode: 0o444, Read: read}},
	})
	ok(t, err)
	guard(t, dir)
	cat := exec.Command("cat", filepath.Join(dir, shareName, ctlName, "status"))
	var out strings.Builder
	cat.Stdout = &out
	ok(t, cat.Start()) // it waits
	if n := len(srv.Stats().Requests); n != 0 {
		t.Errorf("%d requests before Serve", n)
	}
	tree.SetKernel(srv)
	srv.Serve()
	ok(t, cat.Wait())
	if out.String() != "0 handles" {
		t.Errorf("the status is %q", out.String())
	}
	(&mounted{t: t, dir: dir, srv: srv}).unmount()
}

// Files that are open when the mount ends are closed, and the tree can be.
func TestEndWithOpenFiles(t *testing.T) {
	m := mountTree(t, true, nil)
	fd, err := unix.Open(m.path("file"), unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o644)
	ok(t, err)
	_, err = unix.Write(fd, []byte("content"))
	ok(t, err)
	err = m.srv.Unmount()
	if !errors.Is(err, sharefs.KindBusy) {
		t.Errorf("unmounting with a file open: %v", err)
	}
	ok(t, unix.Unmount(m.dir, unix.MNT_FORCE|unix.MNT_DETACH))
	unix.Close(fd)
	<-m.srv.Done()
	if n := m.srv.Stats().OpenHandles; n != 0 {
		t.Errorf("%d handles after the end", n)
	}
	ok(t, m.srv.Unmount())
	ok(t, m.tree.Close())
}

// What the kernel has cached goes when the tree says so, and an idle registration is given up when it asks.
func TestNotifications(t *testing.T) {
	m := mountTree(t, true, nil)
	m.write("file", "content")
	m.settle()
	st := m.stat("file")
	ino := sharefs.Ino(st.Ino)
	if got := m.requests(func() { m.stat("file") }); len(got) > 0 {
		t.Fatalf("a known file's stat caused %v", got)
	}
	m.srv.ForgetAttr(ino)
	if got := m.requests(func() { m.stat("file") }); got["GETATTR"] != 1 {
		t.Errorf("stat after ForgetAttr caused %v", got)
	}
	m.srv.ForgetContent(ino, 0, 0)
	if got := m.requests(func() { m.stat("file") }); got["GETATTR"] != 1 {
		t.Errorf("stat after ForgetContent caused %v", got)
	}
	m.srv.ForgetEntry(sharefs.RootIno, "file")
	m.until("the name is looked up again", func() bool { return m.requests(func() { m.stat("file") })["LOOKUP"] == 1 })
	before := m.srv.Stats()
	if before.Notifications < 3 {
		t.Errorf("%d notifications counted", before.Notifications)
	}

	m.holds("file", "content")
	fd, err := unix.Open(m.path("file"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	ok(t, err)
	if m.srv.DropBacking(ino) {
		t.Error("the registration of an open file was given up")
	}
	ok(t, unix.Close(fd))
	m.released()
	m.until("the registration can be given up", func() bool { return m.srv.DropBacking(ino) })
	if n := m.srv.Stats().BackingIDs; n != 0 {
		t.Errorf("%d registrations are left", n)
	}
	m.holds("file", "content")
}

// A served file that the tree changes behind the kernel's back is read anew.
func TestForgetContentServed(t *testing.T) {
	m := mountTree(t, false, nil)
	m.write("file", "old content")
	m.holds("file", "old content")
	m.settle()
	st := m.stat("file")
	m.holds("file", "old content")
	if got := m.requests(func() { m.holds("file", "old content") }); got["READ"] > 0 {
		t.Fatalf("not in the page cache: %v", got)
	}
	m.srv.ForgetContent(sharefs.Ino(st.Ino), 0, 0)
	if got := m.requests(func() { m.holds("file", "old content") }); got["READ"] == 0 {
		t.Errorf("reading after ForgetContent caused %v", got)
	}
}

// More files can be open at a time than the daemon may have descriptors.
func TestManyOpenFiles(t *testing.T) {
	m := mountTree(t, true, nil)
	var limit unix.Rlimit
	ok(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	m.write("file", "content")
	const n = 2000
	var fds []int
	before := descriptors(t)
	for range n {
		fd, err := unix.Open(m.path("file"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		ok(t, err)
		fds = append(fds, fd)
	}
	// The test's own descriptors are in the same process as the daemon's.
	if more := descriptors(t) - before - n; more > n/2 {
		t.Errorf("%d descriptors of the daemon for %d open files", more, n)
	}
	if s := m.srv.Stats(); s.OpenHandles != n || s.BackingIDs-s.IdleBackings != 1 {
		t.Errorf("%+v", s)
	}
	for _, fd := range fds {
		ok(t, unix.Close(fd))
	}
	m.released()
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	ok(t, err)
	return len(entries)
}

// An ordinary user mounts through fusermount3: no passthrough, and the same files.
func TestOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("starts a process as another user, which needs root")
	}
	if _, err := exec.LookPath("fusermount3"); err != nil {
		t.Skip(err)
	}
	dir, err := os.MkdirTemp("", "ordinary")
	ok(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	const nobody = 65534
	ok(t, os.Chown(dir, nobody, nobody))
	guard(t, filepath.Join(dir, "mnt"))
	// The test's own program lies where others may not go.
	program := filepath.Join(dir, "program")
	b, err := os.ReadFile(os.Args[0])
	ok(t, err)
	ok(t, os.WriteFile(program, b, 0o755))
	ok(t, os.Chmod(program, 0o755))
	cmd := exec.Command(program, "-test.run=^TestChild$", "-test.v", "-test.timeout=5m")
	cmd.Dir = dir
	cmd.Env = []string{
		childEnv + "=ordinary user", childDir + "=" + dir, "HOME=" + dir, "TMPDIR=" + dir, "PATH=" + os.Getenv("PATH"),
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestChild") {
		t.Errorf("%v\n%s", err, out)
	}
}

func init() {
	children["ordinary user"] = func(t *testing.T, dir string) {
		store, mnt := filepath.Join(dir, "store"), filepath.Join(dir, "mnt")
		ok(t, os.Mkdir(store, 0o700))
		ok(t, os.Mkdir(mnt, 0o700))
		tree, err := versions.Open(versions.Config{Dir: store, Settle: 50 * time.Millisecond})
		ok(t, err)
		srv, err := Mount(Config{
			Tree: tree, Mountpoint: mnt, Source: "user's", Passthrough: true, BackingDir: filepath.Join(store, "live"),
			Ctl: []CtlFile{{Name: "status", Mode: 0o444, Read: func() []byte { return nil }}},
		})
		ok(t, err)
		tree.SetKernel(srv)
		srv.Serve()
		m := &mounted{t: t, dir: mnt, srv: srv, tree: tree}
		m.settlePoll()
		if s := srv.Stats(); s.Passthrough || !strings.Contains(s.Reason, "root") {
			t.Errorf("%+v", s)
		}
		m.write("file", "content")
		m.holds("file", "content")
		m.released()
		if n := m.commit("file", "by a user"); n != 1 {
			t.Errorf("version %d", n)
		}
		m.holds("file@@1", "content")
		ok(t, os.Chmod(m.path("file"), 0o400))
		_, err = os.OpenFile(m.path("file"), os.O_WRONLY, 0)
		want(t, "writing to one's own read-only file", err, unix.EACCES)
		f, err := os.Open(m.path("file"))
		ok(t, err)
		want(t, "unmounting with a file open", srv.Unmount(), sharefs.KindBusy)
		f.Close()
		m.unmount()
		ok(t, tree.Close())
		_, err = Mount(Config{Tree: tree, Mountpoint: mnt, Source: "x", Options: []string{"no_such_option"}})
		if err == nil || !strings.Contains(err.Error(), "fusermount3") {
			t.Errorf("an unknown option gave %v", err)
		}
	}
}
