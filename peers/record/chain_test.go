package record

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"sharefs"
)

func testWriter(n byte) *Writer {
	_, author := testKey(n)
	return &Writer{Share: testShare, Head: Head{Author: author, Incarnation: 7}}
}

func batch(t testing.TB, w *Writer, ids ...ID) *Batch {
	t.Helper()
	key, _ := testKey(1)
	b, err := w.Batch(0x0102030405060708, ids, key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBatchesOnTheWire(t *testing.T) {
	w := testWriter(1)
	first := batch(t, w, rid(2), rid(1))
	second := batch(t, w, rid(3))
	head := wireHeader[:2*(1+16+32)]
	for _, c := range []struct {
		b   *Batch
		hex string
	}{
		{first, head + be64(7) + be64(1) + rep("00", 32) + "0102030405060708" + "02" + rep("02", 32) + rep("01", 32)},
		{second, head + be64(7) + be64(2) + wireHash + "0102030405060708" + "01" + rep("03", 32)},
	} {
		raw := c.b.Bytes()
		if got := hex.EncodeToString(raw[:len(raw)-64]); got != c.hex {
			t.Errorf("%s, want\n%s", got, c.hex)
		}
		back, err := DecodeBatch(raw)
		if err != nil || !reflect.DeepEqual(back, c.b) || back.Verify() != nil {
			t.Errorf("%+v, %v", back, err)
		}
	}
	if first.Hash().String() != wireHash {
		t.Errorf("hash %s", first.Hash())
	}
}

func TestBatchesRefused(t *testing.T) {
	_, author := testKey(1)
	many := make([]ID, MaxBatch+1)
	for i := range many {
		many[i] = ID{byte(i), byte(i >> 8)}
	}
	good := Batch{Share: testShare, Author: author, Number: 1, HLC: 1, Records: []ID{rid(1)}}
	for want, change := range map[string]func(*Batch){
		"":                   func(b *Batch) { b.Records = many[:MaxBatch] },
		"an author of zeros": func(b *Batch) { b.Author = sharefs.PeerID{} },
		"a time of zero":     func(b *Batch) { b.HLC = 0 },
		"number 0":           func(b *Batch) { b.Number = 0 },
		"batch 2 with":       func(b *Batch) { b.Number = 2 },
		"batch 1 with":       func(b *Batch) { b.Prev = Hash{1} },
		"0 records":          func(b *Batch) { b.Records = nil },
		"4097 records":       func(b *Batch) { b.Records = many },
		"a record twice":     func(b *Batch) { b.Records = []ID{rid(1), rid(2), rid(1)} },
	} {
		b := good
		change(&b)
		if err := b.Seal(); want == "" && err != nil || want != "" && (!errors.Is(err, sharefs.KindInvalid) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	raw := batch(t, testWriter(1), rid(1)).Bytes()
	for want, b := range map[string][]byte{
		"too few": raw[:100], "format 9": append([]byte{9}, raw[1:]...), "too few bytes": nil,
		"after its end":  append(bytes.Clone(raw[:len(raw)-64]), make([]byte, 65)...),
		"within its rec": append(bytes.Clone(raw[:len(raw)-65]), make([]byte, 64)...),
		"4097 records":   append(append(bytes.Clone(raw[:batchHeader]), 0x81, 0x20), make([]byte, 64)...),
	} {
		if want == "too few bytes" {
			want = "0 bytes are too few"
		}
		if _, err := DecodeBatch(b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for bit := 0; bit < len(raw)*8; bit += 3 {
		bad := bytes.Clone(raw)
		bad[bit/8] ^= 1 << (bit % 8)
		if b, err := DecodeBatch(bad); err == nil && b.Verify() == nil {
			t.Fatalf("bit %d may be turned", bit)
		}
	}
}

// shelf keeps the batches that were taken.
type shelf map[uint64]*Batch

func (s shelf) held(n uint64) (*Batch, error) {
	if b := s[n]; b != nil {
		return b, nil
	}
	return nil, sharefs.KindNotExist
}

func (s shelf) add(c *Chain, b *Batch) error {
	err := c.Add(b, s.held)
	if err == nil {
		s[b.Number] = b
	}
	return err
}

func TestChain(t *testing.T) {
	w := testWriter(1)
	var all []*Batch
	for i := range byte(5) {
		all = append(all, batch(t, w, rid(i+1)))
	}
	c, s := NewChain(testShare, w.Head.Author, 7), shelf{}
	if err := s.add(c, all[1]); !errors.Is(err, sharefs.KindAgain) || !strings.Contains(err.Error(), "batches 1 to 1 come first") {
		t.Error(err)
	}
	for _, b := range all[:4] {
		if err := s.add(c, b); err != nil {
			t.Fatal(err)
		}
		if err := s.add(c, b); err != nil {
			t.Errorf("again: %v", err)
		}
	}
	if h := c.Head(); h.Number != 4 || h.Hash != all[3].Hash() || !c.Counts(4) || c.Counts(5) || c.Counts(0) {
		t.Errorf("%+v", h)
	}
	for _, x := range []struct {
		head Head
		want Relation
	}{
		{c.Head(), Same}, {w.Head, Longer}, {Head{w.Head.Author, 7, 2, all[1].Hash()}, Shorter}, {Head{w.Head.Author, 7, 0, Hash{}}, Shorter},
		{Head{w.Head.Author, 7, 2, Hash{9}}, Forked}, {Head{w.Head.Author, 8, 2, all[1].Hash()}, Other}, {Head{sharefs.PeerID{1}, 7, 2, all[1].Hash()}, Other},
	} {
		if got := c.Compare(x.head); got != x.want {
			t.Errorf("%+v: %d, want %d", x.head, got, x.want)
		}
	}
	// Of others: another share, another author, no signature.
	for _, bad := range []*Batch{
		func() *Batch { w := testWriter(1); w.Share[0]++; return batch(t, w, rid(1)) }(),
		func() *Batch { w := testWriter(1); w.Head.Incarnation++; return batch(t, w, rid(1)) }(),
		func() *Batch {
			b := *all[4]
			if err := b.Seal(); err != nil {
				t.Fatal(err)
			}
			return &b
		}(),
	} {
		if err := s.add(c, bad); !errors.Is(err, sharefs.KindCorrupt) {
			t.Error(err)
		}
	}
}

func TestEquivocation(t *testing.T) {
	w := testWriter(1)
	a1, a2 := batch(t, w, rid(1)), batch(t, w, rid(2))
	restored := *w
	a3, a4 := batch(t, w, rid(3)), batch(t, w, rid(4))
	b3, b4, b5 := batch(t, &restored, rid(13)), batch(t, &restored, rid(14)), batch(t, &restored, rid(15))
	c, s := NewChain(testShare, w.Head.Author, 7), shelf{}
	for _, b := range []*Batch{a1, a2, a3, a4} {
		if err := s.add(c, b); err != nil {
			t.Fatal(err)
		}
	}
	// The first that shows up is b5: it does not follow, so the ones before are asked for, up to b3, with which the two histories part.
	if err := s.add(c, b5); !errors.Is(err, sharefs.KindAgain) || !strings.Contains(err.Error(), "another batch 4") || c.Fork() != nil {
		t.Error(err)
	}
	if err := s.add(c, b4); !errors.Is(err, sharefs.KindAgain) || !strings.Contains(err.Error(), "another batch 3") || c.Fork() != nil {
		t.Error(err)
	}
	if err := s.add(c, b3); !errors.Is(err, sharefs.KindPermission) {
		t.Error(err)
	}
	f := c.Fork()
	if f == nil || f.Taken.Number != f.Refused.Number || f.Taken.Hash() == f.Refused.Hash() || f.Taken.Verify() != nil || f.Refused.Verify() != nil || f.Taken.Author != f.Refused.Author {
		t.Fatalf("%+v", f)
	}
	// What was taken stays, nothing else is taken, neither branch.
	for _, b := range []*Batch{b4, b5, batch(t, w, rid(5))} {
		if err := s.add(c, b); !errors.Is(err, sharefs.KindPermission) || c.Fork() != f {
			t.Error(err)
		}
	}
	if err := s.add(c, a2); err != nil || !c.Counts(4) || c.Counts(5) {
		t.Error(err)
	}
	// The restored host hears of its own batch that it does not know, and begins anew.
	if restored.Saw(a2) || restored.Saw(b5) || !restored.Saw(func() *Batch { w := *w; return batch(t, &w, rid(6)) }()) {
		t.Error("saw")
	}
	if restored.Head.Incarnation != 8 || restored.Head.Number != 0 {
		t.Errorf("%+v", restored.Head)
	}
	if err := (shelf{}).add(NewChain(testShare, w.Head.Author, 8), batch(t, &restored, rid(20))); err != nil {
		t.Error(err)
	}
	if restored.Saw(a4) {
		t.Error("an old incarnation began another one")
	}
	// Rolled back by one and gone on by one: the same number, another hash.
	x := testWriter(1)
	y := *x
	batch(t, x, rid(1))
	if !x.Saw(batch(t, &y, rid(2))) || x.Head.Incarnation != 8 {
		t.Error("an own batch of the same number was not noticed")
	}
	if x.Saw(batch(t, func() *Writer { w := testWriter(1); w.Head.Author = x.Head.Author; return w }(), rid(9))) {
		t.Error("an incarnation before this one")
	}
}

func TestCut(t *testing.T) {
	w := testWriter(1)
	b1, b2, b3 := batch(t, w, rid(1)), batch(t, w, rid(2)), batch(t, w, rid(3))
	c, s := NewChain(testShare, w.Head.Author, 7), shelf{}
	for _, b := range []*Batch{b1, b2} {
		if err := s.add(c, b); err != nil {
			t.Fatal(err)
		}
	}
	c.Cut(&Cut{Author: sharefs.PeerID{1}, Incarnation: 0})
	if !c.Counts(2) {
		t.Error("the cut of another author counts")
	}
	c.Cut(&Cut{Author: w.Head.Author, Incarnation: 7, Number: 2})
	c.Cut(&Cut{Author: w.Head.Author, Incarnation: 9, Number: 9})
	if err := s.add(c, b3); !errors.Is(err, sharefs.KindPermission) || !c.Counts(2) {
		t.Error(err)
	}
	c.Cut(&Cut{Author: w.Head.Author, Incarnation: 7, Number: 1})
	if c.Counts(2) || !c.Counts(1) {
		t.Error("of two cuts the lower counts")
	}
	next := NewChain(testShare, w.Head.Author, 8)
	next.Cut(&Cut{Author: w.Head.Author, Incarnation: 7, Number: 1})
	w.Head = Head{Author: w.Head.Author, Incarnation: 8}
	if err := (shelf{}).add(next, batch(t, w, rid(4))); !errors.Is(err, sharefs.KindPermission) {
		t.Error("a new incarnation escapes the cut", err)
	}
}

// FuzzDecodeBatch: whatever decodes has one encoding.
func FuzzDecodeBatch(f *testing.F) {
	w := testWriter(1)
	f.Add(batch(f, w, rid(2), rid(1)).Bytes())
	f.Add(batch(f, w, rid(3)).Bytes())
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := DecodeBatch(raw)
		if err != nil {
			if !errors.Is(err, sharefs.KindInvalid) && !errors.Is(err, sharefs.KindNotSupported) {
				t.Fatal(err)
			}
			return
		}
		again := *b
		if err := again.Seal(); err != nil {
			t.Fatalf("decodes, but cannot be authored: %v", err)
		}
		if n := len(raw) - 64; !bytes.Equal(again.Bytes()[:n], raw[:n]) || again.Hash() != b.Hash() {
			t.Fatalf("%x has another encoding: %x", raw, again.Bytes())
		}
	})
}
