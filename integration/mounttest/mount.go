package mounttest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs/internal/status"
)

// Mount is one mounted ShareFS.
type Mount struct {
	Dir   string // the mount point
	Store string // the store's directory
	Mode  Mode
	Log   string // the daemon's log

	t       testing.TB
	options []string
	start   func(*exec.Cmd) error
	judged  bool // by the test itself, at each call
	cmd     *exec.Cmd
	done    chan struct{} // closed when the daemon has ended
	exit    error         // how; to be read after done
	allowed bool          // it was killed, so that its end is no failure
	late    chan struct{} // done of one that was killed and is held up, which the next mount is to end; nil: there is none
	checked int           // bytes of the log that were looked at
	mu      sync.Mutex    // guards checked
}

// Option changes how a mount is made.
type Option func(*Mount)

// Options adds mount options (-o).
func Options(list ...string) Option {
	return func(m *Mount) { m.options = append(m.options, list...) }
}

// On puts the store into a directory that the test made, such as one on a disk of its own.
func On(store string) Option { return func(m *Mount) { m.Store = store } }

// Through has the daemon started by a function of the test, such as one that does it in another network namespace.
func Through(start func(*exec.Cmd) error) Option { return func(m *Mount) { m.start = start } }

// JudgedBy has the daemon started by a function, in the place of [exec.Cmd.Start], by which the test judges its calls from then on (package failpoint).
func JudgedBy(start func(*exec.Cmd) error) Option {
	return func(m *Mount) { m.start, m.judged = start, true }
}

// At mounts at a directory that the test made.
func At(dir string) Option { return func(m *Mount) { m.Dir = dir } }

// Start mounts a store of its own. When the test ends, the mount, its daemon and its files are gone; the test fails when they do not
// go, when the daemon did not end well, or when its log tells of a panic or a race.
func Start(t testing.TB, mode Mode, options ...Option) *Mount {
	t.Helper()
	m := &Mount{t: t, Mode: mode}
	for _, o := range options {
		o(m)
	}
	dir := TempDir(t)
	if m.Dir == "" {
		m.Dir = filepath.Join(dir, "mnt")
	}
	if m.Store == "" {
		m.Store = filepath.Join(dir, "store")
	}
	m.Log = filepath.Join(dir, "daemon.log")
	if err := os.MkdirAll(m.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if mode == Served {
		m.options = append(m.options, "passthrough=off")
	}
	t.Cleanup(m.cleanup)
	m.Mount()
	return m
}

// TempDir is t.TempDir with a path that every user may walk, and in which anything may be mounted or have its store: before it is
// removed, [End] ends what is still there.
func TempDir(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	remember(dir)
	t.Cleanup(func() { End(t, dir) })
	for at := dir; at != filepath.Clean(os.TempDir()) && len(at) > 1; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o011 != 0o011 && os.Chmod(at, info.Mode().Perm()|0o055) != nil {
			break // not ours
		}
	}
	return dir
}

// Path names something in the mount.
func (m *Mount) Path(elem ...string) string {
	return filepath.Join(append([]string{m.Dir}, elem...)...)
}

// PID is the daemon's process.
func (m *Mount) PID() int { return m.cmd.Process.Pid }

// Mount mounts (again, after [Mount.Unmount] or [Mount.Kill]) and returns when the mount can be used.
func (m *Mount) Mount() {
	m.t.Helper()
	if err := m.TryMount(); err != nil {
		m.t.Fatal(err)
	}
}

// TryMount is [Mount.Mount] for a test that expects a failure.
func (m *Mount) TryMount(extra ...string) error {
	log, err := os.OpenFile(m.Log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"-f", "--store", m.Store}
	if o := append(append([]string(nil), m.options...), extra...); len(o) > 0 {
		args = append(args, "-o", strings.Join(o, ","))
	}
	cmd := exec.Command(Bin(m.t, "sharefs-mount"), append(args, m.Dir)...)
	cmd.Stderr = log
	cmd.Env = append(os.Environ(), "GORACE=halt_on_error=0 exitcode=0") // the log is searched for races
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}               // Ctrl-C at the test is for the test, which unmounts
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	start := m.start
	if start == nil {
		start = (*exec.Cmd).Start
	}
	if err := start(cmd); err != nil {
		return err
	}
	remember(m.Dir)
	m.cmd, m.allowed, m.done = cmd, false, make(chan struct{})
	first := make(chan string, 1)
	done := m.done
	go func() {
		r := bufio.NewReader(out)
		line, _ := r.ReadString('\n')
		first <- line
		for {
			if _, err := r.ReadString('\n'); err != nil {
				break
			}
		}
		m.exit = cmd.Wait()
		close(done)
	}()
	select {
	case line := <-first:
		if strings.HasPrefix(line, "mounted at ") {
			if m.judged {
				m.settlePoll()
			}
			return m.endedLate()
		}
	case <-time.After(Patience):
		_ = cmd.Process.Kill()
		<-done
		return fmt.Errorf("the mount could not be used within %v; log:\n%s", Patience, m.logTail())
	}
	<-done
	m.allowed = true
	return fmt.Errorf("%w: %s", ErrNotMounted, m.logTail())
}

