package pack

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"sharefs"
	"sharefs/integration/race"
	"sharefs/versions/pack/memdisk"
)

// epochs are what the tests of several epochs know; the first two have one number, as of two shares that met.
var epochs = []Epoch{{1, sharefs.KeyID{1}}, {1, sharefs.KeyID{2}}, {2, sharefs.KeyID{3}}}

func openEpochs(t testing.TB, fs FS, use Epoch) *Store {
	t.Helper()
	s, err := Open(Config{FS: fs, Key: testKey, Epoch: use, Epochs: func() []Epoch { return epochs }, First: epochs[0], Target: 3000})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Records of several epochs, in any order and with restarts, lie in packs of their epochs, read, and are copied within them.
func TestEpochsKeepApart(t *testing.T) {
	race.Leave(t, race.OneHand)
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 5))
		disk := memdisk.New()
		use := epochs[0]
		s := openEpochs(t, disk, use)
		type rec struct {
			loc   Loc
			seed  uint64
			epoch Epoch
		}
		var all []rec
		for n := range uint64(300) {
			e := epochs[r.IntN(len(epochs))]
			switch k := r.IntN(20); {
			case k == 0:
				use = e
				if err := s.Use(use); err != nil {
					t.Fatal(err)
				}
				if len(s.cur) > 1 || len(s.cur) == 1 && s.cur[0].hdr.Epoch != use {
					t.Fatalf("%d packs grow", len(s.cur))
				}
			case k == 1:
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = openEpochs(t, disk, use)
			case k == 2 && len(all) > 0:
				x := &all[r.IntN(len(all))]
				to, err := s.Copy(Record{Loc: x.loc, Type: TypeChunk, ID: idOf(x.seed)})
				if err != nil {
					t.Fatal(err)
				}
				x.loc = to
			case k < 12:
				loc, err := s.Append(TypeChunk, idOf(n), body(n))
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, rec{loc, n, use})
			default:
				loc, err := s.AppendTo(e, TypeChunk, idOf(n), body(n))
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, rec{loc, n, e})
			}
		}
		sizes, err := s.SyncGrowing()
		if err != nil || len(sizes) != len(s.cur) {
			t.Fatalf("%v, %v", sizes, err)
		}
		seen := map[Epoch]int{}
		for _, x := range all {
			mustRead(t, s, x.loc, x.seed)
			if e, err := s.EpochOf(x.loc.Pack); err != nil || e != x.epoch {
				t.Fatalf("a record of %v lies in a pack of %v, %v", x.epoch, e, err)
			}
			seen[x.epoch]++
		}
		if len(seen) != len(epochs) {
			t.Fatalf("%v", seen)
		}
		ids, err := s.Packs()
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			want, _ := s.EpochOf(id)
			if sum, err := s.Examine(id, func(e Epoch, _ Record, _ []byte) error {
				if e != want {
					return errors.New("another epoch")
				}
				return nil
			}, func(b BadRecord) { t.Error(b) }); err != nil || sum.Epoch != want {
				t.Errorf("%v: %+v, %v", id, sum, err)
			}
		}
		if _, err := s.SealOthers(); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A pack whose header is damaged is read, mended and taken up by trying the keys that are here.
func TestDamagedHeaderOfAnyEpoch(t *testing.T) {
	for _, e := range epochs {
		for _, sealed := range []bool{true, false} {
			disk := memdisk.New()
			s := openEpochs(t, disk, e)
			loc, err := s.Append(TypeChunk, idOf(4), body(4))
			if err != nil {
				t.Fatal(err)
			}
			name := loc.Pack.growing()
			if sealed {
				if err := s.Seal(); err != nil {
					t.Fatal(err)
				}
				name = loc.Pack.name()
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			whole := slices.Clone(disk.Data(name))
			disk.Data(name)[13] ^= 1
			s = openEpochs(t, disk, epochs[1])
			mustRead(t, s, loc, 4)
			if got, err := s.EpochOf(loc.Pack); err != nil || got != e {
				t.Errorf("of %v: %v, %v", e, got, err)
			}
			if sealed {
				m, err := s.Mend(loc.Pack)
				if err != nil || !m.Header {
					t.Errorf("%+v, %v", m, err)
				}
				if got := disk.Data(name); !slices.Equal(got[12:16], whole[12:16]) || !slices.Equal(got[40:56], whole[40:56]) {
					t.Errorf("of %v: %x", e, got[:64])
				}
			} else if err := s.Recover(); err != nil {
				t.Error(err)
			}
			mustRead(t, s, loc, 4)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A pack from before keys had ids is of the first, and of none where another number stands in it.
func TestPacksWithoutKeyID(t *testing.T) {
	disk := memdisk.New()
	old := func(e Epoch) ([32]byte, error) { return testKey(Epoch{e.Number, epochs[0].Key}) }
	s, err := Open(Config{FS: disk, Key: old, Epoch: Epoch{Number: 1}})
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
	s = openEpochs(t, disk, epochs[0])
	mustRead(t, s, loc, 1)
	if e, err := s.EpochOf(loc.Pack); err != nil || e != epochs[0] {
		t.Errorf("%v, %v", e, err)
	}
	if more, err := s.Append(TypeChunk, idOf(2), body(2)); err != nil || more.Pack != loc.Pack {
		t.Errorf("it does not grow on: %v, %v", more, err)
	}
	if err := s.Use(Epoch{Number: 10}); !errors.Is(err, sharefs.KindAccess) {
		t.Errorf("a key that is not here: %v", err)
	}
}
