package selftest

import (
	"fmt"
	"os"
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

// script hands out one set of counters after the other.
func script(sets ...Counters) func() Counters {
	return func() Counters {
		s := sets[0]
		sets = sets[1:]
		return s
	}
}

func TestTheChildWritesBetweenTheTwoLooks(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		passthrough   bool
		before, after Counters
		want          State
		detail        string
	}{
		{true, Counters{"WRITE": 5}, Counters{"WRITE": 5}, Passed, "16 writes of 4 KiB stayed out of the daemon"},
		{true, nil, Counters{"WRITE": 16}, Failed, "writes reach the daemon although passthrough is on"},
		{true, Counters{"GETXATTR": 1}, Counters{"GETXATTR": 17}, Failed, "FUSE_HANDLE_KILLPRIV_V2"},
		{true, nil, Counters{"WRITE": 3, "GETXATTR": 2}, Passed, "stayed out"},
		{false, nil, Counters{"WRITE": 16}, Passed, "went through the daemon"},
	} {
		got := Run(dir, c.passthrough, script(c.before, c.after), time.Minute)
		if got.State != c.want || !strings.Contains(got.Detail, c.detail) {
			t.Errorf("%+v: %+v", c, got)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("%d entries are left behind, %v", len(entries), err)
	}
}

func TestWhereNothingCanBeWrittenNothingIsWrong(t *testing.T) {
	for errno, want := range map[unix.Errno]State{
		unix.EROFS: NotRun, unix.EACCES: NotRun, unix.ENOSPC: NotRun, unix.EIO: Failed, unix.ENOTCONN: Failed, unix.EOPNOTSUPP: Failed,
	} {
		if got := excuse(fmt.Errorf("write a file in the mount: %w", errno)); got.State != want || got.Detail == "" {
			t.Errorf("%v: %+v", errno, got)
		}
	}
}

func TestAFailureIsNamed(t *testing.T) {
	never := func() Counters { t.Error("counters were asked for"); return nil }
	got := Run(filepath.Join(t.TempDir(), "missing"), true, never, time.Minute)
	if got.State != Failed || got.Detail != "write a file in the mount: no such file or directory" {
		t.Errorf("%+v", got)
	}
	if got := Run("/proc", true, never, time.Minute); got.State != Failed {
		t.Errorf("%+v", got)
	}
}
