package trust

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"sharefs"
)

// TestPermissionsByLevel asks for each permission at each level.
func TestPermissionsByLevel(t *testing.T) {
	for _, l := range Levels() {
		p := Policy{}.Grant(Rule{bob, Pattern{}, l})
		plain, plainErr := p.Plain(bob, "a")
		_, cipherErr := p.Cipher(bob)
		if got, want := plainErr == nil, l >= Read; got != want {
			t.Errorf("%s: plain %v", l, plainErr)
		}
		if got, want := cipherErr == nil, l >= Store; got != want {
			t.Errorf("%s: cipher %v", l, cipherErr)
		}
		// What was refused permits nothing.
		e, err := plain.Envelope([]byte("plain content"))
		if (err == nil) != (l >= Read) || err == nil && (e.To() != bob || !e.Plain() || plain.Path() != "a") || err != nil && !e.To().IsZero() {
			t.Errorf("%s: %+v, %v", l, e, err)
		}
		for _, err := range []error{plainErr, cipherErr} {
			if err != nil && !errors.Is(err, sharefs.KindPermission) {
				t.Error(err)
			}
		}
	}
	p := Policy{}.Grant(Rule{bob, Pattern{}, Read}).Grant(Rule{bob, pattern(t, "private"), Store})
	if _, err := p.Plain(bob, "private/x"); err == nil {
		t.Error("plain content of a path that the peer only stores")
	}
}

// Who receives less somewhere does not receive the whole.
func TestPermissionForTheWhole(t *testing.T) {
	private := pattern(t, "private")
	for _, root := range Levels() {
		for _, part := range Levels() {
			p := Policy{}.Grant(Rule{bob, private, part})
			if _, err := p.Whole(bob); !errors.Is(err, sharefs.KindPermission) {
				t.Errorf("%s for a part alone: %v", part, err)
			}
			p = p.Grant(Rule{bob, Pattern{}, root})
			whole, err := p.Whole(bob)
			if want := root >= Read && part >= Read; (err == nil) != want || err != nil && !errors.Is(err, sharefs.KindPermission) {
				t.Errorf("%s, and %s for a part: %v", root, part, err)
			}
			if e, envErr := whole.Envelope([]byte("x")); (envErr == nil) != (err == nil) || err == nil && e.To() != bob {
				t.Errorf("%s, %s: %v", root, part, envErr)
			}
			if _, err := p.Cap(bob, Store).Whole(bob); err == nil {
				t.Error("beyond the ceiling")
			}
		}
	}
	if _, err := (Policy{}).Whole(bob); err == nil {
		t.Error("somebody of whom no rule speaks")
	}
}

// TestNothingElseMakesAnEnvelope: each type that takes part has no field that another package can set, so its only values are those
// that the functions here return, and the zero value.
func TestNothingElseMakesAnEnvelope(t *testing.T) {
	for _, v := range []any{Envelope{}, Plain{}, Cipher{}, Policy{}, FileEnvelope{}, SealedFile{}, FileSealer{}} {
		typ := reflect.TypeOf(v)
		for i := range typ.NumField() {
			if typ.Field(i).IsExported() {
				t.Errorf("%s.%s can be set from outside", typ, typ.Field(i).Name)
			}
		}
	}
	if _, err := (Plain{}).Envelope([]byte("x")); !errors.Is(err, sharefs.KindPermission) {
		t.Error(err)
	}
	if _, err := (Cipher{peer: bob}).File(SealedFile{}); !errors.Is(err, sharefs.KindPermission) {
		t.Error(err)
	}
	// Of a permission for cipher, there is one method that makes an envelope, and it takes what is sealed.
	f, _ := reflect.TypeFor[Cipher]().MethodByName("File")
	if reflect.TypeFor[Cipher]().NumMethod() != 1 || f.Type.In(1) != reflect.TypeFor[SealedFile]() {
		t.Error("a store peer can be sent something else than sealed objects")
	}
}

// A file is looked at as a whole before it can be sent, and its id is that of what was looked at.
func TestOnlyWhatWasLookedAtIsASealedFile(t *testing.T) {
	sealer := NewFileSealer(func(name string, body io.ReaderAt, size int64) error {
		b := make([]byte, size)
		if _, err := body.ReadAt(b, 0); err != nil || name != "packs/1" || !bytes.HasPrefix(b, []byte("sealed")) {
			return &sharefs.Error{Op: "check", Kind: sharefs.KindCorrupt}
		}
		return nil
	})
	text := []byte("sealed content")
	f, err := sealer.Adopt("packs/1", bytes.NewReader(text), int64(len(text)))
	if err != nil || f.ID() != sha256.Sum256(text) || f.Size() != int64(len(text)) || f.Name() != "packs/1" {
		t.Fatalf("%+v, %v", f, err)
	}
	for _, l := range Levels() {
		c, _ := Policy{}.Grant(Rule{bob, Pattern{}, l}).Cipher(bob)
		if e, err := c.File(f); (err == nil) != (l >= Store) || err == nil && (e.To() != bob || e.File() != f) || err != nil && !e.To().IsZero() {
			t.Errorf("%s: %+v, %v", l, e, err)
		}
	}
	for name, try := range map[string]func() (SealedFile, error){
		"plain":        func() (SealedFile, error) { return sealer.Adopt("packs/1", strings.NewReader("plain content"), 13) },
		"another name": func() (SealedFile, error) { return sealer.Adopt("my diary", bytes.NewReader(text), 14) },
		"longer":       func() (SealedFile, error) { return sealer.Adopt("packs/1", bytes.NewReader(text), 15) },
	} {
		if got, err := try(); !errors.Is(err, sharefs.KindCorrupt) || got.Body() != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
