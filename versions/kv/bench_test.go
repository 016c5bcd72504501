package kv

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"testing"
)

func key8(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// fillBatch makes a batch as a create does: dentry, inode and some smaller rows.
func fillBatch(b *Batch, n uint64, rows int) {
	b.Reset()
	value := make([]byte, 80)
	for i := range rows {
		binary.BigEndian.PutUint64(value, n)
		space := uint8(spaceA)
		if i%2 == 1 {
			space = spaceB
		}
		b.Put(space, append(key8(n/100), key8(n*0x9E3779B97F4A7C15+uint64(i))...), value)
	}
}

func BenchmarkCommit(b *testing.B) {
	for _, rows := range []int{1, 6} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			db := open(b, Config{Dir: b.TempDir()})
			var batch Batch
			n := uint64(0)
			for b.Loop() {
				n++
				fillBatch(&batch, n, rows)
				if _, err := db.Commit(&batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(db.Stats().Waits), "waits")
		})
	}
}

// Durable commits from many goroutines at once share their syncs.
func BenchmarkCommitSync(b *testing.B) {
	for _, par := range []int{1, 32} {
		b.Run(fmt.Sprintf("goroutines=%d", 2*par), func(b *testing.B) {
			db := open(b, Config{Dir: b.TempDir()})
			var n atomic.Uint64
			b.SetParallelism(par)
			b.RunParallel(func(pb *testing.PB) {
				var batch Batch
				for pb.Next() {
					fillBatch(&batch, n.Add(1), 6)
					seq, err := db.Commit(&batch)
					if err == nil {
						err = db.SyncTo(seq)
					}
					if err != nil {
						b.Error(err)
						return
					}
				}
			})
			s := db.Stats()
			b.ReportMetric(float64(s.Commits)/float64(s.Syncs), "commits/sync")
		})
	}
}

const benchRows = 200_000

func benchDB(b *testing.B, checkpoint bool) *DB {
	size := 64 << 20
	db := open(b, Config{Dir: b.TempDir(), MemtableSize: size})
	var batch Batch
	for n := uint64(1); n <= benchRows; n += 100 {
		batch.Reset()
		for i := n; i < n+100; i++ {
			batch.Put(spaceA, key8(i), make([]byte, 80))
		}
		if _, err := db.Commit(&batch); err != nil {
			b.Fatal(err)
		}
	}
	if checkpoint {
		if err := db.Checkpoint(); err != nil {
			b.Fatal(err)
		}
	}
	return db
}

func BenchmarkGet(b *testing.B) {
	for _, from := range []string{"memtable", "bbolt"} {
		b.Run(from, func(b *testing.B) {
			db := benchDB(b, from == "bbolt")
			n := uint64(0)
			key := make([]byte, 8)
			for b.Loop() {
				n = n*6364136223846793005 + 1442695040888963407
				binary.BigEndian.PutUint64(key, n>>20%benchRows+1)
				if _, ok, err := db.Get(spaceA, key); err != nil || !ok {
					b.Fatal(ok, err)
				}
			}
		})
	}
}

// One directory of 500 names.
func BenchmarkScan(b *testing.B) {
	for _, from := range []string{"memtable", "bbolt"} {
		b.Run(from, func(b *testing.B) {
			db := benchDB(b, from == "bbolt")
			n := uint64(0)
			for b.Loop() {
				n = (n + 7919) % (benchRows - 500)
				rows := 0
				err := db.Scan(spaceA, key8(n+1), key8(n+501), func(_, _ []byte) bool { rows++; return true })
				if err != nil || rows != 500 {
					b.Fatal(rows, err)
				}
			}
		})
	}
}
