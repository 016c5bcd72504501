package replica

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"sharefs"
	"sharefs/peers/record"
)

var testShare = record.ShareID{0x5a}

func testKey(n byte) (ed25519.PrivateKey, sharefs.PeerID) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
	return key, sharefs.PeerID(key.Public().(ed25519.PublicKey))
}

// written returns records of a host, each an attribute of a file of its own.
func written(t testing.TB, host byte, n int) (all []*record.Record) {
	t.Helper()
	key, author := testKey(host)
	for i := range n {
		rec, err := record.New(testShare, author, sharefs.HLC(i+1), &record.Attr{File: sharefs.FileID{host, byte(i + 1)}, Mode: 0o644})
		if err == nil {
			err = rec.Sign(key)
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rec)
	}
	return all
}

// strung returns records as the next batch of a writer.
func strung(t testing.TB, w *record.Writer, host byte, list []*record.Record) Item {
	t.Helper()
	key, author := testKey(host)
	w.Share, w.Head.Author = testShare, author
	var ids []record.ID
	for _, rec := range list {
		ids = append(ids, rec.ID())
	}
	b, err := w.Batch(1, ids, key)
	if err != nil {
		t.Fatal(err)
	}
	return Item{Batch: b, Records: list}
}

func TestItemsOnTheWire(t *testing.T) {
	list := written(t, 1, 2)
	w := &record.Writer{Head: record.Head{Incarnation: 3}}
	for name, c := range map[string]struct {
		item Item
		want string
	}{
		"record": {Item{Records: list[:1]}, "02" + "8e01" + hex.EncodeToString(list[0].Bytes())},
	} {
		if got := hex.EncodeToString(c.item.Append(nil)); got != c.want {
			t.Errorf("%s: %s, not %s", name, got, c.want)
		}
	}
	batch := strung(t, w, 1, list)
	raw := batch.Append(nil)
	want := "01" + "ea01" + hex.EncodeToString(batch.Batch.Bytes()) + "8e01" + hex.EncodeToString(list[0].Bytes()) + "8e01" + hex.EncodeToString(list[1].Bytes())
	if got := hex.EncodeToString(raw); got != want {
		t.Errorf("batch: %s, not %s", got, want)
	}
	back, err := DecodeItem(raw)
	if err != nil || !reflect.DeepEqual(back, batch) {
		t.Errorf("%+v %v", back, err)
	}
}

func TestItemsRefused(t *testing.T) {
	list := written(t, 1, 3)
	others := written(t, 2, 2)
	batch := strung(t, &record.Writer{}, 1, list[:2])
	whole := batch.Append(nil)
	single := (&Item{Records: list[:1]}).Append(nil)
	with := func(list ...*record.Record) []byte { return (&Item{Batch: batch.Batch, Records: list}).Append(nil) }
	for name, c := range map[string]struct {
		raw  []byte
		want string
	}{
		"nothing":           {nil, "0 bytes"},
		"too much":          {make([]byte, MaxItem+1), "allowed are 1 to"},
		"another kind":      {append([]byte{3}, single[1:]...), "kind 3"},
		"no batch":          {[]byte{1}, "within its batch"},
		"no record":         {[]byte{2}, "within its records"},
		"endless":           {[]byte{2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, "within its records"},
		"long varint":       {[]byte{2, 0x80, 0x00}, "within its records"},
		"cut off":           {whole[:len(whole)-1], "within its records"},
		"a record too few":  {with(list[0]), "within its records"},
		"a record too many": {with(list...), "after its end"},
		"another order":     {with(list[1], list[0]), "record 0"},
		"another record":    {with(list[0], list[2]), "record 1"},
		"another's record":  {with(list[0], others[1]), "record 1"},
		"garbage":           {append([]byte{2, 70}, make([]byte, 70)...), ""},
	} {
		i, err := DecodeItem(c.raw)
		if i.Records != nil || !errors.Is(err, sharefs.KindInvalid) && !errors.Is(err, sharefs.KindNotSupported) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzDecodeItem: whatever decodes has one encoding, and what was refused says why.
func FuzzDecodeItem(f *testing.F) {
	list := written(f, 1, 3)
	batch := strung(f, &record.Writer{}, 1, list)
	f.Add(batch.Append(nil))
	f.Add((&Item{Records: list[:1]}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := DecodeItem(b)
		if err != nil {
			if !errors.Is(err, sharefs.KindInvalid) && !errors.Is(err, sharefs.KindNotSupported) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(i.Append(nil), b) {
			t.Fatalf("%x has another encoding", b)
		}
	})
}
