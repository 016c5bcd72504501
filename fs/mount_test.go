package fs

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions"
)

// mounted is a real mount of a real tree.
type mounted struct {
	t    testing.TB
	dir  string // the mount point
	srv  *Server
	tree *versions.Tree

	unregistered *atomic.Bool        // no backing file can be registered while it is set
	typist       *syscall.Credential // of who types commands; nil: root
}

// moody is a registrar that fails when it is told to.
type moody struct {
	registrar
	refuses atomic.Bool
}

func (r *moody) OpenBacking(fd int) (int32, error) {
	if r.refuses.Load() {
		return 0, unix.ENOMEM
	}
	return r.registrar.OpenBacking(fd)
}

// modes names the kinds of mount.
var modes = map[string]struct {
	passthrough bool
	change      func(*Config)
}{
	"passthrough": {true, nil},
	"served":      {false, nil},
	"root alone":  {true, func(c *Config) { c.AllowOther = false }}, // the kernel checks no permissions
}

// inAllModes runs a test once for each mode, with a mount of its own.
func inAllModes(t *testing.T, test func(t *testing.T, m *mounted)) {
	inModes(t, test)
	const name = "root alone"
	t.Run(name, func(t *testing.T) { test(t, mountTree(t, modes[name].passthrough, modes[name].change)) })
}

// inModes runs a test of file content in the two modes that differ in that.
func inModes(t *testing.T, test func(t *testing.T, m *mounted)) {
	for _, name := range []string{"passthrough", "served"} {
		t.Run(name, func(t *testing.T) { test(t, mountTree(t, modes[name].passthrough, modes[name].change)) })
	}
}

// mountTree mounts a new store until the test ends.
func mountTree(t testing.TB, passthrough bool, change func(*Config)) *mounted {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounts with mount(2), which needs root; integration/ runs the same as an ordinary user")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip(err)
	}
	store, dir := t.TempDir(), t.TempDir()
	ok(t, os.Chmod(filepath.Dir(dir), 0o711)) // other users are to come in
	tree, err := versions.Open(versions.Config{Dir: store, Settle: 50 * time.Millisecond, Pause: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tree.Close(); err != nil {
			t.Errorf("closing the tree: %v", err)
		}
	})
	cfg := Config{
		Tree: tree, Mountpoint: dir, Source: "test", AllowOther: true, Passthrough: passthrough,
		BackingDir: filepath.Join(store, "live"),
		Ctl:        []CtlFile{{Name: "status", Mode: 0o444, Read: func() []byte { return []byte("up\n") }}},
	}
	if change != nil {
		change(&cfg)
	}
	srv, err := Mount(cfg)
	if err != nil {
		t.Fatal(err)
	}
	tree.SetKernel(srv)
	reg := &moody{registrar: srv.edge.backings.kernel}
	srv.edge.backings.kernel = reg
	srv.Serve()
	m := &mounted{t: t, dir: dir, srv: srv, tree: tree, unregistered: &reg.refuses}
	guard(t, dir)
	t.Cleanup(m.unmount)
	if s := srv.Stats(); passthrough && !s.Passthrough {
		t.Skipf("no passthrough on this machine: %s", s.Reason)
	}
	m.settlePoll()
	return m
}

// guard detaches what is mounted at dir when this process ends, however it does.
func guard(t testing.TB, dir string) {
	t.Helper()
	cmd := exec.Command("sh", "-c", `read -r _; grep -qF " $1 " /proc/self/mounts && exec umount -l "$1"`, "guard", dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
}

func (m *mounted) unmount() {
	// Somebody who walks over all mounts (df, an indexer) may be in it for a moment.
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		err := m.srv.Unmount()
		if err == nil {
			break
		}
		if !errors.Is(err, sharefs.KindBusy) || time.Now().After(deadline) {
			m.t.Errorf("unmount: %v", err)
			unix.Unmount(m.dir, unix.MNT_DETACH)
			break
		}
	}
	select {
	case <-m.srv.Done():
	case <-time.After(2 * time.Minute):
		m.t.Error("the mount did not end within two minutes")
	}
}

// settlePoll makes the kernel ask for poll(2) once and learn that there is none. Else Go's runtime, which adds each
// opened file to its epoll set without giving up its processor meanwhile, could fill all of them with requests that
// this very process has to serve.
func (m *mounted) settlePoll() {
	m.t.Helper()
	fd, err := unix.Open(m.path(shareName, ctlName, "status"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		m.t.Fatal(err)
	}
	unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	unix.Close(fd)
}

func (m *mounted) path(elem ...string) string {
	return filepath.Join(append([]string{m.dir}, elem...)...)
}

// write makes a file with the content.
func (m *mounted) write(name, content string) string {
	m.t.Helper()
	p := m.path(name)
	if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
		m.t.Fatal(err)
	}
	return p
}

// holds checks a file's content.
func (m *mounted) holds(name, content string) {
	m.t.Helper()
	b, err := os.ReadFile(m.path(name))
	if err != nil {
		m.t.Error(err)
	} else if string(b) != content {
		m.t.Errorf("%s holds %.100q (%d bytes), want %.100q (%d bytes)", name, b, len(b), content, len(content))
	}
}

// requests returns by how much each opcode's count rose in fn, leaving out those that did not, and INTERRUPT: the runtime of
// the test signals its threads to preempt them, and the kernel tells of a signal that meets one in a call.
func (m *mounted) requests(fn func()) map[string]uint64 {
	before := m.srv.conn.Counts()
	fn()
	after := m.srv.conn.Counts()
	for op, n := range before {
		if after[op] -= n; after[op] == 0 {
			delete(after, op)
		}
	}
	delete(after, "INTERRUPT")
	return after
}

// stat fails the test where stat(2) fails.
func (m *mounted) stat(name string) (st unix.Stat_t) {
	m.t.Helper()
	if err := unix.Lstat(m.path(name), &st); err != nil {
		m.t.Fatalf("lstat %s: %v", name, err)
	}
	return st
}

// ok fails the test at an error that leaves nothing to go on with.
func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// want checks that an error is what it should be; nil is success.
func want(t testing.TB, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}
