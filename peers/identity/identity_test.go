package identity

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"sharefs"
)

// cheap is scrypt's cost for tests.
var cheap = Cost{LogN: 4, R: 8, P: 1}

func TestAKeyIsReadAsItWasWritten(t *testing.T) {
	k := New()
	got, err := Parse(k.Text())
	if err != nil || got.ID != k.ID || got.Locked() || got.Sealed() || !got.Private().Equal(k.Private()) {
		t.Fatalf("%v, %v", got, err)
	}
	if other := New(); k.Text() == other.Text() {
		t.Error("two keys are the same")
	}
	for _, verb := range []string{"%v", "%s", "%+v", "%#v"} {
		if text := fmt.Sprintf(verb, k); strings.Contains(text, strings.Fields(k.Text())[1]) || text != "identity "+k.ID.String() {
			t.Errorf("%s shows %s", verb, text)
		}
	}
}

// The forms are pinned: a key that was kept must be read for ever.
func TestForms(t *testing.T) {
	seed := make([]byte, ed25519.SeedSize)
	for i := range seed {
		seed[i] = byte(i)
	}
	k, err := Parse("sharefs-identity-1 " + base64.StdEncoding.EncodeToString(seed) + "\r\n")
	if err != nil || string(k.Private().Seed()) != string(seed) {
		t.Fatal(err)
	}
	const sealedText = "sharefs-identity-2 A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg= 4 8 1 AAECAwQFBgcICQoLDA0ODw== LuptfmpdTwjmdXomX7exaf/CnfcwWk2H+UhFeSgH4246saH5CeIXwWUxHP7bZ7oc\n"
	s, err := Parse(sealedText)
	if err != nil || s.ID != k.ID || !s.Locked() || s.Text() != sealedText {
		t.Fatalf("%v, %v", s, err)
	}
	if err := s.Unlock([]byte("correct horse")); err != nil || !s.Private().Equal(k.Private()) {
		t.Fatal(err)
	}
}

func TestSealing(t *testing.T) {
	k := New()
	plain := k.Text()
	if err := k.Seal([]byte("open sesame"), cheap); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(k.Text(), strings.Fields(plain)[1]) || !k.Sealed() || k.Locked() {
		t.Fatal(k.Text())
	}
	got, err := Parse(k.Text())
	if err != nil || !got.Locked() || got.ID != k.ID {
		t.Fatalf("%v, %v", got, err)
	}
	if err := got.Seal([]byte("x"), cheap); err == nil {
		t.Error("a locked key was sealed")
	}
	if err := got.Unlock([]byte("open sesam")); !errors.Is(err, sharefs.KindAccess) || !got.Locked() {
		t.Errorf("with a wrong passphrase: %v", err)
	}
	if err := got.Unlock([]byte("open sesame")); err != nil || !got.Private().Equal(k.Private()) {
		t.Error(err)
	}
	// Nothing of the line can be changed without notice.
	words := strings.Fields(k.Text())
	for i, w := range []string{"", New().public(), "5", "7", "2", "AAECAwQFBgcICQoLDA0ODw==", strings.Repeat("A", 64)} {
		changed := append([]string(nil), words...)
		if changed[i] = w; i == 0 {
			continue
		}
		bad, err := Parse(strings.Join(changed, " "))
		if err != nil {
			t.Errorf("%q: %v", w, err)
		} else if err := bad.Unlock([]byte("open sesame")); err == nil {
			t.Errorf("word %d was changed and nobody saw it", i)
		}
	}
}

func (k Key) public() string { return base64.StdEncoding.EncodeToString(k.ID[:]) }

func TestWhatIsNoKeyIsNamed(t *testing.T) {
	b64 := func(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }
	for text, want := range map[string]string{
		"":                               "it does not begin with",
		"ssh-ed25519 AAAA":               "it does not begin with",
		PlainForm:                        "32 bytes",
		PlainForm + " AAAA":              "32 bytes",
		PlainForm + " " + b64(32) + " x": "32 bytes",
		PlainForm + " " + b64(32)[:20] + "\n" + b64(32)[20:]:                "32 bytes",
		SealedForm + " " + b64(32):                                          "2 words where 7 belong",
		SealedForm + " " + b64(31) + " 16 8 1 " + b64(16) + " " + b64(48):   "public key",
		SealedForm + " " + b64(32) + " 40 8 1 " + b64(16) + " " + b64(48):   `cost is none that is known: "40"`,
		SealedForm + " " + b64(32) + " 016 8 1 " + b64(16) + " " + b64(48):  `cost is none that is known: "016"`,
		SealedForm + " " + b64(32) + " 16 999 1 " + b64(16) + " " + b64(48): `cost`,
		SealedForm + " " + b64(32) + " 16 8 0 " + b64(16) + " " + b64(48):   `cost`,
		SealedForm + " " + b64(32) + " 16 8 1 " + b64(15) + " " + b64(48):   "salt",
		SealedForm + " " + b64(32) + " 16 8 1 " + b64(16) + " " + b64(47):   "box",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, sharefs.KindCorrupt) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestPassphrase(t *testing.T) {
	for file, want := range map[string]string{"a b\n": "a b", "x\r\n": "x", " y": " y"} {
		if got, err := Passphrase([]byte(file)); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", file, got, err)
		}
	}
	for _, file := range []string{"", "\n", "a\nb\n", strings.Repeat("x", maxPassphrase+1)} {
		if _, err := Passphrase([]byte(file)); !errors.Is(err, sharefs.KindInvalid) {
			t.Errorf("%q: %v", file, err)
		}
	}
}

// What reads well is written the same again.
func FuzzParse(f *testing.F) {
	k := New()
	f.Add(k.Text())
	if err := k.Seal([]byte("x"), cheap); err != nil {
		f.Fatal(err)
	}
	f.Add(k.Text())
	f.Add(SealedForm + "  1 1 1  ")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := Parse(text)
		if err != nil {
			return
		}
		if k.Text() != strings.TrimRight(text, "\r\n")+"\n" {
			t.Errorf("%q is written as %q", text, k.Text())
		}
	})
}
