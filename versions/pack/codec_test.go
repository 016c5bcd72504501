package pack

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func random(r *rand.ChaCha8, n int) []byte {
	b := make([]byte, n)
	r.Read(b)
	return b
}

// TestVainAttemptsEnd compresses what cannot be compressed until that is not tried any more as a rule, and then all kinds of bodies of which a look at their bytes tells that they
// can be: each is, at once.
func TestVainAttemptsEnd(t *testing.T) {
	r := rand.NewChaCha8([32]byte{3})
	var c codecs
	for range 40 {
		if b := random(r, 64<<10); !looksRandom(b) {
			t.Error("random bytes do not look so")
		} else if _, codec := c.compress(nil, b); codec != Stored {
			t.Error("random bytes were compressed")
		}
	}
	if c.vain.Load() < surelyVain || c.passed.Load() == 0 {
		t.Fatal("each attempt was made")
	}
	text := bytes.Repeat([]byte("The quick brown fox jumps over the lazy dog. "), 1000)
	half := append(random(r, 32<<10), make([]byte, 32<<10)...)
	words := make([]byte, 0, 64<<10)
	for len(words) < 64<<10 { // as a table of numbers: of four bytes one is random
		words = append(words, random(r, 1)[0], 0, 1, 0)
	}
	short := bytes.Repeat(random(r, 100), 20)
	for name, b := range map[string][]byte{"text": text, "half": half, "words": words, "short": short} {
		packed, codec := c.compress(nil, b)
		if codec != Zstd {
			t.Errorf("%s: %d bytes were not compressed", name, len(b))
			continue
		}
		back := make([]byte, len(b))
		if err := c.expand(back, packed); err != nil || !bytes.Equal(back, b) {
			t.Errorf("%s: it does not come back: %v", name, err)
		}
	}
}

// TestWhatRepeatsIsFound compresses bodies of which single bytes tell nothing, for they are random and come twice: after any number of vain attempts soon all of them are.
func TestWhatRepeatsIsFound(t *testing.T) {
	r := rand.NewChaCha8([32]byte{4})
	var c codecs
	for range 100 {
		c.compress(nil, random(r, 8<<10))
	}
	missed := 0
	for i := range 200 {
		b := random(r, 8<<10)
		b = append(b, b...)
		if !looksRandom(b) {
			t.Fatal("the bodies do not look random: this test shows nothing")
		}
		if _, codec := c.compress(nil, b); codec == Stored {
			if missed++; i >= vainTry {
				t.Fatalf("body %d is stored as it is", i)
			}
		}
	}
	if missed == 0 {
		t.Error("all were tried: this test shows nothing")
	}
}
