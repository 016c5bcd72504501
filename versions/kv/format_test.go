package kv

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"sharefs"
)

// The formats of keys and batches, byte for byte.
func TestFormat(t *testing.T) {
	var b Batch
	b.Put(1, []byte("key"), []byte("value"))
	b.Delete(2, []byte("k"))
	b.Put(3, []byte("e"), nil)
	b.Put(4, []byte("l"), bytes.Repeat([]byte{'x'}, 200))
	for _, c := range []struct {
		what string
		got  []byte
		want string
	}{
		{"rows of a batch", b.buf[batchHead:], "00 01 03 05 6b6579 76616c7565  01 02 01 6b  00 03 01 00 65  00 04 01 c801 6c" + strings.Repeat("78", 200)},
		{"ordered key of none", orderedKey(nil, nil), "0000000000000000 00"},
		{"ordered key of 3 bytes", orderedKey(nil, []byte("abc")), "6162630000000000 03"},
		{"ordered key of 8 bytes", orderedKey(nil, []byte("abcdefgh")), "6162636465666768 08"},
		{"ordered key of 9 bytes", orderedKey(nil, []byte("abcdefghi")), "6162636465666768 09 6900000000000000 01"},
		{"key of history", pastKey(nil, []byte("abc"), 0x0102), "6162630000000000 03 fffffffffffffefd"},
		{"a space's key", spaceKey(7), "73706163652f 07"},
		{"a versioned space", (&space{SpaceDef: SpaceDef{7, "c", true}}).definition(), "01 63"},
		{"a plain space", (&space{SpaceDef: SpaceDef{2, "b", false}}).definition(), "00 62"},
	} {
		if got, want := hex.EncodeToString(c.got), strings.ReplaceAll(c.want, " ", ""); got != want {
			t.Errorf("%s: %s, want %s", c.what, got, want)
		}
	}
}

// meta.db, byte for byte: a row with a past, a deleted one, a plain one, and what is noted beside them.
func TestFormatOfDatabase(t *testing.T) {
	dir := t.TempDir()
	clock := &sharefs.Clock{Now: func() time.Time { return time.UnixMilli(0x010000000000) }} // stamps begin with 01
	db := open(t, Config{Dir: dir, Clock: clock})
	put(t, db, spaceA, "k", "old", "gone", "x")
	must(t, db.Boundary(0x0100000000000010))
	var b Batch
	b.Put(spaceA, []byte("k"), []byte("new"))
	b.Delete(spaceA, []byte("gone"))
	b.Put(spaceB, []byte("p"), []byte("plain"))
	_, err := db.Commit(&b)
	must(t, err)
	// Made and removed within an epoch, it leaves nothing, even if it came to bbolt between.
	put(t, db, spaceA, "brief", "x")
	must(t, db.Checkpoint())
	b.Reset()
	b.Delete(spaceA, []byte("brief"))
	_, err = db.Commit(&b)
	must(t, err)
	must(t, db.Boundary(0x0100000000000020))
	// What is gone can be deleted again without a trace.
	b.Reset()
	b.Delete(spaceA, []byte("gone"))
	b.Delete(spaceA, []byte("never"))
	_, err = db.Commit(&b)
	must(t, err)
	must(t, db.Close())
	raw, err := bbolt.Open(dir+"/meta.db", 0, &bbolt.Options{ReadOnly: true})
	must(t, err)
	defer raw.Close()
	var got []string
	must(t, raw.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error {
				got = append(got, string(name)+" "+hex.EncodeToString(k)+" "+hex.EncodeToString(v))
				return nil
			})
		})
	}))
	want := []string{
		"boundaries 0100000000000000 0100000000000010",
		"boundaries 0100000000000011 0100000000000020",
		"h/a 676f6e650000000004feffffffffffffee 00",
		"h/a 676f6e650000000004feffffffffffffff 0178",
		"h/a 6b0000000000000001feffffffffffffff 016f6c64",
		"meta 6170706c696564 0000000000000007",                 // applied
		"meta 626f756e64617279 0100000000000020",               // boundary
		"meta 65706f6368 0100000000000021",                     // epoch
		"meta 666f726d6174 0000000000000001",                   // format
		"meta 73706163652f01 0161", "meta 73706163652f02 0062", // spaces
		"meta 73706163652f07 0163",
		"s/a 6b 01000000000000116e6577",
		"s/b 70 706c61696e",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Ordered keys sort as the keys do, whatever follows them, and give the keys back.
func TestOrderedKey(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	random := func() []byte {
		k := make([]byte, r.IntN(20))
		for i := range k {
			k[i] = []byte{0, 1, 8, 9, 'a', 255}[r.IntN(6)]
		}
		return k
	}
	for range 200_000 {
		a, b := random(), random()
		x, y := pastKey(nil, a, sharefs.HLC(r.Uint64())), pastKey(nil, b, sharefs.HLC(r.Uint64()))
		if want := bytes.Compare(a, b); want != 0 && bytes.Compare(x, y) != want {
			t.Fatalf("%q and %q sort as %d, their ordered keys do not", a, b, want)
		}
		if got := plainKey(nil, x); !bytes.Equal(got, a) {
			t.Fatalf("%q came back as %q", a, got)
		}
		if samePast(x, y) != bytes.Equal(a, b) {
			t.Fatalf("%q and %q are taken for one row", a, b)
		}
	}
	if pastStamp(pastKey(nil, []byte("k"), 77)) != 77 {
		t.Error("the stamp did not come back")
	}
}

// Whatever the bytes, a batch that passes the check can be put into a table, and one that was made passes.
func FuzzParseBatch(f *testing.F) {
	var b Batch
	b.Put(1, []byte("key"), []byte("value"))
	b.Delete(2, []byte("k"))
	f.Add(b.buf[batchHead-stampSize:])
	f.Add(binary.AppendUvarint([]byte("12345678\x00\x01"), 1<<63))
	f.Add(binary.AppendUvarint([]byte("12345678\x00\x01\x01"), 1<<64-1))
	f.Add([]byte("12345678"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		stamp, rows, ok := parseBatch(payload)
		if !ok {
			return
		}
		var versioned [256]bool
		var again Batch
		tab := new(table)
		tab.add(1, stamp, rows, &versioned)
		for rest := rows; len(rest) > 0; {
			var c change
			if c, rest, ok = nextChange(rest); !ok {
				t.Fatal("a checked batch does not parse")
			}
			if tab.get(c.space, c.key) == nil {
				t.Fatalf("%q is not in the table", c.key)
			}
			if c.delete {
				again.Delete(c.space, c.key)
			} else {
				again.Put(c.space, c.key, c.value)
			}
		}
		if again.err != nil {
			t.Fatal(again.err)
		}
		if _, _, ok := parseBatch(again.buf[batchHead-stampSize:]); !ok {
			t.Fatal("what was parsed and made again does not parse")
		}
	})
}
