package main

import (
	"slices"
	"strings"
	"testing"

	"sharefs/integration/race"
)

const run = `{"Action":"start","Package":"p/a"}
{"Action":"run","Package":"p/a","Test":"TestGood"}
{"Action":"output","Package":"p/a","Test":"TestGood","Output":"=== RUN   TestGood\n"}
{"Action":"pass","Package":"p/a","Test":"TestGood","Elapsed":0.1}
{"Action":"run","Package":"p/a","Test":"TestParts"}
{"Action":"pass","Package":"p/a","Test":"TestParts/one","Elapsed":0.1}
{"Action":"output","Package":"p/a","Test":"TestParts/two","Output":"    x_test.go:5: needs root\n"}
{"Action":"skip","Package":"p/a","Test":"TestParts/two","Elapsed":0}
{"Action":"pass","Package":"p/a","Test":"TestParts","Elapsed":0.1}
{"Action":"pass","Package":"p/a","Elapsed":1.5}
{"Action":"skip","Package":"p/none","Elapsed":0}
`

const bad = `{"Action":"start","Package":"p/b"}
{"Action":"run","Package":"p/b","Test":"TestBad"}
{"Action":"output","Package":"p/b","Test":"TestBad","Output":"    x_test.go:9: wrong\n"}
{"Action":"fail","Package":"p/b","Test":"TestBad","Elapsed":0.1}
{"Action":"fail","Package":"p/b","Elapsed":0.2}
`

const leaves = `{"Action":"output","Package":"p/a","Test":"TestSweep","Output":"    x_test.go:5: ` + race.Left + `one hand\n"}
{"Action":"skip","Package":"p/a","Test":"TestSweep","Elapsed":0}
{"Action":"output","Package":"p/b","Test":"TestSeeds/2","Output":"    x_test.go:5: ` + race.Left + `one hand\n"}
{"Action":"skip","Package":"p/b","Test":"TestSeeds/2","Elapsed":0}
{"Action":"output","Package":"p/b","Test":"TestSeeds/3","Output":"    x_test.go:5: ` + race.Left + `one hand\n"}
{"Action":"skip","Package":"p/b","Test":"TestSeeds/3","Elapsed":0}
{"Action":"pass","Package":"p/b","Test":"TestSeeds","Elapsed":0}
`

const again = `{"Action":"pass","Package":"p/a","Test":"TestSweep","Elapsed":1}
{"Action":"pass","Package":"p/b","Test":"TestSeeds/2","Elapsed":1}
{"Action":"fail","Package":"p/b","Test":"TestSeeds/3","Elapsed":1}
`

func summarize(t *testing.T, text string) *summary {
	t.Helper()
	s := &summary{results: map[name]*result{}}
	if err := s.read(strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAGoodRun(t *testing.T) {
	s := summarize(t, run)
	var out strings.Builder
	if !s.report(&out) {
		t.Errorf("it is called bad:\n%s", out.String())
	}
	if c := s.counts(""); c != (counts{passed: 2, skipped: 1}) {
		t.Errorf("%v", c)
	}
	for _, want := range []string{"ok    p/a", "2 passed, 0 failed, 1 skipped", "skip  TestParts/two: x_test.go:5: needs root"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
}

// Those that were left out are run once more, each of them, and nothing else; whichever of the runs is read last, what ran counts.
func TestWhatWasLeftOutIsRun(t *testing.T) {
	if got := summarize(t, run+leaves).leftOut(); !slices.Equal(got, []string{"-run=^(TestSweep|TestSeeds)$", "p/a", "p/b"}) {
		t.Errorf("%q", got)
	}
	if got := summarize(t, run).leftOut(); got != nil {
		t.Errorf("%q", got)
	}
	if c := summarize(t, leaves).counts(""); c != (counts{skipped: 3}) {
		t.Errorf("%v", c)
	}
	for _, both := range []string{leaves + again, again + leaves} {
		if c := summarize(t, both).counts(""); c != (counts{passed: 2, failed: 1}) {
			t.Errorf("%v", c)
		}
	}
}

func TestWhateverGoesWrongIsSeen(t *testing.T) {
	hang := `{"Action":"start","Package":"p/c"}
{"Action":"run","Package":"p/c","Test":"TestHang"}
{"Action":"output","Package":"p/c","Test":"TestHang","Output":"panic: test timed out\n"}
`
	for what, c := range map[string]struct{ text, want string }{
		"a failure":                {run + bad, "x_test.go:9: wrong"},
		"a test that never ended":  {run + hang, "panic: test timed out"},
		"a package without a test": {`{"Action":"fail","Package":"p/d","Elapsed":0}` + "\n", "FAIL  p/d"},
		"a failure to build":       {`{"ImportPath":"p/e","Action":"build-output","Output":"e.go:1: broken\n"}` + "\n" + `{"ImportPath":"p/e","Action":"build-fail"}` + "\n" + run, "e.go:1: broken"},
		"no JSON":                  {"go: cannot find main module\n", "cannot find main module"},
		"nothing":                  {"", ""},
	} {
		var out strings.Builder
		if summarize(t, c.text).report(&out) || !strings.Contains(out.String(), c.want) {
			t.Errorf("%s is not seen:\n%s", what, out.String())
		}
	}
}
