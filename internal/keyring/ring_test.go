package keyring

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"sharefs"
)

func secretOf(n byte) (s [32]byte) {
	for i := range s {
		s[i] = n
	}
	return s
}

// later returns a further key of the share of a ring.
func later(r Ring, epoch uint32, n byte) Key {
	return Key{Share: r.Share(), Epoch: epoch, Secret: secretOf(n)}
}

func must(t testing.TB, r Ring, err error) Ring {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What is in use follows from the set of keys: the slow obvious way says the same, and the order in which keys come says nothing.
func TestUseFollowsFromTheSet(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 11))
		firsts := []Ring{New(secretOf(1)), New(secretOf(2)), New(secretOf(3))}
		var all []Key
		for i, f := range firsts[:1+r.IntN(3)] {
			all = append(all, f.First())
			last := uint32(FirstEpoch)
			for n := range r.IntN(4) {
				last += uint32(r.IntN(2)) // an epoch may have several keys, and has one before it
				all = append(all, later(f, max(last, 2), byte(16*(i+1)+n)))
				last = max(last, 2)
			}
		}
		best := all[0]
		for _, k := range all[1:] {
			a, b := k.ID(), best.ID()
			switch c := bytes.Compare(k.Share[:], best.Share[:]); {
			case c < 0, c == 0 && k.Epoch > best.Epoch, c == 0 && k.Epoch == best.Epoch && bytes.Compare(a[:], b[:]) < 0:
				best = k
			}
		}
		var rings []Ring
		for _, f := range firsts { // of several stores
			if !slices.Contains(all, f.First()) {
				continue
			}
			r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			ring := must2(t)(f.Add(all...))
			if got := ring.Shares(); got[0] != best.Share {
				t.Fatalf("seed %d: %v", seed, got)
			}
			if ring.Use() != best || ring.Len() != len(all) || ring.First() != f.First() {
				t.Fatalf("seed %d: %v is in use, not %v", seed, ring.Use(), best)
			}
			for _, k := range all {
				if got, ok := ring.ByID(k.ID()); !ok || got != k {
					t.Fatalf("%v, %v", got, ok)
				}
			}
			rings = append(rings, ring)
			back, err := Parse(ring.Text())
			if err != nil || !bytes.Equal(back.Text(), ring.Text()) || back.Use() != best || back.First() != ring.First() {
				t.Fatalf("%v\n%s", err, ring.Text())
			}
		}
		for _, a := range rings {
			for _, b := range rings {
				if !a.Has(b) {
					t.Fatal("one has keys that the other has not")
				}
			}
		}
	}
}

func must2(t testing.TB) func(Ring, error) Ring {
	return func(r Ring, err error) Ring { t.Helper(); return must(t, r, err) }
}

func TestNextIsInUse(t *testing.T) {
	a, b := Make(), Make()
	met := must2(t)(a.Add(b.Keys()...))
	next := must2(t)(met.Next())
	if now := next.Use(); now.Share != met.Use().Share || now.Epoch != 2 || met.Has(next) || !next.Has(met) || met.Len() != 2 {
		t.Errorf("%v", now)
	}
	// Two that do so without knowing of each other come to one key.
	other := must2(t)(met.Next())
	x, y := must2(t)(next.Add(other.Keys()...)), must2(t)(other.Add(next.Keys()...))
	if x.Use() != y.Use() || x.Len() != 4 {
		t.Errorf("%v and %v", x.Use(), y.Use())
	}
}

func TestAddRefuses(t *testing.T) {
	a, b := New(secretOf(1)), New(secretOf(2))
	for name, k := range map[string]Key{
		"epoch 0":                          later(a, 0, 3),
		"an epoch too far":                 later(a, MaxEpoch+1, 3),
		"an epoch with none before it":     later(a, 4, 3),
		"a later epoch of another share":   later(New(secretOf(7)), 2, 3),
		"another first key":                later(a, FirstEpoch, 3),
		"a first key with another's share": {b.Share(), 1, secretOf(1)},
	} {
		ring := must2(t)(a.Add(b.First(), later(a, 2, 9)))
		if got, err := ring.Add(k); !errors.Is(err, sharefs.KindInvalid) || got.Len() != 3 {
			t.Errorf("%s: %v", name, err)
		}
	}
	ring := a
	for n := range uint32(MaxKeys - 1) {
		k := later(a, 2+n, 0)
		k.Secret[0], k.Secret[1] = byte(n), byte(n>>8)
		k.Secret[2] = 1
		ring = must2(t)(ring.Add(k))
	}
	if _, err := ring.Add(later(a, 2, 77)); !errors.Is(err, sharefs.KindTooBig) || len(ring.Text()) > MaxFile {
		t.Errorf("%d keys, %d bytes, %v", ring.Len(), len(ring.Text()), err)
	}
	if _, err := Parse(ring.Text()); err != nil {
		t.Error(err)
	}
}

