package pack

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"sharefs"
	"sharefs/integration/race"
	"sharefs/versions/pack/memdisk"
)

// TestEveryFaultIsAnErrorAndNothingSyncedIsLost fails each operation of one fixed run in turn.
func TestEveryFaultIsAnErrorAndNothingSyncedIsLost(t *testing.T) {
	race.Leave(t, race.OneHand)
	run := func(disk *memdisk.Disk) (safe map[uint64]Loc, failures int) {
		s := open(t, disk, 9_000)
		safe, hot := map[uint64]Loc{}, map[uint64]Loc{}
		for x := range uint64(40) {
			loc, err := s.Append(TypeChunk, idOf(x), body(x))
			if err != nil {
				failures++
				clear(hot)
				continue
			}
			hot[x] = loc
			if x%3 == 0 {
				if err := s.Sync(); err != nil {
					failures++
					clear(hot)
				}
				for x, loc := range hot {
					safe[x] = loc
				}
				clear(hot)
			}
		}
		return safe, failures
	}
	whole := memdisk.New()
	run(whole)
	for n := 1; n <= whole.Ops(); n++ {
		disk := memdisk.New()
		disk.Fail(n, syscall.EIO)
		safe, failures := run(disk)
		if failures != 1 {
			t.Errorf("a fault in operation %d gave %d errors", n, failures)
		}
		s := open(t, disk.PowerLoss(rand.New(rand.NewPCG(uint64(n), 3))), 9_000)
		for x, loc := range safe {
			mustRead(t, s, loc, x)
		}
	}
}

func TestEveryTornTailIsCut(t *testing.T) {
	disk := memdisk.New()
	s := open(t, disk, 1<<20)
	var locs []Loc
	for x := range uint64(5) {
		loc, err := s.Append(TypeChunk, idOf(x), body(x))
		if err != nil {
			t.Fatal(err)
		}
		locs = append(locs, loc)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	name := locs[0].Pack.growing()
	full := disk.Data(name)
	for cut := 0; cut <= len(full); cut += 5 + cut%29 {
		disk := memdisk.New()
		disk.Put(name, full[:cut])
		s := open(t, disk, 1<<20)
		loc, err := s.Append(TypeChunk, idOf(99), body(99))
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		mustRead(t, s, loc, 99)
		for x, old := range locs {
			if int(old.Off)+recordHeaderLen+int(old.Sealed) <= cut {
				mustRead(t, s, old, uint64(x))
				if loc.Pack != old.Pack {
					t.Fatalf("cut at %d: the pack is not continued", cut)
				}
			}
		}
	}
}

func TestDamageInAGrowingPackLosesOnlyTheDamagedRecord(t *testing.T) {
	disk := memdisk.New()
	s := open(t, disk, 1<<20)
	var locs []Loc
	for x := range uint64(9) {
		loc, err := s.Append(TypeChunk, idOf(x), body(x+1))
		if err != nil {
			t.Fatal(err)
		}
		locs = append(locs, loc)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	disk.Data(locs[0].Pack.growing())[locs[4].Off+70] ^= 1
	s = open(t, disk, 1<<20)
	if _, err := s.Append(TypeChunk, idOf(50), body(50)); err != nil {
		t.Fatal(err)
	}
	for x, loc := range locs {
		got, err := s.Read(loc, idOf(uint64(x)), nil)
		switch {
		case x == 4 && !errors.Is(err, sharefs.KindCorrupt):
			t.Errorf("the damaged record: %v", err)
		case x != 4 && (err != nil || !bytes.Equal(got, body(uint64(x+1)))):
			t.Errorf("record %d: %v", x, err)
		}
	}
	records, err := s.Index(locs[0].Pack)
	if err != nil || len(records) != 8 {
		t.Errorf("%d records in the index, %v", len(records), err)
	}
	var found []error
	if err := s.Verify(locs[0].Pack, func(_ Record, err error) { found = append(found, err) }); err != nil || len(found) != 1 {
		t.Errorf("verify finds %v, %v", found, err)
	}
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	disk := memdisk.New()
	s := open(t, disk, 1)
	loc, err := s.Append(TypeChunk, idOf(2), []byte("some content that is worth keeping"))
	if err != nil {
		t.Fatal(err)
	}
	data := disk.Data(loc.Pack.name())
	for bit := range 8 * (recordHeaderLen + int(loc.Sealed)) {
		at := int(loc.Off) + bit/8
		data[at] ^= 1 << (bit % 8)
		if got, err := s.Read(loc, idOf(2), nil); !errors.Is(err, sharefs.KindCorrupt) {
			t.Fatalf("bit %d flipped: %q, %v", bit, got, err)
		}
		data[at] ^= 1 << (bit % 8)
	}
	if _, err := s.Read(loc, idOf(3), nil); !errors.Is(err, sharefs.KindCorrupt) {
		t.Errorf("another chunk's id: %v", err)
	}
	if _, err := s.Read(Loc{Pack: ID{9}, Off: 64, Sealed: 20, Plain: 4}, idOf(3), nil); !errors.Is(err, sharefs.KindCorrupt) {
		t.Errorf("a pack that is not there: %v", err)
	}
}

// What is wrong with a record is told apart, whether its body was compressed or not: its bytes changed, or they are as they were sealed and the
// key is another one.
func TestBlame(t *testing.T) {
	for name, plain := range map[string][]byte{"stored": body(7), "compressed": make([]byte, 5000)} {
		disk := memdisk.New()
		s := open(t, disk, 1)
		loc, err := s.Append(TypeChunk, idOf(7), plain)
		if err != nil {
			t.Fatal(err)
		}
		other, err := Open(Config{FS: disk, Key: func(Epoch) ([32]byte, error) { return [32]byte{77}, nil }})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.Read(loc, idOf(7), nil); err == nil || !strings.Contains(err.Error(), "another key") {
			t.Errorf("%s, another key: %v", name, err)
		}
		disk.Data(loc.Pack.name())[int(loc.Off)+recordHeaderLen] ^= 1
		if _, err := s.Read(loc, idOf(7), nil); err == nil || !strings.Contains(err.Error(), "changed on disk") {
			t.Errorf("%s, changed: %v", name, err)
		}
	}
}
