package peers

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"sharefs/integration/mounttest"
)

// TestMemory tells what daemons take for many files, SHAREFS_FILES of them: who wrote them, who took them, and one that began anew with them. There are three records of each.
func TestMemory(t *testing.T) {
	if !mounttest.Soak() {
		t.Skip("minutes long: SHAREFS_SOAK=1")
	}
	const dirs, base, each = 200, 96 << 10, 2 // KiB that a daemon may take, and more for each record
	files := 20_000
	if n, err := strconv.Atoi(os.Getenv("SHAREFS_FILES")); err == nil {
		files = n
	}
	files = files / dirs * dirs
	hs := sharing(t, "anna", "bert")
	a, b := hs[0], hs[1]
	tell := func(when string) (most int) { // KiB
		for _, h := range hs {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.PID()))
			h.do(err)
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.PID()))
			h.do(err)
			_, rest, _ := strings.Cut(string(stat), ") ")
			user, _ := strconv.Atoi(strings.Fields(rest)[11])
			system, _ := strconv.Atoi(strings.Fields(rest)[12])
			t.Logf("%s: %s: %d.%02d CPU-s; %s", when, h.name, (user+system)/100, (user+system)%100, strings.Join(regexp.MustCompile(`(?m)^(VmHWM|VmRSS|RssAnon|RssFile):.*`).FindAllString(string(text), -1), " "))
			kib, _ := strconv.Atoi(regexp.MustCompile(`RssAnon:\s+(\d+) kB`).FindStringSubmatch(string(text))[1])
			most = max(most, kib)
		}
		return most
	}
	tell("before")
	began := time.Now()
	for d := range dirs {
		a.do(os.Mkdir(a.Path(fmt.Sprint(d)), 0o755))
		for f := range files / dirs {
			a.do(os.WriteFile(a.Path(fmt.Sprintf("%d/file-%d.txt", d, f)), fmt.Appendf(nil, "file %d in %d\n", f, d), 0o644))
		}
	}
	t.Logf("written after %v", time.Since(began))
	for n := 0; n < files; time.Sleep(time.Second) {
		if n = 0; time.Since(began) > time.Hour {
			t.Fatal("the files do not come")
		}
		for d := range dirs {
			list, _ := filepath.Glob(b.Path(fmt.Sprintf("%d/*", d)))
			n += len(list)
		}
	}
	t.Logf("there after %v", time.Since(began))
	tell("at once")
	// What the burst has left is given back when nothing was collected for 20 s.
	limit := base + each*3*files
	for until := time.Now().Add(5 * time.Minute); tell("at rest") > limit; time.Sleep(30 * time.Second) {
		if time.Now().After(until) {
			t.Fatalf("more than %d KiB are held for %d files", limit, files)
		}
	}
	time.Sleep(time.Minute)
	tell("a minute later")
	b.Unmount()
	b.Mount.Mount()
	connected(t, a, b)
	mounttest.WaitFor(t, "a file on bert", func() bool { _, err := os.Stat(b.Path("0/file-0.txt")); return err == nil })
	time.Sleep(time.Minute)
	tell("anew")
}
