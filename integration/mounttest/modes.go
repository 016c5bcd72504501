package mounttest

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Mode is the environment that a mount works in.
type Mode string

// The modes.
const (
	Passthrough Mode = "passthrough"
	Served      Mode = "served"
	User        Mode = "user"
)

var allModes = []Mode{Passthrough, Served, User}

// asUser in the environment says that this is the second process, which runs as nobody.
const asUser = "SHAREFS_TEST_AS_USER"

// Modes returns those in which tests are to run here.
func Modes(t testing.TB) []Mode {
	t.Helper()
	if os.Geteuid() != 0 {
		return []Mode{User}
	}
	selected := os.Getenv("SHAREFS_TEST_MODES")
	if selected == "" {
		return allModes
	}
	var out []Mode
	for name := range strings.SplitSeq(selected, ",") {
		known := false
		for _, m := range allModes {
			if string(m) == strings.TrimSpace(name) {
				out, known = append(out, m), true
			}
		}
		if !known {
			t.Fatalf("SHAREFS_TEST_MODES: %q is none of %v", name, allModes)
		}
	}
	return out
}

// Each runs fn in a subtest for each mode, with a mount of its own. It must be called by a test itself, not by a subtest, for in
// the mode user the test program is started once more, to run that test alone.
func Each(t *testing.T, fn func(t *testing.T, m *Mount), options ...Option) {
	t.Helper()
	EachMode(t, func(t *testing.T, mode Mode) { fn(t, Start(t, mode, options...)) })
}

// EachMode is [Each] for tests that mount by themselves.
func EachMode(t *testing.T, fn func(t *testing.T, mode Mode)) {
	t.Helper()
	for _, mode := range Modes(t) {
		t.Run(string(mode), func(t *testing.T) {
			if mode == User && os.Geteuid() == 0 {
				runAsNobody(t)
				return
			}
			fn(t, mode)
		})
	}
}

// Nobody returns the ids of the user nobody.
func Nobody(t testing.TB) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), NoSetGroups: false, Groups: []uint32{uint32(gid)}}
}

// runAsNobody runs the test that t is a subtest of in a second process, as nobody, and takes over how it went.
func runAsNobody(t *testing.T) {
	t.Helper()
	top, _, _ := strings.Cut(t.Name(), "/")
	if t.Name() != top+"/"+string(User) {
		t.Fatalf("mounttest.Each is called in a subtest, %s", t.Name())
	}
	openDevice(t)
	home, err := os.MkdirTemp("", "sharefs-nobody-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(home)
	nobody := Nobody(t)
	if err := os.Chown(home, int(nobody.Uid), int(nobody.Gid)); err != nil {
		t.Fatal(err)
	}
	args := []string{"-test.run", "^" + top + "$", "-test.v", "-test.count=1"}
	if deadline, ok := t.Deadline(); ok {
		args = append(args, "-test.timeout", time.Until(deadline).Round(time.Second).String())
	}
	if testing.Short() {
		args = append(args, "-test.short")
	}
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), asUser+"=1", "SHAREFS_TEST_BIN="+binDir(t), "HOME="+home, "TMPDIR="+home, "XDG_DATA_HOME=", "XDG_RUNTIME_DIR=",
		"XDG_CACHE_HOME=", "XDG_CONFIG_HOME=", "USER=nobody", "LOGNAME=nobody")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: nobody}
	out, err := cmd.CombinedOutput()
	text := string(out)
	switch {
	case err != nil:
		t.Fatalf("as nobody: %v\n%s", err, text)
	case strings.Contains(text, "--- SKIP: "+top+"/") || strings.Contains(text, "no tests to run"):
		t.Skipf("as nobody:\n%s", text)
	}
	if testing.Verbose() {
		t.Log("as nobody:\n" + text)
	}
}

// binDir builds the programs, which nobody could not do without a home of its own.
func binDir(t testing.TB) string {
	Bin(t, "sharefs")
	return built.bin
}

// openDevice gives /dev/fuse the mode that it has on every distribution, where no udev has done so.
func openDevice(t testing.TB) {
	t.Helper()
	info, err := os.Stat("/dev/fuse")
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o666 {
		if err := os.Chmod("/dev/fuse", 0o666); err != nil {
			t.Fatal(fmt.Errorf("ordinary users cannot mount: %w", err))
		}
	}
}
