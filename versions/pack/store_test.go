package pack

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"sharefs"
	"sharefs/integration/race"
	"sharefs/versions/pack/memdisk"
)

func testKey(e Epoch) ([32]byte, error) {
	if e.Number > 9 {
		return [32]byte{}, sharefs.KindAccess
	}
	return [32]byte{1, byte(e.Number), e.Key[0]}, nil
}

func open(t testing.TB, fs FS, target int64) *Store {
	t.Helper()
	s, err := Open(Config{FS: fs, Key: testKey, Epoch: Epoch{Number: 1}, Target: target})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// body returns a chunk for a seed: half of them compress.
func body(seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 5))
	b := make([]byte, r.IntN(3000))
	for i := range b {
		b[i] = byte(r.Uint32())
		if seed%2 == 0 {
			b[i] &= 3
		}
	}
	return b
}

func idOf(seed uint64) (id sharefs.ChunkID) {
	binary.BigEndian.PutUint64(id[:], seed)
	return id
}

func mustRead(t *testing.T, s *Store, loc Loc, seed uint64) {
	t.Helper()
	got, err := s.Read(loc, idOf(seed), nil)
	if err != nil || !bytes.Equal(got, body(seed)) {
		t.Fatalf("record %d at %d of %s: %d bytes instead of %d, %v", seed, loc.Off, loc.Pack, len(got), len(body(seed)), err)
	}
}

// TestModel appends, syncs, reads, closes, loses power and fails at random, and holds the store against a plain list:
// what a Sync acknowledged must be there for ever. Every third time it does so under several keys.
func TestModel(t *testing.T) {
	race.Leave(t, race.OneHand)
	for seed := range uint64(45) {
		r := rand.New(rand.NewPCG(seed, 1))
		disk := memdisk.New()
		all := epochs[:1]
		if seed%3 == 2 {
			all = epochs
		}
		use := all[0]
		given := uint64(0)
		again := func() *Store {
			s, err := Open(Config{FS: disk, Key: testKey, Epoch: use, Epochs: func() []Epoch { return all }, First: all[0], Target: 20_000})
			if err != nil {
				t.Fatal(err)
			}
			given = 0
			return s
		}
		s := again()
		type rec struct {
			seed uint64
			loc  Loc
		}
		var safe, hot []rec
		faults := false
		for step := range 150 {
			switch n := r.IntN(100); {
			case n < 60:
				x := r.Uint64()
				e := use
				if x%2 == 0 {
					e = all[x%uint64(len(all))]
				}
				loc, err := s.AppendTo(e, TypeChunk, idOf(x), body(x))
				if err != nil {
					hot, given = nil, s.Stats().GivenUp
					continue
				}
				hot = append(hot, rec{x, loc})
			case n < 62:
				use = all[r.IntN(len(all))]
				if s.Use(use) != nil {
					hot, given = nil, s.Stats().GivenUp
				}
			case n < 75:
				if s.Sync() != nil {
					hot, given = nil, s.Stats().GivenUp
					continue
				}
				safe = append(safe, hot...)
				hot = nil
			case n < 90:
				for _, list := range [][]rec{safe, hot} {
					if len(list) > 0 {
						x := list[r.IntN(len(list))]
						if _, err := s.Read(x.loc, idOf(x.seed), nil); err != nil && faults {
							break // the flush before a read can meet the fault; that voids the hot ones
						}
						mustRead(t, s, x.loc, x.seed)
					}
				}
				if now := s.Stats().GivenUp; now != given {
					hot, given = nil, now
				}
			case n < 94:
				if err := s.Close(); err == nil {
					safe = append(safe, hot...)
				}
				hot = nil
				s = again()
			case n < 97:
				disk = disk.PowerLoss(r)
				hot, faults = nil, false
				s = again()
			default:
				disk.Fail(1+r.IntN(6), []error{syscall.EIO, syscall.ENOSPC}[r.IntN(2)])
				faults = true
			}
			if t.Failed() {
				t.Fatalf("seed %d, step %d", seed, step)
			}
		}
		disk.Fail(0, nil)
		disk = disk.PowerLoss(r)
		s = again()
		for _, x := range safe {
			mustRead(t, s, x.loc, x.seed)
		}
		if err := s.Recover(); err != nil {
			t.Fatal(err)
		}
		listed := map[Loc]sharefs.ChunkID{}
		ids, err := s.Packs()
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			records, err := s.Index(id)
			if err != nil {
				t.Fatalf("seed %d: index of %s: %v", seed, id, err)
			}
			for _, x := range records {
				listed[x.Loc] = x.ID
			}
		}
		for _, x := range safe {
			mustRead(t, s, x.loc, x.seed)
			if listed[x.loc] != idOf(x.seed) {
				t.Fatalf("seed %d: record %d is in no index", seed, x.seed)
			}
		}
	}
}

