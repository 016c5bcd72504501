package pack

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"sharefs"
	"sharefs/versions/pack/memdisk"
)

// What was written passes, grown or sealed, and as far as it had come after each record. With any byte another one, or with a byte more, it does not, but where the byte is one that was given back.
func TestCheckSealed(t *testing.T) {
	disk := memdisk.New()
	s, err := Open(Config{FS: disk, Key: testKey, Epoch: epochs[1], Epochs: func() []Epoch { return epochs }, First: epochs[0], Target: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	var ends []int64
	var name string
	for n := range uint64(5) {
		loc, err := s.Append(TypeChunk, idOf(n), body(n))
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, int64(loc.Off)+loc.Len())
		name = loc.Pack.growing()
		if n == 4 {
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
			grown := slices.Clone(disk.Data(name))
			for _, end := range ends {
				if err := s.CheckSealed(name, bytes.NewReader(grown), end); err != nil {
					t.Errorf("up to %d: %v", end, err)
				}
				if err := s.CheckSealed(name, bytes.NewReader(grown), end-1); !errors.Is(err, sharefs.KindCorrupt) {
					t.Errorf("up to %d: %v", end-1, err)
				}
			}
			if err := s.Seal(); err != nil {
				t.Fatal(err)
			}
			name = loc.Pack.name()
		}
	}
	whole := slices.Clone(disk.Data(name))
	check := func(b []byte) error { return s.CheckSealed(name, bytes.NewReader(b), int64(len(b))) }
	if err := check(whole); err != nil {
		t.Fatal(err)
	}
	for at := range whole {
		b := slices.Clone(whole)
		b[at] ^= 1 << (at % 8)
		if err := check(b); err == nil {
			t.Errorf("byte %d was changed", at)
		}
	}
	for _, b := range [][]byte{append(slices.Clone(whole), 'x'), []byte("plain text"), nil, bytes.Repeat([]byte("plain text "), 100)} {
		if err := check(b); !errors.Is(err, sharefs.KindCorrupt) {
			t.Errorf("%.20q: %v", b, err)
		}
	}
	hole := slices.Clone(whole)
	clear(hole[ends[1]:ends[2]])
	if err := check(hole); err != nil {
		t.Errorf("a record was given back: %v", err)
	}
	copy(hole[ends[1]+100:], "plain text")
	if err := check(hole); !errors.Is(err, sharefs.KindCorrupt) {
		t.Errorf("text where a record was given back: %v", err)
	}
	if err := openEpochs(t, memdisk.New(), epochs[0]).CheckSealed(name, bytes.NewReader(whole), int64(len(whole))); err != nil {
		t.Errorf("another store with the keys: %v", err)
	}
	other, err := Open(Config{FS: memdisk.New(), Key: func(Epoch) ([32]byte, error) { return [32]byte{9}, nil }, Epoch: epochs[1], Target: 3000})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.CheckSealed(name, bytes.NewReader(whole), int64(len(whole))); !errors.Is(err, sharefs.KindCorrupt) {
		t.Errorf("a store with other keys: %v", err)
	}
	if err := s.CheckSealed("open/"+name[3:], bytes.NewReader(whole[:ends[1]]), ends[1]); err != nil {
		t.Error(err)
	}
	if err := check(whole[:ends[1]]); !errors.Is(err, sharefs.KindCorrupt) {
		t.Errorf("a sealed pack without its end: %v", err)
	}
	for name, want := range map[string]bool{
		name: true, "open/" + name[3:]: true, name[3:]: false, "zz/" + name[3:]: false, "open/../" + name[3:]: false, "": false, "open/diary": false, "my/" + name: false,
	} {
		if err := s.CheckSealed(name, bytes.NewReader(whole), int64(len(whole))); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}
