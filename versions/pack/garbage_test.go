package pack

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"testing"

	"sharefs"
	"sharefs/integration/race"
	"sharefs/versions/pack/memdisk"
)

// fillPacks appends n records and returns where they lie.
func fillPacks(t testing.TB, s *Store, n int) []Record {
	t.Helper()
	var out []Record
	for i := range uint64(n) {
		loc, err := s.Append(TypeChunk, idOf(i), body(i))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, Record{loc, TypeChunk, idOf(i)})
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	return out
}

func listed(t testing.TB, s *Store) map[ID]Info {
	t.Helper()
	all := map[ID]Info{}
	if err := s.Each(func(i Info) bool { all[i.ID] = i; return true }); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestEachTellsOfPacks(t *testing.T) {
	for name, disk := range map[string]FS{"memory": memdisk.New(), "directory": Dir(t.TempDir())} {
		s := open(t, disk, 20_000)
		records := fillPacks(t, s, 100)
		all := listed(t, s)
		growing := 0
		for _, info := range all {
			if !info.Sealed {
				growing++
			}
			if info.Held > info.Size || info.Held <= 0 {
				t.Errorf("%s: %+v", name, info)
			}
		}
		id, size, ok := s.Growing()
		if len(all) < 5 || growing != 1 || !ok || all[id].Size != size {
			t.Errorf("%s: %d packs, %d of them growing; %v of %d bytes", name, len(all), growing, id, size)
		}
		if err := s.Seal(); err != nil {
			t.Fatal(err)
		}
		if err := s.Seal(); err != nil { // there is none
			t.Fatal(err)
		}
		if _, _, ok := s.Growing(); ok || !listed(t, s)[id].Sealed {
			t.Errorf("%s: it grows still", name)
		}
		for i, r := range records {
			mustRead(t, s, r.Loc, uint64(i))
		}
		calls := 0
		if err := s.Each(func(Info) bool { calls++; return false }); err != nil || calls != 1 {
			t.Error(calls, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRemove(t *testing.T) {
	disk := Dir(t.TempDir())
	s := open(t, disk, 20_000)
	records := fillPacks(t, s, 60)
	first := records[0].Loc.Pack
	h, err := s.pin(first) // at work
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(first); err != nil {
		t.Fatal(err)
	}
	if err := readFull(h.file, make([]byte, 64), 0); err != nil {
		t.Errorf("who had it open cannot read on: %v", err)
	}
	// Who opened it before it was removed does not keep it open.
	f, err := disk.Create("late")
	if err != nil {
		t.Fatal(err)
	}
	late := s.share(&handle{id: first, file: f})
	late.unpin(s)
	if _, err := f.Size(); err == nil {
		t.Error("a removed pack is kept open")
	}
	h.unpin(s)
	if _, err := s.Read(records[0].Loc, records[0].ID, nil); sharefs.KindOf(err) != sharefs.KindCorrupt || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading a removed pack: %v", err)
	}
	if err := s.Remove(first); err == nil {
		t.Error("it was removed twice")
	}
	id, _, _ := s.Growing()
	if err := s.Remove(id); err == nil {
		t.Error("a pack that grows was removed")
	}
	for i, r := range records {
		if r.Loc.Pack != first {
			mustRead(t, s, r.Loc, uint64(i))
		}
	}
}

func TestCopy(t *testing.T) {
	disk := memdisk.New()
	s := open(t, disk, 30_000)
	records := fillPacks(t, s, 40)
	m := body(1000)
	loc, err := s.Append(TypeMap, idOf(1000), m)
	if err != nil {
		t.Fatal(err)
	}
	node := Record{loc, TypeMap, idOf(1000)}
	for i, r := range records {
		to, err := s.Copy(r)
		if err != nil || to.Plain != r.Loc.Plain || to.Sealed != r.Loc.Sealed {
			t.Fatalf("%+v became %+v: %v", r.Loc, to, err)
		}
		mustRead(t, s, to, uint64(i))
	}
	if to, err := s.Copy(node); err != nil {
		t.Fatal(err)
	} else if got, err := s.Read(to, node.ID, nil); err != nil || !bytes.Equal(got, m) {
		t.Error(err)
	} else if err := s.Seal(); err != nil {
		t.Error(err)
	} else if all, err := s.Index(to.Pack); err != nil || all[len(all)-1].Type != TypeMap {
		t.Errorf("%+v, %v", all[len(all)-1], err)
	}
	for i, r := range records {
		if err := s.Intact(r); err != nil {
			t.Errorf("record %d: %v", i, err)
		}
	}
	// A damaged one is not copied.
	bad := records[3]
	disk.Data(bad.Loc.Pack.name())[bad.Loc.Off+recordHeaderLen+2] ^= 1
	before := s.Stats().Records
	_, err = s.Copy(bad)
	if sharefs.KindOf(err) != sharefs.KindCorrupt || sharefs.KindOf(s.Intact(bad)) != sharefs.KindCorrupt || s.Stats().Records != before {
		t.Errorf("a damaged record: %v", err)
	}
	other := records[4]
	other.ID = idOf(99999)
	if sharefs.KindOf(s.Intact(other)) != sharefs.KindCorrupt {
		t.Error("another record's name does")
	}
}

func TestPunch(t *testing.T) {
	mem := memdisk.New()
	for name, disk := range map[string]FS{"memory": mem, "directory": Dir(t.TempDir())} {
		s := open(t, disk, 400_000)
		records := fillPacks(t, s, 400)
		if err := s.Seal(); err != nil {
			t.Fatal(err)
		}
		id := records[0].Loc.Pack
		var dead, live []Record
		last := 0
		for i, r := range records {
			if r.Loc.Pack != id {
				continue
			}
			last = i
			if i%50 > 10 && i%50 != 30 || i == 3 {
				dead = append(dead, r)
			} else {
				live = append(live, r)
			}
		}
		if last < 100 {
			t.Fatal("the first pack is too short")
		}
		rand.New(rand.NewPCG(1, 1)).Shuffle(len(dead), func(i, j int) { dead[i], dead[j] = dead[j], dead[i] })
		before := listed(t, s)[id]
		freed, err := s.Punch(id, dead, 4<<10)
		if sharefs.KindOf(err) == sharefs.KindNotSupported {
			t.Skipf("%s: %v", name, err)
		}
		after := listed(t, s)[id]
		if err != nil || freed < before.Size/3 || after.Size != before.Size || after.Held > before.Held-freed+int64(len(dead))*4096 || after.Held >= before.Held {
			t.Errorf("%s: %d bytes freed, %+v became %+v, %v", name, freed, before, after, err)
		}
		for i, r := range records {
			if r.Loc.Pack != id || !dead3(dead, r) {
				mustRead(t, s, r.Loc, uint64(i))
			}
		}
		mustRead(t, s, records[3].Loc, 3) // a run of its own, too short
		all, err := s.Index(id)
		if err != nil || len(all) != len(dead)+len(live) {
			t.Errorf("%s: the index lists %d records, %v", name, len(all), err)
		}
		present, err := s.Present(id)
		want := 0
		for _, r := range records {
			if r.Loc.Pack == id && !dead3(dead, r) {
				want++
			}
		}
		if err != nil || len(present) != want {
			t.Errorf("%s: %d records are present instead of %d, %v", name, len(present), want, err)
		}
		if freed, err := s.Punch(id, dead[:0], 1); freed != 0 || err != nil {
			t.Error(freed, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// dead3 reports whether a record is among the dead ones of TestPunch, but for the one that makes a run of its own.
func dead3(dead []Record, r Record) bool {
	for _, d := range dead {
		if d == r {
			return r.ID != idOf(3)
		}
	}
	return false
}

// The power fails at any moment of a punch: a record whose header is whole is whole, and what lives is untouched.
func TestPowerLossWhilePunching(t *testing.T) {
	race.Leave(t, race.OneHand)
	disk := memdisk.New()
	s := open(t, disk, 200_000)
	records := fillPacks(t, s, 200)
	if err := s.Seal(); err != nil {
		t.Fatal(err)
	}
	id := records[0].Loc.Pack
	var dead []Record
	isDead := map[sharefs.ChunkID]bool{}
	for i, r := range records {
		if r.Loc.Pack == id && i%40 > 7 {
			dead = append(dead, r)
			isDead[r.ID] = true
		}
	}
	r := rand.New(rand.NewPCG(3, 3))
	var moments []*memdisk.Disk
	disk.Before = func() { moments = append(moments, disk.PowerLoss(r)) }
	if _, err := s.Punch(id, dead, 8<<10); err != nil {
		t.Fatal(err)
	}
	disk.Before = nil
	moments = append(moments, disk.PowerLoss(r), disk)
	gone := 0
	for _, m := range moments {
		after := open(t, m, 200_000)
		present, err := after.Present(id)
		if err != nil {
			t.Fatal(err)
		}
		gone = len(dead)
		for _, p := range present {
			if isDead[p.ID] {
				gone--
			}
			if err := after.Intact(p); err != nil {
				t.Fatalf("a header is whole and its record is not: %v", err)
			}
		}
		for i, x := range records {
			if !isDead[x.ID] {
				mustRead(t, after, x.Loc, uint64(i))
			}
		}
	}
	if gone != len(dead) || len(moments) < 20 {
		t.Errorf("%d of %d are gone at the end of %d moments", gone, len(dead), len(moments))
	}
}

func TestPunchReportsFaults(t *testing.T) {
	for n := 1; n < 8; n++ {
		disk := memdisk.New()
		s := open(t, disk, 100_000)
		records := fillPacks(t, s, 80)
		if err := s.Seal(); err != nil {
			t.Fatal(err)
		}
		id := records[0].Loc.Pack
		disk.Fail(n, syscall.EIO)
		if _, err := s.Punch(id, []Record{records[5], records[6], records[7]}, 1); (err == nil) != (n > 6) {
			t.Errorf("a fault in operation %d: %v", n, err)
		}
		disk.Fail(0, nil)
		for i, r := range records {
			if i < 5 || i > 7 {
				mustRead(t, s, r.Loc, uint64(i))
			}
		}
	}
	plain := open(t, blunt{memdisk.New()}, 10_000)
	records := fillPacks(t, plain, 30)
	if _, err := plain.Punch(records[0].Loc.Pack, records[:4], 1); sharefs.KindOf(err) != sharefs.KindNotSupported {
		t.Errorf("a disk that cannot punch: %v", err)
	}
	mustRead(t, plain, records[0].Loc, 0)
}

// blunt is a disk that cannot punch.
type blunt struct{ FS }

type bluntFile struct{ File }

func (b blunt) Open(name string, write bool) (File, error) {
	f, err := b.FS.Open(name, write)
	return bluntFile{f}, err
}

// Packs are copied out of, removed and read at once.
func TestGarbageRace(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Dir(dir), 20_000)
	records := fillPacks(t, s, 300)
	var mu sync.RWMutex
	at := make([]Loc, len(records))
	byPack := map[ID][]int{}
	for i, r := range records {
		at[i] = r.Loc
		byPack[r.Loc.Pack] = append(byPack[r.Loc.Pack], i)
	}
	var wg sync.WaitGroup
	done := make(chan struct{})
	for g := range uint64(4) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(g, 9))
			for {
				select {
				case <-done:
					return
				default:
				}
				i := r.IntN(len(at))
				mu.RLock()
				loc := at[i]
				mu.RUnlock()
				got, err := s.Read(loc, records[i].ID, nil)
				mu.RLock()
				moved := at[i] != loc
				mu.RUnlock()
				if !moved && (err != nil || !bytes.Equal(got, body(uint64(i)))) {
					t.Errorf("record %d: %v", i, err)
					return
				}
			}
		})
	}
	grows, _, _ := s.Growing() // it gets the others' records
	delete(byPack, grows)
	for id, list := range byPack {
		to := make([]Loc, len(list))
		for n, i := range list {
			loc, err := s.Copy(records[i])
			if err != nil {
				t.Fatal(err)
			}
			to[n] = loc
		}
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		for n, i := range list {
			at[i] = to[n]
		}
		mu.Unlock()
		if err := s.Remove(id); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	wg.Wait()
	for i := range at {
		mustRead(t, s, at[i], uint64(i))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && len(to) > len(dir) && to[:len(dir)] == dir {
			t.Errorf("%s is still open", to)
		}
	}
}