func TestSealBindsSharePackAndEpoch(t *testing.T) {
	disk := memdisk.New()
	s := open(t, disk, 1<<20)
	loc, err := s.Append(TypeChunk, idOf(7), body(7))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	data := disk.Data(loc.Pack.growing())
	for name, change := range map[string]func(h *Header){
		"epoch": func(h *Header) { h.Epoch.Number = 2 },
		"pack":  func(h *Header) { h.ID[0] ^= 1 },
	} {
		h, err := decodeHeader(data)
		if err != nil {
			t.Fatal(err)
		}
		change(&h)
		moved := memdisk.New()
		moved.Put(h.ID.name(), append(h.encode(), data[packHeaderLen:]...))
		there := loc
		there.Pack = h.ID
		if _, err := open(t, moved, 1<<20).Read(there, idOf(7), nil); !errors.Is(err, sharefs.KindCorrupt) {
			t.Errorf("a record moved to another %s: %v", name, err)
		}
	}
	other, err := Open(Config{FS: disk, Key: func(Epoch) ([32]byte, error) { return [32]byte{77}, nil }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Read(loc, idOf(7), nil); !errors.Is(err, sharefs.KindCorrupt) {
		t.Errorf("another share's key: %v", err)
	}
}

// A pack that was whole when its writer was killed before the last sync is on the disk, whole, when it gets its lasting name.
func TestAWholePackIsSyncedBeforeItIsPlaced(t *testing.T) {
	disk := memdisk.New()
	s := open(t, disk, 4000)
	var locs []Loc
	for x := uint64(0); s.Stats().Packs == 0; x++ {
		loc, err := s.Append(TypeChunk, idOf(x), body(x))
		if err != nil {
			t.Fatal(err)
		}
		locs = append(locs, loc)
	}
	whole := disk.Data(locs[0].Pack.name())
	for seed := range uint64(20) {
		disk := memdisk.New()
		f, err := disk.Create(locs[0].Pack.growing())
		if err == nil {
			_, err = f.WriteAt(whole, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := open(t, disk, 4000).Recover(); err != nil {
			t.Fatal(err)
		}
		s := open(t, disk.PowerLoss(rand.New(rand.NewPCG(seed, 1))), 4000)
		for x, loc := range locs {
			mustRead(t, s, loc, uint64(x))
		}
	}
}

func TestNoncesNeverComeTwice(t *testing.T) {
	disk := memdisk.New()
	seen := map[[12]byte][]byte{} // the body sealed under each
	for round := range 10 {
		s := open(t, disk, 1<<20)
		for x := range uint64(10) {
			if _, err := s.Append(TypeChunk, idOf(x), body(x)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		names, _ := disk.List(openDir)
		if len(names) != 1 {
			t.Fatalf("round %d: %d growing packs", round, len(names))
		}
		data := disk.Data(openDir + "/" + names[0])
		for at := packHeaderLen; at < len(data); {
			rec, err := decodeRecord(data[at:])
			if err != nil {
				t.Fatal(err)
			}
			sealed := data[at+recordHeaderLen : at+recordHeaderLen+int(rec.sealed)]
			if old := seen[rec.nonce]; old != nil && !bytes.Equal(old, sealed) {
				t.Fatalf("round %d: nonce %x seals two bodies", round, rec.nonce)
			}
			seen[rec.nonce] = bytes.Clone(sealed)
			at += recordHeaderLen + int(rec.sealed)
		}
		// Power fails: half of the records are gone, and others come in their place.
		disk.Put(openDir+"/"+names[0], data[:len(data)/2])
	}
	if len(seen) != 100 {
		t.Errorf("%d nonces for 100 records", len(seen))
	}
}

func TestOnDiskWithManyReaders(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "packs")
	s := open(t, Dir(dir), 50_000)
	const writers, each = 3, 300
	locs := make([]sync.Map, writers)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range uint64(each) {
				x := uint64(w)*each + i
				loc, err := s.Append(TypeChunk, idOf(x), body(x))
				if err != nil {
					t.Error(err)
					return
				}
				locs[w].Store(x, loc)
				if i%50 == 0 {
					if err := s.Sync(); err != nil {
						t.Error(err)
					}
				}
			}
		})
		wg.Go(func() {
			for range 5 {
				locs[w].Range(func(k, v any) bool {
					got, err := s.Read(v.(Loc), idOf(k.(uint64)), nil)
					if err != nil || !bytes.Equal(got, body(k.(uint64))) {
						t.Errorf("record %d: %v", k, err)
					}
					return err == nil
				})
			}
		})
	}
	wg.Wait()
	if s.Stats().Open > maxOpen {
		t.Errorf("%d packs are open", s.Stats().Open)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(TypeChunk, idOf(1), nil); err == nil {
		t.Error("a closed store takes records")
	}
	s = open(t, Dir(dir), 50_000)
	for w := range writers {
		locs[w].Range(func(k, v any) bool {
			mustRead(t, s, v.(Loc), k.(uint64))
			return true
		})
	}
	ids, err := s.Packs()
	if err != nil || len(ids) < 10 {
		t.Fatalf("%d packs, %v", len(ids), err)
	}
	for _, id := range ids {
		if err := s.Verify(id, func(r Record, err error) { t.Errorf("%v: %v", r, err) }); err != nil {
			t.Error(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(dir, openDir))
	if err != nil || len(entries) > 1 {
		t.Errorf("%d growing packs, %v", len(entries), err)
	}
}

func TestReadOnlyStoreChangesNothing(t *testing.T) {
	disk := memdisk.New()
	s := open(t, disk, 1<<20)
	loc, err := s.Append(TypeChunk, idOf(1), body(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	before := disk.Ops()
	ro, err := Open(Config{FS: disk, Key: testKey, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	mustRead(t, ro, loc, 1)
	if _, err := ro.Append(TypeChunk, idOf(2), nil); !errors.Is(err, sharefs.KindReadOnly) {
		t.Errorf("append: %v", err)
	}
	if err := ro.Sync(); err != nil || disk.Ops() != before {
		t.Errorf("%d operations, %v", disk.Ops()-before, err)
	}
}

func TestAForeignEpochIsLeftAlone(t *testing.T) {
	disk := memdisk.New()
	s, err := Open(Config{FS: disk, Key: func(Epoch) ([32]byte, error) { return [32]byte{}, nil }, Epoch: Epoch{Number: 50}})
	if err != nil {
		t.Fatal(err)
	}
	loc, err := s.Append(TypeChunk, idOf(1), body(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	size := len(disk.Data(loc.Pack.growing()))
	s = open(t, disk, 1<<20)
	mine, err := s.Append(TypeChunk, idOf(2), body(2))
	if err != nil || mine.Pack == loc.Pack || len(disk.Data(loc.Pack.growing())) != size {
		t.Errorf("%v, %v", mine, err)
	}
	if _, err := s.Read(loc, idOf(1), nil); !errors.Is(err, sharefs.KindAccess) {
		t.Errorf("without the epoch's key: %v", err)
	}
}

// The layouts of the package comment, byte for byte.
func TestLayoutIsPinned(t *testing.T) {
	h := Header{ID: ID{0: 0xa0, 15: 0xaf}, Epoch: Epoch{Number: 7, Key: sharefs.KeyID{0: 0xb0, 15: 0xbf}}, Created: 0x0123456789abcdef}
	r := recordHeader{typ: TypeChunk, codec: Zstd, sealed: 116, plain: 300, nonce: [12]byte{1, 11: 2}, id: sharefs.ChunkID{0: 3, 31: 4}, body: 0x05060708}
	rb := make([]byte, recordHeaderLen)
	r.encode(rb)
	f := footer{index: 64 + 180, records: 1, length: 128}
	e := entry{id: sharefs.ChunkID{0: 3, 31: 4}, off: 64, sealed: 116, plain: 300, typ: TypeChunk, codec: Zstd}
	l := Loc{Pack: h.ID, Off: 64, Sealed: 116, Plain: 300}
	for name, c := range map[string]struct{ got, want string }{
		"header": {hex.EncodeToString(h.encode()[:60]), "7368617265667350" + "0001" + "0000" + "00000007" + "a00000000000000000000000000000af" + "0123456789abcdef" + "b00000000000000000000000000000bf" + "00000000"},
		"record": {hex.EncodeToString(rb[:60]), "5263" + "01" + "01" + "00000074" + "0000012c" + "010000000000000000000002" +
			"0300000000000000000000000000000000000000000000000000000000000004" + "05060708"},
		"footer": {hex.EncodeToString(f.encode()[:28]), "7368617265667345" + "00000000000000f4" + "00000001" + "00000080" + "00000000"},
		"entry":  {hex.EncodeToString(e.append(nil)), "0300000000000000000000000000000000000000000000000000000000000004" + "00000040" + "00000074" + "0000012c" + "01010000"},
		"loc":    {hex.EncodeToString(l.Append(nil)), "a00000000000000000000000000000af" + "00000040" + "00000074" + "0000012c"},
	} {
		if c.got != c.want {
			t.Errorf("%s: %s\nwanted %s", name, c.got, c.want)
		}
	}
	if back, err := decodeRecord(rb); err != nil || back != r {
		t.Errorf("%+v, %v", back, err)
	}
	if back, err := decodeHeader(h.encode()); err != nil || back != h {
		t.Errorf("%+v, %v", back, err)
	}
	if back, err := ParseLoc(l.Append(nil)); err != nil || back != l {
		t.Errorf("%+v, %v", back, err)
	}
	if back := decodeEntry(e.append(nil)); back != e {
		t.Errorf("%+v", back)
	}
}

// FuzzPack hands any bytes to everything that reads a pack, both as a sealed and as a growing one.
func FuzzPack(f *testing.F) {
	disk := memdisk.New()
	s := open(f, disk, 4000)
	for x := range uint64(6) {
		if _, err := s.Append(TypeChunk, idOf(x), body(x)); err != nil {
			f.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	for _, name := range disk.Names() {
		f.Add(disk.Data(name))
		f.Add(disk.Data(name)[:len(disk.Data(name))-40])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var id ID
		if len(data) >= 32 {
			copy(id[:], data[16:])
		}
		for _, name := range []string{id.name(), id.growing()} {
			disk := memdisk.New()
			disk.Put(name, data)
			s := open(t, disk, 1<<20)
			if records, err := s.Index(id); err == nil {
				for _, r := range records {
					if b, err := s.Read(r.Loc, r.ID, nil); err == nil && len(b) != int(r.Loc.Plain) {
						t.Fatalf("%d bytes of %d", len(b), r.Loc.Plain)
					}
				}
			}
			loc, err := s.Append(TypeChunk, idOf(1), body(1))
			if err == nil {
				err = s.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
			mustRead(t, open(t, disk, 1<<20), loc, 1)
		}
	})
}

func BenchmarkAppendAndRead(b *testing.B) {
	for _, kind := range []string{"random", "text"} {
		chunk := make([]byte, 64<<10)
		r := rand.NewChaCha8([32]byte{1})
		r.Read(chunk)
		if kind == "text" {
			chunk = nil
			for i := 0; len(chunk) < 64<<10; i++ {
				chunk = fmt.Appendf(chunk, "line %d of a program that prints %x\n", i, i*i*7919)
			}
			chunk = chunk[:64<<10]
		}
		s := open(b, Dir(b.TempDir()), 0)
		var locs []Loc
		b.Run("append/"+kind, func(b *testing.B) {
			b.SetBytes(int64(len(chunk)))
			for b.Loop() {
				binary.BigEndian.PutUint64(chunk, uint64(len(locs)))
				loc, err := s.Append(TypeChunk, idOf(uint64(len(locs))), chunk)
				if err != nil {
					b.Fatal(err)
				}
				locs = append(locs, loc)
			}
			if err := s.Sync(); err != nil {
				b.Fatal(err)
			}
		})
		b.Run("read/"+kind, func(b *testing.B) {
			b.SetBytes(int64(len(chunk)))
			var buf []byte
			for i := 0; b.Loop(); i++ {
				got, err := s.Read(locs[i%len(locs)], idOf(uint64(i%len(locs))), buf)
				if err != nil {
					b.Fatal(err)
				}
				buf = got
			}
		})
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// A pack for which the disk had no room goes on in the same process when there is some: it is cut to what was synced.
func TestGoesOnWithRoom(t *testing.T) {
	disk := memdisk.New()
	s := open(t, disk, 1<<20)
	first, err := s.Append(TypeChunk, idOf(1), body(1))
	if err != nil || s.Sync() != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(TypeChunk, idOf(2), body(2)); err != nil {
		t.Fatal(err)
	}
	disk.Fail(1, syscall.ENOSPC)
	if err := s.Sync(); !errors.Is(err, syscall.ENOSPC) || s.Stats().GivenUp != 1 {
		t.Fatalf("%v, %d packs given up", err, s.Stats().GivenUp)
	}
	if _, _, ok := s.Growing(); ok {
		t.Error("it grows while nobody has looked at it")
	}
	if err := s.Recover(); err != nil {
		t.Fatal(err)
	}
	if id, size, ok := s.Growing(); !ok || id != first.Pack || size != int64(first.Off)+first.Len() {
		t.Errorf("%s of %d bytes grows (%v)", id, size, ok)
	}
	third, err := s.Append(TypeChunk, idOf(3), body(3))
	if err != nil || s.Sync() != nil || third.Pack != first.Pack {
		t.Fatalf("%s instead of %s: %v", third.Pack, first.Pack, err)
	}
	mustRead(t, s, first, 1)
	mustRead(t, s, third, 3)
	if err := s.Seal(); err != nil {
		t.Fatal(err)
	}
	mustRead(t, s, first, 1)
	mustRead(t, s, third, 3)

	// Of one whose sync failed nothing is certain: the next process looks at it.
	if _, err := s.Append(TypeChunk, idOf(4), body(4)); err != nil || s.Sync() != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(TypeChunk, idOf(5), body(5)); err != nil {
		t.Fatal(err)
	}
	disk.Fail(2, syscall.ENOSPC)
	if err := s.Sync(); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if _, _, ok := s.Growing(); s.Recover() != nil || ok {
		t.Error("a pack is taken up whose sync failed")
	}
}
