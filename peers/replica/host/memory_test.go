package host

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"testing"
)

// heap returns what is in use of the heap, in bytes, after all was collected.
func heap() float64 {
	runtime.GC()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// BenchmarkMemory measures what a replica holds in memory for each record, of 20,000 small files in 200 directories: that of who wrote them, that of who took and made them, and that of the same opened anew.
// With PROFILE=DIR set it leaves heap profiles there.
func BenchmarkMemory(b *testing.B) {
	const files, dirs = 20_000, 200
	leave := func(name string) {
		if dir := os.Getenv("PROFILE"); dir != "" {
			f, err := os.Create(dir + "/" + name)
			check(b, err)
			check(b, pprof.Lookup("heap").WriteTo(f, 0))
			check(b, f.Close())
		}
	}
	for b.Loop() {
		all := sites(b, 2)
		x, y := all[0], all[1]
		for d := range dirs {
			x.mkdir(fmt.Sprint(d))
			for f := range files / dirs {
				x.write(fmt.Sprintf("%d/file-%d.txt", d, f), fmt.Sprintf("file %d in %d", f, d))
			}
		}
		x.settle()
		x.tell()
		for y.hear(x, 4096) > 0 {
			check(b, must2(y.apply()))
		}
		check(b, must2(y.apply()))
		y.tell()
		n, err := y.rep.Known()
		check(b, err)
		for _, s := range all {
			name := map[*site]string{x: "wrote", y: "took"}[s]
			check(b, s.store.DB.Sync())
			with := heap()
			leave(name)
			s.rep = nil
			without := heap()
			b.ReportMetric((with-without)/float64(n), name+"-B/record")
		}
		before := heap()
		y.openReplica()
		b.ReportMetric((heap()-before)/float64(n), "reopened-B/record")
		leave("reopened")
		b.ReportMetric(float64(n)/files, "records/file")
	}
}