// Whoever has a key can say that it is another share's, or of another epoch. That is another key, and whoever has the right one is not refused for it.
func TestASecretOfSeveralKeys(t *testing.T) {
	a, b := New(secretOf(1)), New(secretOf(2))
	honest := must2(t)(a.Add(later(a, 2, 9)))
	for name, lie := range map[string]Key{
		"another epoch":                   later(a, 3, 9),
		"another share":                   later(b, 2, 9),
		"a first key that is a later one": {a.Share(), 2, secretOf(1)},
		"a first key in another share":    {a.Share(), 2, secretOf(2)},
		"a later key that is a first one": New(secretOf(9)).First(),
	} {
		evil := must2(t)(b.Add(a.First(), later(a, 2, 7), lie))
		one := must2(t)(must2(t)(b.Add(evil.Keys()...)).Add(honest.Keys()...))
		other := must2(t)(must2(t)(b.Add(honest.Keys()...)).Add(evil.Keys()...))
		if !one.Has(honest) || one.Use() != other.Use() || !bytes.Equal(one.Encode(), other.Encode()) {
			t.Errorf("%s: %v, %v", name, one.Keys(), other.Keys())
		}
		for _, k := range append(honest.Keys(), lie) {
			if got, ok := one.ByID(k.ID()); !ok || got != k {
				t.Errorf("%s: %v is %v", name, k, got)
			}
		}
		if back := must2(t)(Decode(one.Encode())); back.Sum() != one.Sum() {
			t.Errorf("%s: %v", name, back.Keys())
		}
		if back := must2(t)(Parse(one.Text())); back.Sum() != one.Sum() {
			t.Errorf("%s: %v", name, back.Keys())
		}
	}
}

// share.key, byte for byte.
func TestTextIsPinned(t *testing.T) {
	one := New(secretOf(0x41))
	if got, want := string(one.Text()), "sharefs-share-1 QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=\n"; got != want {
		t.Errorf("%q", got)
	}
	for n, want := range map[byte]string{0x41: id41, 0x42: id42} {
		s := secretOf(n)
		id := IDOf(&s)
		if got := hex.EncodeToString(id[:]); got != want {
			t.Errorf("%s", got)
		}
	}
	if got := later(one, 2, 0x43).ID().String(); got != id43 {
		t.Errorf("%s", got)
	}
	two := must2(t)(one.Add(New(secretOf(0x42)).First(), later(one, 2, 0x43)))
	if got := string(two.Text()); got != pinned {
		t.Errorf("%s", got)
	}
}

func TestParseRefuses(t *testing.T) {
	whole := []byte(pinned)
	for bit := range 8 * len(whole) {
		b := slices.Clone(whole)
		b[bit/8] ^= 1 << (bit % 8)
		if _, err := Parse(b); !errors.Is(err, sharefs.KindCorrupt) {
			t.Fatalf("bit %d: %v", bit, err)
		}
	}
	for n := range whole {
		if _, err := Parse(whole[:n]); !errors.Is(err, sharefs.KindCorrupt) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	summed := func(lines string) []byte {
		b := []byte(magic2 + lines)
		return append(b, "sum "+hex.EncodeToString(sum(b))+"\n"...)
	}
	one := New(secretOf(1))
	line := func(k Key) string { return "key " + k.Share.String() + " 1 " + encode(&k.Secret) + "\n" }
	for name, lines := range map[string]string{
		"none":                  "",
		"one alone":             line(one.First()),
		"twice":                 line(one.First()) + line(one.First()),
		"a line break too many": line(one.First()) + "\n",
		"no first":              "key " + id41 + " 2 " + encode(&one.first.Secret) + "\n",
		"signs":                 line(one.First()) + "key " + id41 + " +2 " + encode(&one.first.Secret) + "\n",
	} {
		if _, err := Parse(summed(lines)); !errors.Is(err, sharefs.KindCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(pinned))
	f.Add(New(secretOf(3)).Text())
	f.Add([]byte(magic2 + "sum 00\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := Parse(text)
		if err != nil {
			if !errors.Is(err, sharefs.KindCorrupt) {
				t.Fatal(err)
			}
			return
		}
		back, err := Parse(r.Text())
		if err != nil || !back.Has(r) || !r.Has(back) || back.Use() != r.Use() {
			t.Fatalf("%q: %v", text, err)
		}
		if r.Len() == 1 {
			text = append(bytes.TrimRight(text, "\r\n"), '\n')
		}
		if !bytes.Equal(r.Text(), text) {
			t.Fatalf("%q is read, and written as %q", text, r.Text())
		}
	})
}

const (
	id41   = "fc15d13b8b2715ffb41152194f0955a2"
	id42   = "d818d1e1787de0eec35644398d689e2b"
	id43   = "182b362d41ccad4b1dc0ef183402efc6"
	pinned = `sharefs-share-2
key fc15d13b8b2715ffb41152194f0955a2 1 QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=
key d818d1e1787de0eec35644398d689e2b 1 QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI=
key fc15d13b8b2715ffb41152194f0955a2 2 Q0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0M=
sum f87ee972f1259bc28d4097f3cb7c18b5
`
)
