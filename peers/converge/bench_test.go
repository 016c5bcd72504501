package converge

import (
	"encoding/binary"
	"fmt"
	"syscall"
	"testing"

	"sharefs"
	"sharefs/peers/record"
)

// many returns the records of n files in n/10 directories, ten of which lie in each other, in the order in which one host would author them.
func many(b *testing.B, n int) (all []Input, files []sharefs.FileID, last map[sharefs.FileID]record.ID) {
	b.Helper()
	at, ids := sharefs.HLC(1<<40), &counter{}
	say := func(body record.Body) *record.Record {
		at++
		r, err := record.New(record.ShareID{}, sharefs.PeerID{1}, at, body)
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, Input{r, Merged})
		return r
	}
	name := func() string {
		return sharefs.ChunkID(binary.BigEndian.AppendUint64(make([]byte, 24), ids.next())).String()[48:]
	}
	last = map[sharefs.FileID]record.ID{}
	dir := record.Root
	for i := range n {
		if i%10 == 0 {
			if i%100 == 0 {
				dir = record.Root
			}
			id := ids.file()
			say(&record.Place{File: id, Type: record.Directory, Parent: dir, Name: name()})
			dir = id
		}
		id := ids.file()
		say(&record.Place{File: id, Type: record.Regular, Parent: dir, Name: name()})
		last[id] = say(&record.Version{File: id, Size: 1, Spans: []record.Span{{Len: 1, ID: sharefs.ChunkID{byte(i), byte(i >> 8)}}}, Key: sharefs.KeyID{1}}).ID()
		files = append(files, id)
	}
	return all, files, last
}

// measure reports processor time beside the time on the clock, which other programs lengthen.
func measure(b *testing.B, records int, work func()) {
	b.Helper()
	var from, to syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &from); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	work()
	b.StopTimer()
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &to); err != nil {
		b.Fatal(err)
	}
	cpu := to.Utime.Nano() + to.Stime.Nano() - from.Utime.Nano() - from.Stime.Nano()
	b.ReportMetric(float64(cpu)/float64(records), "cpu-ns/record")
}

var sizes = []struct {
	n    int
	name string
}{{1000, "1e3 files"}, {10000, "1e4 files"}, {100000, "1e5 files"}}

// BenchmarkAll is a host that receives everything at once.
func BenchmarkAll(b *testing.B) {
	for _, size := range sizes {
		b.Run(size.name, func(b *testing.B) {
			all, _, _ := many(b, size.n)
			measure(b, b.N*len(all), func() {
				for range b.N {
					New().Add(all...)
				}
			})
		})
	}
}

// BenchmarkOne is one more record in a tree of many files: a version, a rename, a directory that moves with the latest time, and a directory whose time
// is before all others.
func BenchmarkOne(b *testing.B) {
	const late, early = 1 << 41, 1 << 39
	for _, size := range sizes {
		all, files, last := many(b, size.n)
		dir := all[0].Record.Body.(*record.Place).File
		tree := New()
		tree.Add(all...)
		for _, c := range []struct {
			name string
			at   sharefs.HLC
			body func(i int) record.Body
		}{
			{"version", late, func(i int) record.Body {
				f := files[i%size.n]
				return &record.Version{File: f, Parents: []record.ID{last[f]}, Mtime: sharefs.Time(i)}
			}},
			{"rename", late, func(i int) record.Body {
				return &record.Place{File: files[i%size.n], Type: record.Regular, Parent: dir, Name: fmt.Sprint("n", i)}
			}},
			{"move a directory", late, func(i int) record.Body {
				return &record.Place{File: dir, Type: record.Directory, Name: fmt.Sprint("d", i)}
			}},
			{"the oldest directory", early, func(i int) record.Body {
				return &record.Place{File: sharefs.FileID{0xab, byte(i), byte(i >> 8), byte(i >> 16)}, Type: record.Directory, Name: fmt.Sprint("e", i)}
			}},
		} {
			done := 0 // of one name, over all lengths of the benchmark
			b.Run(size.name+", "+c.name, func(b *testing.B) {
				in := make([]Input, b.N)
				for i := range in {
					body := c.body(done)
					r, err := record.New(record.ShareID{}, sharefs.PeerID{2}, c.at+sharefs.HLC(done), body)
					if err != nil {
						b.Fatal(err)
					}
					if v, ok := body.(*record.Version); ok {
						last[v.File] = r.ID()
					}
					in[i] = Input{r, Merged}
					done++
				}
				measure(b, b.N, func() {
					for _, i := range in {
						if len(tree.Add(i)) == 0 {
							b.Fatal("nothing changes")
						}
					}
				})
			})
		}
	}
}

// BenchmarkWhole is the specification.
func BenchmarkWhole(b *testing.B) {
	for _, size := range sizes[:2] {
		b.Run(size.name, func(b *testing.B) {
			all, _, _ := many(b, size.n)
			measure(b, b.N*len(all), func() {
				for range b.N {
					Whole(all)
				}
			})
		})
	}
}
