package journal_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"

	"sharefs"
	"sharefs/integration/race"
	"sharefs/versions/kv/journal"
	"sharefs/versions/kv/journal/simdisk"
)

// reopen opens a journal and returns it with the payloads it replayed.
func reopen(t *testing.T, fs journal.FS, after uint64) (*journal.Journal, []string) {
	t.Helper()
	var got []string
	j, err := journal.Open(fs, after, func(r journal.Record) error {
		if want := after + uint64(len(got)) + 1; r.Seq != want {
			t.Fatalf("record %d, want %d", r.Seq, want)
		}
		got = append(got, string(r.Payload))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j, got
}

func add(j *journal.Journal, payload string) (uint64, error) {
	return j.Append(append(make([]byte, journal.HeaderSize), payload...))
}

func mustAdd(t *testing.T, j *journal.Journal, payload string) uint64 {
	t.Helper()
	seq, err := add(j, payload)
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestReplayOnRealDirectory(t *testing.T) {
	fs := journal.Dir(t.TempDir())
	j, got := reopen(t, fs, 0)
	if len(got) != 0 {
		t.Fatalf("a new journal holds %q", got)
	}
	for i := range 10 {
		if seq := mustAdd(t, j, fmt.Sprint("record ", i)); seq != uint64(i+1) {
			t.Fatalf("number %d", seq)
		}
		if i%3 == 2 {
			must(t, j.Prepare())
			must(t, j.Rotate())
		}
	}
	if s := j.Stats(); s.Segments != 4 || s.Last != 10 || s.Synced != 0 || s.Appends != 10 {
		t.Errorf("%+v", s)
	}
	must(t, j.SyncTo(4))
	if s := j.Stats(); s.Synced != 10 {
		t.Errorf("synced to %d; a sync takes along what there is", s.Synced)
	}
	must(t, j.RemoveTo(5)) // of 1–3 4–6 7–9 10 the first
	if s := j.Stats(); s.Segments != 3 {
		t.Errorf("%d segments", s.Segments)
	}
	must(t, j.Close())
	if _, err := add(j, "late"); sharefs.KindOf(err) != sharefs.KindStale {
		t.Errorf("append to a closed journal: %v", err)
	}

	for _, after := range []uint64{3, 5, 9, 10} {
		last, err := journal.Read(fs, after, func(journal.Record) error { return nil })
		if last != 10 || err != nil {
			t.Errorf("read after %d: %d %v", after, last, err)
		}
	}
	j, got = reopen(t, fs, 5)
	if len(got) != 5 || got[0] != "record 5" {
		t.Errorf("replayed %q", got)
	}
	if seq := mustAdd(t, j, "more"); seq != 11 {
		t.Errorf("number %d", seq)
	}
	must(t, j.Discard())
	if names, err := fs.List(); len(names) != 0 || err != nil {
		t.Errorf("left behind: %q %v", names, err)
	}
}

func TestLimits(t *testing.T) {
	j, _ := reopen(t, simdisk.New(), 0)
	for _, n := range []int{0, journal.HeaderSize, journal.HeaderSize + journal.MaxPayload + 1} {
		if _, err := j.Append(make([]byte, n)); sharefs.KindOf(err) != sharefs.KindInvalid {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// history drives a journal on a simulated disk and knows at which moment what was promised.
type history struct {
	disk    *simdisk.Disk
	acked   []int // acked[i]: operations on the disk when record i+1 was acknowledged
	synced  []promise
	removed []promise // records that the owner had elsewhere, durably, and did not need from then on
}

type promise struct {
	at  int
	seq uint64
}

func payload(seq uint64) string {
	return fmt.Sprintf("%d:%s", seq, bytes.Repeat([]byte{byte(seq)}, int(seq*37%90)))
}

func drive(t *testing.T, seed uint64, records int) *history {
	h := &history{disk: simdisk.New()}
	r := rand.New(rand.NewPCG(seed, 0))
	j, _ := reopen(t, h.disk, 0)
	for seq := uint64(1); seq <= uint64(records); seq++ {
		mustAdd(t, j, payload(seq))
		h.acked = append(h.acked, h.disk.Len())
		switch r.IntN(8) {
		case 0, 1:
			must(t, j.SyncTo(seq))
			h.synced = append(h.synced, promise{h.disk.Len(), seq})
		case 2:
			must(t, j.Prepare())
		case 3:
			must(t, j.Rotate())
		case 4:
			done := uint64(r.IntN(int(seq)))
			must(t, j.SyncTo(done))
			h.synced = append(h.synced, promise{h.disk.Len(), done})
			h.removed = append(h.removed, promise{h.disk.Len(), done})
			must(t, j.RemoveTo(done))
		}
	}
	must(t, j.Close())
	return h
}

func latest(ps []promise, n int) (seq uint64) {
	for _, p := range ps {
		if p.at <= n {
			seq = max(seq, p.seq)
		}
	}
	return seq
}

// check opens the disk after a crash behind operation n: what comes back must be a run of records from after on, at
// least up to least. Then it goes on with it, through another crash.
func (h *history) check(t *testing.T, disk *simdisk.Disk, n int, least uint64, what string) {
	t.Helper()
	after := latest(h.removed, n)
	j, got := reopen(t, disk, after)
	last := after + uint64(len(got))
	if last < least {
		t.Fatalf("%s: records up to %d, but up to %d were promised", what, last, least)
	}
	for i, p := range got {
		if p != payload(after+uint64(i)+1) {
			t.Fatalf("%s: record %d is %q", what, after+uint64(i)+1, p)
		}
	}
	// The life after: other records under the numbers that were lost, then power is lost again.
	mustAdd(t, j, "new 1")
	must(t, j.Rotate())
	mustAdd(t, j, "new 2")
	must(t, j.SyncTo(last+1))
	mustAdd(t, j, "new 3")
	for _, fate := range []simdisk.Fate{simdisk.Lost, simdisk.Kept} {
		_, again := reopen(t, disk.PowerLoss(disk.Len(), fate), after)
		want := append(append([]string(nil), got...), "new 1", "new 2", "new 3")
		if len(again) < len(got)+2 || len(again) > len(want) {
			t.Fatalf("%s, then a second loss: %d records of %d", what, len(again), len(want))
		}
		for i := range again {
			if again[i] != want[i] {
				t.Fatalf("%s, then a second loss: record %d is %q, want %q", what, i, again[i], want[i])
			}
		}
	}
	j.Close()
}

// Every moment to crash at, every unsynced write torn at some places, and sectors at random.
func TestCrashEverywhere(t *testing.T) {
	race.Leave(t, race.OneHand)
	for seed := range uint64(4) {
		h := drive(t, seed, 40)
		r := rand.New(rand.NewPCG(seed, 1))
		for n := range h.disk.Len() + 1 {
			acked := uint64(0)
			for acked < uint64(len(h.acked)) && h.acked[acked] <= n {
				acked++
			}
			h.check(t, h.disk.Killed(n), n, acked, fmt.Sprintf("seed %d, killed at %d", seed, n))
			synced := latest(h.synced, n)
			check := func(what string, fate simdisk.Fate) {
				t.Helper()
				h.check(t, h.disk.PowerLoss(n, fate), n, synced, fmt.Sprintf("seed %d, power lost at %d, %s", seed, n, what))
			}
			check("all lost", simdisk.Lost)
			check("all kept", simdisk.Kept)
			for range 4 {
				check("scattered", simdisk.Scatter(r))
			}
			for _, op := range h.disk.Unsynced(n) {
				check("cut before", simdisk.Torn(op.Index, 0))
				for range 3 {
					if len(op.Data) > 1 {
						cut := 1 + r.IntN(len(op.Data)-1)
						check(fmt.Sprintf("operation %d cut at %d", op.Index, cut), simdisk.Torn(op.Index, cut))
					}
				}
			}
		}
	}
}

// Damage to what was synced is told, not taken for a torn tail.
func TestDamage(t *testing.T) {
	disk := simdisk.New()
	j, _ := reopen(t, disk, 0)
	for seq := uint64(1); seq <= 6; seq++ {
		mustAdd(t, j, payload(seq))
		if seq == 4 {
			must(t, j.SyncTo(4))
			must(t, j.Rotate())
		}
	}
	j.Close()
	names, err := disk.List()
	must(t, err)
	if len(names) != 2 {
		t.Fatalf("segments %q", names)
	}
	first := min(names[0], names[1])
	data, err := disk.ReadFile(first)
	must(t, err)
	for at := journal.SegmentHeaderSize; at < len(data); at += 7 {
		broken := disk.Killed(disk.Len())
		f, err := broken.Open(first)
		must(t, err)
		_, err = f.WriteAt([]byte{data[at] ^ 0x10}, int64(at))
		must(t, err)
		if _, err := journal.Open(broken, 0, func(journal.Record) error { return nil }); sharefs.KindOf(err) != sharefs.KindCorrupt {
			t.Errorf("byte %d of %s flipped: %v", at, first, err)
		}
	}
}

// A disk without room fails the append and nothing else; with room again it goes on.
func TestFullDisk(t *testing.T) {
	disk := simdisk.New()
	j, _ := reopen(t, disk, 0)
	mustAdd(t, j, "one")
	var full error = syscall.ENOSPC
	disk.Fault = func(op simdisk.Op) (int, error) {
		if op.Kind == simdisk.Write || op.Kind == simdisk.Create {
			return len(op.Data) / 2, full
		}
		return 0, nil
	}
	for range 3 {
		if _, err := add(j, "a longer record that does not fit"); sharefs.KindOf(err) != sharefs.KindNoSpace || !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("%v", err)
		}
	}
	if err := j.Rotate(); sharefs.KindOf(err) != sharefs.KindNoSpace {
		t.Fatalf("%v", err)
	}
	if err := j.Prepare(); sharefs.KindOf(err) != sharefs.KindNoSpace {
		t.Fatalf("%v", err)
	}
	must(t, j.SyncTo(1))
	full = nil
	if seq := mustAdd(t, j, "two"); seq != 2 {
		t.Errorf("number %d", seq)
	}
	_, got := reopen(t, disk.Killed(disk.Len()), 0)
	if fmt.Sprint(got) != "[one two]" {
		t.Errorf("%q", got)
	}
}

// A write that fails though all of it landed leaves no trace either.
func TestFailedWriteThatLanded(t *testing.T) {
	disk := simdisk.New()
	j, _ := reopen(t, disk, 0)
	mustAdd(t, j, "one")
	disk.Fault = func(op simdisk.Op) (int, error) {
		if op.Kind == simdisk.Write {
			return len(op.Data), syscall.EIO
		}
		return 0, nil
	}
	if _, err := add(j, "two"); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	_, got := reopen(t, disk.Killed(disk.Len()), 0)
	if fmt.Sprint(got) != "[one]" {
		t.Errorf("%q", got)
	}
}

// A segment that survived while a record before it was lost does not come back when its numbers are used again.
func TestSegmentBehindGap(t *testing.T) {
	disk := simdisk.New()
	j, _ := reopen(t, disk, 0)
	mustAdd(t, j, "one")
	must(t, j.SyncTo(1))
	mustAdd(t, j, "two")
	lost := disk.Len() - 1
	must(t, j.Rotate())
	mustAdd(t, j, "three")
	disk = disk.PowerLoss(disk.Len(), func(op simdisk.Op) []simdisk.Span {
		if op.Index == lost {
			return nil
		}
		return simdisk.Kept(op)
	})
	j, got := reopen(t, disk, 0)
	if fmt.Sprint(got) != "[one]" {
		t.Fatalf("%q", got)
	}
	mustAdd(t, j, "new two")
	must(t, j.SyncTo(2))
	if _, got := reopen(t, disk.PowerLoss(disk.Len(), simdisk.Lost), 2); len(got) > 0 {
		t.Fatalf("%q", got)
	}
}

// A failed sync is final for this life of the journal; the next one has what can be read.
func TestFailedSync(t *testing.T) {
	disk := simdisk.New()
	j, _ := reopen(t, disk, 0)
	mustAdd(t, j, "one")
	must(t, j.SyncTo(1))
	mustAdd(t, j, "two")
	broken := true
	disk.Fault = func(op simdisk.Op) (int, error) {
		if op.Kind == simdisk.Datasync && broken {
			return 0, syscall.EIO
		}
		return 0, nil
	}
	if err := j.SyncTo(2); !errors.Is(err, syscall.EIO) {
		t.Fatalf("%v", err)
	}
	broken = false
	if err := j.SyncTo(2); !errors.Is(err, syscall.EIO) {
		t.Errorf("a later sync: %v", err)
	}
	if _, err := add(j, "three"); !errors.Is(err, syscall.EIO) {
		t.Errorf("a later append: %v", err)
	}
	must(t, j.SyncTo(1))
	j, got := reopen(t, disk, 0)
	if fmt.Sprint(got) != "[one two]" {
		t.Errorf("%q", got)
	}
	mustAdd(t, j, "three")
	must(t, j.SyncTo(3))
	_, got = reopen(t, disk.PowerLoss(disk.Len(), simdisk.Lost), 0)
	if fmt.Sprint(got) != "[one two three]" {
		t.Errorf("%q", got)
	}
}

// Appends, syncs, rotations and removals at once.
func TestConcurrent(t *testing.T) {
	disk := simdisk.New()
	j, _ := reopen(t, disk, 0)
	var wg sync.WaitGroup
	const each, writers = 200, 4
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				seq, err := add(j, fmt.Sprint(w, i))
				if err == nil && i%5 == 0 {
					if err = j.SyncTo(seq); err == nil && j.Synced() < seq {
						err = errors.New("not synced")
					}
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Go(func() {
		for range 50 {
			if err := j.Prepare(); err != nil {
				t.Error(err)
			}
			if err := j.Rotate(); err != nil {
				t.Error(err)
			}
			j.Stats()
			if err := j.RemoveTo(j.Synced() / 2); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	must(t, j.RemoveTo(0))
	must(t, j.Close())
	last, err := journal.Read(disk, each*writers/2, func(journal.Record) error { return nil })
	if last != each*writers || err != nil {
		t.Errorf("read to %d: %v", last, err)
	}
}
