package workload

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sharefs/integration/mounttest"
)

// soak skips a test that is too long for make test.
func soak(t *testing.T) {
	t.Helper()
	if !mounttest.Soak() {
		t.Skip("for make soak (SHAREFS_SOAK=1)")
	}
}

// TestStress runs stress-ng's filesystem class on the disk and in the mount: nothing may fail here, or be left out, that does not there.
// SHAREFS_STRESS_SECONDS is how long each stressor runs, 10 by default.
func TestStress(t *testing.T) {
	soak(t)
	seconds := mounttest.Number(t, "SHAREFS_STRESS_SECONDS", 10, 10)
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		stress := func(dir string) (skipped, failed map[string]bool) {
			p := program{t: t, dir: dir}
			// One after the other; those that need no more than a directory.
			out, err := p.command("stress-ng", "--class", "filesystem", "--sequential", "2", "--timeout", fmt.Sprint(seconds, "s"), "--verify", "--metrics",
				"--temp-path", dir).CombinedOutput()
			worked := map[string]bool{}
			skipped, failed = map[string]bool{}, map[string]bool{}
			for line := range strings.Lines(string(out)) {
				w := strings.Fields(line) // stress-ng: KIND: [PID] STRESSOR: …
				if len(w) < 5 {
					continue
				}
				name := strings.TrimSuffix(w[3], ":")
				switch {
				case w[1] == "fail:":
					failed[name] = true
					t.Log(strings.TrimSpace(line))
				case strings.Contains(line, "skipping stress"):
					skipped[name] = true
				case w[1] == "metrc:" && w[4] != "0":
					if _, err := strconv.ParseFloat(w[4], 64); err == nil {
						worked[name] = true
					}
				}
			}
			t.Logf("in %s: %d stressors worked, %v; skipped: %v; failed: %v", dir, len(worked), err, slices.Sorted(maps.Keys(skipped)), slices.Sorted(maps.Keys(failed)))
			if len(worked) < 30 {
				t.Fatalf("stress-ng did little:\n%s", out)
			}
			return skipped, failed
		}
		skipped, failed := stress(mounttest.TempDir(t))
		// FUSE hands no FS_IOC_FIEMAP on, whatever the daemon knows (fs/fuse has no fiemap in its inode operations).
		skipped["fiemap"] = true
		skipped["chattr"] = true // flags of inodes (FS_IOC_SETFLAGS) are refused
		skippedHere, failedHere := stress(in(t, m, "stress").dir)
		for name := range failedHere {
			if !failed[name] {
				t.Errorf("%s fails in the mount alone", name)
			}
		}
		for name := range skippedHere {
			if !skipped[name] {
				t.Errorf("%s is skipped in the mount alone", name)
			}
		}
	})
}

// TestGoLibrary runs those tests of Go's library that work with files, with their temporary files on the disk and in the mount: nothing may
// fail here that does not there.
func TestGoLibrary(t *testing.T) {
	soak(t)
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		run := func(tmp string) (passed, failed map[string]bool) {
			p := program{t: t, dir: mounttest.TempDir(t), env: []string{"TMPDIR=" + tmp, "GOFLAGS=", "GOWORK=off"}}
			out, err := p.command("go", "test", "-count=1", "-v", "-vet=off", "os", "path/filepath", "io/fs", "io/ioutil", "archive/tar", "archive/zip",
				"testing/fstest", "debug/buildinfo", "mime/multipart").CombinedOutput()
			passed, failed = map[string]bool{}, map[string]bool{}
			for line := range strings.Lines(string(out)) {
				if name, ok := strings.CutPrefix(line, "--- PASS: "); ok {
					passed[strings.Fields(name)[0]] = true
				} else if name, ok := strings.CutPrefix(strings.TrimSpace(line), "--- FAIL: "); ok {
					failed[strings.Fields(name)[0]] = true
				}
			}
			t.Logf("in %s: %d passed, %v; failed: %v", tmp, len(passed), err, slices.Sorted(maps.Keys(failed)))
			if len(passed) < 300 {
				t.Fatalf("only %d tests passed:\n%s", len(passed), out)
			}
			return passed, failed
		}
		passed, failed := run(mounttest.TempDir(t))
		// It wants a regular file that epoll(7) refuses; the kernel lets every file of a FUSE filesystem be polled.
		failed["TestNonpollableDeadline"] = true
		passedHere, failedHere := run(in(t, m, "tmp").dir)
		for name := range failedHere {
			if !failed[name] {
				t.Errorf("%s fails in the mount alone", name)
			}
		}
		for name := range passed {
			if !passedHere[name] && !failedHere[name] {
				t.Errorf("%s is skipped in the mount alone", name)
			}
		}
	})
}
