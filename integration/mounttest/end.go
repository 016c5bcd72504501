package mounttest

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"sharefs/internal/mountinfo"
	"sharefs/internal/store"
)

// End unmounts every ShareFS that is mounted at dir or below it, and waits until each daemon that was told of a path there has ended,
// also one that had lost its mount before: a daemon goes on saving to its store after the unmount. What does not end is killed, and
// the test fails.
func End(t testing.TB, dir string) {
	t.Helper()
	for range 16 { // mounts may lie on top of each other
		points := mountedBelow(t, dir)
		if len(points) == 0 {
			break
		}
		for _, point := range points {
			if out, err := Umount(point); err != nil {
				t.Logf("unmount %s: %s", point, out)
				detach(point)
			}
		}
	}
	if left := mountedBelow(t, dir); len(left) > 0 {
		t.Errorf("still mounted: %q", left)
	}
	told := func(argument string) bool { return names(argument, dir) }
	if !waitFor(func() bool { return len(daemons(told)) == 0 }) {
		for _, pid := range daemons(told) {
			t.Errorf("the daemon %d does not end", pid)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	if t.Failed() {
		logs, _ := filepath.Glob(filepath.Join(dir, "*", store.LogFile))
		for _, log := range logs {
			text, _ := os.ReadFile(log)
			t.Logf("%s:\n%s", log, trim(text, 60))
		}
	}
}

// mountedBelow lists the ShareFS mounts at dir and below it, the last one first.
func mountedBelow(t testing.TB, dir string) (points []string) {
	t.Helper()
	table, err := mountinfo.Read()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range table {
		if m.Type == mountinfo.Type && within(m.Point, dir) {
			points = append([]string{m.Point}, points...)
		}
	}
	return points
}

// daemons lists the processes of sharefs-mount that this user may look at and that were called with an argument which told accepts. It
// does not list one that has ended and that nobody has waited for.
func daemons(told func(argument string) bool) (pids []int) {
	exes, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, exe := range exes {
		program, err := os.Readlink(exe)
		if err != nil || filepath.Base(strings.TrimSuffix(program, " (deleted)")) != "sharefs-mount" {
			continue
		}
		line, err := os.ReadFile(filepath.Join(filepath.Dir(exe), "cmdline"))
		if err != nil {
			continue
		}
		for argument := range bytes.SplitSeq(line, []byte{0}) {
			if told(string(argument)) {
				pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(exe)))
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids
}

// within reports whether path is dir or below it.
func within(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// names reports whether an argument names dir or something below it, by itself or in a list of options.
func names(argument, dir string) bool {
	for {
		_, rest, found := strings.Cut(argument, dir)
		if !found {
			return false
		}
		if rest == "" || rest[0] == '/' || rest[0] == ',' {
			return true
		}
		argument = rest
	}
}
