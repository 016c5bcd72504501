// Package crash ends the daemon, or takes the power from the disk below it, while programs are at work, and asks afterwards for all that was
// promised: what was acknowledged survives the daemon, and what was fsynced survives the power.
package crash

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"sharefs/integration/failpoint"
	"sharefs/integration/mounttest"
)

func TestMain(m *testing.M) {
	if os.Getenv(stuckStore) != "" {
		serveStuck()
		return
	}
	failpoint.Main()
	mounttest.Main(m)
}

// rounds is how often a mode is crashed: SHAREFS_CRASH_ROUNDS, or n, and 25 times that in make soak.
func rounds(t *testing.T, n int) int {
	t.Helper()
	return mounttest.Number(t, "SHAREFS_CRASH_ROUNDS", n, 25*n)
}

// worker changes files in a directory of its own and keeps a model of what was acknowledged.
type worker struct {
	dir   string
	rng   *rand.Rand
	model map[string]string // name → content of what is certain
	// open is what the call under way, whose answer never came, may have left behind: for each name the states that are right.
	open map[string]possible
	ops  atomic.Int64
	most int // bytes of a new file
}

// possible is what a file may hold: one of some states, or the first state and any part of what comes after it in the second.
type possible struct {
	states   []string
	from, to string
	anything bool
}

func (p *possible) has(state string) bool {
	return p.anything || slices.Contains(p.states, state) || strings.HasPrefix(state, p.from) && strings.HasPrefix(p.to, state) && p.to != ""
}

// record is what one write writes: it tells itself whether it is whole (wholeRecords), and packs cannot make it much shorter.
func record(seed uint64, n int) string {
	r := rand.New(rand.NewPCG(seed, 9))
	b := fmt.Appendf(nil, "record %020d %06d ", seed, n)
	for range n {
		b = append(b, 'a'+byte(r.Uint32()%26))
	}
	return string(b)
}

// wholeRecords reports whether content is records one after the other, and whether the last of them is cut off.
func wholeRecords(content string) (whole, cut bool) {
	const header = len("record ") + 20 + 1 + 6 + 1
	for len(content) > 0 {
		var seed uint64
		var n int
		if len(content) < header {
			return strings.HasPrefix(content, "record ") || strings.HasPrefix("record ", content), true
		}
		if _, err := fmt.Sscanf(content[:header], "record %d %d ", &seed, &n); err != nil {
			return false, false
		}
		want := record(seed, n)
		if len(content) < len(want) {
			return strings.HasPrefix(want, content), true
		}
		if content[:len(want)] != want {
			return false, false
		}
		content = content[len(want):]
	}
	return true, false
}

// missing stands for no file at all in a list of states.
const missing = "\x00missing"

func newWorker(dir string, seed uint64) *worker {
	return &worker{dir: dir, rng: rand.New(rand.NewPCG(seed, 5)), model: map[string]string{}, open: map[string]possible{}, most: 20_000}
}

func (w *worker) state(name string) string {
	if c, ok := w.model[name]; ok {
		return c
	}
	return missing
}

func (w *worker) set(name, state string) {
	if state == missing {
		delete(w.model, name)
	} else {
		w.model[name] = state
	}
}

