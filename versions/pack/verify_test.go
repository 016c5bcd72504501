package pack

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"sharefs"
	"sharefs/integration/race"
	"sharefs/versions/pack/memdisk"
)

// filled makes a store with one sealed pack of n records, and returns where they are.
func filled(t testing.TB, n uint64) (*memdisk.Disk, []Loc) {
	t.Helper()
	disk := memdisk.New()
	s := open(t, disk, 1<<20)
	var locs []Loc
	for x := range n {
		loc, err := s.Append(TypeChunk, idOf(x+1), body(x+1)) // no id is zero
		if err != nil {
			t.Fatal(err)
		}
		locs = append(locs, loc)
	}
	if err := s.Seal(); err != nil {
		t.Fatal(err)
	}
	return disk, locs
}

// examine returns what reads and what does not, by number.
func examine(t testing.TB, s *Store, id ID) (sum Examined, good, bad []int, unknown int) {
	t.Helper()
	number := func(id sharefs.ChunkID) int {
		for x := range uint64(1000) {
			if idOf(x+1) == id {
				return int(x)
			}
		}
		return -1
	}
	sum, err := s.Examine(id, func(_ Epoch, r Record, plain []byte) error {
		n := number(r.ID)
		if !bytes.Equal(plain, body(uint64(n+1))) {
			return fmt.Errorf("record %d reads wrongly", n)
		}
		good = append(good, n)
		return nil
	}, func(b BadRecord) {
		if b.ID == (sharefs.ChunkID{}) {
			unknown++
			return
		}
		bad = append(bad, number(b.ID))
	})
	if err != nil {
		t.Fatal(err)
	}
	if sum.Records != len(good) || sum.Bad != len(bad)+unknown {
		t.Errorf("%+v, and %d good and %d bad ones", sum, len(good), len(bad))
	}
	return sum, good, bad, unknown
}

// Every bit of a pack is flipped in turn, some of them: what is told to be bad is what does not read, and nothing else.
func TestExamineFindsExactlyWhatDoesNotRead(t *testing.T) {
	race.Leave(t, race.OneHand)
	disk, locs := filled(t, 12)
	id := locs[0].Pack
	whole := slices.Clone(disk.Data(id.name()))
	s := open(t, disk, 1<<20)
	sum, good, bad, unknown := examine(t, s, id)
	if len(good) != 12 || len(bad)+unknown > 0 || !sum.Sealed || sum.Header != nil || sum.Index != nil || sum.Bytes != int64(len(whole)) {
		t.Fatalf("a whole pack: %+v, %v bad", sum, bad)
	}
	r := rand.New(rand.NewPCG(1, 1))
	for range 400 {
		at := r.IntN(len(whole))
		switch r.IntN(4) {
		case 0:
			at = r.IntN(packHeaderLen)
		case 1:
			at = int(locs[r.IntN(len(locs))].Off) + r.IntN(recordHeaderLen)
		}
		disk.Data(id.name())[at] ^= 1 << r.IntN(8)
		s := open(t, disk, 1<<20)
		_, good, bad, unknown := examine(t, s, id)
		for x, loc := range locs {
			got, err := s.Read(loc, idOf(uint64(x+1)), nil)
			if err == nil && !bytes.Equal(got, body(uint64(x+1))) {
				t.Fatalf("byte %d: record %d reads wrongly", at, x)
			}
			if (err == nil) != slices.Contains(good, x) || (err != nil) != slices.Contains(bad, x) {
				t.Fatalf("byte %d: record %d: %v, good %v, bad %v", at, x, err, good, bad)
			}
		}
		if unknown > 0 {
			t.Fatalf("byte %d: %d places without a name, though there is an index", at, unknown)
		}
		copy(disk.Data(id.name()), whole)
	}
}

// A pack that ends early at any place: what is in it whole reads, and the index, which is gone, is made anew.
func TestACutPackIsMended(t *testing.T) {
	race.Leave(t, race.OneHand)
	disk, locs := filled(t, 12)
	id := locs[0].Pack
	full := slices.Clone(disk.Data(id.name()))
	for cut := packHeaderLen; cut < len(full); cut += 1 + cut%97 {
		disk := memdisk.New()
		disk.Put(id.name(), full[:cut])
		s := open(t, disk, 1<<20)
		var want []int
		for x, loc := range locs {
			if int(loc.Off)+recordHeaderLen+int(loc.Sealed) <= cut {
				want = append(want, x)
			}
		}
		sum, good, _, _ := examine(t, s, id)
		if !slices.Equal(good, want) || sum.Index == nil {
			t.Fatalf("cut at %d: %v read, want %v; index %v", cut, good, want, sum.Index)
		}
		m, err := s.Mend(id)
		if len(want) == 0 {
			continue
		}
		if err != nil || !m.Index || m.Header {
			t.Fatalf("cut at %d: mended %+v, %v", cut, m, err)
		}
		sum, good, bad, unknown := examine(t, s, id)
		if !slices.Equal(good, want) || sum.Index != nil || len(bad)+unknown > 0 {
			t.Fatalf("cut at %d and mended: %v read, want %v; %+v", cut, good, want, sum)
		}
		if records, err := s.Index(id); err != nil || len(records) != len(want) {
			t.Fatalf("cut at %d and mended: %d in the index, %v", cut, len(records), err)
		}
	}
}

