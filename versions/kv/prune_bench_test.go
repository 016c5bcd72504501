package kv

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"sharefs"
)

// BenchmarkPrune thins rows of which each has ten former states down to two, in a file on the disk: a million of states, or as many millions as
// SHAREFS_PRUNE_MILLIONS says.
func BenchmarkPrune(b *testing.B) {
	millions := 1
	if n, err := strconv.Atoi(os.Getenv("SHAREFS_PRUNE_MILLIONS")); err == nil {
		millions = n
	}
	const states = 10
	rows := millions * 1e6 / states
	for range b.N {
		b.StopTimer()
		db := open(b, Config{Dir: b.TempDir()})
		var ends []sharefs.HLC
		for range states + 1 {
			put(b, db, spaceC, "k", "v")
			ends = append(ends, db.clock.Next())
			must(b, db.Boundary(ends[len(ends)-1]))
		}
		must(b, db.Checkpoint())
		fillPast(b, db, rows, ends)
		db.readers.pause() // those that were begun before
		db.readers.resume()
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		b.StartTimer()
		begun := time.Now()
		p, err := db.Prune(Keep{Since: ends[states], At: []sharefs.HLC{ends[4]}}, false)
		must(b, err)
		must(b, p.all(spaceA, nil))
		took := time.Since(begun)
		b.StopTimer()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(p.States)/took.Seconds(), "states/s")
		b.ReportMetric(float64(p.Removed)/took.Seconds(), "removed/s")
		b.ReportMetric(float64(after.Sys)/1e6, "MB-of-process")
		begun = time.Now()
		must(b, p.Epochs(func() error { return nil }))
		b.ReportMetric(time.Since(begun).Seconds(), "s-for-epochs")
		if want := uint64(rows) * (states - 1); p.Removed != want {
			b.Errorf("%d of %d states were removed, want %d", p.Removed, p.States, want)
		}
		begun = time.Now()
		put(b, db, spaceA, "x", "y")
		must(b, db.Checkpoint())
		b.ReportMetric(float64(time.Since(begun).Milliseconds()), "ms-to-apply-after")
		must(b, db.Close())
	}
}

// fillPast writes rows with former states, one for each epoch but the last, straight into meta.db.
func fillPast(b *testing.B, db *DB, rows int, ends []sharefs.HLC) {
	b.Helper()
	var stamps []sharefs.HLC
	must(b, db.Boundaries(0, sharefs.MaxHLC, func(e Epoch) bool { stamps = append(stamps, e.Stamp); return true }))
	value := []byte(fmt.Sprintf("\x01%060d", 7))
	for at := 0; at < rows; {
		must(b, db.bolt.Update(func(tx *bbolt.Tx) error {
			live, past := tx.Bucket(db.spaces[spaceA].live), tx.Bucket(db.spaces[spaceA].past)
			live.FillPercent, past.FillPercent = fill, fill
			for n := 0; n < 50_000 && at < rows; n, at = n+1, at+1 {
				key := binary.BigEndian.AppendUint64(nil, uint64(at))
				for i := len(ends) - 2; i >= 0; i-- {
					if err := past.Put(pastKey(nil, key, stamps[i]), value); err != nil {
						return err
					}
				}
				if err := live.Put(key, append(be(uint64(stamps[len(ends)-1])), value...)); err != nil {
					return err
				}
			}
			return nil
		}))
	}
}