// settlePoll makes the kernel ask once for poll(2) and learn that there is none. Otherwise Go's runtime, which adds each file that it opens to its epoll without telling its
// scheduler that this may wait, could wait for the daemon, and the daemon for a goroutine of the test that judges its calls.
func (m *Mount) settlePoll() {
	fd, err := unix.Open(m.Path(".share/ctl/status"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return // it was killed meanwhile, and the next call fails
	}
	defer unix.Close(fd)
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
}

// ErrNotMounted is what [Mount.TryMount] returns when the daemon ended by itself; the message has its log.
var ErrNotMounted = errors.New("not mounted")

// Alive reports whether the daemon runs.
func (m *Mount) Alive() bool {
	if m.done == nil {
		return false
	}
	select {
	case <-m.done:
		return false
	default:
		return true
	}
}

// Configure mounts again with another share.toml.
func (m *Mount) Configure(text string) {
	m.t.Helper()
	m.Unmount()
	if err := os.WriteFile(filepath.Join(m.Store, "share.toml"), []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
	m.Mount()
}

// Unmount ends the mount as a user would, waits until all is saved, and fails the test if that goes wrong.
func (m *Mount) Unmount() {
	m.t.Helper()
	if out, err := Umount(m.Dir); err != nil {
		m.t.Fatalf("unmount: %s", out)
	}
	m.WaitEnd()
}

// Umount ends a mount with the program that a user would take, or with the one that is named, and waits until programs that have just
// ended (the daemon's self-test among them) have let go of it. It returns what the program wrote.
func Umount(dir string, program ...string) (out []byte, err error) {
	if len(program) == 0 {
		program = []string{"fusermount3", "-u"}
		if os.Geteuid() == 0 {
			program = []string{"umount"}
		}
	}
	program = append(program, dir)
	deadline := time.Now().Add(Patience / 4)
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		out, err = exec.Command(program[0], program[1:]...).CombinedOutput()
		if err == nil || !bytes.Contains(bytes.ToLower(out), []byte("busy")) || time.Now().After(deadline) {
			return out, err
		}
		time.Sleep(pause)
	}
}

// WaitEnd waits until the daemon has ended, and fails the test if it did not end well.
func (m *Mount) WaitEnd() {
	m.t.Helper()
	select {
	case <-m.done:
	case <-time.After(Patience):
		m.t.Fatalf("the daemon did not end within %v; log:\n%s", Patience, m.logTail())
	}
	m.checkEnd()
}

// Remount unmounts and mounts again on the same store.
func (m *Mount) Remount() {
	m.t.Helper()
	m.Unmount()
	m.Mount()
}

// Signal sends a signal to the daemon.
func (m *Mount) Signal(s syscall.Signal) {
	m.t.Helper()
	if err := m.cmd.Process.Signal(s); err != nil {
		m.t.Fatal(err)
	}
}

// Kill ends the daemon as a crash would, and leaves its dead mount behind: [Mount.Mount] replaces it, [Mount.Detach] takes it away.
func (m *Mount) Kill() {
	m.t.Helper()
	if err := m.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		m.t.Fatal(err)
	}
	m.WaitKilled()
}

// WaitKilled waits until the daemon has ended that the test had killed in its own way.
func (m *Mount) WaitKilled() {
	m.t.Helper()
	m.allowed = true
	select {
	case <-m.done:
		return
	case <-time.After(Patience / 8):
	}
	// A thread of it can only be held up in the kernel: a notification waits there for a lock whose holder waits for a reply. Whoever mounts again ends that.
	if strings.Contains(threads(m.PID()), "fuse_reverse_inval") {
		m.t.Log("a daemon that was killed is held up: the next mount has to end it")
		m.late = m.done
		return
	}
	select {
	case <-m.done:
	case <-time.After(Patience):
		where := threads(m.PID())
		_ = unix.Unmount(m.Dir, unix.MNT_FORCE|unix.UMOUNT_NOFOLLOW) // fails all requests, and with them what waits for them
		m.t.Fatalf("the daemon was killed and does not end within %v; its threads:\n%s", Patience, where)
	}
}