// died reports whether an error is what calls return when the daemon is gone.
func died(err error) bool {
	for _, e := range []syscall.Errno{syscall.ENOTCONN, syscall.ECONNABORTED, syscall.ENODEV, syscall.EIO, syscall.EINTR, syscall.ECONNREFUSED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// run works until the daemon is gone, which gone tells beforehand. Any other failure is returned.
func (w *worker) run(gone *atomic.Bool) error {
	for {
		if err := w.step(); err != nil {
			if gone.Load() && died(err) {
				return nil
			}
			return err
		}
		clear(w.open)
		w.ops.Add(1)
	}
}

// step does one thing. Before it starts, open has all states that it may leave; once it has ended, the model has the new one.
func (w *worker) step() error {
	a, b := fmt.Sprintf("f%d", w.rng.IntN(30)), fmt.Sprintf("f%d", w.rng.IntN(30))
	pa, pb := filepath.Join(w.dir, a), filepath.Join(w.dir, b)
	switch was := w.state(a); {
	case w.rng.IntN(3) == 0 || was == missing:
		return w.replace(a, pa)
	case w.rng.IntN(3) == 0:
		if _, cut := wholeRecords(was); cut { // by a kill in the middle of it
			return w.replace(a, pa)
		}
		return w.append(a, pa)
	case w.rng.IntN(3) == 0:
		w.open[a] = possible{states: []string{was, missing}}
		if err := os.Remove(pa); err != nil {
			return err
		}
		w.set(a, missing)
	case a != b:
		// Between the two names there is no state in which both, or none, have the content.
		other := w.state(b)
		w.open[a], w.open[b] = possible{states: []string{was, missing}}, possible{states: []string{other, was}}
		if err := os.Rename(pa, pb); err != nil {
			return err
		}
		w.set(b, was)
		w.set(a, missing)
	}
	return nil
}

// replace writes a new content as an editor does: beside it, and renamed over it.
func (w *worker) replace(name, path string) error {
	content := record(w.rng.Uint64(), w.rng.IntN(w.most))
	tmp := path + ".new"
	w.open[filepath.Base(tmp)] = possible{anything: true}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	w.open[name] = possible{states: []string{w.state(name), content}}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	w.set(name, content)
	return nil
}

// append adds to a file, in one write: after a crash any beginning of it may be there.
func (w *worker) append(name, path string) error {
	was := w.state(name)
	more := record(w.rng.Uint64(), w.rng.IntN(5000))
	w.open[name] = possible{from: was, to: was + more}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(more)
	if err == nil {
		w.open[name] = possible{states: []string{was + more}}
		w.set(name, was+more)
	}
	return errors.Join(err, f.Close())
}

// check compares the directory with the model, and takes over which of the open states came true.
func (w *worker) check() error {
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, e := range entries {
		name := e.Name()
		there[name] = true
		b, err := os.ReadFile(filepath.Join(w.dir, name))
		if err != nil {
			return err
		}
		if err := w.accept(name, string(b)); err != nil {
			return err
		}
	}
	for name := range w.model {
		if !there[name] {
			if err := w.accept(name, missing); err != nil {
				return err
			}
		}
	}
	clear(w.open)
	return nil
}

func (w *worker) accept(name, got string) error {
	may, isOpen := w.open[name]
	switch {
	case strings.HasSuffix(name, ".new"):
		// Never acknowledged as anything; away with it, so that the next round starts clean.
		return os.Remove(filepath.Join(w.dir, name))
	case !isOpen && got == w.state(name):
		return nil
	case isOpen && may.has(got):
		w.set(name, got)
		return nil
	}
	return fmt.Errorf("%s is %s, should be %s (open: %v)", name, short(got), short(w.state(name)), isOpen)
}

func short(s string) string {
	if s == missing {
		return "missing"
	}
	if len(s) > 60 {
		return fmt.Sprintf("%q… (%d bytes)", s[:60], len(s))
	}
	return fmt.Sprintf("%q", s)
}

// TestKill kills the daemon again and again while four programs are at work in the mount.
func TestKill(t *testing.T) {
	modes := map[mounttest.Mode]int{mounttest.Passthrough: 4, mounttest.Served: 2, mounttest.User: 2}
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		var workers []*worker
		for i := range 4 {
			dir := m.Path(fmt.Sprintf("w%d", i))
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			workers = append(workers, newWorker(dir, uint64(i)))
		}
		rng := rand.New(rand.NewPCG(7, 7))
		for round := range rounds(t, modes[m.Mode]) {
			var wg sync.WaitGroup
			errs := make(chan error, len(workers))
			var gone atomic.Bool
			total := func() (n int64) {
				for _, w := range workers {
					n += w.ops.Load()
				}
				return n
			}
			for _, w := range workers {
				wg.Go(func() {
					if err := w.run(&gone); err != nil {
						errs <- fmt.Errorf("%s: %w", w.dir, err)
					}
				})
			}
			// The instant is one of the work done, not of the clock.
			until := total() + 1 + int64(rng.IntN(1500))
			mounttest.WaitFor(t, "work", func() bool { return total() >= until || len(errs) > 0 })
			gone.Store(true)
			m.Kill()
			wg.Wait()
			close(errs)
			if err := <-errs; err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			m.Mount()
			for _, w := range workers {
				if err := w.check(); err != nil {
					t.Fatalf("round %d, %s: %v", round, w.dir, err)
				}
			}
		}
		var ops int64
		for _, w := range workers {
			ops += w.ops.Load()
		}
		t.Logf("%d operations", ops)
		m.Settled()
		doctor(t, m)
		if s := m.Status(); len(s.Problems) > 0 {
			t.Errorf("problems: %v", s.Problems)
		}
	})
}

// doctor has the tool walk the whole tree of a mount. What it says of this machine is not asked for.
func doctor(t *testing.T, m *mounttest.Mount) {
	t.Helper()
	cmd := exec.Command(mounttest.Bin(t, "sharefs"), "doctor", "--check", m.Dir)
	out, _ := cmd.CombinedOutput()
	walked := false
	for line := range strings.Lines(string(out)) {
		if w := strings.Fields(line); len(w) > 1 && w[1] == "tree" {
			walked = w[0] == "ok"
		}
	}
	if !walked {
		t.Errorf("the tree is not right:\n%s", out)
	}
}

// TestWriterOutlivesDaemon: what a program writes after the daemon was killed, through a descriptor or a mapping that bypasses it, is in the file and in its
// history when the mount is back.
func TestWriterOutlivesDaemon(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		if m.Mode != mounttest.Passthrough {
			t.Log("content passes through the daemon in this mode: its end is the end of writing")
			return
		}
		if err := os.WriteFile(m.Path("f"), bytes.Repeat([]byte("a"), 8192), 0o644); err != nil {
			t.Fatal(err)
		}
		m.Settled()
		f, err := os.OpenFile(m.Path("f"), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		mem, err := syscall.Mmap(int(f.Fd()), 0, 8192, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
		if err != nil {
			t.Fatal(err)
		}
		m.Kill()
		if _, err := f.WriteAt([]byte("by write"), 0); err != nil {
			t.Fatal(err)
		}
		copy(mem[4096:], "by mapping")
		m.Mount()
		check := func(path string) {
			t.Helper()
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if len(b) != 8192 || string(b[:8]) != "by write" || string(b[4096:4106]) != "by mapping" {
				t.Errorf("%s: %q…, %q…", path, b[:10], b[4096:4110])
			}
		}
		check(m.Path("f"))
		// And while the new daemon is there.
		if _, err := f.WriteAt([]byte("by write"), 16); err != nil {
			t.Fatal(err)
		}
		copy(mem[4096+16:], "by mapping")
		if err := syscall.Munmap(mem); err != nil {
			t.Fatal(err)
		}
		f.Close()
		m.Settled()
		check(m.Path("f"))
		versions := mounttest.Versions(t, m.Path("f"))
		if len(versions) < 2 {
			t.Fatalf("versions %v", versions)
		}
		path := mounttest.Latest(t, m.Path("f"))
		check(path)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(b[16:24]) != "by write" || string(b[4096+16:4096+26]) != "by mapping" {
			t.Errorf("%s is older than the last write", path)
		}
	})
}
