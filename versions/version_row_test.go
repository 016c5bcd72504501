package versions

import (
	"errors"
	"reflect"
	"testing"

	"sharefs"
)

// keptVersion is a row with everything that one can hold.
func keptVersion() *version {
	return &version{
		ino: 7, own: 3, place: placeKept, timed: true, at: 0x0102030405060708, file: sharefs.FileID{15: 9}, size: 300, mode: sharefs.ModeRegular | 0o640,
		uid: 1000, gid: 50, author: 1, mtime: 1000, ctime: 999, note: "né",
		merged: 0x010203040506070a, until: 0x0102030405060788,
		top: manifest{0, []span{{len: 200, id: sharefs.ChunkID{31: 5}}, {len: 100, hole: true}}},
	}
}

func TestVersionRow(t *testing.T) {
	v := keptVersion()
	const want = "\x02\x06" + "\x01\x02\x03\x04\x05\x06\x07\x08" + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x09" +
		"\xac\x02" + "\xa0\x83\x02" + "\xe8\x07" + "\x32" + "\x01" + "\xd0\x0f\x01" + "\x03\x80\x01" + "\x03n\xc3\xa9" + "\x00" +
		"\x90\x03" + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x05" +
		"\xc9\x01"
	if got := string(v.encode()); got != want {
		t.Fatalf("written as\n%x, want\n%x", got, want)
	}
	key := versionKey(v.ino, v.own)
	if back, err := decodeVersion(key, []byte(want)); err != nil || !reflect.DeepEqual(back, v) {
		t.Errorf("reads back as %+v, %v", back, err)
	}
	for i := range len(want) {
		if _, err := decodeVersion(key, []byte(want[:i])); !errors.Is(err, sharefs.KindCorrupt) {
			t.Errorf("a row cut to %d bytes: %v", i, err)
		}
	}
	if _, err := decodeVersion(key[:15], []byte(want)); !errors.Is(err, sharefs.KindCorrupt) {
		t.Errorf("a short key: %v", err)
	}
}

// A store that was written before views of the past existed has rows without the two readings.
func TestVersionRowOfFormat1(t *testing.T) {
	v := keptVersion()
	v.merged, v.until = 0, 0
	old := v.encode()
	at := 2 + 8 + 16 + 2 + 3 + 2 + 1 + 1 + 3
	if old[at] != 0 || old[at+1] != 0 {
		t.Fatalf("the readings do not lie at %d: %x", at, old)
	}
	old = append(old[:at:at], old[at+2:]...)
	old[0] = versionFormat1
	back, err := decodeVersion(versionKey(v.ino, v.own), old)
	if err != nil || !reflect.DeepEqual(back, v) {
		t.Errorf("reads as %+v, %v; want %+v", back, err, v)
	}
	old[1] &^= versionTimed
	v.timed, v.merged = false, v.at+1
	if again, err := decodeVersion(versionKey(v.ino, v.own), v.encode()); err != nil || !reflect.DeepEqual(again, v) {
		t.Errorf("%+v reads back as %+v, %v", v, again, err)
	}
	if back, err = decodeVersion(versionKey(v.ino, v.own), old); err != nil || !reflect.DeepEqual(back, v) {
		t.Errorf("one that is not timed reads as %+v, %v; want %+v", back, err, v)
	}
}

func FuzzVersion(f *testing.F) {
	v := keptVersion()
	key := versionKey(v.ino, v.own)
	f.Add(v.encode())
	v.place, v.top, v.merged = placeAside, manifest{}, mergedBefore
	f.Add(v.encode())
	old := v.encode()
	old[0] = versionFormat1
	f.Add(old)
	v.key = 2
	f.Add(v.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := decodeVersion(key, b)
		if err != nil {
			return
		}
		if again, err := decodeVersion(key, v.encode()); err != nil || !reflect.DeepEqual(again, v) {
			t.Errorf("%+v reads back as %+v, %v", v, again, err)
		}
	})
}

func FuzzLineage(f *testing.F) {
	f.Add((&lineage{}).encode())
	f.Add((&lineage{pred: 5, through: 3, base: 9, depth: 2, jump: 4, from: 5, firm: true, since: 77, continued: true}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := decodeLineage(1, b)
		if err != nil {
			return
		}
		if again, err := decodeLineage(1, l.encode()); err != nil || again != l {
			t.Errorf("%+v reads back as %+v, %v", l, again, err)
		}
	})
}
