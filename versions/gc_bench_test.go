package versions

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"sharefs"
	"sharefs/versions/kv"
	"sharefs/versions/pack"
)

// manyVersions returns a tree with n versions of n/10 files, each of two chunks of which one is its own, as rows alone: there are no packs.
func manyVersions(b *testing.B, n int) *Tree {
	tree := testTree(b, b.TempDir(), byHand)
	var rows kv.Batch
	r := rand.New(rand.NewPCG(1, 1))
	var id sharefs.ChunkID
	name := func() sharefs.ChunkID {
		for i := 0; i < len(id); i += 8 {
			binary.BigEndian.PutUint64(id[i:], r.Uint64())
		}
		return id
	}
	var shared sharefs.ChunkID
	chunk := func(id sharefs.ChunkID) {
		loc := pack.Loc{Pack: pack.ID{byte(id[0])}, Off: 64, Sealed: 5000, Plain: 9000}
		rows.Put(spaceChunk, id[:], loc.Append(nil))
	}
	for i := range n {
		ino, own := sharefs.Ino(1000+i/10), uint64(1+i%10)
		if own == 1 {
			shared = name()
			chunk(shared)
		}
		mine := name()
		chunk(mine)
		v := version{ino: ino, own: own, place: placeKept, at: sharefs.HLC(i) << 16, size: 18000, mode: 0o100644, mtime: sharefs.Time(i) * 1e9, ctime: sharefs.Time(i) * 1e9}
		v.top.spans = []span{{len: 9000, id: shared}, {len: 9000, id: mine}}
		rows.Put(spaceVersion, versionKey(ino, own), v.encode())
		if rows.Len() > 2000 || i == n-1 {
			must[uint64](b)(tree.db.Commit(&rows))
			rows.Reset()
		}
	}
	check(b, tree.db.Checkpoint())
	return tree
}

// BenchmarkGCMark measures a dry run over SHAREFS_GC_VERSIONS versions, 100,000 unless told.
func BenchmarkGCMark(b *testing.B) {
	n := 100_000
	if s := os.Getenv("SHAREFS_GC_VERSIONS"); s != "" {
		n = must[int](b)(strconv.Atoi(s))
	}
	tree := manyVersions(b, n)
	runtime.GC()
	var r GCReport
	for b.Loop() {
		r = collect(b, tree, GCOptions{DryRun: true})
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "versions/s")
	b.ReportMetric(float64(r.MarkBytes)/float64(n), "mark-B/version")
	if status, err := os.ReadFile("/proc/self/status"); err == nil {
		if _, rest, ok := strings.Cut(string(status), "VmHWM:"); ok {
			line, _, _ := strings.Cut(rest, "\n")
			b.Logf("%d versions, %d chunks: peak %s", n, r.Chunks, strings.TrimSpace(line))
		}
	}
}

// BenchmarkGCFree measures how fast room is given back: packs of 32 MiB of which nothing lives, a quarter, or three quarters.
func BenchmarkGCFree(b *testing.B) {
	for _, live := range []int{0, 1, 3} {
		b.Run(fmt.Sprintf("%d of 4 live", live), func(b *testing.B) {
			var freed, before uint64
			for b.Loop() {
				b.StopTimer()
				tree := testTree(b, b.TempDir(), byHand)
				for i := range 256 {
					save(b, tree, fmt.Sprint(i), noise(uint64(i), 1<<20))
					if i%16 == 15 {
						capture(b, tree)
					}
				}
				capture(b, tree)
				for i := range 256 {
					if i%4 >= live {
						drop(b, tree, lookup(b, tree, sharefs.RootIno, fmt.Sprint(i)).Ino, 1)
					}
				}
				b.StartTimer()
				r := collect(b, tree, GCOptions{Hurry: true})
				b.StopTimer()
				freed += r.Freed
				before += r.BytesBefore
				b.Logf("\n%s", r.Text())
				check(b, tree.Close())
				b.StartTimer()
			}
			b.ReportMetric(float64(freed)/b.Elapsed().Seconds()/1e6, "MB-freed/s")
			b.ReportMetric(float64(freed)/float64(before)*100, "%freed")
		})
	}
}
