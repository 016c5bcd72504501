package journal_test

import (
	"fmt"
	"sync"
	"testing"

	"sharefs"
	"sharefs/versions/kv/journal"
	"sharefs/versions/kv/journal/simdisk"
)

// A tail beside those who append, sync, rotate and remove gives out each synced record once and in order.
func TestTailBesideWriters(t *testing.T) {
	const records = 3000
	j, _ := reopen(t, simdisk.New(), 0)
	var work sync.WaitGroup
	work.Go(func() {
		for i := range records {
			payload := fmt.Sprint(i + 1)
			if i%500 == 7 { // longer than what is read at a time
				payload += string(make([]byte, 600_000))
			}
			seq, err := add(j, payload)
			if err != nil || seq != uint64(i+1) {
				t.Errorf("record %d: number %d, %v", i+1, seq, err)
				return
			}
			if i%10 == 9 {
				if err := j.SyncTo(seq); err != nil {
					t.Error(err)
				}
			}
			if i%100 == 50 {
				if err := j.Rotate(); err != nil {
					t.Error(err)
				}
			}
		}
	})
	tail := j.Tail(0)
	for seen := uint64(0); seen < records; {
		n, err := tail.Next(1000, func(r journal.Record) error {
			seen++
			if r.Seq != seen || r.Seq > j.Synced() {
				t.Errorf("record %d where %d follows", r.Seq, seen)
			}
			var number uint64
			if _, err := fmt.Sscan(string(r.Payload[:min(10, len(r.Payload))]), &number); err != nil || number != seen {
				t.Errorf("record %d holds %.10q", seen, r.Payload)
			}
			return nil
		})
		if err != nil || t.Failed() {
			t.Error(err)
			break
		}
		if n > 0 && seen%7 == 0 {
			must(t, j.RemoveTo(seen))
		}
	}
	work.Wait()
	must(t, j.RemoveTo(records))
	if _, err := j.Tail(5).Next(1, nil); sharefs.KindOf(err) != sharefs.KindNotExist {
		t.Errorf("what is removed: %v", err)
	}
	must(t, j.Close())
	if _, err := j.Tail(5).Next(1, nil); sharefs.KindOf(err) != sharefs.KindNotExist {
		t.Errorf("a closed journal: %v", err)
	}
}

// What is damaged behind the journal's back is said to be, and nothing of it given out.
func TestTailOverDamage(t *testing.T) {
	disk := simdisk.New()
	j, _ := reopen(t, disk, 0)
	for i := range 3 {
		mustAdd(t, j, fmt.Sprint("record ", i))
	}
	must(t, j.SyncTo(3))
	names, err := disk.List()
	must(t, err)
	f, err := disk.Open(names[0])
	must(t, err)
	_, err = f.WriteAt([]byte{'X'}, journal.SegmentHeaderSize+2*(journal.HeaderSize+8)-1)
	must(t, err)
	n, err := j.Tail(0).Next(1000, func(r journal.Record) error {
		if r.Seq != 1 {
			t.Errorf("record %d was given out", r.Seq)
		}
		return nil
	})
	if n != 1 || sharefs.KindOf(err) != sharefs.KindCorrupt {
		t.Errorf("%d records, %v", n, err)
	}
}
