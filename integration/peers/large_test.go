package peers

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"sharefs/integration/mounttest"
)

// until waits as long as it takes: the end of the test binary's time ends a hang.
func until(t *testing.T, what string, holds func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for said := began; !holds(); time.Sleep(200 * time.Millisecond) {
		if time.Since(said) > time.Minute {
			said = time.Now()
			t.Logf("%v: still waiting for %s", time.Since(began).Round(time.Second), what)
		}
	}
	return time.Since(began)
}

// digest is what is in a directory: names and contents in their order.
func digest(dir string) (string, int, error) {
	sum, n := sha256.New(), 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fmt.Fprintf(sum, "%q\n", strings.TrimPrefix(path, dir))
		if !d.Type().IsRegular() {
			return nil
		}
		n++
		text, err := os.ReadFile(path)
		fmt.Fprintf(sum, "%q\n", text)
		return err
	})
	return fmt.Sprintf("%x", sum.Sum(nil)), n, err
}

// usage returns what a daemon has used: the most memory at a time, in bytes, and time of processors.
func (h *host) usage() (memory int, cpu time.Duration) {
	h.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.PID()))
	h.do(err)
	for _, line := range strings.Split(string(text), "\n") {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmHWM:" {
			kib, _ := strconv.Atoi(f[1])
			memory = kib << 10
		}
	}
	text, err = os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.PID()))
	h.do(err)
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:])) // from the third field on, of proc(5)
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return memory, time.Duration(user+system) * (time.Second / 100)
}

// 100,000 files are changed while two hosts are apart, half of them on each side: some the same on both, some of one name and other content, which are conflicts.
func TestManyFilesApart(t *testing.T) {
	if !mounttest.Soak() {
		t.Skip("a part of make soak")
	}
	hs := sharing(t, "anna", "bert")
	each := mounttest.Number(t, "SHAREFS_PEER_FILES", 0, 100_000) / 2
	for i, h := range hs {
		h.must("grant", hs[1-i].name, "manage") // nothing is held
	}
	hs[1].Unmount()
	for i, h := range hs {
		for k := range each {
			dir, text := fmt.Sprintf("%s/%d", h.name, k/100), fmt.Sprintf("file %d of %s", k, h.name)
			switch {
			case k%100 == 0: // of one name, and other content
				dir = fmt.Sprintf("both/%d", k/10_000)
			case k%10 == 1: // the same
				dir, text = fmt.Sprintf("both/%d", k/10_000), fmt.Sprintf("file %d", k)
			}
			if err := os.MkdirAll(h.Path(dir), 0o755); err != nil {
				t.Fatal(err)
			}
			h.write(filepath.Join(dir, fmt.Sprint(k)), text)
		}
		t.Logf("%s: captured after %v", h.name, until(t, "capture", func() bool {
			s := h.Status()
			return s.Now.OpenWriters == 0 && s.Now.Settling == 0 && s.Capture.QueueNow == 0
		}))
		if i == 0 {
			h.Unmount()
		}
		hs[1-i].Mount.Mount()
	}
	took := until(t, "both to have all", func() bool { return atRest(hs) })
	for i, h := range hs {
		memory, cpu := h.usage()
		t.Logf("%s: all of it after %v; %d MB of memory at most, %v of processor time, %d kB received", h.name, took.Round(time.Second), memory/1e6, cpu, h.links[0].Stats(h.net).Bytes/1000)
		sum, n, err := digest(h.Dir)
		other, m, err2 := digest(hs[1-i].Dir)
		if err != nil || err2 != nil || sum != other || n != m {
			t.Fatalf("%d files and %d, which are not the same; %v, %v", n, m, err, err2)
		}
		shared := (each + 99) / 100
		same := 0
		for k := range each {
			if k%100 != 0 && k%10 == 1 {
				same++
			}
		}
		if want := 2*each - shared - same; n != want {
			t.Errorf("%s: %d files, not %d", h.name, n, want)
		}
		if all := h.conflicts(); len(all) != shared {
			t.Errorf("%s: %d conflicts, not %d", h.name, len(all), shared)
		}
	}
}

// A mount with ten connected peers, of which all have some thousands of files and nobody does anything, takes nearly no time of a processor: less than 0.1 % on a machine that is at rest,
// and some times that where others work beside it, for then each wake finds cold caches.
func TestIdlePeers(t *testing.T) {
	if !mounttest.Soak() {
		t.Skip("a part of make soak")
	}
	names := []string{"anna"}
	for i := range 10 {
		names = append(names, fmt.Sprintf("peer%d", i))
	}
	hs := hosts(t, "", names...)
	a := hs[0]
	for _, h := range hs[1:] {
		pairByLink(t, a, h)
		a.must("grant", h.name, "manage")
		h.must("grant", "anna", "manage")
	}
	files := mounttest.Number(t, "SHAREFS_PEER_FILES", 0, 100_000) / 50
	for i := range files {
		dir := fmt.Sprint(i / 100)
		a.do(os.MkdirAll(a.Path(dir), 0o755))
		a.write(filepath.Join(dir, fmt.Sprint(i)), fmt.Sprintf("file %d", i))
	}
	until(t, "all to have all", func() bool {
		for _, h := range hs[1:] {
			if !atRest([]*host{a, h}) {
				return false
			}
		}
		return true
	})
	minutes := time.Duration(mounttest.Number(t, "SHAREFS_PEER_MINUTES", 0, 3))
	time.Sleep(time.Minute) // in which caches and journals come to rest
	before := make([]time.Duration, len(hs))
	for i, h := range hs {
		_, before[i] = h.usage()
	}
	time.Sleep(minutes * time.Minute)
	for i, h := range hs {
		_, cpu := h.usage()
		cpu -= before[i]
		t.Logf("%s: %v of processor time in %d minutes, %.3f %%", h.name, cpu, minutes, 100*cpu.Seconds()/(minutes*time.Minute).Seconds())
		if cpu > minutes*time.Minute/200 {
			t.Errorf("%s does something", h.name)
		}
	}
}