// The header of a pack can be made anew, for the name of the file tells all that is needed of it: sealed packs and growing ones.
func TestADamagedHeaderCostsNothing(t *testing.T) {
	for bit := 0; bit < 8*packHeaderLen; bit += 7 {
		disk, locs := filled(t, 3)
		id := locs[0].Pack
		disk.Data(id.name())[bit/8] ^= 1 << (bit % 8)
		s := open(t, disk, 1<<20)
		for x, loc := range locs {
			mustRead(t, s, loc, uint64(x+1))
		}
		sum, good, _, _ := examine(t, s, id)
		if sum.Header == nil || len(good) != 3 {
			t.Fatalf("bit %d: %+v", bit, sum)
		}
		if m, err := s.Mend(id); err != nil || !m.Header || m.Index {
			t.Fatalf("bit %d: %+v, %v", bit, m, err)
		}
		if sum, _, _, _ := examine(t, s, id); sum.Header != nil {
			t.Fatalf("bit %d: mended, %v", bit, sum.Header)
		}

		grows := memdisk.New()
		grows.Put(id.growing(), disk.Data(id.name())[:locs[2].Off])
		grows.Data(id.growing())[bit/8] ^= 1 << (bit % 8)
		s = open(t, grows, 1<<20)
		loc, err := s.Append(TypeChunk, idOf(9), body(9))
		if err != nil || loc.Pack != id {
			t.Fatalf("bit %d: appended to %v instead of %v: %v", bit, loc.Pack, id, err)
		}
		mustRead(t, s, locs[0], 1)
		mustRead(t, s, locs[1], 2)
		mustRead(t, s, loc, 9)
	}
	// One whose records do not open is left to a person.
	disk, locs := filled(t, 3)
	id := locs[0].Pack
	disk.Data(id.name())[70] ^= 1
	other, err := Open(Config{FS: disk, Key: func(Epoch) ([32]byte, error) { return [32]byte{99}, nil }, Epoch: Epoch{Number: 1}})
	if err != nil {
		t.Fatal(err)
	}
	disk.Data(id.name())[3] ^= 1
	if m, err := other.Mend(id); err == nil || m.Header {
		t.Errorf("mended under another key: %+v", m)
	}
}

// What grows while it is examined ends with a whole record, however often it is looked at.
func TestExamineWhileAppending(t *testing.T) {
	disk := memdisk.New()
	s := open(t, disk, 300_000)
	done := make(chan error, 1)
	stop := make(chan struct{})
	go func() {
		for x := uint64(0); ; x++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if _, err := s.Append(TypeChunk, idOf(x%900+1), body(x%900+1)); err != nil {
				done <- err
				return
			}
			if x%50 == 0 {
				if err := s.Sync(); err != nil {
					done <- err
					return
				}
			}
		}
	}()
	for range 60 {
		ids, err := s.Packs()
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range ids[max(0, len(ids)-3):] {
			sum, _, bad, unknown := examine(t, s, id)
			if len(bad)+unknown > 0 || sum.Tail > 0 && !sum.Moving || sum.Header != nil || sum.Index != nil {
				t.Fatalf("%+v, %v bad, %d unknown", sum, bad, unknown)
			}
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestWhatWasGivenBackToTheDiskIsToldApart(t *testing.T) {
	disk, locs := filled(t, 12)
	id := locs[0].Pack
	clear(disk.Data(id.name())[locs[3].Off+200 : locs[6].Off+200]) // punched, in the midst of two records
	s := open(t, disk, 1<<20)
	empty := 0
	if _, err := s.Examine(id, func(Epoch, Record, []byte) error { return nil }, func(b BadRecord) {
		if b.Empty {
			empty++
		}
	}); err != nil {
		t.Fatal(err)
	}
	if _, _, bad, _ := examine(t, s, id); !slices.Equal(bad, []int{3, 4, 5, 6}) && !slices.Equal(bad, []int{4, 5, 6}) || empty != len(bad) {
		t.Errorf("%v are bad, %d of them empty", bad, empty)
	}
}

func TestStraysAmongPacks(t *testing.T) {
	disk, locs := filled(t, 2)
	name := locs[0].Pack.String()
	for _, stray := range []string{"open/" + name + ".damaged", "notes.txt", "zz/" + name, "00/" + name[:30], locs[0].Pack.dir() + "/x"} {
		disk.Put(stray, []byte("?"))
	}
	s := open(t, disk, 1<<20)
	strays, err := s.Strays()
	want := []string{"00/" + name[:30], locs[0].Pack.dir() + "/x", "notes.txt", "open/" + name + ".damaged", "zz"}
	slices.Sort(want)
	if err != nil || !slices.Equal(strays, want) {
		t.Errorf("%q, %v, want %q", strays, err, want)
	}
}

// A pack that was made a moment ago has no header yet, and one that a crash left so holds nothing: neither is damage.
func TestAPackThatHasJustBegun(t *testing.T) {
	disk := memdisk.New()
	s := open(t, disk, 1<<20)
	id := ID{7}
	for _, length := range []int{0, 10, packHeaderLen - 1} {
		disk.Put(id.growing(), make([]byte, length))
		if sum, err := s.Glance(id); err != nil || sum.Header != nil || sum.Index != nil || sum.Bytes != int64(length) {
			t.Errorf("%d bytes: %+v, %v", length, sum, err)
		}
		sum, good, bad, unknown := examine(t, s, id)
		if sum.Header != nil || len(good)+len(bad)+unknown > 0 || sum.Tail != int64(length) {
			t.Errorf("%d bytes: %+v, %v, %v, %d", length, sum, good, bad, unknown)
		}
	}
}
