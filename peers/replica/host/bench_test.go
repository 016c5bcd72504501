package host

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkAuthorAndApply has 10,000 small files written down on one host, and made on another one that fetches them from memory.
func BenchmarkAuthorAndApply(b *testing.B) {
	const files = 10_000
	for b.Loop() {
		all := sites(b, 2)
		x, y := all[0], all[1]
		for d := range 100 {
			x.mkdir(fmt.Sprint(d))
			for f := range files / 100 {
				x.write(fmt.Sprintf("%d/%d", d, f), fmt.Sprintf("file %d in %d", f, d))
			}
		}
		x.settle()
		stage := func(name string, do func()) {
			began := time.Now()
			do()
			b.ReportMetric(files/time.Since(began).Seconds(), name+"/s")
		}
		stage("authored", x.tell)
		stage("taken", func() {
			for y.hear(x, 4096) > 0 {
			}
		})
		list, err := y.rep.Wanted(files, nil)
		check(b, err)
		stage("gathered", func() {
			l, _, err := y.tree.Gather(Contents(list), y)
			check(b, err)
			b.Cleanup(l.End)
		})
		stage("applied", func() {
			n, err := y.rep.Apply()
			check(b, err)
			if n > 0 {
				b.Fatalf("%d names wait", n)
			}
		})
		stage("compared", y.tell)
		began := time.Now()
		x.rename("1", "moved")
		n, err := x.rep.Author()
		check(b, err)
		y.hear(x, 1)
		check(b, must2(y.rep.Apply()))
		b.ReportMetric(float64(n), "records/rename")
		b.ReportMetric(float64(time.Since(began).Milliseconds()), "ms/rename")
	}
}
