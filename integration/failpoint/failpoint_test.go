package failpoint

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// workEnv makes this binary the program that is stopped: the directory that it works in.
const workEnv = "SHAREFS_FAILPOINT_WORK"

func TestMain(m *testing.M) {
	Main()
	if dir := os.Getenv(workEnv); dir != "" {
		work(dir)
		return
	}
	os.Exit(m.Run())
}

// work makes a, renames it to b and removes that. It goes on after errors, and says which calls failed.
func work(dir string) {
	tell := func(what string, err error) {
		var errno unix.Errno
		if errors.As(err, &errno) {
			os.Stdout.WriteString(what + " " + unix.ErrnoName(errno) + "\n")
		}
	}
	f, err := os.Create(filepath.Join(dir, "a"))
	tell("create", err)
	_, err = f.WriteAt([]byte("content"), 0)
	tell("pwrite", err)
	tell("fsync", f.Sync())
	tell("rename", os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "b")))
	at, err := os.Open(dir)
	tell("open", err)
	tell("fsync", at.Sync())
	tell("mkdir", unix.Mkdirat(int(at.Fd()), "dir", 0o700))
	tell("unlink", unix.Unlinkat(int(at.Fd()), "b", 0))
}

// watched runs the work under a judge, and returns its calls, what it said and how it ended.
func watched(t *testing.T, judge func(nth int, p Point) Verdict) (points []Point, said string, err error) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	w := New(dir, func(p Point) Verdict {
		mu.Lock()
		defer mu.Unlock()
		points = append(points, p)
		return judge(len(points)-1, p)
	})
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), workEnv+"="+dir)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := w.Start(cmd); err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	mu.Lock()
	defer mu.Unlock()
	return points, out.String(), err
}

var whole = []Point{{"pwrite", "a"}, {"fsync", "a"}, {"rename", "b"}, {"fsync", "."}, {"mkdir", "dir"}, {"unlink", "b"}}

func TestCallsAreSeen(t *testing.T) {
	Supported(t)
	points, said, err := watched(t, func(int, Point) Verdict { return Verdict{} })
	if err != nil || said != "" || !slices.Equal(points, whole) {
		t.Errorf("%v, %q, %v", points, said, err)
	}
}

func TestCallsAreRefused(t *testing.T) {
	Supported(t)
	for n, p := range whole {
		points, said, err := watched(t, func(nth int, _ Point) Verdict {
			if nth == n {
				return Verdict{Errno: unix.ENOSPC}
			}
			return Verdict{}
		})
		if want := p.Call + " ENOSPC\n"; err != nil || !strings.HasPrefix(said, want) || len(points) != len(whole) {
			t.Errorf("%v, %q, %v", points, said, err)
		}
	}
}

func TestKilledBeforeACall(t *testing.T) {
	Supported(t)
	for n := range whole {
		points, _, err := watched(t, func(nth int, _ Point) Verdict { return Verdict{Kill: nth == n} })
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != -1 || !slices.Equal(points, whole[:n+1]) {
			t.Errorf("%v, %v", points, err)
		}
	}
}
