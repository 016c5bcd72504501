package record

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
)

// FuzzDecode feeds bytes of a peer, whole and in pieces: no panic, no more than was promised, and the same either way.
func FuzzDecode(f *testing.F) {
	c := NewCodec()
	f.Add(c.NewEncoder(Options{}).Encode(nil, text(1, 3000)), uint64(1))
	f.Add(c.NewEncoder(Options{Disabled: true}).Encode(nil, text(1, 300)), uint64(2))
	f.Add([]byte{0x80, 0x80, 0x10, 0x09, 0x01, 0x28, 0xb5, 0x2f, 0xfd, 0, 0, 0, 0, 0}, uint64(3))
	f.Fuzz(func(t *testing.T, in []byte, seed uint64) {
		whole, err1 := decodeAll(c, in, rand.New(rand.NewPCG(seed, 1)), 1<<20, MaxRaw+1)
		parts, err2 := decodeAll(c, in, rand.New(rand.NewPCG(seed, 2)), 7, 100)
		if !bytes.Equal(whole, parts) || (err1 == nil) != (err2 == nil) {
			t.Fatalf("whole: %d bytes, %v; in pieces: %d bytes, %v", len(whole), err1, len(parts), err2)
		}
		if err1 != nil && !errors.Is(err1, ErrCorrupt) && err1 != io.ErrUnexpectedEOF {
			t.Fatal(err1)
		}
	})
}

// FuzzHeader holds that what parses is in its only form.
func FuzzHeader(f *testing.F) {
	f.Add([]byte{1, 1, 0})
	f.Add([]byte{0x80, 0x80, 0x10, 0xff, 0xff, 0x0f, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := ParseHeader(b)
		if n == 0 {
			if err == nil && len(b) >= MaxHeader {
				t.Fatalf("%x is not enough for a header", b)
			}
			return
		}
		if err != nil || n > MaxHeader || !bytes.Equal(AppendHeader(nil, h), b[:n]) {
			t.Fatalf("%x parses to %+v, %d, %v", b, h, n, err)
		}
	})
}
