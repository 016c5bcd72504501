package host

import (
	"fmt"
	"testing"
	"time"

	"sharefs"
	"sharefs/peers/replica"
)

// BenchmarkProposers looks in turn at the trees of ten peers who propose 100 files each, beside 10,000 that are here: what a look costs that makes the tree, what one costs that comes
// round again, and what the trees take in memory.
func BenchmarkProposers(b *testing.B) {
	const files, proposers, each = 10_000, 10, 100
	for b.Loop() {
		all := sites(b, 1+proposers)
		a := all[0]
		a.standing = func(sharefs.PeerID) replica.Standing { return replica.Proposed }
		a.reopen()
		for d := range 100 {
			a.mkdir(fmt.Sprint(d))
			for f := range files / 100 {
				a.write(fmt.Sprintf("%d/%d", d, f), "x")
			}
		}
		a.settle()
		a.tell()
		for i, p := range all[1:] {
			p.mkdir(fmt.Sprintf("of %d", i))
			for f := range each {
				p.write(fmt.Sprintf("of %d/%d", i, f), "y")
			}
			p.settle()
			p.tell()
			for a.hear(p, 4096) > 0 {
			}
		}
		before := heap()
		for _, round := range []string{"first", "again"} {
			began := time.Now()
			for _, p := range all[1:] {
				if list, err := a.rep.List(p.self, ""); err != nil || len(list) != 101 {
					b.Fatalf("%d, %v", len(list), err)
				}
			}
			b.ReportMetric(float64(time.Since(began).Milliseconds())/proposers, "ms/look-"+round)
		}
		b.ReportMetric((heap()-before)/(1<<20), "MiB")
		n, err := a.rep.Known()
		check(b, err)
		b.ReportMetric(float64(n), "records")
	}
}
