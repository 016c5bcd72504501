// Command testsum makes a report of what go test -json wrote: a line for each package, the whole output of each test that failed, the
// reason of each that was skipped, and a total. It fails when a test failed, and when there is nothing to report on.
//
//	testsum FILE           the report of one run
//	testsum -total FILE…   one line that adds up several; a test that one of them skipped and another ran is counted as it ended there
//	testsum -left FILE     which tests left themselves out under the race detector (package race), as arguments of go test
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"sort"
	"strings"
)

// event is one line of go test -json (go doc test2json).
type event struct {
	Action     string
	Package    string
	ImportPath string // of build events
	Test       string
	Elapsed    float64 // seconds
	Output     string
}

// name is what a test or package is called by.
type name struct{ pkg, test string }

// result is what became of one test, or, with an empty test, of one package.
type result struct {
	name
	action  string // pass, fail or skip; empty: it never ended
	elapsed float64
	output  strings.Builder
}

// summary is all that one run said.
type summary struct {
	results map[name]*result
	order   []name
	other   strings.Builder // what belongs to no test: the output of the build, and what is no JSON
	broken  bool            // something was not built, or there is what is no JSON
}

func (s *summary) result(n name) *result {
	r := s.results[n]
	if r == nil {
		r = &result{name: n}
		s.results[n] = r
		s.order = append(s.order, n)
	}
	return r
}

// read takes a run in.
func (s *summary) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			s.line(line)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *summary) line(line []byte) {
	var e event
	if json.Unmarshal(line, &e) != nil || e.Action == "" {
		s.other.Write(line)
		s.broken = true
		return
	}
	switch e.Action {
	case "build-output":
		s.other.WriteString(e.Output)
	case "build-fail":
		s.broken = true
	case "output":
		s.result(name{e.Package, e.Test}).output.WriteString(e.Output)
	case "run", "start":
		s.result(name{e.Package, e.Test})
	case "pass", "fail", "skip":
		r := s.result(name{e.Package, e.Test})
		if weight[e.Action] >= weight[r.action] {
			r.action, r.elapsed = e.Action, e.Elapsed
		}
	}
}

// weight orders the ends of a test that ran more than once: the heavier one counts.
var weight = map[string]int{"skip": 1, "pass": 2, "fail": 3}

// counts adds up leaves: a test with subtests is not counted beside them.
type counts struct{ passed, failed, skipped int }

func (s *summary) counts(pkg string) (c counts) {
	parents := map[name]bool{}
	for _, n := range s.order {
		for i := range n.test {
			if n.test[i] == '/' {
				parents[name{n.pkg, n.test[:i]}] = true
			}
		}
	}
	for _, n := range s.order {
		r := s.results[n]
		switch {
		case n.test == "" || parents[n] && r.action != "fail" || pkg != "" && n.pkg != pkg:
		case r.action == "pass":
			c.passed++
		case r.action == "skip":
			c.skipped++
		default:
			c.failed++
		}
	}
	return c
}

func (c counts) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", c.passed, c.failed, c.skipped)
}

// report writes what a reader wants to know and tells whether all is well.
func (s *summary) report(w io.Writer) (ok bool) {
	ok = !s.broken
	fmt.Fprint(w, s.other.String())
	packages := 0
	for _, n := range s.order {
		if n.test != "" {
			continue
		}
		packages++
		r, c := s.results[n], s.counts(n.pkg)
		switch {
		case r.action == "skip":
			continue // no tests in it
		case r.action == "pass" && c.failed == 0:
			fmt.Fprintf(w, "ok    %-34s %6.1f s  %s\n", n.pkg, r.elapsed, c)
		default:
			ok = false
			fmt.Fprintf(w, "FAIL  %-34s %6.1f s  %s\n%s", n.pkg, r.elapsed, c, tail(r.output.String(), 200))
		}
		for _, m := range s.order {
			t := s.results[m]
			switch {
			case m.pkg != n.pkg || m.test == "" || t.action == "pass":
			case t.action == "skip":
				fmt.Fprintf(w, "skip  %s: %s\n", m.test, reason(t.output.String()))
			default:
				fmt.Fprintf(w, "--- %s\n%s", m.test, tail(t.output.String(), 400))
			}
		}
	}
	return ok && packages > 0
}

// reason picks what t.Skip said.
func reason(output string) string {
	var said []string
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- ") {
			said = append(said, line)
		}
	}
	return strings.Join(said, " ")
}

// tail is the end of a text.
func tail(text string, lines int) string {
	all := strings.SplitAfter(text, "\n")
	if len(all) <= lines {
		return text
	}
	return fmt.Sprintf("[%d lines left out]\n", len(all)-lines) + strings.Join(all[len(all)-lines:], "")
}

// left begins the reason of a test that left itself out under the race detector: race.Left of integration/race.
const left = "left to the run without the race detector: "

// leftOut returns what go test is to be called with to run the tests that were left out: a pattern, and the packages.
func (s *summary) leftOut() (args []string) {
	var tests, packages []string
	for _, n := range s.order {
		r := s.results[n]
		if r.action != "skip" || n.test == "" || !strings.Contains(reason(r.output.String()), left) {
			continue
		}
		test, _, _ := strings.Cut(n.test, "/")
		if !slices.Contains(tests, test) {
			tests = append(tests, test)
		}
		if !slices.Contains(packages, n.pkg) {
			packages = append(packages, n.pkg)
		}
	}
	if len(tests) == 0 {
		return nil
	}
	return append([]string{"-run=^(" + strings.Join(tests, "|") + ")$"}, packages...)
}

func load(paths []string) (*summary, error) {
	s := &summary{results: map[name]*result{}}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		err = s.read(f)
		f.Close()
		if err != nil {
			return nil, err
		}
	}
	sort.SliceStable(s.order, func(i, j int) bool { return s.order[i].pkg < s.order[j].pkg })
	return s, nil
}

func main() {
	args := os.Args[1:]
	flag := ""
	if len(args) > 0 && strings.HasPrefix(args[0], "-") {
		flag, args = args[0], args[1:]
	}
	s, err := load(args)
	if err != nil || len(args) == 0 {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(2)
	}
	ok := true
	switch flag {
	case "-total":
		c := s.counts("")
		fmt.Printf("TOTAL: %s\n", c)
		ok = c.failed == 0 && c.passed > 0
	case "-left":
		again := s.leftOut()
		fmt.Println(strings.Join(again, " "))
		ok = len(again) > 0
	default:
		ok = s.report(os.Stdout)
	}
	if !ok {
		os.Exit(1)
	}
}
