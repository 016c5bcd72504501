// Command espbench measures ESP beside what it is compared with: TCP, crypto/tls 1.3 and quic-go on loopback, TCP BBR and
// TCP CUBIC of the kernel on emulated links. All subjects of a row take turns, round by round, in one process and on one
// machine, so that whatever else it does falls on each alike; the medians are what is printed.
//
//	go run . [-run REGEXP] [-rounds N] [-time D] [-quick] [-md FILE] [-cpuprofile FILE]
//
// It is a module of its own, so that the rivals are no dependencies of the project. The links need root, to make network
// namespaces; without it those rows say so. A gate that is missed is marked, and the exit code stays 0: timing is never a
// test.
package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime/pprof"
	"time"
)

type options struct {
	rounds int
	time   time.Duration // of one measurement
	match  *regexp.Regexp
	md     string
}

func main() {
	var o options
	run := flag.String("run", ".", "measure only tables and rows whose name matches this regular expression")
	quick := flag.Bool("quick", false, "one short round of each row, to see that all runs")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds over all rows of a table; medians are printed")
	flag.DurationVar(&o.time, "time", 3*time.Second, "length of a measurement on loopback; on links it is three times that")
	flag.StringVar(&o.md, "md", "", "write the tables into this file too")
	profile := flag.String("cpuprofile", "", "write a profile of all that is measured into this file")
	flag.Parse()
	stop, err := startProfile(*profile)
	if err != nil {
		fail(err)
	}
	defer stop()
	if o.match, err = regexp.Compile(*run); err != nil {
		fail(fmt.Errorf("-run %s: %w", *run, err))
	}
	if *quick {
		o.rounds, o.time = 1, 300*time.Millisecond
	}
	var out []table
	for _, suite := range suites {
		t, err := suite(&o)
		if err != nil {
			fail(err)
		}
		if t == nil {
			continue
		}
		fmt.Println(t.markdown())
		out = append(out, *t)
	}
	if o.md != "" {
		if err := writeTables(o.md, out); err != nil {
			fail(err)
		}
	}
}

// startProfile profiles the processors until stop is called, unless file is empty.
func startProfile(file string) (stop func(), err error) {
	if file == "" {
		return func() {}, nil
	}
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		f.Close()
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		f.Close()
	}, nil
}

// suites in the order in which they run.
var suites = []func(*options) (*table, error){loopback, latency, compression, lossyLink, fairness, aggregation}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "espbench:", err)
	os.Exit(1)
}
