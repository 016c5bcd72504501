package versions

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// crashEnv makes this binary the daemon that will be killed: directory, seed, "atomic" or "all", and the steps at which it was killed
// before, then the one up to which it goes on.
const crashEnv = "SHAREFS_CRASH_TEST"

// pastModel runs a model alone through lives that ended at the given steps.
func pastModel(t testing.TB, seed uint64, atomic bool, cuts []int) *model {
	m := newModel(seed)
	m.atomic = atomic
	from := 0
	for _, cut := range cuts {
		m.run(t, from, cut)
		m.forgetHandles()
		from = cut
	}
	return m
}

func TestCrashChild(t *testing.T) {
	args := strings.Split(os.Getenv(crashEnv), "|")
	if len(args) < 4 {
		t.Skip("only as a child of the crash tests")
	}
	seed, err := strconv.ParseUint(args[1], 10, 64)
	check(t, err)
	var cuts []int
	for _, s := range args[3:] {
		cuts = append(cuts, must[int](t)(strconv.Atoi(s)))
	}
	to := cuts[len(cuts)-1]
	cuts = cuts[:len(cuts)-1]
	m := pastModel(t, seed, args[2] == "atomic", cuts)
	m.tree, err = Open(Config{Dir: args[0], Settle: 0})
	check(t, err)
	m.find(t)
	from := 0
	if len(cuts) > 0 {
		from = cuts[len(cuts)-1]
	}
	m.done = func(step int) { fmt.Printf("done %d\n", step) }
	m.run(t, from, to)
	check(t, unix.Kill(os.Getpid(), unix.SIGKILL))
	select {}
}

// crash runs the steps of a model in a process that is killed: after the last of them, or once it has told of so many. It returns the number
// of the last step that it told to be done.
func crash(t *testing.T, dir string, seed uint64, atomic bool, cuts []int, to, killAfter int) int {
	t.Helper()
	args := []string{dir, fmt.Sprint(seed), "all"}
	if atomic {
		args[2] = "atomic"
	}
	for _, cut := range append(cuts[:len(cuts):len(cuts)], to) {
		args = append(args, strconv.Itoa(cut))
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestCrashChild$", "-test.v")
	cmd.Env = append(os.Environ(), crashEnv+"="+strings.Join(args, "|"))
	out, err := cmd.StdoutPipe()
	check(t, err)
	cmd.Stderr = os.Stderr
	check(t, cmd.Start())
	last, told := -1, 0
	var all strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if n, ok := strings.CutPrefix(lines.Text(), "done "); ok {
			last = must[int](t)(strconv.Atoi(n))
			if told++; told == killAfter {
				check(t, cmd.Process.Kill())
			}
		} else {
			fmt.Fprintln(&all, lines.Text())
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != -1 {
		t.Fatalf("the child was not killed: %v\n%s", err, all.String())
	}
	return last
}

func TestTreeAfterCrashes(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			r := rand.New(rand.NewPCG(seed, 1000))
			var cuts []int
			to := 0
			for range 6 {
				to += 50 + r.IntN(300)
				crash(t, dir, 100+seed, false, cuts, to, 0)
				cuts = append(cuts, to)
				m := pastModel(t, 100+seed, false, cuts)
				m.tree = testTree(t, dir)
				m.find(t)
				m.compare(t)
				check(t, m.tree.Close())
			}
		})
	}
}

// recorder notes failures instead of failing.
type recorder struct {
	testing.TB
	failures []string
}

func (r *recorder) Helper() {}
func (r *recorder) Errorf(format string, args ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}
func (r *recorder) Fatal(args ...any)                 { panic(recorded(fmt.Sprint(args...))) }
func (r *recorder) Fatalf(format string, args ...any) { panic(recorded(fmt.Sprintf(format, args...))) }

type recorded string

// differs says in what a tree differs from a model.
func (m *model) differs(t testing.TB) (failures []string) {
	r := &recorder{TB: t}
	defer func() {
		failures = r.failures
		if p := recover(); p != nil {
			failures = append(failures, string(p.(recorded)))
		}
	}()
	m.find(r)
	m.compare(r)
	return
}

// TestTreeAfterKillsInTheMiddle kills the daemon at any instant: what was acknowledged is there, and of the operation at work all or nothing.
func TestTreeAfterKillsInTheMiddle(t *testing.T) {
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(7, 7))
	var cuts []int
	from := 0
	for range 12 {
		last := crash(t, dir, 200, true, cuts, from+100_000, 20+r.IntN(400))
		if last < from {
			t.Fatalf("no step was done after %d", from)
		}
		tree := testTree(t, dir)
		var failures []string
		for _, to := range []int{last + 1, last + 2} {
			m := pastModel(t, 200, true, append(cuts[:len(cuts):len(cuts)], to))
			m.tree = tree
			if failures = m.differs(t); len(failures) == 0 {
				from = to
				break
			}
		}
		if len(failures) > 0 {
			t.Fatalf("after step %d: %s", last, strings.Join(failures, "\n"))
		}
		cuts = append(cuts, from)
		noProblems(t, tree)
		check(t, tree.Close())
	}
}