// endedLate waits until the daemon has ended that was held up when it was killed, now that another one has taken its mount away.
func (m *Mount) endedLate() error {
	if m.late == nil {
		return nil
	}
	select {
	case <-m.late:
		m.late = nil
		return nil
	case <-time.After(Patience):
		return fmt.Errorf("the daemon that was killed before does not end within %v", Patience)
	}
}

// threads tells where in the kernel the threads of a process are, as far as root may know.
func threads(pid int) string {
	var out strings.Builder
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	for _, task := range tasks {
		stack, err := os.ReadFile(task + "/stack")
		if err != nil {
			stack, _ = os.ReadFile(task + "/wchan")
		}
		fmt.Fprintf(&out, "%s:\n%s\n", filepath.Base(task), stack)
	}
	return out.String()
}

// Detach takes the mount away at once, whatever is open in it.
func (m *Mount) Detach() { detach(m.Dir) }

func detach(dir string) {
	if os.Geteuid() == 0 {
		_ = unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		return
	}
	_ = exec.Command("fusermount3", "-uz", dir).Run()
}

// Status reads .share/ctl/status.json.
func (m *Mount) Status() *status.Status {
	m.t.Helper()
	text, err := os.ReadFile(m.Path(".share/ctl/status.json"))
	if err != nil {
		m.t.Fatal(err)
	}
	s := new(status.Status)
	if err := json.Unmarshal(text, s); err != nil {
		m.t.Fatalf("%v in %s", err, text)
	}
	return s
}

// Run runs a program in the mount and fails the test if it fails. It returns what the program wrote.
func (m *Mount) Run(name string, args ...string) string {
	m.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = m.Dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		m.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Settled waits until every change is a captured version.
func (m *Mount) Settled() {
	m.t.Helper()
	WaitFor(m.t, "capture of versions", func() bool {
		s := m.Status()
		return s.Now.OpenWriters == 0 && s.Now.Settling == 0 && s.Capture.QueueNow == 0
	})
}

// Closed waits until the daemon has heard of every close, when nobody has a file open for writing any more. The kernel tells of one behind the back of who
// closed, and a moment that is fixed before that does not hold what was written.
func (m *Mount) Closed() {
	m.t.Helper()
	WaitFor(m.t, "the end of all closes", func() bool { return m.Status().Now.OpenWriters == 0 })
}

// cleanup leaves nothing behind, step by step harder.
func (m *Mount) cleanup() {
	t := m.t
	if m.late != nil { // nobody has mounted since
		_ = unix.Unmount(m.Dir, unix.MNT_FORCE|unix.UMOUNT_NOFOLLOW)
	}
	if m.Alive() && Mounted(t, m.Dir) {
		if out, err := Umount(m.Dir); err != nil {
			t.Errorf("unmount %s: %s", m.Dir, out)
			if users, err := exec.Command("fuser", "-vm", m.Dir).CombinedOutput(); err == nil {
				t.Logf("used by:\n%s", users)
			}
			detach(m.Dir)
		}
	}
	if m.Alive() {
		select {
		case <-m.done:
		case <-time.After(Patience):
			t.Errorf("the daemon does not end; its goroutines are in the log")
			_ = m.cmd.Process.Signal(syscall.SIGQUIT)
			select {
			case <-m.done:
			case <-time.After(10 * time.Second):
				_ = m.cmd.Process.Kill()
				<-m.done
			}
			m.allowed = true
		}
	}
	for range 16 { // mounts may lie on top of each other
		if !Mounted(t, m.Dir) {
			break
		}
		detach(m.Dir)
	}
	if Mounted(t, m.Dir) {
		t.Errorf("%s is still mounted", m.Dir)
	}
	m.checkEnd()
	if t.Failed() {
		t.Logf("log of the daemon, %s:\n%s", m.Mode, m.logTail())
	}
}

// checkEnd fails the test if the daemon did not end well, or said that something is wrong with it.
func (m *Mount) checkEnd() {
	m.t.Helper()
	if m.done != nil && !m.allowed {
		<-m.done
		if m.exit != nil {
			m.t.Errorf("the daemon ended with %v", m.exit)
		}
		m.allowed = true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	log, err := os.ReadFile(m.Log)
	if err != nil {
		m.t.Error(err)
		return
	}
	news := log[min(m.checked, len(log)):]
	m.checked = len(log)
	for _, bad := range []string{"panic:", "WARNING: DATA RACE", "fatal error:", "SIGSEGV", "goroutine 1 ["} {
		if i := bytes.Index(news, []byte(bad)); i >= 0 {
			end := min(len(news), i+8000)
			m.t.Errorf("the daemon's log has %q:\n%s", bad, news[i:end])
			return
		}
	}
}

func (m *Mount) logTail() string {
	log, err := os.ReadFile(m.Log)
	if err != nil {
		return err.Error()
	}
	return trim(log, 60)
}
