package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/internal/config"
	"sharefs/peers/identity"
)

// firstThreadEnded is a state of no daemon: the program that says so goes on without its first thread.
const firstThreadEnded State = "without its first thread"

var isFirst = os.Getenv("SHAREFS_TEST_STATE") == string(firstThreadEnded)

func init() {
	if isFirst {
		runtime.LockOSThread() // so that TestMain is called by it
	}
}

// TestMain lets the test program play a second daemon: with HOLD set it opens that store, says so and waits for its standard input
// to end.
func TestMain(m *testing.M) {
	if dir := os.Getenv("SHAREFS_TEST_HOLD"); dir != "" {
		s, err := Open(dir)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		s.Say(State(os.Getenv("SHAREFS_TEST_STATE")), "/mnt/x")
		fmt.Println("held")
		until := func() {
			_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
			if err := s.Close(); err != nil {
				os.Exit(1)
			}
			os.Exit(0)
		}
		if isFirst {
			go until()
			_, _, _ = unix.Syscall(unix.SYS_EXIT, 0, 0, 0)
		}
		until()
	}
	os.Exit(m.Run())
}

// hold starts a second process that has the store; the returned function ends it.
func hold(t *testing.T, dir string, state State) (pid int, end func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SHAREFS_TEST_HOLD="+dir, "SHAREFS_TEST_STATE="+string(state))
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
	line, _ := bufio.NewReader(out).ReadString('\n')
	ended := false
	end = func() {
		if !ended {
			ended = true
			in.Close()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(end)
	if line != "held\n" {
		t.Fatalf("the second process says %q", line)
	}
	return cmd.Process.Pid, end
}

func TestANewStoreHasItsLayoutAndKeepsItsKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !s.New || s.ReadOnly || !reflect.DeepEqual(s.Config, config.Default()) || s.Keys.Peer().IsZero() || s.Keys.Ring.IsZero() {
		t.Errorf("%+v", s)
	}
	for name, mode := range map[string]os.FileMode{".": 0o700, identityFile: 0o600, shareFile: 0o600, configFile: 0o600, lockFile: 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	keys := s.Keys
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err = Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.New || s.Keys.Peer() != keys.Peer() || !s.Keys.Ring.Has(keys.Ring) {
		t.Error("the keys of a store changed when it was opened again")
	}
}

func TestACrashWhileItIsMadeDoesNoHarm(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{shareFile, configFile} {
		if err := os.Rename(filepath.Join(dir, name), filepath.Join(dir, name+tempSuffix)); err != nil {
			t.Fatal(err)
		}
	}
	if s, err = Open(dir); err != nil || !s.New {
		t.Fatalf("%+v, %v", s, err)
	}
	s.Close()
	for _, name := range []string{shareFile, configFile} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestWhatIsNoStoreIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "letter.txt"), "dear", 0o644)
	_, err := Open(dir)
	if err == nil || !strings.Contains(err.Error(), `it holds "letter.txt", which is not part of a store`) {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("%d entries in somebody's directory", len(entries))
	}
	file := filepath.Join(dir, "letter.txt")
	if _, err := Open(file); err == nil {
		t.Error("a file is opened as a store")
	}
}

func TestKeysThatAreBadAreNamed(t *testing.T) {
	for name, spoil := range map[string]struct {
		do   func(t *testing.T, dir string)
		want string
	}{
		"missing in a used store": {func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "meta.db"), "", 0o600)
			if err := os.Remove(filepath.Join(dir, shareFile)); err != nil {
				t.Fatal(err)
			}
		}, "share.key: it is missing, and without it the versions in the store cannot be read"},
		"readable by others": {func(t *testing.T, dir string) {
			if err := os.Chmod(filepath.Join(dir, identityFile), 0o644); err != nil {
				t.Fatal(err)
			}
		}, "others may read it (mode 0644): chmod 600 "},
		"of another kind": {func(t *testing.T, dir string) { write(t, filepath.Join(dir, identityFile), "ssh-rsa AAAA", 0o600) },
			"it does not begin with sharefs-identity-1"},
		"cut": {func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, shareFile), "sharefs-share-1 AAAA\n", 0o600)
		},
			"it is not 32 bytes in base64"},
		"cut identity": {func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, identityFile), identity.PlainForm+" AAAA\n", 0o600)
		},
			"it is not 32 bytes in base64"},
		"empty": {func(t *testing.T, dir string) { write(t, filepath.Join(dir, shareFile), "", 0o600) },
			"it is empty or cannot be read"},
		"configuration": {func(t *testing.T, dir string) { write(t, filepath.Join(dir, configFile), "colour='red'", 0o600) },
			"key colour is not known"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			s.Close()
			spoil.do(t, dir)
			if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), spoil.want) || !strings.Contains(err.Error(), dir) {
				t.Fatalf("%v, want %s", err, spoil.want)
			}
			if _, held, _ := HolderOf(dir); held {
				t.Error("the lock was not given back")
			}
		})
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func TestASecondDaemonIsToldWhoHasTheStore(t *testing.T) {
	dir := t.TempDir()
	pid, end := hold(t, dir, Mounted)
	_, err := Open(dir)
	var locked *LockedError
	if !errors.As(err, &locked) || locked.Holder != (Holder{pid, pidSpace(), Mounted, "/mnt/x"}) || !errors.Is(err, sharefs.KindBusy) {
		t.Fatalf("%v", err)
	}
	want := fmt.Sprintf(`store %s is in use by process %d, mounted at "/mnt/x": unmount that first, or name another store`, dir, pid)
	if err.Error() != want {
		t.Errorf("%s, want %s", err, want)
	}
	if h, held, err := HolderOf(dir); err != nil || !held || h.PID != pid {
		t.Errorf("%+v, %v, %v", h, held, err)
	}
	if _, err := OpenWait(t.Context(), dir, func(Holder) bool { return false }, nil); !errors.As(err, &locked) {
		t.Errorf("waiting for a daemon that is at work: %v", err)
	}
	end()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if h, held, err := HolderOf(dir); err != nil || held {
		t.Errorf("%+v, %v, %v", h, held, err)
	}
}

