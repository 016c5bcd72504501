package keyring

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"sharefs"
)

// What one host gives another, byte for byte.
func TestEncodingIsPinned(t *testing.T) {
	one := New(secretOf(0x41))
	two := must2(t)(one.Add(New(secretOf(0x42)).First(), later(one, 2, 0x43)))
	line := func(share, epoch string, n byte) string {
		s := secretOf(n)
		return share + epoch + hex.EncodeToString(s[:])
	}
	want := "01" + line(id42, "00000001", 0x42) + line(id41, "00000001", 0x41) + line(id41, "00000002", 0x43)
	if got := hex.EncodeToString(two.Encode()); got != want {
		t.Errorf("%s", got)
	}
	if got := two.Sum(); hex.EncodeToString(got[:]) != pinnedSum {
		t.Errorf("%x", got)
	}
	other := must2(t)(New(secretOf(0x42)).Add(two.Keys()...)) // which began with another key
	if !bytes.Equal(other.Encode(), two.Encode()) || other.Sum() != two.Sum() || one.Sum() == two.Sum() {
		t.Error("rings with the same keys differ")
	}
	back := must2(t)(Decode(two.Encode()))
	if !back.Has(two) || !two.Has(back) || back.Use() != two.Use() {
		t.Errorf("%v", back.Keys())
	}
}

func TestDecodeRefuses(t *testing.T) {
	one := New(secretOf(0x41))
	two := must2(t)(one.Add(New(secretOf(0x42)).First(), later(one, 2, 0x43)))
	whole := two.Encode()
	for n := range whole {
		if _, err := Decode(whole[:n]); n != 1+keyLen && n != 1+2*keyLen && !errors.Is(err, sharefs.KindInvalid) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	swapped := append([]byte{wireFormat}, whole[1+keyLen:1+2*keyLen]...)
	swapped = append(append(swapped, whole[1:1+keyLen]...), whole[1+2*keyLen:]...)
	for name, b := range map[string][]byte{
		"another format":  append([]byte{2}, whole[1:]...),
		"another order":   swapped,
		"a key twice":     append(bytes.Clone(whole), whole[1+2*keyLen:]...),
		"a later key":     append([]byte{wireFormat}, whole[1+2*keyLen:]...),
		"a longer one":    make([]byte, MaxEncoded+1),
		"another share":   append([]byte{wireFormat, 1}, whole[2:]...),
		"one byte behind": append(bytes.Clone(whole), 0),
	} {
		if _, err := Decode(b); !errors.Is(err, sharefs.KindInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	one := New(secretOf(0x41))
	f.Add(one.Encode())
	two, err := one.Add(New(secretOf(0x42)).First(), later(one, 2, 0x43))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(two.Encode())
	f.Add([]byte{wireFormat})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Decode(b)
		if err != nil {
			if !errors.Is(err, sharefs.KindInvalid) && !errors.Is(err, sharefs.KindTooBig) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(r.Encode(), b) {
			t.Fatalf("%x is read, and written as %x", b, r.Encode())
		}
		if met, err := New(secretOf(9)).Add(r.Keys()...); err != nil || !met.Has(r) {
			t.Fatalf("%x: %v", b, err)
		}
	})
}

const pinnedSum = "865bc57ed4851eb3062bbf1ed9a52f4d"
