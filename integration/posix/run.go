package posix

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sort"
	"strings"
	"time"
)

// Case is one thing that a filesystem should do.
type Case struct {
	Name string
	Root bool // needs privileges
	Run  func(*C)
}

// Status is what became of a case.
type Status uint8

const (
	Passed  Status = iota
	Failed         // the directory's filesystem does it differently
	Skipped        // cannot be asked here; Detail says why
)

func (s Status) String() string { return [...]string{"passed", "failed", "skipped"}[s] }

// Result is what became of one case.
type Result struct {
	Name   string
	Status Status
	Detail string
	Took   time.Duration
}

// C is what a case works with. It runs in an empty directory of its own, which is the thread's working directory.
type C struct {
	Dir  string // the same, absolute
	Base Cred   // who runs the suite
	m    *Machine
}

type outcome struct {
	status Status
	detail string
}

// Fatalf ends the case as failed.
func (c *C) Fatalf(format string, args ...any) {
	panic(outcome{Failed, fmt.Sprintf(format, args...)})
}

// Skipf ends the case as one that cannot be asked here.
func (c *C) Skipf(format string, args ...any) {
	panic(outcome{Skipped, fmt.Sprintf(format, args...)})
}

// Must ends the case as failed on an error.
func (c *C) Must(err error) {
	if err != nil {
		_, _, line := caller()
		c.Fatalf("line %d: %v", line, err)
	}
}

// Want ends the case as failed where got is not want.
func (c *C) Want(what string, got, want any) {
	if fmt.Sprint(got) != fmt.Sprint(want) {
		_, _, line := caller()
		c.Fatalf("line %d: %s: %v, want %v", line, what, got, want)
	}
}

// Run runs the cases whose name contains match in a directory, as who, which is this process's user or, for root, anybody.
func Run(dir string, who Cred, match string) ([]Result, error) {
	var results []Result
	for i, cs := range Cases() {
		if !strings.Contains(cs.Name, match) {
			continue
		}
		// Readable by anybody, as the users that a case plays have to get in.
		sub := filepath.Join(dir, fmt.Sprintf("case%d", i))
		if err := os.Mkdir(sub, 0o755); err != nil {
			return results, err
		}
		if err := os.Chmod(sub, 0o755); err != nil {
			return results, err
		}
		if who.UID != os.Geteuid() {
			if err := os.Chown(sub, who.UID, who.GID); err != nil {
				return results, err
			}
		}
		start := time.Now()
		o := runCase(cs, sub, who)
		results = append(results, Result{cs.Name, o.status, o.detail, time.Since(start)})
		if err := removeAll(sub); err != nil {
			return results, fmt.Errorf("after %s: %w", cs.Name, err)
		}
	}
	return results, nil
}

func runCase(cs Case, dir string, who Cred) (o outcome) {
	if cs.Root && who.UID != 0 {
		return outcome{Skipped, "needs root"}
	}
	err := OnThread(dir, who, func() {
		c := &C{Dir: dir, Base: who}
		c.m = newMachine(c)
		defer func() {
			if c.m.as != nil {
				if err := Become(who, false); err != nil && o.status == Passed {
					o = outcome{Failed, err.Error()}
				}
			}
			c.m.closeAll()
			// The thread ends in its own time, and the main thread never: it must not keep the filesystem busy.
			if err := os.Chdir("/"); err != nil && o.status == Passed {
				o = outcome{Failed, err.Error()}
			}
		}()
		defer func() {
			switch r := recover().(type) {
			case nil:
			case outcome:
				o = r
			default:
				o = outcome{Failed, fmt.Sprintf("%v\n%s", r, debug.Stack())}
			}
		}()
		cs.Run(c)
	})
	if err != nil {
		return outcome{Failed, err.Error()}
	}
	return o
}

// removeAll removes a case's directory whatever modes it left behind, without following a path that is too long for the kernel.
func removeAll(dir string) error {
	if err := os.RemoveAll(dir); err == nil {
		return nil
	}
	filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// Summary counts results.
func Summary(results []Result) string {
	var n [3]int
	for _, r := range results {
		n[r.Status]++
	}
	return fmt.Sprintf("%d cases: %d passed, %d failed, %d skipped", len(results), n[Passed], n[Failed], n[Skipped])
}

// Compare returns the cases that fail, or are skipped, in results and passed in reference, as readable lines.
func Compare(reference, results []Result) []string {
	passed := map[string]bool{}
	for _, r := range reference {
		passed[r.Name] = r.Status == Passed
	}
	var out []string
	for _, r := range results {
		if r.Status != Passed && passed[r.Name] {
			out = append(out, fmt.Sprintf("%s: %v: %s", r.Name, r.Status, r.Detail))
		}
		delete(passed, r.Name)
	}
	for name, ok := range passed {
		if ok {
			out = append(out, name+": did not run")
		}
	}
	sort.Strings(out)
	return out
}