func TestADaemonThatEndsIsWaitedFor(t *testing.T) {
	for _, c := range []struct {
		state State
		gone  bool
	}{{Ending, false}, {Mounted, true}} {
		dir := t.TempDir()
		_, end := hold(t, dir, c.state)
		asked := make(chan struct{}, 1000)
		got := make(chan error, 1)
		go func() {
			s, err := OpenWait(t.Context(), dir, func(Holder) bool {
				asked <- struct{}{}
				return c.gone
			}, nil)
			if err == nil {
				err = s.Close()
			}
			got <- err
		}()
		if c.gone {
			<-asked
		}
		end()
		if err := <-got; err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestPatienceEnds(t *testing.T) {
	over, end := context.WithCancel(t.Context())
	end()
	dir := t.TempDir()
	hold(t, dir, Ending)
	var locked *LockedError
	if _, err := OpenWait(over, dir, nil, nil); !errors.As(err, &locked) || !strings.Contains(err.Error(), "still saving") {
		t.Fatal(err)
	}
}

// TestADetachedMountIsTold: umount -l leaves a daemon that may never end.
func TestADetachedMountIsTold(t *testing.T) {
	dir := t.TempDir()
	pid, _ := hold(t, dir, Mounted)
	ctx, cancel := context.WithCancel(t.Context())
	var told error
	s, err := OpenWait(ctx, dir, func(Holder) bool { return true }, func(l *LockedError) {
		told = l
		cancel()
	})
	want := fmt.Sprintf(`store %s is in use by process %d, whose mount at "/mnt/x" was taken away while something in it is in use: end what uses it, and try again`, dir, pid)
	if err == nil || err.Error() != want || told == nil || told.Error() != want {
		t.Errorf("%v, %v, told %v", s, err, told)
	}
}

func TestNamesAndPathsOfStores(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_DATA_HOME", "")
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"":        home + "/.local/share/sharefs/default",
		"photos":  home + "/.local/share/sharefs/photos",
		"/srv/x/": "/srv/x",
		"./x":     wd + "/x",
		".":       wd,
	} {
		if got, err := Resolve(name); err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", name, got, err, want)
		}
	}
	t.Setenv("XDG_DATA_HOME", "/data")
	if got, _ := Resolve("x"); got != "/data/sharefs/x" {
		t.Error(got)
	}
	t.Setenv("XDG_DATA_HOME", "relative")
	if got, _ := Resolve("x"); got != home+"/.local/share/sharefs/x" {
		t.Error(got)
	}
	for _, bad := range []string{"-x", "a\nb", strings.Repeat("x", 300)} {
		if got, err := Resolve(bad); !errors.Is(err, sharefs.KindInvalid) {
			t.Errorf("%q: %q, %v", bad, got, err)
		}
	}
	t.Setenv("HOME", "nowhere")
	if _, err := Resolve("x"); err == nil || !strings.Contains(err.Error(), "no home directory is known") {
		t.Error(err)
	}
}

// FuzzParseHolder holds that any text of a lock file is read.
func FuzzParseHolder(f *testing.F) {
	f.Add("pid 12\npidns 4026531836\nstate mounted\nmount /somewhere\n")
	f.Add("x")
	f.Fuzz(func(t *testing.T, text string) {
		if h := parseHolder(text); h.PID < 0 {
			t.Fatalf("%q: process %d", text, h.PID)
		}
	})
}
